"""Fits the baseline fraud model and writes ``models/fraud-baseline``: ``python -m services.ai.train_baseline``.

A scorecard: every feature is cut at a few values chosen by hand, a payment collects the points of each cut that it reaches,
and their sum is the log-odds of fraud. Points are fitted by logistic regression and none may be negative, so no feature
that grows can lower the score and every reason means what it says. Points are rounded to whole basis points *before* the model
is measured, and the ONNX graph computes with 64-bit integers only: the same score on every machine.

Fitted to the seeded world of :mod:`services.ai.simulator`; it makes no claim about real payments. Needs ``onnx``
from the ``dev`` extra.
"""

from __future__ import annotations

import hashlib
import json
import sys
from itertools import pairwise
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from services.ai.artefact import BUNDLED, CARD_FILE, METADATA_KEY
from services.ai.features import FEATURES, Memory, Subject, features_of, take_in
from services.ai.onnx_scorer import INPUT, OUTPUTS
from services.ai.simulator import Simulated, simulate

NAME: Final = "fraud-baseline"
VERSION: Final = "1"
FIT_SEED: Final = 20_260_101
TEST_SEED: Final = 20_260_102
WARM_UP_DAYS: Final = 7
L2: Final = 4.0
ROUNDS: Final = 4_000
#: Of the good payments of the test world at most this share is denied, in bp.
FALSE_ALARMS_BP: Final = 20
MISSING: Final = -(2**62)
NEVER: Final = 2**63 - 1
#: The sigmoid as a table: log-odds in steps of this many bp, up to this many each way.
STEP_BP: Final = 25
FURTHEST_BP: Final = 100_000

#: Feature -> values from which on it adds points.
CUTS: Final[dict[str, tuple[int, ...]]] = {
    "amount_to_mean_bp": (30_000, 60_000, 120_000, 250_000, 500_000),
    "amount_deviation_centi": (150, 250, 350, 500, 700),
    "amount_tenant_deviation_centi": (200, 300, 400, 500),
    "payer_burst_bp": (60_000, 120_000, 250_000, 500_000),
    "payee_is_new": (1,),
    "device_is_new": (1,),
    "device_count_1m": (4, 8, 15, 30),
    "device_count_1h": (6, 12, 24, 48),
    "device_payers_24h": (2, 3, 5, 8),
    "payee_payers_24h": (3, 6, 12),
    "is_night": (1,),
}

#: Log-odds that one cut of these may add at most. They say where a payment stands and not what is wrong with it: a first
#: payment at night to a shop that hundreds pay must never be denied for that alone.
MOST: Final[dict[str, float]] = {"payee_is_new": 3.0, "is_night": 0.5, "payee_payers_24h": 0.5}

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def snapshots(payments: list[Simulated]) -> tuple[Ints, Ints, list[str]]:
    """Features as the service would see them, 1 for fraud, and the kind of fraud; after the warm-up."""
    memory, rows, kinds = Memory(), [], []
    begin = payments[0].time_us + WARM_UP_DAYS * 86_400_000_000
    for p in payments:
        subject = Subject("simulated", p.payer, p.payee, p.device, p.amount, "EUR")
        if p.time_us >= begin:
            found = features_of(memory, subject, p.time_us)
            rows.append([found.get(name, MISSING) for name in CUTS])
            kinds.append(p.kind)
        # What fraud was caught is not known to the simulation: every payment becomes a habit, which is the harder case.
        take_in(memory, subject, p.time_us, allowed=True)
    labels = np.array([bool(kind) for kind in kinds], dtype=np.int64)
    return np.array(rows, dtype=np.int64), labels, kinds


def reached(x: Ints) -> Floats:
    """1 for every cut that a payment reaches."""
    columns = [x[:, i] >= cut for i, name in enumerate(CUTS) for cut in CUTS[name]]
    return np.stack(columns, axis=1).astype(np.float64)


def ceilings() -> Floats:
    """Most points of every cut."""
    return np.array([MOST.get(name, np.inf) for name, cuts in CUTS.items() for _ in cuts])


