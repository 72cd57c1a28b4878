"""The story behind the golden histories: a book, its accounts, and payments that end in every way they can."""

from __future__ import annotations

from schemas.auth import commands as auth
from schemas.common.outcomes import CommandRefused
from schemas.compliance.commands import DecideCase
from schemas.ledger import commands as ledger
from schemas.ledger import transactions
from schemas.payments import commands as payments
from tests.kit.stories import Platform, Teller

SECOND = 1_000_000
DAY = 24 * 3600 * SECOND
EUR = "EUR"


def tell(platform: Platform) -> None:
    """All of it, always the same."""
    credentials(platform["auth"])
    ledger_id, accounts = book(platform["ledger"])
    holds(platform["ledger"], ledger_id, accounts)
    ends_of_payments(platform, ledger_id, accounts)
    refusals(platform)


def credentials(teller: Teller) -> None:
    """A client and a key; one of each ends."""
    client = auth.RegisterClient(
        name="Back office", secret_hash="ab" * 32, scopes=["ledger:write", "payments:*"]
    )
    ended = teller.do(client)["client_id"]
    teller.do(auth.RegisterClient(name="Till", secret_hash="cd" * 32, scopes=["payments:write"]))
    teller.do(auth.DisableClient(client_id=ended))
    key = auth.IssueApiKey(
        name="Reports",
        prefix="nfk_a1b2c3d4",
        key_hash="ef" * 32,
        scopes=["ledger:read", "search:read"],
        expires_at=teller.now_us + 90 * DAY,
    )
    teller.do(auth.RevokeApiKey(key_id=teller.do(key)["key_id"]))
    teller.do(key)


def book(teller: Teller) -> tuple[str, dict[str, str]]:
    """A ledger with accounts in two currencies, transactions, a batch and a reversal."""
    ledger_id = teller.do(ledger.CreateLedger(name="Main", metadata={"region": "eu"}))["ledger_id"]
    accounts = {
        code: teller.do(
            ledger.OpenAccount(
                ledger_id=ledger_id,
                code=code,
                currency=currency,
                normal_side="debit" if code.startswith("bank") else "credit",
                name=name,
                floor=None if code.startswith("bank") else 0,
                ceiling=10**12 if code == "alice" else None,
                metadata={"customer": code},
            )
        )["account_id"]
        for code, currency, name in (
            ("bank", EUR, "Cash at the bank"),
            ("alice", EUR, "Alice Example"),
            ("bob", EUR, "Bob Example"),
            ("shop", EUR, "Corner shop"),
            ("idle", EUR, "Never used"),
            ("bank-eth", "ETH", "Custody"),
            ("alice-eth", "ETH", "Alice Example"),
        )
    }
    deposit = transfer(ledger_id, accounts["bank"], accounts["alice"], 1_000_00, reference="deposit-1")
    teller.do(deposit)
    # More than 64 bits: 25 ether in wei are 26 digits in the larger of these.
    for wei in (25 * 10**18, 12_345_678 * 10**18 + 1):
        teller.do(transfer(ledger_id, accounts["bank-eth"], accounts["alice-eth"], wei, currency="ETH"))
    wrong = teller.do(transfer(ledger_id, accounts["alice"], accounts["bob"], 10_00))["transaction_id"]
    teller.do(ledger.ReverseTransaction(ledger_id=ledger_id, transaction_id=wrong, description="Wrong payee"))
    one, two = (
        transfer(ledger_id, accounts["alice"], accounts[payee], amount).transaction
        for payee, amount in (("bob", 20_00), ("shop", 5_00))
    )
    teller.do(ledger.PostBatch(ledger_id=ledger_id, transactions=[one, two]))
    teller.do(
        ledger.SetAccountMetadata(
            ledger_id=ledger_id, account_id=accounts["bob"], metadata={"customer": "", "tier": "gold"}
        )
    )
    teller.do(
        ledger.SetAccountLimits(ledger_id=ledger_id, account_id=accounts["bob"], floor=-50_00, ceiling=10**10)
    )
    teller.do(ledger.CloseAccount(ledger_id=ledger_id, account_id=accounts["idle"]))
    return ledger_id, accounts


def transfer(
    ledger_id: str, debit: str, credit: str, amount: int, *, currency: str = EUR, reference: str | None = None
) -> ledger.PostTransaction:
    """Two legs, the first with a condition that holds."""
    entries = [
        transactions.EntryInput(account_id=debit, side="debit", amount=amount, currency=currency),
        transactions.EntryInput(account_id=credit, side="credit", amount=amount, currency=currency),
    ]
    return ledger.PostTransaction(
        ledger_id=ledger_id,
        transaction=transactions.TransactionInput(
            entries=entries, reference=reference, metadata={"channel": "branch"}
        ),
    )


