"""A ledger shard as canonical bytes, and back. Equal states give equal bytes, whatever led to them.

Layout (JSON): ``{"ledgers": [[id, tenant, accounts, holds, closed]]}``, each list sorted by id, where

* an account is ``[id, code, currency, is_debit, balance, floor, ceiling, version, metadata]``,
* a hold is ``[id, debit account, credit account, remaining, expires_at, reference, saga_id, version]``,
* a closed account is ``[id, code]``.

and ``{"books": {id: {"version", "chart", "assets", "rates", "closed", "templates"}}}`` where a ledger has more than accounts and holds: the
version of its own stream, its chart as ``[revision, template, [[code, type, name, is_debit]], [[debit, credit]]]``, the
decimal places of its assets by code, rates as ``[base, quote, id, numerator, denominator, source, observed_at]``,
up to when periods are closed as ``[softly, hard]``, and templates as ``[name, version, JSON]``.

An integer of more than 63 bits is a string, because JSON readers differ on such numbers. What holds reserve on
accounts, and the heap of deadlines, follow from the holds and are not written.
"""

from __future__ import annotations

from operator import itemgetter
from typing import Any, Final

import orjson

from schemas.ledger.chart import AdoptedFacing, AdoptedNode
from schemas.ledger.templates import Template
from services.ledger.chart import Chart
from services.ledger.program import compiled
from services.ledger.state import Account, Hold, KnownRate, Ledger, State

#: Raise with every change of the layout: a snapshot of another version is ignored and history replayed.
STATE_VERSION: Final = 5
_WIDE: Final = 1 << 63


def dump(state: State) -> bytes:
    """Canonical bytes of ``state``."""
    first = itemgetter(0)
    ledgers = [
        [
            ledger.id,
            ledger.tenant,
            sorted(map(_account_row, ledger.accounts.values()), key=first),
            sorted(map(_hold_row, ledger.holds.values()), key=first),
            sorted(ledger.closed.items()),
        ]
        for _, ledger in sorted(state.ledgers.items())
    ]
    whole: dict[str, Any] = {"ledgers": ledgers}
    books = {ledger.id: book for ledger in state.ledgers.values() if (book := _book(ledger))}
    if books:  # left out when there are none: what was recorded before there were any keeps its digest
        whole["books"] = books
    return orjson.dumps(whole, option=orjson.OPT_SORT_KEYS)


def load(data: bytes) -> State:
    """The state that :func:`dump` wrote."""
    state = State()
    whole = orjson.loads(data)
    for ledger_id, tenant, accounts, holds, closed in whole["ledgers"]:
        ledger = state.ledgers[ledger_id] = Ledger(ledger_id, tenant)
        ledger.closed = dict(closed)
        ledger.codes = {code: account_id for account_id, code in closed}
        for row in accounts:
            account = _account(row)
            ledger.accounts[account.id] = account
            ledger.codes[account.code] = account.id
        for row in holds:
            hold = _hold(row, ledger)
            ledger.holds[hold.id] = hold
            state.add_deadline(ledger_id, hold)
    for ledger_id, book in whole.get("books", {}).items():
        _take_book(state.ledgers[ledger_id], book)
    return state


def _book(ledger: Ledger) -> dict[str, Any]:
    book: dict[str, Any] = {}
    if ledger.version > 1:
        book["version"] = ledger.version
    if ledger.soft_until:
        book["closed"] = (ledger.soft_until, ledger.hard_until)
    if ledger.templates:
        book["templates"] = [
            (name, program.version, program.template.model_dump_json())
            for name, program in sorted(ledger.templates.items())
        ]
    if ledger.assets:
        book["assets"] = ledger.assets
    if ledger.rates:
        book["rates"] = [
            (*pair, rate.rate_id, str(rate.numerator), str(rate.denominator), rate.source, rate.observed_at)
            for pair, rate in sorted(ledger.rates.items())
        ]
    if ledger.chart is not None:
        chart = ledger.chart
        nodes = [(n.code, n.type, n.name, n.normal_side == "debit") for n in chart.nodes]
        book["chart"] = (chart.revision, chart.template, nodes, [(f.debit, f.credit) for f in chart.facings])
    return book


def _take_book(ledger: Ledger, book: dict[str, Any]) -> None:
    ledger.version = book.get("version", 1)
    for name, number, text in book.get("templates", ()):
        template = Template.model_validate_json(text, extra="ignore")
        ledger.templates[name] = compiled(template, number, ledger)
    ledger.assets = book.get("assets", {})
    ledger.soft_until, ledger.hard_until = book.get("closed", (0, 0))
    for base, quote, rate_id, numerator, denominator, source, observed_at in book.get("rates", ()):
        rate = KnownRate(rate_id, int(numerator), int(denominator), source, observed_at)
        ledger.rates[base, quote] = rate
    if "chart" in book:
        revision, template, nodes, facings = book["chart"]
        places = [
            AdoptedNode(code=code, type=kind, name=name, normal_side="debit" if is_debit else "credit")
            for code, kind, name, is_debit in nodes
        ]
        pairs = [AdoptedFacing(debit=debit, credit=credit) for debit, credit in facings]
        ledger.take_chart(Chart(revision, template, places, pairs))


def _account_row(a: Account) -> tuple[Any, ...]:
    return (
        a.id,
        a.code,
        a.currency,
        a.normal_side == "debit",
        a.balance if -_WIDE <= a.balance < _WIDE else str(a.balance),
        _packed(a.floor),
        _packed(a.ceiling),
        a.version,
        a.metadata,
    )


def _account(row: list[Any]) -> Account:
    identifier, code, currency, is_debit, balance, floor, ceiling, version, metadata = row
    account = Account(
        identifier, code, currency, "debit" if is_debit else "credit", metadata, version, int(balance)
    )
    if floor is not None or ceiling is not None:
        account.limit(_unpacked(floor), _unpacked(ceiling))
    return account


def _hold_row(h: Hold) -> tuple[Any, ...]:
    amount = h.remaining if h.remaining < _WIDE else str(h.remaining)
    return (h.id, h.debit.id, h.credit.id, amount, h.expires_at, h.reference, h.saga_id, h.version)


def _hold(row: list[Any], ledger: Ledger) -> Hold:
    identifier, debit, credit, amount, expires_at, reference, saga_id, version = row
    hold = Hold(
        identifier,
        ledger.accounts[debit],
        ledger.accounts[credit],
        expires_at,
        reference,
        saga_id,
        version,
    )
    hold.reserve(int(amount))
    return hold


def _packed(value: int | None) -> int | str | None:
    return value if value is None or -_WIDE <= value < _WIDE else str(value)


def _unpacked(value: int | str | None) -> int | None:
    return None if value is None else int(value)
