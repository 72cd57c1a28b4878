"""What is not restored, and what never becomes ready: changed backups, foreign keys, restores that were killed."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from pathlib import Path

import orjson
import psycopg
import pytest
from pydantic import SecretStr

from events.backup.dumping import take_backup
from events.backup.manifest import BackupError, check_files, read_manifest
from events.backup.marker import RestoreUnfinishedError, refuse
from events.migrations import migrate
from nexafi.settings import Settings
from tests.kit.counter import Add, Open
from tests.kit.engine import Engine
from tests.kit.restoring import back_up, destroy, facts, restored
from tests.kit.source import ROOT

pytestmark = pytest.mark.kill


@pytest.fixture
def backup(stack: Settings, database_url: str, tmp_path: Path) -> tuple[Settings, Path]:
    """A backup of an empty store, which has every file that a full one has."""
    settings = stack.model_copy(update={"database_url": database_url, "shards": {"small": 2}})
    migrate(settings, ("small",))
    done = take_backup(settings, tmp_path / "backup", ("small",))
    return settings, done.folder


def test_every_changed_byte_of_a_backup_is_found(backup: tuple[Settings, Path]) -> None:
    settings, folder = backup
    manifest = read_manifest(folder, settings)
    assert check_files(folder, manifest) > 0
    for file in sorted(p for p in folder.rglob("*") if p.is_file()):
        sound = file.read_bytes()
        for place in {0, len(sound) // 2, len(sound) - 2}:
            file.write_bytes(sound[:place] + bytes([sound[place] ^ 1]) + sound[place + 1 :])
            with pytest.raises(BackupError):
                check_files(folder, read_manifest(folder, settings))
        file.write_bytes(sound[:-1] if file.name != "manifest.seal" else sound[:-3])
        with pytest.raises(BackupError):
            check_files(folder, read_manifest(folder, settings))
        file.unlink()
        with pytest.raises(BackupError, match="missing"):
            check_files(folder, read_manifest(folder, settings))
        file.write_bytes(sound)
    assert check_files(folder, read_manifest(folder, settings)) > 0


def test_who_has_not_the_key_can_not_make_a_backup_that_counts(backup: tuple[Settings, Path]) -> None:
    settings, folder = backup
    other = settings.model_copy(update={"hmac_key": SecretStr("another installation's")})
    with pytest.raises(BackupError, match="NEXAFI_HMAC_KEY"):
        read_manifest(folder, other)
    manifest = orjson.loads((folder / "manifest.json").read_bytes())
    manifest["stores"][0]["heads"][0]["epoch"] += 1
    (folder / "manifest.json").write_bytes(orjson.dumps(manifest))
    with pytest.raises(BackupError, match="changed after the backup"):
        read_manifest(folder, settings)


def test_a_backup_goes_into_an_empty_folder_only(backup: tuple[Settings, Path]) -> None:
    settings, folder = backup
    with pytest.raises(BackupError, match="not empty"):
        take_backup(settings, folder, ("small",))


async def some_history(engine: Engine) -> None:
    """Forty commands on both shards."""
    writer = engine.spawn()
    opened = await asyncio.gather(*(engine.send(Open(name=f"c{i}"), f"open-{i}") for i in range(8)))
    counters = [str(r.result["counter_id"]) for r in opened if r is not None]
    await asyncio.gather(
        *(engine.send(Add(counter_id=c, amount=1), f"{n}-{c}") for c in counters for n in range(4))
    )
    await engine.relay_settled()
    writer.terminate()
    assert writer.wait(60) == 0


async def test_history_that_was_changed_before_its_backup_does_not_become_ready(
    engine: Engine, tmp_path: Path
) -> None:
    """The digests of such a backup are right; the hash chain is not."""
    await some_history(engine)
    engine.query_write(
        "UPDATE {s}.events SET state = set_byte(state, 5, get_byte(state, 5) # 1) WHERE position = 2"
    )
    await back_up(engine, tmp_path / "backup")
    destroy(engine)
    with pytest.raises(BackupError, match="does not verify"):
        await restored(engine, tmp_path / "backup")
    with pytest.raises(RestoreUnfinishedError):
        refuse(engine.settings.database)


def restore_until(engine: Engine, folder: Path, word: str) -> None:
    """Run a restore in a process of its own and kill it when it says ``word``."""
    settings = engine.settings.model_dump_json(
        include={"database_url", "kafka_bootstrap", "shards", "port_base"}
    )
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.kit.restoring", engine.service, str(folder), settings, word],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    said = []
    for line in process.stdout:
        said.append(line)
        if word in line:
            process.kill()
            assert process.wait(30) == -signal.SIGKILL
            return
    raise AssertionError(f"the restore never said {word!r}: {said}")


async def test_a_killed_restore_leaves_the_old_or_a_marked_state_and_runs_again(
    engine: Engine, tmp_path: Path
) -> None:
    await some_history(engine)
    await back_up(engine, tmp_path / "backup")
    before = facts(engine)

    await asyncio.to_thread(restore_until, engine, tmp_path / "backup", "events: ")
    refuse(engine.settings.database)
    assert facts(engine) == before  # killed while it loaded: nothing has happened

    for word in ("loaded", "rolled forward", "verified"):
        await asyncio.to_thread(restore_until, engine, tmp_path / "backup", word)
        with pytest.raises(RestoreUnfinishedError):
            refuse(engine.settings.database)
    writer = engine.spawn(log=(log := engine.log_file()))
    assert await asyncio.to_thread(writer.wait, 60) == 1
    assert "a restore of backup" in log.read_text()
    with pytest.raises(RestoreUnfinishedError):  # neither is it backed up
        await back_up(engine, tmp_path / "second")

    report = await restored(engine, tmp_path / "backup")
    assert report.complete
    refuse(engine.settings.database)
    assert facts(engine) == before
    engine.spawn()
    again = await engine.send(Open(name="c0"), "open-0")
    assert again is not None
    assert engine.stored_result(again.command_id) == again
    with psycopg.connect(engine.settings.database) as conn:
        assert conn.execute("SELECT count(*) FROM nexafi.restore").fetchone() == (0,)
