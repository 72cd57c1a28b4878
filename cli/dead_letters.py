"""``nexafi dead-letters``: records that could not be processed, with their bytes and the cause."""

from __future__ import annotations

import asyncio
import json
from typing import Annotated, Any

import typer

app = typer.Typer(help="Look at records that were set aside, and send them again.", no_args_is_help=True)
_Service = Annotated[str, typer.Argument(help="Service whose dead letters are meant.")]


def _rows(service: str, where: str, *params: object) -> list[Any]:
    import psycopg

    from events.store.tables import schema_name
    from nexafi.settings import Settings

    columns = "id, topic, partition, record_offset, item, command_id::text, headers, key, value, error, cause, recorded_at, retried_at"
    with psycopg.connect(Settings().database) as conn:
        query = f'SELECT {columns} FROM "{schema_name(service)}".dead_letters {where}'  # noqa: S608 -- a checked name
        return conn.execute(query, params).fetchall()


@app.command("list")
def list_(
    service: _Service, all_: Annotated[bool, typer.Option("--all", help="Those sent again, too.")] = False
) -> None:
    """List dead letters of a service."""
    from rich.console import Console
    from rich.table import Table

    table = Table("id", "record", "command", "error", "cause", "recorded", "sent again", box=None)
    for row in _rows(service, "ORDER BY id" if all_ else "WHERE retried_at IS NULL ORDER BY id"):
        identifier, topic, partition, offset, item, command, _, _, _, error, cause, at, again = row
        table.add_row(
            str(identifier),
            f"{topic}[{partition}]@{offset}" + (f"#{item}" if item else ""),
            command or "",
            error,
            cause[:80],
            f"{at:%Y-%m-%d %H:%M:%S}",
            f"{again:%Y-%m-%d %H:%M:%S}" if again else "",
        )
    Console(highlight=False).print(table)


@app.command()
def show(service: _Service, identifier: int) -> None:
    """Show one: headers, bytes and cause. The bytes may hold personal data."""
    rows = _rows(service, "WHERE id = %s", identifier)
    if not rows:
        raise typer.BadParameter(f"{service} has no dead letter {identifier}.")
    row = rows[0]
    shown = {
        "id": row[0],
        "record": f"{row[1]}[{row[2]}]@{row[3]}",
        "item": row[4],
        "command_id": row[5],
        "headers": json.loads(bytes(row[6])),
        "value": bytes(row[8] or b"").decode("utf-8", "backslashreplace"),
        "error": row[9],
        "cause": row[10],
    }
    print(json.dumps(shown, indent=2))


@app.command()
def retry(service: _Service, identifier: int) -> None:
    """Send the record again as it was, under the same command id; it is decided afresh.

    An item of a bulk is sent with its whole record: items that were decided are answered from their results.
    """
    rows = _rows(service, "WHERE id = %s", identifier)
    if not rows:
        raise typer.BadParameter(f"{service} has no dead letter {identifier}.")
    offset = asyncio.run(_send_again(service, rows[0]))
    print(f"sent again as {rows[0][1]}[{rows[0][2]}]@{offset}")


async def _send_again(service: str, row: Any) -> int:
    import psycopg

    from events.producer import new_producer
    from events.store.tables import schema_name
    from nexafi.settings import Settings

    settings = Settings()
    producer = new_producer(settings, "dead-letters")
    await producer.start()
    try:
        headers = [(k, v.encode()) for k, v in json.loads(bytes(row[6]))]
        sent = await producer.send_and_wait(
            row[1],
            bytes(row[8]) if row[8] is not None else None,
            key=bytes(row[7]) if row[7] is not None else None,
            partition=row[2],
            headers=headers,
        )
    finally:
        await producer.stop()
    with psycopg.connect(settings.database) as conn:
        conn.execute(
            f'UPDATE "{schema_name(service)}".dead_letters SET retried_at = now() WHERE id = %s',  # noqa: S608 -- a checked name
            (row[0],),
        )
    return int(sent.offset)
