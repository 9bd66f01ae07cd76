"""The parts that all charts share: the look of an arm, a line with its intervals, and saving."""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text

from analysis.charts.labels import (
    NO_HEADING,
    End,
    Heading,
    as_label,
    label_ends,
    not_shown,
    put_heading,
    words,
)
from analysis.charts.looks import FAINT, look_of
from analysis.charts.svg import INK, LIGHT, readable
from analysis.wording import number
from workloads.files import replace, visible

RC: Any = {
    "svg.hashsalt": "cwkit",
    "svg.fonttype": "none",
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "axes.facecolor": "none",
    "axes.titlecolor": INK,
    "text.color": INK,
    "xtick.color": FAINT,
    "ytick.color": FAINT,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "grid.color": FAINT,
    "grid.alpha": 0.25,
    "axes.grid": True,
    "axes.axisbelow": True,
    "legend.frameon": False,
    "text.parse_math": False,  # a "$" in a name is a "$"
}

DOTTED: Any = (0, (4, 3))


class Line(NamedTuple):
    """One arm in a chart. low and high are nan where a point has no interval.

    look : (engine, BEGIN mode), which chooses colour and mark. hollow : drawn as the lesser of two
    of one look.
    """

    label: str
    look: tuple[str, str]
    x: Sequence[float] | np.ndarray
    y: Sequence[float] | np.ndarray
    low: Sequence[float] | np.ndarray = ()
    high: Sequence[float] | np.ndarray = ()
    hollow: bool = False


def new_figure(
    rows: int = 1, columns: int = 1, *, wide: float = 7.2, high: float = 4.2
) -> tuple[Figure, Any]:
    """An empty figure without a ground, and its axes, shape (rows, columns). Sizes in inches."""
    with mpl.rc_context(RC):
        figure = Figure(figsize=(wide, high))
        figure.patch.set_visible(False)
        grid = figure.subplots(rows, columns, squeeze=False)
    for axes in grid.flat:
        axes.patch.set_visible(False)
    return figure, grid


def new_chart(x: str, y: str) -> tuple[Figure, Axes]:
    """An empty chart without a ground. x, y : what its axes show."""
    figure, grid = new_figure()
    axes: Axes = grid[0, 0]
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    return figure, axes


def draw_line(
    axes: Axes, line: Line, n: int, of: int, spread: float = 0.0, *, joined: bool = True
) -> End:
    """A line with its intervals, moved sideways by a hair so that they do not hide each other.

    joined : False where the places are categories: between those there is nothing to read.
    Returns where it ends.
    """
    colour, mark = look_of(line.look, n)
    x = np.asarray(line.x, float) + (n - (of - 1) / 2) * spread
    y = np.where(np.isfinite(line.y), line.y, np.nan)
    dashes: Any = DOTTED if line.look[0] == "null" or line.hollow else "-"
    axes.plot(x, y, color=colour, marker=mark, markersize=6, linewidth=1.8, clip_on=False,
              linestyle=dashes if joined else "none", label=in_legend(line.label), zorder=3,
              markerfacecolor="none" if line.hollow else colour)  # fmt: skip
    if len(line.low):
        low, high = np.asarray(line.low, float), np.asarray(line.high, float)
        shown = np.isfinite(low) & np.isfinite(high) & np.isfinite(y)
        reach = np.stack([(y - low)[shown], (high - y)[shown]])
        axes.errorbar(x[shown], y[shown], np.maximum(reach, 0), fmt="none", ecolor=colour,
                      elinewidth=1.3, capsize=3)  # fmt: skip
    there = np.flatnonzero(np.isfinite(y))
    last = (x[there[-1]], y[there[-1]]) if len(there) else (math.nan, math.nan)
    return End(line.label, float(last[0]), float(last[1]), colour, mark, line.hollow)


def in_legend(label: str) -> str:
    """A label for the legend. matplotlib hides labels that begin with "_"."""
    return f" {label}" if label.startswith("_") else label


def counts_below(axes: Axes, counts: Iterable[float]) -> None:
    """Ticks of the x axis at the counts themselves."""
    places = sorted(set(counts))
    axes.set_xticks(places, [f"{place:g}" for place in places])


