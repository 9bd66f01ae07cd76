"""One function a chart; its docstring is the caption that stands under it in the report.

A chart's heading comes from the report, which knows what may be claimed. A chart says itself what
it cannot show. Same data, same bytes: no date, and a fixed salt for ids.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from analysis.charts.base import (
    DOTTED,
    Line,
    absent,
    counts_below,
    draw_line,
    in_legend,
    legend_above,
    new_chart,
    new_figure,
    save,
    spoken,
)
from analysis.charts.labels import NO_HEADING, Heading, as_label
from analysis.charts.looks import FAINT, look_of
from analysis.statistics import PERCENTILES
from analysis.wording import duration, number

CLAIMS = {
    "more": "pays",
    "less": "loses",
    "none": "no difference claimed",
    "unknown": "too few blocks",
}


class Effect(NamedTuple):
    """What a mode makes of one case: a ratio with its interval, and what may be said of it.

    claim : one of CLAIMS.
    """

    label: str
    value: float
    low: float
    high: float
    claim: str
    blocks: int


class Served(NamedTuple):
    """How the writers of an arm were served.

    shares : of all commits, the best served first. longest_ns : the longest wait; cut : the window
    ended it, so that it was at least so long.
    """

    label: str
    look: tuple[str, str]
    shares: Sequence[float] | np.ndarray
    longest_ns: float
    cut: bool = False


def caption(chart: Callable[..., Any]) -> str:
    """A chart's docstring as one paragraph."""
    return " ".join((inspect.getdoc(chart) or "").split())


def throughput_against_writers(
    lines: Sequence[Line], path: Path, heading: Heading = NO_HEADING
) -> None:
    """Look for a line that stays flat: that is a single writer, and more processes only share it.
    The chart has committed write transactions a second against the number of processes that write
    (Turso: threads), each with the same work inside its transactions. Bars are 95 % intervals over
    blocks, or the range where the blocks are too few. The grey line is the generator alone (`null`,
    the same loop without an engine): where a line comes near it, the machine's cores and this
    generator are the limit and not the engine.
    """
    figure, axes = new_chart("writers", "committed transactions / s")
    ends = [draw_line(axes, line, n, len(lines)) for n, line in enumerate(lines)]
    counts_below(axes, [x for line in lines for x in line.x])
    axes.set_ylim(bottom=0)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:,.0f}"))
    save(figure, path, heading, missing=absent(lines, " writers"),
         spoken=spoken(lines, " / s"), ends=[(axes, ends)])  # fmt: skip


def abort_rate_against_skew(
    lines: Sequence[Line], path: Path, heading: Heading = NO_HEADING
) -> None:
    """Look at where a full line leaves the floor: from there on hot rows, not the engine, set the
    pace. The chart has the share of finished attempts that the engine refused because of another
    transaction, against the skew of the keys (theta of a zipfian distribution; 0 is uniform, 0.99
    is YCSB's). Full marks are first tries; hollow ones are all tries, of which a retry may be
    refused again over the same row. Bars are 95 % intervals over blocks, or the range where the
    blocks are too few. A mode with a single writer waits where another one aborts: its cost is in
    the latency, not here.
    """
    figure, axes = new_chart("skew of the keys (zipfian theta)", "refused attempts (%)")
    shown = [scaled(line, 100) for line in lines]
    ends = [draw_line(axes, line, n, len(lines), spread=0.008) for n, line in enumerate(shown)]
    counts_below(axes, [x for line in lines for x in line.x])
    axes.set_ylim(bottom=0)
    if axes.get_ylim()[1] < 1:
        axes.set_ylim(top=1)  # an axis that ends at 0.001 % makes noise look like a finding
    save(figure, path, heading, missing=absent(lines), spoken=spoken(shown, " %"),
         ends=[(axes, ends)])  # fmt: skip


def latency(lines: Sequence[Line], path: Path, heading: Heading = NO_HEADING) -> None:
    """Read the right end: a low p50 beside a `max` of a second is a mode that serves some and lets
    others wait. The chart has how long a committed write transaction took, from its intended start
    to the end of COMMIT, refused tries and waiting included; each percentile is the blocks' own,
    the scale is logarithmic, and bars are 95 % intervals over blocks. These windows are short:
    a writer who waits for longer than one is in no percentile. The shares in long windows show it.
    """
    figure, axes = new_chart("percentile of committed transactions", "duration (ms)")
    shown = [scaled(line, 1e-6) for line in lines]
    for n, line in enumerate(shown):
        draw_line(axes, line, n, len(lines), spread=0.12, joined=False)
    axes.set_xticks(range(len(PERCENTILES)), PERCENTILES)
    logarithmic(axes, shown, spread=0.12)
    legend_above(axes)
    save(figure, path, heading, missing=absent(lines, ticks=PERCENTILES),
         spoken=spoken(shown, " ms", PERCENTILES))  # fmt: skip


