"""Making payments over the public API from instructions that a file gave, so that a repeat makes nothing twice.

Every command carries an ``Idempotency-Key`` that follows from the file (message id and end-to-end id), so
an import that broke off is simply started again. Only the API that any customer has is used.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final

import httpx

from services.payments.pain001.checks import NOT_PROVIDED
from services.payments.pain001.instructions import BankAccount, BankParty, Instruction

#: Requests under way at once, tries of one request, and seconds to wait for an answer.
CONCURRENCY: Final = 16
TRIES: Final = 12
WAIT_S: Final = 10
#: Ways a payment ends.
ENDS: Final = frozenset({"settled", "rejected", "cancelled", "failed"})
_CODE: Final = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._:/@+-]{0,127}$")
_TOKEN: Final = "Consistency-Token"  # noqa: S105 -- a header's name


class ImportStoppedError(Exception):
    """The import can not go on; the sentence says what to do."""


@dataclass(slots=True)
class Made:
    """What one instruction came to: ``status`` is the payment's, or ``refused`` when there is no payment."""

    instruction: Instruction
    status: str
    payment_id: str = ""
    reason: str = ""
    token: str = ""


class RefusedError(Exception):
    """The platform said no: an RFC 9457 problem."""

    def __init__(self, problem: dict[str, Any], status: int) -> None:
        self.reason = str(problem.get("type", "")).rpartition("/")[2] or f"http-{status}"
        self.detail = str(problem.get("detail", ""))
        self.status = status
        super().__init__(f"{self.reason}: {self.detail}")


class Api:
    """The gateway, with a key of its own for each command."""

    def __init__(self, http: httpx.AsyncClient, *, pause_s: float = 0.2) -> None:
        self._http = http
        self._pause_s = pause_s
        self._room = asyncio.Semaphore(CONCURRENCY)

    async def command(self, path: str, key: str, body: dict[str, Any]) -> tuple[dict[str, Any], str]:
        """Result of a command and its consistency token; :class:`RefusedError` when it is refused."""
        headers = {"Idempotency-Key": key, "Prefer": f"wait={WAIT_S}"}
        # A 202 is not an answer yet: the same request again asks for it.
        answer = await self._send(
            lambda: self._http.post(path, json=body, headers=headers), again=frozenset({202})
        )
        result: dict[str, Any] = answer.json()["result"]
        return result, answer.headers.get(_TOKEN, "")

    async def query(self, path: str, token: str = "", **parameters: str) -> dict[str, Any]:
        """What a query answers, as new as ``token``."""
        headers = {_TOKEN: token} if token else {}
        answer = await self._send(lambda: self._http.get(path, params=parameters, headers=headers))
        found: dict[str, Any] = answer.json()
        return found

    async def _send(
        self, request: Callable[[], Awaitable[httpx.Response]], *, again: frozenset[int] = frozenset()
    ) -> httpx.Response:
        for attempt in range(TRIES):
            try:
                async with self._room:
                    answer = await request()
            except httpx.TransportError as error:
                trouble, wait_s = f"{type(error).__name__}: {error}", self._pause_s * 2**attempt
            else:
                if answer.status_code not in {429, 502, 503, 504} | again:
                    return _checked(answer)
                trouble = f"HTTP {answer.status_code}"
                wait_s = float(answer.headers.get("Retry-After", "1")) * self._pause_s * 5
            await asyncio.sleep(min(wait_s, 10.0))
        raise ImportStoppedError(f"the gateway does not answer ({trouble}); run the import again later")


def _checked(answer: httpx.Response) -> httpx.Response:
    if answer.status_code == 401:
        raise ImportStoppedError("the credentials are not accepted (HTTP 401)")
    if answer.is_error:
        try:
            problem = answer.json()
        except ValueError:
            problem = {}
        raise RefusedError(problem if isinstance(problem, dict) else {}, answer.status_code)
    return answer


