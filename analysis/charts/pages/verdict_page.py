"""The page of `cwkit check --html`: verdicts in words, and each counterexample as lanes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from markupsafe import Markup

from analysis.charts.pages.frame import page

MOST_DRAWN = 40
"""Counterexamples of a page that are drawn: each is some kilobytes."""

MOST_STEPS, MOST_OPS = 100, 60
"""Steps of a cycle, and operations of a transaction, that are listed."""


@dataclass
class Counterexample:
    """One witness: `title` says what its anomaly is; `data` is what --json has of it; `drawing` its
    lanes as SVG of ours, "" for none; `why` is the reason of one that is no cycle.
    """

    title: str
    data: Mapping[str, Any]
    drawing: str
    why: str = ""


@dataclass
class Judged:
    """One history: its name, its size in words, its verdict in words, and what --json has of it.

    error : why it could not be judged; then all else is empty.
    """

    name: str
    many: str = ""
    headline: str = ""
    holds: bool | str = "unknown"
    levels: Mapping[str, bool | str] = field(default_factory=dict)
    caveats: Sequence[str] = ()
    counterexamples: Sequence[Counterexample] = ()
    error: str = ""

    @property
    def mark(self) -> str:
        """The verdict as one of three words, which stands beside its colour."""
        return {True: "ok", False: "broken", "unknown": "unknown"}[self.holds]


class Room:
    """How many counterexamples a page may still draw, over all its histories."""

    def __init__(self) -> None:
        self.left, self.asked = MOST_DRAWN, 0

    def take(self) -> bool:
        """Whether one more is drawn."""
        self.asked += 1
        self.left -= 1
        return self.left >= 0


def verdict_page(level: str, histories: Sequence[Judged], room: Room) -> str:
    """The page, as HTML. level : the isolation level that was asked for."""
    found = {
        holds: sum(one.holds == holds for one in histories) for holds in (True, False, "unknown")
    }
    unreadable = sum(bool(one.error) for one in histories)
    title = f"{level}: "
    if len(histories) == 1 and not unreadable:
        title = f"{histories[0].name}: {histories[0].headline}"
    else:
        title += f"violated in {found[False]} of {len(histories)} histories"
    return page(
        "verdict.html.j2",
        title,
        "verdict.js",
        level=level,
        histories=histories,
        found=found,
        unreadable=unreadable,
        undrawn=max(room.asked - MOST_DRAWN, 0),
        shown=[[_shown(one) for one in each.counterexamples] for each in histories],
    )


def _shown(one: Counterexample) -> dict[str, Any]:
    """What the template tells of a counterexample."""
    steps, txns = one.data["steps"], one.data["txns"]
    return {
        "title": one.title,
        "drawing": Markup(one.drawing),
        "steps": steps[:MOST_STEPS],
        "more_steps": max(len(steps) - MOST_STEPS, 0),
        "why": one.why,
        "txns": [
            {**txn, "ops": txn["ops"][:MOST_OPS], "more": max(len(txn["ops"]) - MOST_OPS, 0)}
            for txn in txns[:MOST_STEPS]
        ],
        "more_txns": max(len(txns) - MOST_STEPS, 0),
    }
