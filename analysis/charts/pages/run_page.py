"""The page of `cwkit show RUN --html`: what came of a run first, then its charts and its lanes.

Its numbers are those of the run's document (`--json`), and all of what `cwkit show` prints is at
its end. What a chart shows is in a table as well.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from analysis import wording
from analysis.charts.looks import FAINT, OF_OUTCOMES
from analysis.charts.pages.along_time import (
    BINS,
    Series,
    committed_series,
    curves,
    log_data,
    refused_series,
)
from analysis.charts.pages.frame import page
from analysis.charts.pages.slices import lanes
from analysis.counting import count
from workloads.records import Machine, Run

ROWS = 30
"""Rows of the tables along time."""

RANKS = ("p50", "p90", "p99", "p99.9", "max")


def run_page(
    run: Run,
    document: Mapping[str, Any],
    lines: Sequence[str],
    unfinished: Sequence[str] = (),
) -> str:
    """The page, as HTML.

    document : the run's, as --json has it. lines : what `cwkit show` prints of it. unfinished :
    sentences about a run that is not over. Raises RunError where the plotting library is not here.
    """
    counted = count(run)
    first, stop = run.window_ns
    committed, refused = committed_series(run, counted), refused_series(run)
    log, latencies, found = log_data(run), list(curves(counted)), lanes(run)
    edges = np.linspace(0, max(stop - first, 0) / 1e9, BINS + 1)
    data = {
        "edges": edges.tolist(),
        "counted": [(one - first) / 1e9 for one in counted.window_ns],
        "committed": [_line(one) for one in committed],
        "refused": [_line(one) for one in refused],
        "log": log,
        "latency": latencies,
        "lanes": found.data,
        "outcomes": {name: list(look) for name, look in OF_OUTCOMES.items()},
        "faint": FAINT,
    }
    broken = [one for one in document["checks"] if one["result"] == "broken"]
    return page(
        "run.html.j2",
        f"{run.name}: {document['scenario']} on {document['database']}",
        "run.js",
        data=data,
        run=run,
        document=document,
        lines=lines,
        unfinished=unfinished,
        broken=broken,
        mark=_mark(document, broken, unfinished),
        roles=[_role(one) for one in document["roles"]],
        latency_rows=_latency_rows(document["roles"]),
        about=_about(run, document),
        plan=[(name, _said(value)) for name, value in document["plan"].items()],
        over_time=_over_time(edges, committed, refused, log),
        log=log,
        any_refused=bool(refused),
        any_ended=any(sum(one["attempts"].values()) for one in document["roles"]),
        log_most=max(log["bytes"], default=0) / 2**20,
        lanes=found,
        lane_rows=_lane_rows(found.data),
        outcomes=[*OF_OUTCOMES],
        number=wording.number,
        whole=wording.whole,
    )


def _line(one: Series) -> dict[str, Any]:
    colour, mark, dash = one.look
    return {"name": one.name, "colour": colour, "mark": mark, "dash": dash, "per_s": one.per_s}


def _mark(document: Mapping[str, Any], broken: Sequence[object], unfinished: Sequence[str]) -> str:
    """Which of three the page says first; its banner has the reasons."""
    if broken or document["troubles"] or not document["ok"]:
        return "broken" if not unfinished or broken else "unknown"
    undecided = any(one["result"] != "ok" for one in document["checks"])
    return "unknown" if undecided or unfinished else "ok"


def _role(one: Mapping[str, Any]) -> dict[str, str]:
    """A row of the table of roles."""
    attempts, rate, aborts = one["attempts"], one["throughput_per_s"], one["abort_rate"]
    ranks = (one.get("latency_ns") or {}).get("whole") or {}
    role, _, mode = one["role"].partition(":")
    return {
        "role": f"of these {one['workers']}" if mode else wording.times(one["workers"], role),
        "engine": f"{one['engine']} {wording.begin_label(one['begin'])}",
        "committed": wording.whole(attempts["committed"]),
        "conflicted": wording.whole(attempts["conflicted"]),
        "failed": wording.whole(attempts["failed"]),
        "unknown": wording.whole(attempts["unknown"]),
        "per_s": _number(rate["value"]),
        "per_s_interval": _interval(rate, _number),
        "aborts": _percent(aborts["value"]),
        "aborts_interval": _interval(aborts, _percent),
        "p50": _duration((ranks.get("p50") or {}).get("value")),
        "p99": _duration((ranks.get("p99") or {}).get("value")),
        "jain": _number((one.get("fairness") or {}).get("jain")),
    }


def _number(value: Any) -> str:
    return value if isinstance(value, str) else wording.number(_float(value))


def _percent(value: Any) -> str:
    return wording.DASH if value is None else wording.percent(_float(value))


def _duration(value: Any) -> str:
    return wording.duration(_float(value))


def _float(value: Any) -> float:
    """A number of a document: null is not known there, and "infinite" is infinite."""
    return float("nan") if value is None else float("inf") if value == "infinite" else float(value)


def _interval(span: Mapping[str, Any], show: Any) -> str:
    known = span["low"] is not None and span["high"] is not None
    return f"[{show(span['low'])}, {show(span['high'])}]" if known else ""


def _latency_rows(roles: Sequence[Mapping[str, Any]]) -> list[tuple[str, ...]]:
    """Role, stage and its percentiles."""
    found = []
    for one in roles:
        for stage, ranks in (one.get("latency_ns") or {}).items():
            values = [_duration((ranks.get(rank) or {}).get("value")) for rank in RANKS]
            found.append((one["role"], stage, *values))
    return found


def _about(run: Run, document: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What ran, where and how: the few things that everybody asks for."""
    manifest, plan = run.manifest, run.manifest.plan
    machine = manifest.machine
    params = ", ".join(
        f"{name} {_said(value)}"
        for name, value in document["params"].items()
        if value not in ("", None, [], ())
    )
    engines = [
        f"{name}: " + ", ".join(filter(None, (one.binding, one.version, one.source_id[:40])))
        for name, one in manifest.engines.items()
    ]
    loop = f"open loop, {wording.number(plan.rate)} a second" if plan.rate else "closed loop"
    settings = (
        f"synchronous {plan.synchronous}, journal mode {plan.journal_mode or 'wal'}, "
        f"busy timeout {plan.busy_timeout_ms} ms, retry {plan.retry.policy}, "
        f"connection {plan.connection}"
    )
    rows = [
        ("Command", manifest.command),
        ("Started", manifest.started),
        ("Scenario", f"{document['scenario']}: {params}" if params else document["scenario"]),
        ("Engines", "; ".join(engines)),
        ("Load", f"{loop}{f', stages {plan.stages}' if plan.stages else ''}, seed {manifest.seed}"),
        ("Measured", f"{document['measured_s']:.3g} s, ended: {document['ended']}"),
        ("Settings", settings),
        ("Machine", _machine(machine)),
        ("cwkit", f"commit {machine.cwkit_commit or 'not known'}, Python {machine.python}"),
        ("Run", f"{run.name}, id {manifest.id}"),
    ]  # fmt: skip
    return [(name, str(text)) for name, text in rows if text]


