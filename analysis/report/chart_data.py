"""Which runs the report's charts show, as the data that analysis.charts draws."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from analysis.charts import Effect, Line, Load, Served, Track
from analysis.compare import Comparison
from analysis.counting import Arm, CountedCell, checkpoints, mebibytes, timeline, wal_track
from analysis.report.evidence import Evidence
from analysis.report.facts import MODE_ALONE, STUDIED, Pair, System, claimed
from analysis.report.load_facts import FairnessRow, OfferedRow
from analysis.report.told import NOT_TOLD
from analysis.statistics import Estimate
from analysis.wording import begin_label, number, percent, times
from workloads.errors import RunError
from workloads.records import COMMITTED, read_run

P50, P99 = 0, 2
MOST_TRACKS, SHORTEST_S = 3, 0.9
PLACES = {
    "fits": "in memory",
    "cold": "on the disk",
    "larger": "larger than\nSQLite's cache",
}


def name_of(arm: Arm, beside: Sequence[Arm] = ()) -> str:
    """How an arm writes. The database file, and the engine where all have one, stand in the
    conditions. beside : the arms of the same chart.
    """
    if len({other.engine for other in beside} - {"null"}) == 1:
        return begin_label(arm.begin)
    return arm.label.removesuffix(f" on a {arm.plan['database']} file")


def told(evidence: Evidence, pair: Pair, measure: str = "throughput") -> Comparison | None:
    """What may be told of a pair; None where the two may not be compared."""
    try:
        return evidence.facts.told(pair, measure)
    except KeyError:
        return None


def reach(found: Estimate) -> tuple[float, float]:
    """The interval, or the range where the blocks are too few for one."""
    if found.known or not found.blocks:
        return found.low, found.high
    return float(found.each.min()), float(found.each.max())


def _line(
    arms: Sequence[Arm], x: Sequence[float], found: Sequence[Estimate], beside: Sequence[Arm] = ()
) -> Line:
    low, high = zip(*map(reach, found), strict=True)
    return Line(name_of(arms[0], beside), arms[0].system, x, [e.value for e in found], low, high)


# --- writers ----------------------------------------------------------------------------------


def growing(evidence: Evidence) -> dict[System, list[Arm]]:
    """Each system's arms at several numbers of writers, of the first experiment that has them.

    Nothing but the number and the system may differ. The generator alone is no system.
    """
    for measured in evidence.experiments.values():
        systems: dict[System, list[Arm]] = {}
        if measured.name in NOT_TOLD:
            continue
        for arm in measured.arms.values():
            first = next((arms[0] for arms in systems.values()), arm)
            if arm.name in measured.repeated or not (arm.writers and arm.usable):
                continue
            if arm.alike(first, "writers"):
                systems.setdefault(arm.system, []).append(arm)
        grown = {of for of, arms in systems.items() if len({arm.writers for arm in arms}) > 1}
        if any(engine != "null" for engine, _ in grown):
            return {of: sorted(arms, key=lambda arm: arm.writers) for of, arms in systems.items()}
    return {}


def by_writers(evidence: Evidence) -> list[Line]:
    """Throughput by number of writers, and the generator's beside it."""
    systems = growing(evidence)
    lines = [
        _line(arms, [arm.writers for arm in arms], [arm.estimate() for arm in arms])
        for arms in systems.values()
    ]
    if systems and ("null", "immediate") not in systems:
        lines += _floor_line(evidence, max(systems.values(), key=len))
    return lines


def _floor_line(evidence: Evidence, arms: Sequence[Arm]) -> list[Line]:
    """The generator alone at the same numbers of writers, from wherever it was measured."""
    found = {arm.writers: evidence.floor(arm) for arm in arms}
    points = {n: null for n, null in found.items() if null is not None}
    if not points:
        return []
    values = [null.estimate().value for null in points.values()]
    return [Line("null (generator alone)", ("null", "immediate"), list(points), values)]


# --- skew -------------------------------------------------------------------------------------


def skewed(evidence: Evidence) -> dict[System, list[tuple[float, Arm]]]:
    """Each system's arms by the skew of their keys, with all else as in the first of them."""
    found: dict[System, list[tuple[float, Arm]]] = {}
    rows = evidence.facts.skew
    for arm, at, _ in rows:
        if arm.alike(rows[0].arm, "keys") and arm.refused().blocks:
            found.setdefault(arm.system, []).append((at, arm))
    return found


