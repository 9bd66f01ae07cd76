"""Histories written by hand, a line a transaction: for the catalogue's examples and the tests.

    a 0-3 ok append:x:1 r:y:[1,2]

is session a, begun at 0, ended at 3, committed (`ok`; `fail` and `info` are aborted and unknown),
which appended 1 to x and read y as [1 2]. Registers: w:x:1, r:x:1, r:x:nil.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from workloads.records import Builder, History

OUTCOMES = {"ok": "committed", "fail": "failed", "info": "unknown", "conflict": "conflict"}


def parse(lines: Iterable[str], model: str) -> History:
    """The history that the lines describe. Raises ValueError for a line that is none."""
    builder = Builder(model)
    for line in lines:
        session, begin, end, outcome, ops = parse_line(line)
        builder.add(session, begin, end, OUTCOMES[outcome], ops)
    return builder.build()


def parse_line(line: str) -> tuple[str, int, int, str, list[tuple[str, str, Any]]]:
    """Session, begin, end, outcome word and operations of one line."""
    session, times, outcome, *ops = line.split()
    begin, end = times.split("-")
    return session, int(begin), int(end or 0), outcome, [_op(op) for op in ops]


def _op(text: str) -> tuple[str, str, Any]:
    f, key, value = text.split(":", 2)
    return f, key, None if value in ("nil", "?") else json.loads(value)
