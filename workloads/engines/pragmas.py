"""Pragmas belong to each connection: here every connection sets its own and reads them back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from workloads.engines.engine import Settings

SYNCHRONOUS = ("off", "normal", "full", "extra")
"""PRAGMA synchronous answers with a number: the index into these names, which Settings uses."""

NO_ANSWER = "(no answer)"
"""Read back from a pragma that the engine takes without a word and does not know."""

Query = Callable[[str], list[tuple[Any, ...]]]


def apply(query: Query, settings: Settings, default_journal: str) -> dict[str, Any]:
    """Set every pragma on a connection and read it back.

    query : runs one statement and returns its rows, raising the driver's errors.
    Returns pragma -> value read back; NO_ANSWER, or the engine's own message, where it has none.
    Nothing is raised for a pragma that is refused: the value read back is the one that holds.
    Raises ValueError for a setting that is no word.
    """
    journal = settings.journal_mode or default_journal
    for word in (journal, settings.synchronous):
        if not word.isalnum():
            raise ValueError(f"{word!r} is no value of a pragma. Use a word such as 'wal'.")
    wanted: dict[str, Any] = {
        # First, so that the others wait for a lock as long as anything does.
        "busy_timeout": settings.busy_timeout_ms,
        # Before journal_mode, which writes the first page of a new file.
        "page_size": settings.page_bytes,
        "journal_mode": journal.lower(),
        "synchronous": settings.synchronous.lower(),
        "cache_size": settings.cache_size,
        "wal_autocheckpoint": settings.wal_autocheckpoint,
        "mmap_size": settings.mmap_bytes,
    }
    return {name: _set(query, name, value) for name, value in wanted.items()}


def _set(query: Query, name: str, value: Any) -> Any:
    answer = _read(query, name)
    if answer == value:
        # Not set again: journal_mode=wal on an open WAL database takes locks that other
        # connections of a starting run would wait for.
        return answer
    try:
        query(f"PRAGMA {name}={value}")
    except Exception as error:
        after = _read(query, name)
        return str(error) if after in (NO_ANSWER, answer) and name != "journal_mode" else after
    return _read(query, name)


def _read(query: Query, name: str) -> Any:
    try:
        rows = query(f"PRAGMA {name}")
    except Exception as error:
        return str(error)
    if not rows:
        return NO_ANSWER
    value = rows[0][0]
    if name == "synchronous" and isinstance(value, int) and 0 <= value < len(SYNCHRONOUS):
        return SYNCHRONOUS[value]
    return value.lower() if isinstance(value, str) else value
