"""The rules of transaction templates: defining one, and posting what it makes of balances and variables."""

from __future__ import annotations

from collections.abc import Collection

from events.decider import Accepted, Context, Emit
from schemas.common.base import MAX_METADATA
from schemas.ledger.templates import ApplyTemplate, DefineTemplate, TemplateDefined
from schemas.ledger.transactions import EntryInput, TransactionInput
from services.ledger.exchange import posted
from services.ledger.lookup import owned
from services.ledger.program import Run, compiled
from services.ledger.reasons import Refusal
from services.ledger.state import Ledger, State

#: Templates of a ledger, each in its newest version: they stay in memory.
MAX_TEMPLATES = 200
_entry = EntryInput.maker()
_transaction = TransactionInput.maker()


def define_template(command: DefineTemplate, state: State, ctx: Context) -> Accepted:
    """A template that means something: its variables are declared and used, its accounts exist, its shares fit."""
    ledger = owned(command.ledger_id, state, ctx)
    known = ledger.templates.get(command.name)
    if known is None and len(ledger.templates) >= MAX_TEMPLATES:
        raise Refusal("too-many-templates", "/name")
    version = 1 if known is None else known.version + 1
    compiled(command.template, version, ledger)
    template_id = ctx.new_id("template")
    event = TemplateDefined(
        ledger_id=ledger.id,
        template_id=template_id,
        name=command.name,
        version=version,
        template=command.template,
    )
    return Accepted([Emit(template_id, 1, event)], {"template_id": template_id, "version": version})


def apply_template(command: ApplyTemplate, state: State, ctx: Context) -> Accepted:
    """One transaction, weighed like any other; or, as a dry run, what it would be."""
    ledger = owned(command.ledger_id, state, ctx)
    program = ledger.templates.get(command.name)
    if program is None:
        raise Refusal("template-not-found", "/name")
    if command.version is not None and command.version != program.version:
        raise Refusal("template-changed", "/version", f"the ledger has version {program.version}")
    _require_all(command.accounts, program.template.accounts, "/accounts")
    _require_all(command.amounts, program.template.amounts, "/amounts")
    if len(command.metadata | {"template": ""}) > MAX_METADATA:
        raise Refusal("metadata-too-large", "/metadata")
    run = Run(ledger, command.accounts, command.amounts)
    program.run(run)
    if not run.legs:
        raise Refusal("nothing-to-move", "/amounts")
    transaction = _made(command, run, program.version)
    transaction_id = ctx.new_id("transaction")
    emit = posted(ledger, transaction_id, transaction, ctx, run.pointers)
    if command.dry_run:
        legs = [{"account_id": a.id, "side": s, "amount": n, "currency": a.currency} for s, a, n in run.legs]
        return Accepted([], {"version": program.version, "entries": legs})
    return Accepted([emit], {"transaction_id": transaction_id, "version": program.version})


def _made(command: ApplyTemplate, run: Run, version: int) -> TransactionInput:
    """Built unchecked: amounts are positive and accounts open, since they come from a run."""
    entries = [
        _entry(
            {
                "account_id": account.id,
                "side": side,
                "amount": amount,
                "currency": account.currency,
                "condition": None,
            }
        )
        for side, account, amount in run.legs
    ]
    return _transaction(
        {
            "entries": entries,
            "effective_at": command.effective_at,
            "reference": command.reference,
            "description": command.description,
            "metadata": command.metadata | {"template": f"{command.name}/{version}"},
        }
    )


def _require_all(given: Collection[str], declared: list[str], at: str) -> None:
    for name in declared:
        if name not in given:
            raise Refusal("variable-missing", f"{at}/{name}")
    for name in given:
        if name not in declared:
            raise Refusal("variable-unknown", f"{at}/{name}")


def take_template(ledger: Ledger, event: TemplateDefined) -> None:
    """Compile what was defined, and keep it. What history has was valid when it was defined, and codes are for ever."""
    ledger.templates[event.name] = compiled(event.template, event.version, ledger)
