"""`nexafi auth` on a whole platform: what it makes works at once, what it ends stops, and nothing secret is listed."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from typing import Any

import aiohttp
import pytest
from typer.testing import CliRunner

from cli.auth import app
from cli.stack.paths import CHECKOUT
from tests.kit.api import Caller, callers
from tests.kit.platform import Platform

pytestmark = [pytest.mark.stack, pytest.mark.timeout(240)]


def _nexafi(platform: Platform, *arguments: str, status: int = 0) -> str:
    """The command in this process: what it prints, or what it complains of when it is to fail."""
    settings = platform.settings
    env = {
        "NEXAFI_DATA_DIR": str(settings.data_dir),
        "NEXAFI_PORT_BASE": str(settings.port_base),
        "NEXAFI_HMAC_KEY": settings.hmac_key.get_secret_value(),
        "COLUMNS": "200",
    }
    done = CliRunner().invoke(app, list(arguments), env=env)
    assert done.exit_code == status, (done.output, done.exception)
    return done.stdout if status == 0 else done.stderr


def test_the_command_is_there(platform: Platform) -> None:
    env = dict(os.environ) | {
        "NEXAFI_DATA_DIR": str(platform.settings.data_dir),
        "NEXAFI_PORT_BASE": str(platform.settings.port_base),
    }
    command = [sys.executable, "-m", "cli", "auth", "keys", "list", "--tenant", "demo"]
    said = subprocess.run(
        command, cwd=CHECKOUT, env=env, capture_output=True, text=True, timeout=90, check=True
    )
    assert "demo" in said.stdout


async def _status(http: aiohttp.ClientSession, platform: Platform, token: str) -> int:
    headers = {"Authorization": f"Bearer {token}"}
    async with http.get(f"{platform.url}/v1/ledgers", headers=headers) as answer:
        return answer.status


async def _until(http: aiohttp.ClientSession, platform: Platform, token: str, status: int) -> None:
    async with asyncio.timeout(30):
        while await _status(http, platform, token) != status:  # noqa: ASYNC110 - another process decides
            await asyncio.sleep(0.1)


async def test_a_client_works_at_once_and_stops_when_disabled(platform: Platform) -> None:
    made = json.loads(
        await asyncio.to_thread(_nexafi, platform, "clients", "create", "robot", "--tenant", "auth-one")
    )
    form = {
        "grant_type": "client_credentials",
        "client_id": made["client_id"],
        "client_secret": made["client_secret"],
    }
    async with aiohttp.ClientSession() as http:
        async with http.post(f"{platform.url}/oauth/token", data=form) as answer:
            assert answer.status == 200, await answer.text()  # the first request, without a second try
            token = (await answer.json())["access_token"]
        minted = (
            await asyncio.to_thread(_nexafi, platform, "token", made["client_id"], "-s", "ledger:read")
        ).strip()
        assert [await _status(http, platform, t) for t in (token, minted)] == [200, 200]
        listed = await asyncio.to_thread(_nexafi, platform, "clients", "list", "--tenant", "auth-one")
        assert made["client_id"] in listed
        assert made["client_secret"] not in listed
        await asyncio.to_thread(
            _nexafi, platform, "clients", "disable", made["client_id"], "--tenant", "auth-one"
        )
        await _until(http, platform, token, 401)
        await _until(http, platform, minted, 401)
        async with http.post(f"{platform.url}/oauth/token", data=form) as answer:
            assert (answer.status, (await answer.json())["error"]) == (401, "invalid_client")


async def test_a_key_works_at_once_and_stops_when_revoked(platform: Platform) -> None:
    arguments = ("keys", "create", "robot", "--tenant", "auth-two", "-s", "ledger:read", "--days", "1")
    made = json.loads(await asyncio.to_thread(_nexafi, platform, *arguments))
    async with aiohttp.ClientSession() as http:
        assert (
            await _status(http, platform, made["api_key"]) == 200
        )  # the first request, without a second try
        listed = await asyncio.to_thread(_nexafi, platform, "keys", "list", "--tenant", "auth-two")
        assert made["key_id"] in listed
        assert made["api_key"] not in listed
        await asyncio.to_thread(_nexafi, platform, "keys", "revoke", made["key_id"], "--tenant", "auth-two")
        await _until(http, platform, made["api_key"], 401)


async def test_credentials_that_were_just_made_over_http_work_with_their_first_request(
    platform: Platform,
) -> None:
    async with callers(platform, "first-use") as (caller,):

        async def one() -> int:
            made = await caller.post("/v1/api-keys", {"name": "new", "scopes": ["ledger:read"]})
            fresh = Caller(caller.http, caller.base, made.json()["api_key"])
            return (await fresh.get("/v1/ledgers")).status

        statuses = await asyncio.gather(*(one() for _ in range(30)))
    assert statuses == [200] * 30


async def test_a_flood_of_credentials_that_never_were_is_refused_and_delays_nobody(
    platform: Platform,
) -> None:
    async with callers(platform, "flooded") as (caller,):

        async def forged(number: int) -> int:
            other = Caller(caller.http, caller.base, f"nfk_{number:043d}")
            return (await other.get("/v1/ledgers")).status

        statuses = await asyncio.gather(*(forged(n) for n in range(300)))
        assert statuses == [401] * 300
        assert (await caller.get("/v1/ledgers")).status == 200


async def test_a_rotation_breaks_no_token_and_the_new_key_is_known_at_once(platform: Platform) -> None:
    made = json.loads(
        await asyncio.to_thread(_nexafi, platform, "clients", "create", "r", "--tenant", "auth-rot")
    )

    async def mint() -> str:
        return (await asyncio.to_thread(_nexafi, platform, "token", made["client_id"])).strip()

    before = await mint()
    said = await asyncio.to_thread(_nexafi, platform, "signing-keys", "rotate")
    after = await mint()
    shown: Any = json.loads(await asyncio.to_thread(_nexafi, platform, "signing-keys", "show"))
    async with aiohttp.ClientSession() as http:
        assert [await _status(http, platform, t) for t in (before, after)] == [200, 200]
        async with http.get(f"{platform.url}/.well-known/jwks.json") as answer:
            published = await answer.json()
    assert said.split()[0] == shown["keys"][0]["kid"]
    assert published == shown
    assert all("d" not in key for key in shown["keys"])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("keys", "create", "x", "-s", "ledger:everything"), "unknown-scope"),
        (("keys", "revoke", "01a20d0d-59b7-8005-b445-05c583d6d668"), "key-not-found"),
        (("clients", "create", "x", "--tenant", "Not A Tenant"), "invalid-tenant"),
        (("token", "nobody"), "not-found"),
    ],
)
def test_a_refusal_is_a_sentence(platform: Platform, arguments: tuple[str, ...], said: str) -> None:
    text = _nexafi(platform, *arguments, status=1)
    assert said in text
    assert "Traceback" not in text