def _machine(machine: Machine) -> str:
    cores = wording.times(machine.cores, "core") if machine.cores else ""
    memory = f"{machine.memory_bytes / 2**30:.1f} GiB" if machine.memory_bytes else ""
    known = (machine.cpu, cores, memory, machine.kernel, machine.file_system)
    return ", ".join(filter(None, known))


def _said(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_said(one)}" for name, one in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_said, value))
    return "" if value is None else str(value)


def _over_time(
    edges: np.ndarray,
    committed: Sequence[Series],
    refused: Sequence[Series],
    log: Mapping[str, Any],
) -> dict[str, Any]:
    """The three charts along time as one table: means of each part, the log's greatest size."""
    parts = BINS // ROWS
    rows = []
    for n in range(ROWS):
        inside = slice(n * parts, (n + 1) * parts)
        since, until = float(edges[inside.start]), float(edges[inside.stop])
        values = [np.mean(one.per_s[inside]) for one in (*committed, *refused)]
        at = np.asarray(log["s"])
        sizes = np.asarray(log["bytes"])[(at >= since) & (at < until)] if len(at) else at
        size = f"{sizes.max() / 2**20:.3g}" if len(sizes) else wording.DASH
        rows.append(
            (f"{since:.3g}–{until:.3g}", *(wording.number(float(one)) for one in values), size)
        )
    heads = [f"{one.name}, committed a second" for one in committed]
    heads += [f"{one.name}, a second" for one in refused]
    return {"heads": ["seconds", *heads, "log, MiB"], "rows": rows}


def _lane_rows(data: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Each worker's attempts by outcome."""
    return [
        (one["name"], *(wording.whole(sum(one["counts"].get(name, [0]))) for name in OF_OUTCOMES))
        for one in data["lanes"]
    ]
