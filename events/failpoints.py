"""Named places where a test may kill or stop this process for real.

``NEXAFI_FAILPOINT="commit:3"`` kills (SIGKILL) the third time that ``commit`` is reached, ``"append:3:stop"`` stops
(SIGSTOP) there: a process that is paused in the middle of what it does, until somebody lets it go on.

Each stands between two effects that could come apart: nothing may be lost or doubled whichever it is.
Without the variable a failpoint costs one comparison.
"""

from __future__ import annotations

import os
import signal
from typing import Final

#: ``append``: rows are sent, nothing is committed. ``commit``: committed, nobody was told. ``publish``: Kafka has
#: the events, the relay has not moved. ``mark``: the relay has moved, its mark is not written. ``reply``: events
#: are on their way, the reply is not.
FAILPOINTS: Final = ("append", "commit", "publish", "mark", "reply")

_name, _, _how = os.environ.get("NEXAFI_FAILPOINT", "").partition(":")
_count, _, _act = _how.partition(":")
_left = int(_count or "1")
_signal: Final = signal.SIGSTOP if _act == "stop" else signal.SIGKILL


def armed(name: str) -> bool:
    """Whether this process is to die at this failpoint."""
    return _name == name


def reach(name: str) -> None:
    """Die (or stop) here when this is the chosen failpoint and its count is used up."""
    global _left  # noqa: PLW0603 -- one process, one failpoint
    if _name == name:
        _left -= 1
        if _left == 0 or (_left < 0 and _signal == signal.SIGKILL):
            os.kill(os.getpid(), _signal)
