"""A verdict is what the checker says about a history: for each level, with witnesses."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

from properties.checker.catalogue import DEFAULT_LEVEL, LEVELS, ruled_out_by
from properties.checker.graph import Step
from workloads.records import History, Unordered, show

SHOWN = 8  # witnesses kept for each name; more would tell nothing new


@dataclass
class Witness:
    """One occurrence of an anomaly.

    txns : the transactions concerned, T1, T2, … in the explanation. steps : the cycle's edges,
    empty where the anomaly is no cycle; why : then the reason, in words that name T1, T2.
    marks : the values that matter, kept when long lists are elided.
    """

    name: str
    txns: list[int]
    steps: list[Step] = field(default_factory=list)
    why: str = ""
    marks: list[Any] = field(default_factory=list)


@dataclass
class Verdict:
    """The judgement of one history.

    levels : True, False, or "unknown": no violation was found, but nothing proves that there is
        none (an empty history, registers whose order of versions the history does not tell, or
        something that was not judged).
    anomalies : witnesses by name, the shortest cycles first.
    notes : other sentences for the reader. unjudged : kind of operation -> how many were not.
    """

    history: History
    levels: dict[str, bool | str]
    anomalies: dict[str, list[Witness]]
    notes: list[str]
    unjudged: dict[str, int] = field(default_factory=dict)

    def valid_at(self, level: str = DEFAULT_LEVEL) -> bool | str:
        """True, False or "unknown". Raises KeyError for a level that is none of LEVELS."""
        return self.levels[level]


class Findings:
    """Collects witnesses while a history is judged."""

    def __init__(self) -> None:
        self.witnesses: dict[str, list[Witness]] = {}
        self.notes: list[str] = []
        self.unjudged: dict[str, int] = {}
        self._doubted: dict[str, str] = {}

    def doubt(self, name: str, note: str) -> None:
        """Take no anomaly of this name for one, where what was not judged may explain it."""
        self._doubted[name] = note

    def add(self, witness: Witness) -> None:
        if witness.name in self._doubted:
            note = self._doubted[witness.name]
            if note not in self.notes:
                self.notes.append(note)
            return
        kept = self.witnesses.setdefault(witness.name, [])
        if len(kept) < SHOWN:
            kept.append(witness)

    def full(self, name: str) -> bool:
        """Whether another witness of this name would not be kept."""
        return len(self.witnesses.get(name, ())) >= SHOWN

    def ruled_out(self) -> set[str]:
        """Every level that some witness rules out."""
        return {level for name in self.witnesses for level in ruled_out_by(name)}


def elide(values: Sequence[Any], marks: Collection[Any] = (), most: int = 8) -> str:
    """A list as text, long ones cut to their ends and to what is marked.

    >>> elide(list(range(100)), [50])
    '[0 1 … 49 50 51 … 98 99]'
    """
    if isinstance(values, Unordered):
        more = " …" if len(values) > most else ""
        shown = sorted((value not in marks, show(value)) for value in values)[:most]
        return "#{" + " ".join(sorted(text for _, text in shown)) + more + "}"
    if len(values) <= most:
        return "[" + " ".join(map(show, values)) + "]"
    keep = {0, 1, len(values) - 2, len(values) - 1}
    places = [i for i, v in enumerate(values) if v in marks][:3]
    keep.update(i + d for i in places for d in (-1, 0, 1) if 0 <= i + d < len(values))
    parts, last = [], -1
    for i in sorted(keep):
        if i > last + 1:
            parts.append("…")
        parts.append(show(values[i]))
        last = i
    return "[" + " ".join(parts) + "]"


def closed(levels: dict[str, bool | str]) -> dict[str, bool | str]:
    """Levels so that whatever rules one out rules out the stronger ones too, and proof descends."""
    from properties.checker.catalogue import weaker_or_equal

    below = {level: weaker_or_equal(level) for level in LEVELS}
    result: dict[str, bool | str] = {}
    for level in LEVELS:
        if any(levels[weak] is False for weak in below[level]):
            result[level] = False
        elif any(levels[strong] is True for strong in LEVELS if level in below[strong]):
            result[level] = True
        else:
            result[level] = "unknown"
    return result
