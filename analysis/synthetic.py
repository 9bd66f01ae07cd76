"""Runs made up, whose truths are known: what the tests of this folder count and compare.

Nothing measured ever comes from here. A checker that is only fed real runs is never seen to be
wrong, because nobody knows what a real run should have said.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from workloads.experiment import DONE, FAILED, MISSING, REFUSED, Design, cell_name
from workloads.recording import (
    ATTEMPT,
    BUSY,
    COMMITTED,
    CONFLICT,
    FORMAT_VERSION,
    STALE,
    UNKNOWN,
    Run,
    WorkerRecord,
    segment_path,
)

START_NS = 1_000_000_000
"""When made-up runs begin. Not 0: a row that starts at 0 is one never used."""

BUSY_WORDS = "database is locked"
STALE_WORDS = "database is locked (stale snapshot)"


def attempts(*rows: Mapping[str, Any]) -> np.ndarray:
    """ATTEMPT array from dicts. Times in us after START_NS: intended, start, begun, worked, end.

    What is left out: intended as start, begun as start, worked as begun, attempt 1, txn counting
    up, outcome committed. `end=None` is a row never closed.
    """
    out = np.zeros(len(rows), ATTEMPT)
    for index, row in enumerate(rows):
        given = dict(row)
        start = given.pop("start")
        begun = given.pop("begun", start)
        worked = given.pop("worked", begun)
        end = given.pop("end", worked)
        stamps = {"intended": given.pop("intended", start), "start": start}
        stamps |= {"begun": begun, "worked": worked, "end": end}
        for name, us in stamps.items():
            out[index][f"{name}_ns"] = 0 if us is None else START_NS + us * 1000
        values = {"txn": index, "attempt": 1, "outcome": COMMITTED} | given
        for name, value in values.items():
            out[index][name] = value
    return out


def made_worker(
    number: int,
    rows: np.ndarray,
    *,
    role: str = "writer",
    engine: str = "libsql",
    begin: str = "immediate",
    worker: int | None = None,
    messages: Sequence[str] = (BUSY_WORDS, STALE_WORDS),
    **entry: Any,
) -> WorkerRecord:
    worker = number if worker is None else worker
    whole = {
        "worker": worker,
        "role": role,
        "number": number,
        "engine": engine,
        "begin": begin,
        "pid": 1000 + worker,
        "pragmas": {"journal_mode": "wal", "synchronous": 1, "busy_timeout": 2000},
        "state": "finished",
        "account": "",
        "cpu_s": round(len(rows) * 20e-6, 9),
        **entry,
    }
    return WorkerRecord(worker, role, number, engine, begin, rows, tuple(messages), whole)


def made_run(
    workers: Sequence[WorkerRecord],
    *,
    name: str = "20261122-120000-made",
    seconds: float = 1.0,
    warmup_s: float = 0.0,
    plan: Mapping[str, Any] | None = None,
    **manifest: Any,
) -> Run:
    """A Run around made-up workers, its manifest as complete as a real one's."""
    measure = START_NS + int(warmup_s * 1e9)
    writers = [w for w in workers if w.role == "writer"]
    readers = [w for w in workers if w.role == "reader"]
    first = (writers or readers or list(workers))[0]
    whole_plan: dict[str, Any] = {
        "scenario": "register",
        "params": {"think_us": 200, "rows": 10_000, "keys": "uniform"},
        "database": "null" if first.engine == "null" else "libsql",
        "writers": len(writers),
        "write_engine": first.engine,
        "begin": first.begin,
        "readers": len(readers),
        "read_engine": readers[0].engine if readers else "libsql",
        "read_begin": readers[0].begin if readers else "deferred",
        "checkpointers": sum(w.role == "checkpointer" for w in workers),
        "retry": {"policy": "exponential", "base_us": 100, "cap_us": 50_000, "most_tries": 0},
        "duration_s": seconds,
        "warmup_s": warmup_s,
        "rate": 0,
        "synchronous": "normal",
        "busy_timeout_ms": 2000,
        "seed": 412,
    } | dict(plan or {})
    whole: dict[str, Any] = {
        "cwkit": FORMAT_VERSION,
        "run": name,
        "command": "cwkit run --seed 412",
        "seed": 412,
        "started": "2026-11-22T12:00:00Z",
        "scenario": {"name": whole_plan["scenario"], "params": whole_plan["params"]},
        "plan": whole_plan,
        "workers": [w.entry for w in workers],
        "engines": {
            engine: {
                "binding": f"{engine} 1.0",
                "version": "3.45.1",
                "source_id": "",
                "options": [],
            }
            for engine in dict.fromkeys(w.engine for w in workers)
        },
        "machine": {
            "cpu": "Made-up CPU",
            "cores": 2,
            "memory_bytes": 8 << 30,
            "kernel": "Linux 6.1",
            "python": "3.11.2",
            "filesystem": "ext4",
        },
        "window": {
            "start_ns": START_NS,
            "measure_ns": measure,
            "stop_ns": measure + int(seconds * 1e9),
        },
        "foreign": {"cpu_share": 0.004, "steal_share": 0.0},
        "ended": "duration",
        "ok": True,
        "findings": [
            {
                "check": "integrity",
                "ok": True,
                "sentence": "integrity_check says ok.",
                "evidence": {},
            }
        ],
    } | manifest
    return Run(Path(name), whole, tuple(workers))


