"""Schema ``analytics``: documented read-only views for analysts, and the role that may read nothing else.

Names of people are left out. Amounts are integers of minor units; times are ``timestamptz``. All tenants are
there: analysts belong to who runs the platform.
"""

# ruff: noqa: S608 - queries and names are declared here, never input
from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from nexafi.settings import Settings

ROLE: Final = "nexafi_analyst"
STATEMENT_TIMEOUT: Final = "60s"


@dataclass(frozen=True)
class AnalystView:
    """``columns``: name -> (expression over ``source``, what it means)."""

    name: str
    source: str
    comment: str
    columns: dict[str, tuple[str, str]]


def _at(column: str) -> str:
    """Microseconds as ``timestamptz``, exactly."""
    return f"timestamptz 'epoch' + {column} * interval '1 microsecond'"


_TENANT: Final = ("tenant", "Tenant that owns the row.")
_SHARD: Final = ("shard", "Shard of the service that recorded it.")
_POSITION: Final = ("position", "Position, in the shard's history, of the last event that changed the row.")
_CREATED: Final = (_at("created_at"), "When the first event of the row was recorded.")
_UPDATED: Final = (_at("updated_at"), "When the last event of the row was recorded.")
_CHANGING: Final = {
    "tenant": _TENANT,
    "created_at": _CREATED,
    "updated_at": _UPDATED,
    "shard": _SHARD,
    "position": _POSITION,
}
_CURRENCY: Final = ("currency", "ISO 4217 code or registered asset.")
_LEDGER: Final = ("ledger_id", "Ledger.")
_METADATA: Final = ("metadata", "Metadata of the caller, flat.")

