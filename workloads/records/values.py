"""Keys and values of histories: the type of each, and the text that it is shown as.

Two values are the same where both their type and their content are: `:x` is not "x", and 1, 1.0,
true and "1" are four values. Python's == takes most of these for equal, and knows no keyword.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Hashable, Mapping, Set
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Any

from workloads.files import visible

MOST_BITS = 4096  # of an integer; a longer one is a Literal, as if it had been written so
MOST_DIGITS = 4300  # of an integer that Python makes of text, or text of
MOST_DEPTH = 100
TOO_DEEP = "brackets are nested hundreds deep; a history needs no more than five"
_HALVES = re.compile(r"[\ud800-\udfff]")  # of characters: no file takes one as it is
# Text that needs no quotes: it is no number, no keyword, no constant of EDN.
_BARE = re.compile(r"(?!(?:nil|true|false)$)[^\W\d][\w./-]*")


@dataclass(frozen=True, slots=True)
class Literal:
    """A value that JSON has no form for, as its EDN in one spelling: `:x`, `1/2`, `{:a 1}`.

    Sets and maps have their members in order, so that two are equal however they were written.
    """

    text: str

    def __str__(self) -> str:
        return self.text


class Unordered(tuple[Any, ...]):
    """The members of a list that was answered as a set: their order means nothing."""


@dataclass(frozen=True, slots=True)
class Tagged:
    """An EDN form with a tag before it, `#inst "2026-01-01"`, as the reader found it."""

    tag: str
    form: Any


class Pairs(list[tuple[Any, Any]]):
    """An EDN map as the reader found it: its keys may be anything, collections too."""


def plain(value: Any) -> Any:
    """The value as a history keeps it: None, a bool, an integer, a float, a string or a Literal.

    Raises ValueError for a value nested without end, or an integer that is too long to be shown.

    >>> plain([1, "a"]), plain({"b": 1, "a": 2}), plain(1.0)
    (Literal(text='[1 "a"]'), Literal(text='{"a" 2, "b" 1}'), 1.0)
    """
    kind = type(value)
    if kind is int:
        return value if value.bit_length() <= MOST_BITS else _as_written(value)
    if kind is str or kind is bool or value is None or kind is Literal:
        return value
    if kind is float and math.isfinite(value):
        return value
    return Literal(edn_text(value))


def _as_written(value: int) -> Literal:
    """An integer that is too long to calculate with, as a Literal of its digits."""
    try:
        return Literal(str(value))
    except ValueError:
        bits = value.bit_length()
        raise ValueError(f"an integer of {bits:,} bits; write it as a string") from None


def identity(value: Any) -> Hashable:
    """A dict key that tells plain values apart: 1, 1.0 and true are three.

    >>> len({identity(1), identity(1.0), identity(True), identity("1")})
    4
    """
    kind = type(value)
    return value if kind is int or kind is str or kind is Literal else (kind, repr(value))


def edn_text(value: Any, depth: int = 0) -> str:
    """A value as EDN, in one spelling. Raises ValueError where it is nested without end.

    >>> edn_text({"type": Literal(":ok"), "value": [["r", "a b", None]]})
    '{"type" :ok, "value" [["r" "a b" nil]]}'
    """
    if depth > MOST_DEPTH:
        raise ValueError(TOO_DEEP)
    if value is None or isinstance(value, bool):
        return {None: "nil", True: "true", False: "false"}[value]
    if isinstance(value, str):
        return _quoted(value)
    if isinstance(value, float):
        return repr(value) if math.isfinite(value) else _endless(value)
    if isinstance(value, (Pairs, Mapping)):
        pairs = value.items() if isinstance(value, Mapping) else value
        items = [f"{edn_text(k, depth + 1)} {edn_text(v, depth + 1)}" for k, v in pairs]
        return "{" + ", ".join(sorted(items)) + "}"
    if isinstance(value, (Unordered, Set)):
        return "#{" + " ".join(sorted({edn_text(one, depth + 1) for one in value})) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + " ".join(edn_text(one, depth + 1) for one in value) + "]"
    if isinstance(value, Tagged):
        return f"#{value.tag} {edn_text(value.form, depth + 1)}"
    if isinstance(value, Fraction):
        return f"{value.numerator}/{value.denominator}"
    if isinstance(value, Decimal):
        return f"{value}M"
    return str(plain(value) if isinstance(value, int) else value)


def _quoted(text: str) -> str:
    quoted = json.dumps(text, ensure_ascii=False)
    return quoted if quoted.isascii() else _HALVES.sub(lambda m: f"\\u{ord(m[0]):04x}", quoted)


def _endless(value: float) -> str:
    return "##NaN" if math.isnan(value) else "##Inf" if value > 0 else "##-Inf"


def show(value: Any, most: int = 40) -> str:
    """A key or a value as text that no other is shown as; nil for the initial state.

    Nothing in it acts on a terminal. Long text is cut in its middle.

    >>> show("x"), show(Literal(":x")), show(1), show("1"), show(True), show("true")
    ('x', ':x', '1', '"1"', 'true', '"true"')
    """
    if value is None:
        return "nil"
    if isinstance(value, str):
        text = value if _BARE.fullmatch(value) else _quoted(value)
    elif isinstance(value, Literal):
        # A symbol reads like a string without quotes.
        text = f"'{value.text}" if _BARE.fullmatch(value.text) else value.text
    else:
        try:
            text = edn_text(value)
        except ValueError:
            text = "[…]"  # nested without end
    text = visible(text)
    return text if len(text) <= most else text[: most // 2] + "…" + text[-most // 4 :]
