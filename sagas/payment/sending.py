"""The commands that the saga sends, and the ids they carry.

Two kinds. **Once only** (score, screen, place-hold, post-hold, post-transaction): sent again with the *same* id,
so a command that did arrive is answered from the store and has no second effect. **Asking** (void-hold,
withdraw-case and everything told to the payment service): sent again with a *new* id. The receiver refuses
what has already happened, which is an answer; the old id would be met with silence.

In the ledger a customer's account is a liability of the institution: its normal side is credit. Paying debits
the payer's account and credits the payee's; a refund debits the payee's and credits the payer's.
"""

from __future__ import annotations

from typing import NamedTuple

from nexafi.ids import derived_id, shard_of
from sagas.payment.flow import Flow, PaymentFlow, RefundFlow
from sagas.payment.policy import Policy
from schemas.ai.commands import ScorePayment
from schemas.common.base import Command
from schemas.common.outcomes import CommandIssued
from schemas.compliance.commands import ScreeningSubject, ScreenPayment, WithdrawCase
from schemas.ledger.commands import PlaceHold, PostHold, PostTransaction, VoidHold
from schemas.ledger.transactions import EntryInput, TransactionInput
from schemas.payments import commands as p

#: Reference of a refund's transaction in the ledger; by it the saga knows its own.
REFUND_REFERENCE = "refund/"


class Send(NamedTuple):
    """A command for a partner; ``key`` distinguishes it among the commands of one flow."""

    target: str
    key: str
    command: Command


def issued(send: Send, flow: Flow, policy: Policy) -> CommandIssued:
    """The event by which the relay sends the command."""
    return CommandIssued(
        target=send.target,
        shard=_shard(send.target, flow, policy),
        command_id=command_id(flow, send.key),
        command_type=send.command.TYPE,
        tenant=flow.tenant,
        saga_id=flow.payment_id,
        data=send.command.model_dump(mode="json"),
    )


def command_id(flow: Flow, key: str) -> str:
    """Id of the flow's command ``key``; the same whenever it is asked for."""
    return derived_id(flow.refund_id if isinstance(flow, RefundFlow) else flow.payment_id, key)


def _shard(target: str, flow: Flow, policy: Policy) -> int:
    match target:
        case "ledger":
            return shard_of(flow.ledger_id)
        case "payments":
            return shard_of(flow.payment_id)
        case "compliance":
            return shard_of(flow.payment_id) % policy.shards["compliance"]
        case _:
            return shard_of(flow.payer_account_id) % policy.shards["ai"]


# ------------------------------------------------------------------ once only


def score(f: PaymentFlow) -> Send:
    """Ask for the fraud score."""
    return Send(
        "ai",
        "score",
        ScorePayment(
            payment_id=f.payment_id,
            payer_account_id=f.payer_account_id,
            payee_account_id=f.payee_account_id,
            device_id=f.device_id,
            amount=f.amount,
            currency=f.currency,
        ),
    )


def screen(f: PaymentFlow) -> Send:
    """Ask for the screening of both parties."""
    subjects = [ScreeningSubject(**s) for s in f.subjects or []]
    return Send("compliance", "screen", ScreenPayment(payment_id=f.payment_id, subjects=subjects))


def place_hold(f: PaymentFlow) -> Send:
    """Reserve the payer's money for the payee."""
    return Send(
        "ledger",
        "hold",
        PlaceHold(
            ledger_id=f.ledger_id,
            debit_account_id=f.payer_account_id,
            credit_account_id=f.payee_account_id,
            amount=f.amount,
            currency=f.currency,
            expires_at=f.hold_expires_us,
            reference=f.payment_id,
            metadata={"payment_id": f.payment_id},
        ),
    )


def post_hold(f: PaymentFlow) -> Send:
    """Move the money."""
    return Send("ledger", "post", PostHold(ledger_id=f.ledger_id, hold_id=_known(f.hold_id)))


def move_back(f: RefundFlow) -> Send:
    """Move the refund's amount from the payee to the payer."""
    legs = ((f.payee_account_id, "debit"), (f.payer_account_id, "credit"))
    entries = [
        EntryInput.model_validate(
            {"account_id": account, "side": side, "amount": f.amount, "currency": f.currency}
        )
        for account, side in legs
    ]
    transaction = TransactionInput(
        entries=entries,
        reference=REFUND_REFERENCE + f.refund_id,
        metadata={"payment_id": f.payment_id, "refund_id": f.refund_id},
    )
    return Send("ledger", "move", PostTransaction(ledger_id=f.ledger_id, transaction=transaction))


# ------------------------------------------------------------------ asking: a new id each time


def void_hold(f: PaymentFlow, hold_id: str, reason: str) -> Send:
    """Release what is held; refused when nothing is held any more."""
    command = VoidHold(ledger_id=f.ledger_id, hold_id=hold_id, reason=reason)
    return Send("ledger", f"void/{f.number}", command)


def withdraw_case(f: PaymentFlow, reason: str) -> Send:
    """Close the case without a decision; refused when it is closed."""
    return Send("compliance", f"withdraw/{f.number}", WithdrawCase(case_id=_known(f.case_id), reason=reason))


def record_risk(f: PaymentFlow) -> Send:
    """Tell the payment its score."""
    command = p.RecordRisk.model_validate(
        {"payment_id": f.payment_id, "score_bp": f.score_bp, "decision": f.risk}
    )
    return Send("payments", f"risk/{f.number}", command)


def record_screening(f: PaymentFlow, outcome: str) -> Send:
    """Tell the payment what screening found."""
    command = p.RecordScreening.model_validate(
        {"payment_id": f.payment_id, "outcome": outcome, "case_id": f.case_id}
    )
    return Send("payments", f"screening-{outcome}/{f.number}", command)


def record_hold(f: PaymentFlow) -> Send:
    """Tell the payment that its money is held."""
    command = p.RecordHold(payment_id=f.payment_id, hold_id=_known(f.hold_id))
    return Send("payments", f"held/{f.number}", command)


def record_posted(f: PaymentFlow) -> Send:
    """Tell the payment that its money moved."""
    command = p.RecordPosted(payment_id=f.payment_id, transaction_id=_known(f.transaction_id))
    return Send("payments", f"posted/{f.number}", command)


def settle(f: PaymentFlow) -> Send:
    """Confirm settlement: the book rail settles when posted."""
    return Send("payments", f"settle/{f.number}", p.SettlePayment(payment_id=f.payment_id))


def fail(f: PaymentFlow) -> Send:
    """End the payment without money."""
    assert f.ending is not None
    command = p.FailPayment.model_validate(
        {
            "payment_id": f.payment_id,
            "outcome": f.ending.outcome,
            "reason": f.ending.reason,
            "detail": f.ending.detail[:1024],
        }
    )
    return Send("payments", f"fail/{f.number}", command)


def record_refund(f: RefundFlow) -> Send:
    """Tell the payment what became of its refund."""
    command = p.RecordRefund(
        payment_id=f.payment_id,
        refund_id=f.refund_id,
        transaction_id=f.transaction_id,
        reason=f.reason,
    )
    return Send("payments", f"record/{f.number}", command)


def _known(value: str | None) -> str:
    assert value is not None, "the saga sends this only after it has heard the id"
    return value
