"""Charts of load: an open loop's latency at the same offered load, and where the data are."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from matplotlib.ticker import FuncFormatter

from analysis.charts.base import (
    Line,
    absent,
    draw_line,
    legend_above,
    new_chart,
    save,
    spoken,
)
from analysis.charts.figures import logarithmic, scaled
from analysis.charts.labels import NO_HEADING, Heading


class Load(NamedTuple):
    """Latencies at several offered loads, and what became of those who were not served.

    lines : x is the offered load as `ticks` names it, y a time in ns, infinite for never.
    """

    ticks: Sequence[str]
    lines: Sequence[Line]


def latency_at_load(loads: Sequence[Load], path: Path, heading: Heading = NO_HEADING) -> None:
    """Compare the modes at one load: both were offered the same transactions at the same times (an
    open loop, Poisson arrivals). The chart has how long a transaction took from the moment it was
    due to the end of its COMMIT, over all who were due; full marks are p99, hollow ones p50. The
    scale is logarithmic, bars are 95 % intervals over blocks. A mark at the upper edge was never
    served in the window, which counts as longer than any time.
    """
    figure, axes = new_chart("transactions offered / s", "duration (ms)")
    load = loads[0] if loads else Load((), ())
    shown = [scaled(line, 1e-6) for line in load.lines]
    spread = 0.5 / max(len(shown), 4)
    for n, line in enumerate(shown):
        draw_line(axes, line, n, len(shown), spread=spread, joined=False)
    axes.set_xticks(range(len(load.ticks)), load.ticks)
    axes.set_xlim(-0.5, max(len(load.ticks), 1) - 0.5)
    logarithmic(axes, shown, spread=spread)
    legend_above(axes)
    save(figure, path, heading, missing=absent(shown, ticks=load.ticks),
         spoken=spoken(shown, " ms", load.ticks))  # fmt: skip


def throughput_by_case(loads: Sequence[Load], path: Path, heading: Heading = NO_HEADING) -> None:
    """Look at whether the marks of one case are further apart than those of another: that is what
    the place of the data does to the difference between the modes. The chart has committed write
    transactions a second where the data are in memory, where they must come from the disk, and
    where they are larger than SQLite's own cache. Bars are 95 % intervals over blocks, or the range
    where the blocks are too few.
    """
    figure, axes = new_chart("where the data are", "committed transactions / s")
    load = loads[0] if loads else Load((), ())
    spread = 0.4 / max(len(load.lines), 2)
    for n, line in enumerate(load.lines):
        draw_line(axes, line, n, len(load.lines), spread=spread, joined=False)
    axes.set_xticks(range(len(load.ticks)), load.ticks)
    axes.set_xlim(-0.5, max(len(load.ticks), 1) - 0.5)
    axes.set_ylim(bottom=0)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:,.0f}"))
    legend_above(axes)
    save(figure, path, heading, missing=absent(load.lines, ticks=load.ticks),
         spoken=spoken(load.lines, " / s", load.ticks))  # fmt: skip


CHARTS = (latency_at_load, throughput_by_case)
