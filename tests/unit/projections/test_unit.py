"""Rows that come back from the database are what the folds left there."""

from __future__ import annotations

from typing import Any

import pytest

from projections.payments.v1 import PAYMENTS
from projections.unit import Unit


@pytest.mark.parametrize("timeline", ['[{"event": "payment-initiated"}]', [{"event": "payment-initiated"}]])
def test_json_is_text_whatever_the_driver_made_of_it(timeline: Any) -> None:
    unit = Unit([PAYMENTS])
    row = dict.fromkeys([c.name for c in PAYMENTS.columns])
    row |= {c.name: "{}" for c in PAYMENTS.columns if not c.nullable}
    row |= {"payment_id": "p", "amount": 5, "refunded": 0, "refunding": 0, "timeline": timeline}
    unit.loaded("payments", ["p"], [row])
    assert isinstance(unit.row(PAYMENTS, "p")["timeline"], str)
    change = unit.take()
    assert change.tables[0].updated == 1
    assert b"payment-initiated" in change.tables[0].update
