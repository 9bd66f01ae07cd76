"""An experiment's cells as one table, and a table as a CSV file."""

from __future__ import annotations

import csv
import io
import math
from pathlib import Path
from typing import Any

import numpy as np

from analysis.counting.cells import CountedCell
from analysis.counting.measured import Measured
from analysis.counting.opens import all_openings
from analysis.counting.slumps import slumps
from analysis.counting.spreadsheet import cell_text
from analysis.wording import Table
from workloads.errors import RunError
from workloads.files import replace as replace_file
from workloads.records import CONFLICTS, Run, parts_of_mix

NOT_RUN = "not run"


TIMES = ("committed", "wasted", "waiting", "outside", "open")
"""Parts of the workers' time, as of `Tally`: the first four add up to it, `open` is in `wasted`."""


OF_A_MODE = ("committed_per_s", "abort_rate", "p99_us")
"""Numbers of the writers of one mode, where an arm's writers begin in several."""


OF_OPENING = ("open_p50_us", "open_p99_us", "ready_us", "start_refused")
"""Numbers of connections, in sweeps whose workers do not keep theirs or start cold."""


def cells_table(measured: Measured, states: dict[tuple[int, str], str] | None = None) -> Table:
    """Every cell: what it was, and its numbers as plain decimals ("" where there is none).

    states : the state of each cell that was run; where it has none, the cell is "not run".
    p50_us and p99_us are of the writers' whole transactions (the readers' where nobody writes), µs;
    "inf" where they lie among those that were due and never served. due_per_s and served : of an
    open loop, transactions due a second, and the share of them served in the window. time_… : parts
    of the workers' time (TIMES), as shares of it. refused_… : attempts by kind of conflict.
    pressure_… : of the window, how much of it somebody on the machine waited for that. odd : that
    the run stood still, or slumped. committed_per_s_MODE and so on : of the writers of one mode,
    where an arm's writers begin in several. open_… : of all openings or borrowings of connections,
    where they are not kept; ready_us : of a cold start, when the last worker that came so far was
    ready; start_refused : what its workers were refused until then.
    """
    role = measured.role
    axes = tuple(measured.axes)
    head = (
        "block", "arm", *axes, "state", "committed_per_s", "read_per_s", "abort_rate",
        "abort_rate_low", "abort_rate_high", "first_abort_rate", "p50_us", "p99_us",
        "due_per_s", "served",
        *(f"time_{part}" for part in TIMES), *(f"refused_{kind}" for kind in CONFLICTS[1:]),
        "wal_bytes_max", "wal_restarts", "pressure_cpu", "pressure_io", "odd", "contaminated",
        "jobs", "oversubscribed", "machine", "run", "words",
    )  # fmt: skip
    modes = modes_in(measured)
    head += tuple(f"{name}_{mode}" for mode in modes for name in OF_A_MODE)
    opened = opens_connections(measured)
    head += OF_OPENING if opened else ()
    rows, slumped = [], slumps(measured)
    for (block, arm), cell in sorted(measured.cells.items()):
        state = cell.state if states is None else states.get((block, arm), NOT_RUN)
        point = measured.points.get(arm, {})
        rows.append(
            (
                str(block),
                arm,
                *(_shown(point.get(axis, "")) for axis in axes),
                state,
                *_numbers(cell, role),
                *_made(cell, slumped.get((block, arm), "")),
                cell.folder.name if cell.folder else cell.run,
                cell.failure if state != NOT_RUN else "",
                *(text for mode in modes for text in _of_mode(cell, f"{role}:{mode}")),
                *(map(_decimal, opening_of(cell, role)) if opened else ()),
            )
        )
    return Table(head, rows)


def opens_connections(measured: Measured) -> bool:
    """Whether workers of an arm do not keep their connection, or start cold."""
    plans = (arm.plan for arm in measured.arms.values())
    return any(plan["connection"] != "kept" or plan["cold_start"] for plan in plans)


