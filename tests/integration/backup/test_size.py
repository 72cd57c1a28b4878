"""How long a backup of a million events takes; printed, because only a quiet machine can judge it."""

from __future__ import annotations

import time
from pathlib import Path

import psycopg
import pytest

from events.backup.dumping import take_backup
from events.backup.loading import load_stores
from events.backup.manifest import check_files, read_manifest
from events.migrations import migrate
from nexafi.settings import Settings

EVENTS = 1_000_000
_ID = "gen_random_uuid()"
#: As long as a posted transfer of two legs.
_METADATA = f"""'{{"time":1795523046768943,"tenant":"acme","actor":"key:' || {_ID} || '","correlation":"' || {_ID} || '","causation":"' || {_ID} || '"}}'"""
_STATE = f"""'{{"transaction_id":"' || {_ID} || '","ledger_id":"' || {_ID} || '","entries":[{{"account_id":"' || {_ID} || '","side":"debit","amount":1,"currency":"EUR"}},{{"account_id":"' || {_ID} || '","side":"credit","amount":1,"currency":"EUR"}}],"description":""}}'"""
_FILL = (
    f"""INSERT INTO big.events SELECT 0, g, {_ID}, 1, 'ledger.transaction-posted.v1', convert_to({_METADATA}, 'UTF8'),
        convert_to({_STATE}, 'UTF8') FROM generate_series(1, %(n)s) g""",
    f"""INSERT INTO big.command_results SELECT {_ID}, sha256(int8send(g)), 0, g, 0,
        convert_to('{{"transaction_id":"' || {_ID} || '"}}', 'UTF8'), now() FROM generate_series(1, %(n)s) g""",
    """INSERT INTO big.batches SELECT 0, g * 100 + 1, g * 100 + 100, g, 1, g, sha256(int8send(g)), sha256(int8send(g))
        FROM generate_series(0, %(n)s / 100 - 1) g""",
    "UPDATE big.shard_head SET next_position = %(n)s + 1 WHERE shard = 0",
)


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_a_million_events_are_backed_up_and_loaded(
    stack: Settings, database_url: str, tmp_path: Path
) -> None:
    settings = stack.model_copy(update={"database_url": database_url, "shards": {"big": 2}})
    migrate(settings, ("big",))
    with psycopg.connect(database_url) as conn:
        for statement in _FILL:
            conn.execute(statement, {"n": EVENTS})
    done = take_backup(settings, tmp_path / "backup", ("big",))
    began = time.perf_counter()
    manifest = read_manifest(done.folder, settings)
    check_files(done.folder, manifest)
    checked = time.perf_counter()
    load_stores(settings, done.folder, manifest)
    loaded = time.perf_counter()
    assert manifest.events == EVENTS
    with psycopg.connect(database_url) as conn:
        assert conn.execute("SELECT count(*), max(position) FROM big.events").fetchone() == (EVENTS, EVENTS)
        assert conn.execute("SELECT count(*) FROM big.command_results").fetchone() == (EVENTS,)
    print(
        f"\n{EVENTS:,} events: backed up in {done.seconds:.1f} s ({EVENTS / done.seconds:,.0f}/s, {done.size / 1e6:,.0f} MB), "
        f"checked in {checked - began:.1f} s, loaded in {loaded - checked:.1f} s"
    )
