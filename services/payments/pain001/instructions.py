"""From a pain.001 file to payment instructions, and a line for everything that was refused.

Three levels, as a bank does it. A file whose *group header* is inconsistent is refused as a whole: nothing in it can be
trusted. A *payment information* block that is wrong is refused with all of its transactions. A *transaction*
that is wrong is refused alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from typing import Final, Literal
from xml.etree.ElementTree import Element

from schemas.common.money import UnknownCurrencyError, parse_amount
from services.payments.pain001.checks import NOT_PROVIDED, iban_is_valid
from services.payments.pain001.document import Document, UnreadableFileError, local_name, read
from services.payments.pain001.schema import NAMESPACE, VERSIONS, schema_of

MAX_TRANSACTIONS: Final = 100_000
Level = Literal["group", "payment-information", "transaction"]

REASONS: Final[dict[str, str]] = {
    "file-too-large": "The file is larger than an import reads.",
    "unknown-encoding": "The file is not in the encoding that it declares.",
    "not-well-formed": "The file is not XML; it may be truncated.",
    "forbidden-markup": "A document type or an entity is declared, which no message has.",
    "nested-too-deeply": "Elements are nested more deeply than any message's.",
    "wrong-namespace": "The document is not a pain.001.001 message of a version that is read.",
    "schema-violation": "An element is missing, unknown, out of place, or its value has the wrong form.",
    "too-many-transactions": "The message has more transactions than one import takes.",
    "number-of-transactions-mismatch": "NbOfTxs is not the number of transactions.",
    "control-sum-mismatch": "CtrlSum is not the sum of the amounts.",
    "payment-method-not-supported": "Only transfers (PmtMtd TRF) are made; no cheques, no advices.",
    "amount-form-not-supported": "The amount must be instructed (InstdAmt), not an equivalent amount.",
    "unknown-currency": "The currency is not one that payments are made in.",
    "amount-not-exact": "The amount has more decimal places than its currency.",
    "amount-not-positive": "The amount is zero.",
    "bad-iban": "The check digits of an IBAN are wrong (ISO 13616, mod 97-10).",
    "currency-mismatch": "The account is held in another currency than the amount.",
    "name-missing": "Debtor and creditor need a name, since both are screened.",
    "creditor-account-missing": "The creditor has no account.",
    "duplicate-end-to-end-id": "An earlier transaction of the file has the same EndToEndId.",
}
"""Why something was refused, and what it means."""


@dataclass(frozen=True, slots=True)
class BankAccount:
    """An account as the bank names it."""

    kind: Literal["iban", "other"]
    identification: str
    currency: str | None = None


@dataclass(frozen=True, slots=True)
class BankParty:
    """Debtor or creditor; ``country`` is ISO 3166-1 alpha-2."""

    name: str
    country: str | None
    account: BankAccount


@dataclass(frozen=True, slots=True)
class Instruction:
    """One transfer that can be made. ``amount`` in minor units; ``line`` where it begins; ``number`` in the file."""

    number: int
    line: int
    message_id: str
    payment_information_id: str
    end_to_end_id: str
    amount: int
    currency: str
    debtor: BankParty
    creditor: BankParty
    remittance: str
    execution_date: str


@dataclass(frozen=True, slots=True)
class Refused:
    """One thing that was refused, with the place in the file."""

    level: Level
    line: int
    path: str
    reason: str
    detail: str
    end_to_end_id: str = ""


@dataclass(slots=True)
class Report:
    """What a file came to."""

    version: str = ""
    message_id: str = ""
    transactions: int = 0
    instructions: list[Instruction] = field(default_factory=list)
    refused: list[Refused] = field(default_factory=list)

    @property
    def refused_as_a_whole(self) -> bool:
        """Whether the header, and so everything, was refused."""
        return any(r.level == "group" for r in self.refused)


def parse(data: bytes) -> Report:
    """Instructions and refusals of a file. Never raises for what a file contains."""
    report = Report()
    try:
        document = read(data)
        report.version = _version(document)
    except UnreadableFileError as error:
        report.refused.append(Refused("group", error.line, "/", error.reason, error.detail))
        return report
    _Reader(document, report).run()
    if report.refused_as_a_whole:
        report.instructions.clear()
    return report


def _version(document: Document) -> str:
    namespace, _, name = document.root.tag.removeprefix("{").rpartition("}")
    version = namespace.removeprefix(NAMESPACE)
    if name != "Document" or not namespace.startswith(NAMESPACE) or version not in VERSIONS:
        known = ", ".join(VERSIONS)
        raise UnreadableFileError(
            "wrong-namespace",
            f"{document.root.tag[:100]!r} is not Document of pain.001.001 ({known})",
            document.lines[document.root],
        )
    return version


@dataclass(frozen=True, slots=True)
class _Block:
    """What the transactions of a payment information block share."""

    payment_information_id: str
    debtor: BankParty
    execution_date: str


class _Reader:
    """One pass over a document."""

    def __init__(self, document: Document, report: Report) -> None:
        self.document, self.report = document, report
        self.schema = schema_of(report.version)
        self.namespace = f"{{{NAMESPACE}{report.version}}}"
        self.seen: set[str] = set()
        self.bad_blocks: set[Element] = set()

    def run(self) -> None:
        """Check the frame, then each block, then each transaction."""
        root, report = self.document.root, self.report
        self._check_frame(root)
        header = root.find(f"./*/{self.namespace}GrpHdr")
        if header is not None and not report.refused_as_a_whole:
            self._read(root, header)

    def _read(self, root: Element, header: Element) -> None:
        report = self.report
        blocks = root.findall(f"./*/{self.namespace}PmtInf")
        transactions = [t for b in blocks for t in self._transactions(b)]
        report.message_id = self._text(header, "MsgId")
        report.transactions = len(transactions)
        if len(transactions) > MAX_TRANSACTIONS:
            self._refuse("group", header, "too-many-transactions", f"{len(transactions)} transactions")
            return
        self._check_totals("group", header, transactions)
        if not report.refused_as_a_whole:
            self._read_blocks(blocks)

    def _read_blocks(self, blocks: list[Element]) -> None:
        number = 0
        for block in blocks:
            self._check_block(block)
            facts = self._facts(block)
            for transaction in self._transactions(block):
                number += 1
                if facts is not None:
                    self._transaction(facts, transaction, number)

    # ------------------------------------------------------------------ frame and totals

    def _check_frame(self, root: Element) -> None:
        """Everything but the transactions, whose content the frame does not look into."""
        for error in self.schema.iter_errors(root):
            element = error.elem if isinstance(error.elem, Element) else root
            block = self._enclosing(element, "PmtInf")
            detail = f"{local_name(element)}: {error.reason or error.message}"
            if block is None:
                self._refuse("group", element, "schema-violation", detail)
            else:
                self.bad_blocks.add(block)
                self._refuse("payment-information", element, "schema-violation", detail)

    def _check_block(self, block: Element) -> None:
        if block in self.bad_blocks:
            return
        level: Level = "payment-information"
        before = len(self.report.refused)
        self._check_totals(level, block, self._transactions(block))
        if self._text(block, "PmtMtd") != "TRF":
            self._refuse(level, block, "payment-method-not-supported", self._text(block, "PmtMtd"))
        if not self._text(block, "Dbtr", "Nm"):
            self._refuse(level, block, "name-missing", "the debtor has no name")
        self._check_iban(level, block, "DbtrAcct", "")
        if len(self.report.refused) > before:
            self.bad_blocks.add(block)

    def _check_totals(self, level: Level, where: Element, transactions: list[Element]) -> None:
        stated = self._text(where, "NbOfTxs")
        if stated and int(stated) != len(transactions):
            detail = f"NbOfTxs is {stated}, there are {len(transactions)}"
            self._refuse(level, where, "number-of-transactions-mismatch", detail)
        stated = self._text(where, "CtrlSum")
        amounts = [self._decimal(t) for t in transactions]
        if stated and None not in amounts:  # a transaction without a readable amount is refused by itself
            total = sum((a for a in amounts if a is not None), Decimal(0))
            if Decimal(stated.strip()) != total:
                self._refuse(level, where, "control-sum-mismatch", f"CtrlSum is {stated}, the sum is {total}")

    # ------------------------------------------------------------------ transactions

    def _facts(self, block: Element) -> _Block | None:
        """Read once for each block: finding them takes longer the more transactions it has."""
        debtor = self._party(block, "Dbtr")
        if block in self.bad_blocks or debtor is None:
            return None
        return _Block(self._text(block, "PmtInfId"), debtor, self._execution_date(block))

    def _transaction(self, block: _Block, t: Element, number: int) -> None:
        level: Level = "transaction"
        before = len(self.report.refused)
        end_to_end_id = self._text(t, "PmtId", "EndToEndId")
        for error in self.schema.iter_errors(t):
            element = error.elem if isinstance(error.elem, Element) else t
            detail = f"{local_name(element)}: {error.reason or error.message}"
            self._refuse(level, element, "schema-violation", detail, end_to_end_id)
        if len(self.report.refused) > before:
            return
        amount, currency = self._amount(t, end_to_end_id)
        self._check_iban(level, t, "CdtrAcct", end_to_end_id)
        creditor, debtor = self._party(t, "Cdtr"), block.debtor
        if creditor is None:
            self._refuse(level, t, "creditor-account-missing", "", end_to_end_id)
        elif not creditor.name:
            self._refuse(level, t, "name-missing", "the creditor has no name", end_to_end_id)
        for party in (creditor, debtor):
            if party is not None and party.account.currency not in (None, currency):
                detail = f"the account is in {party.account.currency}, the amount in {currency}"
                self._refuse(level, t, "currency-mismatch", detail, end_to_end_id)
        if end_to_end_id != NOT_PROVIDED:
            if end_to_end_id in self.seen:
                self._refuse(level, t, "duplicate-end-to-end-id", end_to_end_id, end_to_end_id)
            self.seen.add(end_to_end_id)
        if len(self.report.refused) > before or creditor is None:
            return
        self.report.instructions.append(
            Instruction(
                number,
                self.document.lines[t],
                self.report.message_id,
                block.payment_information_id,
                end_to_end_id,
                amount,
                currency,
                debtor,
                creditor,
                " ".join(self._remittance(t)),
                block.execution_date,
            )
        )

    def _amount(self, t: Element, end_to_end_id: str) -> tuple[int, str]:
        """Minor units and currency; (0, code) after a refusal."""
        element = self._find(t, "Amt", "InstdAmt")
        if element is None:
            self._refuse("transaction", t, "amount-form-not-supported", "", end_to_end_id)
            return 0, ""
        currency, text = element.get("Ccy", ""), (element.text or "").strip()
        try:
            amount = parse_amount(text, currency)
        except UnknownCurrencyError:
            self._refuse("transaction", element, "unknown-currency", currency, end_to_end_id)
            return 0, currency
        except ValueError as error:
            self._refuse("transaction", element, "amount-not-exact", str(error), end_to_end_id)
            return 0, currency
        if amount <= 0:
            self._refuse("transaction", element, "amount-not-positive", text, end_to_end_id)
        return amount, currency

    def _check_iban(self, level: Level, where: Element, account: str, end_to_end_id: str) -> None:
        element = self._find(where, account, "Id", "IBAN")
        if element is not None and not iban_is_valid(element.text or ""):
            self._refuse(level, element, "bad-iban", element.text or "", end_to_end_id)

    def _party(self, where: Element, name: str) -> BankParty | None:
        """Name, country and account of ``Dbtr`` or ``Cdtr``; ``None`` without an account."""
        iban = self._text(where, f"{name}Acct", "Id", "IBAN")
        other = self._text(where, f"{name}Acct", "Id", "Othr", "Id")
        if not iban and not other:
            return None
        country = self._text(where, name, "CtryOfRes") or self._text(where, name, "PstlAdr", "Ctry")
        currency = self._text(where, f"{name}Acct", "Ccy") or None
        account = BankAccount("iban", iban, currency) if iban else BankAccount("other", other, currency)
        return BankParty(self._text(where, name, "Nm"), country or None, account)

    def _remittance(self, t: Element) -> Iterator[str]:
        for element in t.findall(f"{self.namespace}RmtInf/{self.namespace}Ustrd"):
            yield (element.text or "").strip()

    def _execution_date(self, block: Element) -> str:
        for names in (("ReqdExctnDt", "Dt"), ("ReqdExctnDt", "DtTm"), ("ReqdExctnDt",)):
            text = self._text(block, *names)
            if text:
                return text[:10]
        return ""

    # ------------------------------------------------------------------ small things

    def _transactions(self, block: Element) -> list[Element]:
        return block.findall(f"{self.namespace}CdtTrfTxInf")

    def _find(self, element: Element, *names: str) -> Element | None:
        return element.find("/".join(self.namespace + n for n in names))

    def _text(self, element: Element, *names: str) -> str:
        found = self._find(element, *names)
        return "" if found is None else (found.text or "").strip()

    def _decimal(self, t: Element) -> Decimal | None:
        """The amount as it stands, in whatever form and currency; ``None`` when it can not be read."""
        text = self._text(t, "Amt", "InstdAmt") or self._text(t, "Amt", "EqvtAmt", "Amt")
        try:
            value = Decimal(text)
        except InvalidOperation:
            return None
        return value if value.is_finite() else None

    def _enclosing(self, element: Element, name: str) -> Element | None:
        found: Element | None = element
        while found is not None and local_name(found) != name:
            found = self.document.parents.get(found)
        return found

    def _refuse(
        self, level: Level, element: Element, reason: str, detail: str, end_to_end_id: str = ""
    ) -> None:
        assert reason in REASONS, reason
        line, path = self.document.lines[element], self.document.path(element)
        text = " ".join((detail or REASONS[reason]).split())[:300]
        self.report.refused.append(Refused(level, line, path, reason, text, end_to_end_id))
