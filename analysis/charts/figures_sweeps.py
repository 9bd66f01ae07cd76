"""Charts of a sweep: the same small chart for each combination of its other axes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from matplotlib.ticker import FuncFormatter

from analysis.charts.base import Line, absent, draw_line, new_figure, save, spoken
from analysis.charts.labels import NO_HEADING, Heading, as_label

WIDEST_TICKS = 28
"""Letters of all ticks along one x axis. Ticks with more are turned, so that none overlap."""


class Panel(NamedTuple):
    """One small chart: x values are indices into `ticks`."""

    title: str
    ticks: Sequence[str]
    lines: Sequence[Line]


def small_multiples(
    panels: Sequence[Panel],
    path: Path,
    heading: Heading = NO_HEADING,
    *,
    x: str,
    y: str,
    least_top: float = 1.0,
) -> None:
    """One panel for each combination of the sweep's other axes, named above it. Each panel has its
    own scale from 0: compare shapes across panels, heights only within one. Points are medians over
    blocks, bars 95 % intervals over blocks, or the range where the blocks are too few (abort rates:
    95 % intervals over blocks). The steps of the x axis are the sweep's values, not to scale; lines
    join them only where they are numbers.
    """
    columns = 2 if len(panels) <= 4 else 3
    columns = min(columns, max(len(panels), 1))
    down = math.ceil(len(panels) / columns)
    names = list(dict.fromkeys(line.label for panel in panels for line in panel.lines))
    wide, high, head = 3.6 * columns, 2.6 * down, 0.35 + 0.2 * len(names)
    figure, grid = new_figure(down, columns, wide=wide, high=high + head)
    figure.subplots_adjust(hspace=0.45, wspace=0.3, top=high / (high + head))
    missing: list[str] = []
    told: list[str] = []
    for n, axes in enumerate(grid.flat):
        if n >= len(panels):
            axes.set_visible(False)
            continue
        panel = panels[n]
        for line in panel.lines:
            draw_line(axes, line, names.index(line.label), len(names), spread=0.04,
                      joined=all(map(_is_number, panel.ticks)))  # fmt: skip
        axes.set_title(panel.title, loc="left", fontsize=9)
        ticks = [as_label(tick) for tick in panel.ticks]
        axes.set_xticks(range(len(ticks)), ticks)
        behind = f" ({panel.title})" if panel.title else ""
        missing += [f"{each}{behind}" for each in absent(panel.lines, ticks=ticks)]
        told.append(f"{panel.title}: {spoken(panel.lines, ticks=ticks)}")
        if sum(map(len, ticks)) > WIDEST_TICKS:
            axes.tick_params(axis="x", rotation=30)
            for tick in axes.get_xticklabels():
                tick.set_horizontalalignment("right")
        axes.set_xlim(-0.4, len(panel.ticks) - 0.6)
        heights = (y for line in panel.lines for y in (*line.y, *line.high))
        top = max(filter(math.isfinite, heights), default=0.0)
        axes.set_ylim(0, max(top * 1.06, least_top))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.6g}"))
        if n % columns == 0:
            axes.set_ylabel(y)
        if n + columns >= len(panels):
            axes.set_xlabel(x)
    seen: dict[str, Any] = {}
    for axes in grid.flat:
        for handle, name in zip(*axes.get_legend_handles_labels(), strict=True):
            seen.setdefault(name, handle)
    figure.legend(
        list(seen.values()), list(seen), loc="upper left", bbox_to_anchor=(0.1, 1.0), fontsize=9,
        frameon=False,
    )  # fmt: skip
    save(figure, path, heading, missing=_some(missing), spoken=". ".join(told))


MOST_MISSING = 6
"""At most so many points that are not there are named; the others are counted."""


def _some(missing: Sequence[str]) -> list[str]:
    more = len(missing) - MOST_MISSING
    return [*missing[:MOST_MISSING], *([f"and {more} more"] if more > 0 else [])]


def _is_number(tick: str) -> bool:
    try:
        return math.isfinite(float(tick))
    except ValueError:
        return False
