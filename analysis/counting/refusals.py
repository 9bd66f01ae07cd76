"""Refused attempts by place, with how long each had waited: tables of `show` and the report.

"Why did my busy timeout not apply?" is asked of every engine of this family. The answer is the kind
of a refusal and the time beside it: a lock that was waited for has the timeout there, an upgrade
that was refused at once has some microseconds.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from analysis.wording import DASH, Table, duration, times, whole
from workloads.records import CONFLICTS, MEANINGS

SHOWN = 8

RefusalKey = tuple[str, ...]
"""(…, phase, kind of conflict, the engine's message); names before the phase say whose it is."""

Waits = Mapping[RefusalKey, np.ndarray]
"""For each attempt that an engine's message ended, the most that the call can have taken, ns: int64
arrays (workloads.records.attempts.within_ns)."""

WAIT_NOTE = (
    "wait ≤: no wait was longer than the time from the start of the refused BEGIN or COMMIT, or, "
    "for a statement, from the end of BEGIN or of the last work inside, to the refusal."
)


def refusals_table(found: Waits, whose: Sequence[str] = (), shown: int = SHOWN) -> Table:
    """A line for each phase, kind and text, the most frequent first; failed attempts too."""
    ranked = sorted(found.items(), key=lambda item: (-len(item[1]), item[0]))
    rows = []
    for (*who, phase, kind, text), waits in ranked[:shown]:
        at = (whole(len(waits)), phase, kind or "failed")
        rows.append((*who, *at, *_waited(kind, waits), text))
    rarer = len(ranked) - shown
    return Table(
        (*whose, "attempts", "phase", "kind", "median wait ≤", "longest wait ≤",
         "the engine's own words"),
        rows,
        f"{times(rarer, 'rarer line')} left out." if rarer > 0 else "",
    )  # fmt: skip


def _waited(kind: str, waits: np.ndarray) -> tuple[str, str]:
    """Median and longest; what failed for a reason of its own had waited for nobody."""
    if kind not in MEANINGS or not len(waits):
        return DASH, DASH
    return duration(float(np.median(waits))), duration(float(waits.max()))


def refusal_lines(found: Waits) -> list[str]:
    """The meaning of each kind in a table, with the way out where there is one; [] for none."""
    met = {key[-2] for key in found}
    kinds = [kind for kind in CONFLICTS[1:] if kind in met]
    return [WAIT_NOTE, *(f"{kind}: {MEANINGS[kind]}" for kind in kinds)] if kinds else []


def joined(parts: Iterable[Waits]) -> dict[RefusalKey, np.ndarray]:
    """Several as one."""
    found: dict[RefusalKey, list[np.ndarray]] = {}
    for part in parts:
        for key, waits in part.items():
            found.setdefault(key, []).append(waits)
    return {key: np.concatenate(each) for key, each in found.items()}


def by_kind(conflicts: np.ndarray) -> dict[str, int]:
    """Attempts refused, by kind, of `Tally.conflicts`; only kinds that there were.

    >>> import numpy as np
    >>> counts = np.zeros((len(CONFLICTS), 4), int)
    >>> counts[1, 1] = counts[1, 3] = 2
    >>> by_kind(counts)
    {'busy': 4}
    """
    sums = conflicts.sum(axis=1)
    return {kind: int(n) for kind, n in zip(CONFLICTS[1:], sums[1:], strict=True) if n}
