"""Exports: what was written is accepted, by us and by the independent verifier; anything else is found by both."""

from __future__ import annotations

import gzip
import io
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from events.chain import leaf_hash, link, merkle_root
from events.export import event_fields, event_row, records_of, verify_file, write_records
from events.signed_heads import HeadBook, SignedHead, sign
from nexafi.signing import SigningKeys
from services.ledger.domain import LedgerDecider
from tests.kit.independent import finding
from tests.kit.recorded import HISTORY, RecordedLedger, recorded_ledger

KEYS = SigningKeys(None)
LEDGER = recorded_ledger(shard=3)


def head_of(ledger: RecordedLedger, position: int | None = None) -> SignedHead:
    batch = next(b for b in ledger.batches if b.last_position == (position or ledger.position))
    return SignedHead(
        "ledger", ledger.shard, HISTORY, batch.last_position, batch.chain_hash.hex(), batch.time_us
    )


def records(ledger: RecordedLedger = LEDGER, signed: list[str] | None = None) -> list[dict[str, Any]]:
    return list(records_of("ledger", ledger.head, ledger.history(), signed or []))


def text_of(records_: list[dict[str, Any]]) -> bytes:
    out = io.BytesIO()
    write_records(out, records_)
    return out.getvalue()


SIGNED = sign(head_of(LEDGER, LEDGER.batches[-3].last_position), KEYS)
WHOLE = text_of(records(signed=[SIGNED]))
#: What an auditor kept: the last head.
KEPT = HeadBook()
KEPT.add(("ledger", 3), sign(head_of(LEDGER), KEYS), KEYS)
KEPT_TOKENS = dict(KEPT.tokens)


def findings(data: bytes, *, kept: bool = False) -> tuple[str, str]:
    """What we and the independent verifier find; ``""`` for nothing."""
    with tempfile.NamedTemporaryFile(suffix=".ndjson") as file:
        file.write(data)
        file.flush()
        path = Path(file.name)
        ours = verify_file(path, LedgerDecider(), keys=KEYS, trusted=KEPT if kept else None)
        return ours.problem or "", finding(path, KEYS.jwks(), KEPT_TOKENS if kept else None)


def assert_found(data: bytes, *, kept: bool = False) -> None:
    ours, theirs = findings(data, kept=kept)
    assert ours, "not found by verify"
    assert theirs, "not found by the independent verifier"


def test_a_whole_export_is_sound_for_both(tmp_path: Path) -> None:
    assert findings(WHOLE, kept=True) == ("", "")
    path = tmp_path / "ledger-3.ndjson.gz"
    path.write_bytes(gzip.compress(WHOLE))
    report = verify_file(path, LedgerDecider(), keys=KEYS)
    assert (report.problem, report.events, report.batches) == (None, LEDGER.position, len(LEDGER.batches))
    assert report.signed_position == LEDGER.batches[-3].last_position
    assert report.chain_hash == LEDGER.chain.hex()
    assert finding(path, KEYS.jwks()) == ""


@settings(max_examples=100, deadline=None)
@given(st.integers(0, len(WHOLE) - 1), st.integers(1, 255))
def test_any_changed_byte_is_found(at: int, change: int) -> None:
    data = bytearray(WHOLE)
    data[at] ^= change
    assert_found(bytes(data))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, len(WHOLE) - 1))
def test_any_truncation_is_found(length: int) -> None:
    assert_found(WHOLE[:length])


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_lines_that_are_missing_doubled_or_moved_are_found(data: st.DataObject) -> None:
    lines = WHOLE.splitlines(keepends=True)
    at = data.draw(st.integers(0, len(lines) - 2))
    how = data.draw(st.sampled_from(["missing", "doubled", "moved"]))
    changed = list(lines)
    if how == "doubled":
        changed.insert(at, lines[at])
    else:
        line = changed.pop(at)
        if how == "moved":
            to = data.draw(st.integers(0, len(lines) - 2).filter(lambda i: i != at))
            changed.insert(to, line)
    assert_found(b"".join(changed))


