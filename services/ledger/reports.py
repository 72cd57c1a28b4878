"""Statements of a ledger over HTTP: its chart, balance sheet and income statement, as known at a time."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Final

from fastapi import FastAPI, Request, Response

from events.store.moments import Moment
from nexafi.problems import ProblemError
from projections.queries.balances import BALANCES_BY_NODE, RESTATED, RESTATING, Asked, ask, resolve
from projections.queries.reading import Reader, time_parameter
from projections.queries.serving import respond
from schemas.common.envelope import rfc3339
from schemas.ledger.chart import AdoptedNode
from services.ledger.chart_templates import TEMPLATES
from services.ledger.statements import Net, Statements, moved
from services.ledger.valuation import valuation

_VIEWS: Final = ("ledger", "accounting")
#: Accounts, and transactions, that a restatement lists at most.
_MOST: Final = 500
_L: Final = "/internal/v1/ledgers/{ledger_id}"


def routes(app: FastAPI, reader: Reader) -> None:
    """Add the routes."""
    q = ReportQueries(reader)
    app.add_api_route("/internal/v1/chart-templates", q.templates)
    app.add_api_route(f"{_L}/chart", q.chart)
    app.add_api_route(f"{_L}/balance-sheet", q.balance_sheet)
    app.add_api_route(f"{_L}/income-statement", q.income_statement)
    app.add_api_route(f"{_L}/exposure", q.exposure)
    app.add_api_route(f"{_L}/restatement", q.restatement)


@dataclass(frozen=True)
class Chosen:
    """The chart in force at the positions of a question; ``shown`` is what an answer says of it."""

    shown: dict[str, Any] | None
    nodes: list[AdoptedNode]

    @property
    def statements(self) -> Statements:
        """Statements over it."""
        return Statements(self.nodes)


class ReportQueries:
    """Every answer says of which times and positions it is true, so that it can be asked for again."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    async def templates(self, request: Request) -> Response:
        """The charts to begin with."""
        _, seen = await self._reader.ready(request, ())
        items = [
            {
                "template": name,
                "about": template.about,
                "nodes": [node.model_dump(exclude_none=True) for node in template.nodes],
                "facings": [facing.model_dump() for facing in template.facings],
            }
            for name, template in TEMPLATES.items()
        ]
        return respond({"items": items}, seen)

    async def chart(self, request: Request, ledger_id: str) -> Response:
        """The chart in force, or ``null`` when the ledger has none."""
        tenant, seen = await self._reader.ready(request, _VIEWS)
        await self._reader.one("ledgers", {"ledger_id": ledger_id, "tenant": tenant})
        rows = await self._reader.rows(
            "SELECT revision, template, nodes, facings, actor, recorded_at FROM views.charts "
            "WHERE ledger_id = CAST(:ledger_id AS uuid) AND tenant = :tenant ORDER BY revision DESC LIMIT 1",
            {"ledger_id": ledger_id, "tenant": tenant},
        )
        return respond({"ledger_id": ledger_id, "chart": rows[0] if rows else None}, seen)

    async def balance_sheet(self, request: Request, ledger_id: str) -> Response:
        """What the ledger owns and owes at a time, in each currency and, if asked for, in one."""
        asked = await ask(self._reader, request, ledger_id, _VIEWS)
        chosen = await self._chart(ledger_id, asked)
        nets = await self._nets(ledger_id, asked, chosen)
        value = await valuation(self._reader, request.query_params, ledger_id, asked.tenant, asked)
        body = {
            "currencies": chosen.statements.balance_sheet(nets),
            **value.stated(lambda into, rates: chosen.statements.converted_sheet(nets, into, rates)),
        }
        return respond({"ledger_id": ledger_id, "chart": chosen.shown, **asked.answer(**body)}, asked.seen)

    async def exposure(self, request: Request, ledger_id: str) -> Response:
        """What lies open in each currency: assets less liabilities, and what that is worth in one of them."""
        asked = await ask(self._reader, request, ledger_id, _VIEWS)
        chosen = await self._chart(ledger_id, asked)
        nets = await self._nets(ledger_id, asked, chosen)
        value = await valuation(self._reader, request.query_params, ledger_id, asked.tenant, asked)
        body = {
            "currencies": chosen.statements.open_positions(nets),
            **value.stated(lambda into, rates: chosen.statements.exposure(nets, into, rates)),
        }
        return respond({"ledger_id": ledger_id, "chart": chosen.shown, **asked.answer(**body)}, asked.seen)

    async def income_statement(self, request: Request, ledger_id: str) -> Response:
        """What was earned and spent from one time up to, and without, another."""
        asked = await ask(self._reader, request, ledger_id, _VIEWS)
        begin = time_parameter(request.query_params.get("from"), "from")
        end = time_parameter(request.query_params.get("to"), "to")
        end = asked.at_us + 1 if end is None else end
        begin = 0 if begin is None else begin
        if begin > end:
            raise ProblemError("invalid-parameter", "It begins after it ends.", pointer="?from")
        chosen = await self._chart(ledger_id, asked)
        before, after = [
            await self._nets(ledger_id, replace(asked, at_us=limit - 1), chosen) for limit in (begin, end)
        ]
        nets = moved(before, after)
        value = await valuation(
            self._reader, request.query_params, ledger_id, asked.tenant, replace(asked, at_us=end - 1)
        )
        answer = asked.answer(
            currencies=chosen.statements.income_statement(nets),
            **value.stated(lambda into, rates: chosen.statements.converted_income(nets, into, rates)),
        )
        del answer["at"]
        period = {"from": rfc3339(begin), "to": rfc3339(end)}
        return respond({"ledger_id": ledger_id, "chart": chosen.shown, **period, **answer}, asked.seen)

    async def restatement(self, request: Request, ledger_id: str) -> Response:
        """What is known at ``known_at`` of all that counts up to ``at``, and was not known at ``since``.

        By account, as a balance sheet of the changes, and the newest transactions that made them. Without
        ``since``: what came after the books were last closed.
        """
        asked = await ask(self._reader, request, ledger_id, _VIEWS)
        since = await self._since(request.query_params.get("since"), ledger_id, asked)
        if since.position > asked.position:
            raise ProblemError("invalid-parameter", "It lies after known_at.", pointer="?since")
        values = {**asked.parameters, "ledger_id": ledger_id, "tenant": asked.tenant}
        values |= {"since": since.position, "most": _MOST + 1}
        accounts = await self._reader.rows(RESTATED, values)
        transactions = await self._reader.rows(RESTATING, values)
        chosen = await self._chart(ledger_id, asked)
        then = replace(asked, position=since.position, recorded_us=since.time_us)
        changes = moved(await self._nets(ledger_id, then, chosen), await self._nets(ledger_id, asked, chosen))
        body = asked.answer(
            since=then.answer()["known_at"],
            accounts=accounts[:_MOST],
            currencies=chosen.statements.balance_sheet(net for net in changes if net.amount),
            transactions=transactions[:_MOST],
            more=len(accounts) > _MOST or len(transactions) > _MOST,
        )
        return respond({"ledger_id": ledger_id, "chart": chosen.shown, **body}, asked.seen)

    async def _since(self, text: str | None, ledger_id: str, asked: Asked) -> Moment:
        """What ``since`` means: a time, a token, or without it the last close that was known (else the beginning)."""
        newest = 0
        if text is None:
            rows = await self._reader.rows(
                "SELECT max(position) AS position FROM views.periods WHERE ledger_id = CAST(:ledger_id AS uuid) "
                "AND tenant = :tenant AND position <= :position AND change <> 'reopened'",
                {"ledger_id": ledger_id, "tenant": asked.tenant, "position": asked.position},
            )
            newest = rows[0]["position"] or 0
        return await resolve(self._reader, asked.source, text, newest, "since")

    async def _chart(self, ledger_id: str, asked: Asked) -> Chosen:
        """The chart that was in force at the positions asked for."""
        rows = await self._reader.rows(
            "SELECT revision, template, nodes FROM views.charts WHERE ledger_id = CAST(:ledger_id AS uuid) "
            "AND tenant = :tenant AND position <= :position ORDER BY revision DESC LIMIT 1",
            {"ledger_id": ledger_id, "tenant": asked.tenant, "position": asked.position},
        )
        if not rows:
            return Chosen(None, [])
        nodes = [AdoptedNode.model_validate(node, extra="ignore") for node in rows[0]["nodes"]]
        return Chosen({"revision": rows[0]["revision"], "template": rows[0]["template"]}, nodes)

    async def _nets(self, ledger_id: str, asked: Asked, chosen: Chosen) -> list[Net]:
        """Sums by node and currency at the time asked for."""
        values = {**asked.parameters, "ledger_id": ledger_id, "tenant": asked.tenant}
        values["nodes"] = [node.code for node in chosen.nodes]
        rows = await self._reader.rows(BALANCES_BY_NODE, values)
        return [Net(row["node"], row["currency"], row["net"]) for row in rows]
