"""The chart of a search: latency against the rate of an open loop."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.ticker import FuncFormatter, NullFormatter

from analysis.charts.base import DOTTED, legend_above, new_chart, save
from analysis.charts.labels import NO_HEADING, Heading, as_label, not_shown
from analysis.charts.looks import FAINT, SPARE, STYLES
from analysis.wording import duration, number

LOOKS = (STYLES["libsql", "immediate"], STYLES["sqlite-concurrent", "concurrent"], *SPARE)


class Curve(NamedTuple):
    """One percentile at every rate that was tried, ns. low, high : nan without an interval.

    limit_ns : what the objective allows it, nan where it is not part of the objective.
    """

    label: str
    rates: Sequence[float]
    value_ns: Sequence[float]
    low_ns: Sequence[float]
    high_ns: Sequence[float]
    limit_ns: float
    met: Sequence[bool]


def latency_against_rate(
    curves: Sequence[Curve], answer: float | None, path: Path, heading: Heading = NO_HEADING
) -> None:
    """How long a transaction took, from the moment it was due to the end of its COMMIT, against
    the rate at which transactions were due (an open loop, Poisson arrivals); the scale of time is
    logarithmic. Full marks: the rate met the whole objective; hollow ones: it did not. Bars are 95
    % intervals within the runs of a rate (block bootstrap). A mark at the upper edge says that
    these transactions were never served. Dashed is the limit of the objective, dotted the highest
    rate that met it. Look for the knee: from there on a little more load costs a lot of waiting.
    """
    figure, axes = new_chart("transactions due / s", "duration (ms)")
    missing = []
    for n, curve in enumerate(curves):
        colour, mark = LOOKS[n % len(LOOKS)]
        x, y = np.asarray(curve.rates, float), np.asarray(curve.value_ns, float) / 1e6
        shown = np.isfinite(y)
        never = np.isinf(y)
        axes.plot(x[never], np.ones(int(never.sum())), "^", color=colour, markersize=8,
                  markerfacecolor="none", clip_on=False,
                  transform=axes.get_xaxis_transform())  # fmt: skip
        rates = (f"{rate:,.0f} / s" for rate in x)
        missing += not_shown(curve.label, zip(rates, y.tolist(), strict=True))
        axes.plot(x[shown], y[shown], color=colour, linewidth=1.6, label=curve.label)
        for met in (True, False):
            some = shown & (np.asarray(curve.met) == met)
            axes.plot(x[some], y[some], mark, color=colour, markersize=6, linestyle="none",
                      markerfacecolor=colour if met else "none")  # fmt: skip
        low, high = (np.asarray(part, float) / 1e6 for part in (curve.low_ns, curve.high_ns))
        known = shown & np.isfinite(low) & np.isfinite(high)
        x, y, low, high = (part[known] for part in (x, y, low, high))
        reach = np.maximum(np.stack([y - low, high - y]), 0)
        axes.errorbar(x, y, reach, fmt="none", ecolor=colour, elinewidth=1.2,
                      capsize=3)  # fmt: skip
        if np.isfinite(curve.limit_ns):
            axes.axhline(curve.limit_ns / 1e6, color=colour, linewidth=1, linestyle=DOTTED)
    if answer is not None:
        axes.axvline(answer, color=FAINT, linewidth=1.2, linestyle=(0, (1, 2)))
    if any(np.isinf(curve.value_ns).any() for curve in curves):
        axes.annotate("never", (1, 1), xycoords="axes fraction", xytext=(6, 0),
                      textcoords="offset points", va="center", fontsize=8.5)  # fmt: skip
    axes.set_yscale("log")
    axes.set_xlim(left=0)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:,.0f}"))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: number(y)))
    axes.yaxis.set_minor_formatter(NullFormatter())
    legend_above(axes)
    told = "; ".join(
        f"{as_label(c.label)} at {rate:,.0f} / s: {duration(ns)}"
        for c in curves
        for rate, ns in zip(c.rates, c.value_ns, strict=True)
    )
    save(figure, path, heading, missing=missing, spoken=told)
