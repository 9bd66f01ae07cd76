"""Errors that a user can mend, one sentence each. Any code raises them; a command prints the
sentence and ends with status 2.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from itertools import islice
from typing import Any

LONGEST_NAME, MOST_NAMES = 200, 1000
"""Beyond them nobody mistyped anything, and comparing takes time that grows with both squared."""


def nearest(name: str, known: Iterable[str], cutoff: float = 0.4) -> str:
    """The name that was probably meant, "" where none is near.

    cutoff : how alike they must be, from 0 (there is always one) to 1.

    >>> nearest("writer", ["rows", "writers"]), nearest("zzz", ["rows", "writers"])
    ('writers', '')
    """
    among = list(islice(known, MOST_NAMES))
    found = difflib.get_close_matches(name[:LONGEST_NAME], among, n=1, cutoff=cutoff)
    return found[0] if found else ""


def shortened(value: Any, most: int = 80) -> str:
    """A value as a complaint names it: as Python writes it, and not longer than a line.

    >>> shortened("it"), shortened("x" * 200, 10)
    ("'it'", "'xxxxxxxx…")
    """
    if isinstance(value, (str, bytes)):
        value = value[: most + 1]
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # 5,000 digits; lists in lists in lists
        return f"a value that is too large to show ({type(value).__name__})"
    return text if len(text) <= most else f"{text[: most - 1]}…"


class RunError(ValueError):
    """A folder or a file that cannot be read; the text says which, why, and the way out."""


class LaterVersion(RunError):
    """A file that a later cwkit wrote: its format is not known here, so it is not read."""


class RunFailed(RuntimeError):
    """A run that could not be made; nothing was measured. The text is for the user.

    stderr_text : what the process that failed wrote to its standard error.
    """

    def __init__(self, sentence: str, stderr_text: str = "") -> None:
        super().__init__(sentence)
        self.stderr_text = stderr_text


def mode_label(mode: str) -> str:
    """A mode as SQL says it: a BEGIN of SQLite's family, an isolation level, or no transaction.

    >>> mode_label("concurrent"), mode_label("read-committed"), mode_label("autocommit")
    ('BEGIN CONCURRENT', 'READ COMMITTED', 'autocommit')
    """
    if mode == "autocommit":
        return mode
    words = mode.upper().replace("-", " ")
    return f"BEGIN {words}" if mode in (*SQLITES, "readonly") else words


SQLITES = ("deferred", "immediate", "exclusive", "concurrent")
"""The words after BEGIN that SQLite's family takes."""


class ModeRefused(RunFailed):
    """An engine refused the BEGIN mode asked for. `message` is the engine's own."""

    def __init__(self, engine: str, mode: str, message: str) -> None:
        super().__init__(
            f"{engine} refuses {mode_label(mode)}: {message.rstrip('.')}. "
            "`cwkit engines` shows which engine accepts which mode."
        )
        self.engine, self.mode, self.message = engine, mode, message


class FolderUnwritable(RunFailed):
    """The runs' folder or the databases' folder cannot be written, or its disk is full."""


class TooLong(RunFailed):
    """Loading or checking came to its limit."""


class PlanError(ValueError):
    """A plan that cannot be run: one sentence with the way out.

    field : the plan's field or the scenario's parameter that it begins with, "" where none is.
    """

    def __init__(self, sentence: str, field: str = "") -> None:
        super().__init__(sentence)
        self.field = field


class UnknownName(ValueError):
    """A name that no registry has; the text carries the nearest one."""


class NotTrusted(UnknownName):
    """A file that a folder names and nobody on the command line."""


class EngineMissing(RuntimeError):
    """An engine that is not installed here; the text says what is missing and how to get it."""


class HistoryError(ValueError):
    """A history that can't be read: the file, the line and the rule, in one sentence."""
