"""Pragmas belong to each connection: here every connection sets its own and reads them back."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from dataclasses import fields
from functools import lru_cache
from typing import Any

from workloads.engines.engine import Settings
from workloads.errors import shortened

SYNCHRONOUS = ("off", "normal", "full", "extra")
"""PRAGMA synchronous answers with a number: the index into these names, which Settings uses."""

NO_ANSWER = "(no answer)"
"""Read back from a pragma that the engine takes without a word and does not know."""

NAMED_OTHERWISE = {
    "busy_timeout_ms": "busy_timeout",
    "page_bytes": "page_size",
    "mmap_bytes": "mmap_size",
}
NO_PRAGMAS = ("sync", "pragma")
PRAGMAS = {
    one.name: NAMED_OTHERWISE.get(one.name, one.name)
    for one in fields(Settings)
    if one.name not in NO_PRAGMAS
}
"""Field of Settings, and of a plan -> the pragma that it sets."""

FIRST = ("busy_timeout", "page_size")
"""Set before the others: those then wait for a lock as long as anything does, and journal_mode
writes the first page of a new file."""

OF_CONNECTION = ("busy_timeout", "wal_autocheckpoint")
"""Hold for all files of a connection; the other pragmas are those of one file."""

OF_FILE = ("page_size", "auto_vacuum")
"""Options that belong to the file: they hold from a VACUUM on, and page_size in no WAL."""

OPTIONS = {
    "journal_mode": ("delete", "truncate", "persist"),
    "page_size": ("512", "65536"),
    "auto_vacuum": ("1", "2"),
    "cache_size": ("1", "10"),
    "cache_spill": ("0", "1"),
    "synchronous": ("full", "extra"),
    "wal_autocheckpoint": ("0", "1"),
    "secure_delete": ("1", "2"),
    "temp_store": ("2",),
    "mmap_size": ("1048576",),
    "locking_mode": ("exclusive",),
    "recursive_triggers": ("1",),
    "reverse_unordered_selects": ("1",),
}
"""Engine.options of SQLite: https://sqlite.org/pragma.html"""

WORD = re.compile(r"[0-9A-Za-z_]+")
ASKED = re.compile(r"(?P<name>[A-Za-z_][0-9A-Za-z_]*)=(?P<value>-?[0-9A-Za-z_.]+)")

SECRETS = ("key", "rekey", "hexkey", "hexrekey", "textkey", "textrekey")
"""Their values are passwords, which no manifest may hold."""

COMMANDS = (
    *("wal_checkpoint", "optimize", "incremental_vacuum", "shrink_memory"),
    *("integrity_check", "quick_check", "foreign_key_check"),
)
"""They do something once and keep nothing, so that nothing could be read back."""

BEFORE_A_FILE = ("auto_vacuum", "encoding")
"""Set before journal_mode writes the first page of a new file, and never again afterwards."""

SAME = {
    "on": "1", "yes": "1", "true": "1", "off": "0", "no": "0", "false": "0",
    "temp_store=default": "0", "temp_store=file": "1", "temp_store=memory": "2",
    "auto_vacuum=none": "0", "auto_vacuum=full": "1", "auto_vacuum=incremental": "2",
    "secure_delete=fast": "2",
}  # fmt: skip
"""Value, or NAME=VALUE -> the number that a pragma answers with: https://sqlite.org/pragma.html"""

Query = Callable[[str], list[tuple[Any, ...]]]


def pragma_values(settings: Settings, journal_mode: str) -> dict[str, Any]:
    """Pragma -> the value that it is to have, in the order in which they are set.

    >>> list(pragma_values(Settings(), "wal"))[:4]
    ['busy_timeout', 'page_size', 'journal_mode', 'synchronous']
    """
    given = {pragma: getattr(settings, name) for name, pragma in PRAGMAS.items()}
    given["journal_mode"] = journal_mode
    others = dict(asked_pragmas(settings.pragma))
    before = {name: others[name] for name in BEFORE_A_FILE if name in others}
    given = {name: given[name] for name in FIRST} | before | given | others
    return {name: v.lower() if isinstance(v, str) else v for name, v in given.items()}


