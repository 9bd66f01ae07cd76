"""The wording of numbers: one way for the screen, the report and the charts' captions.

Three significant digits, a unit that fits, and a dash where there were too few samples: a number
that cannot be known is never shown as 0.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from workloads.errors import mode_label
from workloads.records import parts_of_mix

DASH = "—"

BEGIN_LABELS = {"deferred": "BEGIN", "": DASH}


class Table(NamedTuple):
    """`head` names the columns, `rows` are as wide; `note` stands below."""

    head: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    note: str = ""


def number(value: float) -> str:
    """Three significant digits, thousands apart.

    >>> number(26312.4), number(3.14159), number(0.004321), number(12), number(float("nan"))
    ('26,300', '3.14', '0.00432', '12', '—')
    """
    if math.isnan(value):
        return DASH
    if value == 0 or math.isinf(value):
        return f"{value:.0f}"
    if float(value).is_integer() and abs(value) < 1000:
        return f"{value:.0f}"
    digits = 2 - math.floor(math.log10(abs(value)))
    rounded = round(value, digits)
    return f"{rounded:,.{max(digits, 0)}f}"


def whole(value: float) -> str:
    """A count, exactly.

    >>> whole(57012)
    '57,012'
    """
    return f"{int(value):,}"


def duration(ns: float) -> str:
    """A time in the unit that fits; an infinite one is of what was never served.

    >>> duration(9_540), duration(350_000), duration(2_013_000_000), duration(float("nan"))
    ('9.54 µs', '350 µs', '2.01 s', '—')
    >>> duration(math.inf)
    'never'
    """
    if math.isnan(ns):
        return DASH
    if math.isinf(ns):
        return "never"
    for unit, size in (("s", 1e9), ("ms", 1e6), ("µs", 1e3)):
        if abs(ns) >= size:
            return f"{number(ns / size)} {unit}"
    return f"{number(ns)} ns"


def at_least(ns: float, least_ns: float) -> str:
    """A time, or what is certain of it where it is infinite: nobody was served so late.

    >>> at_least(350_000, 350_000), at_least(math.inf, 1_400_000_000), at_least(math.inf, math.inf)
    ('350 µs', '≥ 1.40 s', 'never')
    """
    if math.isinf(ns) and not math.isinf(least_ns):
        return f"≥ {duration(least_ns)}"
    return duration(ns)


def percent(share: float) -> str:
    """A share of 1 as per cent, with as many digits as it takes to tell it from 0 and from 100.

    >>> percent(0.0039), percent(0.5), percent(0.99962), percent(0.0), percent(float("nan"))
    ('0.39 %', '50 %', '99.962 %', '0 %', '—')
    """
    if math.isnan(share):
        return DASH
    value = share * 100
    if value in (0, 100):
        return f"{value:.0f} %"
    edge = min(value, 100 - value)
    digits = max(0, 1 - math.floor(math.log10(edge))) if edge > 0 else 0
    text = f"{value:.{min(digits, 6)}f}"
    return (text.rstrip("0").rstrip(".") if "." in text else text) + " %"


def interval(low: float, high: float, show: Any = number) -> str:
    """An interval in brackets.

    >>> interval(1.5612, 1.93)
    '[1.56, 1.93]'
    """
    return f"[{show(low)}, {show(high)}]"


def times(count: int, noun: str) -> str:
    """A count with its noun.

    >>> times(1, "conflict"), times(1200, "conflict")
    ('1 conflict', '1,200 conflicts')
    """
    return f"{whole(count)} {noun}" + ("" if count == 1 else "s")


def begin_label(mode: str) -> str:
    """A mode in a table or a sentence.

    >>> begin_label("deferred"), begin_label("concurrent"), begin_label("read-committed")
    ('BEGIN', 'BEGIN CONCURRENT', 'READ COMMITTED')
    >>> begin_label("2:concurrent,1:immediate")
    '2 BEGIN CONCURRENT + 1 BEGIN IMMEDIATE'
    """
    if parts := parts_of_mix(mode):
        return " + ".join(f"{many} {begin_label(one)}" for many, one in parts)
    return BEGIN_LABELS.get(mode) or mode_label(mode)


def arm_label(plan: Mapping[str, Any]) -> str:
    """How the writers of a plan write, in a few words.

    >>> arm_label({"database": "libsql", "write_engine": "libsql", "begin": "immediate"})
    'libsql BEGIN IMMEDIATE'
    >>> arm_label({"database": "libsql", "write_engine": "turso", "begin": "concurrent"})
    'turso BEGIN CONCURRENT on a libsql file'
    """
    database = str(plan.get("database", ""))
    engine = plan.get("write_engine") or database
    if engine == "null":
        return "null (generator alone)"
    on = f" on a {database} file" if engine != database else ""
    return f"{engine} {begin_label(str(plan.get('begin', '')))}{on}"


def listed(items: Sequence[str], last: str = "and") -> str:
    """Items as a sentence lists them.

    >>> listed(["a"]), listed(["a", "b", "c"]), listed([])
    ('a', 'a, b and c', '')
    """
    if len(items) < 2:
        return "".join(items)
    return f"{', '.join(items[:-1])} {last} {items[-1]}"
