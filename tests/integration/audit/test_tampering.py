"""S17: whatever a superuser of the database does to what was signed, an independent verifier finds."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections import Counter
from pathlib import Path

import psycopg
import pytest

from events.export import open_for_writing, verify_file, write_shard
from events.migrations import migrate
from events.signed_heads import HeadBook, SignedHead, lines_of, sign
from events.store.recorder import ShardRecorder, open_datastore
from nexafi.settings import Settings
from nexafi.signing import SigningKeys
from services.ledger.domain import LedgerDecider
from tests.kit.independent import SCRIPT, finding
from tests.kit.recorded import recorded_ledger
from tests.kit.soak import Figure, Printed, figures
from tests.kit.tampering import WAYS, Superuser

KEYS = SigningKeys(None)


@pytest.fixture
def store(stack: Settings, database_url: str) -> str:
    """URL of a database with a ledger that has some history."""
    settings = stack.model_copy(update={"database_url": database_url, "shards": {"ledger": 1}})
    migrate(settings, ("ledger",))
    datastore = open_datastore(database_url, "ledger")
    recorded_ledger().store(ShardRecorder(datastore, service="ledger"))
    datastore.close()
    return database_url


def kept_heads(conn: psycopg.Connection[tuple[object, ...]]) -> HeadBook:
    """What the auditor keeps: the signed head of everything that was recorded."""
    head, book = Superuser(conn, "ledger", random.Random()).head(), HeadBook()
    signed = SignedHead(
        "ledger", 0, head.history, head.next_position - 1, bytes(head.chain_hash).hex(), head.last_time_us
    )
    book.add(signed.place, sign(signed, KEYS), KEYS)
    return book


def export(conn: psycopg.Connection[tuple[object, ...]], path: Path) -> None:
    with open_for_writing(path) as out:
        write_shard(conn, "ledger", Superuser(conn, "ledger", random.Random()).head(), out)


@figures("S17")
def test_an_independent_verifier_finds_what_a_superuser_does(
    store: str, figure: Figure, printed: Printed, tmp_path: Path
) -> None:
    path, jwks, found = tmp_path / "ledger-0.ndjson", KEYS.jwks(), Counter[str]()
    rng = random.Random(17)
    with psycopg.connect(store) as conn:
        book = kept_heads(conn)
        export(conn, path)
        assert finding(path, jwks, book.tokens) == ""
        for number in range(figure["tamperings"]):
            way = sorted(WAYS)[number % len(WAYS)]
            with conn.transaction(force_rollback=True):
                WAYS[way](Superuser(conn, "ledger", rng))
                export(conn, path)
            assert finding(path, jwks, book.tokens), (
                f"{way} ({number}) is not found by the independent verifier"
            )
            assert verify_file(path, LedgerDecider(), trusted=book).problem, f"{way} ({number}) is not found"
            found[way] += 1
        export(conn, path)
        assert finding(path, jwks, book.tokens) == ""  # all of it was undone, so each was found on its own
    printed("S17", tamperings=sum(found.values()), ways=len(found), found="100 %")


def test_without_a_signature_a_rewritten_history_looks_sound(store: str, tmp_path: Path) -> None:
    """Why the heads are signed and kept elsewhere: the hashes alone can be computed anew by anybody."""
    path = tmp_path / "ledger-0.ndjson"
    with psycopg.connect(store) as conn:
        book = kept_heads(conn)
        for way in ("rewrite", "cut", "roll_back_and_go_on"):
            with conn.transaction(force_rollback=True):
                WAYS[way](Superuser(conn, "ledger", random.Random(1)))
                export(conn, path)
            assert finding(path, KEYS.jwks()) == ""
            assert "signed" in finding(path, KEYS.jwks(), book.tokens)


def test_the_independent_verifier_needs_nothing_but_python(store: str, tmp_path: Path) -> None:
    exported, keys, heads = tmp_path / "ledger-0.ndjson.gz", tmp_path / "keys.json", tmp_path / "heads.jsonl"
    with psycopg.connect(store) as conn:
        heads.write_text("\n".join(lines_of(kept_heads(conn))) + "\n")
        export(conn, exported)
    keys.write_text(json.dumps(KEYS.jwks()))
    # -I: no path but the standard library's, no site packages.
    command = [
        sys.executable,
        "-I",
        "-S",
        str(SCRIPT),
        "--keys",
        str(keys),
        "--heads",
        str(heads),
        str(exported),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith("ok ")
    exported.write_bytes(exported.read_bytes()[:-40])
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout[:5]) == (1, "WRONG")
