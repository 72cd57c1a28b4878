"""Screening and cases: what happens, what is refused, and that a party's name stays out of history."""

from __future__ import annotations

import pytest

from events.begun import MAX_BEGUN, BegunStreams, made_us
from events.decider import InvariantViolationError
from nexafi.ids import derived_id, make_id
from schemas.compliance.commands import DecideCase, ScreeningSubject, ScreenPayment, WithdrawCase
from schemas.compliance.events import CaseDecided, CaseOpened, CaseWithdrawn, ScreeningCompleted
from services.compliance.domain import MAX_CLOSED, ComplianceDecider, OpenCase, case_id, screening_id
from services.compliance.reasons import REASONS
from tests.kit.risk import PlantedScreener
from tests.kit.scenario import ROOT, START_US, Scenario

SHARD = 1
LISTED = "Osama Planted"
PARTY = "Agathe Unlisted"


def payment_id(number: int = 1, made: int = START_US) -> str:
    return make_id(made, 5, derived_id(ROOT, f"payment-{number}"))


def screen(number: int = 1, payee: str = PARTY, made: int = START_US) -> ScreenPayment:
    subjects = [
        ScreeningSubject(role="payer", name=PARTY, country="DE"),
        ScreeningSubject(role="payee", name=payee, country=None),
    ]
    return ScreenPayment(payment_id=payment_id(number, made), subjects=subjects)


@pytest.fixture
def port() -> PlantedScreener:
    return PlantedScreener({LISTED: ("99", "PLANTED, Osama")})


@pytest.fixture
def s(port: PlantedScreener) -> Scenario:
    return Scenario(ComplianceDecider(port), shard=SHARD)


def opened(s: Scenario, number: int = 1) -> str:
    return str(s.when(screen(number, LISTED), saga_id=payment_id(number)).accepted()["case_id"])


def test_nothing_alike_is_clear(s: Scenario, port: PlantedScreener) -> None:
    outcome = s.when(screen())
    outcome.then(ScreeningCompleted)
    assert outcome.accepted() == {"screening_id": screening_id(payment_id(), SHARD), "outcome": "clear"}
    event = s.log[0][0].event
    assert isinstance(event, ScreeningCompleted)
    assert (event.outcome, event.case_id, event.hits) == ("clear", None, [])
    assert (event.list_version, event.matcher, event.threshold_bp) == ("1" * 64, "planted/1", 8_000)
    assert port.asked == [(PARTY, "DE"), (PARTY, None)]
    s.assert_replay_equal()


def test_a_hit_opens_a_case(s: Scenario) -> None:
    outcome = s.when(screen(payee=LISTED))
    outcome.then(ScreeningCompleted, CaseOpened)
    assert outcome.accepted()["case_id"] == case_id(payment_id(), SHARD)
    event = s.log[1][0].event
    assert isinstance(event, CaseOpened)
    assert [(h.role, h.entry_id, h.score_bp) for h in event.hits] == [("payee", "99", 9_000)]
    assert event.hits[0].features[0].name == "party-name-covered"
    s.assert_replay_equal()


def test_a_partys_name_is_in_no_event_no_result_and_no_snapshot(s: Scenario) -> None:
    outcome = s.when(screen(payee=LISTED))
    s.when(DecideCase(case_id=case_id(payment_id(), SHARD), decision="block", note="seen"))
    for text in (
        *(e.event.to_json() for e, _ in s.log),
        s.decider.dump(s.state),
        repr(outcome.accepted()).encode(),
    ):
        for name in (PARTY, LISTED):
            assert name.encode() not in text


def test_a_payment_is_screened_once(s: Scenario, port: PlantedScreener) -> None:
    s.when(screen())
    asked = len(port.asked)
    s.when(screen(payee=LISTED)).rejected("payment-already-screened", "/payment_id")
    s.when(screen(), tenant="other").rejected("payment-not-found", "/payment_id")
    assert len(port.asked) == asked


def test_a_screening_that_left_memory_is_remembered(s: Scenario) -> None:
    s.when(screen())
    s.state = s.decider.load(s.decider.dump(s.state))
    assert s.decider.needs(screen(), s.state) == (screening_id(payment_id(), SHARD),)
    s.when(screen()).rejected("payment-already-screened")


