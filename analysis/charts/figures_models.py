"""The charts of the models: throughput against writers with its law, predicted against observed.

As in analysis.charts.figures, each function is one chart, and its docstring is the caption.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, NullFormatter

from analysis.charts.base import (
    DOTTED,
    Line,
    counts_below,
    legend_above,
    new_chart,
    save,
    spoken,
)
from analysis.charts.labels import NO_HEADING, Heading, Mark, as_label, label_marks
from analysis.charts.looks import FAINT, look_of
from analysis.counting import theta
from analysis.models import Prediction, RefusalAccount, Scaling
from analysis.wording import begin_label, number, percent
from workloads.files import visible

KINDS = {"leaf": "#0072b2", "interior": "#d9560a", "other": "#8a7000", "": "#888e96"}
"""Kind of page -> colour; "" stands for pages that were not recorded one by one."""

MOST_BARS = 8


def scaling_law(found: Sequence[Scaling], path: Path, heading: Heading = NO_HEADING) -> None:
    """Committed write transactions a second against the number of writers, and the Universal
    Scalability Law fitted to them; bars are 95 % intervals over blocks, or the range where the
    blocks are too few. A family without a curve has too few numbers of writers for a fit. The
    curve is drawn over the numbers that were measured and no further: it describes these points on
    this machine, and where writers share cores it predicts no other. Look at how far points lie
    from their curve: where they leave it, something limits them that the law does not know.
    """
    figure, axes = new_chart("writers", "committed transactions / s")
    for n, one in enumerate(found):
        colour, mark = look_of(one.look, n)
        at = list(one.points)
        points = [one.points[count] for count in at]
        low = [p.low if p.known else float(p.each.min()) for p in points]
        high = [p.high if p.known else float(p.each.max()) for p in points]
        seen = np.array([p.value for p in points])
        reach = np.maximum([seen - low, high - seen], 0)
        axes.errorbar(at, seen, reach, color=colour, marker=mark, markersize=6, linestyle="none",
                      elinewidth=1.3, capsize=3,
                      label=one.label if one.law else f"{one.label} (no fit)")  # fmt: skip
        if one.law is not None:
            along = np.linspace(min(at), max(at), 200)
            axes.plot(along, one.law.at(along), color=colour, linewidth=1.8)
            if min(at) <= one.law.peak <= max(at):
                top = float(one.law.at(one.law.peak))
                axes.plot([one.law.peak] * 2, [0, top], color=colour, linewidth=1,
                          linestyle=(0, (1, 2)))  # fmt: skip
                axes.annotate(f"N = {one.law.peak:.1f}", (one.law.peak, 0), xytext=(3, 3),
                              textcoords="offset points", fontsize=8)  # fmt: skip
    counts_below(axes, [count for one in found for count in one.points])
    axes.set_ylim(bottom=0)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:,.0f}"))
    legend_above(axes)
    lines = [
        Line(one.label, one.look, list(one.points), [p.value for p in one.points.values()])
        for one in found
    ]
    save(figure, path, heading, spoken=spoken(lines, " / s"))


def predicted_against_observed(
    made: Sequence[Prediction], path: Path, heading: Heading = NO_HEADING
) -> None:
    """Share of attempts refused because of another transaction, as the conflict model predicts it
    (without anything fitted) and as it was seen; both axes are logarithmic, and on the dashed line
    the model is right. Each arm has two marks. The full one is of first tries, by the model in
    full: every attempt's own window, what a transaction may touch, pages that were split or rows
    that others hold. The hollow one is of all tries, by the bare formula 1 - exp(-m Σ r w). Bars
    are 95 % intervals over runs, or the range of few; the pale band beside a full mark ends at the
    prediction for commits that are validated as late as possible, since no row records when they
    were. A hollow mark above
    its full one: retries were refused again over the same rows. One to the right of it: by so much
    a mean window overstates the aborts. Numbers beside the marks are the skew of the keys
    (zipfian theta; 0 is uniform). An arm without any refusal is at the lower edge, as an arrow
    from the upper end of its interval.
    """
    figure, axes = new_chart("predicted aborted attempts (%)", "observed aborted attempts (%)")
    looks = list(dict.fromkeys((one.engine, one.begin, one.unit) for one in made))
    shares = [s for one in made for s in (*_xy(one, True), *_xy(one, False)) if s > 0]
    least = max(min(shares, default=0.001) / 2, 1e-6)
    marks: list[Mark] = []
    for n, (engine, begin, unit) in enumerate(looks):
        colour, mark = look_of((engine, begin), n)
        label = f"{engine} {begin_label(begin)} (by {unit})"
        for one in made:
            if (one.engine, one.begin, one.unit) != (engine, begin, unit):
                continue
            ends = []
            for full in (False, True):
                x, y = (max(s, least) * 100 for s in _xy(one, full))
                low, seen, high = (one.first if full else one.every).observed
                ends.append((x, y))
                if not seen > 0:
                    axes.annotate("", (x, least * 100), xytext=(x, max(high, least * 1.3) * 100),
                                  arrowprops={"arrowstyle": "->", "color": colour})  # fmt: skip
                    continue
                if full:
                    axes.plot([x, max(one.first.latest, least) * 100], [y, y], color=colour,
                              linewidth=3, alpha=0.3, solid_capstyle="butt", zorder=1)  # fmt: skip
                reach = [[y - max(low, least) * 100], [high * 100 - y]]
                axes.errorbar([x], [y], np.maximum(reach, 0), color=colour, marker=mark,
                              markersize=7 if full else 6, elinewidth=1.2, capsize=3,
                              markerfacecolor=colour if full else "none", linestyle="none",
                              zorder=3 if full else 2,
                              label=label if full else "_")  # fmt: skip
            axes.plot(*zip(*ends, strict=True), color=colour, linewidth=0.8, alpha=0.5, zorder=1)
            skew = theta(one.keys)
            marks.append(Mark(one.keys if skew is None else f"{skew:g}", *ends[-1]))
            marks.append(Mark("", *ends[0]))
    top = min(max(shares, default=1.0) * 2, 1.0) * 100
    axes.plot([least * 100, top], [least * 100, top], color=FAINT, linewidth=1, linestyle=DOTTED)
    for axis, scale in ((axes.xaxis, axes.set_xscale), (axes.yaxis, axes.set_yscale)):
        scale("log")
        axis.set_major_formatter(FuncFormatter(lambda value, _: number(value)))
        axis.set_minor_formatter(NullFormatter())
    axes.set_xlim(least * 100, top * 1.05)
    axes.set_ylim(least * 100, top * 1.05)
    label_marks(axes, marks)
    handles, labels = axes.get_legend_handles_labels()
    once: dict[str, Any] = dict(zip(labels, handles, strict=True))
    if once:
        for filled, label in ((FAINT, "full: first tries, model in full"),
                              ("none", "hollow: all tries, bare formula")):  # fmt: skip
            once[label] = Line2D([], [], marker="o", linestyle="none", color=FAINT,
                                 markerfacecolor=filled, label=label)  # fmt: skip
        axes.legend(list(once.values()), list(once), loc="lower left", bbox_to_anchor=(0, 1.0),
                    ncols=2, frameon=False, fontsize=9)  # fmt: skip
    told = "; ".join(
        f"{one.engine} {begin_label(one.begin)}, {as_label(one.keys)}: first tries predicted "
        f"{percent(_xy(one, True)[0])}, observed {percent(_xy(one, True)[1])}"
        for one in made
    )
    save(figure, path, heading, spoken=told)


def _xy(one: Prediction, full: bool) -> tuple[float, float]:
    """(predicted, observed) of a mark, shares."""
    side = one.first if full else one.every
    return float(side.predicted["whole" if full else "mean"]), side.observed[1]


def refusal_pages(
    accounts: Sequence[tuple[str, RefusalAccount]], path: Path, heading: Heading = NO_HEADING
) -> None:
    """Each table's and index's share of a run's refused commits, by SQLite's own account of the
    page that they met. Blue are leaf pages, where rows and keys lie: two transactions touched the
    same one, with or without a row in common. Orange are the pages above them, which every
    transaction below reads and only a split writes: a few inserts or growing rows there refuse
    transactions that have nothing to do with each other.
    """
    figure, axes = new_chart("share of refused commits (%)", "")
    bars: list[tuple[str, dict[str, float]]] = []
    for name, met in accounts:
        of = max(met.logged, 1)
        things: dict[str, dict[str, float]] = {}
        for (thing, kind), times in met.things().items():
            kinds = things.setdefault(thing, {})
            kinds[kind] = kinds.get(kind, 0.0) + 100 * times / of
        ranked = sorted(things.items(), key=lambda item: -sum(item[1].values()))
        bars += [
            (f"{visible(name)}\n{visible(thing)}", kinds) for thing, kinds in ranked[:MOST_BARS]
        ]
    figure.set_size_inches(7.2, 1.2 + 0.5 * max(len(bars), 1))
    shown: set[str] = set()
    for row, (_, kinds) in enumerate(bars):
        left = 0.0
        for kind, colour in KINDS.items():
            if kind not in kinds:
                continue
            label = "_" if kind in shown else f"{kind} pages" if kind else "pages not kept apart"
            shown.add(kind)
            axes.barh(row, kinds[kind], left=left, color=colour, height=0.62, label=label)
            left += kinds[kind]
        axes.text(left + 1, row, percent(left / 100), va="center", fontsize=8)
    axes.set_yticks(range(len(bars)), [as_label(name) for name, _ in bars], fontsize=8)
    axes.invert_yaxis()
    axes.set_xlim(0, 112)
    axes.set_xticks(range(0, 101, 20))
    axes.grid(axis="y", visible=False)
    legend_above(axes)
    told = "; ".join(
        f"{as_label(name)}: {percent(sum(kinds.values()) / 100)}" for name, kinds in bars
    )
    save(figure, path, heading, spoken=told.replace("\n", ", "))


CHARTS = (scaling_law, predicted_against_observed, refusal_pages)
