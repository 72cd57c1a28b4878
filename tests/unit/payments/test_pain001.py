"""A bank's file, and files that are broken in every way that matters."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from services.payments.pain001 import document
from services.payments.pain001.checks import iban_is_valid
from services.payments.pain001.document import MAX_DEPTH, read
from services.payments.pain001.instructions import REASONS, Report, parse
from services.payments.pain001.schema import NAMESPACE, VERSIONS, schema_of

REAL = Path(__file__).parents[2] / "data" / "pain.001.001.08.xml"
GOOD_IBAN, OTHER_IBAN = "GB82WEST12345698765432", "DE89370400440532013000"


def transfer(
    end_to_end_id: str = "e2e-1",
    amount: str = '<InstdAmt Ccy="EUR">12.50</InstdAmt>',
    iban: str = OTHER_IBAN,
    name: str = "<Cdtr><Nm>Creditor Ltd</Nm></Cdtr>",
    version: str = "09",
) -> str:
    bic = "BIC" if version == "03" else "BICFI"
    return (
        f"<CdtTrfTxInf><PmtId><EndToEndId>{end_to_end_id}</EndToEndId></PmtId><Amt>{amount}</Amt>"
        f"<CdtrAgt><FinInstnId><{bic}>DEUTDEFF</{bic}></FinInstnId></CdtrAgt>{name}"
        f"<CdtrAcct><Id><IBAN>{iban}</IBAN></Id></CdtrAcct>"
        "<RmtInf><Ustrd>Invoice 7</Ustrd></RmtInf></CdtTrfTxInf>\n"
    )


def block(*transfers: str, version: str = "09", method: str = "TRF", extra: str = "") -> str:
    date = "2026-02-01" if version == "03" else "<Dt>2026-02-01</Dt>"
    bic = "BIC" if version == "03" else "BICFI"
    return (
        f"<PmtInf><PmtInfId>block-1</PmtInfId><PmtMtd>{method}</PmtMtd>{extra}"
        f"<ReqdExctnDt>{date}</ReqdExctnDt><Dbtr><Nm>Debtor plc</Nm><PstlAdr><Ctry>GB</Ctry></PstlAdr></Dbtr>"
        f"<DbtrAcct><Id><IBAN>{GOOD_IBAN}</IBAN></Id></DbtrAcct>"
        f"<DbtrAgt><FinInstnId><{bic}>WESTGB2L</{bic}></FinInstnId></DbtrAgt>\n{''.join(transfers)}</PmtInf>\n"
    )


def message(
    *blocks: str, count: int | None = None, total: str | None = "12.50", version: str = "09"
) -> bytes:
    body = "".join(blocks)
    count = body.count("<CdtTrfTxInf>") if count is None else count
    control = f"<CtrlSum>{total}</CtrlSum>" if total else ""
    return (
        f'<?xml version="1.0" encoding="UTF-8"?>\n<Document xmlns="{NAMESPACE}{version}"><CstmrCdtTrfInitn>\n'
        f"<GrpHdr><MsgId>msg-1</MsgId><CreDtTm>2026-01-01T10:00:00</CreDtTm><NbOfTxs>{count}</NbOfTxs>{control}"
        f"<InitgPty><Nm>Debtor plc</Nm></InitgPty></GrpHdr>\n{body}</CstmrCdtTrfInitn></Document>\n"
    ).encode()


def assert_only(report: Report, reason: str, level: str = "transaction") -> None:
    """Exactly this was refused, with a place."""
    assert [(r.reason, r.level) for r in report.refused] == [(reason, level)], report.refused
    assert report.refused[0].line >= 1
    assert report.refused[0].path.startswith("/")


# ------------------------------------------------------------------ files that are read


def test_the_banks_own_file() -> None:
    report = parse(REAL.read_bytes())
    assert report.refused == []
    (i,) = report.instructions
    assert (report.version, report.message_id, report.transactions) == ("08", "test-160620", 1)
    assert (i.end_to_end_id, i.amount, i.currency, i.line) == ("test-160620", 1000, "GBP", 49)
    assert (i.debtor.name, i.debtor.country, i.debtor.account.identification) == ("UFXQHBE", "QA", "50000970")
    assert (i.creditor.name, i.creditor.account.kind) == ("Creditor account name", "other")
    assert (i.remittance, i.execution_date) == ("USD Payment from USD account", "2020-06-16")


@pytest.mark.parametrize("version", VERSIONS)
def test_every_version(version: str) -> None:
    report = parse(message(block(transfer(version=version), version=version), version=version))
    assert report.refused == []
    (i,) = report.instructions
    assert (i.amount, i.currency, i.execution_date) == (1250, "EUR", "2026-02-01")
    assert (i.debtor.account.identification, i.creditor.account.identification) == (GOOD_IBAN, OTHER_IBAN)


def test_versions_differ_as_the_messages_do() -> None:
    assert parse(message(block(transfer(version="08"), version="03"), version="03")).instructions == []
    uetr = "<UETR>8a562c67-ca16-48ba-b074-65581be6f011</UETR></PmtId>"
    with_uetr = transfer().replace("</PmtId>", uetr)
    assert len(parse(message(block(with_uetr), version="09")).instructions) == 1
    assert_only(parse(message(block(with_uetr), version="08")), "schema-violation")
    assert {schema_of(v).target_namespace for v in VERSIONS} == {NAMESPACE + v for v in VERSIONS}
    with pytest.raises(KeyError):
        schema_of("99")


def test_parts_that_no_payment_is_made_from_may_be_there() -> None:
    rich = transfer().replace("<RmtInf>", "<Purp><Cd>SUPP</Cd></Purp><Tax><Any><Thing/></Any></Tax><RmtInf>")
    assert len(parse(message(block(rich))).instructions) == 1


def test_the_header_total_may_be_left_out_and_counts_every_currency() -> None:
    two = block(transfer("a"), transfer("b", '<InstdAmt Ccy="JPY">100</InstdAmt>'))
    assert len(parse(message(two, total=None)).instructions) == 2
    assert [i.amount for i in parse(message(two, total="112.5")).instructions] == [1250, 100]


def test_a_reference_that_was_not_provided_may_repeat() -> None:
    two = block(transfer("NOTPROVIDED"), transfer("NOTPROVIDED"))
    report = parse(message(two, total="25.00"))
    assert [i.number for i in report.instructions] == [1, 2]


# ------------------------------------------------------------------ one transaction is refused, the others are made


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (transfer("bad", ""), "schema-violation"),
        (transfer("bad", "<InstdAmt>12.50</InstdAmt>"), "schema-violation"),
        (transfer("bad", '<InstdAmt Ccy="EUR">-1</InstdAmt>'), "schema-violation"),
        (transfer("bad", '<InstdAmt Ccy="EUR">1e5</InstdAmt>'), "schema-violation"),
        (transfer("bad", '<InstdAmt Ccy="eur">1</InstdAmt>'), "schema-violation"),
        (transfer("bad", '<InstdAmt Ccy="XXZ">1</InstdAmt>'), "unknown-currency"),
        (transfer("bad", '<InstdAmt Ccy="EUR">1.001</InstdAmt>'), "amount-not-exact"),
        (transfer("bad", '<InstdAmt Ccy="JPY">1.5</InstdAmt>'), "amount-not-exact"),
        (transfer("bad", '<InstdAmt Ccy="EUR">0.00</InstdAmt>'), "amount-not-positive"),
        (
            transfer("bad", '<EqvtAmt><Amt Ccy="EUR">1</Amt><CcyOfTrf>USD</CcyOfTrf></EqvtAmt>'),
            "amount-form-not-supported",
        ),
        (transfer("bad", iban="DE88370400440532013000"), "bad-iban"),
        (transfer("bad", iban="not an iban"), "schema-violation"),
        (transfer("bad", name=""), "name-missing"),
        (transfer("bad", name="<Cdtr><Nm></Nm></Cdtr>"), "schema-violation"),
        (transfer("x" * 36), "schema-violation"),
        (transfer("bad").replace("DEUTDEFF", "deutdeff"), "schema-violation"),
        (transfer("bad").replace("</IBAN></Id>", "</IBAN></Id><Ccy>USD</Ccy>"), "currency-mismatch"),
        (transfer("bad").replace("CdtrAcct>", "IntrmyAgt1Acct>"), "schema-violation"),
        (transfer("good"), "duplicate-end-to-end-id"),
        (transfer("bad").replace("<PmtId>", "<Unknown/><PmtId>"), "schema-violation"),
    ],
)
def test_a_bad_transaction_is_refused_alone(bad: str, reason: str) -> None:
    report = parse(message(block(transfer("good"), bad, transfer("also-good")), total=None))
    assert_only(report, reason)
    assert [i.end_to_end_id for i in report.instructions] == ["good", "also-good"]
    assert [i.number for i in report.instructions] == [1, 3]
    refused = report.refused[0]
    assert refused.line == 6  # every transfer is on a line of its own
    assert refused.path.startswith("/Document/CstmrCdtTrfInitn/PmtInf/CdtTrfTxInf[2]")


def test_a_transaction_without_an_account() -> None:
    no_account = transfer("bad")
    start, end = no_account.index("<CdtrAcct>"), no_account.index("</CdtrAcct>") + len("</CdtrAcct>")
    report = parse(message(block(no_account[:start] + no_account[end:])))
    assert_only(report, "creditor-account-missing")


# ------------------------------------------------------------------ a block is refused, the others are made


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (block(transfer("x"), method="CHK"), "payment-method-not-supported"),
        (block(transfer("x"), method="XYZ"), "schema-violation"),
        (block(transfer("x"), extra="<NbOfTxs>2</NbOfTxs>"), "number-of-transactions-mismatch"),
        (block(transfer("x"), extra="<CtrlSum>1</CtrlSum>"), "control-sum-mismatch"),
        (block(transfer("x")).replace(GOOD_IBAN, "GB83WEST12345698765432"), "bad-iban"),
        (block(transfer("x")).replace("<Nm>Debtor plc</Nm>", ""), "name-missing"),
        (block(transfer("x")).replace("2026-02-01", "2026-02-31"), "schema-violation"),
    ],
)
def test_a_bad_block_is_refused_with_its_transactions(bad: str, reason: str) -> None:
    report = parse(message(bad, block(transfer("good")), total="25.00"))
    assert_only(report, reason, "payment-information")
    assert [i.end_to_end_id for i in report.instructions] == ["good"]
    assert "/PmtInf[1]" in report.refused[0].path


# ------------------------------------------------------------------ the whole file is refused


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (message(block(transfer()), total="12.51"), "control-sum-mismatch"),
        (message(block(transfer()), count=2), "number-of-transactions-mismatch"),
        (message(block(transfer())).replace(b"<MsgId>msg-1</MsgId>", b""), "schema-violation"),
        (message(block(transfer())).replace(b"2026-01-01T10", b"2026-13-01T10"), "schema-violation"),
        (message(), "schema-violation"),
        (message(block(transfer()), version="02"), "wrong-namespace"),
        (message(block(transfer())).replace(b"pain.001.001.09", b"pain.008.001.09"), "wrong-namespace"),
        (message(block(transfer())).replace(b"Document", b"Dokument"), "wrong-namespace"),
        (b"<Document/>", "wrong-namespace"),
        (message(block(transfer()))[:-40], "not-well-formed"),
        (b"", "not-well-formed"),
        (b"\x00\x01", "not-well-formed"),
        (b'<?xml version="1.0" encoding="klingon"?><a/>', "unknown-encoding"),
        (b"<a>" * (MAX_DEPTH + 1), "nested-too-deeply"),
        (b'<!DOCTYPE a [<!ENTITY x "y">]><a>&x;</a>', "forbidden-markup"),
        (b'<!DOCTYPE a SYSTEM "http://127.0.0.1:1/x.dtd"><a/>', "forbidden-markup"),
    ],
)
def test_a_file_is_refused_as_a_whole(data: bytes, reason: str) -> None:
    report = parse(data)
    assert {r.reason for r in report.refused} == {reason}, report.refused
    assert report.refused_as_a_whole
    assert report.instructions == []


def test_an_entity_bomb_does_not_go_off() -> None:
    levels = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 12))
    bomb = f'<?xml version="1.0"?><!DOCTYPE b [<!ENTITY l0 "ha">{levels}]><b>&l11;</b>'.encode()
    started = time.monotonic()
    report = parse(bomb)
    assert report.refused[0].reason == "forbidden-markup"
    assert time.monotonic() - started < 1


def test_a_file_that_is_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(document, "MAX_BYTES", 100)
    assert parse(REAL.read_bytes()).refused[0].reason == "file-too-large"


def test_too_many_transactions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.payments.pain001.instructions.MAX_TRANSACTIONS", 1)
    report = parse(message(block(transfer("a"), transfer("b")), total=None))
    assert_only(report, "too-many-transactions", "group")


def test_ten_thousand_transactions_are_quick() -> None:
    data = message(block(*(transfer(f"e2e-{n}") for n in range(10_000))), total="125000.00")
    started = time.process_time()
    report = parse(data)
    took = time.process_time() - started
    assert (len(report.instructions), report.refused) == (10_000, [])
    assert took < 30
    print(f"\n10,000 transactions, {len(data) / 1e6:.1f} MB: {took:.1f} s of CPU")


# ------------------------------------------------------------------ parts


@pytest.mark.parametrize(
    ("iban", "valid"),
    [
        (GOOD_IBAN, True),
        (OTHER_IBAN, True),
        ("FR1420041010050500013M02606", True),
        ("GB82WEST12345698765423", False),  # two digits changed places
        ("GB28WEST12345698765432", False),
        ("", False),
        ("GB82", False),
        ("GB82WEST1234569876543Ä", False),
    ],
)
def test_check_digits_of_an_iban(iban: str, valid: bool) -> None:
    assert iban_is_valid(iban) is valid


def test_lines_and_paths() -> None:
    read_file = read(b"<a>\n<b/>\n<b>\n<c/></b>\n</a>")
    second = read_file.root[1]
    assert (read_file.lines[second], read_file.lines[second[0]]) == (3, 4)
    assert [read_file.path(x) for x in (read_file.root, second, second[0])] == ["/a", "/a/b[2]", "/a/b[2]/c"]


def test_every_reason_is_explained() -> None:
    assert all(REASONS.values())
