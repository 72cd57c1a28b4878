"""Every view there is, with all versions of its code that a database may still hold."""

from __future__ import annotations

from typing import Final

from projections import ddl
from projections.accounting.v1 import VIEW as ACCOUNTING_V1
from projections.compliance.v1 import VIEW as COMPLIANCE_V1
from projections.compliance.v2 import VIEW as COMPLIANCE_V2
from projections.ledger.v1 import VIEW as LEDGER_V1
from projections.marks import Version
from projections.operations.v1 import VIEW as OPERATIONS_V1
from projections.payments.v1 import VIEW as PAYMENTS_V1
from projections.payments.v2 import VIEW as PAYMENTS_V2
from projections.risk.v1 import VIEW as RISK_V1
from projections.sagas.v1 import VIEW as SAGAS_V1
from projections.view import View

#: Oldest code first; the last is what a rebuild makes.
VIEWS: Final[dict[str, tuple[View, ...]]] = {
    "ledger": (LEDGER_V1,),
    "accounting": (ACCOUNTING_V1,),
    "payments": (PAYMENTS_V1, PAYMENTS_V2),
    "compliance": (COMPLIANCE_V1, COMPLIANCE_V2),
    "risk": (RISK_V1,),
    "sagas": (SAGAS_V1,),
    "operations": (OPERATIONS_V1,),
}


class UnknownCodeError(LookupError):
    """The database holds a version that this code can not keep up."""


def newest(name: str) -> View:
    """The code that a rebuild of view ``name`` makes; ``KeyError`` for an unknown view."""
    return VIEWS[name][-1]


def writer_of(version: Version) -> View | None:
    """The code of this release that can read and write the version's tables, or ``None``."""
    for view in VIEWS.get(version.view, ()):
        if view.code == version.code and version.layout in ("", ddl.layout(view)):
            return view
    return None


def view_of(version: Version) -> View:
    """The same; :class:`UnknownCodeError` when there is none."""
    view = writer_of(version)
    if view is None:
        raise UnknownCodeError(
            f"version {version.version} of view {version.view} has tables of another release: "
            f"`nexafi projections rebuild {version.view}` makes it anew"
        )
    return view
