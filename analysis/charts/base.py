"""The parts that all charts share: their card, the look of an arm, a line with its intervals."""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text

from workloads.files import replace, visible

CARD, INK, GRID, FAINT = "#fbfbf8", "#1b1f24", "#dcdcd6", "#6a6f76"

STYLES = {
    ("libsql", "immediate"): ("#0072b2", "o"),
    ("libsql", "deferred"): ("#004c78", "P"),
    ("sqlite-concurrent", "immediate"): ("#3fa3dc", "s"),
    ("sqlite-concurrent", "concurrent"): ("#c94a00", "^"),
    ("turso", "concurrent"): ("#00805f", "D"),
    ("sqlite", "immediate"): ("#b5548f", "v"),
    ("null", ""): ("#6a6f76", "x"),
}
"""(engine, BEGIN mode) -> colour and mark: an arm looks the same in every chart. Okabe-Ito's
colours, darkened to 3:1 on the card; the marks differ too, for those who see no colour."""

SPARE = (("#8a6d00", "*"), ("#5b4bb7", "h"), ("#8c2d19", "p"), ("#3d3d3d", "d"))

RC: Any = {
    "svg.hashsalt": "cwkit",
    "svg.fonttype": "path",
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "axes.facecolor": CARD,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "grid.color": GRID,
    "axes.grid": True,
    "axes.axisbelow": True,
    "legend.frameon": False,
    "text.parse_math": False,  # a "$" in a name is a "$"
}

LONGEST_LABEL = 80


class Line(NamedTuple):
    """One arm in a chart. low and high are nan where a point has no interval.

    look : (engine, BEGIN mode), which chooses colour and mark.
    """

    label: str
    look: tuple[str, str]
    x: Sequence[float] | np.ndarray
    y: Sequence[float] | np.ndarray
    low: Sequence[float] | np.ndarray = ()
    high: Sequence[float] | np.ndarray = ()


def new_chart(x: str, y: str) -> tuple[Figure, Axes]:
    """An empty chart on its card. x, y : what its axes show."""
    with mpl.rc_context(RC):
        figure = Figure(figsize=(7.2, 4.4), facecolor=CARD)
        axes = figure.subplots()
        axes.set_xlabel(x)
        axes.set_ylabel(y)
    return figure, axes


def look_of(look: tuple[str, str], n: int) -> tuple[str, str]:
    """Colour and mark of an arm, the n-th of a chart. look : (engine, BEGIN mode)."""
    if look[0] == "null":
        return STYLES["null", ""]
    return STYLES.get(look, SPARE[n % len(SPARE)])


def draw_line(axes: Axes, line: Line, n: int, of: int, spread: float = 0.0) -> None:
    """A line with its intervals, moved sideways by a hair so that they do not hide each other."""
    colour, mark = look_of(line.look, n)
    x = np.asarray(line.x, float) + (n - (of - 1) / 2) * spread
    y = np.asarray(line.y, float)
    dashes: Any = (0, (3, 2)) if line.look[0] == "null" else "-"
    axes.plot(x, y, color=colour, marker=mark, markersize=6, linewidth=1.8, linestyle=dashes,
              label=in_legend(line.label))  # fmt: skip
    if len(line.low):
        low, high = np.asarray(line.low, float), np.asarray(line.high, float)
        shown = np.isfinite(low) & np.isfinite(high) & np.isfinite(y)
        x, y, low, high = (part[shown] for part in (x, y, low, high))
        axes.errorbar(x, y, np.maximum(np.stack([y - low, high - y]), 0), fmt="none", ecolor=colour,
                      elinewidth=1.3, capsize=3)  # fmt: skip


def in_legend(label: str) -> str:
    """A label for the legend. matplotlib hides labels that begin with "_"."""
    return f" {label}" if label.startswith("_") else label


def counts_below(axes: Axes, counts: Sequence[float]) -> None:
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


def save(figure: Figure, path: Path) -> None:
    """Write the chart, whole or not at all. The path's suffix says whether as SVG or PNG."""
    kind = path.suffix.lstrip(".") or "svg"
    out = io.BytesIO()
    _as_text(figure)
    with mpl.rc_context(RC), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # it is drawn as a box
        figure.savefig(
            out,
            format=kind,
            bbox_inches="tight",
            pad_inches=0.18,
            facecolor=CARD,
            metadata={"Date": None, "Creator": None} if kind == "svg" else None,
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    replace(path, out.getvalue())


def _as_text(figure: Figure) -> None:
    """Have every text of a chart shown as it is, because names come from files of anybody.

    matplotlib writes texts into the SVG as comments beside the glyphs. A control character in one
    would make the SVG invalid. It also reads "$…$" as a formula, which may be an invalid one.
    """
    for text in figure.findobj(Text):
        text.set_parse_math(False)
        text.set_text(as_label(text.get_text()))


def as_label(text: str) -> str:
    """A name in a chart. Ticks need it by hand: they are made only when a chart is drawn."""
    shown = visible(text, keep="\n")
    return shown if len(shown) <= LONGEST_LABEL else f"{shown[: LONGEST_LABEL - 1]}…"