def asked_pragmas(text: str) -> tuple[tuple[str, int | str], ...]:
    """The pragmas of a text, (name, value) each: "foreign_keys=on,temp_store=2".

    Raises ValueError, a sentence: no such text, one twice, one with an option of its own, one
    whose value is a password.

    >>> asked_pragmas("foreign_keys=on,temp_store=2")
    (('foreign_keys', 'on'), ('temp_store', 2))
    """
    found: dict[str, int | str] = {}
    for part in filter(None, text.split(",")):
        name, value = part.partition("=")[::2]
        name = name.strip().lower()
        if name in SECRETS:
            raise ValueError(f"{name} takes a password, which a run never keeps: leave it out")
        if name in COMMANDS:
            raise ValueError(f"{name} is a command and sets nothing: leave it out")
        if not (read := ASKED.fullmatch(f"{name}={value.strip()}")):
            raise ValueError(
                f"{shortened(part)} sets no pragma: give NAME=VALUE, the value a word or a number, "
                "as foreign_keys=on"
            )
        if own := [field for field, pragma in PRAGMAS.items() if pragma == name]:
            option = own[0].replace("_", "-")
            raise ValueError(f"{name} has an option of its own: give --{option} ({own[0]})")
        if name in found:
            raise ValueError(f"{name} is given twice: give it once")
        number = re.fullmatch(r"-?\d{1,18}", read["value"])
        found[name] = int(read["value"]) if number else read["value"].lower()
    return tuple(found.items())


def holds(name: str, asked: int | str, answer: Any) -> bool:
    """Whether what was read back from a pragma is what was asked for.

    >>> holds("foreign_keys", "on", 1), holds("temp_store", "memory", 0)
    (True, False)
    """
    texts = (str(asked).lower(), str(answer).lower())
    one, other = (SAME.get(f"{name}={text}", SAME.get(text, text)) for text in texts)
    return one == other


_values = lru_cache(maxsize=64)(pragma_values)  # every connection asks, and copies nothing


def apply(query: Query, settings: Settings, default_journal: str) -> dict[str, Any]:
    """Set every pragma on a connection and read it back.

    query : runs one statement and returns its rows, raising the driver's errors.
    Returns pragma -> value read back; NO_ANSWER, or the engine's own message, where it has none.
    Nothing is raised for a pragma that is refused: the value read back is the one that holds.
    Raises ValueError for a setting that is no word.
    """
    journal = settings.journal_mode or default_journal
    for word in (journal, settings.synchronous):
        if not WORD.fullmatch(word):
            raise ValueError(f"{word!r} is no value of a pragma. Use a word such as 'wal'.")
    return {name: _set(query, name, value) for name, value in _values(settings, journal).items()}


_refused: ContextVar[list[tuple[str, Exception]] | None] = ContextVar("refused", default=None)


@contextlib.contextmanager
def refused_pragmas() -> Iterator[list[tuple[str, Exception]]]:
    """The pragmas that are refused to connections of this thread meanwhile, with the driver's own
    error. `apply` raises none of them: an application that sets the pragma itself would meet it.
    """
    found: list[tuple[str, Exception]] = []
    token = _refused.set(found)
    try:
        yield found
    finally:
        _refused.reset(token)


def read_all(query: Query) -> dict[str, Any]:
    """What every pragma is, where none can be set: as `apply` returns it."""
    return {name: _read(query, name) for name in pragma_values(Settings(), "wal")}


def _set(query: Query, name: str, value: Any) -> Any:
    answer = _read(query, name)
    if answer == value:
        # Not set again: journal_mode=wal on an open WAL database takes locks that other
        # connections of a starting run would wait for.
        return answer
    try:
        query(f"PRAGMA {name}={value}")
    except Exception as error:
        if (noted := _refused.get()) is not None:
            noted.append((name, error))
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
