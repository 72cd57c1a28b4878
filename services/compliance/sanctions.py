"""The screener of this process: the list that the settings name, read once."""

from __future__ import annotations

import structlog

from nexafi.settings import Settings
from services.compliance.lists import ofac
from services.compliance.matching.screener import ListScreener

log = structlog.get_logger(__name__)


def load_screener(settings: Settings) -> ListScreener:
    """The list of ``NEXAFI_SANCTIONS_DIR``, or the bundled copy; a damaged list is a
    :class:`~services.compliance.lists.entries.ListError` and the service does not start."""
    source = ofac.load(settings.sanctions_dir or ofac.BUNDLED)
    screener = ListScreener(source)
    for warning in source.warnings:
        log.warning("sanctions list", detail=warning)
    log.info(
        "sanctions list loaded",
        list=source.list_id,
        version=source.version,
        entries=len(source.entries),
        names=source.names,
        matcher=screener.matcher,
    )
    return screener
