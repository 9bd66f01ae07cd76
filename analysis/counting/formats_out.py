"""One run in the formats of other tools: a trace for Perfetto, HdrHistogram logs, OpenMetrics text.

docs/formats.md says what is in each. Text that may come from anybody is escaped as each format has
it. A time series (a row a second) is made here too, for Parquet and CSV.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from analysis.counting.tally import Count, count
from analysis.counting.timelines import wal_track
from analysis.statistics import PERCENTILES, percentiles
from workloads.errors import RunError
from workloads.files import replacing, visible
from workloads.records import COMMITTED, CONFLICT, CONFLICTS, OUTCOMES, PHASES, Run, read_run
from workloads.runs import must_be_over

MOST_TRACED = 250_000
"""Attempts in a trace, those that began first: more than that no viewer opens."""

LONGEST_NS = 1 << 62
HDR_DIGITS = 3
"""Significant digits of a latency in an HdrHistogram log."""

Args = Mapping[str, Any]


def export_run(folder: Path, format_: str, out: Path) -> int:
    """Write one run as "trace", "hdr" or "openmetrics"; returns its events, intervals or samples.

    Raises RunError for what is no run, OSError where `out` cannot be written.
    """
    if not (folder / "manifest.json").is_file():
        raise RunError(f"{folder}: --format {format_} is of one run. Name a run of this folder.")
    run = read_run(folder)
    must_be_over(folder, run.manifest)
    lines = LINES[format_](run)
    written = 0
    with replacing(out, named=True) as file:
        for line, counts in lines:
            file.write(line.encode("utf-8", "backslashreplace"))
            written += counts
    return written


Lines = Iterator[tuple[str, bool]]
"""The lines of a file, and whether each counts."""


# --- a trace ----------------------------------------------------------------------------------


def trace_lines(run: Run) -> Lines:
    """Chrome's trace events (JSON object format): a track for each worker, a slice for each attempt
    with BEGIN, work and COMMIT in it, an event for each refusal and for each checkpoint.
    """
    yield '{"displayTimeUnit": "ns", "traceEvents": [', False
    events = trace_events(run)
    yield json.dumps(next(events)), True
    for event in events:
        yield ",\n" + json.dumps(event), True
    about = json.dumps({"run": run.name, "attempts at most": MOST_TRACED})
    yield f'],\n"otherData": {about}}}\n', False


def trace_events(run: Run) -> Iterator[dict[str, Any]]:
    """The events, times in microseconds from the start of the measured window."""
    first, stop = run.window_ns
    yield _named("process_name", 0, f"{run.name}: {run.manifest.plan.scenario}")
    latest = _traced_until(run)
    for worker in run.workers:
        track = worker.worker + 1
        yield _named("thread_name", track, f"{worker.role} {worker.number} {worker.engine}")
        for rows in worker.rows.pieces():
            rows = rows[(rows["end_ns"] >= first) & (rows["start_ns"] <= min(stop, latest))]
            for row in rows[rows["start_ns"] > 0]:
                yield from _of_attempt(row, track, first)
    log = wal_track(run)
    for at, size, many in zip(log.seconds, log.bytes, log.checkpoints, strict=True):
        us = float(at) * 1e6
        yield {"name": "WAL", "ph": "C", "ts": us, "pid": 1, "args": {"bytes": int(size)}}
        if many:
            seen = {"seen": int(many)}
            yield {"name": "checkpoint", "ph": "i", "s": "p", "ts": us, "pid": 1, "tid": 0,
                   "args": seen}  # fmt: skip


def _named(what: str, track: int, name: str) -> dict[str, Any]:
    return {"name": what, "ph": "M", "pid": 1, "tid": track, "args": {"name": name}}


def _traced_until(run: Run) -> int:
    """The start of the last attempt that is in the trace."""
    first, stop = run.window_ns
    starts = [rows["start_ns"] for w in run.workers for rows in w.rows.pieces()]
    all_of = np.concatenate([np.zeros(0, np.int64), *starts])
    inside = all_of[(all_of >= first) & (all_of <= stop)]
    if inside.size <= MOST_TRACED:
        return LONGEST_NS
    return int(np.partition(inside, MOST_TRACED)[MOST_TRACED])


def _of_attempt(row: np.void, track: int, first: int) -> Iterator[dict[str, Any]]:
    """The slices of one attempt, each inside the one before; and its refusal."""
    start, begun, worked, end = (
        int(row[name]) for name in ("start_ns", "begun_ns", "worked_ns", "end_ns")
    )
    outcome = OUTCOMES[int(row["outcome"])]
    args: Args = {"txn": int(row["txn"]), "attempt": int(row["attempt"]), "outcome": outcome}

    def cut(name: str, since: int, until: int, about: Args) -> dict[str, Any]:
        at, lasted = (since - first) / 1e3, max(until - since, 0) / 1e3
        return {"name": name, "cat": "attempt", "ph": "X", "ts": at, "dur": lasted, "pid": 1,
                "tid": track, "args": about}  # fmt: skip

    yield cut(outcome, start, end, args)
    yield cut("begin", start, begun or end, {})
    if begun:
        yield cut("work", begun, worked or end, {})
    if worked:
        yield cut("commit", worked, end, {})
    if int(row["outcome"]) == CONFLICT:
        kind = CONFLICTS[min(int(row["conflict"]), len(CONFLICTS) - 1)]
        phase = PHASES[min(int(row["phase"]), len(PHASES) - 1)]
        yield {"name": f"refused: {kind}", "cat": "refusal", "ph": "i", "s": "t", "pid": 1,
               "ts": (end - first) / 1e3, "tid": track, "args": {"phase": phase}}  # fmt: skip


# --- HdrHistogram logs ------------------------------------------------------------------------


def hdr_lines(run: Run) -> Lines:
    """An HdrHistogram log (version 1.2): an interval a second and role, latencies of committed
    transactions in ns, tagged with the role. The greatest value of a line is in ms.
    """
    try:
        from hdrh.histogram import HdrHistogram
    except ImportError:
        raise RunError(
            "--format hdr: the package hdrhistogram is not here. Run: make setup"
        ) from None
    counted = count(run)
    yield "#[Histogram log format version 1.2]\n", False
    yield f"#[Latencies of {visible(run.name)}, ns, from the start of what is counted]\n", False
    heads = ("StartTimestamp", "Interval_Length", "Interval_Max", "Interval_Compressed_Histogram")
    yield ",".join(f'"{head}"' for head in heads) + "\n", False
    for role, second, length, whole in _seconds(counted):
        made = HdrHistogram(1, 100_000 * 10**9, HDR_DIGITS)
        for value, times in zip(*np.unique(whole, return_counts=True), strict=True):
            made.record_value(max(int(value), 1), int(times))
        most, code = made.get_max_value() / 1e6, made.encode().decode()
        yield f"Tag={role},{second:.3f},{length:.3f},{most:.3f},{code}\n", True


def _seconds(counted: Count) -> Iterator[tuple[str, int, float, np.ndarray]]:
    """(role, second, its length, latencies of what committed in it) of writers and readers."""
    first, stop = counted.window_ns
    for role, tally in counted.roles.items():
        if role == "checkpointer":
            continue
        ends, whole = tally.ends_ns - first, tally.latency_ns["whole"]
        for second in range(max(-(-(stop - first) // 10**9), 0)):
            inside = (ends >= second * 10**9) & (ends < (second + 1) * 10**9)
            length = min((stop - first) / 1e9 - second, 1.0)
            yield role, second, length, whole[inside]


# --- OpenMetrics ------------------------------------------------------------------------------


def metric_lines(run: Run) -> Lines:
    """OpenMetrics text 1.0, as Prometheus takes it: what `cwkit show` says, as samples."""
    counted = count(run)
    same = {"run": run.name, "scenario": run.manifest.plan.scenario}
    for name, (kind, text, unit) in FAMILIES.items():
        yield f"# TYPE {name} {kind}\n", False
        if unit:
            yield f"# UNIT {name} {unit}\n", False
        yield f"# HELP {name} {text}\n", False
        for suffix, labels, value in _samples(name, counted, run):
            inner = ",".join(f'{key}="{_label(text)}"' for key, text in {**same, **labels}.items())
            yield f"{name}{suffix}{{{inner}}} {_number(value)}\n", True
    yield "# EOF\n", False


FAMILIES = {
    "cwkit_attempts": ("counter", "Attempts that ended in the counted window, by outcome.", ""),
    "cwkit_throughput": ("gauge", "Committed transactions a second.", ""),
    "cwkit_abort_ratio": ("gauge", "Share of finished attempts that were refused.", "ratio"),
    "cwkit_fairness": ("gauge", "Jain's index of the workers' commits.", ""),
    "cwkit_transaction_seconds": ("summary", "Whole transactions, from intended start.", "seconds"),
    "cwkit_check_ok": ("gauge", "1 where a check of the database held.", ""),
    "cwkit_foreign_cpu_ratio": ("gauge", "CPU time of others in the window.", "ratio"),
}
"""Name -> its kind, its help, and its unit, with which the name then ends."""


def _samples(name: str, counted: Count, run: Run) -> Iterator[tuple[str, dict[str, str], float]]:
    if name == "cwkit_check_ok":
        for finding in run.manifest.findings:
            yield "", {"check": finding.check}, float(finding.ok)
    if name == "cwkit_foreign_cpu_ratio":
        yield "", {}, run.manifest.foreign.cpu_share
    for role, tally in counted.roles.items():
        if name == "cwkit_attempts":
            for number, outcome in enumerate(OUTCOMES):
                if many := int(tally.outcomes[number]) if number < len(tally.outcomes) else 0:
                    yield "_total", {"role": role, "outcome": outcome}, many
        elif name == "cwkit_throughput":
            yield "", {"role": role}, tally.per_s
        elif name == "cwkit_abort_ratio":
            yield "", {"role": role}, tally.abort_rate[1]
        elif name == "cwkit_fairness" and role != "checkpointer":
            yield "", {"role": role}, tally.fairness
        elif name == "cwkit_transaction_seconds" and role != "checkpointer":
            ranks = zip(("0.5", "0.9", "0.99", "0.999"), tally.whole(), strict=False)
            for quantile, value in ranks:
                yield "", {"role": role, "quantile": quantile}, float(value[0]) / 1e9
            yield "_count", {"role": role}, tally.committed
            yield "_sum", {"role": role}, float(tally.latency_ns["whole"].sum()) / 1e9


def _label(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _number(value: float) -> str:
    if np.isnan(value):
        return "NaN"
    return ("+Inf" if value > 0 else "-Inf") if np.isinf(value) else f"{value:.17g}"


# --- a row a second ---------------------------------------------------------------------------


def series(folder: Path) -> dict[str, list[Any]]:
    """Column -> its values: a row for each role and second of the counted window."""
    run = read_run(folder)
    must_be_over(folder, run.manifest)
    counted, track = count(run), wal_track(run)
    since = (counted.window_ns[0] - run.window_ns[0]) / 1e9
    columns = ("run", "role", "second", "length_s", "committed", "conflicts", "failed", "unknown",
               "p50_ns", "p99_ns", "max_ns", "wal_bytes")  # fmt: skip
    found: dict[str, list[Any]] = {name: [] for name in columns}
    ended = {role: _ended(run, role, counted.window_ns) for role in counted.roles}
    for role, second, length, whole in _seconds(counted):
        ranks = dict(zip(PERCENTILES, percentiles(whole).tolist(), strict=True))
        at = track.seconds - since
        looks = track.bytes[(at >= second) & (at < second + 1)]
        outcomes = ended[role][min(second, len(ended[role]) - 1)]
        values = (run.name, role, second, length, len(whole), *outcomes.tolist(),
                  *(_known(ranks[name]) for name in ("p50", "p99", "max")),
                  int(looks[-1]) if len(looks) else None)  # fmt: skip
        for name, value in zip(columns, values, strict=True):
            found[name].append(value)
    return found


def _known(value: float) -> float | None:
    return None if np.isnan(value) else value


def _ended(run: Run, role: str, window_ns: tuple[int, int]) -> np.ndarray:
    """Attempts that did not commit, by second: int array, shape (seconds, 3): refused, failed,
    unknown. An attempt that was never over counts in its last moment known, and so in no second.
    """
    first, stop = window_ns
    seconds = max(-(-(stop - first) // 10**9), 1)
    made = np.zeros((seconds, 3), np.int64)
    for worker in run.role(role):
        for rows in worker.rows.pieces():
            rows = rows[(rows["end_ns"] >= first) & (rows["end_ns"] < stop)]
            rows = rows[rows["outcome"] != COMMITTED]
            at = (rows["end_ns"] - first) // 10**9
            for place, outcome in enumerate(("conflict", "failed", "unknown")):
                mine = at[rows["outcome"] == OUTCOMES.index(outcome)]
                made[:, place] += np.bincount(mine, minlength=seconds)[:seconds]
    return made


LINES = {"trace": trace_lines, "hdr": hdr_lines, "openmetrics": metric_lines}
"""The formats of one run, each with its lines."""
