from __future__ import annotations

from nexafi.settings import Settings


def statements(settings: Settings) -> list[str]:
    return []
