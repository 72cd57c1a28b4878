"""What an auditor types: verify, export, prove, check, replay, with the exit status that a script goes by."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest

from events.migrations import migrate
from events.signed_heads import SignedHead, sign, signing_keys
from events.store.heads import read_heads
from events.store.recorder import ShardRecorder, open_datastore
from nexafi.settings import Settings
from tests.integration.audit.conftest import Command
from tests.kit.recorded import START_US, RecordedLedger, recorded_ledger
from tests.kit.soak import Printed


@dataclass
class Books:
    """Two ledger shards in a store, the heads that were signed of them, and the signer's public keys."""

    url: str
    ledgers: list[RecordedLedger]
    heads: str
    keys: str

    def execute(self, statement: str) -> None:
        with psycopg.connect(self.url) as conn:
            assert conn.execute(statement).rowcount > 0


@pytest.fixture
def books(stack: Settings, database_url: str, tmp_path: Path) -> Books:
    settings = stack.model_copy(
        update={"database_url": database_url, "shards": {"ledger": 2}, "data_dir": tmp_path / "signer"}
    )
    migrate(settings, ("ledger",))
    recorder = ShardRecorder(open_datastore(database_url, "ledger"), service="ledger")
    ledgers = [recorded_ledger(shard) for shard in range(2)]
    for ledger in ledgers:
        ledger.store(recorder)
    keys, lines = signing_keys(settings), []
    for head in read_heads(recorder):
        signed = SignedHead(
            "ledger", head.shard, head.history, head.next_position - 1, bytes(head.chain_hash).hex(), START_US
        )
        lines.append(json.dumps({"service": "ledger", "shard": head.shard, "head": sign(signed, keys)}))
    for ledger in ledgers:
        ledger.transfers(2, random.Random(2))  # not yet signed
        ledger.store(recorder)
    recorder.datastore.close()
    heads, jwks = tmp_path / "heads.jsonl", tmp_path / "keys.json"
    heads.write_text("\n".join(lines))
    jwks.write_text(json.dumps(keys.jwks()))
    return Books(database_url, ledgers, str(heads), str(jwks))


def reports(output: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in output.splitlines() if line.startswith("{")]


