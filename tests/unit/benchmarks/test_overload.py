"""Beyond what can be taken, requests may be refused; anything else that fails fails the run."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from benchmarks.edge import NotSentError, UnexpectedAnswerError, expected
from benchmarks.openloop import OpenLoop
from benchmarks.rows import Outcome
from benchmarks.traffic import Traffic


def judged(errors: list[Exception], unanswered: int = 0) -> list[str]:
    load = OpenLoop(100, 10, 1.0, errors=[f"{type(e).__name__}: {e}" for e in errors], unanswered=unanswered)
    traffic = cast("Any", SimpleNamespace(found=Outcome()))
    Traffic._judge_load(traffic, "load", load)
    return cast("list[str]", traffic.found.problems)


def refused(status: int) -> Exception:
    with pytest.raises(UnexpectedAnswerError) as caught:
        expected((status, b'{"type":"/problems/x"}'), 201)
    return caught.value


def test_what_is_too_much_may_be_refused_or_left_unsent() -> None:
    assert judged([refused(429), NotSentError("no connection for 10 s")]) == []


@pytest.mark.parametrize("error", [refused(500), refused(202), ConnectionResetError("closed")])
def test_any_other_failure_fails_the_run(error: Exception) -> None:
    assert len(judged([error])) == 1


def test_a_request_without_an_answer_fails_the_run() -> None:
    assert judged([], unanswered=2) == ["load: 2 requests had no answer"]
