"""The rules of a chart of accounts: adopting one, and what it asks of accounts and postings."""

from __future__ import annotations

from collections.abc import Sequence

from events.decider import Accepted, Context, Emit
from schemas.ledger.chart import AdoptChart, AdoptedFacing, AdoptedNode, ChartAdopted
from schemas.ledger.commands import OpenAccount
from schemas.ledger.events import Entry
from schemas.ledger.terms import NORMAL_SIDES, SEPARATOR
from schemas.ledger.transactions import EntryInput
from services.ledger.chart import Chart, covers, nearest
from services.ledger.chart_templates import TEMPLATES
from services.ledger.lookup import owned
from services.ledger.reasons import Refusal
from services.ledger.state import Account, Ledger, State


def adopt_chart(command: AdoptChart, state: State, ctx: Context) -> Accepted:
    """Another chart from now on. Every open account must have its place in it."""
    ledger = owned(command.ledger_id, state, ctx)
    nodes = _nodes(command)
    facings = _facings(command, nodes)
    event = ChartAdopted(
        ledger_id=ledger.id,
        revision=1 if ledger.chart is None else ledger.chart.revision + 1,
        template=command.template,
        nodes=nodes,
        facings=facings,
    )
    chart = Chart(event.revision, event.template, nodes, facings)
    for account in ledger.accounts.values():
        node = chart.node_of(account.code)
        if node is None or node.normal_side != account.normal_side:
            raise Refusal(
                "account-outside-chart",
                "/nodes",
                f"account {account.id} with code {account.code} grows on the {account.normal_side} side",
            )
    result = {"ledger_id": ledger.id, "revision": event.revision}
    return Accepted([Emit(ledger.id, ledger.version + 1, event)], result)


def _nodes(command: AdoptChart) -> list[AdoptedNode]:
    """The nodes of the template and those of the command, by code; a node has the type of the one above it."""
    template = TEMPLATES[command.template].nodes if command.template is not None else ()
    found: dict[str, AdoptedNode] = {}
    for index, node in enumerate((*template, *command.nodes), start=-len(template)):
        if node.code in found:
            raise Refusal("chart-node-twice", f"/nodes/{index}/code")
        side = node.normal_side or NORMAL_SIDES[node.type]
        found[node.code] = AdoptedNode(code=node.code, type=node.type, name=node.name, normal_side=side)
    if not found:
        raise Refusal("chart-empty", "/nodes")
    own = {node.code: index for index, node in enumerate(command.nodes)}
    for code, adopted in found.items():
        above = nearest(code.rpartition(SEPARATOR)[0], found)
        if above is not None and found[above].type != adopted.type:
            to_blame = own.get(code, own.get(above))
            raise Refusal(
                "chart-type-conflict",
                f"/nodes/{to_blame}/type",
                f"{above} is of type {found[above].type}, {code} below it of type {adopted.type}",
            )
    return [found[code] for code in sorted(found)]


def _facings(command: AdoptChart, nodes: Sequence[AdoptedNode]) -> list[AdoptedFacing]:
    """The facings of the command, or else of the template; each side of each must mean some node."""
    if command.facings is None:
        template = TEMPLATES[command.template].facings if command.template is not None else ()
        return [AdoptedFacing(debit=f.debit, credit=f.credit) for f in template]
    for index, facing in enumerate(command.facings):
        for side, pattern in (("debit", facing.debit), ("credit", facing.credit)):
            if not any(covers(pattern, node.code) for node in nodes):
                raise Refusal("facing-matches-nothing", f"/facings/{index}/{side}")
    return [AdoptedFacing(debit=f.debit, credit=f.credit) for f in command.facings]


# --- what a chart asks of other commands


def require_place(ledger: Ledger, command: OpenAccount) -> None:
    """A new account must have its place in the ledger's chart, if it has one."""
    if ledger.chart is None:
        return
    node = ledger.chart.node_of(command.code)
    if node is None:
        raise Refusal("code-not-in-chart", "/code")
    if node.normal_side != command.normal_side:
        raise Refusal(
            "side-not-of-chart",
            "/normal_side",
            f"accounts of {node.code} grow on the {node.normal_side} side",
        )


def require_facing(ledger: Ledger, entries: Sequence[EntryInput | Entry], at: str) -> None:
    """Within each currency every debited account must be allowed to face every credited one."""
    accounts = ledger.accounts
    debits: dict[tuple[str, int], Account] = {}
    for entry in entries:
        if entry.side == "debit":
            account = accounts[entry.account_id]
            debits.setdefault((entry.currency, account.may_debit), account)
    seen: set[tuple[str, int]] = set()
    for index, entry in enumerate(entries):
        if entry.side == "debit":
            continue
        account = accounts[entry.account_id]
        key = entry.currency, account.may_credit
        if key in seen:
            continue
        seen.add(key)
        for (currency, may_debit), other in debits.items():
            if currency == entry.currency and not may_debit & account.may_credit:
                raise may_not_face(other, account, f"{at}/entries/{index}/account_id")


def may_not_face(debit: Account, credit: Account, pointer: str) -> Refusal:
    """No facing of the chart allows it."""
    return Refusal(
        "accounts-may-not-face",
        pointer,
        f"the chart allows no debit of {debit.code} against a credit of {credit.code}",
    )
