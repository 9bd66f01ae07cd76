"""A sweep in the report: a sentence for each system, small multiples, 30 rows, all cells as CSV.

`sweep_verdicts` has decided before, for the whole sweep at once, which differences are claimed.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from analysis.charts import small_multiples
from analysis.compare import aa_band, deviation
from analysis.counting import Arm, Measured, cells_table, slumps, write_csv
from analysis.models import factors_of, factors_sentence, factors_table
from analysis.report import chart_titles, lost_commits
from analysis.report.acked import acked_of, is_acked, rows_table
from analysis.report.charts import Chart, address_of, drawn
from analysis.report.markdown import bold, markdown
from analysis.report.published import Published, cells_again
from analysis.report.sweep_layout import MOST_PANELS, SYSTEM, abort_chart, factors, throughput_chart
from analysis.report.sweep_summary import control_sentence, doubt_lines, failure_lines, rival
from analysis.report.sweep_verdicts import LESS, MORE, SAME, UNKNOWN, Judged
from analysis.report.told import smallest_clause
from analysis.statistics import FEWEST_BLOCKS, LEVEL
from analysis.wording import DASH, Table, listed, number, percent, times

MOST_ROWS = 30


def section(
    measured: Measured,
    found: Sequence[Judged],
    out: Path,
    folder: Path,
    published: Published | None = None,
) -> dict[str, Any]:
    """One sweep's part of the report, as data for its template. Draws its charts, writes its CSV.

    found : its arms against their rivals, judged. published : where it is told from, if it was
    published; its table is the CSV then.
    """
    states = {key: cell.state for key, cell in measured.cells.items()}
    path = published.table if published else folder / f"sweep-{measured.name}.csv"
    folder.mkdir(parents=True, exist_ok=True)
    cells = sum(cell.counted is not None for cell in measured.cells.values())
    head = {
        "name": measured.name,
        "question": measured.question,
        "seed": measured.seed,
        "size": f"{times(len(measured.arms), 'arm')} in {times(len(measured.blocks), 'block')}, "
        f"{times(cells, 'run')}",
        "csv": path.name,
        "csv_src": address_of(path, out),
        "published": published.sentence() if published else "",
        "note_src": address_of(published.note, out) if published else "",
    }
    if is_acked(measured):
        found_lost = acked_of([measured])
        if not published:
            write_csv(rows_table(found_lost), path)
        return head | {
            "control": "",
            "factors": None,
            "sentences": lost_commits.told(found_lost),
            "charts": [],
            "table": lost_commits.table(found_lost),
            "bold": "Bold: acknowledged commits were lost.",
            "doubts": [],
        }
    if not published:
        write_csv(cells_table(measured, states), path)
    again = published.again if published else _run_again(measured)
    return head | {
        "control": control_sentence(measured),
        "factors": factors_table(decided) if (decided := factors_of(measured)) else None,
        "sentences": [
            *([markdown("{}", factors_sentence(decided))] if decided else []),
            *sentences(measured, found),
        ],
        "charts": _charts(measured, found, out, folder),
        "table": table(measured, found),
        "bold": "Bold: a difference that is claimed.",
        "doubts": [
            *doubt_lines(measured),
            *failure_lines(measured, states)[:5],
            *_unsteady(measured),
            *_made_later(again),
            *(published.dropped if published else ()),
        ],
    }


def _unsteady(measured: Measured) -> list[str]:
    counted = [cell.counted for cell in measured.cells.values() if cell.counted is not None]
    without = sum(c.steady is not None and c.steady.state == "no steady state" for c in counted)
    if not without:
        return []
    many = f"{times(without, 'run')} of {len(counted)}"
    return [f"{many} had no steady state (by MSER-5, or for a trend), and keep the planned window."]


def _run_again(measured: Measured) -> int:
    """Cells that were run again, later than the rest of their blocks."""
    folders = {cell.folder.parent for cell in measured.cells.values() if cell.folder is not None}
    return sum(cells_again(folder) for folder in folders)


def _made_later(again: int) -> list[str]:
    if not again:
        return []
    return [
        (
            f"{times(again, 'cell')} were run again, later than the rest of their blocks, because "
            "they had failed or others had used the machine: what drifts slowly is in their ratios."
        )
    ]


def _charts(measured: Measured, found: Sequence[Judged], out: Path, folder: Path) -> list[Chart]:
    made = []
    heading = chart_titles.swept(measured, found)
    for what, chart, why in (
        ("throughput", throughput_chart(measured), "no arm was measured"),
        ("aborts", abort_chart(measured), "nothing was refused"),
    ):
        path = folder / f"sweep-{measured.name}-{what}.svg"
        title = f"{measured.name}: {'throughput' if what == 'throughput' else 'aborted attempts'}"
        said = heading if what == "throughput" else heading._replace(title="")
        one = drawn(
            title, path, out, small_multiples, chart.panels, why, heading=said, x=chart.x, y=chart.y
        )
        made.append(one._replace(caption=markdown("{} {}", one.caption, chart.left_out).strip()))
    return made


def sentences(measured: Measured, found: Sequence[Judged]) -> list[str]:
    """For each system: at how many points it commits more, at how many less, and the extremes."""
    band = aa_band(measured, role=measured.role)
    lines: list[str] = []
    for system, base in dict.fromkeys((_system(o.candidate), _system(o.baseline)) for o in found):
        mine = [o for o in found if (_system(o.candidate), _system(o.baseline)) == (system, base)]
        counts = Counter(one.verdict for one in mine)
        parts = [f"more at {counts[MORE]}", f"less at {counts[LESS]}"]
        if counts[SAME]:
            parts.append(f"no difference is claimed at {counts[SAME]}")
        if counts[UNKNOWN]:
            parts.append(f"cannot be decided at {counts[UNKNOWN]}")
        lines.append(
            markdown(
                "{} commits, against {} at the same point, {} of {}{}.",
                bold("{}", system),
                base,
                listed(parts),
                times(len(mine), "point"),
                _span(mine),
            )
        )
    family = [one for one in found if not math.isnan(one.p)]
    if not family:
        lines.append(
            f"(Nothing is claimed: no two arms have the {FEWEST_BLOCKS} blocks of runs that are "
            "alike, which an interval needs.)"
        )
        return lines
    limit = "no A/A control" if math.isnan(band) else f"an A/A band of ±{percent(band)}"
    lines.append(
        f"(Claimed at {LEVEL:g} in a family of {times(len(family), 'comparison')} by a "
        f"{family[0].test}, with {limit}; {smallest_clause([o.smallest for o in family])}.)"
    )
    return lines


def _span(mine: Sequence[Judged]) -> str:
    claimed = sorted(
        (one for one in mine if one.verdict in (MORE, LESS)), key=lambda one: one.ratio.value
    )
    if not claimed:
        return ""
    ends = [claimed[0]] if len(claimed) == 1 else [claimed[0], claimed[-1]]
    places = [(one, _at(one.candidate)) for one in ends]
    texts = [f"{one.ratio.text()} times{f' ({at})' if at else ''}" for one, at in places]
    return f": {'from ' if len(texts) == 2 else ''}{' to '.join(texts)}"


def _system(arm: Arm) -> str:
    if SYSTEM in arm.point:
        return arm.label
    return "the baseline" if arm is arm.measured.baseline else "each other arm"


def _at(arm: Arm) -> str:
    axes = factors(arm.measured)
    return ", ".join(f"{axis} {arm.point[axis]}" for axis in axes if axis in arm.point)


def table(measured: Measured, found: Sequence[Judged]) -> Table:
    """One row for each point of the grid, or for the 30 points with the strongest effects.

    A row has the rival's throughput, then for each other system its throughput, its ratio (bold
    where it is claimed) and its share of aborted attempts. Rows stand in the sweep's order.
    """
    rows: dict[str, list[Judged]] = {}
    slumped = {arm for _, arm in slumps(measured)}
    by_system = SYSTEM in measured.axes
    found = [one for one in found if one.baseline is rival(one.candidate)]
    for one in found:
        rows.setdefault((one.baseline if by_system else one.candidate).name, []).append(one)
    kept = list(rows)
    if len(kept) > MOST_ROWS:
        strongest = sorted(kept, key=lambda point: -max(_effect(one) for one in rows[point]))
        kept = [point for point in rows if point in set(strongest[:MOST_ROWS])]
    systems = list(dict.fromkeys(_system(one.candidate) for one in found))
    axes = factors(measured)
    base = _system(measured.baseline) if measured.baseline else "the baseline"
    head = [*(axes or ["arm"]), f"{base}, tx/s"]
    for system in systems:
        head += [f"{system}, tx/s", "times as many", "aborted"]
    lines = []
    for point in kept:
        at = measured.points.get(point, {})
        cells = [str(at.get(axis, DASH)) for axis in axes] or [point]
        cells.append(_rate(rows[point][0].baseline, slumped))
        here = {_system(one.candidate): one for one in rows[point]}
        for system in systems:
            cells += _cells(here.get(system), slumped)
        lines.append(tuple(cells))
    left = len(rows) - len(kept)
    note = f"{times(left, 'point')} with smaller effects are in the CSV only." if left else ""
    return Table(tuple(head), lines, note)


def _effect(one: Judged) -> float:
    effect = deviation(one.ratio.value)
    return -1.0 if math.isnan(effect) else effect


def _rate(arm: Arm, slumped: Collection[str]) -> str:
    role = arm.measured.role
    found = arm.estimate(lambda counted: counted.roles[role].per_s)
    mark = " †" if arm.name in slumped else ""
    return number(found.value) + mark if found.blocks else DASH


def _cells(one: Judged | None, slumped: Collection[str]) -> list[str]:
    if one is None:
        return [DASH] * 3
    refused = one.candidate.refused(one.candidate.measured.role)
    ratio = one.ratio.text()
    if one.verdict in (MORE, LESS):
        ratio = bold("{}", ratio)
    aborted = percent(refused.value) if refused.blocks else DASH
    return [_rate(one.candidate, slumped), ratio, aborted]


__all__ = ["MOST_PANELS", "section", "sentences", "table"]
