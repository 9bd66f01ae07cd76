"""One function a chart; its docstring is the caption that stands under it in the report.

Charts are drawn on a light card of their own: a page may be dark or light, and grey text that
passes on both passes on neither well (3.9:1 on white at best). Same data, same bytes: no date, a
fixed salt for ids, glyphs as paths so that no font of the reader's machine moves a label.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

from analysis.charts.base import (
    CARD,
    INK,
    RC,
    Line,
    counts_below,
    draw_line,
    in_legend,
    legend_above,
    look_of,
    new_chart,
    save,
)
from analysis.statistics import PERCENTILES
from analysis.wording import number


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
    figure, axes = new_chart("writers", "committed transactions / s")
    for n, line in enumerate(lines):
        draw_line(axes, line, n, len(lines))
    counts_below(axes, [x for line in lines for x in line.x])
    axes.set_ylim(bottom=0)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:,.0f}"))
    legend_above(axes)
    save(figure, path)


def abort_rate_against_skew(lines: Sequence[Line], path: Path) -> None:
    """Share of finished attempts that the engine refused because of another transaction, against
    the skew of the keys (theta of a zipfian distribution; 0 is uniform: 0.99 is YCSB's). Bars are
    95 % intervals over blocks. Look at where a line leaves the floor: from there on hot rows, not
    the engine, set the pace. A mode with a single writer waits where another aborts: its cost is in
    the latency chart, not here.
    """
    figure, axes = new_chart("skew of the keys (zipfian theta)", "aborted attempts (%)")
    for n, line in enumerate(lines):
        draw_line(axes, _scaled(line, 100), n, len(lines), spread=0.008)
    counts_below(axes, [x for line in lines for x in line.x])
    axes.set_ylim(bottom=0)
    if axes.get_ylim()[1] < 1:
        axes.set_ylim(top=1)  # an axis that ends at 0.001 % makes noise look like a finding
    legend_above(axes)
    save(figure, path)


def latency(lines: Sequence[Line], path: Path) -> None:
    """How long a committed write transaction took, from its intended start to the end of COMMIT,
    refused tries and waiting included, all writers of all blocks pooled; the scale is
    logarithmic. A percentile is left out where too few transactions stand beyond it. Read the
    right end: a low p50 beside a `max` of a second is a mode that serves some and lets others
    wait. Pooled percentiles hide a starving writer, who commits too little to show in them: see
    the shares.
    """
    figure, axes = new_chart("percentile of committed transactions", "duration (ms)")
    for n, line in enumerate(lines):
        draw_line(axes, _scaled(line, 1e-6), n, len(lines), spread=0.03)
    axes.set_yscale("log")
    axes.set_xticks(range(len(PERCENTILES)), PERCENTILES)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: number(y)))
    axes.yaxis.set_minor_formatter(NullFormatter())
    legend_above(axes)
    save(figure, path)


def shares(lines: Sequence[Line], path: Path) -> None:
    """Each writer's share of all commits, the best served first (median over blocks). The dashed
    line is an even share. Bars of one height are fair; one tall bar beside stumps is one process
    that keeps the lock while the others wait for it.
    """
    figure, axes = new_chart("writer, best served first", "share of all commits (%)")
    most = max((len(line.x) for line in lines), default=1)
    width = 0.8 / max(len(lines), 1)
    for n, line in enumerate(lines):
        colour, _ = look_of(line.look, n)
        at = np.asarray(line.x, float) + (n - (len(lines) - 1) / 2) * width
        axes.bar(at, np.asarray(line.y) * 100, width * 0.92, color=colour,
                 label=in_legend(line.label))  # fmt: skip
    axes.axhline(100 / most, color=INK, linewidth=1, linestyle=(0, (4, 3)))
    axes.set_xticks(range(1, most + 1), [str(n) for n in range(1, most + 1)])
    axes.set_ylim(0, max(axes.get_ylim()[1], 100 / most * 1.2))
    axes.grid(axis="x", visible=False)
    legend_above(axes)
    save(figure, path)


def crossover(lines: Sequence[Line], path: Path) -> None:
    """How many times the throughput of the baseline (libsql BEGIN IMMEDIATE, the same work) each
    mode reaches, against the work inside the transaction; bars are 95 % intervals over blocks, or
    the range where the blocks are too few. Below the line at 1 a mode loses to the baseline. Where
    two lines are of one library, the distance between them is the mode alone: with nothing to
    overlap, its bookkeeping and its refused commits only cost. A bar that touches 1 is no
    difference seen.
    """
    figure, axes = new_chart("work inside the transaction (µs)", "throughput / baseline's")
    places = sorted({x for line in lines for x in line.x})
    for n, line in enumerate(lines):
        moved = line._replace(x=[places.index(x) for x in line.x])
        draw_line(axes, moved, n, len(lines), spread=0.03)
    axes.axhline(1, color=INK, linewidth=1, linestyle=(0, (4, 3)))
    axes.set_xticks(range(len(places)), [number(x) for x in places])
    axes.set_ylim(bottom=0)
    legend_above(axes)
    save(figure, path)


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
        colour, _ = look_of(track.look, n)
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
    save(figure, path)


def _scaled(line: Line, by: float) -> Line:
    y, low, high = (tuple(v * by for v in part) for part in (line.y, line.low, line.high))
    return line._replace(y=y, low=low, high=high)


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
