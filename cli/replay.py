"""``nexafi replay``: what did we know, and when did we know it?"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.audit_sources import WRONG, could_not

if TYPE_CHECKING:
    import psycopg

    from events.asof import Cut, Known
    from services.ledger.state import Account

app = typer.Typer(help="What was known at a time, proven.", no_args_is_help=True)


@app.command()
def replay(
    as_of: Annotated[
        datetime | None, typer.Option(help="Time (UTC) by which it was recorded; default: now.")
    ] = None,
    at: Annotated[
        list[str] | None,
        typer.Option(help="SHARD=POSITION of an earlier answer instead of a time (repeat for more)."),
    ] = None,
    service: Annotated[str, typer.Option(help="Whose history.")] = "ledger",
    shard: Annotated[list[int] | None, typer.Option(help="Only this shard (repeat for more).")] = None,
    account: Annotated[
        list[str] | None, typer.Option(help="Ledger: only this account (repeat for more).")
    ] = None,
    state: Annotated[
        bool, typer.Option("--state", help="Print the whole state, in its canonical form.")
    ] = False,
    from_snapshot: Annotated[
        bool, typer.Option("--from-snapshot", help="Begin at a snapshot: quicker, but believes it.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON line for each shard.")] = False,
) -> None:
    """Replay history up to a time: balances as they were known then, with the positions and hashes that prove it.

    Everything up to there is verified on the way. The positions are the exact meaning of the answer: ask again
    with `--at`. Exit status: 0 sound, 1 history is damaged, 3 it could not be read.
    """
    import psycopg

    from cli.deciders import DECIDERS, decider_of
    from events.asof import replay_to
    from events.errors import CorruptHistoryError
    from nexafi.settings import Settings

    if service not in DECIDERS:
        raise typer.BadParameter(f"There is no service {service!r}; there are {', '.join(DECIDERS)}.")
    decider = decider_of(service)
    try:
        wanted = _wanted_shards(service, shard, account)
        with psycopg.connect(Settings().database, autocommit=True) as conn:
            for cut in _cuts(conn, service, as_of, at):
                if wanted is None or cut.shard in wanted:
                    known = replay_to(conn, decider, cut, use_snapshot=from_snapshot)
                    dump = decider.dump(known.state) if state else None
                    _show(known, account, dump, as_json)
    except CorruptHistoryError as error:
        print(f"WRONG {service}: {error}")
        raise typer.Exit(WRONG) from error
    except (LookupError, ValueError) as error:
        raise typer.BadParameter(str(error)) from error
    except psycopg.Error as error:
        raise could_not(f"the database: {error}") from error


def _wanted_shards(service: str, shards: list[int] | None, accounts: list[str] | None) -> set[int] | None:
    from nexafi.ids import shard_of

    if accounts and service != "ledger":
        raise ValueError("--account goes with --service ledger")
    if accounts:
        return {shard_of(a) for a in accounts}
    return set(shards) if shards is not None else None


def _cuts(
    conn: psycopg.Connection[Any], service: str, as_of: datetime | None, at: list[str] | None
) -> list[Cut]:
    from events.asof import cut_at_position, cuts_at

    if at:
        pairs = [each.partition("=") for each in at]
        return [cut_at_position(conn, service, int(s), int(p)) for s, _, p in pairs]
    moment = as_of.replace(tzinfo=UTC) if as_of is not None else datetime.now(UTC)
    return cuts_at(conn, service, int(moment.timestamp() * 1_000_000))


def _show(known: Known[Any], accounts: list[str] | None, dump: bytes | None, as_json: bool) -> None:
    rows = _accounts(known.state, accounts) if known.service == "ledger" else []
    if as_json:
        shown: dict[str, Any] = {
            "service": known.service,
            "shard": known.shard,
            "history": known.history,
            "position": known.position,
            "recorded_us": known.recorded_us,
            "chain": known.chain_hash,
            "digest": known.digest,
        }
        if known.service == "ledger":
            shown["accounts"] = rows
        if dump is not None:
            shown["state"] = dump.decode()
        print(json.dumps(shown))
        return
    if known.position == 0:
        print(f"{known.service}/{known.shard}: nothing had happened")
        return
    recorded = datetime.fromtimestamp(known.recorded_us / 1e6, UTC).isoformat()
    print(
        f"{known.service}/{known.shard}: position {known.position}, recorded {recorded}, chain {known.chain_hash}"
    )
    for row in rows:
        print(
            f"  {row['account_id']}  {row['code']:<24} {row['currency']} balance {row['balance']} "
            f"available {row['available']}" + (" (closed)" if row["closed"] else "")
        )
    if dump is not None:
        print(dump.decode())


def _accounts(state: Any, wanted: list[str] | None) -> list[dict[str, Any]]:
    """Accounts of a ledger shard's state, in minor units on the normal side; those asked for, or all."""
    rows = []
    for ledger in state.ledgers.values():
        rows += [_row(ledger.id, account) for account in ledger.accounts.values()]
        rows += [
            {"ledger_id": ledger.id, "account_id": i, "code": c, "currency": "", "closed": True}
            | {"balance": 0, "available": 0}
            for i, c in ledger.closed.items()
        ]
    return sorted(
        (r for r in rows if not wanted or r["account_id"] in wanted), key=lambda r: str(r["account_id"])
    )


def _row(ledger_id: str, account: Account) -> dict[str, Any]:
    return {
        "ledger_id": ledger_id,
        "account_id": account.id,
        "code": account.code,
        "currency": account.currency,
        "balance": account.posted,
        "available": account.available,
        "closed": False,
    }
