"""The properties can see: each planted bug is caught by the same random programs that the sound ledger passes."""

from __future__ import annotations

from random import Random
from typing import Any, NamedTuple

import pytest

from events.decider import Decider
from services.ledger.domain import LedgerDecider
from tests.unit.ledger.mutants import mutant
from tests.unit.ledger.program import Step, make_program, run


class Bug(NamedTuple):
    """One edit of ``services/ledger/<module>.py``."""

    what: str
    module: str
    before: str
    after: str


BUGS = [
    Bug("skips the floor", "posting", "if most > account.high or least < account.low:", "if least < account.low:"),
    Bug("skips the ceiling", "posting", "if most > account.high or least < account.low:", "if most > account.high:"),
    Bug("forgets reservations", "posting", "balance - account.pending_credits, balance + account.pending_debits", "balance, balance"),
    Bug("ignores the batch so far", "posting", "account.balance + change + moved.get(account, 0)", "account.balance + change"),
    Bug("takes any currency", "posting", "if currency != account.currency:", "if False:"),
    Bug("takes lopsided sums", "posting", "        if rest:", "        if False:"),
    Bug("records one side", "posting", "for e in transaction.entries", "for e in transaction.entries[:1]"),
    Bug("skips conditions", "posting", "if entry.condition is not None:", "if False:"),
    Bug("condition ignores the batch", "posting", "balance += moved if account", "balance += 0 if account"),
    Bug("mirror is no mirror", "posting", 'side="credit" if e.side == "debit" else "debit"', "side=e.side"),
    Bug("batch forgets", "domain", "moved[account] = moved.get(account, 0) + change", "moved[account] = change"),
    Bug("reverses twice", "domain", "if original.reversed_by is not None:", "if False:"),
    Bug("reverses another ledger's", "domain", "or original.ledger_id != ledger.id", ""),
    Bug("reversal skips limits", "domain", 'keep_limits(net_changes(ledger, entries, ""), _NOTHING, entries, "")', 'net_changes(ledger, entries, "")'),
    Bug("gives a code twice", "domain", "if command.code in ledger.codes:", "if False:"),
    Bug("closes with money inside", "domain", "if account.balance:", "if False:"),
    Bug("closes under a hold", "domain", "if account.open_holds:", "if False:"),
    Bug("sets limits unseen", "domain", "require_within(account.reach, command.floor, command.ceiling)", "account.reach"),
    Bug("lets strangers in", "lookup", "or ledger.tenant != ctx.tenant", ""),
    Bug("lets anyone at a payment's hold", "lookup", "if saga_id and saga_id != ctx.saga_id:", "if False:"),
    Bug("holds what is not there", "holds", "if least < account.low or most > account.high:", "if False:"),
    Bug("holds without counting the other side", "holds", "in ((debit, command.amount, 0), (credit, 0, command.amount))", "in ((debit, command.amount, 0),)"),
    Bug("posts after the deadline", "holds", "if hold.expires_at is not None and hold.expires_at <= ctx.now_us:", "if False:"),
    Bug("posts at the very deadline", "holds", "hold.expires_at is not None and hold.expires_at <= ctx.now_us", "hold.expires_at is not None and hold.expires_at < ctx.now_us"),
    Bug("posts more than was held", "holds", "if rest < 0:", "if False:"),
    Bug("forgets to release the rest", "holds", "released=rest if command.final else 0", "released=0"),
    Bug("keeps the rest of a final part", "holds", "remaining=0 if command.final else rest", "remaining=rest"),
    Bug("final or not is the same", "holds", "        remaining=0 if command.final else rest,\n        released=rest if command.final else 0,", "        remaining=0,\n        released=rest,"),
    Bug("expires early", "holds", "is not None and first[0] <= now_us", "is not None"),
    Bug("lets a caller expire", "holds", "if ctx.command_id != expiry_id(command.hold_id):", "if False:"),
    Bug("holds with a past deadline", "holds", "command.expires_at <= ctx.now_us", "command.expires_at < ctx.now_us"),
    Bug("posts one side", "evolve", "accounts[entry.account_id].balance -= entry.amount", "pass"),
    Bug("posting keeps the reservation", "evolve", "hold.release(event.amount + event.released)", "hold.release(event.released or event.amount)"),
    Bug("metadata is dropped", "evolve", "account.metadata = event.metadata", "pass"),
    Bug("stream versions stand still", "evolve", "    account.limit(event.floor, event.ceiling)\n    account.version = meta.version", "    account.limit(event.floor, event.ceiling)"),
    Bug("reserves on one side", "state", "        self.debit.pending_debits += amount\n", ""),
    Bug("a hold counts on one account", "state", "for account in (self.debit, self.credit):", "for account in (self.debit,):"),
    Bug("limits are not turned to the normal side", "state", 'return (least, most) if self.normal_side == "debit" else (-most, -least)', "return (least, most)"),
    Bug("snapshot loses the floor", "snapshot", "_packed(a.floor)", "None"),
    Bug("snapshot loses who holds", "snapshot", "h.saga_id, h.version", '"", h.version'),
    Bug("snapshot loses closed codes", "snapshot", "{code: account_id for account_id, code in closed}", "{}"),
    Bug("snapshot loses deadlines", "snapshot", "state.add_deadline(ledger_id, hold)", "pass"),
    Bug("closed holds are forgotten", "recall", "ClosedHold(first.ledger_id, isinstance(last, HoldExpired))", "ClosedHold(first.ledger_id, False)"),
]  # fmt: skip

PROGRAMS = 100
#: Of the run's own checks, or of a rule that meets what it thought impossible.
CAUGHT = (AssertionError, KeyError, ValueError)


@pytest.fixture(scope="module")
def programs() -> list[list[Step]]:
    """The same programs in each run, of the kind that ``test_properties.py`` runs."""
    rng = Random(7)
    return [make_program(rng, 40) for _ in range(PROGRAMS)]


def assert_sound(decider: Decider[Any], programs: list[list[Step]]) -> None:
    """The property of ``test_properties.py``."""
    for program in programs:
        run(decider, program, [5, 11, 17])


def test_the_sound_ledger_passes_all_programs(programs: list[list[Step]]) -> None:
    assert len(programs) == PROGRAMS
    assert_sound(LedgerDecider(), programs)


@pytest.mark.parametrize("bug", BUGS, ids=[bug.what.replace(" ", "-") for bug in BUGS])
def test_planted_bug_is_caught(bug: Bug, programs: list[list[Step]]) -> None:
    with mutant(bug.module, bug.before, bug.after) as decider, pytest.raises(CAUGHT):
        assert_sound(decider, programs)


def test_the_loader_of_mutants_is_not_what_fails() -> None:
    with mutant("posting", "the entries of a transaction happen together", "they happen together") as decider:
        assert type(decider) is not LedgerDecider
        run(decider, [], [0])
    from services.ledger import domain

    assert domain.LedgerDecider is LedgerDecider, "the sound modules are back"