VIEWS: Final = (
    AnalystView(
        "ledgers",
        "views.ledgers",
        "Ledgers: books of a tenant.",
        {
            "ledger_id": _LEDGER,
            "name": ("name", "Name given by the tenant."),
            "accounts": ("accounts", "Accounts opened so far, closed ones included."),
            "metadata": _METADATA,
            **_CHANGING,
        },
    ),
    AnalystView(
        "accounts",
        "views.accounts",
        "Accounts with their balances as of the row's position.",
        {
            "account_id": ("account_id", "Account."),
            "ledger_id": _LEDGER,
            "code": ("code", "Code, unique in the ledger for ever."),
            "currency": _CURRENCY,
            "normal_side": ("normal_side", "Side on which the balance counts as positive: debit or credit."),
            "status": ("status", "open or closed."),
            "floor": ("floor", "Lowest allowed available balance in minor units; null when unlimited."),
            "ceiling": ("ceiling", "Highest allowed balance in minor units; null when unlimited."),
            "posted_debit": ("posted_debit", "Sum of posted debits in minor units."),
            "posted_credit": ("posted_credit", "Sum of posted credits in minor units."),
            "pending_debit": ("pending_debit", "What open holds would debit, in minor units."),
            "pending_credit": ("pending_credit", "What open holds would credit, in minor units."),
            "balance": ("balance", "Posted balance on the normal side, in minor units."),
            "available": ("available", "Balance less what open holds could take, in minor units."),
            "entries": ("entries", "Number of posted entries."),
            "open_holds": ("open_holds", "Number of open holds that name the account."),
            "metadata": _METADATA,
            **_CHANGING,
        },
    ),
    AnalystView(
        "transactions",
        "views.transactions",
        "Posted transactions.",
        {
            "transaction_id": ("transaction_id", "Transaction."),
            "ledger_id": _LEDGER,
            "reference": ("reference", "Reference of the caller."),
            "description": ("description", "Text of the caller."),
            "effective_at": (_at("effective_at"), "When it counts."),
            "hold_id": ("hold_id", "Hold that it posted, if any."),
            "reverses": ("reverses", "Transaction that it mirrors, if any."),
            "reversed_by": ("reversed_by", "Transaction that mirrors it, if any."),
            "entries": ("entries", "Legs: account_id, side, amount, currency; each currency balances."),
            "metadata": _METADATA,
            **_CHANGING,
        },
    ),
    AnalystView(
        "entries",
        "views.entries",
        "Every leg of every posted transaction. For each currency debits equal credits.",
        {
            "account_id": ("account_id", "Account."),
            "sequence": ("sequence", "Running number of the account's entries, from 1, without a gap."),
            "ledger_id": _LEDGER,
            "transaction_id": ("transaction_id", "Transaction."),
            "leg": ("leg", "Index of the leg in its transaction, from 0."),
            "side": ("side", "debit or credit."),
            "amount": ("amount", "Positive amount in minor units."),
            "currency": _CURRENCY,
            "effective_at": (_at("effective_at"), "When it counts."),
            "recorded_at": (_at("recorded_at"), "When the ledger recorded it."),
            "balance_after": (
                "balance_after",
                "Posted balance of the account (normal side) after the entry, as recorded.",
            ),
            "tenant": _TENANT,
            "shard": _SHARD,
            "position": ("position", "Position of the event in the shard's history."),
        },
    ),
    AnalystView(
        "holds",
        "views.holds",
        "Reservations of money between two accounts.",
        {
            "hold_id": ("hold_id", "Hold."),
            "ledger_id": _LEDGER,
            "debit_account_id": ("debit_account_id", "Account that would be debited."),
            "credit_account_id": ("credit_account_id", "Account that would be credited."),
            "amount": ("amount", "Amount reserved at first, in minor units."),
            "currency": _CURRENCY,
            "status": ("status", "open, posted, voided or expired."),
            "remaining": ("remaining", "Still reserved, in minor units."),
            "posted": ("posted", "Posted so far, in minor units."),
            "released": ("released", "Given back so far, in minor units."),
            "expires_at": (_at("expires_at"), "Deadline; null when it has none."),
            "reference": ("reference", "Reference of the caller."),
            "reason": ("reason", "Why it was voided."),
            **_CHANGING,
        },
    ),
    AnalystView(
        "trial_balances",
        "views.trial_balances",
        "Totals of a ledger in one currency. Sum over shards; debits equal credits.",
        {
            "ledger_id": _LEDGER,
            "currency": _CURRENCY,
            "accounts": ("accounts", "Accounts opened in the currency."),
            "entries": ("entries", "Posted entries."),
            "posted_debit": ("posted_debit", "Sum of posted debits in minor units."),
            "posted_credit": ("posted_credit", "Sum of posted credits in minor units."),
            "pending_debit": ("pending_debit", "Sum of what open holds would debit, in minor units."),
            "pending_credit": ("pending_credit", "Sum of what open holds would credit, in minor units."),
            **_CHANGING,
        },
    ),
    AnalystView(
        "payments",
        "views.payments",
        "Payments as they stand, without the names of the parties.",
        {
            "payment_id": ("payment_id", "Payment."),
            "ledger_id": _LEDGER,
            "payer_account_id": ("(payer->>'account_id')::uuid", "Account that pays."),
            "payee_account_id": ("(payee->>'account_id')::uuid", "Account that is paid."),
            "payer_country": ("payer->>'country'", "ISO 3166-1 alpha-2; null when not given."),
            "payee_country": ("payee->>'country'", "ISO 3166-1 alpha-2; null when not given."),
            "status": (
                "status",
                "initiated, in-review, held, posted, settled, cancelling, rejected, cancelled or failed.",
            ),
            "amount": ("amount", "Amount in minor units."),
            "currency": _CURRENCY,
            "external_reference": ("external_reference", "Reference of the caller, unique in the tenant."),
            "score_bp": ("score_bp", "Fraud score in basis points, 0 to 10000."),
            "decision": ("decision", "What the score led to: allow or deny."),
            "screening": ("screening", "Outcome of sanctions screening: clear, review, released or blocked."),
            "case_id": ("case_id", "Compliance case, if one was opened."),
            "hold_id": ("hold_id", "Hold in the ledger."),
            "transaction_id": ("transaction_id", "Transaction in the ledger."),
            "rail": ("rail", "Rail that settled it."),
            "reason": ("reason", "Stable code of why no money moved."),
            "refunded": ("refunded", "Given back so far, in minor units."),
            "refunding": ("refunding", "Refunds under way, in minor units."),
            **_CHANGING,
        },
    ),
    AnalystView(
        "payment_events",
        "views.payment_events",
        "What happened to each payment, in order of position.",
        {
            "payment_id": ("payment_id", "Payment."),
            "position": ("position", "Position of the event in the shard's history."),
            "event": ("event", "Name of the event, e.g. payment-held."),
            "at": (_at("at"), "When it was recorded."),
            "detail": ("detail", "What the event says, without personal data."),
            "tenant": _TENANT,
            "shard": _SHARD,
        },
    ),
    AnalystView(
        "refunds",
        "views.refunds",
        "Refunds of settled payments.",
        {
            "refund_id": ("refund_id", "Refund."),
            "payment_id": ("payment_id", "Payment that is refunded."),
            "amount": ("amount", "Amount in minor units."),
            "currency": _CURRENCY,
            "status": ("status", "requested, settled or failed."),
            "transaction_id": ("transaction_id", "Transaction in the ledger, when settled."),
            "reason": ("reason", "Reason given by the caller, or why the ledger refused."),
            **_CHANGING,
        },
    ),
    AnalystView(
        "screenings",
        "views.screenings",
        "Sanctions screenings of payments.",
        {
            "screening_id": ("screening_id", "Screening."),
            "payment_id": ("payment_id", "Payment."),
            "outcome": ("outcome", "clear or hit."),
            "hits": ("hits", "Number of list entries hit."),
            "case_id": ("case_id", "Case that was opened, if any."),
            "list_version": ("list_version", "SHA-256 over the list that was used."),
            "matcher": ("matcher", "Version of the matching algorithm."),
            "threshold_bp": ("threshold_bp", "Score from which a match is a hit, in basis points."),
            "recorded_at": (_at("recorded_at"), "When it was recorded."),
            "tenant": _TENANT,
            "shard": _SHARD,
            "position": ("position", "Position of the event in the shard's history."),
        },
    ),
    AnalystView(
        "screening_hits",
        "views.screening_hits",
        "List entries that a party of a payment resembles. Entries are public list data.",
        {
            "screening_id": ("screening_id", "Screening."),
            "ordinal": ("ordinal", "Index of the hit in its screening, from 0."),
            "payment_id": ("payment_id", "Payment."),
            "role": ("role", "payer or payee."),
            "list_id": ("list_id", "Sanctions list."),
            "entry_id": ("entry_id", "Entry of the list."),
            "entry_name": ("entry_name", "Main name of the entry."),
            "program": ("program", "Sanctions program of the entry."),
            "score_bp": ("score_bp", "Score of the match in basis points."),
            "tenant": _TENANT,
            "shard": _SHARD,
            "position": ("position", "Position of the event in the shard's history."),
        },
    ),
    AnalystView(
        "cases",
        "views.cases",
        "Compliance cases: payments that wait, or waited, for an officer.",
        {
            "case_id": ("case_id", "Case."),
            "payment_id": ("payment_id", "Payment."),
            "screening_id": ("screening_id", "Screening that opened it."),
            "status": ("status", "open, released, blocked or withdrawn."),
            "decided_by": ("decided_by", "Principal who decided."),
            "decided_at": (_at("decided_at"), "When it was decided."),
            "reason": ("reason", "Stable code of the decision or withdrawal."),
            **_CHANGING,
        },
    ),
    AnalystView(
        "scores",
        "views.scores",
        "Fraud scores with the model that gave them.",
        {
            "score_id": ("score_id", "Score."),
            "payment_id": ("payment_id", "Payment."),
            "payer_account_id": ("payer_account_id", "Account that pays."),
            "payee_account_id": ("payee_account_id", "Account that is paid."),
            "amount": ("amount", "Amount in minor units."),
            "currency": _CURRENCY,
            "score_bp": ("score_bp", "Score in basis points, 0 to 10000."),
            "decision": ("decision", "allow or deny."),
            "threshold_bp": ("threshold_bp", "Score from which a payment is denied, in basis points."),
            "model": ("model", "Name of the model."),
            "model_version": ("model_version", "Version of the model."),
            "model_sha256": ("model_sha256", "SHA-256 of the model artefact."),
            "features": ("features", "Features as the model saw them; units are in the model card."),
            "reasons": ("reasons", "Contribution of each feature, in basis points of log-odds."),
            "recorded_at": (_at("recorded_at"), "When it was recorded."),
            "tenant": _TENANT,
            "shard": _SHARD,
            "position": ("position", "Position of the event in the shard's history."),
        },
    ),
)