def by_skew(evidence: Evidence) -> list[Line]:
    """Refused attempts by skew: first tries, and all of them."""
    lines = []
    systems = skewed(evidence)
    every = [arm for points in systems.values() for _, arm in points]
    for points in systems.values():
        arms = [arm for _, arm in points]
        for first, name in ((True, "first tries"), (False, "all tries")):
            found = [arm.refused(first=first) for arm in arms]
            line = _line(arms, [x for x, _ in points], found, every)
            lines.append(line._replace(label=f"{line.label}, {name}", hollow=not first))
    return lines


# --- latency ----------------------------------------------------------------------------------


def headline_arms(evidence: Evidence) -> list[Arm]:
    """The arms of the headline's experiment that do the headline's work, A/A twins once."""
    head = evidence.facts.headline
    if head is None:
        return []
    pair = head.pair
    again = pair.measured.repeated
    return [
        arm
        for arm in pair.measured.arms.values()
        if arm.name not in again
        and arm.usable
        and arm.engine != "null"
        and arm.writers == pair.candidate.writers
        and arm.field("think_us") == pair.candidate.field("think_us")
    ]


def latencies(evidence: Evidence) -> list[Line]:
    """Percentiles of the headline's arms, ns."""
    return [
        Line(name_of(arm), arm.system, range(len(spans)), spans[:, 1], spans[:, 0], spans[:, 2])
        for arm in headline_arms(evidence)
        if len(spans := arm.percentiles())
    ]


def offered_rows(evidence: Evidence) -> dict[System, list[OfferedRow]]:
    """Each system's rows of the open loop, the lowest rate first."""
    found: dict[System, list[OfferedRow]] = {}
    for row in evidence.facts.offered:
        if row.arm.alike(evidence.facts.offered[0].arm, "rate", "duration_s"):
            found.setdefault(row.arm.system, []).append(row)
    return found if len(found) > 1 else {}


def offered(evidence: Evidence) -> list[Load]:
    """p50 and p99 by offered load, ns."""
    systems = offered_rows(evidence)
    rates = {row.rate: row.share for rows in systems.values() for row in rows}
    ticks = [
        f"{rate:,.0f}" + (f"\n({percent(share)})" if share == share else "")
        for rate, share in sorted(rates.items())
    ]
    order = sorted(rates)
    every = [row.arm for rows in systems.values() for row in rows]
    lines = []
    for at, name in ((P50, "p50"), (P99, "p99")):
        for system, rows in systems.items():
            spans = np.array([row.percentiles[at] for row in rows])
            x = [order.index(row.rate) for row in rows]
            label = f"{name_of(rows[0].arm, every)}, {name}"
            lines.append(Line(label, system, x, spans[:, 1], spans[:, 0], spans[:, 2], at == P50))
    return [Load(ticks, lines)] if lines else []


# --- shares -----------------------------------------------------------------------------------


def waiting(evidence: Evidence) -> list[FairnessRow]:
    """The rows of long windows of one experiment or sweep, that of the most blocks."""
    rows = evidence.facts.fairness
    if not rows:
        return []
    most = max(rows, key=lambda row: row.fairness.blocks)  # the first of them
    return [
        row for row in rows if row.arm.measured is most.arm.measured and row.arm.alike(most.arm)
    ]


def served(evidence: Evidence) -> list[Served]:
    """How writers were served in windows that are long enough to say so."""
    found = []
    for row in waiting(evidence):
        ranked = [
            np.sort(got)[::-1] / got.sum()
            for cell in row.arm.usable
            if cell.counted and (got := cell.counted.roles["writer"].commits_each).sum()
        ]
        if ranked:
            share = np.median(np.stack(ranked), axis=0)
            found.append(
                Served(name_of(row.arm), row.arm.system, share, row.longest_ns, row.cut)
            )  # fmt: skip
    return found


# --- where it pays ----------------------------------------------------------------------------


class Effects(NamedTuple):
    """The mode alone in every case where it was measured, and what of it may be told.

    missing : cases in which the two may not be compared.
    """

    drawn: list[Effect]
    told: list[tuple[str, Comparison]]
    arms: list[Arm]
    missing: list[str]


def effects(evidence: Evidence) -> Effects:
    """Every case: the amounts of work, all on one page, mixes that mostly read."""
    found = Effects([], [], [], [])
    for case, pair in _cases(evidence):
        found.arms.extend(pair)
        if (comparison := told(evidence, pair)) is None:
            found.missing.append(f"{case} (the two may not be compared)")
            continue
        ratio = comparison.ratio
        low, high = reach(ratio)
        found.told.append((case, comparison))
        found.drawn.append(Effect(case, ratio.value, low, high, claimed(comparison), ratio.blocks))
    return found


