"""Named places where a test may kill this process for real (``NEXAFI_FAILPOINT="commit:3"``: the third time).

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

_name, _, _count = os.environ.get("NEXAFI_FAILPOINT", "").partition(":")
_left = int(_count or "1")


def reach(name: str) -> None:
    """Die here with SIGKILL when this is the chosen failpoint and its count is used up."""
    global _left  # noqa: PLW0603 -- one process, one failpoint
    if _name == name:
        _left -= 1
        if _left <= 0:
            os.kill(os.getpid(), signal.SIGKILL)
