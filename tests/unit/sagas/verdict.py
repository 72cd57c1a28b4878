"""What must be true of a world that came to rest, whatever happened in it."""

from __future__ import annotations

from collections import Counter, defaultdict

from schemas.ledger import events as le
from schemas.payments import events as pe
from schemas.sagas.events import SagaEnded
from tests.unit.sagas.node import SHARD
from tests.unit.sagas.world import World


def assert_sound(world: World) -> Counter[str]:
    """Every promise about payments; how many ended in which way."""
    assert_every_payment_ended_once(world)
    assert_money_agrees(world)
    assert_refunds_agree(world)
    assert_nothing_is_left(world)
    assert_no_ending_leaves_a_hold(world)
    assert_tokens_reach(world)
    for node in world.nodes:
        node.assert_replay_equal()
    return Counter(e.event.outcome for e, _, _ in world.saga.log if isinstance(e.event, SagaEnded))


def assert_every_payment_ended_once(world: World) -> None:
    """One terminal event for each payment, and its saga says the same."""
    initiated, ends, sagas = set(), Counter[str](), Counter[str]()
    outcome: dict[str, str] = {}
    for emit, _, _ in world.payments.log:
        match emit.event:
            case pe.PaymentInitiated():
                initiated.add(emit.stream)
            case pe.PaymentSettled():
                ends[emit.stream] += 1
                outcome[emit.stream] = "settled"
            case pe.PaymentFailed(outcome=how):
                ends[emit.stream] += 1
                outcome[emit.stream] = how
    for emit, _, _ in world.saga.log:
        if isinstance(emit.event, SagaEnded) and emit.stream == emit.event.saga_id:
            sagas[emit.stream] += 1
            assert outcome[emit.stream] == emit.event.outcome
    assert ends == Counter(initiated)
    assert sagas == Counter(initiated)


def assert_money_agrees(world: World) -> None:
    """Captured = posted: one transaction of exactly the amount for a settled payment, none for another."""
    hold_of = {
        e.event.hold_id: e.event.reference
        for e, _, _ in world.ledger.log
        if isinstance(e.event, le.HoldPlaced)
    }
    posted: dict[str, list[int]] = defaultdict(list)
    total = Counter[str]()
    for emit, _, _ in world.ledger.log:
        if isinstance(emit.event, le.TransactionPosted):
            for entry in emit.event.entries:
                total[entry.currency] += entry.amount * (1 if entry.side == "debit" else -1)
            if emit.event.hold_id:
                payment = hold_of[emit.event.hold_id]
                assert payment is not None
                posted[payment].append(emit.event.entries[0].amount)
    assert not any(total.values())
    amounts = {
        e.stream: e.event.amount for e, _, _ in world.payments.log if isinstance(e.event, pe.PaymentInitiated)
    }
    settled = {e.stream for e, _, _ in world.payments.log if isinstance(e.event, pe.PaymentSettled)}
    assert posted == {payment: [amounts[payment]] for payment in settled}


def assert_refunds_agree(world: World) -> None:
    """Each refund ends once; what was refunded was moved, and never more than was captured."""
    captured: dict[str, int] = {}
    wanted: dict[str, int] = {}
    done, failed = Counter[str](), Counter[str]()
    given_back = Counter[str]()
    for emit, _, _ in world.payments.log:
        match emit.event:
            case pe.RefundRequested(refund_id=refund_id, amount=amount, captured=total):
                wanted[refund_id], captured[emit.stream] = amount, total
            case pe.RefundSettled(refund_id=refund_id, amount=amount):
                done[refund_id] += 1
                given_back[emit.stream] += amount
                assert amount == wanted[refund_id]
                assert given_back[emit.stream] <= captured[emit.stream]
            case pe.RefundFailed(refund_id=refund_id):
                failed[refund_id] += 1
    assert done + failed == Counter(wanted.keys())
    moved = {
        t.reference.removeprefix("refund/"): t.entries[0].amount
        for e, _, _ in world.ledger.log
        if isinstance(t := e.event, le.TransactionPosted)
        and (t.reference or "").startswith("refund/")
        and t.reference
    }
    assert moved == {refund: wanted[refund] for refund in done}


def assert_nothing_is_left(world: World) -> None:
    """No hold, no running saga, no payment under way, no case of an ended payment."""
    closed = {
        e.stream
        for e, _, _ in world.ledger.log
        if isinstance(e.event, le.HoldPosted | le.HoldVoided | le.HoldExpired)
    }
    placed = Counter(e.event.reference for e, _, _ in world.ledger.log if isinstance(e.event, le.HoldPlaced))
    assert {e.stream for e, _, _ in world.ledger.log if isinstance(e.event, le.HoldPlaced)} == closed
    assert all(n == 1 for n in placed.values()), "a payment was held twice"
    assert not world.saga.state.flows
    assert not world.payments.state.under_way
    assert not world.payments.state.refunding
    assert "open" not in world.cases.values()


def assert_no_ending_leaves_a_hold(world: World) -> None:
    """When a payment is told that it ended without money, its hold is closed already; expiry is no excuse."""
    ended = {m.stream: m.time_us for e, m, _ in world.payments.log if isinstance(e.event, pe.PaymentFailed)}
    open_holds: dict[str, str | None] = {}
    for emit, meta, _ in world.ledger.log:
        match emit.event:
            case le.HoldPlaced(reference=payment_id):
                open_holds[emit.stream] = payment_id
            case le.HoldPosted() | le.HoldVoided() | le.HoldExpired():
                payment_id = open_holds.pop(emit.stream)
                assert payment_id is not None
                assert meta.time_us <= ended.get(payment_id, meta.time_us)


def assert_tokens_reach(world: World) -> None:
    """The token of an ended saga covers its payment's last event and its transaction."""
    last: dict[str, int] = {}
    for emit, meta, kind in world.payments.log:
        if kind in ("payments.payment-settled.v1", "payments.payment-failed.v1"):
            last[emit.stream] = meta.position
    money = {
        m.saga_id: m.position
        for e, m, _ in world.ledger.log
        if isinstance(e.event, le.TransactionPosted) and e.event.hold_id
    }
    for emit, _, _ in world.saga.log:
        if isinstance(emit.event, SagaEnded) and emit.stream == emit.event.saga_id:
            token = emit.event.token
            assert token[f"payments/{SHARD}"] >= last[emit.stream]
            if emit.event.outcome == "settled":
                assert token[f"ledger/{SHARD}"] >= money[emit.stream]
