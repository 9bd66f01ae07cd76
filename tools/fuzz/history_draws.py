"""Histories that are sound as files: what they say is drawn, with keys and values of every type."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

from properties.checker.drawn import Confusing, drawn
from workloads.records import History, Literal
from workloads.records.columns import FIRST_OTHER, TXN_CONFLICT, TXN_FAILED
from workloads.records.values import identity

ACTS = (
    "\x1b[2J\x1b]0;owned\x07", "\x00", "\r", "a\nb", "\x9b31m", "\x7f", "\u202ecba", "\u2028",
    "\ufeff", "\ud800", "\udfff\ud800", "\U000e0041", "</text><script>alert(1)</script>",
    "&amp;<!--", "]]>", "```\n# heading", "[bold]x[/bold]", "%s%n{0}{x.__class__}", "=1+1",
)  # fmt: skip
"""Text that a terminal, a page or a spreadsheet might take for more than text."""

NAMES: tuple[Any, ...] = (
    *ACTS, "", " ", "nil", "true", "1", ":x", "x", "[1]", "é" * 300, "x" * 5000, '"', "\\",
    "\\u0041",
    0, 1, -1, 2**31, 2**53 + 1, 2**62 - 1, 2**62, -(2**62), -(2**62) - 1, 2**63, -(2**63), 2**64,
    10**400, -(2**4095), Literal("9" * 1300), Literal("-1" + "0" * 4299), 0.0, -0.0, 1.0, 0.1,
    5e-324, 1.7e308, True, False, Literal(":x"),
    Literal(":a.b/c"), Literal("[1]"), Literal("x"), Literal("1/2"), Literal("#{1 2}"),
    Literal('{:a "b"}'), Literal("##NaN"), Literal("##Inf"), Literal("9" * 5000),
    Literal(r"\newline"),
)  # fmt: skip


def drawn_history(rng: random.Random, *, odd: bool = True) -> History:
    """A small one of either model. odd : with names that nobody would give."""
    how = Confusing(
        repeated=rng.random() < 0.2,
        sets=rng.random() < 0.15,
        predicates=rng.random() < 0.3,
        alike=rng.random() < 0.3,
        most=rng.choice((2, 3, 5, 9)),
    )
    history = drawn(rng, rng.choice(("list-append", "rw-register")), how)
    refused = history.txn_outcome == TXN_FAILED
    if rng.random() < 0.5:
        history.txn_outcome[refused] = TXN_CONFLICT
    if odd and rng.random() < 0.6:
        _rename(rng, history)
    return history


def _rename(rng: random.Random, history: History) -> None:
    """Other keys, sessions and values; as many of each, and none of them twice."""
    for names in (history.keys, history.sessions):
        others = rng.sample(NAMES, len(NAMES))
        taken = {identity(name) for name in names}
        for at in range(len(names)):
            other = next(name for name in others if identity(name) not in taken)
            if rng.random() < 0.7:
                taken.add(identity(other))
                names[at] = other
    values = [name for name in NAMES if not (type(name) is int and -(2**62) < name < 2**62)]
    taken = {identity(name) for name in history.others}
    column = history.elements if history.model == "list-append" else None
    for written in sorted(set(history.op_value[history.op_kind == 1].tolist())):
        other = rng.choice(values)
        if rng.random() < 0.4 and identity(other) not in taken and abs(written) < FIRST_OTHER:
            taken.add(identity(other))
            history.others.append(other)
            code = FIRST_OTHER + len(history.others) - 1
            history.op_value[_of_values(history) & (history.op_value == written)] = code
            if column is not None:
                history.elements = history.elements.astype("i8")
                history.elements[history.elements == written] = code
            for op, codes in history.sets.items():
                history.sets[op] = [code if one == written else one for one in codes]


def _of_values(history: History) -> Any:
    """The operations whose value is one, and no place among the elements."""
    return (history.op_kind == 1) | (history.model == "rw-register")


def large_lines(rng: random.Random) -> Iterator[dict[str, Any]]:
    """Operation maps of a history that is long in one way: what takes time or memory."""
    many = rng.choice((300, 1000, 3000))
    lists = rng.random() < 0.5
    f, reads = ("append" if lists else "w"), rng.random() < 0.7
    keys, values = rng.choice((1, 3, many)), rng.choice((1, 2, many, many))
    ends = rng.choice(("ok", "ok", "info", "fail", "mixed"))
    at_once, batch = rng.choice((1, 10, many)), rng.choice((1, 1, 5, 50))
    length, by_range = rng.choice((0, 3, 60)), rng.random() < 0.3
    value = 0
    for first in range(0, many, at_once):
        done = []
        for process in range(first, min(first + at_once, many)):
            key, ops = process % keys, []
            for _ in range(max(1, batch // 5)):
                value += 1
                ops.append([f, key, value % values])
                if reads:
                    seen = [v % values for v in range(max(0, value - length), value)]
                    ops.append(["rp" if by_range else "r", key, seen if lists else value % values])
            ops = ops[:batch]
            yield {"type": "invoke", "process": process, "f": "txn", "value": ops}
            kind = rng.choice(("ok", "ok", "info", "fail")) if ends == "mixed" else ends
            done.append({"type": kind, "process": process, "f": "txn", "value": ops})
        rng.shuffle(done)
        yield from done
