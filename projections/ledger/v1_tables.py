"""Tables of view ``ledger``, code 1."""

from __future__ import annotations

from typing import Final

from sqlalchemy import BigInteger, Index, Integer, MetaData, SmallInteger, Text, text

from projections.view import SCHEMA, Amount, Id, Json, Micros, appended, keyed

_METADATA: Final = MetaData(schema=SCHEMA)

LEDGERS: Final = keyed(_METADATA, "ledgers", {"ledger_id": Id}, name=Text, metadata=Json, accounts=BigInteger)
Index("tenant", LEDGERS.c.tenant, LEDGERS.c.ledger_id)

ACCOUNTS: Final = keyed(
    _METADATA,
    "accounts",
    {"account_id": Id},
    keep=100_000,
    ledger_id=Id,
    code=Text,
    name=Text,
    currency=Text,
    normal_side=Text,
    status=Text,
    floor=(Amount, None),
    ceiling=(Amount, None),
    posted_debit=Amount,
    posted_credit=Amount,
    pending_debit=Amount,
    pending_credit=Amount,
    balance=Amount,
    available=Amount,
    entries=BigInteger,
    open_holds=Integer,
    metadata=Json,
)
Index("code", ACCOUNTS.c.ledger_id, ACCOUNTS.c.code, unique=True)
Index("tenant", ACCOUNTS.c.tenant, ACCOUNTS.c.account_id)

#: ``entries`` repeats the legs, so that reading a page of transactions needs no second index on ``entries``.
TRANSACTIONS: Final = keyed(
    _METADATA,
    "transactions",
    {"transaction_id": Id},
    keep=0,
    ledger_id=Id,
    reference=(Text, None),
    description=Text,
    effective_at=Micros,
    hold_id=(Id, None),
    reverses=(Id, None),
    reversed_by=(Id, None),
    entries=Json,
    metadata=Json,
    actor=Text,
    correlation_id=Text,
    recorded_position=BigInteger,
)
Index("ledger", TRANSACTIONS.c.ledger_id, TRANSACTIONS.c.recorded_position, TRANSACTIONS.c.transaction_id)
Index(
    "reference",
    TRANSACTIONS.c.ledger_id,
    TRANSACTIONS.c.reference,
    postgresql_where=text("reference IS NOT NULL"),
)
Index("changed", TRANSACTIONS.c.shard, TRANSACTIONS.c.position)
TRANSACTIONS.info["storage"] = {"autovacuum_vacuum_insert_scale_factor": 0.2}

#: The key is the order in which an account's entries were recorded; ``sequence`` counts them from 1 without a gap.
#: ``balance_after`` is the posted balance (normal side) that the entry left.
ENTRIES: Final = appended(
    _METADATA,
    "entries",
    {"account_id": Id, "recorded_at": Micros, "sequence": BigInteger},
    ledger_id=Id,
    transaction_id=Id,
    leg=SmallInteger,
    side=Text,
    amount=Amount,
    currency=Text,
    effective_at=Micros,
    balance_after=Amount,
    tenant=Text,
    shard=SmallInteger,
    position=BigInteger,
)
#: Entries that count at another time than they were recorded: few, and all that makes "balance at" hard.
Index(
    "dated",
    ENTRIES.c.account_id,
    ENTRIES.c.effective_at,
    postgresql_where=text("effective_at <> recorded_at"),
)

HOLDS: Final = keyed(
    _METADATA,
    "holds",
    {"hold_id": Id},
    ledger_id=Id,
    debit_account_id=Id,
    credit_account_id=Id,
    amount=Amount,
    currency=Text,
    status=Text,
    remaining=Amount,
    posted=Amount,
    released=Amount,
    expires_at=(Micros, None),
    reference=(Text, None),
    reason=Text,
    transactions=Json,
    metadata=Json,
)
Index("ledger", HOLDS.c.ledger_id, HOLDS.c.hold_id)
Index("debit", HOLDS.c.debit_account_id, HOLDS.c.hold_id)
Index("credit", HOLDS.c.credit_account_id, HOLDS.c.hold_id)

#: Totals of a ledger in one currency. The shard is in the key: what several shards feed is summed on read.
TRIAL_BALANCES: Final = keyed(
    _METADATA,
    "trial_balances",
    {"ledger_id": Id, "currency": Text, "shard": SmallInteger},
    accounts=BigInteger,
    entries=BigInteger,
    posted_debit=Amount,
    posted_credit=Amount,
    pending_debit=Amount,
    pending_credit=Amount,
)