def drawn_rows(
    rng: np.random.Generator,
    *,
    per_s: float,
    seconds: float = 1.0,
    abort: float = 0.0,
    work_us: float = 200.0,
    outcome: int = CONFLICT,
) -> np.ndarray:
    """One worker's closed loop: `per_s` commits a second, `abort` of its attempts refused.

    Refused attempts take no time of their own here, so that throughput stays what was asked for.
    """
    commits = max(int(per_s * seconds), 0)
    end = np.sort(rng.uniform(0, seconds * 1e9, commits)).astype("i8") + START_NS
    refused = rng.random(commits) < (abort / (1 - abort) if abort < 1 else 0)
    tries = 1 + refused.astype(int)
    out = np.zeros(int(tries.sum()), ATTEMPT)
    txn = np.repeat(np.arange(commits), tries)
    final = np.append(txn[1:] != txn[:-1], True) if commits else np.zeros(0, bool)
    out["txn"], out["attempt"] = txn, np.where(final, np.repeat(tries, tries), 1)
    out["end_ns"] = end[txn] + 1
    took = (work_us * 1000 * rng.uniform(0.9, 1.5, len(out))).astype("i8")
    out["start_ns"] = np.maximum(out["end_ns"] - took, 1)
    out["intended_ns"] = out["start_ns"]
    out["begun_ns"] = out["start_ns"] + 2_000
    out["worked_ns"] = np.maximum(out["end_ns"] - 9_000, out["begun_ns"])
    out["outcome"] = np.where(final, COMMITTED, outcome)
    if outcome == CONFLICT:
        out["conflict"] = np.where(final, 0, np.where(rng.random(len(out)) < 0.3, BUSY, STALE))
        out["phase"] = np.where(final, 0, 3)
        out["message"] = np.where(final, 0, np.where(out["conflict"] == BUSY, 1, 2))
    elif outcome == UNKNOWN:
        out["phase"] = np.where(final, 0, 3)
    return out


def drawn_run(
    seed: int | Sequence[int],
    *,
    per_s: float | Sequence[float] = 1000.0,
    writers: int = 4,
    seconds: float = 1.0,
    abort: float = 0.0,
    engine: str = "libsql",
    begin: str = "immediate",
    readers: int = 0,
    work_us: float = 200.0,
    **more: Any,
) -> Run:
    """A run whose writers commit `per_s` together, or each its own of a sequence."""
    rng = np.random.default_rng(seed)
    rates = [per_s / max(writers, 1)] * writers if isinstance(per_s, (int, float)) else list(per_s)
    workers = [
        made_worker(
            number,
            drawn_rows(rng, per_s=rate, seconds=seconds, abort=abort, work_us=work_us),
            engine=engine,
            begin=begin,
        )
        for number, rate in enumerate(rates)
    ]
    workers += [
        made_worker(
            number,
            drawn_rows(rng, per_s=500, seconds=seconds, work_us=50),
            role="reader",
            begin="deferred",
            worker=len(rates) + number,
        )
        for number in range(readers)
    ]
    return made_run(workers, seconds=seconds, **more)


def write_folder(run: Run, folder: Path) -> Path:
    """Write a made-up run as a run folder, for what reads folders."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "manifest.json").write_text(json.dumps(run.manifest, indent=1), encoding="utf-8")
    for worker in run.workers:
        np.save(segment_path(folder, worker.worker, 0), worker.attempts)
        lines = "".join(json.dumps(words) + "\n" for words in worker.messages)
        path = folder / f"worker-{worker.worker:03d}.messages.jsonl"
        path.write_text(lines, encoding="utf-8")
    return folder


def made_experiment(
    folder: Path,
    arms: Mapping[str, Mapping[str, Any]],
    make: Callable[[str, int], Run | str],
    *,
    name: str = "writers",
    question: str = "What does it do?",
    blocks: int = 10,
    seed: int = 412,
    baseline: str = "",
) -> Path:
    """Write an experiment folder: `make(arm, block)` gives each cell's run, or why it has none.

    "refused: WORDS" and "missing: WORDS" are those states, other words "failed".
    """
    design = Design(name, question, arms, blocks=blocks, seed=seed, baseline=baseline)
    cells = []
    for block, order in enumerate(design.order()):
        for arm in order:
            found = make(arm, block)
            entry = {"block": block, "arm": arm, "state": DONE, "words": "", "run": ""}
            if isinstance(found, Run):
                entry["run"] = cell_name(block, arm)
                found.manifest["run"] = entry["run"]
                write_folder(found, folder / str(entry["run"]))
                broken = [f["sentence"] for f in found.manifest["findings"] if not f["ok"]]
                if not found.manifest["ok"]:
                    entry |= {"state": FAILED, "words": "; ".join(broken)}
            else:
                state, _, words = found.partition(": ")
                known = state in (REFUSED, MISSING)
                entry |= {"state": state, "words": words} if known else {"state": FAILED}
                entry["words"] = words if known else found
            cells.append(entry)
    said = {
        "cwkit": FORMAT_VERSION,
        "experiment": name,
        "question": question,
        "seed": seed,
        "blocks": blocks,
        "baseline": baseline,
        "arms": {arm: dict(values) for arm, values in arms.items()},
        "order": design.order(),
        "cells": cells,
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "experiment.json").write_text(json.dumps(said, indent=1), encoding="utf-8")
    return folder