def _cases(evidence: Evidence) -> Iterator[tuple[str, Pair]]:
    facts = evidence.facts
    rows = facts.work_rows(STUDIED, MODE_ALONE)
    for row in rows:
        yield work_name(row.work_us), row.pair
    for page in facts.one_page:
        many = page.pair.candidate.field("rows")
        yield f"{number(many)} counters on one page" if many else "all on one page", page.pair
    usual = {row.pair.candidate.field("mix") for row in rows}
    for split in facts.splits:
        mix = split.mode.candidate.field("mix")
        if mix is not None and mix not in usual:
            usual.add(mix)
            mostly = f"YCSB {mix}" if len(str(mix)) == 1 else f"mix {mix}"
            yield f"{mostly} against {begin_label(split.mode.baseline.begin)}", split.mode


def work_name(work_us: float) -> str:
    """An amount of work inside a transaction, in words."""
    return f"{number(work_us)} µs of work" if work_us else "no work inside"


# --- the cache --------------------------------------------------------------------------------


def by_cache(evidence: Evidence) -> list[Load]:
    """Throughput of both modes by where the data are."""
    rows = evidence.facts.cache
    if len(rows) < 2:
        return []
    ticks = [PLACES.get(row.place, row.place) for row in rows]
    every = [arm for row in rows for arm in row.pair]
    lines = []
    for side in (1, 0):
        arms = [row.pair[side] for row in rows]
        lines.append(_line(arms, range(len(rows)), [arm.estimate() for arm in arms], every))
    return [Load(ticks, lines)]


# --- the log ----------------------------------------------------------------------------------


class Tracks(NamedTuple):
    """Runs along their clocks. own : checkpoints that no checkpointer can have made."""

    drawn: list[Track]
    arms: list[Arm]
    seconds: float = 0.0
    own: int = 0


def tracks(evidence: Evidence) -> Tracks:
    """Runs that recorded their log: the long windows first, then the longest, one of each arm."""
    made = Tracks([], [])
    seen = set()
    for arm, cell in _longest(evidence):
        if len(made.drawn) == MOST_TRACKS:
            break
        key = (arm.measured.name, arm.name)
        if key not in seen and (track := _track(arm, cell)) is not None:
            seen.add(key)
            assert cell.counted is not None and cell.manifest is not None
            own = 0 if cell.manifest.plan.checkpointers else track.many
            made = Tracks(
                [*made.drawn, track],
                [*made.arms, arm],
                max(made.seconds, cell.counted.seconds),
                made.own + own,
            )
    return made


def _longest(evidence: Evidence) -> list[tuple[Arm, CountedCell]]:
    long = {id(row.arm) for row in evidence.facts.fairness}
    found = [
        (arm, cell)
        for arm, cell in evidence.cells()
        if cell.counted is not None and cell.folder is not None and arm.writers
        if cell.usable and cell.counted.seconds >= SHORTEST_S and arm.plan["scenario"] != "acked"
    ]
    return sorted(
        found,
        key=lambda one: (id(one[0]) not in long, -round(one[1].counted.seconds, 1)),  # type: ignore[union-attr]
    )


def _track(arm: Arm, cell: CountedCell) -> Track | None:
    """A run's track, None where its log was not recorded."""
    assert cell.folder is not None and cell.counted is not None
    run = read_run(cell.folder)
    try:
        log = wal_track(run)
    except RunError:
        return None  # what is wrong with its file is told where the run is checked
    if not len(log.seconds):
        return None
    edges_s, per_s = timeline(run, bins=int(min(max(cell.counted.seconds * 10, 20), 100)))
    made = checkpoints(run)
    made = made[made["outcome"] == COMMITTED]
    spans = np.stack([made["start_s"], made["start_s"] + made["took_s"]], axis=1)
    many = int(log.checkpoints.sum())
    size = mebibytes(float(log.bytes.max()))
    label = f"{arm.measured.name}: {name_of(arm)}, {size}, {times(many, 'checkpoint')} seen"
    return Track(
        label=label,
        look=arm.system,
        edges_s=edges_s,
        per_s=per_s,
        checkpoints_s=_merged(spans, cell.counted.seconds / 400),
        wal_s=log.seconds,
        wal_bytes=log.bytes,
        seen_s=log.seconds[log.checkpoints > 0],
        many=many,
    )


def _merged(spans: np.ndarray, gap: float) -> np.ndarray:
    """Spans (start, end), those closer than `gap` as one: no mark is thinner than a line anyway."""
    merged: list[list[float]] = []
    for start, end in sorted(spans.tolist()):
        if merged and start - merged[-1][1] <= gap:
            merged[-1][1] = max(merged[-1][1], end)
        else:
            merged.append([start, end])
    return np.array(merged).reshape(-1, 2)
