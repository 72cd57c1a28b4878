"""Why the ledger refuses a command. The table is the contract: codes are stable, sentences may improve.

``docs/concepts/ledger.md`` shows this table, and a test fails when the two differ or when a reason has no test.
"""

from __future__ import annotations

from typing import Final

#: Stable reason (kebab-case) -> when a command is refused for it.
REASONS: Final[dict[str, str]] = {
    "ledger-not-found": "There is no such ledger, or it is another tenant's: the two can not be told apart.",
    "account-not-found": "The ledger has no such account.",
    "account-closed": "The account was closed.",
    "account-not-empty": "An account is closed only when its posted balance is zero.",
    "account-has-holds": "An account is closed only when no open hold names it.",
    "code-taken": "An account of this ledger has, or had before it closed, this code.",
    "unknown-currency": "The code is neither an ISO 4217 currency nor a registered asset.",
    "currency-mismatch": "The entry or hold is in another currency than the account.",
    "floor-above-ceiling": "The floor is above the ceiling.",
    "balance-outside-limits": "The balance of the account is already outside the limits asked for.",
    "metadata-too-large": "The account would have more than 32 metadata entries.",
    "unbalanced": "In some currency the debits do not equal the credits.",
    "condition-not-met": "The balance before the transaction does not satisfy the entry's condition.",
    "insufficient-funds": "The available balance would fall below the account's floor.",
    "ceiling-exceeded": "The posted balance, with what holds may still bring in, would rise above the ceiling.",
    "amount-overflow": "A balance would need more than 38 digits.",
    "transaction-not-found": "The ledger has no such transaction.",
    "already-reversed": "The transaction was reversed before.",
    "same-account": "A hold needs two different accounts.",
    "expires-in-the-past": "The deadline of the hold is not after the time of the command.",
    "hold-not-found": "The ledger has no such hold.",
    "saga-only": "It belongs to a payment: only that payment's saga posts or voids its hold, or reverses it.",
    "hold-closed": "The hold was posted in full or voided.",
    "hold-expired": "The deadline of the hold has passed, whether or not its expiry is recorded yet.",
    "hold-not-due": "The deadline of the hold has not passed, or it has none.",
    "amount-exceeds-hold": "More was asked for than is still reserved.",
    "internal-command": "Only the writer's own timer expires a hold.",
    "chart-empty": "A chart needs a template or a node.",
    "chart-node-twice": "The chart has, perhaps from its template, another node of this code.",
    "chart-type-conflict": "The node is of another type than the one above it.",
    "facing-matches-nothing": "The pattern means no node of the chart.",
    "account-outside-chart": "An open account has no place in the chart, or grows on the other side than its place.",
    "code-not-in-chart": "The ledger's chart has no place for an account of this code.",
    "side-not-of-chart": "The chart has the account grow on the other side.",
    "accounts-may-not-face": "The chart does not allow one account to be debited where the other is credited.",
    "asset-known": "The code is a currency, or an asset that is registered already.",
    "same-currency": "Two different currencies are needed here.",
    "rate-not-found": "No rate was given, and the ledger has none between these currencies.",
    "rate-too-old": "The rate was observed longer ago than the command allows.",
    "rate-from-the-future": "A rate can not have been observed after the time of the command.",
    "nothing-converted": "At this rate the amount is less than one minor unit of the other currency.",
    "rounding-account-missing": "Rounding leaves a minor unit, and no account is named that takes it.",
    "position-twice": "An account is a position once.",
    "period-closed": "The time at which it is to count lies in a closed period.",
    "period-not-over": "Only what is past can be closed.",
    "period-already-closed": "The books are closed up to this time already.",
    "period-not-closed": "The time does not lie in a soft-closed period.",
    "template-invalid": "The template does not mean anything: the detail says why.",
    "too-many-templates": "A ledger has at most 200 templates.",
    "template-not-found": "The ledger has no template of this name.",
    "template-changed": "The ledger has another version of the template than the one that was meant.",
    "variable-missing": "The template has a variable that was given no value.",
    "variable-unknown": "The template has no such variable.",
    "sources-insufficient": "The sources of a flow do not have the amount.",
    "nothing-to-move": "With these amounts the template moves nothing.",
}


class Refusal(Exception):  # noqa: N818 - an outcome of a rule, not a failure of the program
    """Ends a rule early. ``pointer`` is a JSON Pointer (RFC 6901) into the data of the command."""

    def __init__(self, reason: str, pointer: str | None = None, detail: str = "") -> None:
        assert reason in REASONS, f"reason {reason!r} is not in the table"
        super().__init__(reason)
        self.reason = reason
        self.pointer = pointer
        self.detail = detail or REASONS[reason]

    def at(self, pointer: str) -> Refusal:
        """The same refusal, pointing elsewhere: for a rule that weighs what another rule made of its command."""
        return Refusal(self.reason, pointer, self.detail)