def fit(design: Floats, labels: Ints, most: Floats) -> tuple[Floats, float]:
    """Points from 0 to ``most`` and the base, by accelerated projected gradient on the penalised log-loss.

    Payments that reach the same cuts are one row with a weight: there are a few thousand different ones.
    """
    rows, which = np.unique(design, axis=0, return_inverse=True)
    weight = np.bincount(which.ravel()).astype(np.float64)
    y = np.bincount(which.ravel(), weights=labels.astype(np.float64)) / weight
    n = float(weight.sum())
    share = float(labels.mean())
    points, base = np.zeros(design.shape[1]), float(np.log(share / (1 - share)))
    ahead, ahead_base, momentum = points.copy(), base, 1.0
    wide = np.hstack([rows, np.ones((len(rows), 1))])
    rate = 4.0 / float(np.linalg.norm((wide * weight[:, None]).T @ wide / n, 2) + 4 * L2 / n)
    for _ in range(ROUNDS):
        residual = weight * (1 / (1 + np.exp(-(rows @ ahead + ahead_base))) - y)
        new = np.clip(ahead - rate * (rows.T @ residual + L2 * ahead) / n, 0.0, most)
        new_base = ahead_base - rate * float(residual.sum()) / n
        following = (1 + np.sqrt(1 + 4 * momentum**2)) / 2
        ahead = new + (momentum - 1) / following * (new - points)
        ahead_base = new_base + (momentum - 1) / following * (new_base - base)
        points, base, momentum = new, new_base, following
    return points, base


def sigmoid_table() -> Ints:
    """Probability in bp for log-odds ``-FURTHEST_BP + i * STEP_BP``."""
    log_odds = np.arange(-FURTHEST_BP, FURTHEST_BP + 1, STEP_BP) / 10_000
    return np.clip(np.rint(10_000 / (1 + np.exp(-log_odds))), 1, 9_999).astype(np.int64)


