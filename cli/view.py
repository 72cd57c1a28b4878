"""What people see of the local stack on a terminal."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

import psutil
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from cli.roles import GROUPS
from cli.stack.doctor import Finding
from cli.stack.paths import Layout
from cli.stack.process import tail
from cli.stack.state import ProcessState, StackState
from nexafi.settings import Settings

_COLOURS = {
    "ready": "green",
    "done": "green",
    "external": "cyan",
    "starting": "yellow",
    "waiting": "dim",
    "restarting": "red",
    "unhealthy": "red",
    "broken": "bold red",
    "stopped": "dim",
}
_LOG_COLOURS = ("cyan", "green", "magenta", "yellow", "blue", "bright_cyan", "bright_green", "bright_magenta")
_FOLLOW_EVERY_S = 0.2


class Watch:
    """The table while a stack comes up: redrawn in place on a terminal, a line a change elsewhere."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = (
            Live(console=console, refresh_per_second=6, transient=True) if console.is_terminal else None
        )
        self._said: dict[str, str] = {}

    def __enter__(self) -> Watch:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def show(self, found: StackState) -> None:
        """Show ``found``."""
        if self._live is not None:
            self._live.update(status_table(found))
            return
        for name, process in found.processes.items():
            if process.condition != self._said.get(name) and process.condition not in {"waiting", "starting"}:
                self._said[name] = process.condition
                self._console.print(
                    f"  {name}: {process.condition}{f', {process.problem}' if process.problem else ''}"
                )