class Accounts:
    """Ledger accounts of bank accounts: from a map, or opened on the way (once for each)."""

    def __init__(self, api: Api, ledger_id: str, known: dict[str, str], *, create: bool) -> None:
        self._api, self._ledger_id, self._known, self._create = api, ledger_id, known, create
        self._opening: dict[tuple[str, str, str], asyncio.Task[str]] = {}
        self.opened = 0

    async def find(self, party: BankParty, currency: str) -> str:
        """The account's id; :class:`RefusedError` (``unmapped-account``) when there is none and none may be opened."""
        account = party.account
        for name in (f"{account.identification}/{currency}", account.identification):
            if name in self._known:
                return self._known[name]
        if not self._create:
            detail = f"{account.identification} ({currency}) is not in the account map"
            raise RefusedError({"type": "/unmapped-account", "detail": detail}, 0)
        place = (account.kind, account.identification, currency)
        if place not in self._opening:
            self._opening[place] = asyncio.create_task(self._open(account, party.name, currency))
        return await self._opening[place]

    async def _open(self, account: BankAccount, name: str, currency: str) -> str:
        """Open without a floor: what the institution lends to whom is not in the file."""
        code = _code(f"{account.kind}:{account.identification}:{currency}")
        body = {"code": code, "currency": currency, "normal_side": "credit", "name": name}
        path = f"/v1/ledgers/{self._ledger_id}/accounts"
        key = _digest("account", self._ledger_id, code)
        try:
            # The name is not part of the key: another file may spell it differently.
            result, _ = await self._api.command(path, key, body)
        except RefusedError as error:
            if error.reason not in {"code-taken", "idempotency-key-reused"}:
                raise
            found = (await self._api.query(path, code=code))["items"]
            if not found:
                raise
            return str(found[0]["account_id"])
        self.opened += 1
        return str(result["account_id"])


async def make_payments(
    api: Api, accounts: Accounts, ledger_id: str, instructions: Iterable[Instruction]
) -> list[Made]:
    """Initiate every instruction; what is refused is reported, and the others go on."""

    async def one(instruction: Instruction) -> Made:
        try:
            payer = await accounts.find(instruction.debtor, instruction.currency)
            payee = await accounts.find(instruction.creditor, instruction.currency)
            body = payment_body(instruction, ledger_id, payer, payee)
            result, token = await api.command("/v1/payments", idempotency_key(instruction), body)
        except RefusedError as error:
            return Made(instruction, "refused", reason=f"{error.reason}: {error.detail}".strip(": "))
        return Made(instruction, "initiated", str(result["payment_id"]), token=token)

    return list(await asyncio.gather(*(one(i) for i in instructions)))


async def follow(
    api: Api, made: Iterable[Made], timeout_s: float, *, on_end: Callable[[Made], None] | None = None
) -> None:
    """Ask until each payment has ended, or time is up; statuses and reasons are filled in."""
    deadline = time.monotonic() + timeout_s

    async def one(payment: Made) -> None:
        pause_s = 0.1
        while True:
            seen = await api.query(f"/v1/payments/{payment.payment_id}", payment.token)
            payment.status, payment.reason = str(seen["status"]), str(seen.get("reason") or "")
            if payment.status in ENDS or time.monotonic() >= deadline:
                break
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 1.5, 2.0)
        if on_end is not None:
            on_end(payment)

    await asyncio.gather(*(one(p) for p in made if p.payment_id))


def payment_body(i: Instruction, ledger_id: str, payer: str, payee: str) -> dict[str, Any]:
    """The request that makes the instruction's payment; a function of file and accounts alone."""
    return {
        "ledger_id": ledger_id,
        "payer": _party(i.debtor, payer),
        "payee": _party(i.creditor, payee),
        "amount": i.amount,
        "currency": i.currency,
        "external_reference": _reference(i),
        "description": i.remittance[:1024],
        "metadata": {
            "source": "pain.001",
            "message_id": i.message_id,
            "payment_information_id": i.payment_information_id,
            "end_to_end_id": i.end_to_end_id,
            "requested_execution_date": i.execution_date,
        },
    }


def idempotency_key(i: Instruction) -> str:
    """Follows from message id and end-to-end id; from the place in the file when there is no end-to-end id."""
    return _digest("payment", i.message_id, *_which(i))


def _which(i: Instruction) -> tuple[str, ...]:
    return (i.end_to_end_id,) if i.end_to_end_id != NOT_PROVIDED else (NOT_PROVIDED, str(i.number))


def _reference(i: Instruction) -> str:
    return _code("/".join((i.message_id, *_which(i))))


def _party(party: BankParty, account_id: str) -> dict[str, Any]:
    out = {"account_id": account_id, "name": party.name}
    return out | {"country": party.country} if party.country else out


def _code(text: str) -> str:
    """``text`` where it has the form of a code, else a digest of it."""
    return text if _CODE.match(text) else _digest("code", text)


def _digest(*parts: str) -> str:
    return "pain.001:" + hashlib.sha256(json.dumps(parts).encode()).hexdigest()
