"""Fit the built-in baseline: ``python -m services.ai.train_baseline``. Needs the extra ``dev`` (onnx).

The data are a seeded simulation, written below: ordinary customers and businesses with their habits, and three kinds of fraud
(bursts, amounts far above history on new beneficiaries, devices shared by many payers). The model shows that
the path from features to an explained decision works; **no quality on real payments is claimed**.
"""

from __future__ import annotations

import json
import sys
from hashlib import sha256
from typing import Any, Final

import numpy as np

from services.ai.features import DAY_US, FEATURES, HOUR_US, MINUTE_US, Window
from services.ai.scoring import BUILT_IN

SEED: Final = 20_260_101
CUSTOMERS: Final = 400
BUSINESSES: Final = 60
DAYS: Final = 14
START_US: Final = 1_767_225_600_000_000
L2: Final = 1.0
ROUNDS: Final = 60
#: Of the legitimate payments of the simulation at most this part is denied.
FALSE_ALARMS: Final = 0.002


def simulate(rng: np.random.Generator) -> list[tuple[int, str, str, str | None, int, int]]:
    """(time_us, payer, payee, device, amount, label) in order of time."""
    rows: list[tuple[int, str, str, str | None, int, int]] = []
    for c in range(CUSTOMERS):
        mean, rate = float(rng.lognormal(8.5, 0.8)), float(rng.uniform(0.3, 3.0))
        friends = [f"b{rng.integers(0, 300)}" for _ in range(rng.integers(2, 8))]
        for day in range(DAYS):
            for _ in range(rng.poisson(rate)):
                time = START_US + day * DAY_US + int(rng.integers(6 * HOUR_US, 23 * HOUR_US))
                payee = str(rng.choice(friends)) if rng.random() < 0.8 else f"b{rng.integers(0, 300)}"
                amount = max(1, int(rng.lognormal(np.log(mean), 0.6)))
                rows.append((time, f"p{c}", payee, f"d{c}", amount, 0))
    # Businesses pay wages and suppliers one after another: many payments in minutes are not fraud by themselves.
    for b in range(BUSINESSES):
        mean = float(rng.lognormal(9.5, 0.8))
        staff = [f"e{b}-{rng.integers(0, 60)}" for _ in range(40)]
        for day in range(0, DAYS, int(rng.integers(1, 5))):
            begin = START_US + day * DAY_US + int(rng.integers(8 * HOUR_US, 18 * HOUR_US))
            for i in range(int(rng.integers(5, 60))):
                amount = max(1, int(rng.lognormal(np.log(mean), 0.4)))
                device = f"o{b}" if rng.random() < 0.5 else None
                payee = staff[i % len(staff)] if rng.random() < 0.9 else staff[0]
                rows.append(
                    (begin + i * int(rng.integers(1, 20)) * 500_000, f"o{b}", payee, device, amount, 0)
                )
    for f in range(60):
        begin = START_US + int(rng.integers(3, DAYS)) * DAY_US + int(rng.integers(0, 24 * HOUR_US))
        victim, kind = f"p{rng.integers(0, CUSTOMERS)}", f % 3
        for i in range(int(rng.integers(6, 14))):
            payer = f"p{rng.integers(0, CUSTOMERS)}" if kind == 2 else victim
            amount = int(rng.lognormal(8.5, 0.5)) if kind != 1 else int(rng.lognormal(12.5, 0.4))
            rows.append((begin + i * MINUTE_US // 8, payer, f"m{f}", f"x{f}", max(1, amount), 1))
    return sorted(rows, key=lambda row: row[0])


def fit(x: np.ndarray[Any, Any], y: np.ndarray[Any, Any]) -> tuple[np.ndarray[Any, Any], float]:
    """Weights and intercept of a ridge logistic regression, by Newton's method."""
    design = np.hstack([x, np.ones((len(x), 1))])
    theta = np.zeros(design.shape[1])
    penalty = np.full(design.shape[1], L2)
    penalty[-1] = 0.0
    for _ in range(ROUNDS):
        p = 1 / (1 + np.exp(-np.clip(design @ theta, -30, 30)))
        gradient = design.T @ (p - y) + penalty * theta
        hessian = (design * (p * (1 - p))[:, None]).T @ design + np.diag(penalty)
        step = np.linalg.solve(hessian, gradient)
        theta -= step
        if np.abs(step).max() < 1e-10:
            break
    return theta[:-1], float(theta[-1])


def main() -> None:
    """Simulate, fit, export, and write the card."""
    import onnx
    from onnx import TensorProto, helper

    rng = np.random.default_rng(SEED)
    window, rows, labels = Window(), [], []
    for time, payer, payee, device, amount, label in simulate(rng):
        features = window.features(payer, payee, device, amount, time)
        rows.append([features[name] for name in FEATURES])
        labels.append(label)
        window.note(payer, payee, device, amount, time)
    x, y = np.log1p(np.array(rows, dtype=np.float64)), np.array(labels, dtype=np.float64)
    weights, intercept = fit(x, y)
    # What the card says is what the graph computes: both are float32.
    w32, b32 = weights.astype(np.float32), np.float32(intercept)
    scores = 1 / (1 + np.exp(-(x @ w32 + b32)))
    threshold = float(np.quantile(scores[y == 0], 1 - FALSE_ALARMS))
    count = len(FEATURES)
    graph = helper.make_graph(
        [
            helper.make_node("Add", ["features", "one"], ["shifted"]),
            helper.make_node("Log", ["shifted"], ["logs"]),
            helper.make_node("Gemm", ["logs", "weights", "bias"], ["logit"]),
            helper.make_node("Sigmoid", ["logit"], ["probability"]),
        ],
        "fraud-baseline",
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, [None, count])],
        [helper.make_tensor_value_info("probability", TensorProto.FLOAT, [None, 1])],
        [
            helper.make_tensor("one", TensorProto.FLOAT, [1], [1.0]),
            helper.make_tensor("weights", TensorProto.FLOAT, [count, 1], w32.tolist()),
            helper.make_tensor("bias", TensorProto.FLOAT, [1], [float(b32)]),
        ],
    )
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 13)], producer_name="nexafi", ir_version=8
    )
    onnx.checker.check_model(model)
    data = model.SerializeToString()
    caught = float((scores[y == 1] >= threshold).mean())
    card = {
        "name": "fraud-baseline",
        "version": "1",
        "sha256": sha256(data).hexdigest(),
        "kind": "ridge logistic regression over log(1 + x)",
        "threshold_bp": round(threshold * 10_000),
        "features": FEATURES,
        "weights": [round(float(w), 9) for w in w32],
        "means": [round(float(m), 9) for m in x.mean(axis=0)],
        "intercept": round(float(b32), 9),
        "trained_on": f"seeded simulation ({SEED}): {len(y)} payments, {int(y.sum())} of them fraud",
        "in_sample_recall": round(caught, 4),
        "intended_use": "Shows the path from features to an explained decision. No quality on real payments is claimed.",
    }
    BUILT_IN.mkdir(parents=True, exist_ok=True)
    (BUILT_IN / "model.onnx").write_bytes(data)
    (BUILT_IN / "model.json").write_text(json.dumps(card, indent=2) + "\n")
    shown = {k: card[k] for k in ("sha256", "threshold_bp", "trained_on", "in_sample_recall")}
    sys.stdout.write(json.dumps(shown, indent=2) + "\n")


if __name__ == "__main__":
    main()
