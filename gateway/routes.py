"""Every route of the public API in two tables. Adding a command is one line in :data:`COMMANDS`.

A command route says which command it makes, which service decides it and which scope it needs. Path
parameters are ids: they fill the command's fields of the same name, and the one named by ``shard_from``
carries the shard. What is left of the command is the body; with ``wrap`` the body is that one field.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final, Literal

from schemas.auth import commands as auth
from schemas.common.base import Command
from schemas.compliance import commands as compliance
from schemas.ledger import chart, currencies, periods, templates
from schemas.ledger import commands as ledger
from schemas.payments import commands as payments

Method = Literal["GET", "POST", "PATCH", "DELETE"]
_PARAMETER: Final = re.compile(r"{(\w+)}")
#: Secrets that a command may issue; see :mod:`nexafi.credentials`.
Issue = Literal["client-secret", "api-key"]


@dataclass(frozen=True, kw_only=True)
class CommandRoute:
    """One command over HTTP. ``status`` is what a caller gets who waits for acceptance."""

    method: Method = "POST"
    path: str
    command: type[Command]
    service: str
    scope: str
    summary: str
    status: int = 200
    #: Path parameter that carries the shard; ``None`` for a creating command.
    shard_from: str | None = None
    #: The command's field that is the whole body.
    wrap: str | None = None
    #: Where the created object is; ``{names}`` come from the path and the result.
    location: str | None = None
    #: Many of these in one request: the path of the bulk route.
    bulk: str | None = None
    #: The body holds many things and may be as large as the server reads.
    large: bool = False
    #: The gateway makes a secret and puts its hash into the command.
    issues: Issue | None = None
    #: Result fields, for the documentation.
    result: tuple[str, ...] = ()

    @property
    def parameters(self) -> tuple[str, ...]:
        """Names in the path, in order."""
        return tuple(_PARAMETER.findall(self.path))


@dataclass(frozen=True, kw_only=True)
class QueryRoute:
    """A read that the owning service answers at ``/internal`` + the same path."""

    path: str
    service: str
    scope: str
    summary: str
    #: Name of the answer's schema in :mod:`gateway.openapi_schemas`; lists are pages of it.
    schema: str
    page: bool = False
    #: Query parameters by name (see :mod:`gateway.openapi_schemas`), besides ``limit`` and ``cursor`` of pages.
    query: tuple[str, ...] = ()
    method: Method = field(default="GET", init=False)

    @property
    def parameters(self) -> tuple[str, ...]:
        """Names in the path, in order."""
        return tuple(_PARAMETER.findall(self.path))


_L = "/v1/ledgers/{ledger_id}"
_LEDGER_WRITE: Final = "ledger:write"
_PAYMENTS_WRITE: Final = "payments:write"

COMMANDS: Final[tuple[CommandRoute, ...]] = (
    CommandRoute(path="/v1/ledgers", command=ledger.CreateLedger, service="ledger", scope=_LEDGER_WRITE, status=201, location="/v1/ledgers/{ledger_id}", result=("ledger_id",), summary="Create a ledger"),
    CommandRoute(path=f"{_L}/accounts", command=ledger.OpenAccount, service="ledger", scope=_LEDGER_WRITE, shard_from="ledger_id", status=201, location=f"{_L}/accounts/{{account_id}}", result=("account_id",), summary="Open an account"),
    CommandRoute(method="PATCH", path=f"{_L}/accounts/{{account_id}}/metadata", command=ledger.SetAccountMetadata, service="ledger", scope=_LEDGER_WRITE, shard_from="ledger_id", result=("account_id",), summary="Merge an account's metadata"),
    CommandRoute(method="PATCH", path=f"{_L}/accounts/{{account_id}}/limits", command=ledger.SetAccountLimits, service="ledger", scope=_LEDGER_WRITE, shard_from="ledger_id", result=("account_id",), summary="Replace an account's floor and ceiling"),
    CommandRoute(path=f"{_L}/accounts/{{account_id}}/close", command=ledger.CloseAccount, service="ledger", scope=_LEDGER_WRITE, shard_from="ledger_id", result=("account_id",), summary="Close an account"),
    CommandRoute(path=f"{_L}/transactions", command=ledger.PostTransaction, service="ledger", scope=_LEDGER_WRITE, shard_from="ledger_id", wrap="transaction", status=201, location=f"{_L}/transactions/{{transaction_id}}", bulk=f"{_L}/transactions/bulk", result=("transaction_id",), summary="Post a transaction"),
    CommandRoute(path=f"{_L}/transactions/{{transaction_id}}/reverse", command=ledger.ReverseTransaction, service="ledger", scope=_LEDGER_WRITE, shard_from="ledger_id", status=201, location=f"{_L}/transactions/{{transaction_id}}", result=("transaction_id", "reverses"), summary="Reverse a transaction"),
    CommandRoute(path=f"{_L}/transaction-batches", command=ledger.PostBatch, large=True, service="ledger", scope=_LEDGER_WRITE, shard_from="ledger_id", status=201, result=("transaction_ids",), summary="Post several transactions, all or nothing"),
    CommandRoute(path=f"{_L}/holds", command=ledger.PlaceHold, service="ledger", scope=_LEDGER_WRITE, shard_from="ledger_id", status=201, location=f"{_L}/holds/{{hold_id}}", bulk=f"{_L}/holds/bulk", result=("hold_id",), summary="Place a hold"),
    CommandRoute(path=f"{_L}/holds/{{hold_id}}/post", command=ledger.PostHold, service="ledger", scope=_LEDGER_WRITE, shard_from="ledger_id", result=("hold_id", "transaction_id"), summary="Post a hold in full or in part"),
    CommandRoute(path=f"{_L}/holds/{{hold_id}}/void", command=ledger.VoidHold, service="ledger", scope=_LEDGER_WRITE, shard_from="ledger_id", result=("hold_id",), summary="Release a hold"),
    CommandRoute(path=f"{_L}/chart", command=chart.AdoptChart, large=True, service="ledger", scope=_LEDGER_WRITE, shard_from="ledger_id", location=f"{_L}/chart", result=("ledger_id", "revision"), summary="Adopt a chart of accounts"),
    CommandRoute(path=f"{_L}/assets", command=currencies.RegisterAsset, service="ledger", scope=_LEDGER_WRITE, shard_from="ledger_id", status=201, location=f"{_L}/assets", result=("ledger_id",), summary="Register an asset that is no currency"),
    CommandRoute(path=f"{_L}/rates", command=currencies.RecordRate, service="ledger", scope=_LEDGER_WRITE, shard_from="ledger_id", status=201, location=f"{_L}/rates", result=("rate_id",), summary="Record a rate"),
    CommandRoute(path=f"{_L}/conversions", command=currencies.Convert, service="ledger", scope=_LEDGER_WRITE, shard_from="ledger_id", status=201, location=f"{_L}/transactions/{{transaction_id}}", result=("conversion_id", "transaction_id"), summary="Convert money into another currency"),
    CommandRoute(path=f"{_L}/revaluations", command=currencies.Revalue, service="ledger", scope=_LEDGER_WRITE, shard_from="ledger_id", status=201, location=f"{_L}/revaluations", result=("revaluation_id", "transaction_id"), summary="Revalue positions in other currencies"),
    CommandRoute(path=f"{_L}/periods/close", command=periods.ClosePeriod, service="ledger", scope="ledger:close", shard_from="ledger_id", location=f"{_L}/periods", result=("ledger_id", "soft_until", "hard_until"), summary="Close a period, softly or for good"),
    CommandRoute(path=f"{_L}/periods/reopen", command=periods.ReopenPeriod, service="ledger", scope="ledger:close", shard_from="ledger_id", location=f"{_L}/periods", result=("ledger_id", "soft_until", "hard_until"), summary="Reopen what is closed softly"),
    CommandRoute(path=f"{_L}/adjustments", command=periods.PostAdjustment, service="ledger", scope="ledger:adjust", shard_from="ledger_id", status=201, location=f"{_L}/transactions/{{transaction_id}}", result=("adjustment_id", "transaction_id"), summary="Post an adjusting entry into a soft-closed period"),
    CommandRoute(path=f"{_L}/templates", command=templates.DefineTemplate, large=True, service="ledger", scope=_LEDGER_WRITE, shard_from="ledger_id", status=201, location=f"{_L}/templates", result=("template_id", "version"), summary="Define a transaction template, or a new version of one"),
    CommandRoute(path=f"{_L}/templates/apply", command=templates.ApplyTemplate, service="ledger", scope=_LEDGER_WRITE, shard_from="ledger_id", bulk=f"{_L}/templates/apply/bulk", result=("transaction_id", "version"), summary="Post a transaction made by a template, or see what it would be"),
    CommandRoute(path="/v1/payments", command=payments.InitiatePayment, service="payments", scope=_PAYMENTS_WRITE, status=201, location="/v1/payments/{payment_id}", bulk="/v1/payments/bulk", result=("payment_id",), summary="Initiate a payment"),
    CommandRoute(path="/v1/payments/{payment_id}/cancel", command=payments.CancelPayment, service="payments", scope=_PAYMENTS_WRITE, shard_from="payment_id", result=("payment_id",), summary="Ask that a payment be stopped"),
    CommandRoute(path="/v1/payments/{payment_id}/refunds", command=payments.RefundPayment, service="payments", scope=_PAYMENTS_WRITE, shard_from="payment_id", status=201, location="/v1/payments/{payment_id}", result=("payment_id", "refund_id"), summary="Refund a payment in full or in part"),
    CommandRoute(path="/v1/compliance/cases/{case_id}/decision", command=compliance.DecideCase, service="compliance", scope="compliance:decide", shard_from="case_id", result=("case_id",), summary="Release or block a payment in review"),
    CommandRoute(path="/v1/clients", command=auth.RegisterClient, service="auth", scope="auth:admin", status=201, location="/v1/clients/{client_id}", issues="client-secret", result=("client_id",), summary="Register an OAuth 2 client"),
    CommandRoute(method="DELETE", path="/v1/clients/{client_id}", command=auth.DisableClient, service="auth", scope="auth:admin", shard_from="client_id", result=("client_id",), summary="Disable a client"),
    CommandRoute(path="/v1/api-keys", command=auth.IssueApiKey, service="auth", scope="auth:admin", status=201, location="/v1/api-keys/{key_id}", issues="api-key", result=("key_id",), summary="Issue an API key"),
    CommandRoute(method="DELETE", path="/v1/api-keys/{key_id}", command=auth.RevokeApiKey, service="auth", scope="auth:admin", shard_from="key_id", result=("key_id",), summary="Revoke an API key"),
)  # fmt: skip

_LEDGER_READ: Final = "ledger:read"
_PAYMENTS_READ: Final = "payments:read"
_COMPLIANCE_READ: Final = "compliance:read"

QUERIES: Final[tuple[QueryRoute, ...]] = (
    QueryRoute(path="/v1/ledgers", service="ledger", scope=_LEDGER_READ, schema="Ledger", page=True, summary="List ledgers"),
    QueryRoute(path=_L, service="ledger", scope=_LEDGER_READ, schema="Ledger", summary="Read a ledger"),
    QueryRoute(path=f"{_L}/trial-balance", service="ledger", scope=_LEDGER_READ, schema="TrialBalance", query=("at", "known_at", "convert_to", "rates"), summary="Totals by currency and in one, now or at a time as known at a time"),
    QueryRoute(path=f"{_L}/accounts", service="ledger", scope=_LEDGER_READ, schema="Account", page=True, query=("code", "currency", "status"), summary="List accounts"),
    QueryRoute(path=f"{_L}/accounts/{{account_id}}", service="ledger", scope=_LEDGER_READ, schema="Account", query=("at", "known_at"), summary="Read an account and its balance, now or at a time as known at a time"),
    QueryRoute(path=f"{_L}/accounts/{{account_id}}/entries", service="ledger", scope=_LEDGER_READ, schema="Entry", page=True, summary="List the entries of an account"),
    QueryRoute(path=f"{_L}/transactions", service="ledger", scope=_LEDGER_READ, schema="Transaction", page=True, query=("reference", "account_id"), summary="List transactions"),
    QueryRoute(path=f"{_L}/transactions/{{transaction_id}}", service="ledger", scope=_LEDGER_READ, schema="Transaction", summary="Read a transaction"),
    QueryRoute(path=f"{_L}/holds", service="ledger", scope=_LEDGER_READ, schema="Hold", page=True, query=("status", "account_id", "credit_account_id"), summary="List holds"),
    QueryRoute(path=f"{_L}/holds/{{hold_id}}", service="ledger", scope=_LEDGER_READ, schema="Hold", summary="Read a hold"),
    QueryRoute(path="/v1/chart-templates", service="ledger", scope=_LEDGER_READ, schema="ChartTemplates", summary="List the charts of accounts to begin with"),
    QueryRoute(path=f"{_L}/chart", service="ledger", scope=_LEDGER_READ, schema="Chart", summary="Read a ledger's chart of accounts, if it has one"),
    QueryRoute(path=f"{_L}/balance-sheet", service="ledger", scope=_LEDGER_READ, schema="BalanceSheet", query=("at", "known_at", "convert_to", "rates"), summary="Balance sheet in each currency and in one, at a time as known at a time"),
    QueryRoute(path=f"{_L}/income-statement", service="ledger", scope=_LEDGER_READ, schema="IncomeStatement", query=("from", "to", "known_at", "convert_to", "rates"), summary="Income statement of a period as known at a time"),
    QueryRoute(path=f"{_L}/exposure", service="ledger", scope=_LEDGER_READ, schema="Exposure", query=("at", "known_at", "convert_to", "rates"), summary="Open positions in each currency and their worth in one"),
    QueryRoute(path="/v1/currencies", service="ledger", scope=_LEDGER_READ, schema="Currencies", summary="List the currencies of ISO 4217 and the assets that every ledger knows"),
    QueryRoute(path=f"{_L}/assets", service="ledger", scope=_LEDGER_READ, schema="Asset", page=True, summary="List the assets that a ledger has registered"),
    QueryRoute(path=f"{_L}/rates", service="ledger", scope=_LEDGER_READ, schema="Rate", page=True, query=("base", "quote"), summary="List rates"),
    QueryRoute(path=f"{_L}/conversions", service="ledger", scope=_LEDGER_READ, schema="Conversion", page=True, summary="List conversions"),
    QueryRoute(path=f"{_L}/revaluations", service="ledger", scope=_LEDGER_READ, schema="Revaluation", page=True, summary="List revaluations"),
    QueryRoute(path=f"{_L}/restatement", service="ledger", scope=_LEDGER_READ, schema="Restatement", query=("at", "since", "known_at"), summary="What changed up to a time between two times of knowing"),
    QueryRoute(path=f"{_L}/periods", service="ledger", scope=_LEDGER_READ, schema="Period", page=True, summary="List what was closed and reopened"),
    QueryRoute(path=f"{_L}/adjustments", service="ledger", scope=_LEDGER_READ, schema="Adjustment", page=True, summary="List adjusting entries"),
    QueryRoute(path=f"{_L}/templates", service="ledger", scope=_LEDGER_READ, schema="Template", page=True, query=("name",), summary="List the versions of transaction templates"),
    QueryRoute(path="/v1/payments", service="payments", scope=_PAYMENTS_READ, schema="Payment", page=True, query=("status", "external_reference", "ledger_id"), summary="List payments"),
    QueryRoute(path="/v1/payments/{payment_id}", service="payments", scope=_PAYMENTS_READ, schema="Payment", summary="Read a payment with its timeline"),
    QueryRoute(path="/v1/compliance/cases", service="compliance", scope=_COMPLIANCE_READ, schema="Case", page=True, query=("status", "payment_id"), summary="List compliance cases"),
    QueryRoute(path="/v1/compliance/cases/{case_id}", service="compliance", scope=_COMPLIANCE_READ, schema="Case", summary="Read a compliance case"),
    QueryRoute(path="/v1/compliance/screenings", service="compliance", scope=_COMPLIANCE_READ, schema="Screening", page=True, query=("outcome", "payment_id"), summary="List screenings"),
    QueryRoute(path="/v1/compliance/screenings/{screening_id}", service="compliance", scope=_COMPLIANCE_READ, schema="Screening", summary="Read a screening with its hits"),
    QueryRoute(path="/v1/compliance/hits", service="compliance", scope=_COMPLIANCE_READ, schema="ScreeningHit", page=True, query=("entry_id", "payment_id"), summary="List screening hits"),
    QueryRoute(path="/v1/operations", service="payments", scope="events:read", schema="OperationReach", page=True, query=("command_id", "service"), summary="List what commands have caused, in every service"),
    QueryRoute(path="/v1/search", service="payments", scope="search:read", schema="SearchResult", query=("q", "kind", "status", "currency", "side", "ledger_id", "account_id", "reference", "amount_min", "amount_max", "from", "to", "interval", "limit", "cursor"), summary="Search payments and entries"),
    QueryRoute(path="/v1/clients", service="auth", scope="auth:admin", schema="Client", page=True, summary="List clients"),
    QueryRoute(path="/v1/clients/{client_id}", service="auth", scope="auth:admin", schema="Client", summary="Read a client"),
    QueryRoute(path="/v1/api-keys", service="auth", scope="auth:admin", schema="ApiKey", page=True, summary="List API keys"),
    QueryRoute(path="/v1/api-keys/{key_id}", service="auth", scope="auth:admin", schema="ApiKey", summary="Read an API key"),
)  # fmt: skip