def status_table(found: StackState) -> Group:
    """The table of ``status``."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    for heading, side in (
        ("process", "left"),
        ("state", "left"),
        ("pid", "right"),
        ("port", "right"),
        ("up", "right"),
    ):
        table.add_column(heading, justify=side)  # type: ignore[arg-type]
    table.add_column("memory", justify="right")
    table.add_column("restarts", justify="right")
    table.add_column("", overflow="fold")
    total = _memory(found.supervisor_pid, with_children=False)
    table.add_row(
        "supervisor",
        Text(found.phase, _COLOURS.get(found.phase, "yellow")),
        str(found.supervisor_pid),
        "",
        _uptime(found.supervisor_started),
        _megabytes(total),
    )
    for name, process in found.processes.items():
        used = _memory(process.pid) if _alive(process) else 0
        total += used
        table.add_row(*_row(name, process, used))
    return Group(table, Text(f"{_megabytes(total)} resident in all", style="dim"))


def _row(name: str, process: ProcessState, used: int) -> tuple[str | Text, ...]:
    alive = _alive(process)
    roles = GROUPS[name].roles if name in GROUPS else ()
    about = process.problem or " ".join(roles)
    if process.restarts and process.last_exit and not process.problem:
        about = f"{about} (it {process.last_exit})".strip()
    return (
        name,
        Text(process.condition, _COLOURS.get(process.condition, "yellow")),
        str(process.pid) if alive else "",
        str(process.port or ""),
        _uptime(process.started) if alive and process.started else "",
        _megabytes(used) if used else "",
        Text(str(process.restarts), "red" if process.restarts else "dim") if process.kind != "step" else "",
        Text(about, "red" if process.problem else "dim"),
    )


def _alive(process: ProcessState) -> bool:
    return process.identity is not None and process.identity.process() is not None


def _memory(pid: int | None, *, with_children: bool = True) -> int:
    """Resident bytes of a process and its children; a page that several share is divided among them."""
    if pid is None:
        return 0
    try:
        top = psutil.Process(pid)
        return sum(_share(each) for each in (top, *(top.children(recursive=True) if with_children else ())))
    except psutil.NoSuchProcess:
        return 0


def _share(process: psutil.Process) -> int:
    try:
        return int(process.memory_full_info().pss)
    except psutil.NoSuchProcess:
        return 0
    except (AttributeError, psutil.AccessDenied):  # not Linux, or another user's process
        return int(process.memory_info().rss)


def _megabytes(count: int) -> str:
    return f"{count / 1e6:.0f} MB"


def _uptime(started: float) -> str:
    seconds = int(max(0.0, time.time() - started))
    hours, rest = divmod(seconds, 3600)
    minutes, seconds = divmod(rest, 60)
    return f"{hours}h{minutes:02}" if hours else f"{minutes}m{seconds:02}" if minutes else f"{seconds}s"


def print_status(console: Console, found: StackState) -> None:
    """Print the table once."""
    console.print(status_table(found))


def print_not_running(console: Console, found: StackState | None) -> None:
    """Say that nothing runs, and why it ended if that is known."""
    console.print("Not running. Start with [bold]./dev up[/].")
    if found is not None and found.error:
        console.print("The last start failed:", style="red")
        console.print(found.error, style="red", markup=False)
    elif found is not None and found.phase != "stopped":
        console.print(
            "The last supervisor was killed; the next start takes care of what it left.", style="yellow"
        )


def print_ready(console: Console, found: StackState, settings: Settings, layout: Layout) -> None:
    """Say what is where, what to try first, and where credentials are."""
    print_status(console, found)
    console.print()
    wrong = [name for name, each in found.processes.items() if each.condition == "broken"]
    if wrong:
        console.print(
            f"[bold red]{', '.join(wrong)} can not start[/]: see above, and ./dev logs. The rest works."
        )
    elif found.ready_after_s is not None:
        console.print(f"[bold green]Ready[/] after {found.ready_after_s} s.")
    places = {"gateway": settings.service_url("gateway")} if "gateway" in found.processes else {}
    places |= {
        name: each.address for name, each in found.processes.items() if each.kind == "server" and each.address
    }
    places |= {"data": str(layout.root), "secrets": f"{layout.secrets} (mode 600)"}
    for name, place in places.items():
        console.print(f"  {name:<14} {place}", markup=False)
    demo = dict(found.demo)
    curl = demo.pop("curl", None)
    if demo:
        console.print("\n[bold]Demo credentials[/] (this machine only)")
        for name, value in demo.items():
            console.print(f"  {name:<14} {value}", markup=False)
    if "gateway" in found.processes and "gateway" not in wrong:
        console.print("\n[bold]Try[/]")
        console.print(
            curl or f"  curl -s {settings.service_url('gateway')}/healthz", markup=False, soft_wrap=True
        )
    console.print("\n./dev status, ./dev logs -f, ./dev down", style="dim")


def print_finding(console: Console, finding: Finding) -> None:
    """One line of the doctor, and the way out below it."""
    mark = {"ok": "[green]ok  [/]", "warn": "[yellow]note[/]", "bad": "[red]BAD [/]"}[finding.severity]
    console.print(f"{mark} [bold]{finding.name}[/]: ", end="")
    console.print(finding.detail, markup=False)
    if finding.mend:
        console.print(f"     {finding.mend}", markup=False, style="yellow")


def print_logs(console: Console, files: list[Path], *, lines: int, follow: bool) -> None:
    """The last ``lines`` of each file; then, with ``follow``, what is written next, until interrupted."""
    width = max(len(file.stem) for file in files)
    colours = {file: _LOG_COLOURS[at % len(_LOG_COLOURS)] for at, file in enumerate(files)}
    sizes = {file: file.stat().st_size for file in files}

    def say(file: Path, line: str) -> None:
        head = Text(f"{file.stem:<{width}} | ", colours[file]) if len(files) > 1 else Text()
        console.print(head.append_text(Text(line)))

    for file in files:
        for line in tail(file, lines).splitlines():
            say(file, line)
    while follow:
        for file in files:
            for line in _written_since(file, sizes):
                say(file, line)
        time.sleep(_FOLLOW_EVERY_S)


def _written_since(file: Path, sizes: dict[Path, int]) -> Iterator[str]:
    """Whole lines written to ``file`` after ``sizes[file]``, which moves on; a log that was cut starts again."""
    size = file.stat().st_size
    if size < sizes[file]:
        sizes[file] = 0
    if size == sizes[file]:
        return
    with file.open("rb") as source:
        source.seek(sizes[file])
        part = source.read(size - sizes[file])
    whole = part.rfind(b"\n") + 1
    sizes[file] += whole
    yield from part[:whole].decode(errors="replace").splitlines()
