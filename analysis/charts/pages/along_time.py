"""A run along its own clock, for its page: rates, refusals, the log, and the curve of latencies.

Everything is bounded: a page of a million attempts is as large as one of a thousand.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from analysis import wording
from analysis.charts.looks import look_of
from analysis.counting import Count, checkpoints, timeline, wal_track
from workloads.records import COMMITTED, CONFLICT, CONFLICTS, OUTCOMES, PHASES, Run

BINS = 120
"""Parts of the measured window in a chart along time; a table has a row for four of them."""

MOST_REASONS = 7
"""Reasons of refusals with a line of their own; the others together have one more."""

MOST_LOOKS, MOST_STROKES = 1_000, 400
"""Sizes of the log, and checkpoints, in a chart."""

CURVE = np.unique(
    np.concatenate([np.linspace(0, 1, 101), 1 - np.logspace(-2, -6, 41), [0.9, 0.99, 0.999]])
)
"""Shares at which a curve of latencies has a point."""

MOST_KINDS = 8
"""Kinds of transactions of a role with a curve of their own."""


class Series(NamedTuple):
    """A line along time: `per_s` in each of BINS parts. look : colour, mark and dashes."""

    name: str
    look: tuple[str, str, str]
    per_s: list[float]


def role_name(counted: Count, role: str) -> str:
    """What a chart calls a role, or one of its modes.

    The engine and the mode are said in the words of the other charts.
    """
    each = counted.of(role)
    begins = dict.fromkeys(one.begin for one in each)
    many = wording.times(len(each), role.partition(":")[0])
    return f"{many}, {each[0].engine} {', '.join(map(wording.begin_label, begins))}"


def looks(counted: Count) -> dict[str, tuple[str, str, str]]:
    """Role or mode -> colour, mark and dashes; where two look alike the second one is dashed."""
    found: dict[str, tuple[str, str, str]] = {}
    for n, role in enumerate(roles_of(counted)):
        first = counted.of(role)[0]
        look = look_of((first.engine, first.begin), n)
        again = look in [one[:2] for one in found.values()]
        found[role] = (*look, "dash" if again else "solid")
    return found


def roles_of(counted: Count) -> list[str]:
    """Roles that have transactions; one whose workers have several modes as these."""
    roles = [role for role in counted.roles if role != "checkpointer"]
    return [each for role in roles for each in counted.modes(role) or (role,)]


def committed_series(run: Run, counted: Count) -> list[Series]:
    """Commits a second of each role."""
    found = []
    for role, look in looks(counted).items():
        _, per_s = timeline(run, role, BINS)
        found.append(Series(role_name(counted, role), look, _known(per_s)))
    return found


def refused_series(run: Run) -> list[Series]:
    """Attempts a second that did not commit, by who made them and why; the most frequent first."""
    first, stop = run.window_ns
    edges = np.linspace(first, stop, BINS + 1)
    width_s = (stop - first) / BINS / 1e9
    found: dict[str, np.ndarray] = {}
    for worker in run.workers:
        for rows in worker.rows.pieces():
            ended = (rows["end_ns"] >= first) & (rows["end_ns"] <= stop)
            rows = rows[ended & (rows["outcome"] != COMMITTED)]
            kinds = np.stack([rows[name].astype(np.int64) for name in ("outcome", "conflict",
                                                                       "phase")])  # fmt: skip
            kinds[1][kinds[0] != CONFLICT] = 0
            for kind in np.unique(kinds, axis=1).T:
                mine = (kinds == kind[:, None]).all(axis=0)
                name = f"{worker.role}s: {reason_of(*map(int, kind))}"
                many = np.histogram(rows["end_ns"][mine], edges)[0]
                found[name] = found.get(name, np.zeros(BINS)) + many
    order = [name for name, _ in Counter({n: int(many.sum()) for n, many in found.items()})
             .most_common()]  # fmt: skip
    shown = {name: found[name] for name in order[:MOST_REASONS]}
    if left := order[MOST_REASONS:]:
        shown[f"{len(left)} other reasons"] = np.sum([found[name] for name in left], axis=0)
    return [
        Series(
            name,
            (*look_of(("", ""), n), "solid"),
            _known(many / width_s if width_s else many * np.nan),
        )
        for n, (name, many) in enumerate(shown.items())
    ]


def reason_of(outcome: int, conflict: int, phase: int) -> str:
    """How an attempt ended, in words: "conflict, stale at commit"."""
    word = OUTCOMES[outcome] if outcome < len(OUTCOMES) else "unknown"
    if outcome != CONFLICT:
        return word
    kind = CONFLICTS[conflict] if conflict < len(CONFLICTS) else "unclassified"
    where = f" at {PHASES[phase]}" if phase < len(PHASES) and PHASES[phase] else ""
    return f"{word}, {kind}{where}"


def _known(values: np.ndarray) -> list[float]:
    return [round(float(one), 3) if np.isfinite(one) else 0.0 for one in values]


def log_data(run: Run) -> dict[str, Any]:
    """The write-ahead log: its size at each look, checkpoints that were seen, and those of a
    checkpointer from start to end. Where there are too many, the largest of some looks together.
    """
    track = wal_track(run)
    step = max(-(-len(track.seconds) // MOST_LOOKS), 1)
    starts = np.arange(0, len(track.seconds), step)
    many = np.add.reduceat(track.checkpoints, starts) if len(starts) else starts
    strokes = np.flatnonzero(many)
    thin = max(-(-len(strokes) // MOST_STROKES), 1)
    made = checkpoints(run)
    apart = max(-(-len(made) // MOST_STROKES), 1)
    return {
        "s": _rounded(track.seconds[starts] if len(starts) else starts),
        "bytes": np.maximum.reduceat(track.bytes, starts).tolist() if len(starts) else [],
        "seen_s": _rounded(track.seconds[starts[strokes[::thin]]] if len(strokes) else strokes),
        "seen": int(track.checkpoints.sum()),
        "made_s": _rounded(made["start_s"][::apart]),
        "took_s": _rounded(made["took_s"][::apart]),
        "made": len(made),
        "thinned": step > 1 or thin > 1 or apart > 1,
    }


def _rounded(values: np.ndarray) -> list[float]:
    return [round(float(one), 6) for one in values]


def curves(counted: Count) -> Iterator[dict[str, Any]]:
    """The cumulative curve of latencies of each role, and of each kind of its transactions.

    They are whole transactions, as `cwkit show` counts them: of an open loop all that were due, and
    those that were never served are beyond every latency.
    """
    for role, (colour, mark, dash) in looks(counted).items():
        tally = counted.roles[role]
        whole = tally.times.brief("whole") if tally.due is None else tally.due.column("whole")
        yield {"name": role_name(counted, role), "colour": colour, "mark": mark, "dash": dash,
               **_curve(whole)}  # fmt: skip
        parts = _of_kinds(counted, role)
        for n, (kind, values) in enumerate(parts.items() if len(parts) > 1 else ()):
            name = f"{role.partition(':')[0]}s: {kind}"
            yield {"name": name, "colour": colour, "mark": mark,
                   "dash": ("dot", "dash", "dashdot")[n % 3], **_curve(values)}  # fmt: skip


def _of_kinds(counted: Count, role: str) -> Mapping[str, np.ndarray]:
    times = counted.roles[role].times
    if len(counted.kinds) < 2 or not len(times):
        return {}
    kind, whole = times.column("kind"), times.column("whole")
    there = [n for n in np.unique(kind).tolist() if n < len(counted.kinds)][:MOST_KINDS]
    return {counted.kinds[n]: whole[kind == n] for n in there}


def _curve(values: np.ndarray) -> dict[str, Any]:
    """Latencies at which these shares of all values are reached, ns; lists of one length."""
    values = np.sort(values)
    if not len(values):
        return {"many": 0, "ns": [], "share": []}
    places = np.unique(np.clip(np.ceil(CURVE * len(values)).astype(int) - 1, 0, len(values) - 1))
    found = values[places].astype(float)
    finite = np.isfinite(found)
    return {
        "many": len(values),
        "ns": found[finite].tolist(),
        "share": [round(float(one), 7) for one in (places[finite] + 1) / len(values)],
    }
