"""One function a chart; its docstring is the caption that stands under it in the report.

Charts are drawn on a light card of their own: a page may be dark or light, and grey text that
passes on both passes on neither well (3.9:1 on white at best). Same data, same bytes: no date, a
fixed salt for ids, glyphs as paths so that no font of the reader's machine moves a label.
"""

from __future__ import annotations

import inspect
import io
import math
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.ticker import FuncFormatter, NullFormatter

from analysis.statistics import PERCENTILES
from analysis.wording import number
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


class Track(NamedTuple):
    """One run along its own clock: seconds, commits a second, and when checkpoints were running."""

    label: str
    look: tuple[str, str]
    edges_s: np.ndarray
    per_s: np.ndarray
    checkpoints_s: np.ndarray  # shape (checkpoints, 2): start, end


def caption(chart: Callable[..., Any]) -> str:
    """A chart's docstring as one paragraph."""
    return " ".join((inspect.getdoc(chart) or "").split())


def throughput_against_writers(lines: Sequence[Line], path: Path) -> None:
    """Committed write transactions a second against the number of processes that write (Turso:
    threads), each with the same work inside its transactions; bars are 95 % intervals over
    blocks, or the range where the blocks are too few. A line that stays flat is a single writer:
    more processes only share it. The grey line is the generator alone (`null`, the same
    loop without an engine): where a line comes near it, the machine's cores and this generator are
    the limit and not the engine.
    """
    figure, axes = _chart("writers", "committed transactions / s")
    for n, line in enumerate(lines):
        _line(axes, line, n, len(lines))
    _counts_below(axes, [x for line in lines for x in line.x])
    axes.set_ylim(bottom=0)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:,.0f}"))
    _legend(axes)
    _save(figure, path)


def abort_rate_against_skew(lines: Sequence[Line], path: Path) -> None:
    """Share of finished attempts that the engine refused because of another transaction, against
    the skew of the keys (theta of a zipfian distribution; 0 is uniform: 0.99 is YCSB's). Bars are
    95 % Wilson intervals. Look at where a line leaves the floor: from there on hot rows, not the
    engine, set the pace. A mode with a single writer waits where another aborts: its cost is in
    the latency chart, not here.
    """
    figure, axes = _chart("skew of the keys (zipfian theta)", "aborted attempts (%)")
    for n, line in enumerate(lines):
        _line(axes, _scaled(line, 100), n, len(lines), spread=0.008)
    _counts_below(axes, [x for line in lines for x in line.x])
    axes.set_ylim(bottom=0)
    if axes.get_ylim()[1] < 1:
        axes.set_ylim(top=1)  # an axis that ends at 0.001 % makes noise look like a finding
    _legend(axes)
    _save(figure, path)


def latency(lines: Sequence[Line], path: Path) -> None:
    """How long a committed write transaction took, from its intended start to the end of COMMIT,
    refused tries and waiting included, all writers of all blocks pooled; the scale is
    logarithmic. A percentile is left out where too few transactions stand beyond it. Read the
    right end: a low p50 beside a `max` of a second is a mode that serves some and lets others
    wait. Pooled percentiles hide a starving writer, who commits too little to show in them: see
    the shares.
    """
    figure, axes = _chart("percentile of committed transactions", "duration (ms)")
    for n, line in enumerate(lines):
        _line(axes, _scaled(line, 1e-6), n, len(lines), spread=0.03)
    axes.set_yscale("log")
    axes.set_xticks(range(len(PERCENTILES)), PERCENTILES)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: number(y)))
    axes.yaxis.set_minor_formatter(NullFormatter())
    _legend(axes)
    _save(figure, path)


def shares(lines: Sequence[Line], path: Path) -> None:
    """Each writer's share of all commits, the best served first (median over blocks). The dashed
    line is an even share. Bars of one height are fair; one tall bar beside stumps is one process
    that keeps the lock while the others wait for it.
    """
    figure, axes = _chart("writer, best served first", "share of all commits (%)")
    most = max((len(line.x) for line in lines), default=1)
    width = 0.8 / max(len(lines), 1)
    for n, line in enumerate(lines):
        colour, _ = _look(line.look, n)
        at = np.asarray(line.x, float) + (n - (len(lines) - 1) / 2) * width
        axes.bar(at, np.asarray(line.y) * 100, width * 0.92, color=colour,
                 label=_in_legend(line.label))  # fmt: skip
    axes.axhline(100 / most, color=INK, linewidth=1, linestyle=(0, (4, 3)))
    axes.set_xticks(range(1, most + 1), [str(n) for n in range(1, most + 1)])
    axes.set_ylim(0, max(axes.get_ylim()[1], 100 / most * 1.2))
    axes.grid(axis="x", visible=False)
    _legend(axes)
    _save(figure, path)


