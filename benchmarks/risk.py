"""What screening and scoring cost by themselves: no Kafka, no PostgreSQL, one core.

``figures()`` measures; ``python -m benchmarks.risk`` prints. Screening is measured with a cold cache of names. A score is
the whole decision: features, model, reasons and event.
"""

from __future__ import annotations

import json
import random
import time

from benchmarks import screening
from events.decider import Accepted, Context, EventMeta
from nexafi.ids import derived_id, make_id
from schemas.ai.commands import ScorePayment
from schemas.ai.events import PaymentScored
from services.ai.artefact import BUNDLED
from services.ai.domain import AiDecider
from services.ai.onnx_scorer import OnnxScorer
from services.compliance.lists import ofac
from services.compliance.matching.screener import ListScreener

SHARD = 1
START_US = 1_767_225_600_000_000
ROOT = "00000000-0000-5000-8000-000000000000"
ACCOUNTS = 2_000
NAMES = 10_000
PAYMENTS = 10_000
MODEL_CALLS = 10_000


def figures() -> dict[str, int]:
    """Names and scores per second and their times in microseconds; larger names say what they count."""
    source = ofac.load()
    before = time.perf_counter()
    screener = ListScreener(source)
    built_ms = round((time.perf_counter() - before) * 1000)
    names = screening.speed(screener, screening.mixed_names(source, NAMES))
    return {
        "screening_index_ms": built_ms,
        "screening_names_per_s": names.names_per_s,
        "screening_p50_us": names.p50_us,
        "screening_p95_us": names.p95_us,
        "screening_p99_us": names.p99_us,
        **_scoring(),
    }


def _scoring() -> dict[str, int]:
    draw = random.Random(7)
    scorer = OnnxScorer(BUNDLED)
    decider = AiDecider(scorer)
    state = decider.initial(SHARD)
    accounts = [make_id(START_US, SHARD, derived_id(ROOT, f"account/{n}")) for n in range(ACCOUNTS)]
    commands = [
        ScorePayment(
            payment_id=make_id(START_US, SHARD, derived_id(ROOT, n)),
            payer_account_id=draw.choice(accounts),
            payee_account_id=draw.choice(accounts),
            device_id=f"device-{draw.randrange(ACCOUNTS)}",
            amount=draw.randrange(100, 100_000),
            currency="EUR",
        )
        for n in range(PAYMENTS)
    ]
    took: list[int] = []
    snapshot: dict[str, int] = {}
    start = time.perf_counter_ns()
    for n, command in enumerate(commands):
        now = START_US + n * 3_000
        before = time.perf_counter_ns()
        decision = decider.decide(command, state, Context(now, SHARD, command.payment_id, "bench", "bench"))
        assert isinstance(decision, Accepted)
        emit = decision.events[0]
        decider.evolve(state, emit.event, EventMeta(emit.stream, emit.version, now, "bench", "bench"))
        took.append(time.perf_counter_ns() - before)
        assert isinstance(emit.event, PaymentScored)
        snapshot = emit.event.features
    total = time.perf_counter_ns() - start
    start = time.perf_counter_ns()
    for _ in range(MODEL_CALLS):
        scorer.score(snapshot)
    call_ns = (time.perf_counter_ns() - start) // MODEL_CALLS
    took.sort()
    return {
        "scores_per_s": PAYMENTS * 1_000_000_000 // total,
        "score_p50_us": took[PAYMENTS // 2] // 1000,
        "score_p95_us": took[PAYMENTS * 95 // 100] // 1000,
        "model_call_us": call_ns // 1000,
    }


if __name__ == "__main__":
    print(json.dumps(figures(), indent=2))
