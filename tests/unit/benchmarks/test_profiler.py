"""Collapsed stacks become shares: own time once a sample, total time once a function however deep it recurs."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

from benchmarks.profiler import Profiler, Share, shares, table

_STACKS = """\
process 7:"python";thread (0x1): "MainThread";main (app.py:10);work (app.py:20) 3
process 7:"python";thread (0x1): "MainThread";main (app.py:11);walk (app.py:30);walk (app.py:31) 1
"""


def test_functions_are_counted_whatever_line_they_were_at() -> None:
    found = {s.name: s for s in shares(_STACKS.splitlines())}
    assert found == {
        "work (app.py)": Share("work (app.py)", 0.75, 0.75),
        "walk (app.py)": Share("walk (app.py)", 0.25, 0.25),
        "main (app.py)": Share("main (app.py)", 0.0, 1.0),
    }
    assert next(iter(found)) == "work (app.py)", "most own time first"
    assert "75.0%  work (app.py)" in table("gateway", list(found.values()))


def test_a_process_without_samples_says_so() -> None:
    assert "no samples" in table("postgres", [])


def test_it_samples_a_running_process(tmp_path: Path) -> None:
    """Real py-spy on a real child that burns its core in one function."""
    code = "def burn():\n    while True:\n        sum(range(1000))\nprint(1, flush=True)\nburn()\n"
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    try:
        assert child.stdout is not None
        child.stdout.readline()  # what Python imports at its start is not what is looked for
        profiler = Profiler(tmp_path)
        profiler.start({"child": child.pid})
        log = tmp_path / "child.log"
        deadline = time.monotonic() + 60
        while "Sampling process" not in log.read_text() and time.monotonic() < deadline:
            if "ermi" in log.read_text():
                assert profiler.stop() == {"child": []}, (
                    "who may not look into a process has no samples of it"
                )
                return
            time.sleep(0.1)
        time.sleep(1.0)
        found = profiler.stop()["child"]
    finally:
        child.kill()
        child.wait()
    assert found[0].name.startswith("burn "), found[:3]
