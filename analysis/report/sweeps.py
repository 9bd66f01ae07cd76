"""What a report says of a sweep: a sentence for each way, small multiples, 30 rows, all as CSV.

What may be claimed is decided for the whole sweep at once: a difference counts where its p-value
holds after Holm's correction over all comparisons of the sweep, and where it is greater than what
the same arm, run twice, differs by.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from analysis.charts import small_multiples
from analysis.compare import CLAIMED, UNLIKE, Side, aa_band, compare, deviation
from analysis.compare import UNKNOWN as NOT_DECIDED
from analysis.compare import judged as judged_arms
from analysis.counting import Measured, cells_table, label, role_of, slumps, write_csv
from analysis.report.charts import Chart, address_of, drawn
from analysis.report.markdown import bold, markdown
from analysis.report.sweep_layout import MOST_PANELS, WAY, abort_chart, throughput_chart, varied
from analysis.report.sweep_summary import control_words, doubt_words, failure_words, rival
from analysis.statistics import FEWEST_BLOCKS, LEVEL
from analysis.wording import DASH, Table, listed, number, percent, times
from workloads.experiments import EARLIER, STATE_OF_A_CELL

MOST_ROWS = 30
MORE, LESS, SAME, UNKNOWN = "more", "less", "not claimed", "unknown"


class Judged(NamedTuple):
    """An arm against its rival (the baseline's way at the same point), and what may be claimed.

    p : adjusted by Holm, of `test`; nan for what is no member of the family.
    """

    over: str
    under: str
    ratio: Any
    p: float
    verdict: str
    test: str


def judged(grid: Measured) -> list[Judged]:
    """Every arm of a sweep against its rivals, judged as one family as `cwkit compare` judges it:
    nothing is claimed of blocks too few for an interval. A/A twins are in no family.

    Rivals are the baseline, or, where there are ways to write, those before it in the file's order
    at the same point: the baseline's way, and perhaps one that differs in less.
    """
    role = role_of(grid)
    again = {second for _, second in grid.twins()}
    sides = {arm: Side(arm, arm, {c.block: c for c in grid.of(arm)}, grid) for arm in grid.arms}
    found = judged_arms(
        [
            compare(sides[under], sides[arm], "throughput", role)
            for arm in grid.arms
            if arm not in again
            for under in _rivals(grid, arm)
            if all(grid.plan(each).get(f"{role}s") for each in (arm, under))
        ]
    )
    verdicts = {NOT_DECIDED: UNKNOWN, UNLIKE: UNKNOWN}
    return [
        Judged(
            one.b,
            one.a,
            one.ratio,
            one.p_holm,
            (MORE if one.ratio.value > 1 else LESS)
            if one.verdict == CLAIMED
            else verdicts.get(one.verdict, SAME),
            one.test,
        )
        for one in found
    ]


def _rivals(grid: Measured, arm: str) -> list[str]:
    """The first is the one of the table."""
    first = rival(grid, arm)
    if not first:
        return []
    point, ways = grid.points.get(arm, {}), list(grid.axes.get(WAY, []))
    if WAY not in point:
        return [first]
    mine = ways.index(point[WAY])
    base = grid.points[grid.baseline].get(WAY)
    others = [
        other
        for way in ways[:mine]
        for other in grid.arms
        if way != base and grid.points.get(other) == {**point, WAY: way}
    ]
    return [first, *others[:1]]


def told(grid: Measured, out: Path, folder: Path) -> dict[str, Any]:
    """Everything the template shows of one sweep. Draws its charts and writes its CSV."""
    states = {key: cell.state for key, cell in grid.cells.items()}
    path = folder / f"{out.stem}-{grid.name}.csv"
    folder.mkdir(parents=True, exist_ok=True)
    write_csv(cells_table(grid, states), path)
    found = judged(grid)
    cells = sum(cell.counted is not None for cell in grid.cells.values())
    return {
        "name": grid.name,
        "question": grid.question,
        "seed": grid.seed,
        "size": f"{times(len(grid.arms), 'arm')} in {times(_blocks(grid), 'block')}, "
        f"{times(cells, 'run')}",
        "control": control_words(grid),
        "sentences": sentences(grid, found),
        "charts": _charts(grid, out, folder),
        "table": table(grid, found),
        "csv": path.name,
        "csv_src": address_of(path, out),
        "doubts": [
            *doubt_words(grid),
            *failure_words(grid, states)[:5],
            *_unsteady(grid),
            *_made_later(grid),
        ],
    }


def _blocks(grid: Measured) -> int:
    return len({block for block, _ in grid.cells})


def _unsteady(grid: Measured) -> list[str]:
    counted = [cell.counted for cell in grid.cells.values() if cell.counted is not None]
    without = sum(c.steady is not None and c.steady.state == "no steady state" for c in counted)
    if not without:
        return []
    many = f"{times(without, 'run')} of {len(counted)}"
    return [f"{many} had no steady state (by MSER-5, or for a trend), and keep the planned window."]


def _made_later(grid: Measured) -> list[str]:
    """Cells that were run again, later than the rest of their blocks."""
    folders = {cell.folder.parent for cell in grid.cells.values() if cell.folder is not None}
    again = sum(
        len({path.name.split(".")[0] for path in (folder / EARLIER).glob(f"*{STATE_OF_A_CELL}")})
        for folder in folders
    )
    if not again:
        return []
    return [
        (
            f"{times(again, 'cell')} were run again, later than the rest of their blocks, because "
            "they had failed or others had used the machine: what drifts slowly is in their ratios."
        )
    ]


def _charts(grid: Measured, out: Path, folder: Path) -> list[Chart]:
    made = []
    for what, chart, why in (
        ("throughput", throughput_chart(grid), "no arm was measured"),
        ("aborts", abort_chart(grid), "nothing was refused"),
    ):
        path = folder / f"sweep-{grid.name}-{what}.svg"
        title = f"{grid.name}: {'throughput' if what == 'throughput' else 'aborted attempts'}"
        one = drawn(title, path, out, small_multiples, chart.panels, why, x=chart.x, y=chart.y)
        made.append(one._replace(caption=markdown("{} {}", one.caption, chart.left_out).strip()))
    return made


def sentences(grid: Measured, found: Sequence[Judged]) -> list[str]:
    """For each way: at how many points it commits more, at how many less, and the extremes."""
    band = aa_band(grid, role=role_of(grid))
    said: list[str] = []
    for way, base in dict.fromkeys((_way(grid, o.over), _way(grid, o.under)) for o in found):
        mine = [o for o in found if (_way(grid, o.over), _way(grid, o.under)) == (way, base)]
        counts = Counter(one.verdict for one in mine)
        parts = [f"more at {counts[MORE]}", f"less at {counts[LESS]}"]
        if counts[SAME]:
            parts.append(f"no difference is claimed at {counts[SAME]}")
        if counts[UNKNOWN]:
            parts.append(f"cannot be decided at {counts[UNKNOWN]}")
        said.append(
            markdown(
                "{} commits, against {} at the same point, {} of {}{}.",
                bold("{}", way),
                base,
                listed(parts),
                times(len(mine), "point"),
                _span(grid, mine),
            )
        )
    family = [one for one in found if not math.isnan(one.p)]
    if not family:
        said.append(
            f"(Nothing is claimed: no two arms have the {FEWEST_BLOCKS} blocks of runs that are "
            "alike, which an interval needs.)"
        )
        return said
    limit = "no A/A control" if math.isnan(band) else f"an A/A band of ±{percent(band)}"
    said.append(
        f"(Claimed at {LEVEL:g} after Holm over {times(len(family), 'comparison')} by a "
        f"{family[0].test}, with {limit}.)"
    )
    return said


def _span(grid: Measured, mine: Sequence[Judged]) -> str:
    claimed = sorted(
        (one for one in mine if one.verdict in (MORE, LESS)), key=lambda one: one.ratio.value
    )
    if not claimed:
        return ""
    ends = [claimed[0]] if len(claimed) == 1 else [claimed[0], claimed[-1]]
    places = [(one, _at(grid, one.over)) for one in ends]
    words = [f"{one.ratio.said()} times{f' ({at})' if at else ''}" for one, at in places]
    return f": {'from ' if len(words) == 2 else ''}{' to '.join(words)}"


def _way(grid: Measured, arm: str) -> str:
    if WAY in grid.points.get(arm, {}):
        return label(grid, arm)
    return "the baseline" if arm == grid.baseline else "each other arm"


def _at(grid: Measured, arm: str) -> str:
    at: Mapping[str, Any] = grid.points.get(arm, {})
    return ", ".join(f"{axis} {at[axis]}" for axis in varied(grid) if axis in at)


def table(grid: Measured, found: Sequence[Judged]) -> Table:
    """One row for each point of the grid: the rival's throughput, and of each way beside it its
    throughput, its ratio (bold where it is claimed) and what share it had refused. Of more than
    30 points those with the strongest effects are kept, in the sweep's order.
    """
    rows: dict[str, list[Judged]] = {}
    odd = {arm for _, arm in slumps(grid)}
    by_way = WAY in grid.axes
    found = [one for one in found if one.under == rival(grid, one.over)]
    for one in found:
        rows.setdefault(one.under if by_way else one.over, []).append(one)
    kept = list(rows)
    if len(kept) > MOST_ROWS:
        strongest = sorted(kept, key=lambda point: -max(_effect(one) for one in rows[point]))
        kept = [point for point in rows if point in set(strongest[:MOST_ROWS])]
    ways = list(dict.fromkeys(_way(grid, one.over) for one in found))
    axes = varied(grid)
    head = [*(axes or ["arm"]), f"{_way(grid, grid.baseline)}, tx/s"]
    for way in ways:
        head += [f"{way}, tx/s", "times as many", "aborted"]
    lines = []
    for point in kept:
        at = grid.points.get(point, {})
        cells = [str(at.get(axis, DASH)) for axis in axes] or [point]
        cells.append(_rate(grid, rows[point][0].under, odd))
        here = {_way(grid, one.over): one for one in rows[point]}
        for way in ways:
            cells += _cells(grid, here.get(way), odd)
        lines.append(tuple(cells))
    left = len(rows) - len(kept)
    note = f"{times(left, 'point')} with smaller effects are in the CSV only." if left else ""
    return Table(tuple(head), lines, note)


def _effect(one: Judged) -> float:
    effect = deviation(one.ratio.value)
    return -1.0 if math.isnan(effect) else effect


def _rate(grid: Measured, arm: str, odd: Collection[str]) -> str:
    role = role_of(grid)
    found = grid.estimate(arm, lambda counted: counted.roles[role].per_s)
    mark = " †" if arm in odd else ""
    return number(found.value) + mark if found.blocks else DASH


def _cells(grid: Measured, one: Judged | None, odd: Collection[str]) -> list[str]:
    if one is None:
        return [DASH] * 3
    tally = grid.tally(one.over, role_of(grid))
    said = one.ratio.said()
    if one.verdict in (MORE, LESS):
        said = bold("{}", said)
    aborted = percent(float(tally.abort_rate[1])) if tally is not None else DASH
    return [_rate(grid, one.over, odd), said, aborted]


__all__ = ["MOST_PANELS", "Judged", "judged", "sentences", "table", "told"]
