"""`cwkit report --sittings N`: what the report claims, measured again hours later.

The wait between two sittings is shown, has a limit, and may be interrupted: `--into` goes on.
"""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from rich.console import Console
from rich.live import Live

from analysis import report
from analysis.cli.progress import CellCounter
from analysis.cli.terminal import one_line
from analysis.wording import times
from workloads.errors import PlanError

UNITS = {"s": 1, "m": 60, "min": 60, "h": 3600}
LONGEST_APART_S = 7 * 24 * 3600
"""Longest wait between two sittings, s."""

TOLD_EVERY_S = 600
"""So often the wait is told where there is no terminal, s."""


def seconds_apart(text: str) -> float:
    """A time such as 1h, 90m, 1.5h or 0s, in seconds. Raises PlanError.

    >>> seconds_apart("1.5h"), seconds_apart("20m"), seconds_apart("0s")
    (5400.0, 1200.0, 0.0)
    """
    found = re.fullmatch(r"([0-9]{1,6}(?:[.][0-9]{1,6})?) ?(s|m|min|h)", text.strip())
    seconds = float(found[1]) * UNITS[found[2]] if found else -1.0
    if not 0 <= seconds <= LONGEST_APART_S:
        raise PlanError(
            f"--apart {text[:40]}: give a time from 0s to {LONGEST_APART_S // 3600}h, such as 1h "
            "or 90m."
        )
    return seconds


def refuse_sittings(sittings: int, apart: str | None, dask: str | None, only_write: bool) -> float:
    """The time between sittings, s. Raises PlanError for options that mean nothing together."""
    if not 1 <= sittings <= report.MOST_SITTINGS:
        raise PlanError(f"--sittings {sittings}: from 1 to {report.MOST_SITTINGS}.")
    if sittings == 1 and apart is not None:
        raise PlanError(f"--apart {apart[:40]}: is between sittings. Give --sittings 2 or more.")
    if sittings == 1 and dask is not None:
        raise PlanError(
            "--dask: later sittings are measured on its machines. Give --sittings 2 or more."
        )
    if only_write and sittings > 1:
        raise PlanError(
            "--only-write and --sittings: the one runs nothing. The sittings that there are are "
            "told without it."
        )
    return seconds_apart("1h" if apart is None else apart)


def measure_sittings(
    folder: Path,
    sittings: int,
    apart_s: float,
    *,
    command: str,
    dask: str | None,
    foreign_limit: float,
    console: Console,
) -> int:
    """Measure the sittings that are not there yet, each after its wait; returns how many."""
    suite = report.read_suite(folder)
    for sitting in range(2, sittings + 1):
        if not report.begun_sitting(folder, sitting):
            wait(
                report.over_at(folder, sitting - 1),
                apart_s,
                f"sitting {sitting} of {sittings}",
                console,
            )
        designs = report.of_sitting(suite.quick, suite.seed or 0, sitting, suite.offered_per_s)
        counter = CellCounter(designs, console)
        with counter:
            report.measure_sitting(
                folder,
                sitting,
                command=command,
                on_cell=counter.of,
                on_progress=counter,
                notify=lambda line: console.print(line, markup=False, highlight=False),
                foreign_limit=foreign_limit,
                dask=dask,
            )
    return sittings - 1


def wait(over: datetime | None, apart_s: float, what: str, console: Console) -> None:
    """Wait until so long after the sitting before, by the clock on the wall; never longer than
    `apart_s` from now.
    """
    now = datetime.now(UTC)
    until = min((over or now) + timedelta(seconds=apart_s), now + timedelta(seconds=apart_s))
    if until <= now:
        return
    end = time.monotonic() + (until - now).total_seconds()
    live = Live(console=console, transient=True) if console.is_terminal else None
    told_at = -float("inf")
    if live:
        live.start()
    try:
        while (left := end - time.monotonic()) > 0:
            line = f"{what} begins in {_left(left)}, at {until:%H:%M} UTC (Ctrl-C keeps the rest)"
            if live:
                live.update(one_line(line))
            elif time.monotonic() - told_at >= TOLD_EVERY_S:
                told_at = time.monotonic()
                console.print(line, markup=False, highlight=False, soft_wrap=True)
            rest(min(left, 1.0))
    finally:
        if live:
            live.stop()


def rest(seconds: float) -> None:
    """A part of a wait."""
    time.sleep(seconds)


def _left(seconds: float) -> str:
    minutes = int(seconds // 60)
    return times(minutes, "minute") if minutes else times(int(seconds) + 1, "second")
