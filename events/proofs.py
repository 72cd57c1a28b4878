"""Inclusion proofs: one event, shown to be part of a history, without showing any other event.

A proof leads from the event's bytes to its batch's Merkle root, from there to the batch's chain hash, and along
the batches that follow to a head: a signed one where there is one. It is checked with nothing but the proof
and the signer's public keys. ``docs/reference/proof-format.md`` has the format.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import psycopg

from events.chain import event_id, inclusion_proof, leaf_hash, link, root_from_proof
from events.errors import CorruptHistoryError
from events.export import event_fields, event_row
from events.signed_heads import HeadBook, InvalidHeadError, Keys, SignedHead, read
from events.store.reading import BatchRow
from events.store.tables import schema_name
from events.verify import batches_between, copied_rows

FORMAT: Final = "nexafi-proof/1"


class ProofError(ValueError):
    """The proof does not prove what it says."""


@dataclass(frozen=True, slots=True)
class Proven:
    """What a valid proof shows: this event is in this history up to the head, signed or not."""

    service: str
    shard: int
    event_id: str
    event: dict[str, Any]
    #: Position and chain hash (hex) that the proof leads to.
    head_position: int
    head_chain: str
    signed: SignedHead | None


def prove(
    conn: psycopg.Connection[Any], service: str, shard: int, position: int, book: HeadBook | None = None
) -> dict[str, Any]:
    """A proof of the event at ``position``; ``LookupError`` when there is none.

    It leads to the lowest signed head of ``book`` that covers it, else to the head of the store, unsigned.
    Raises :class:`~events.errors.CorruptHistoryError` when what is stored does not prove itself.
    """
    schema = schema_name(service)
    found = conn.execute(
        f'SELECT history::text, next_position - 1 FROM "{schema}".shard_head WHERE shard = %s', (shard,)
    ).fetchone()
    if found is None or not 1 <= position <= found[1]:
        raise LookupError(f"{service}/{shard} has no position {position}")
    history, last = found
    batch = _batch_of(conn, schema, shard, position)
    rows = list(copied_rows(conn, schema, shard, batch.first_position, batch.last_position))
    leaves = [leaf_hash(row) for row in rows]
    index = position - batch.first_position
    previous = _chain_before(conn, schema, shard, batch.first_position)
    head = _covering(book, service, shard, batch.last_position)
    target = head[0].position if head is not None else last
    proof = {
        "format": FORMAT,
        "service": service,
        "shard": shard,
        "history": history,
        "event": event_fields(rows[index]),
        "path": [[side, sibling.hex()] for side, sibling in inclusion_proof(leaves, index)],
        "batch": {
            "first": batch.first_position,
            "last": batch.last_position,
            "time_us": batch.time_us,
            "previous": previous.hex(),
        },
        "links": [
            [b.first_position, b.last_position, b.time_us, bytes(b.merkle_root).hex()]
            for b in batches_between(conn, schema, shard, batch.last_position, target)
        ],
        "head": head[1] if head is not None else None,
    }
    try:
        shown = check(proof, None)
    except ProofError as error:
        raise CorruptHistoryError(f"{service}/{shard} at position {position}: {error}") from error
    expected = head[0].chain_hash if head is not None else _chain_at(conn, schema, shard, target).hex()
    if shown.head_chain != expected:
        raise CorruptHistoryError(f"{service}/{shard}: position {position} does not lead to the head")
    return proof


def check(proof: dict[str, Any], keys: Keys | None) -> Proven:
    """What the proof shows; :class:`ProofError` when it shows nothing. Needs no server.

    Without ``keys`` a signature is not looked at: compare ``head_chain`` with one from elsewhere.
    """
    try:
        return _check(proof, keys)
    except (KeyError, TypeError, AttributeError, ValueError, InvalidHeadError) as error:
        if isinstance(error, ProofError):
            raise
        raise ProofError(f"it can not be read ({type(error).__name__}: {error})") from error


def _check(proof: dict[str, Any], keys: Keys | None) -> Proven:
    if proof["format"] != FORMAT:
        raise ProofError(f"its format is not {FORMAT}")
    shard, event, batch = int(proof["shard"]), proof["event"], proof["batch"]
    first, last = int(batch["first"]), int(batch["last"])
    if not first <= int(event["position"]) <= last:
        raise ProofError("the event's position is not in the batch")
    leaf = leaf_hash(event_row(shard, event))
    path = [(str(side), bytes.fromhex(sibling)) for side, sibling in proof["path"]]
    if any(side not in {"L", "R"} or len(sibling) != 32 for side, sibling in path):
        raise ProofError("its path is damaged")
    root = root_from_proof(leaf, path)
    chain = link(bytes.fromhex(batch["previous"]), shard, first, last, int(batch["time_us"]), root)
    for begins, ends, time_us, sibling_root in proof["links"]:
        if begins != last + 1 or ends < begins:
            raise ProofError(f"its links have a gap after position {last}")
        chain = link(chain, shard, begins, ends, time_us, bytes.fromhex(sibling_root))
        last = ends
    signed = None
    if proof["head"] is not None and keys is not None:
        signed = read(str(proof["head"]), keys)
        claimed = (proof["service"], shard, proof["history"], last, chain.hex())
        if (signed.service, signed.shard, signed.history, signed.position, signed.chain_hash) != claimed:
            raise ProofError("it does not lead to the head that was signed")
    return Proven(str(proof["service"]), shard, event_id(leaf), event, last, chain.hex(), signed)


def _covering(
    book: HeadBook | None, service: str, shard: int, position: int
) -> tuple[SignedHead, str] | None:
    place = (service, shard)
    if book is None or place not in book.heads:
        return None
    pairs = zip(book.heads[place], book.tokens[place], strict=True)
    return min(
        ((h, t) for h, t in pairs if h.position >= position), key=lambda p: p[0].position, default=None
    )


def _batch_of(conn: psycopg.Connection[Any], schema: str, shard: int, position: int) -> BatchRow:
    row = conn.execute(
        "SELECT shard, first_position, last_position, time_us, epoch, next_offset, merkle_root, chain_hash "
        f'FROM "{schema}".batches WHERE shard = %s AND first_position <= %s AND last_position >= %s '
        "ORDER BY first_position DESC LIMIT 1",
        (shard, position, position),
    ).fetchone()
    if row is None:
        raise CorruptHistoryError(f"position {position} is in no batch")
    return BatchRow(*row)


def _chain_before(conn: psycopg.Connection[Any], schema: str, shard: int, first: int) -> bytes:
    return bytes(32) if first == 1 else _chain_at(conn, schema, shard, first - 1)


def _chain_at(conn: psycopg.Connection[Any], schema: str, shard: int, position: int) -> bytes:
    """Chain hash of the batch that ends at ``position``."""
    row = conn.execute(
        f'SELECT last_position, chain_hash FROM "{schema}".batches WHERE shard = %s AND first_position <= %s '
        "ORDER BY first_position DESC LIMIT 1",
        (shard, position),
    ).fetchone()
    if row is None or row[0] != position:
        raise CorruptHistoryError(f"no batch ends at position {position}")
    return bytes(row[1])
