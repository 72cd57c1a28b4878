"""Finding what a command names, without telling anyone of what is not theirs."""

from __future__ import annotations

from events.decider import Context
from services.ledger.reasons import Refusal
from services.ledger.state import Account, Ledger, State


def owned(ledger_id: str, state: State, ctx: Context) -> Ledger:
    """The ledger, if it is the caller's tenant's. Another tenant's is refused like one that does not exist."""
    ledger = state.ledgers.get(ledger_id)
    if ledger is None or ledger.tenant != ctx.tenant:
        raise Refusal("ledger-not-found", "/ledger_id")
    return ledger


def account_of(ledger: Ledger, account_id: str, pointer: str = "/account_id") -> Account:
    """An open account of ``ledger``."""
    account = ledger.accounts.get(account_id)
    if account is None:
        raise no_account(ledger, account_id, pointer)
    return account


def no_account(ledger: Ledger, account_id: str, pointer: str) -> Refusal:
    """Why the ledger has no such open account."""
    return Refusal("account-closed" if account_id in ledger.closed else "account-not-found", pointer)


def other_currency(account: Account, currency: str, pointer: str) -> Refusal:
    """The account is in another currency than was asked for."""
    return Refusal(
        "currency-mismatch", pointer, f"account {account.id} is in {account.currency}, not in {currency}"
    )


def require_saga(saga_id: str, ctx: Context, pointer: str) -> None:
    """What a payment's saga did is the saga's: changed from outside, the payment would tell a wrong story."""
    if saga_id and saga_id != ctx.saga_id:
        raise Refusal("saga-only", pointer)
