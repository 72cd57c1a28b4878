"""The checks' own SQL on a real store: losses planted in its rows are found, and filling makes real partitions."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import date
from uuid import uuid4

import psycopg
import pytest

from benchmarks.checks import Facts, judge
from benchmarks.filling import MONTHS, fill_results, months
from benchmarks.history import replay
from benchmarks.stored import POSTED, Store
from events.migrations import migrate
from events.store import reading
from events.store.recorder import ShardRecorder, open_datastore
from nexafi.settings import Settings

TRANSFERS = 40


@pytest.fixture
def settings(stack: Settings, database_url: str) -> Settings:
    found = stack.model_copy(update={"database_url": database_url})
    migrate(found, ("ledger",))
    return found


@pytest.fixture
def transactions(settings: Settings) -> list[str]:
    """Ids of transfers of 1 cent, stored as the ledger stores them, on two shards."""
    ids = [str(uuid4()) for _ in range(TRANSFERS)]
    with psycopg.connect(settings.database) as connection:
        for number, identifier in enumerate(ids):
            legs = [
                {"account_id": str(uuid4()), "side": side, "amount": 1, "currency": "EUR"}
                for side in ("debit", "credit")
            ]
            state = json.dumps({"ledger_id": str(uuid4()), "transaction_id": identifier, "entries": legs})
            metadata = json.dumps({"time": 1_767_225_600_000_000 + number})
            connection.execute(
                "INSERT INTO ledger.events VALUES (%s, %s, %s, 1, %s, %s, %s)",
                (number % 2, number // 2 + 1, identifier, POSTED, metadata.encode(), state.encode()),
            )
    return ids


@pytest.fixture
def store(settings: Settings) -> Iterator[Store]:
    found = Store(settings)
    yield found
    found.close()


def test_a_whole_store_has_every_transfer_and_sums_to_zero(store: Store, transactions: list[str]) -> None:
    assert store.count(POSTED) == TRANSFERS
    assert store.missing(transactions) == []
    assert store.sums() == {"0/EUR": 0, "1/EUR": 0}
    times = store.times({0: 10, 1: 19})
    assert sorted(position for shard, position, _ in times if shard == 0) == list(range(11, 21))
    assert [(shard, position) for shard, position, _ in times if shard == 1] == [(1, 20)]


def test_a_row_that_vanished_fails_the_run(settings: Settings, store: Store, transactions: list[str]) -> None:
    with psycopg.connect(settings.database) as connection:
        connection.execute("DELETE FROM ledger.events WHERE originator_id = %s", (transactions[7],))
    facts = Facts(TRANSFERS, store.count(POSTED), lost=store.missing(transactions), sums=store.sums())
    wrong = judge(facts)
    assert any(f"not in the store: {transactions[7]}" in line for line in wrong), wrong
    assert any(f"{TRANSFERS} transfers were acknowledged and {TRANSFERS - 1} are stored" in w for w in wrong)


def test_an_amount_that_was_changed_fails_the_run(
    settings: Settings, store: Store, transactions: list[str]
) -> None:
    with psycopg.connect(settings.database) as connection:
        changed = connection.execute(
            """UPDATE ledger.events SET state = convert_to(
                   regexp_replace(convert_from(state, 'UTF8'), '"amount": 1', '"amount": 3'), 'UTF8')
               WHERE originator_id = %s""",
            (transactions[0],),
        ).rowcount
    assert changed == 1
    assert store.sums() == {"0/EUR": 2, "1/EUR": 0}
    facts = Facts(TRANSFERS, TRANSFERS, sums=store.sums())
    assert any("0/EUR: debits minus credits are 2" in line for line in judge(facts))


def test_an_empty_store_replays_to_the_same_digests_as_a_writer_starts_with(settings: Settings) -> None:
    found = replay(settings)
    assert found.events == 0
    assert len(found.replayed) == settings.shard_count("ledger")
    assert found.replayed == found.from_snapshot


def test_results_are_filled_over_the_months_with_an_index_on_each(settings: Settings) -> None:
    fill_results(settings, 1_205)
    with psycopg.connect(settings.database) as connection:
        found = connection.execute(
            "SELECT tableoid::regclass::text, count(*), (array_agg(command_id))[1] FROM ledger.command_results GROUP BY 1"
        ).fetchall()
        indexes = connection.execute(
            "SELECT count(*) FROM pg_indexes WHERE schemaname = 'ledger' AND indexname LIKE 'command_results_2%_id'"
        ).fetchone()
    assert sorted(count for _, count, _ in found) == [100] * 7 + [101] * 5
    assert indexes is not None
    assert indexes[0] == MONTHS + 1, "twelve months, and the next one that a migration makes"
    recorder = ShardRecorder(open_datastore(settings.database, "ledger"), service="ledger")
    asked = [identifier.bytes for _, _, identifier in found]
    assert set(reading.results(recorder, asked)) == set(asked), "the writer's own look-up finds them"
    recorder.datastore.close()


def test_months_go_back_over_the_turn_of_the_year() -> None:
    found = months(date(2026, 2, 17), 4)
    assert found == [date(2025, 11, 1), date(2025, 12, 1), date(2026, 1, 1), date(2026, 2, 1)]