def holds(teller: Teller, ledger_id: str, accounts: dict[str, str]) -> None:
    """Posted in parts, voided, expired, and one that stays open."""

    def place(amount: int, expires_at: int | None = None) -> str:
        hold = ledger.PlaceHold(
            ledger_id=ledger_id,
            debit_account_id=accounts["alice"],
            credit_account_id=accounts["shop"],
            amount=amount,
            currency=EUR,
            expires_at=expires_at,
            reference="room-12",
        )
        hold_id: str = teller.do(hold)["hold_id"]
        return hold_id

    parts = place(30_00)
    teller.do(ledger.PostHold(ledger_id=ledger_id, hold_id=parts, amount=10_00, final=False))
    teller.do(
        ledger.PostHold(ledger_id=ledger_id, hold_id=parts, amount=15_00, final=True, description="Minibar")
    )
    teller.do(ledger.VoidHold(ledger_id=ledger_id, hold_id=place(5_00), reason="Guest did not come"))
    place(7_00, teller.now_us + 60 * SECOND)
    teller.at(teller.now_us + 61 * SECOND)
    assert len(teller.run_due()) == 1
    place(9_00)


def pay(
    platform: Platform, ledger_id: str, accounts: dict[str, str], payer: str, payee: str, amount: int
) -> str:
    """Initiate; the payment's id."""
    reference = f"invoice-{len(platform['payments'].log)}"
    command = payments.InitiatePayment(
        ledger_id=ledger_id,
        payer=payments.Party(account_id=accounts["alice"], name=payer, country="DE", device_id="device-1"),
        payee=payments.Party(account_id=accounts["bob"], name=payee, country="FR"),
        amount=amount,
        currency=EUR,
        external_reference=reference,
        description="Rent",
    )
    payment_id: str = platform["payments"].at(platform.now_us).do(command)["payment_id"]
    return payment_id


def ends_of_payments(platform: Platform, ledger_id: str, accounts: dict[str, str]) -> None:
    """Settled and refunded; refused by the ledger, by risk, by an officer; released; cancelled; waiting."""
    teller = platform["payments"]
    clear, listed = ("Alice Example", "Bob Example"), ("Alice Example", platform.listed_name)

    settled = pay(platform, ledger_id, accounts, *clear, 100_00)
    platform.settle()
    teller.do(payments.RefundPayment(payment_id=settled, amount=40_00, reason="Damaged"))
    platform.settle()
    # Bob has spent what he got, so the ledger refuses the next refund.
    spend = transfer(ledger_id, accounts["bob"], accounts["shop"], 120_00)
    platform["ledger"].at(platform.now_us).do(spend)
    teller.do(payments.RefundPayment(payment_id=settled, amount=60_00))
    platform.settle()

    pay(platform, ledger_id, accounts, *clear, 10**10)
    platform.settle()

    for decision in ("release", "block"):
        pay(platform, ledger_id, accounts, *listed, 12_00)
        platform.settle()
        case_id = platform.open_case()
        officer = DecideCase(case_id=case_id, decision=decision, note="Compared the dates of birth")
        platform["compliance"].at(platform.now_us).do(officer)
        platform.settle()

    cancelled = pay(platform, ledger_id, accounts, *listed, 13_00)
    platform.settle()
    teller.do(payments.CancelPayment(payment_id=cancelled, reason="Ordered twice"))
    platform.settle()

    pay(platform, ledger_id, accounts, *listed, 14_00)
    platform.settle()
    # One that nobody answers in time: its saga asks again.
    pay(platform, ledger_id, accounts, *clear, 15_00)
    platform.time_out()
    platform.settle()


def refusals(platform: Platform) -> None:
    """One refusal addressed to a saga for every service that the story has not made refuse."""
    for service, teller in platform.tellers.items():
        type_ = f"{service}.{CommandRefused.TYPE}"
        if type_ not in {teller.type_of(emit.event) for emit, _ in teller.log}:
            saga_id = platform["payments"].log[0][0].stream
            refused = CommandRefused(
                command_id=teller.next_id(),
                command_type=next(iter(teller.decider.commands)),
                saga_id=saga_id,
                reason="not-now",
                detail="A sample: this service was not asked anything that it had to refuse.",
            )
            platform.refuse(teller, refused)
