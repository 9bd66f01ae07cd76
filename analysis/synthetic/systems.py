"""The sweeps `hops` and `systems` with planted times, small: what their page and claims tell."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from analysis.synthetic.runs import attempts, made_experiment, made_run, made_worker
from workloads.records import Run

KINDS = {
    "request": ["update", "request"],
    "register": ["read", "update", "insert", "scan", "read-modify-write", "mixed"],
}
REQUEST, READ, UPDATE, MODIFY = 1, 0, 1, 4
REQUESTS = 12
RTT_MS = 2.2

WAYS: Mapping[str, tuple[str, str, str]] = {
    "libsql": ("libsql", "", "one-by-one"),
    "postgres, socket": ("postgres", "", "one-by-one"),
    "postgres, 2 ms": ("postgres", "rtt=2ms", "one-by-one"),
    "postgres, 2 ms, one statement": ("postgres", "rtt=2ms", "one-statement"),
}
"""System -> engine, network, how. A query in the process takes 6 us by `request_us`, and so on."""


def request_us(system: str, queries: int) -> float:
    """The time of a request: 6 us a query in the process, 18 at a socket, a round trip of 2.2 ms
    each, or one for all of them.
    """
    return {
        "libsql": 6.0 * queries,
        "postgres, socket": 18.0 * queries,
        "postgres, 2 ms": 2300.0 * queries,
        "postgres, 2 ms, one statement": 2300.0 + queries,
    }[system]


def made_hops(folder: Path, *, blocks: int = 6, times: Any = request_us) -> Path:
    """The sweep `hops` with 1 and 10 queries. times : (system, queries) -> us."""
    arms: dict[str, dict[str, Any]] = {}
    points: dict[str, dict[str, Any]] = {}
    for system, (engine, network, how) in WAYS.items():
        for queries in (1, 10):
            arm = f"{system}, queries {queries}"
            arms[arm] = {
                "scenario": "request", "database": engine, "network": network, "writers": 0,
                "read_engine": engine, "readers": 1, "read_begin": "autocommit",
                "params": {"queries": queries, "how": how, "rows": 10_000},
            }  # fmt: skip
            points[arm] = {"system": system, "queries": queries}

    def make(arm: str, block: int) -> Run:
        system, queries = points[arm]["system"], int(points[arm]["queries"])
        took = times(system, queries) * (1 + 0.01 * block)
        rows = [
            {"start": round(took * n), "worked": round(took * (n + 1)), "kind": REQUEST}
            for n in range(REQUESTS)
        ]
        seconds = (took * REQUESTS + 1) / 1e6
        return _run(arms[arm], [rows], seconds, role="reader")

    return _as_sweep(folder, "hops", arms, points, make, blocks)


SYSTEMS: Mapping[str, tuple[str, str, str]] = {
    "libsql autocommit": ("libsql", "libsql", "autocommit"),
    "postgres autocommit, socket": ("postgres", "postgres", "autocommit"),
}
AT_WORK: Mapping[str, tuple[str, str, str]] = {
    "libsql IMMEDIATE, work": ("libsql", "libsql", "immediate"),
    "branch IMMEDIATE, work": ("libsql", "sqlite-concurrent", "immediate"),
    "branch CONCURRENT, work": ("libsql", "sqlite-concurrent", "concurrent"),
    "postgres READ COMMITTED, work": ("postgres", "postgres", "read-committed"),
    "postgres SERIALIZABLE, work": ("postgres", "postgres", "serializable"),
}
LOST = "postgres READ COMMITTED, work"
"""Its check does not hold."""


def transaction_us(system: str, kind: int, mix: str) -> float:
    """Alone a read takes 10 us and an update 40 in the process, four times as much at PostgreSQL;
    beside each other a read takes 1.5 times as long and an update twice. With work inside a commit
    takes 300 us under BEGIN IMMEDIATE, 200 under BEGIN CONCURRENT and 150 at PostgreSQL.
    """
    if kind == MODIFY:
        return 200.0 if "CONCURRENT" in system else 150.0 if "postgres" in system else 300.0
    alone = (10.0, 40.0)[kind] * (4 if "postgres" in system else 1)
    return alone * ((1.5, 2.0)[kind] if mix == "B" else 1.0)


def made_systems(folder: Path, *, blocks: int = 6, times: Any = transaction_us) -> Path:
    """The sweep `systems` with four processes. times : (system, kind, mix) -> us."""
    arms: dict[str, dict[str, Any]] = {}
    points: dict[str, dict[str, Any]] = {}
    work = "read-modify-write=100"
    for some, mixes in ((SYSTEMS, ("B", "C", "update=100")), (AT_WORK, (work,))):
        for system, (database, engine, begin) in some.items():
            for mix in mixes:
                arm = f"{system}, writers 4, mix {mix}"
                think_us = 200 if mix == work else 0
                arms[arm] = {
                    "scenario": "register", "database": database, "write_engine": engine,
                    "begin": begin, "writers": 4,
                    "params": {"mix": mix, "think_us": think_us, "rows": 10_000, "keys": "uniform"},
                }  # fmt: skip
                points[arm] = {"system": system, "writers": 4, "mix": mix}

    def make(arm: str, block: int) -> Run:
        system, mix = points[arm]["system"], str(points[arm]["mix"])
        kinds = {"B": [READ] * 19 + [UPDATE], "C": [READ] * 20, "update=100": [UPDATE] * 20}.get(
            mix, [MODIFY] * 20
        )
        took = [times(system, kind, mix) * (1 + 0.01 * block) for kind in kinds]
        ends = np.cumsum(took)
        rows = [
            {"start": round(end - each), "worked": round(end), "kind": kind}
            for end, each, kind in zip(ends, took, kinds, strict=True)
        ]
        made = _run(arms[arm], [rows] * 4, (float(ends[-1]) + 1) / 1e6)
        if system == LOST:
            made.manifest.findings[0].ok = made.manifest.ok = False
            made.manifest.findings[0].check = "lost updates"
        return made

    return _as_sweep(folder, "systems", arms, points, make, blocks)


def _run(
    plan: Mapping[str, Any], each: list[list[dict[str, Any]]], seconds: float, role: str = "writer"
) -> Run:
    engine = str(plan["read_engine" if role == "reader" else "write_engine"])
    begin = str(plan["read_begin" if role == "reader" else "begin"])
    pragmas = {"fsync": "on"} if engine == "postgres" else {"synchronous": 1}
    workers = [
        made_worker(n, attempts(*rows), role=role, engine=engine, begin=begin, pragmas=pragmas)
        for n, rows in enumerate(each)
    ]
    # CPU time: all of both cores at PostgreSQL, half of them in the process.
    busy = 2.0 if engine == "postgres" else 1.0
    more: dict[str, Any] = {}
    if "rtt" in str(plan.get("network", "")):
        more["network"] = {"asked_ms": 2.0, "rtt_ms": RTT_MS, "direct_ms": 0.05}
    return made_run(
        workers,
        seconds=seconds,
        plan=plan,
        scenario={
            "name": plan["scenario"],
            "params": plan["params"],
            "kinds": KINDS[str(plan["scenario"])],
        },
        foreign={
            "cpu_share": 0.0,
            "total_cpu_s": 2 * seconds,
            "own_cpu_s": busy * seconds,
        },
        **more,
    )


def _as_sweep(
    folder: Path,
    name: str,
    arms: dict[str, dict[str, Any]],
    points: dict[str, dict[str, Any]],
    make: Any,
    blocks: int,
) -> Path:
    base = next(iter(arms))
    arms[f"{base} again"], points[f"{base} again"] = arms[base], points[base]
    made = made_experiment(folder, arms, make, name=name, blocks=blocks, baseline=base)
    axes: dict[str, list[Any]] = {}
    for point in points.values():
        for axis, value in point.items():
            values = axes.setdefault(axis, [])
            if value not in values:
                values.append(value)
    path = folder / "experiment.json"
    entries = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(entries | {"axes": axes, "points": points}), encoding="utf-8")
    return made
