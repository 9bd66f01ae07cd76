"""Charts of the systems' page: what requests take over a network, and what a mix's parts cost."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from analysis.charts.base import Line, absent, draw_line, new_figure, save, spoken
from analysis.charts.figures import logarithmic, scaled
from analysis.charts.figures_sweeps import Panel, small_multiples
from analysis.charts.labels import NO_HEADING, Heading


def request_times(lines: Sequence[Line], path: Path, heading: Heading = NO_HEADING) -> None:
    """Follow one line to the right: a request asks for more rows, one query after the other. Where
    the line rises with the queries, each of them pays its way to the database; where it stays flat,
    they pay it together. Compare two lines at one place for what the other database's request
    takes. The time is the mean of the requests of one client, over blocks; bars are 95 % intervals,
    or the range where the blocks are too few. Both scales are logarithmic. A time behind a name is
    the round trip as it was measured through the relay; dotted lines send all queries together.
    """
    figure, grid = new_figure(wide=7.2, high=max(4.2, 0.27 * len(lines) + 1.2))
    axes = grid[0, 0]
    axes.set_xlabel("queries a request")
    axes.set_ylabel("time of a request (ms)")
    shown = [scaled(line, 1e-6) for line in lines]
    ends = [draw_line(axes, line, n, len(shown)) for n, line in enumerate(shown)]
    places = sorted({float(x) for line in shown for x in line.x})
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(FixedLocator(places))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
    logarithmic(axes, shown)
    save(figure, path, heading, missing=_some_absent(shown), spoken=spoken(shown, " ms"),
         ends=[(axes, ends)])  # fmt: skip


def _some_absent(lines: Sequence[Line]) -> list[str]:
    """What lines have no point of, of those that go one query after the other."""
    return absent([line for line in lines if not line.hollow], " queries")


def beside_each_other(panels: Sequence[Panel], path: Path, heading: Heading = NO_HEADING) -> None:
    """Read each point against 1: there, a read takes no longer beside the updates of the mix than
    where as many processes only read (left), and an update no longer beside the reads than where
    they only update (right). Times are means of whole transactions, waiting for one another and for
    the machine's cores among them. Points are estimates over blocks, bars 95 % intervals, or the
    range where the blocks are too few.
    """
    small_multiples(panels, path, heading, x="processes", y="times as long as alone")


CHARTS = (request_times, beside_each_other)
