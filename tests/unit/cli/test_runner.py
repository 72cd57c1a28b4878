"""Running roles: a missing one is named, a crash ends the process, a stop drains within its bound."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

from cli import roles
from cli.runner import Exit, RoleMissingError, load, run_roles
from nexafi.role import RoleContext
from nexafi.settings import Settings


async def _well(ctx: RoleContext) -> None:
    ctx.health.ok("work")
    await ctx.stop.wait()


async def _crash(ctx: RoleContext) -> None:
    await asyncio.sleep(0.01)
    raise ValueError("the ledger does not balance")


async def _leave(ctx: RoleContext) -> None:
    await asyncio.sleep(0.01)


async def _hang(ctx: RoleContext) -> None:
    await asyncio.sleep(60)


async def _stop_soon(stop: asyncio.Event) -> None:
    await asyncio.sleep(0.05)
    stop.set()


async def test_a_stop_drains_all() -> None:
    stop = asyncio.Event()
    _, status = await asyncio.gather(
        _stop_soon(stop), run_roles({"a": _well, "b": _well}, Settings(), stop=stop)
    )
    assert status is Exit.WELL


@pytest.mark.parametrize("bad", [_crash, _leave])
async def test_a_role_that_ends_by_itself_ends_the_process(
    bad: object, caplog: pytest.LogCaptureFixture
) -> None:
    status = await asyncio.wait_for(run_roles({"good": _well, "bad": bad}, Settings()), 5)  # type: ignore[dict-item]
    assert status is Exit.CRASHED
    assert "bad ended without being told to" in caplog.text
    assert ("does not balance" in caplog.text) == (bad is _crash)


async def test_a_role_that_does_not_drain_is_cancelled(caplog: pytest.LogCaptureFixture) -> None:
    stop = asyncio.Event()
    stop.set()
    status = await asyncio.wait_for(run_roles({"slow": _hang}, Settings(), stop=stop, drain_s=0.05), 5)
    assert status is Exit.CRASHED
    assert "slow did not drain" in caplog.text


async def test_a_process_is_not_ready_before_its_roles_are() -> None:
    seen: list[bool] = []

    async def role(ctx: RoleContext) -> None:
        ctx.health.expect("shards")
        seen.append(ctx.health.ready)
        await asyncio.sleep(0.01)
        seen.append(ctx.health.ready)
        ctx.health.ok("shards")
        seen.append(ctx.health.ready)
        ctx.stop.set()

    await run_roles({"role": role}, Settings())
    assert seen == [False, False, True]


def test_an_unknown_role_is_named_with_those_that_exist() -> None:
    with pytest.raises(RoleMissingError, match="payment-saga"):
        load("paiments")


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ("nothing.here:run", "no module nothing"),
        ("cli.nothing:run", r"no module cli\.nothing"),
        ("cli.roles:nothing", "has no nothing"),
    ],
)
def test_missing_code_is_named(entry: str, said: str) -> None:
    with pytest.raises(RoleMissingError, match=said):
        load("x", {"x": entry})


def test_an_import_that_fails_inside_a_role_is_not_hidden(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "role_with_typo.py").write_text("import jsonn\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ModuleNotFoundError, match="jsonn"):
        load("x", {"x": "role_with_typo:run"})


def test_a_process_that_can_not_start_says_so_in_its_last_line() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "cli.runner", "no-such-role"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == Exit.BROKEN
    assert done.stderr.strip().splitlines()[-1].startswith("There is no role 'no-such-role'")


def test_groups_hold_every_role_once() -> None:
    grouped = [role for group in roles.GROUPS.values() for role in group.roles]
    assert sorted(grouped) == sorted(roles.ROLES)
    assert all(entry.count(":") == 1 for entry in roles.ROLES.values())


def test_the_edge_stops_first() -> None:
    tiers = {name: group.stop_tier for name, group in roles.GROUPS.items()}
    assert tiers["gateway"] < min(tiers["ledger"], tiers["deciders"])
    assert max(tiers["ledger"], tiers["deciders"]) < tiers["projections"]