def probabilities(log_odds_bp: Ints) -> Ints:
    """What the graph makes of log-odds."""
    clipped = np.clip(log_odds_bp, -FURTHEST_BP, FURTHEST_BP)
    return np.asarray(sigmoid_table()[(clipped + FURTHEST_BP) // STEP_BP])


def onnx_bytes(points: Ints, base: int, inputs: dict[str, Any]) -> bytes:
    """The graph: compare with the cuts, add points, look the probability up. Integers from end to end."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    most = max(len(cuts) for cuts in CUTS.values())
    cuts, weights, at = np.full((len(CUTS), most), NEVER), np.zeros((len(CUTS), most), np.int64), 0
    for i, each in enumerate(CUTS.values()):
        cuts[i, : len(each)] = each
        weights[i, : len(each)] = points[at : at + len(each)]
        at += len(each)
    constants = {
        "cuts": cuts[None].astype(np.int64),
        "points": weights[None],
        "base": np.array([base], np.int64),
        "least": np.array(-FURTHEST_BP, np.int64),
        "most": np.array(FURTHEST_BP, np.int64),
        "step": np.array([STEP_BP], np.int64),
        "sigmoid": sigmoid_table(),
        "last": np.array([2], np.int64),
        "second": np.array([1], np.int64),
    }
    node = helper.make_node
    nodes = [
        node("Unsqueeze", [INPUT, "last"], ["column"]),
        node("GreaterOrEqual", ["column", "cuts"], ["is_reached"]),
        node("Cast", ["is_reached"], ["reached"], to=TensorProto.INT64),
        node("Mul", ["reached", "points"], ["collected"]),
        node("ReduceSum", ["collected", "last"], [OUTPUTS[1]], keepdims=0),
        node("ReduceSum", [OUTPUTS[1], "second"], ["sum"], keepdims=0),
        node("Add", ["sum", "base"], ["log_odds"]),
        node("Clip", ["log_odds", "least", "most"], ["clipped"]),
        node("Sub", ["clipped", "least"], ["above_least"]),
        node("Div", ["above_least", "step"], ["place"]),
        node("Gather", ["sigmoid", "place"], [OUTPUTS[0]]),
    ]
    port = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        NAME,
        [port(INPUT, TensorProto.INT64, ["n", len(CUTS)])],
        [port(OUTPUTS[0], TensorProto.INT64, ["n"]), port(OUTPUTS[1], TensorProto.INT64, ["n", len(CUTS)])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 16)], producer_name="nexafi", ir_version=8
    )
    helper.set_model_props(model, {METADATA_KEY: json.dumps(inputs, separators=(",", ":"))})
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString())


def calibration(scores: Ints, labels: Ints) -> list[dict[str, int]]:
    """Of the payments in each band of scores: how many, their mean score and the true share of fraud, in bp."""
    bands = (0, 10, 100, 500, 2_000, 5_000, 8_000, 10_000)
    out = []
    for low, high in pairwise(bands):
        inside = (scores >= low) & (scores < high)
        if count := int(inside.sum()):
            true = int(labels[inside].sum())
            out.append(
                {
                    "from_bp": low,
                    "to_bp": high,
                    "payments": count,
                    "mean_score_bp": int(scores[inside].mean()),
                    "fraud_bp": 10_000 * true // count,
                }
            )
    return out


def measured(scores: Ints, labels: Ints, kinds: list[str], threshold: int) -> dict[str, Any]:
    """What the threshold does in the test world."""
    denied = scores >= threshold
    good, bad = labels == 0, labels == 1
    named = np.array(kinds)
    return {
        "world": f"simulator seed {TEST_SEED}, not seen in fitting",
        "payments": len(labels),
        "fraud_payments": int(bad.sum()),
        "good_denied_bp": 10_000 * int((denied & good).sum()) // int(good.sum()),
        "fraud_denied_bp": 10_000 * int((denied & bad).sum()) // int(bad.sum()),
        "fraud_denied_bp_by_kind": {
            kind: 10_000 * int(denied[named == kind].sum()) // int((named == kind).sum())
            for kind in sorted(set(kinds) - {""})
        },
    }


def train() -> tuple[bytes, dict[str, Any]]:
    """The model's bytes and its card."""
    x, labels, _ = snapshots(simulate(FIT_SEED))
    weights, intercept = fit(reached(x), labels, ceilings())
    points, base = np.rint(weights * 10_000).astype(np.int64), round(intercept * 10_000)
    test_x, test_labels, kinds = snapshots(simulate(TEST_SEED))
    scores = probabilities(reached(test_x).astype(np.int64) @ points + base)
    good = np.sort(scores[test_labels == 0])
    threshold = int(good[len(good) - 1 - len(good) * FALSE_ALARMS_BP // 10_000]) + 1
    inputs = {"features": list(CUTS), "missing": MISSING, "threshold_bp": threshold}
    data = onnx_bytes(points, base, inputs)
    card = {
        "name": NAME,
        "version": VERSION,
        "kind": "scorecard: logistic regression over cuts, no negative points, 64-bit integers",
        "file": "model.onnx",
        "sha256": hashlib.sha256(data).hexdigest(),
        "inputs": inputs,
        "units": {name: FEATURES[name] for name in CUTS},
        "intended_use": "Holds the place of a trained model: shows the way from events to an explained, recorded decision.",
        "limits": "Fitted to a seeded simulation (services/ai/simulator.py). No quality on real payments is claimed. "
        "Replace it before money depends on it.",
        "trained_on": f"simulator seed {FIT_SEED}: {len(labels)} payments, {int(labels.sum())} of them fraud",
        "calibration": calibration(scores, test_labels),
        "measured": measured(scores, test_labels, kinds, threshold),
    }
    return data, card


def main() -> None:
    """Train and write."""
    data, card = train()
    BUNDLED.mkdir(parents=True, exist_ok=True)
    (BUNDLED / card["file"]).write_bytes(data)
    (BUNDLED / CARD_FILE).write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")
    sys.stdout.write(
        json.dumps({k: card[k] for k in ("sha256", "inputs", "calibration", "measured")}, indent=1)
    )
    sys.stdout.write("\n")


if __name__ == "__main__":
    main()
