"""A worker's own notes in the fault library's log: what it will commit, what it was told.

Where the library is not loaded a note costs one call and says nothing.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from contextlib import suppress


def _noting() -> Callable[[str], None]:
    with suppress(AttributeError, OSError):
        put = ctypes.CDLL(None).cwkit_note

        def note(text: str) -> None:
            raw = text.encode()
            put(raw, len(raw))

        return note
    return lambda text: None


note: Callable[[str], None] = _noting()
"""Put a line into the log, in the order of all that the processes do."""
