"""An import makes nothing twice, survives a bad network, and says what became of every line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import pytest
import typer
from typer.testing import CliRunner

from cli.importer import app, read_map
from cli.payment_import import (
    TRIES,
    Accounts,
    Api,
    ImportStoppedError,
    follow,
    idempotency_key,
    make_payments,
    payment_body,
)
from services.payments.pain001.instructions import Instruction, parse
from tests.unit.payments.test_pain001 import REAL, block, message, transfer

LEDGER = "the-ledger"


class Platform:
    """The part of the gateway that an import meets: one effect for each key, and whatever trouble is planned."""

    def __init__(self) -> None:
        self.results: dict[str, tuple[Any, dict[str, str]]] = {}
        self.requests: list[httpx.Request] = []
        self.trouble: list[int | Exception] = []
        self.taken: dict[str, str] = {}
        self.statuses: dict[str, list[str]] = {}
        self.refuse: str | None = None

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        if self.trouble:
            next_one = self.trouble.pop(0)
            if isinstance(next_one, Exception):
                raise next_one
            return httpx.Response(next_one, headers={"Retry-After": "1"})
        if request.method == "GET":
            return self._query(request)
        body, key = json.loads(request.content), request.headers["Idempotency-Key"]
        known = self.results.get(key)
        if known is not None and known[0] != body:
            return _problem(422, "idempotency-key-reused")
        if known is None:
            if self.refuse and request.url.path == "/v1/payments":
                return _problem(422, self.refuse)
            if body.get("code") in self.taken:
                return _problem(409, "code-taken")
            kind = "payment_id" if request.url.path == "/v1/payments" else "account_id"
            self.results[key] = known = (body, {kind: f"{kind}-{len(self.results)}"})
        return httpx.Response(201, json={"result": known[1]}, headers={"Consistency-Token": "t1"})

    def _query(self, request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/accounts"):
            found = self.taken.get(request.url.params["code"])
            return httpx.Response(200, json={"items": [{"account_id": found}] if found else []})
        planned = self.statuses.setdefault(request.url.path, ["initiated", "held", "settled"])
        return httpx.Response(200, json={"status": planned.pop(0) if planned[1:] else planned[0]})

    @property
    def api(self) -> Api:
        http = httpx.AsyncClient(transport=httpx.MockTransport(self), base_url="http://gateway")
        return Api(http, pause_s=0)

    def accounts(self, known: dict[str, str] | None = None, *, create: bool = True) -> Accounts:
        return Accounts(self.api, LEDGER, known or {}, create=create)


def _problem(status: int, reason: str) -> httpx.Response:
    return httpx.Response(status, json={"type": f"https://nexafi.dev/problems/{reason}", "detail": "no"})


def instructions(*names: str) -> list[Instruction]:
    return parse(message(block(*(transfer(n) for n in names)), total=None)).instructions


async def test_a_second_import_makes_nothing_twice() -> None:
    platform = Platform()
    wanted = instructions("a", "b", "c")
    first = await make_payments(platform.api, platform.accounts(), LEDGER, wanted)
    effects = dict(platform.results)
    second = await make_payments(platform.api, platform.accounts(), LEDGER, wanted)
    assert [m.payment_id for m in first] == [m.payment_id for m in second]
    assert len({m.payment_id for m in first}) == 3
    assert platform.results == effects
    assert len(effects) == 2 + 3  # each account is opened once


async def test_a_bad_network_is_waited_out() -> None:
    platform = Platform()
    platform.trouble = [httpx.ConnectError("refused"), 503, 429, 202, httpx.ReadTimeout("slow")]
    (made,) = await make_payments(
        platform.api,
        platform.accounts({"GB82WEST12345698765432": "p", "DE89370400440532013000": "q"}),
        LEDGER,
        instructions("a"),
    )
    assert made.status == "initiated"
    assert len({r.headers["Idempotency-Key"] for r in platform.requests}) == 1
    assert len(platform.results) == 1


async def test_a_gateway_that_never_answers_stops_the_import() -> None:
    platform = Platform()
    platform.trouble = [503] * TRIES
    with pytest.raises(ImportStoppedError, match="run the import again"):
        await platform.api.command("/v1/payments", "k", {})


async def test_wrong_credentials_stop_the_import() -> None:
    platform = Platform()
    platform.trouble = [401]
    with pytest.raises(ImportStoppedError, match="credentials"):
        await platform.api.query("/v1/payments/x")


async def test_a_refusal_is_reported_and_the_others_go_on() -> None:
    platform = Platform()
    platform.refuse = "already-claimed"
    made = await make_payments(platform.api, platform.accounts(), LEDGER, instructions("a", "b"))
    assert [(m.status, m.reason) for m in made] == [("refused", "already-claimed: no")] * 2


async def test_accounts_come_from_the_map_by_currency_first() -> None:
    platform = Platform()
    known = {"GB82WEST12345698765432": "any", "GB82WEST12345698765432/EUR": "euro"}
    accounts = platform.accounts(known, create=False)
    (i,) = instructions("a")
    assert await accounts.find(i.debtor, "EUR") == "euro"
    assert await accounts.find(i.debtor, "USD") == "any"
    (made,) = await make_payments(platform.api, accounts, LEDGER, [i])
    assert made.status == "refused"
    assert made.reason.startswith("unmapped-account: DE89370400440532013000 (EUR)")
    assert platform.results == {}


async def test_an_account_that_exists_under_its_code_is_used() -> None:
    platform = Platform()
    (i,) = instructions("a")
    platform.taken["iban:GB82WEST12345698765432:EUR"] = "old-one"
    accounts = platform.accounts()
    assert await accounts.find(i.debtor, "EUR") == "old-one"
    assert accounts.opened == 0


async def test_payments_are_followed_to_their_end_or_until_time_is_up() -> None:
    platform = Platform()
    made = await make_payments(platform.api, platform.accounts(), LEDGER, instructions("a", "b"))
    platform.statuses[f"/v1/payments/{made[1].payment_id}"] = ["in-review"]
    await follow(platform.api, made[:1], 5)
    await follow(platform.api, made[1:], 0)
    assert [m.status for m in made] == ["settled", "in-review"]
    assert all(r.headers["Consistency-Token"] == "t1" for r in platform.requests if r.method == "GET")


def test_the_key_follows_from_message_and_end_to_end_id() -> None:
    a, b = instructions("a", "b")
    keys = {idempotency_key(a), idempotency_key(b)}
    assert len(keys) == 2
    assert idempotency_key(instructions("x", "a")[1]) == idempotency_key(a)  # wherever it stands
    nothing = parse(message(block(transfer("NOTPROVIDED"), transfer("NOTPROVIDED")), total=None)).instructions
    assert len({idempotency_key(i) for i in nothing} | keys) == 4
    assert all(len(k) <= 255 and k.isascii() for k in keys)


def test_the_request_says_where_it_comes_from() -> None:
    (i,) = parse(REAL.read_bytes()).instructions
    body = payment_body(i, LEDGER, "p", "q")
    assert body["payer"] == {"account_id": "p", "name": "UFXQHBE", "country": "QA"}
    assert (body["amount"], body["currency"]) == (1000, "GBP")
    assert body["external_reference"] == "test-160620/test-160620"
    assert body["metadata"]["end_to_end_id"] == "test-160620"
    (spaced,) = instructions("has a space")
    assert payment_body(spaced, LEDGER, "p", "q")["external_reference"].startswith("pain.001:")


def test_maps_are_json_or_csv(tmp_path: Path) -> None:
    (tmp_path / "m.json").write_text('{"GB82": "a"}')
    (tmp_path / "m.csv").write_text("GB82, a\n\nDE89/EUR,b\n")
    (tmp_path / "bad.csv").write_text("GB82\n")
    (tmp_path / "bad.json").write_text("[1]")
    assert read_map(tmp_path / "m.json") == {"GB82": "a"}
    assert read_map(tmp_path / "m.csv") == {"GB82": "a", "DE89/EUR": "b"}
    assert read_map(None) == {}
    for name in ("bad.csv", "bad.json"):
        with pytest.raises(typer.BadParameter):
            read_map(tmp_path / name)


def test_a_dry_run_changes_nothing_and_a_bad_file_is_refused(tmp_path: Path) -> None:
    runner = CliRunner()
    dry = runner.invoke(app, ["pain.001", str(REAL), "--dry-run"])
    assert dry.exit_code == 0, dry.output
    assert "10.00 GBP" in dry.output
    broken = tmp_path / "broken.xml"
    broken.write_bytes(message(block(transfer()), total="1.00"))
    refused = runner.invoke(app, ["pain.001", str(broken)])
    assert refused.exit_code == 2
    assert "refused as a whole" in refused.output
    half = tmp_path / "half.xml"
    half.write_bytes(message(block(transfer("a"), transfer("a")), total=None))
    assert runner.invoke(app, ["pain.001", str(half), "--dry-run"]).exit_code == 1
