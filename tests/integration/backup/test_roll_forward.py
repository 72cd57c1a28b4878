"""A store is backed up under load, goes on, and is destroyed: what was acknowledged is back, byte for byte."""

from __future__ import annotations

from pathlib import Path

import pytest

from events.backup.report import RestoreReport
from tests.kit.engine import Engine, assert_no_gaps, assert_published_equals_stored
from tests.kit.restoring import Facts, MixedLoad, back_up, destroy, facts, restored

pytestmark = pytest.mark.kill


def assert_published_facts_equal(before: Facts, after: Facts, report: RestoreReport) -> None:
    """What Kafka had is the same to the byte: events, their batches and chain, claims and dead letters."""
    published = {s.shard: s.published_position for s in report.shards}
    for name, column in (("events", 1), ("batches", 2)):
        old = [r for r in before[name] if r[column] <= published[r[0]]]
        new = [r for r in after[name] if r[column] <= published[r[0]]]
        assert len(old) > 20
        assert new == old, name
    assert set(before["claims"]) <= set(after["claims"])


def assert_answers_are_stored(engine: Engine, load: MixedLoad) -> None:
    """Every answer that a client was given is the stored one; ``failed`` lies in the dead letters."""
    for key, answer in load.answers.items():
        if answer.outcome == "failed":
            assert engine.query("SELECT 1 FROM {s}.dead_letters WHERE command_id = %s", answer.command_id), (
                key
            )
        else:
            stored = engine.stored_result(answer.command_id)
            assert stored is not None, key
            assert stored.model_dump() == answer.model_dump(), key


async def test_what_was_acknowledged_after_the_backup_is_back(engine: Engine, tmp_path: Path) -> None:
    writer = engine.spawn()
    load = MixedLoad(engine)
    await load.start()
    await load.reach(150)
    done = await back_up(engine, tmp_path / "backup")
    at_backup = len(load.answers)
    await load.reach(at_backup + 300)
    writer.kill()
    writer.wait()
    await load.stop()
    before = facts(engine)
    destroy(engine)

    report = await restored(engine, tmp_path / "backup")

    assert report.complete, report.as_dict()
    assert 0 < done.manifest.events < report.verified_events
    assert_published_facts_equal(before, facts(engine), report)
    assert_answers_are_stored(engine, load)

    engine.spawn()
    again = await load.ask_again()
    assert {k: a.model_dump() for k, a in again.items() if a is not None} == {
        k: a.model_dump() for k, a in load.answers.items() if a.outcome != "failed"
    }
    await engine.relay_settled()
    assert_no_gaps(engine)
    assert_published_equals_stored(engine, await engine.published())
