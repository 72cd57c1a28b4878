"""Rule: what decides is pure. Time, ids and identity arrive as arguments, so that a replay gives the same again."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.kit.purity import PURE_OURS, impurities, pure_modules
from tests.kit.source import ROOT, python_files, relative

#: Services whose domain adds or divides money. Scores of a model or of a name match are not money.
MONEY = {"services/ledger", "services/payments", "sagas"}


def domains() -> list[Path]:
    """Every ``domain.py`` of a service, and every module of a saga that reacts."""
    services = [p for p in python_files("services") if p.name == "domain.py"]
    return services + [p for p in python_files("sagas") if p.name in {"domain.py", "react.py", "decider.py"}]


def test_every_service_has_a_domain_that_is_pure() -> None:
    wrong: list[str] = []
    for domain in domains():
        money = any(relative(domain).startswith(f"{room}/") for room in MONEY)
        for module in pure_modules(domain):
            wrong += impurities(module, money=money)
    assert wrong == []


def test_what_domains_stand_on_is_pure_as_well() -> None:
    wrong: list[str] = []
    for module in PURE_OURS:
        path = ROOT / Path(*module.split(".")).with_suffix(".py")
        if path.is_file():
            wrong += impurities(path, money=False)
    assert wrong == []


def test_each_service_folder_has_a_domain() -> None:
    folders = {p.name for p in (ROOT / "services").iterdir() if (p / "__init__.py").is_file()}
    assert folders == {p.parent.name for p in domains() if relative(p).startswith("services/")}


def test_money_is_never_a_float_in_contracts() -> None:
    wrong = [
        line for path in python_files("schemas") for line in impurities(path, money=True) if "float" in line
    ]
    assert wrong == []


@pytest.mark.parametrize(
    ("code", "what"),
    [
        ("import asyncio", "imports asyncio"),
        ("import time", "imports time"),
        ("from random import choice", "imports random"),
        ("from datetime import datetime", "imports datetime"),
        ("import sqlalchemy as sa", "imports sqlalchemy"),
        ("from aiokafka import AIOKafkaProducer", "imports aiokafka"),
        ("from fastapi import FastAPI", "imports fastapi"),
        ("from services.payments.domain import X", "imports services.payments.domain"),
        ("from nexafi.settings import get_settings", "imports nexafi.settings"),
        ("async def f(): ...", "is asynchronous"),
        ("x = clock.now()", "reads a clock"),
        ("x = uuid.uuid4()", "is random"),
        ("x = open('f')", "does I/O"),
        ("x = hash('a')", "salted"),
        ("x = 0.1", "float 0.1"),
        ("x = float(3)", "makes a float"),
        ("x = 3 / 2", "divides with /"),
        ("def f():\n    global x\n    x = 1", "changes a global"),
    ],
)
def test_a_planted_impurity_is_found(tmp_path: Path, code: str, what: str) -> None:
    planted = tmp_path / "domain.py"
    planted.write_text(code + "\n")
    found = impurities(planted, money=True)
    assert len(found) == 1
    assert what in found[0]


def test_what_a_domain_needs_is_allowed(tmp_path: Path) -> None:
    planted = tmp_path / "domain.py"
    planted.write_text(
        "import heapq\nfrom dataclasses import dataclass\nfrom events.decider import Accepted\n"
        "from nexafi.ids import make_id\nfrom schemas.ledger.events import LedgerCreated\nx = 7 // 2\n"
    )
    assert impurities(planted, money=True) == []
