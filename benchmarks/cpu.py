"""Who used the processor during a load: CPU seconds of each process over the time that passed.

100 % is one core. PostgreSQL is its postmaster with all backends, those that ended meanwhile included.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping

import psutil

CLIENT = "client"


class Cpu:
    """Shares of the named processes from :meth:`start` on; the process that measures is ``client``."""

    def __init__(self, pids: Mapping[str, int]) -> None:
        self._processes = {name: psutil.Process(pid) for name, pid in {**pids, CLIENT: os.getpid()}.items()}
        self._before: dict[str, float] = {}
        self._begun = 0.0
        self.start()

    def start(self) -> None:
        """Count from now."""
        self._begun = time.perf_counter()
        self._before = {name: _used(process) for name, process in self._processes.items()}

    def each_us(self, count: int) -> dict[str, float]:
        """Microseconds of processor time since :meth:`start` for each of ``count`` commands, which a busy machine changes little."""
        took_us = (time.perf_counter() - self._begun) * 1e6
        return {name: round(share / 100 * took_us / count, 1) for name, share in self.shares().items()}

    def shares(self) -> dict[str, float]:
        """Per cent of one core since :meth:`start`, and ``all`` of them together. A process that ended is left out."""
        took = time.perf_counter() - self._begun
        found: dict[str, float] = {}
        for name, process in self._processes.items():
            try:
                found[name] = round(100 * (_used(process) - self._before[name]) / took, 1)
            except psutil.NoSuchProcess:
                continue
        found["all"] = round(sum(found.values()), 1)
        return found


def _used(process: psutil.Process) -> float:
    """CPU seconds of a process and what it started. The supervisor's children are counted by their own names."""
    times = process.cpu_times()
    total = times.user + times.system
    if process.pid != os.getpid() and process.name().startswith("postgres"):
        total += times.children_user + times.children_system
        for child in process.children(recursive=True):
            try:
                own = child.cpu_times()
            except psutil.NoSuchProcess:
                continue  # it ended in between: then it is in the children's times of its parent
            total += own.user + own.system
    return total