def test_verify_says_sound_wrong_or_could_not(
    books: Books, nexafi: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    trust = ("--heads", books.heads, "--keys", books.keys)
    command = ("audit", "verify", "--service", "ledger")
    found = reports(nexafi(*command, *trust, "--json").stdout)
    assert [(r["events"], r["problem"]) for r in found] == [(x.position, None) for x in books.ledgers]
    assert all(0 < r["signed_position"] < r["position"] and r["snapshots"] for r in found)
    assert "no signed head" in nexafi(*command, "--heads", "none").stdout
    assert len(reports(nexafi(*command, "--heads", "none", "--shard", "1", "--json").stdout)) == 1
    nexafi("audit", "verify", "--service", "nobody", status=2)
    books.execute("UPDATE ledger.events SET topic = 'x' WHERE shard = 1 AND position = 4")
    wrong = nexafi(*command, *trust, status=1).stdout
    assert "ok    ledger/0" in wrong
    assert "WRONG ledger/1: positions 2..7 do not hash to their Merkle root" in wrong
    nexafi(*command, "--heads", "nowhere.jsonl", status=3)
    nexafi(*command, "--heads", books.heads, status=3)  # and no keys to check them with
    monkeypatch.setenv("NEXAFI_DATABASE_URL", "postgresql://nobody@127.0.0.1:1/none")
    nexafi(*command, "--heads", "none", status=3)


def test_an_export_is_verified_without_any_server(
    books: Books, nexafi: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, trust = tmp_path / "export", ("--heads", books.heads, "--keys", books.keys)
    nexafi("audit", "export", str(folder), "--service", "ledger", "--gzip", *trust)
    files = sorted(folder.iterdir())
    assert [f.name for f in files] == ["ledger-0.ndjson.gz", "ledger-1.ndjson.gz"]
    monkeypatch.setenv("NEXAFI_DATABASE_URL", "postgresql://nobody@127.0.0.1:1/none")
    monkeypatch.setenv("NEXAFI_KAFKA_BOOTSTRAP", "127.0.0.1:1")
    each = [argument for f in files for argument in ("--export", str(f))]
    for options in (("--keys", books.keys), trust):
        found = reports(nexafi("audit", "verify", *each, *options, "--json").stdout)
        assert [(r["shard"], r["events"], r["problem"]) for r in found] == [
            (x.shard, x.position, None) for x in books.ledgers
        ]
        assert all(r["signed_position"] and r["digest"] for r in found)
    files[1].write_bytes(files[1].read_bytes()[:-20])
    found = reports(nexafi("audit", "verify", *each, "--json", status=1).stdout)
    assert [r["problem"] is None for r in found] == [True, False]


def test_a_proof_shows_one_event_and_nothing_else(
    books: Books, nexafi: Command, tmp_path: Path, printed: Printed
) -> None:
    trust, file, checked = ("--heads", books.heads, "--keys", books.keys), tmp_path / "proof.json", 0
    ledger = books.ledgers[1]
    for position in (*range(1, ledger.position, 7), ledger.position):
        nexafi("audit", "prove", "ledger", "--position", f"1/{position}", "--out", str(file), *trust)
        shown = json.loads(nexafi("audit", "check-proof", str(file), "--keys", books.keys, "--json").stdout)
        assert shown["event"]["position"] == position
        assert shown["signed"] == (position <= ledger.position - 2)
        checked += 1
    printed("proofs", checked=checked)

    transaction = json.loads(file.read_text())["event"]["stream"]
    proof = json.loads(nexafi("audit", "prove", "ledger", "--stream", transaction, *trust).stdout)
    assert proof["event"]["position"] == ledger.position
    nexafi("audit", "prove", "ledger", "--position", "1/99999", *trust, status=2)
    nexafi("audit", "prove", "ledger", "--stream", "x", *trust, status=2)
    books.execute("UPDATE ledger.events SET topic = 'x' WHERE shard = 1 AND position = 4")
    nexafi("audit", "prove", "ledger", "--position", "1/5", *trust, status=1)  # its neighbour was changed


def test_a_changed_proof_proves_nothing(books: Books, nexafi: Command, tmp_path: Path) -> None:
    trust, file = ("--heads", books.heads, "--keys", books.keys), tmp_path / "proof.json"
    nexafi("audit", "prove", "ledger", "--position", "0/5", "--out", str(file), *trust)
    proof = json.loads(file.read_text())
    assert proof["head"] is not None
    assert proof["links"]
    changes: list[dict[str, Any]] = [
        {"event": proof["event"] | {"data": proof["event"]["data"].replace("EUR", "USD")}},
        {"event": proof["event"] | {"metadata": proof["event"]["metadata"].replace("acme", "evil")}},
        {"event": proof["event"] | {"position": 6}},
        {"path": proof["path"][:-1]},
        {"path": [["L" if s == "R" else "R", h] for s, h in proof["path"]]},
        {"links": proof["links"][:-1]},
        {"links": proof["links"][1:]},
        {"batch": proof["batch"] | {"time_us": 1}},
        {"batch": proof["batch"] | {"previous": "00" * 32}},
        {"shard": 1},
        {"service": "payments"},
        {"history": "00000000-0000-4000-8000-000000000000"},
        {"head": proof["head"][:-6] + "AAAAAA"},
        {"format": "other"},
        {"event": None},
    ]
    for change in changes:
        file.write_text(json.dumps(proof | change))
        assert "WRONG" in nexafi("audit", "check-proof", str(file), "--keys", books.keys, status=1).stdout, (
            change
        )
    file.write_text(json.dumps(proof))
    nexafi("audit", "check-proof", str(file), "--keys", books.keys)


def test_what_was_known_at_a_time(books: Books, nexafi: Command) -> None:
    """Balances as of each batch's time are those that a ledger without the later batches has."""
    ledger = books.ledgers[0]
    for count in (0, 1, 4, len(ledger.batches)):
        then = ledger.batches[count - 1].time_us if count else START_US
        moment = datetime.fromtimestamp(then / 1e6, UTC).replace(tzinfo=None).isoformat()
        known = reports(nexafi("replay", "--as-of", moment, "--shard", "0", "--json").stdout)[0]
        balances = {a["account_id"]: a["balance"] for a in known["accounts"]}
        assert balances == balances_after(ledger, count)
        assert known["position"] == (ledger.batches[count - 1].last_position if count else 0)
        if count:
            assert known["chain"] == ledger.batches[count - 1].chain_hash.hex()
            at = f"0={known['position']}"
            for options in (("--at", at), ("--at", at, "--from-snapshot")):
                again = reports(nexafi("replay", *options, "--json").stdout)[0]
                assert again == known
    account = ledger.accounts[0]
    one = reports(nexafi("replay", "--account", account, "--json").stdout)
    assert [[a["account_id"] for a in r["accounts"]] for r in one] == [[account]]
    assert account in nexafi("replay", "--account", account).stdout
    nexafi("replay", "--at", "0=3", status=2)  # inside a batch
    books.execute("UPDATE ledger.events SET topic = 'x' WHERE shard = 0 AND position = 4")
    assert "WRONG" in nexafi("replay", "--shard", "0", status=1).stdout


def balances_after(ledger: RecordedLedger, batches: int) -> dict[str, int]:
    """Balances folded by hand from the first batches' rows."""
    from events.checking import parts_of

    found: dict[str, int] = {}
    for rows in ledger.rows[:batches]:
        for row in rows:
            parts = parts_of(row)
            event = json.loads(parts.state)
            if parts.topic == b"ledger.account-opened.v1":
                found[event["account_id"]] = 0
            for entry in event.get("entries", []):
                found[entry["account_id"]] += entry["amount"] * (1 if entry["side"] == "debit" else -1)
    return found