def crossover(lines: Sequence[Line], path: Path) -> None:
    """How many times the throughput of the baseline (libsql BEGIN IMMEDIATE, the same work) each
    mode reaches, against the work inside the transaction; bars are 95 % intervals over blocks, or
    the range where the blocks are too few. Below the line at 1 a mode loses to the baseline. Where
    two lines are of one library, the distance between them is the mode alone: with nothing to
    overlap, its bookkeeping and its refused commits only cost. A bar that touches 1 is no
    difference seen.
    """
    figure, axes = _chart("work inside the transaction (µs)", "throughput / baseline's")
    places = sorted({x for line in lines for x in line.x})
    for n, line in enumerate(lines):
        moved = line._replace(x=[places.index(x) for x in line.x])
        _line(axes, moved, n, len(lines), spread=0.03)
    axes.axhline(1, color=INK, linewidth=1, linestyle=(0, (4, 3)))
    axes.set_xticks(range(len(places)), [number(x) for x in places])
    axes.set_ylim(bottom=0)
    _legend(axes)
    _save(figure, path)


def checkpoint_timeline(tracks: Sequence[Track], path: Path) -> None:
    """Committed write transactions a second along each run; marks below show when a checkpoint of
    the run's checkpointers was under way (those that a commit makes on its own have no row and
    are not shown). Look for dips above the marks: that is what moving the log into the database
    costs the writers.
    """
    with mpl.rc_context(RC):
        figure = Figure(figsize=(7.2, 0.6 + 1.9 * max(len(tracks), 1)), facecolor=CARD)
        rows = figure.subplots(max(len(tracks), 1), 1, squeeze=False)[:, 0]
        figure.subplots_adjust(hspace=0.75)
    for n, (axes, track) in enumerate(zip(rows, tracks, strict=False)):
        colour, _ = _look(track.look, n)
        axes.stairs(track.per_s, track.edges_s, color=colour, fill=True, alpha=0.25)
        axes.stairs(track.per_s, track.edges_s, color=colour, linewidth=1.4)
        top = max(filter(math.isfinite, track.per_s), default=0.0) or 1.0
        axes.set_ylim(-0.12 * top, 1.08 * top)
        axes.set_xlim(float(track.edges_s[0]), float(track.edges_s[-1]))
        if len(track.checkpoints_s):
            starts, ends = track.checkpoints_s[:, 0], track.checkpoints_s[:, 1]
            axes.hlines([-0.06 * top] * len(starts), starts, ends, color=INK, linewidth=5)
            axes.plot(starts, [-0.06 * top] * len(starts), "|", color=INK, markersize=6)
        axes.set_title(track.label, loc="left", fontsize=10)
        axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{max(y, 0):,.0f}"))
        axes.set_ylabel("tx / s")
    rows[-1].set_xlabel("time in the measured window (s)")
    _save(figure, path)


def _chart(x: str, y: str) -> tuple[Figure, Axes]:
    with mpl.rc_context(RC):
        figure = Figure(figsize=(7.2, 4.4), facecolor=CARD)
        axes = figure.subplots()
        axes.set_xlabel(x)
        axes.set_ylabel(y)
    return figure, axes


def _look(look: tuple[str, str], n: int) -> tuple[str, str]:
    if look[0] == "null":
        return STYLES["null", ""]
    return STYLES.get(look, SPARE[n % len(SPARE)])


def _line(axes: Axes, line: Line, n: int, of: int, spread: float = 0.0) -> None:
    """A line with its intervals, moved sideways by a hair so that they do not hide each other."""
    colour, mark = _look(line.look, n)
    x = np.asarray(line.x, float) + (n - (of - 1) / 2) * spread
    y = np.asarray(line.y, float)
    dashes: Any = (0, (3, 2)) if line.look[0] == "null" else "-"
    axes.plot(x, y, color=colour, marker=mark, markersize=6, linewidth=1.8, linestyle=dashes,
              label=_in_legend(line.label))  # fmt: skip
    if len(line.low):
        low, high = np.asarray(line.low, float), np.asarray(line.high, float)
        shown = np.isfinite(low) & np.isfinite(high) & np.isfinite(y)
        x, y, low, high = (part[shown] for part in (x, y, low, high))
        axes.errorbar(x, y, np.maximum(np.stack([y - low, high - y]), 0), fmt="none", ecolor=colour,
                      elinewidth=1.3, capsize=3)  # fmt: skip


def _in_legend(label: str) -> str:
    """A label for the legend. matplotlib hides labels that begin with "_"."""
    return f" {label}" if label.startswith("_") else label


def _scaled(line: Line, by: float) -> Line:
    y, low, high = (tuple(v * by for v in part) for part in (line.y, line.low, line.high))
    return line._replace(y=y, low=low, high=high)


def _counts_below(axes: Axes, counts: Sequence[float]) -> None:
    places = sorted(set(counts))
    axes.set_xticks(places, [f"{place:g}" for place in places])


def _legend(axes: Axes) -> None:
    """Above the plot, where it hides no point."""
    handles, labels = axes.get_legend_handles_labels()
    if handles:
        columns = 1 if max(len(label) for label in labels) > 44 else 2
        axes.legend(handles, labels, loc="lower left", bbox_to_anchor=(0, 1.0), ncols=columns,
                    frameon=False, fontsize=9)  # fmt: skip


def _save(figure: Figure, path: Path) -> None:
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


CHARTS = (
    throughput_against_writers,
    abort_rate_against_skew,
    latency,
    shares,
    crossover,
    checkpoint_timeline,
)


def nothing_to_draw(lines: Sequence[Line]) -> bool:
    """Whether no line has a point that can be drawn."""
    return not any(math.isfinite(y) for line in lines for y in line.y)
