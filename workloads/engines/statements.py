"""A statement's text, read before a driver sees it: its parameters, and where it ends.

Some bindings check neither. libsql-experimental binds NULL for a parameter that is not given,
ignores one too many and drops a second statement, all without a word.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

TOKEN = re.compile(
    r"""
      (?P<skip>   --[^\n]* | /\*.*?(?:\*/|\Z) | \s+ )
    | (?P<quoted> '(?:[^']|'')*' | "(?:[^"]|"")*" | `(?:[^`]|``)*` | \[[^\]]*\] )
    | (?P<param>  \?\d* | [:@$][A-Za-z_]\w* )
    | (?P<end>    ; )
    | (?P<word>   [A-Za-z_]\w* )
    | (?P<other>  . )
    """,
    re.VERBOSE | re.DOTALL,
)

COUNTS_KEPT = 10_000
"""Texts whose parameter count an adapter remembers: a scenario has a few, random SQL has many."""


class Shape(NamedTuple):
    """The parameters of one statement.

    parameters : how many values it takes.
    places     : (start, end, index) of each parameter in the text, index from 0.
    """

    parameters: int
    places: tuple[tuple[int, int, int], ...]


def shape(sql: str) -> Shape:
    """Count and place the parameters of one statement, numbered as SQLite numbers them.

    Raises ValueError for a text with a second statement.

    >>> shape("UPDATE t SET a = ?2, b = '?' WHERE id = ?").parameters
    3
    """
    largest = 0
    places: list[tuple[int, int, int]] = []
    words: list[str] = []
    names: dict[str, int] = {}
    ended = False
    for token in TOKEN.finditer(sql):
        kind, text = token.lastgroup, token.group()
        if kind == "skip":
            continue
        if kind == "end":
            # The body of a trigger has semicolons of its own.
            ended = words[:1] != ["CREATE"] or "TRIGGER" not in words
            continue
        if ended:
            raise ValueError(
                f"two statements in one text: {sql!r}. One call runs one statement, and this "
                "binding would drop the second without a word; run each on its own."
            )
        if kind == "word" and len(words) < 3:
            words.append(text.upper())
        elif kind == "param":
            if text[0] == "?":
                index = int(text[1:]) if len(text) > 1 else largest + 1
            else:
                index = names.setdefault(text, largest + 1)
            largest = max(largest, index)
            places.append((token.start(), token.end(), index - 1))
    return Shape(largest, tuple(places))


def checked_count(counts: dict[str, int], sql: str, params: Sequence[Any], binding: str) -> None:
    """Learn a text's parameter count into `counts`, which an adapter keeps for each session.

    Raises ValueError where the values are too few or too many, or the text has two statements.
    """
    if sql not in counts:
        if len(counts) >= COUNTS_KEPT:
            counts.clear()
        counts[sql] = shape(sql).parameters
    if counts[sql] != len(params):
        raise ValueError(
            f"{sql!r} takes {counts[sql]} parameters and was given {len(params)}. The {binding} "
            "binding would bind NULL for a missing one without a word."
        )


def with_literals(sql: str, params: Sequence[Any], exact: Sequence[bool]) -> str:
    """The text with the marked integers written into it, the other parameters numbered.

    The driver can bind the same tuple as before: a number that no parameter has is not looked at.

    >>> with_literals("SELECT ?, ?", (1, 2**40), (False, True))
    'SELECT ?1, (1099511627776)'
    """
    parts, at = [], 0
    for start, end, index in shape(sql).places:
        parts.append(sql[at:start])
        # In parentheses: `a -?` with -5 would begin a comment.
        parts.append(f"({int(params[index])})" if exact[index] else f"?{index + 1}")
        at = end
    return "".join(parts) + sql[at:]


def without_marked(
    sql: str, params: Sequence[Any], marked: Sequence[bool]
) -> tuple[str, tuple[Any, ...]]:
    """The text with the marked integers written into it, and the values that are left to bind.

    For a driver that refuses a value which no parameter has.

    >>> without_marked("SELECT ?, ?2", (1, 2**40), (False, True))
    ('SELECT ?, (1099511627776)', (1,))
    """
    parts, left, at = [], [], 0
    for start, end, index in shape(sql).places:
        parts.append(sql[at:start])
        parts.append(f"({int(params[index])})" if marked[index] else "?")
        if not marked[index]:
            left.append(params[index])
        at = end
    return "".join(parts) + sql[at:], tuple(left)