def view_statements() -> list[str]:
    """DDL of the documented views."""
    out: list[str] = []
    for view in VIEWS:
        columns = ", ".join(f"{expression} AS {name}" for name, (expression, _) in view.columns.items())
        query = f"SELECT {columns} FROM {view.source}"
        comments = [
            f"COMMENT ON VIEW analytics.{view.name} IS {_quoted(view.comment)};",
            *(
                f"COMMENT ON COLUMN analytics.{view.name}.{name} IS {_quoted(meaning)};"
                for name, (_, meaning) in view.columns.items()
            ),
        ]
        # A view whose source is still of an older release is left out until that has been made anew.
        out.append(
            f"""DO $$ BEGIN
                BEGIN
                    CREATE OR REPLACE VIEW analytics.{view.name} AS {query};
                EXCEPTION WHEN invalid_table_definition THEN
                    DROP VIEW analytics.{view.name};
                    CREATE VIEW analytics.{view.name} AS {query};
                END;
                {" ".join(comments)}
            EXCEPTION WHEN undefined_table OR undefined_column THEN
                DROP VIEW IF EXISTS analytics.{view.name};
            END $$"""
        )
    # Views that were dropped and made again have lost their grants.
    out.append(
        f"""DO $$ BEGIN
            IF EXISTS (SELECT 1 FROM pg_roles WHERE rolname = '{ROLE}') THEN
                GRANT USAGE ON SCHEMA analytics TO {ROLE};
                GRANT SELECT ON ALL TABLES IN SCHEMA analytics TO {ROLE};
            END IF;
        END $$"""
    )
    return out


def role_statement(settings: Settings) -> str:
    """Make the analysts' role: it reads schema ``analytics``, nothing else, and no query runs for ever.

    It has no password: whoever runs the platform sets one (``ALTER ROLE ... PASSWORD``) or grants the role.
    """
    database = settings.database.rpartition("/")[2].partition("?")[0]
    return f"""DO $$ BEGIN
        IF NOT EXISTS (SELECT 1 FROM pg_roles WHERE rolname = '{ROLE}') THEN
            CREATE ROLE {ROLE} LOGIN NOINHERIT CONNECTION LIMIT 20;
        END IF;
        ALTER ROLE {ROLE} SET default_transaction_read_only = on;
        ALTER ROLE {ROLE} SET statement_timeout = '{STATEMENT_TIMEOUT}';
        ALTER ROLE {ROLE} SET idle_in_transaction_session_timeout = '{STATEMENT_TIMEOUT}';
        ALTER ROLE {ROLE} SET search_path = analytics;
        GRANT CONNECT ON DATABASE "{database}" TO {ROLE};
    EXCEPTION
        -- Roles belong to the server: another database's migration may be making the same role at this moment.
        WHEN duplicate_object OR unique_violation OR internal_error THEN NULL;
    END $$"""


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
