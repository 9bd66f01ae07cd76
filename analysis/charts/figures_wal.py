"""The chart of runs along their own clock: commits, the write-ahead log, and its checkpoints."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.ticker import FuncFormatter

from analysis.charts.base import new_figure, save
from analysis.charts.labels import NO_HEADING, Heading, as_label
from analysis.charts.looks import FAINT, look_of
from analysis.wording import number, times

TITLE_IN, HALF_IN, GAP_IN, GROUP_IN = 0.25, 0.85, 0.12, 2.45
"""Heights: of a run's title, of each of its halves, between them, and of all with its ticks."""


class Track(NamedTuple):
    """One run along its own clock, in seconds.

    checkpoints_s : shape (checkpoints, 2): start and end of those of a checkpointer. wal_s,
    wal_bytes : the log's size at each look. seen_s : looks at which a checkpoint was seen to have
    ended, whoever made it; many : how many were.
    """

    label: str
    look: tuple[str, str]
    edges_s: np.ndarray
    per_s: np.ndarray
    checkpoints_s: np.ndarray
    wal_s: np.ndarray
    wal_bytes: np.ndarray
    seen_s: np.ndarray
    many: int = 0


def checkpoint_timeline(tracks: Sequence[Track], path: Path, heading: Heading = NO_HEADING) -> None:
    """Look at whether throughput dips where the log is copied back. For each run the upper half has
    committed write transactions a second, the lower half the size of the write-ahead log's file.
    Strokes under the log are checkpoints, those that a commit makes on its own among them, at the
    look that first saw them done; thick ones under the throughput last as long as a checkpointer's
    took. The file keeps its size where the log begins again: it is only written over.
    """
    most = max(len(tracks), 1)
    figure, grid = new_figure(2 * most, high=GROUP_IN * most)
    missing = []
    for n, track in enumerate(tracks):
        upper, lower = grid[2 * n, 0], grid[2 * n + 1, 0]
        # Both halves of a run belong together, so that the room between them is not that between
        # two runs.
        top_in = GROUP_IN * (most - n) - TITLE_IN
        for axes, down in ((upper, 1), (lower, 2)):
            low_in = top_in - down * HALF_IN - (down - 1) * GAP_IN
            axes.set_position((0.1, low_in / (GROUP_IN * most), 0.86, HALF_IN / (GROUP_IN * most)))
        colour, _ = look_of(track.look, n)
        upper.stairs(track.per_s, track.edges_s, color=colour, fill=True, alpha=0.25)
        upper.stairs(track.per_s, track.edges_s, color=colour, linewidth=1.4)
        top = max(filter(math.isfinite, track.per_s), default=0.0) or 1.0
        upper.set_ylim(-0.12 * top, 1.08 * top)
        if len(track.checkpoints_s):
            starts, ends = track.checkpoints_s[:, 0], track.checkpoints_s[:, 1]
            upper.hlines([-0.06 * top] * len(starts), starts, ends, color=FAINT, linewidth=5)
        upper.set_title(track.label, loc="left", fontsize=9.5)
        upper.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{max(y, 0):,.0f}"))
        upper.set_ylabel("tx / s")
        upper.tick_params(labelbottom=False)
        size = track.wal_bytes / 2**20
        high = float(size.max()) if len(size) else 1.0
        lower.step(track.wal_s, size, where="post", color=colour, linewidth=1.4)
        lower.plot(track.seen_s, [-0.1 * (high or 1.0)] * len(track.seen_s), "|", color=FAINT,
                   markersize=7)  # fmt: skip
        lower.set_ylim(-0.2 * (high or 1.0), 1.1 * (high or 1.0))
        lower.yaxis.set_major_formatter(FuncFormatter(lambda y, _: number(y) if y >= 0 else ""))
        lower.set_ylabel("log (MiB)")
        for axes in (upper, lower):
            axes.set_xlim(float(track.edges_s[0]), float(track.edges_s[-1]))
        if not len(size):
            missing.append(f"the log of {as_label(track.label)} (not recorded)")
    grid[-1, 0].set_xlabel("time in the measured window (s)")
    told = "; ".join(
        f"{as_label(t.label)}: {times(t.many, 'checkpoint')} seen, log at most "
        f"{number(float(t.wal_bytes.max()) / 2**20) if len(t.wal_bytes) else '—'} MiB"
        for t in tracks
    )
    save(figure, path, heading, missing=missing, spoken=told)


CHARTS = (checkpoint_timeline,)