def shares(groups: Sequence[Served], path: Path, heading: Heading = NO_HEADING) -> None:
    """Look at how even the bars of one colour are, and at the waits below them. Above is each
    writer's share of all commits, the best served first (median over blocks); the dashed line is an
    even share. Below is the longest that any transaction lasted, from its intended start to its
    end; an arrow stands for at least so long, because the window ended before it did. All of it is
    of windows that are several times as long as a writer waits for a lock.
    """
    figure, grid = new_figure(2, high=5.0)
    upper, lower = grid[:, 0]
    upper.set_xlabel("writer, best served first")
    upper.set_ylabel("share of all commits (%)")
    most = max((len(group.shares) for group in groups), default=1)
    width = 0.8 / max(len(groups), 1)
    for n, group in enumerate(groups):
        colour, mark = look_of(group.look, n)
        at = np.arange(1, len(group.shares) + 1) + (n - (len(groups) - 1) / 2) * width
        bars(upper, at, np.asarray(group.shares, float) * 100, width * 0.92, colour, group.label)
        lower.plot([group.longest_ns / 1e9], [n], ">" if group.cut else mark, color=colour,
                   markersize=8, clip_on=False)  # fmt: skip
        lower.annotate(f"{'≥ ' * group.cut}{duration(group.longest_ns)}",
                       (group.longest_ns / 1e9, n), xytext=(8, 0), textcoords="offset points",
                       va="center", fontsize=8.5)  # fmt: skip
    upper.axhline(100 / most, color=FAINT, linewidth=1, linestyle=DOTTED)
    upper.set_xticks(range(1, most + 1), [str(n) for n in range(1, most + 1)])
    lower.set_yticks(range(len(groups)), [as_label(group.label) for group in groups], fontsize=8.5)
    lower.set_ylim(len(groups) - 0.5, -0.5)
    lower.set_xlim(left=0, right=1.15 * max((g.longest_ns / 1e9 for g in groups), default=1.0))
    lower.set_xlabel("longest wait (s)")
    lower.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:,.6g}"))
    figure.subplots_adjust(hspace=0.42)
    legend_above(upper)
    lines = [Line(g.label, g.look, range(1, len(g.shares) + 1), g.shares) for g in groups]
    waits = "; ".join(f"{as_label(g.label)} {'≥ ' * g.cut}{duration(g.longest_ns)}" for g in groups)
    missing = absent([scaled(line, 100) for line in lines], ". writer")
    save(figure, path, heading, missing=missing,
         spoken=f"Shares: {spoken(lines)}. Longest waits: {waits}")  # fmt: skip


