"""What a superuser of the database can do to a ledger's history: clumsily, and with every hash computed anew."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any, Final

import psycopg

from events.chain import GENESIS, leaf_hash, link, merkle_root
from events.store.heads import Head
from events.verify import batches_between, copied_rows

Connection = psycopg.Connection[Any]
_BYTES: Final = (
    ("events", "state"),
    ("events", "metadata"),
    ("batches", "merkle_root"),
    ("batches", "chain_hash"),
)


class Superuser:
    """Changes shard 0 of a store, whose tables are in ``schema``, inside the caller's transaction."""

    def __init__(self, conn: Connection, schema: str, rng: random.Random) -> None:
        self.conn = conn
        self.schema = schema
        self.rng = rng

    def head(self) -> Head:
        """The head as it says it is."""
        row = self.run(
            "SELECT shard, epoch, owner, history::text, next_position, next_offset, last_time_us, chain_hash "
            "FROM {s}.shard_head WHERE shard = 0"
        ).fetchone()
        assert row is not None
        return Head(*row)

    def run(self, statement: str, *params: object) -> psycopg.Cursor[Any]:
        """A statement with ``{s}`` for the schema."""
        return self.conn.execute(statement.replace("{s}", f'"{self.schema}"'), params)

    def change(self, statement: str, *params: object) -> None:
        """A statement that must change something."""
        assert self.run(statement, *params).rowcount > 0, statement

    def rehash(self) -> None:
        """Compute every root, every chain hash and the head anew, as the writer would have."""
        chain, last = GENESIS, 0
        for batch in list(batches_between(self.conn, self.schema, 0, 0, 2**40)):
            first, last = batch.first_position, batch.last_position
            rows = list(copied_rows(self.conn, self.schema, 0, first, last))
            root = merkle_root([leaf_hash(row) for row in rows])
            chain = link(chain, 0, first, last, batch.time_us, root)
            self.run(
                "UPDATE {s}.batches SET merkle_root = %s, chain_hash = %s WHERE shard = 0 AND first_position = %s",
                root,
                chain,
                first,
            )
        self.run(
            "UPDATE {s}.shard_head SET next_position = %s, chain_hash = %s WHERE shard = 0", last + 1, chain
        )

    def position(self) -> int:
        """Some position."""
        return self.rng.randint(1, self.head().next_position - 1)

    # ------------------------------------------------------------------ edits

    def flip_a_bit(self) -> None:
        """One bit of an event or a hash."""
        table, column = self.rng.choice(_BYTES)
        key = "position" if table == "events" else "first_position"
        picked = (
            f"shard = 0 AND {key} = (SELECT max({key}) FROM {{s}}.{table} WHERE shard = 0 AND {key} <= %s)"
        )
        at = self.position()
        row = self.run(f"SELECT length({column}) FROM {{s}}.{table} WHERE {picked}", at).fetchone()
        assert row is not None
        byte, bit = self.rng.randrange(row[0]), 1 << self.rng.randrange(8)
        self.change(
            f"UPDATE {{s}}.{table} SET {column} = set_byte({column}, {byte}, get_byte({column}, {byte}) # {bit}) "
            f"WHERE {picked}",
            at,
        )

    def change_an_amount(self) -> None:
        """More money in one leg of a transaction."""
        self.change(
            "UPDATE {s}.events SET state = convert_to(regexp_replace(convert_from(state, 'UTF8'), "
            "'\"amount\":', '\"amount\":9'), 'UTF8') WHERE (shard, position) = (SELECT shard, position FROM {s}.events "
            "WHERE shard = 0 AND topic LIKE 'ledger.transaction%%' ORDER BY random() LIMIT 1)"
        )

    def change_a_column(self) -> None:
        """The type, stream or version of an event, or the time of a batch."""
        what = self.rng.choice(
            [
                "UPDATE {s}.events SET topic = topic || 'x' WHERE shard = 0 AND position = %s",
                "UPDATE {s}.events SET originator_id = gen_random_uuid() WHERE shard = 0 AND position = %s",
                "UPDATE {s}.events SET originator_version = originator_version + 5 WHERE shard = 0 AND position = %s",
                "UPDATE {s}.batches SET time_us = time_us + 1 WHERE shard = 0 AND %s BETWEEN first_position AND last_position",
            ]
        )
        self.change(what, self.position())

    def swap_two_events(self) -> None:
        """Two events change places."""
        one, other = self.rng.sample(range(1, self.head().next_position), 2)
        for old, new in ((one, -1), (other, one), (-1, other)):
            self.change("UPDATE {s}.events SET position = %s WHERE shard = 0 AND position = %s", new, old)

    def delete_an_event(self) -> None:
        """One event is gone."""
        self.change("DELETE FROM {s}.events WHERE shard = 0 AND position = %s", self.position())

    def delete_a_batch(self) -> None:
        """A batch and its events are gone."""
        row = self.run(
            "DELETE FROM {s}.batches WHERE shard = 0 AND %s BETWEEN first_position AND last_position "
            "RETURNING first_position, last_position",
            self.position(),
        ).fetchone()
        assert row is not None
        self.change("DELETE FROM {s}.events WHERE shard = 0 AND position BETWEEN %s AND %s", *row)

    def add_an_event(self) -> None:
        """An event after the end, and the head says that it belongs there."""
        self.change(
            "INSERT INTO {s}.events SELECT shard, %s, gen_random_uuid(), 1, topic, metadata, state FROM {s}.events "
            "WHERE shard = 0 AND position = %s",
            self.head().next_position,
            self.position(),
        )
        self.change("UPDATE {s}.shard_head SET next_position = next_position + 1 WHERE shard = 0")

    # ------------------------------------------------------------------ with every hash right

    def cut(self) -> None:
        """The last batches never happened."""
        firsts = [r[0] for r in self.run("SELECT first_position FROM {s}.batches WHERE shard = 0 ORDER BY 1")]
        first = self.rng.choice(firsts[1:])
        self.change("DELETE FROM {s}.batches WHERE shard = 0 AND first_position >= %s", first)
        self.change("DELETE FROM {s}.events WHERE shard = 0 AND position >= %s", first)
        self.rehash()

    def roll_back_and_go_on(self) -> None:
        """The last batches never happened, and others did: the same length, other money."""
        row = self.run(
            "SELECT first_position FROM {s}.batches WHERE shard = 0 ORDER BY random() LIMIT 1"
        ).fetchone()
        assert row is not None
        self.change(
            "UPDATE {s}.events SET metadata = convert_to(replace(convert_from(metadata, 'UTF8'), 'client', 'nobody'), "
            "'UTF8') WHERE shard = 0 AND position >= %s",
            *row,
        )
        self.change(
            "UPDATE {s}.batches SET time_us = time_us + 7 WHERE shard = 0 AND first_position >= %s", *row
        )
        self.rehash()

    def rewrite(self) -> None:
        """An event never was what it was, and every hash agrees."""
        self.change(
            "UPDATE {s}.events SET metadata = convert_to(replace(convert_from(metadata, 'UTF8'), 'acme', 'evil'), "
            "'UTF8') WHERE shard = 0 AND position = %s",
            self.position(),
        )
        self.rehash()

    def another_history(self) -> None:
        """The store says that it is another one, as after a restore."""
        self.change("UPDATE {s}.shard_head SET history = gen_random_uuid() WHERE shard = 0")


#: Everything that a superuser may think of.
WAYS: Final[dict[str, Callable[[Superuser], None]]] = {
    name: way for name, way in vars(Superuser).items()
    if not name.startswith("_") and name not in {"head", "run", "change", "rehash", "position"}
}  # fmt: skip