def _amount(r: list[dict[str, Any]], i: int) -> None:
    r[i]["data"] = r[i]["data"].replace('"amount":', '"amount":1', 1) if '"amount"' in r[i]["data"] else "{}"


def _metadata(r: list[dict[str, Any]], i: int) -> None:
    r[i]["metadata"] = r[i]["metadata"].replace("acme", "evil")


def _drop(r: list[dict[str, Any]], i: int) -> None:
    del r[i]


def _swap(r: list[dict[str, Any]], i: int) -> None:
    j = i - 1 if "position" in r[i - 1] else i + 1
    r[i], r[j] = r[j], r[i]


def _rename(name: str, value: Any) -> Callable[[list[dict[str, Any]], int], None]:
    def change(r: list[dict[str, Any]], i: int) -> None:
        r[i][name] = value if not callable(value) else value(r[i][name])

    return change


CHANGES: dict[str, Callable[[list[dict[str, Any]], int], None]] = {
    "an amount": _amount,
    "metadata": _metadata,
    "an event is gone": _drop,
    "two events change places": _swap,
    "a type": _rename("type", "ledger.hold-voided.v1"),
    "a stream": _rename("stream", "01a20d65-4d01-800c-915e-104e3ed20108"),
    "a version": _rename("version", lambda v: v + 1),
    "a position": _rename("position", lambda v: v + 1),
}


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(sorted(CHANGES)), st.data())
def test_changes_are_found_though_the_file_is_sealed_again(what: str, data: st.DataObject) -> None:
    """The end record protects against accidents; against people, hashes do."""
    changed = [json.loads(line) for line in WHOLE.splitlines()[:-1]]
    events = [i for i, r in enumerate(changed) if "stream" in r]
    CHANGES[what](changed, data.draw(st.sampled_from(events)))
    assert_found(text_of(changed))


def test_a_history_written_anew_is_found_by_who_kept_a_signed_head() -> None:
    """Whoever can compute every hash anew is stopped by a signature, and by nothing else."""
    forged = recorded_ledger(shard=3, seed=8)
    data = text_of(records(forged))
    assert findings(data) == ("", "")
    assert_found(data, kept=True)


def test_a_history_that_was_cut_is_found_by_who_kept_a_signed_head() -> None:
    cut = recorded_ledger(shard=3, batches=2)
    data = text_of(records(cut))
    assert findings(data) == ("", "")
    assert_found(data, kept=True)
    assert_found(text_of(records(cut, [sign(head_of(LEDGER), KEYS)])))


def test_an_unbalanced_transaction_is_found_though_everything_hashes() -> None:
    ledger = recorded_ledger(shard=3)
    event = event_fields(ledger.rows[-1][-1])
    bad = event["data"].replace('"amount":', '"amount":7', 1)  # what the rules would never give
    ledger.rows[-1][-1] = event_row(3, event | {"data": bad})
    batch = ledger.batches[-1]
    root = merkle_root([leaf_hash(row) for row in ledger.rows[-1]])
    chain = link(
        ledger.batches[-2].chain_hash, 3, batch.first_position, batch.last_position, batch.time_us, root
    )
    ledger.batches[-1] = batch._replace(merkle_root=root, chain_hash=chain)
    ledger.chain = chain
    ours, theirs = findings(text_of(records(ledger)))
    assert "does not sum to zero" in ours
    assert "does not sum to zero" in theirs


def test_bytes_that_are_no_text_survive() -> None:
    row = event_row(1, event_fields(LEDGER.rows[0][0]) | {"position": 9})
    fields = event_fields(row)
    binary = {k: v for k, v in fields.items() if k != "data"} | {"data_base64": "/wD/"}
    assert event_fields(event_row(1, binary)) == binary


@pytest.mark.parametrize("text", ["", "{}\n", '{"format":"other"}\n', "not json\n", "[]\n"])
def test_what_is_no_export_is_said_to_be_none(text: str, tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_text(text)
    assert verify_file(path, None).problem
    assert finding(path)
