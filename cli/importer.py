"""``nexafi import``: data of another system, brought in over the public API."""

from __future__ import annotations

import asyncio
import csv
import json
import os
from pathlib import Path
from typing import Annotated, Any

import httpx
import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from cli.payment_import import Accounts, Api, ImportStoppedError, Made, RefusedError, follow, make_payments
from nexafi.settings import get_settings
from schemas.common.money import format_amount
from services.payments.pain001.instructions import Instruction, Report, parse

app = typer.Typer(no_args_is_help=True, help="Import data of another system.")
_SHOWN = 200
_COLOURS = {"settled": "green", "in-review": "yellow", "initiated": "cyan", "ready": "cyan"}


@app.callback()
def _several() -> None:
    """Import data of another system."""


@app.command("pain.001")
def pain_001(
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="An ISO 20022 pain.001 message.")],
    ledger: Annotated[
        str | None, typer.Option(help="Ledger of all accounts; default: the local stack's.")
    ] = None,
    account_map: Annotated[
        Path | None,
        typer.Option(
            exists=True, dir_okay=False, help="JSON object or CSV: IBAN (or other id) to account id."
        ),
    ] = None,
    create_accounts: Annotated[
        bool, typer.Option("--create-accounts", help="Open accounts that the map lacks, without a floor.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check the file and change nothing.")] = False,
    wait: Annotated[bool, typer.Option(help="Follow each payment to its end.")] = True,
    timeout: Annotated[float, typer.Option(min=0, help="Seconds to follow them.")] = 60.0,
) -> None:
    """Make payments from a bank's customer credit transfer file.

    Running it again makes nothing twice. Exit status: 0 all well, 1 some refused or not settled, 2 nothing done.
    """
    console = Console()
    report = parse(file.read_bytes())
    show_refused(console, report)
    if report.refused_as_a_whole:
        console.print("[bold red]The file was refused as a whole; nothing was done.[/]")
        raise typer.Exit(2)
    made: list[Made]
    if dry_run:
        made = [Made(i, "ready") for i in report.instructions]
    else:
        try:
            made = asyncio.run(
                _run(report.instructions, ledger, read_map(account_map), create_accounts, wait, timeout)
            )
        except (ImportStoppedError, RefusedError) as error:
            console.print(f"[bold red]Stopped:[/] {escape(str(error))}")
            raise typer.Exit(2) from None
    show_made(console, report, made)
    good = {"settled", "ready"} if wait else {"initiated", "ready"}
    if report.refused or any(m.status not in good for m in made):
        raise typer.Exit(1)


async def _run(
    instructions: list[Instruction],
    ledger: str | None,
    known: dict[str, str],
    create: bool,
    wait: bool,
    timeout_s: float,
) -> list[Made]:
    url, key, book = credentials()
    ledger_id = ledger or book
    if not ledger_id:
        raise ImportStoppedError("which ledger? name it with --ledger")
    headers = {"Authorization": f"Bearer {key}"}
    async with httpx.AsyncClient(base_url=url, headers=headers, timeout=30) as http:
        api = Api(http)
        made = await make_payments(
            api, Accounts(api, ledger_id, known, create=create), ledger_id, instructions
        )
        if wait:
            await follow(api, made, timeout_s)
        return made


def credentials() -> tuple[str, str, str]:
    """Address, API key and ledger: from ``NEXAFI_URL``/``NEXAFI_API_KEY``, else what the local stack wrote."""
    settings = get_settings()
    path = settings.data_dir / "credentials.json"
    stored: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    key = os.environ.get("NEXAFI_API_KEY") or stored.get("api_key")
    if not key:
        raise ImportStoppedError(
            f"no credentials: set NEXAFI_API_KEY, or run ./dev up first (it writes {path})"
        )
    url = os.environ.get("NEXAFI_URL") or stored.get("url") or settings.service_url("gateway")
    # The local stack's ledger belongs to the local stack's key.
    book = stored.get("book", {}).get("ledger_id", "") if key == stored.get("api_key") else ""
    return url, key, book


def read_map(path: Path | None) -> dict[str, str]:
    """``{"GB82...": account id}``; a key may end in ``/<currency>``. JSON object, or CSV of two columns."""
    if path is None:
        return {}
    text = path.read_text(encoding="utf-8-sig")
    if path.suffix.lower() == ".csv":
        rows = [row for row in csv.reader(text.splitlines()) if row]
        wrong = next((n for n, row in enumerate(rows, 1) if len(row) != 2), None)
        if wrong is not None:
            raise typer.BadParameter(f"row {wrong} of {path} has not two columns")
        return {name.strip(): account.strip() for name, account in rows}
    try:
        found = json.loads(text)
    except ValueError as error:
        raise typer.BadParameter(f"{path} is not JSON: {error}") from None
    if not isinstance(found, dict) or not all(isinstance(v, str) for v in found.values()):
        raise typer.BadParameter(f"{path} is not a JSON object of account ids")
    return found


def show_refused(console: Console, report: Report) -> None:
    """A line for each thing that was refused."""
    if not report.refused:
        return
    table = Table("Line", "What", "Reason", "Detail", "Where", title="Refused", title_style="bold red")
    for r in report.refused[:_SHOWN]:
        row = (str(r.line), r.end_to_end_id or r.level, r.reason, r.detail, r.path)
        table.add_row(*(escape(cell) for cell in row))
    console.print(table)
    if len(report.refused) > _SHOWN:
        console.print(f"... and {len(report.refused) - _SHOWN} more")


def show_made(console: Console, report: Report, made: list[Made]) -> None:
    """A line for each payment, and how many ended in which way."""
    table = Table("Line", "End-to-end id", "Amount", "Creditor", "Payment", "Status", "Reason")
    for m in made[:_SHOWN]:
        i = m.instruction
        colour = _COLOURS.get(m.status, "red")
        amount = f"{format_amount(i.amount, i.currency)} {i.currency}"
        texts = (str(i.line), i.end_to_end_id, amount, i.creditor.name, m.payment_id)
        table.add_row(*(escape(t) for t in texts), f"[{colour}]{m.status}[/]", escape(m.reason))
    console.print(table)
    if len(made) > _SHOWN:
        console.print(f"... and {len(made) - _SHOWN} more")
    counts = {status: sum(m.status == status for m in made) for status in sorted({m.status for m in made})}
    summary = ", ".join(f"{n} {status}" for status, n in counts.items()) or "no payments"
    console.print(
        f"{escape(report.message_id)}: {report.transactions} transactions, {summary}, "
        f"{len(report.refused)} refused in the file"
    )