def opening_of(cell: CountedCell, role: str) -> tuple[float, ...]:
    """The numbers OF_OPENING of a cell; nan where it has none, or its rows are gone."""
    unknown = math.nan
    if cell.counted is None or cell.manifest is None:
        return (unknown,) * len(OF_OPENING)
    took = np.zeros(0)
    if cell.folder is not None:
        try:
            run = Run(cell.folder, cell.manifest, ())
            took = all_openings(run, role, cell.counted.window_ns) / 1e3
        except RunError:
            pass
    p50, p99 = np.quantile(took, [0.5, 0.99]) if len(took) else (unknown, unknown)
    starts = [entry.start for entry in cell.manifest.workers if entry.start is not None]
    ready = [start.ready_ns / 1e3 for start in starts if start.ready_ns is not None]
    refused = sum(one.times for start in starts for one in start.refused)
    cold = cell.manifest.plan.cold_start
    return p50, p99, max(ready, default=unknown), float(refused) if cold else unknown


def modes_in(measured: Measured) -> tuple[str, ...]:
    """The modes of the arms whose writers have several, which are counted apart."""
    begun = (str(arm.plan["begin"]) for arm in measured.arms.values())
    return tuple(dict.fromkeys(mode for text in begun for _, mode in parts_of_mix(text)))


def _of_mode(cell: CountedCell, mode: str) -> list[str]:
    """The numbers OF_A_MODE of the writers of one mode; "" where the cell has none."""
    roles = cell.counted.roles if cell.counted else {}
    if mode not in roles:
        return [""] * len(OF_A_MODE)
    tally = roles[mode]
    p99 = float(tally.whole()[2, 0]) / 1000
    return [_decimal(x) for x in (tally.per_s, tally.abort_rate[1], p99)]


def _made(cell: CountedCell, slumped: str) -> tuple[str, ...]:
    """How large the log grew, what was waited for, what is odd, who disturbed, and how it was made;
    "" where it is not said.
    """
    manifest = cell.manifest
    conduct = manifest.conduct if manifest and manifest.has("conduct") else None
    return (
        str(manifest.wal_bytes_max) if manifest and manifest.has("wal_bytes_max") else "",
        *_waited(cell),
        slumped,
        cell.contaminated,
        _shown(conduct.jobs) if conduct else "",
        _shown(conduct.oversubscribed) if conduct else "",
        manifest.machine.id if manifest else "",
    )


def _numbers(cell: CountedCell, role: str) -> list[str]:
    """committed/s, reads/s, the abort rate with its interval and of first tries, p50 and p99 in µs,
    who was due, where the time went, and how many attempts were refused, by kind.
    """
    roles = cell.counted.roles if cell.counted else {}
    found = [_decimal(roles[role].per_s) if role in roles else ""]
    found.append(_decimal(roles["reader"].per_s) if "reader" in roles else "")
    if role not in roles:
        return found + [""] * (8 + len(TIMES) + len(CONFLICTS) - 1)
    tally = roles[role]
    low, rate, high = tally.abort_rate
    p50, _, p99, *_ = (float(x) / 1000 for x in tally.whole()[:, 0])
    asked = [np.nan, np.nan]
    if tally.due is not None and tally.seconds:
        asked = [tally.due.many / tally.seconds, tally.due.share]
    all_ns = tally.worker_ns or np.nan
    times = [getattr(tally, f"{part}_ns") / all_ns for part in TIMES]
    found += [
        _decimal(x) for x in (rate, low, high, tally.first_refused(), p50, p99, *asked, *times)
    ]
    return found + [str(n) for n in tally.conflicts.sum(axis=1)[1:]]


def _waited(cell: CountedCell) -> list[str]:
    """How often the log began again, and the shares of the time that somebody waited for a CPU and
    for the disk.
    """
    log = cell.counted.wal if cell.counted else None
    restarts = "" if log is None or log.restarts is None else str(log.restarts)
    pressure = (cell.manifest.pressure if cell.manifest else None) or {}
    shares = [pressure.get(name, {}).get("some", np.nan) for name in ("cpu", "io")]
    return [restarts, *map(_decimal, shares)]


def _decimal(value: float) -> str:
    return "" if np.isnan(value) else f"{value:.6g}"


def _shown(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def write_csv(table: Table, path: Path) -> None:
    """Write a table as CSV (RFC 4180), replaced in one step. Raises OSError.

    No cell is a formula to a spreadsheet that opens the file, and a row is a line: see
    `analysis.counting.spreadsheet`.
    """
    out = io.StringIO(newline="")
    writer = csv.writer(out)
    writer.writerow(map(cell_text, table.head))
    writer.writerows([cell_text(cell) for cell in row] for row in table.rows)
    replace_file(path, out.getvalue())