def crossover(effects: Sequence[Effect], path: Path, heading: Heading = NO_HEADING) -> None:
    """Look at which side of the dashed line a bar lies on. Each row is one kind of work: how many
    times as many transactions BEGIN CONCURRENT commits as the other mode of the same library,
    so that nothing but the mode differs. Left of the line it loses, right of it it pays. A full
    mark is a difference that the report claims: its interval lies on one side of the line, it
    holds beside everything else that the report tells, and it is larger than what the same arm
    run twice differs by. A hollow mark lacks one of these, or has too few blocks. Bars are 95 %
    intervals over blocks, or the range where the blocks are too few. The scale is logarithmic.
    """
    figure, grid = new_figure(high=1.1 + 0.42 * max(len(effects), 1))
    axes: Axes = grid[0, 0]
    axes.set_xlabel("throughput / that of the same library's other mode")
    colours = {"more": "#008f6b", "less": "#d9560a"}
    shown = [e for e in effects if math.isfinite(e.value) and e.value > 0]
    ends = [v for e in shown for v in (e.low, e.value, e.high) if math.isfinite(v) and v > 0]
    least, most = min([*ends, 1 / 1.3]) / 1.15, max([*ends, 1.3]) * 1.15
    axes.set_xscale("log")
    axes.set_xlim(least, most)
    for row, effect in enumerate(effects):
        if effect.value == 0:
            axes.plot([least], [row], "<", color=colours["less"], markersize=8, clip_on=False)
            axes.annotate("0", (least, row), xytext=(8, -3), textcoords="offset points",
                          fontsize=8.5)  # fmt: skip
        if effect not in shown:
            continue
        colour = colours.get(effect.claim, FAINT)
        full = effect.claim in colours
        low, high = (v if v > 0 else least for v in (effect.low, effect.high))
        if math.isfinite(low) and math.isfinite(high):
            axes.plot([low, high], [row, row], color=colour, linewidth=2)
        axes.plot([effect.value], [row], "o", color=colour, markersize=7,
                  markerfacecolor=colour if full else "none")  # fmt: skip
        told = f"{number(effect.value)}  {CLAIMS[effect.claim]}"
        axes.annotate(told, (1, row), xytext=(8, 0), xycoords=("axes fraction", "data"),
                      textcoords="offset points", va="center", fontsize=8.5)  # fmt: skip
    axes.axvline(1, color=FAINT, linewidth=1.2, linestyle=DOTTED)
    axes.set_yticks(range(len(effects)), [as_label(e.label) for e in effects], fontsize=9)
    axes.set_ylim(len(effects) - 0.5, -0.5)
    axes.grid(axis="y", visible=False)
    places = [t for t in (0.1, 0.2, 0.5, 0.7, 1, 1.5, 2, 3, 5, 10) if least <= t <= most]
    axes.set_xticks(places, [f"{t:g}" for t in places])
    axes.xaxis.set_minor_formatter(NullFormatter())
    told = "; ".join(
        f"{as_label(e.label)}: {number(e.value)} [{number(e.low)}, {number(e.high)}], "
        f"{CLAIMS[e.claim]}, {e.blocks} blocks"
        for e in effects
    )
    left = [f"{as_label(e.label)} (no value)" for e in effects if not math.isfinite(e.value)]
    save(figure, path, heading, missing=left, spoken=told)


# --- parts ------------------------------------------------------------------------------------


def bars(
    axes: Axes, at: np.ndarray, heights: np.ndarray, width: float, colour: str, label: str
) -> None:
    """Bars; one of 0 is a mark on the ground with a 0 above it, since nothing is not no bar."""
    axes.bar(at, heights, width, color=colour, label=in_legend(label))
    for x in at[heights == 0]:
        axes.plot([x - width / 2, x + width / 2], [0, 0], color=colour, linewidth=3,
                  solid_capstyle="butt", clip_on=False, gid="zero")  # fmt: skip
        axes.annotate("0", (x, 0), xytext=(0, 4), textcoords="offset points", ha="center",
                      fontsize=8)  # fmt: skip


def logarithmic(axes: Axes, lines: Sequence[Line], spread: float = 0.0) -> None:
    """A logarithmic scale for lines that are drawn. What it cannot show stands at its ends.

    Zeros are marks at the lower edge, which says 0; what was never served is at the upper one.
    """
    shown = [y for line in lines for y in (*line.y, *line.low, *line.high) if 0 < y < math.inf]
    low, high = min(shown, default=0.1), max(shown, default=10.0)
    axes.set_yscale("log")
    axes.set_ylim(low / 1.6, high * 2.2)
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 1000 * low else (1,)))
    edges: dict[float, str] = {}
    for n, line in enumerate(lines):
        colour, mark = look_of(line.look, n)
        for x, y in zip(line.x, line.y, strict=True):
            if y in (0, math.inf):
                edge = 0.0 if y == 0 else 1.0
                edges[edge] = "0" if y == 0 else "never"
                axes.plot([float(x) + (n - (len(lines) - 1) / 2) * spread], [edge], mark,
                          color=colour, markersize=7, clip_on=False, gid="edge",
                          markerfacecolor="none" if line.hollow else colour,
                          transform=axes.get_xaxis_transform())  # fmt: skip
    for edge, word in sorted(edges.items()):  # once: at each mark they would lie on one another
        axes.annotate(word, (1, edge), xycoords="axes fraction", xytext=(6, 0),
                      textcoords="offset points", va="center", fontsize=8.5)  # fmt: skip
    axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:,.6g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())


def scaled(line: Line, by: float) -> Line:
    """A line in another unit."""
    y, low, high = (tuple(v * by for v in part) for part in (line.y, line.low, line.high))
    return line._replace(y=y, low=low, high=high)


CHARTS = (throughput_against_writers, abort_rate_against_skew, latency, shares, crossover)


def nothing_to_draw(lines: Sequence[Line]) -> bool:
    """Whether no line has a point that can be drawn."""
    return not any(math.isfinite(y) for line in lines for y in line.y)