def legend_above(axes: Axes) -> None:
    """Above the plot, where it hides no point."""
    handles, labels = axes.get_legend_handles_labels()
    if handles:
        columns = 1 if max(len(label) for label in labels) > 44 else 2
        axes.legend(handles, labels, loc="lower left", bbox_to_anchor=(0, 1.0), ncols=columns,
                    frameon=False, fontsize=9)  # fmt: skip


def absent(lines: Sequence[Line], unit: str = "", ticks: Sequence[str] = ()) -> list[str]:
    """What lines have no point of, where another of them has one, as clauses.

    unit : stands behind the places' numbers. ticks : names of the places 0, 1, 2, ...
    """
    places = sorted({float(x) for line in lines for x in line.x})
    told = []
    for line in lines:
        known = dict(zip(map(float, line.x), map(float, line.y), strict=True))
        names = [_place(x, unit, ticks) for x in places]
        found = [known.get(x, math.nan) for x in places]
        told += not_shown(line.label, zip(names, found, strict=True))
    return told


def _place(x: float, unit: str, ticks: Sequence[str]) -> str:
    """A place of the x axis in a sentence."""
    return ticks[int(x)].replace("\n", " ") if ticks else f"{x:g}{unit}"


def spoken(lines: Sequence[Line], unit: str = "", ticks: Sequence[str] = ()) -> str:
    """The points in words, for those who cannot see them."""
    told = []
    for line in lines:
        points = [
            f"{_place(x, '', ticks)}: {number(y)}{unit}"
            for x, y in zip(line.x, line.y, strict=True)
            if math.isfinite(y)
        ]
        told.append(f"{as_label(line.label)} ({'; '.join(points) or 'no point'})")
    return ". ".join(told)


def save(
    figure: Figure,
    path: Path,
    heading: Heading = NO_HEADING,
    *,
    missing: Sequence[str] = (),
    spoken: str = "",
    ends: Sequence[tuple[Axes, Sequence[End]]] = (),
) -> None:
    """Write the chart, whole or not at all. The path's suffix says whether as SVG or PNG.

    missing : what the picture does not show, a clause each. spoken : the data in words.
    ends : lines to be named at their ends, by axes. An SVG has no ground; a PNG, which cannot know
    its page, has a white one.
    """
    kind = path.suffix.lstrip(".") or "svg"
    out = io.BytesIO()
    missing = [as_label(each) for each in (*missing, *heading.missing)]
    with mpl.rc_context(RC), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # the reader's fonts have it, or none
        _as_text(figure)
        for axes, named in ends:
            label_ends(axes, named)
        put_heading(figure, heading, missing)
        figure.patch.set_visible(kind != "svg")
        figure.savefig(
            out,
            format=kind,
            bbox_inches="tight",
            pad_inches=0.12,
            facecolor=LIGHT,
            metadata={"Date": None, "Creator": None} if kind == "svg" else None,
        )
    drawn = out.getvalue()
    if kind == "svg":
        title = words(heading.title or _axes_named(figure))
        drawn = readable(drawn, title, _told(heading, missing, spoken))
    path.parent.mkdir(parents=True, exist_ok=True)
    replace(path, drawn)


def _axes_named(figure: Figure) -> str:
    """A title for a chart that was given none: what its axes show."""
    first = figure.axes[0]
    return " against ".join(filter(None, (first.get_ylabel(), first.get_xlabel()))) or "A chart"


def _told(heading: Heading, missing: Sequence[str], data: str) -> str:
    left_out = f"Without a value: {'; '.join(missing)}" if missing else ""
    parts = (heading.conditions, data, left_out)
    return " ".join(f"{visible(part).rstrip('.')}." for part in parts if part)


def _as_text(figure: Figure) -> None:
    """Have every text of a chart shown as it is, because names come from files of anybody.

    A control character would make the SVG invalid. matplotlib also reads "$…$" as a formula, which
    may be an invalid one.
    """
    for text in figure.findobj(Text):
        text.set_parse_math(False)
        text.set_text(as_label(text.get_text()))
