"""The report's charts: which there are, what stands below each, and why one is not drawn.

`chart_data` says which runs each of them shows, `chart_titles` what may be said of them.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from analysis.charts import (
    NO_HEADING,
    Heading,
    Line,
    abort_rate_against_skew,
    checkpoint_timeline,
    crossover,
    latency,
    latency_at_load,
    nothing_to_draw,
    shares,
    throughput_against_writers,
    throughput_by_case,
)
from analysis.charts import caption as figures_caption
from analysis.report import chart_data as data
from analysis.report import chart_titles as titles
from analysis.report.evidence import Evidence
from analysis.report.markdown import ours
from workloads.files import resolved


class Chart(NamedTuple):
    """A chart in the report. src is empty where there was nothing to draw, and `why` says why.

    title : what it is about. seen : what is seen in it, as it says itself.
    """

    title: str
    src: str
    caption: str
    why: str = ""
    seen: str = ""


class Plan(NamedTuple):
    """A chart to draw. name : of its file. why : why there may be nothing to draw, in words.

    heading : its words inside the picture; without a title of its own it has `title`.
    """

    title: str
    name: str
    draw: Callable[..., None]
    data: Sequence[Any]
    why: str
    heading: Heading = NO_HEADING


def charts(evidence: Evidence, out: Path, folder: Path) -> list[Chart]:
    """Draw all of them into `folder`, for the report `out`."""
    effects, tracks = data.effects(evidence), data.tracks(evidence)
    plans = [
        Plan("Where it loses and where it pays", "crossover", crossover, effects.drawn,
             "no sound runs of two modes of one library with the same work",
             titles.effects(effects)),
        Plan("Throughput against writers", "throughput-writers", throughput_against_writers,
             data.by_writers(evidence),
             "no sound runs of one system with several numbers of writers",
             titles.growth(evidence)),
        Plan("Latency at the same offered load", "latency-load", latency_at_load,
             data.offered(evidence), "no sound runs in which two modes were offered the same load",
             titles.offered(evidence)),
        Plan("Latency in a closed loop", "latency", latency, data.latencies(evidence),
             "no sound runs of the headline's arms", titles.latencies(evidence)),
        Plan("Each writer's share, and the longest wait", "shares", shares, data.served(evidence),
             "no sound runs whose windows are long enough to see who waits",
             titles.served(evidence)),
        Plan("Refused attempts against skew", "abort-rate-skew", abort_rate_against_skew,
             data.by_skew(evidence), "no sound runs with keys of several skews",
             titles.skew(evidence)),
        Plan("Where the data are", "cache", throughput_by_case, data.by_cache(evidence),
             "no sound runs with data in memory and elsewhere", titles.cache(evidence)),
        Plan("The write-ahead log along the runs", "checkpoints", checkpoint_timeline, tracks.drawn,
             "no sound run of 0.9 s or more recorded its log", titles.tracks(tracks)),
    ]  # fmt: skip
    made = []
    for plan in plans:
        empty = not plan.data or (isinstance(plan.data[0], Line) and nothing_to_draw(plan.data))
        made.append(
            drawn(plan.title, folder / f"{plan.name}.svg", out, plan.draw,
                  [] if empty else plan.data, plan.why, heading=plan.heading)
        )  # fmt: skip
    return made


def drawn(
    title: str,
    path: Path,
    out: Path,
    draw: Callable[..., None],
    data: Sequence[Any],
    why: str,
    *,
    heading: Heading = NO_HEADING,
    **how: Any,
) -> Chart:
    """Draw a chart into `path` for the report `out`, or say why there is none.

    why : why `data` may be empty, in words. how : more arguments for `draw`.
    """
    if not data:
        path.unlink(missing_ok=True)  # an older report's chart would show other runs
        return Chart(title, "", "", f"Not drawn: {why}.")
    heading = heading._replace(title=heading.title or title)
    draw(data, path, heading=heading, **how)
    return Chart(title, address_of(path, out), ours(figures_caption(draw)), seen=heading.title)


def address_of(path: Path, out: Path) -> str:
    """A file's path as the report `out` links to it: seen from the report's folder."""
    return os.path.relpath(resolved(path), resolved(out).parent).replace(os.sep, "/")