def test_a_new_payment_needs_no_look_into_the_store(s: Scenario) -> None:
    assert s.decider.needs(screen(), s.state) == ()
    s.state = s.decider.load(s.decider.dump(s.state))
    assert s.decider.needs(screen(2), s.state) != ()
    s.when(screen(2))  # the first event after a snapshot: from here on memory is complete
    assert s.decider.needs(screen(3, made=s.now_us + 60_000_000), s.state) == ()
    assert s.decider.needs(screen(4, made=s.now_us), s.state) != ()  # clocks may differ by seconds


def test_an_id_of_another_kind_is_refused(s: Scenario) -> None:
    command = ScreenPayment(payment_id=ROOT, subjects=screen().subjects)
    s.when(command).rejected("payment-id-invalid", "/payment_id")


@pytest.mark.parametrize("decision", ["release", "block"])
def test_an_officer_decides_once(s: Scenario, decision: str) -> None:
    case = opened(s)
    command = DecideCase.model_validate(
        {"case_id": case, "decision": decision, "note": "n", "reason": "checked"}
    )
    s.when(command).then(CaseDecided.model_validate({**command.model_dump(), "payment_id": payment_id()}))
    s.when(command).rejected("case-closed", "/case_id")
    s.when(WithdrawCase(case_id=case, reason="cancelled"), saga_id=payment_id()).rejected("case-closed")
    assert s.state.open == {}
    s.assert_replay_equal()


def test_only_the_payments_saga_withdraws(s: Scenario) -> None:
    case = opened(s)
    command = WithdrawCase(case_id=case, reason="cancelled")
    s.when(command).rejected("saga-only")
    s.when(command, saga_id=payment_id(2)).rejected("saga-only")
    s.when(command, saga_id=payment_id()).then(CaseWithdrawn)
    s.when(DecideCase(case_id=case, decision="release")).rejected("case-closed")
    s.assert_replay_equal()


def test_another_tenant_is_told_nothing(s: Scenario) -> None:
    case = opened(s)
    decide = DecideCase(case_id=case, decision="release")
    s.when(decide, tenant="other").rejected("case-not-found", "/case_id")
    s.when(decide).then(CaseDecided)
    s.when(decide, tenant="other").rejected("case-not-found")
    s.when(DecideCase(case_id=payment_id(9), decision="release")).rejected("case-not-found")


def test_a_case_that_left_memory_is_still_closed(s: Scenario) -> None:
    case = opened(s)
    s.when(DecideCase(case_id=case, decision="block"))
    s.state = s.decider.load(s.decider.dump(s.state))
    assert s.state.closed == {}
    s.when(DecideCase(case_id=case, decision="release")).rejected("case-closed")
    assert len(s.state.closed) == 1 <= MAX_CLOSED


def test_open_cases_survive_a_snapshot(s: Scenario) -> None:
    case = opened(s)
    s.state = s.decider.load(s.decider.dump(s.state))
    s.when(DecideCase(case_id=case, decision="release")).then(CaseDecided)


def test_without_a_screener_nothing_is_cleared() -> None:
    with pytest.raises(InvariantViolationError, match="without a screener"):
        Scenario(ComplianceDecider(), shard=SHARD).when(screen())


def test_a_case_of_another_payment_is_noticed(s: Scenario) -> None:
    s.state.open[case_id(payment_id(), SHARD)] = OpenCase("acme", payment_id(2))
    with pytest.raises(InvariantViolationError):
        s.decider.check(s.state)


def test_every_reason_is_reached_here() -> None:
    source = __import__("pathlib").Path(__file__).read_text()
    assert [reason for reason in REASONS if f'"{reason}"' not in source] == []


def test_begun_streams_are_bounded_and_never_wrong() -> None:
    begun = BegunStreams(from_first_event=True, limit=3)
    for n in range(6):
        begun.note(f"s{n}", START_US + n * 60_000_000, "acme")
    assert len(begun) == 3 < MAX_BEGUN
    assert begun.tenant_of("s5") == "acme"
    assert begun.tenant_of("s0") is None
    assert not begun.can_tell("s0", payment_id(made=START_US))
    assert begun.can_tell("new", payment_id(made=START_US + 600_000_000))
    begun.recall("s0", "acme")
    assert begun.can_tell("s0", payment_id(made=START_US))
    assert made_us(payment_id(made=START_US)) == START_US
    with pytest.raises(ValueError, match="not a NexaFi id"):
        made_us(ROOT)
