"""Schema ``analytics``: documented read-only views for analysts, and the role that may read nothing else."""

# ruff: noqa: S608, ISC004 - queries and names are declared here, never input

from __future__ import annotations

from typing import Final

from nexafi.settings import Settings

ROLE: Final = "nexafi_analyst"
#: name -> (query, what it is, column comments)
_VIEWS: Final[dict[str, tuple[str, str, dict[str, str]]]] = {
    "accounts": (
        "SELECT account_id, ledger_id, tenant, code, currency, normal_side, status, balance, available, "
        "entries, to_timestamp(updated_at / 1e6) AS updated_at, shard, position FROM views.accounts",
        "Accounts with their balances as of (shard, position) of the ledger service.",
        {
            "balance": "Posted balance on the normal side, in minor units.",
            "available": "Balance less what open holds could take, in minor units.",
            "position": "Position of the last event that changed the row.",
        },
    ),
    "entries": (
        "SELECT account_id, sequence, ledger_id, transaction_id, tenant, side, amount, currency, "
        "to_timestamp(recorded_at / 1e6) AS recorded_at, to_timestamp(effective_at / 1e6) AS effective_at, "
        "balance_after, shard, position FROM views.entries",
        "Every leg of every posted transaction.",
        {
            "recorded_at": "When the ledger recorded it.",
            "effective_at": "When it counts.",
            "balance_after": "Posted balance of the account after the entry, in minor units.",
        },
    ),
    "payments": (
        "SELECT payment_id, ledger_id, tenant, status, amount, currency, reason, score_bp, refunded, "
        "to_timestamp(created_at / 1e6) AS created_at, to_timestamp(updated_at / 1e6) AS updated_at, "
        "shard, position FROM views.payments",
        "Payments as they stand; parties are left out.",
        {"score_bp": "Fraud score in basis points.", "reason": "Why it ended without money."},
    ),
}


def statements(settings: Settings) -> list[str]:
    """DDL of the schema and the role; the role is skipped, with a notice, where roles can not be made."""
    database = settings.database.rpartition("/")[2].partition("?")[0]
    out = ["CREATE SCHEMA IF NOT EXISTS analytics"]
    for name, (query, comment, columns) in _VIEWS.items():
        out.append(f"CREATE OR REPLACE VIEW analytics.{name} AS {query}")
        out.append(f"COMMENT ON VIEW analytics.{name} IS '{comment}'")
        out += [f"COMMENT ON COLUMN analytics.{name}.{c} IS '{text}'" for c, text in columns.items()]
    out.append(
        f"""DO $$ BEGIN
            IF NOT EXISTS (SELECT 1 FROM pg_roles WHERE rolname = '{ROLE}') THEN
                CREATE ROLE {ROLE} LOGIN;
            END IF;
            ALTER ROLE {ROLE} SET default_transaction_read_only = on;
            ALTER ROLE {ROLE} SET statement_timeout = '60s';
            GRANT CONNECT ON DATABASE "{database}" TO {ROLE};
            GRANT USAGE ON SCHEMA analytics TO {ROLE};
            GRANT SELECT ON ALL TABLES IN SCHEMA analytics TO {ROLE};
        EXCEPTION WHEN insufficient_privilege THEN
            RAISE NOTICE 'role {ROLE} not made: the database user lacks CREATEROLE';
        END $$"""
    )
    return out
