"""What the help of each command shows at its end: lines to copy. A test parses every one of them."""

from __future__ import annotations

import inspect
from typing import Any, Final

#: Command -> example lines, each with what it is for.
EXAMPLES: Final[dict[str, tuple[tuple[str, str], ...]]] = {
    "nexafi": (
        ("nexafi up", "everything, with a demo ledger and a request to paste"),
        ("nexafi doctor", "what is wrong with this machine, and how to mend it"),
    ),
    "nexafi up": (
        ("nexafi up", "everything, in the background"),
        ("nexafi up -f", "in the foreground: Ctrl-C ends all"),
        ("nexafi up --only ledger --only gateway", "two groups of roles and the servers"),
    ),
    "nexafi down": (("nexafi down", "drain, then end; data stays"),),
    "nexafi status": (
        ("nexafi status", "the table"),
        ("nexafi status --json", "for programs: exit status 0 only when all works"),
    ),
    "nexafi logs": (
        ("nexafi logs -f", "of everything, as it is written"),
        ("nexafi logs kafka -n 200", "of one server"),
        ("nexafi logs payment-saga", "of the process that a role is in"),
    ),
    "nexafi doctor": (("nexafi doctor", "before the first start, or when something does not work"),),
    "nexafi reset": (("nexafi reset --yes", "an empty installation at the next start"),),
    "nexafi run": (
        ("nexafi run ledger --health-host 0.0.0.0 --health-port 8080", "one role, as in a container"),
        ("nexafi run ledger payments payment-saga", "three roles in one process"),
    ),
    "nexafi migrate": (("nexafi migrate", "before the roles of a new release start"),),
    "nexafi roles": (("nexafi roles", "names for `nexafi run`"),),
    "nexafi teststack": (("nexafi teststack up", "once; then pytest starts no servers"),),
    "nexafi teststack up": (("nexafi teststack up --port-base 21000", "on ports of your choice"),),
    "nexafi teststack down": (("nexafi teststack down", "end them and remove their data"),),
    "nexafi audit": (("nexafi audit verify", "every hash, position and balance"),),
    "nexafi audit verify": (
        ("nexafi audit verify", "all services"),
        ("nexafi audit verify --service ledger --json", "one service, a JSON line for each shard"),
    ),
    "nexafi audit heads": (("nexafi audit heads", "redirect it to a file that nobody here can change"),),
    "nexafi audit keys": (("nexafi audit keys", "give them to auditors"),),
    "nexafi audit export": (
        ("nexafi audit export ./export --gzip", "every shard, for a verifier without NexaFi"),
        ("nexafi audit export ./export --service ledger", "one service"),
    ),
    "nexafi audit prove": (
        ("nexafi audit prove ledger --stream TRANSACTION_ID --out proof.json", "one transaction"),
        ("nexafi audit prove ledger --entry ACCOUNT_ID/7 --out proof.json", "a line of a statement"),
    ),
    "nexafi audit check-proof": (
        ("nexafi audit check-proof proof.json --keys heads.jwks.json", "with the keys that you were given"),
    ),
    "nexafi audit supersede": (
        ("nexafi audit supersede ledger --reason 'restored the backup of the 3rd'", "after a restore"),
    ),
    "nexafi replay": (
        ("nexafi replay --as-of 2026-11-24T12:00:00", "balances as they were known then"),
        ("nexafi replay --service payments --json", "another service, for programs"),
    ),
    "nexafi dead-letters": (("nexafi dead-letters list", "what could not be read, of every service"),),
    "nexafi dead-letters list": (
        ("nexafi dead-letters list --service ledger", "of one service"),
        ("nexafi dead-letters list --all --json", "those sent again and discarded, too, for programs"),
    ),
    "nexafi dead-letters show": (("nexafi dead-letters show ledger/117", "headers, bytes and cause"),),
    "nexafi dead-letters retry": (
        ("nexafi dead-letters retry ledger/117", "decide it afresh"),
        ("nexafi dead-letters retry --service payments --since 2026-11-24", "all of one service since then"),
    ),
    "nexafi dead-letters discard": (
        ("nexafi dead-letters discard ledger/117 --why 'a test'", "never send it; it stays stored"),
    ),
    "nexafi auth": (("nexafi auth clients list", "who may ask for tokens"),),
    "nexafi auth token": (("nexafi auth token CLIENT_ID --scope ledger:read", "a narrow token"),),
    "nexafi auth clients": (("nexafi auth clients list", "who may ask for tokens"),),
    "nexafi auth clients create": (
        ("nexafi auth clients create shop --scope payments:write", "prints its secret, once"),
    ),
    "nexafi auth clients list": (("nexafi auth clients list", "who may ask for tokens"),),
    "nexafi auth clients disable": (("nexafi auth clients disable CLIENT_ID", "at once, for good"),),
    "nexafi auth keys": (("nexafi auth keys list", "which keys there are"),),
    "nexafi auth keys create": (
        ("nexafi auth keys create nightly --scope ledger:read --days 30", "prints the key, once"),
    ),
    "nexafi auth keys list": (("nexafi auth keys list", "which keys there are"),),
    "nexafi auth keys revoke": (("nexafi auth keys revoke KEY_ID", "at once, for good"),),
    "nexafi auth signing-keys": (("nexafi auth signing-keys show", "the public halves"),),
    "nexafi auth signing-keys show": (("nexafi auth signing-keys show", "the public halves"),),
    "nexafi auth signing-keys rotate": (
        ("nexafi auth signing-keys rotate", "a new one; old tokens stay valid"),
    ),
    "nexafi import": (("nexafi import pain.001 payments.xml --dry-run", "check a bank's file"),),
    "nexafi import pain.001": (
        ("nexafi import pain.001 payments.xml --dry-run", "check the file and change nothing"),
        ("nexafi import pain.001 payments.xml --create-accounts", "open accounts that are not there"),
        ("nexafi import pain.001 payments.xml --account-map accounts.csv --no-wait", "hand them in only"),
    ),
    "nexafi backup": (("nexafi backup --to /backup/monday", "while the platform works"),),
    "nexafi restore": (("nexafi restore --from /backup/monday", "into an empty database"),),
    "nexafi projections": (("nexafi projections status", "how far behind each view is"),),
    "nexafi projections status": (("nexafi projections status", "versions, positions, rows"),),
    "nexafi projections verify": (("nexafi projections verify", "exit status 1 when a row differs"),),
    "nexafi projections rebuild": (
        ("nexafi projections rebuild ledger", "beside the live one, then switch"),
    ),
    "nexafi projections switch": (("nexafi projections switch ledger --back", "to the version kept"),),
}


def decorate(command: Any, path: str) -> None:
    """Give ``command`` and the commands under it their examples."""
    lines = EXAMPLES.get(path, ())
    if lines:
        width = max(len(line) for line, _ in lines)
        shown = (f"  [cyan]{line:{width}}[/]  [dim]{why}[/]" for line, why in lines)
        command.epilog = "\n".join(("[bold]Examples[/]", *shown))
    if command.help:
        paragraphs = inspect.cleandoc(command.help).split("\n\n")
        command.help = "\n\n".join(
            " ".join(each.split()) for each in paragraphs
        )  # the terminal wraps, not we
    command.params = [each for each in command.params if not (_completion(each) and path != "nexafi")]
    for name, each in getattr(command, "commands", {}).items():
        decorate(each, f"{path} {name}")


def _completion(parameter: Any) -> bool:
    """Options that every application of typer has; a sub-command needs none of its own."""
    return parameter.name in {"install_completion", "show_completion"}
