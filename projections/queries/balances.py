"""Balances at a time, as they were known at a time.

Two times: *effective* is when an entry counts, *recorded* when the ledger learned of it. A balance "effective D, as
known at T" sums the entries that are effective up to D and were recorded up to T. T becomes a vector of positions,
which the answer returns: given back as ``known_at`` it means the same history for ever, whatever clocks say.

No entries are summed for that. Every entry carries the balance that it left, so the last one recorded up to D has the
sum of all up to it; only entries that count at another time than they were recorded are looked at one by one, and
those have an index of their own.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from fastapi import Request

from events.store.moments import Moment, moment_at, moment_of
from nexafi.ids import shard_of
from nexafi.problems import ProblemError
from projections.queries.reading import Reader, time_parameter
from schemas.common import tokens
from schemas.common.envelope import rfc3339
from schemas.ledger.terms import MAX_DEPTH

_TIME: Final = re.compile(r"\d{4}-\d\d-\d\d[Tt ]")

#: Of one account (``a``): the balance of what was recorded up to D, and what dated entries add to it.
_BALANCE: Final = """
    coalesce((SELECT e.balance_after FROM views.entries e
              WHERE e.account_id = a.account_id AND e.recorded_at <= LEAST(CAST(:at AS int8), CAST(:recorded AS int8))
                AND e.position <= :position
              ORDER BY e.recorded_at DESC, e.sequence DESC LIMIT 1), 0)
    + coalesce((SELECT sum(CASE WHEN e.side = a.normal_side THEN e.amount ELSE -e.amount END) FROM views.entries e
                WHERE e.account_id = a.account_id AND e.effective_at <> e.recorded_at
                  AND e.effective_at <= :at AND e.recorded_at > :at AND e.position <= :position), 0)
    - coalesce((SELECT sum(CASE WHEN e.side = a.normal_side THEN e.amount ELSE -e.amount END) FROM views.entries e
                WHERE e.account_id = a.account_id AND e.effective_at <> e.recorded_at
                  AND e.effective_at > :at AND e.recorded_at <= :at AND e.position <= :position), 0)"""
ONE_BALANCE: Final = (
    f"SELECT {_BALANCE} AS balance FROM views.accounts a WHERE a.account_id = CAST(:account_id AS uuid)"  # noqa: S608 - ours
)
ALL_BALANCES: Final = f"""
    WITH b AS (SELECT a.currency, a.normal_side, {_BALANCE} AS balance FROM views.accounts a
               WHERE a.ledger_id = CAST(:ledger_id AS uuid) AND a.tenant = :tenant)
    SELECT currency, count(*) AS accounts,
           sum(CASE WHEN (normal_side = 'debit') = (balance >= 0) THEN abs(balance) ELSE 0 END) AS debit_balances,
           sum(CASE WHEN (normal_side = 'debit') = (balance >= 0) THEN 0 ELSE abs(balance) END) AS credit_balances
    FROM b GROUP BY currency ORDER BY currency"""  # noqa: S608 - ours

#: Debits minus credits by node of a chart (``:nodes``, an array of codes) and currency. An account belongs to the
#: longest code that its own begins with, segment by segment; of several prefixes of one text the longest is the last.
BALANCES_BY_NODE: Final = f"""
    WITH b AS (SELECT a.account_id, a.currency, string_to_array(a.code, ':') AS path,
                      CASE WHEN a.normal_side = 'debit' THEN {_BALANCE} ELSE -({_BALANCE}) END AS net
               FROM views.accounts a WHERE a.ledger_id = CAST(:ledger_id AS uuid) AND a.tenant = :tenant),
         c AS (SELECT b.account_id, b.currency, b.net, max(n.code COLLATE "C") AS node
               FROM b CROSS JOIN generate_series(1, LEAST(cardinality(b.path), {MAX_DEPTH})) AS i
               LEFT JOIN unnest(CAST(:nodes AS text[])) AS n(code) ON n.code = array_to_string(b.path[1:i], ':')
               GROUP BY b.account_id, b.currency, b.net)
    SELECT node, currency, sum(net) AS net FROM c WHERE net <> 0 GROUP BY node, currency ORDER BY currency, node"""  # noqa: S608 - ours

#: What was recorded after ``:since`` and up to ``:position`` and counts up to ``:at``, by account: for each the change
#: of its balance (on its normal side) and the number of entries that made it.
RESTATED: Final = """
    WITH e AS (SELECT CAST(leg->>'account_id' AS uuid) AS account_id, leg->>'side' AS side,
                      CAST(leg->>'amount' AS numeric) AS amount
               FROM views.transactions t CROSS JOIN jsonb_array_elements(t.entries) AS leg
               WHERE t.ledger_id = CAST(:ledger_id AS uuid) AND t.tenant = :tenant AND t.effective_at <= :at
                 AND t.recorded_position > :since AND t.recorded_position <= :position)
    SELECT a.account_id, a.code, a.currency, count(*) AS entries,
           sum(CASE WHEN e.side = a.normal_side THEN e.amount ELSE -e.amount END) AS change
    FROM e JOIN views.accounts a USING (account_id) GROUP BY a.account_id, a.code, a.currency
    ORDER BY a.code LIMIT :most"""
#: The transactions that did it, newest first.
RESTATING: Final = """
    SELECT t.transaction_id, t.effective_at, t.created_at AS recorded_at, t.actor, t.reference, t.description,
           t.reverses, t.entries, j.adjustment_id, j.reason
    FROM views.transactions t LEFT JOIN views.adjustments j USING (transaction_id)
    WHERE t.ledger_id = CAST(:ledger_id AS uuid) AND t.tenant = :tenant AND t.effective_at <= :at
      AND t.recorded_position > :since AND t.recorded_position <= :position
    ORDER BY t.recorded_position DESC LIMIT :most"""


@dataclass(frozen=True)
class Asked:
    """A question about the past: effective up to ``at_us``, recorded up to ``position`` of one shard."""

    tenant: str
    seen: dict[str, int]
    at_us: int
    source: str
    position: int
    recorded_us: int

    @property
    def parameters(self) -> dict[str, int]:
        """For :data:`ONE_BALANCE` and :data:`ALL_BALANCES`."""
        return {"at": self.at_us, "position": self.position, "recorded": self.recorded_us}

    def answer(self, **values: Any) -> dict[str, Any]:
        """The answer with the times and positions that it is true for."""
        positions = {self.source: self.position}
        known = {
            "time": rfc3339(self.recorded_us) if self.position else None,
            "positions": positions,
            "token": tokens.encode(positions),
        }
        return {"at": rfc3339(self.at_us), **values, "known_at": known}


def about_the_past(query: Mapping[str, str]) -> bool:
    """Whether the caller asks for another time than now."""
    return "at" in query or "known_at" in query


async def ask(reader: Reader, request: Request, ledger_id: str, views: tuple[str, ...]) -> Asked:
    """Resolve ``at`` and ``known_at``, and wait until the views have come so far.

    ``known_at`` is a time or the ``token`` of an earlier answer. ``at`` left out is the time of ``known_at``.
    """
    query = request.query_params
    tenant, seen = await reader.ready(request, views)
    await reader.one("ledgers", {"ledger_id": ledger_id, "tenant": tenant})
    at_us = time_parameter(query.get("at"), "at")
    source = next(s for s in seen if s.endswith(f"/{shard_of(ledger_id)}"))
    moment = await resolve(reader, source, query.get("known_at"), seen[source], "known_at")
    if moment.position > seen[source]:
        tenant, seen = await reader.ready(request, views, {source: moment.position})
    at = moment.time_us if at_us is None else at_us
    return Asked(tenant, seen, at, source, moment.position, moment.time_us)


async def resolve(reader: Reader, source: str, text: str | None, newest: int, parameter: str) -> Moment:
    """The moment that ``text`` means for ``source`` (service/shard): a time, a token, or ``None`` for ``newest``."""
    service, _, shard = source.partition("/")
    if text is None:
        moment = await moment_of(reader.engine, service, int(shard), newest)
    elif _TIME.match(text):
        time_us = time_parameter(text, parameter)
        assert time_us is not None
        moment = await moment_at(reader.engine, service, int(shard), time_us)
    else:
        moment = await moment_of(reader.engine, service, int(shard), _given(text, source, parameter))
    if moment is None:
        raise ProblemError("invalid-parameter", "That position is not recorded.", pointer=f"?{parameter}")
    return moment


def _given(token: str, source: str, parameter: str) -> int:
    """The position that a token of an earlier answer has for ``source``."""
    try:
        positions = tokens.decode(token)
    except tokens.MalformedTokenError:
        positions = {}
    if source not in positions:
        raise ProblemError(
            "invalid-parameter",
            "Neither an RFC 3339 time nor a token of this ledger.",
            pointer=f"?{parameter}",
        )
    return positions[source]
