"""What can be asked of the ledger service; answers come from the view ``ledger``."""

from __future__ import annotations

from typing import Any, Final

from fastapi import FastAPI, Request, Response

from nexafi.role import RoleContext
from projections.queries.balances import ALL_BALANCES, ONE_BALANCE, about_the_past, ask
from projections.queries.reading import Order, Reader
from projections.queries.serving import respond, respond_page, serve_queries
from services.ledger import lists_api, reports
from services.ledger.valuation import valuation

_VIEWS: Final = ("ledger",)
_L: Final = "/internal/v1/ledgers/{ledger_id}"


async def run_api(ctx: RoleContext) -> None:
    """The role ``ledger-api``."""
    await serve_queries(ctx, "ledger", routes)


def routes(app: FastAPI, reader: Reader, _ctx: RoleContext) -> None:
    """Add the routes."""
    q = LedgerQueries(reader)
    app.add_api_route("/internal/v1/ledgers", q.ledgers)
    app.add_api_route(_L, q.ledger)
    app.add_api_route(f"{_L}/trial-balance", q.trial_balance)
    app.add_api_route(f"{_L}/accounts", q.accounts)
    app.add_api_route(f"{_L}/accounts/{{account_id}}", q.account)
    app.add_api_route(f"{_L}/accounts/{{account_id}}/entries", q.entries)
    app.add_api_route(f"{_L}/transactions", q.transactions)
    app.add_api_route(f"{_L}/transactions/{{transaction_id}}", q.transaction)
    app.add_api_route(f"{_L}/holds", q.holds)
    app.add_api_route(f"{_L}/holds/{{hold_id}}", q.hold)
    reports.routes(app, reader)
    lists_api.routes(app, reader)


class LedgerQueries:
    """Every query begins by waiting for the caller's token and ends with one of what was read."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    async def _page(
        self, request: Request, table: str, order: Order, *, extra: str = "", **where: Any
    ) -> Response:
        tenant, seen = await self._reader.ready(request, _VIEWS)
        if "ledger_id" in where:
            await self._reader.one("ledgers", {"ledger_id": where["ledger_id"], "tenant": tenant})
        if "account_id" in where:  # of a path: what is not there has no entries to list
            named = {name: where[name] for name in ("account_id", "ledger_id")}
            await self._reader.one("accounts", {**named, "tenant": tenant})
        where["tenant"] = tenant
        return await respond_page(self._reader, request, table, order, where, seen, extra=extra)

    async def _one(self, request: Request, table: str, **where: Any) -> Response:
        tenant, seen = await self._reader.ready(request, _VIEWS)
        return respond(await self._reader.one(table, {**where, "tenant": tenant}), seen)

    async def ledgers(self, request: Request) -> Response:
        """Ledgers of the tenant."""
        return await self._page(request, "ledgers", Order(("ledger_id",), ("uuid",)))

    async def ledger(self, request: Request, ledger_id: str) -> Response:
        """One ledger."""
        return await self._one(request, "ledgers", ledger_id=ledger_id)

    async def trial_balance(self, request: Request, ledger_id: str) -> Response:
        """Totals by currency, summed over shards; debits equal credits. With ``at`` or ``known_at``: balances then."""
        if about_the_past(request.query_params):
            asked = await ask(self._reader, request, ledger_id, _VIEWS)
            values = {**asked.parameters, "ledger_id": ledger_id, "tenant": asked.tenant}
            rows = await self._reader.rows(ALL_BALANCES, values)
            value = await valuation(self._reader, request.query_params, ledger_id, asked.tenant, asked)
            body = asked.answer(currencies=rows, **value.totals(rows, ("debit_balances", "credit_balances")))
            return respond({"ledger_id": ledger_id, **body}, asked.seen)
        tenant, seen = await self._reader.ready(request, _VIEWS)
        await self._reader.one("ledgers", {"ledger_id": ledger_id, "tenant": tenant})
        rows = await self._reader.rows(
            "SELECT currency, sum(accounts) AS accounts, sum(entries) AS entries, sum(posted_debit) AS posted_debit, "
            "sum(posted_credit) AS posted_credit, sum(pending_debit) AS pending_debit, "
            "sum(pending_credit) AS pending_credit FROM views.trial_balances "
            "WHERE ledger_id = :ledger_id AND tenant = :tenant GROUP BY currency ORDER BY currency",
            {"ledger_id": ledger_id, "tenant": tenant},
        )
        value = await valuation(self._reader, request.query_params, ledger_id, tenant)
        converted = value.totals(rows, ("posted_debit", "posted_credit"))
        return respond({"ledger_id": ledger_id, "currencies": rows, **converted}, seen)

    async def accounts(self, request: Request, ledger_id: str) -> Response:
        """Accounts of a ledger, filtered by code, currency or status."""
        query = request.query_params
        filters: dict[str, Any] = {name: query.get(name) for name in ("code", "currency", "status")}
        return await self._page(
            request, "accounts", Order(("account_id",), ("uuid",)), ledger_id=ledger_id, **filters
        )

    async def account(self, request: Request, ledger_id: str, account_id: str) -> Response:
        """An account; with ``at`` or ``known_at`` also its balance then, see :mod:`projections.queries.balances`."""
        where = {"account_id": account_id, "ledger_id": ledger_id}
        if not about_the_past(request.query_params):
            return await self._one(request, "accounts", **where)
        asked = await ask(self._reader, request, ledger_id, _VIEWS)
        row = await self._reader.one("accounts", {**where, "tenant": asked.tenant})
        found = await self._reader.rows(ONE_BALANCE, {**asked.parameters, "account_id": account_id})
        row["balance_at"] = asked.answer(balance=found[0]["balance"])
        return respond(row, asked.seen)

    async def entries(self, request: Request, ledger_id: str, account_id: str) -> Response:
        """Entries of an account, newest first, with the running balance."""
        return await self._page(
            request,
            "entries",
            Order(("recorded_at", "sequence"), ("bigint", "bigint")),
            ledger_id=ledger_id,
            account_id=account_id,
        )

    async def transactions(self, request: Request, ledger_id: str) -> Response:
        """Transactions of a ledger, newest first."""
        account = request.query_params.get("account_id")
        extra = ""
        filters: dict[str, Any] = {"reference": request.query_params.get("reference")}
        if account is not None:
            extra = "transaction_id IN (SELECT transaction_id FROM views.entries WHERE account_id = CAST(:account AS uuid))"
            filters["account"] = account
        return await self._page(
            request,
            "transactions",
            Order(("recorded_position", "transaction_id"), ("bigint", "uuid")),
            extra=extra,
            ledger_id=ledger_id,
            **filters,
        )

    async def transaction(self, request: Request, ledger_id: str, transaction_id: str) -> Response:
        """One transaction with its entries."""
        return await self._one(request, "transactions", ledger_id=ledger_id, transaction_id=transaction_id)

    async def holds(self, request: Request, ledger_id: str) -> Response:
        """Holds of a ledger, filtered by status, debit account (``account_id``) or credit account."""
        query = request.query_params
        return await self._page(
            request,
            "holds",
            Order(("hold_id",), ("uuid",)),
            ledger_id=ledger_id,
            status=query.get("status"),
            debit_account_id=query.get("account_id"),
            credit_account_id=query.get("credit_account_id"),
        )

    async def hold(self, request: Request, ledger_id: str, hold_id: str) -> Response:
        """One hold."""
        return await self._one(request, "holds", ledger_id=ledger_id, hold_id=hold_id)
