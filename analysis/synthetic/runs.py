"""Runs made up, whose truths are known: what the tests of this folder count and compare.

Nothing measured ever comes from here. A checker that is only fed real runs is never seen to be
wrong, because nobody knows what a real run should have said.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from workloads.engines import packed
from workloads.experiments import DONE, FAILED, MISSING, REFUSED, Design, cell_name
from workloads.files import FORMAT_VERSION
from workloads.records import (
    ATTEMPT,
    BUSY,
    COMMITTED,
    CONFLICT,
    STALE,
    UNKNOWN,
    EngineEntry,
    FindingEntry,
    Manifest,
    Rows,
    Run,
    ScenarioEntry,
    WorkerEntry,
    WorkerRecord,
    segment_path,
    write_manifest,
)
from workloads.runs import ARRIVALS, ROLES, due_before, due_in_turn

START_NS = 1_000_000_000
"""When made-up runs begin. Not 0: a row that starts at 0 is one never used."""

BUSY_MESSAGE = "database is locked"
STALE_MESSAGE = "database is locked (stale snapshot)"


def attempts(*rows: Mapping[str, Any]) -> np.ndarray:
    """ATTEMPT array from dicts. Times in us after START_NS: intended, start, begun, worked, end.

    Columns left out get defaults: intended as start, begun as start, worked as begun, attempt 1,
    txn counting up, outcome committed. `end=None` is a row never closed.
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
    messages: Sequence[str] = (BUSY_MESSAGE, STALE_MESSAGE),
    **entry: Any,
) -> WorkerRecord:
    worker = number if worker is None else worker
    whole = WorkerEntry(**{
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
    })  # fmt: skip
    return WorkerRecord(worker, role, number, engine, begin, Rows(rows), tuple(messages), whole)


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
            for engine in dict.fromkeys([whole_plan["database"], *(w.engine for w in workers)])
        },
        "machine": {
            "cpu": "Made-up CPU",
            "cores": 2,
            "memory_bytes": 8 << 30,
            "kernel": "Linux 6.1",
            "python": "3.11.2",
            "file_system": "ext4",
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
    return Run(Path(name), Manifest.model_validate(whole), tuple(workers))


def edit(manifest: Manifest, **changes: Any) -> Manifest:
    """Change a manifest's keys, objects merged with what is there; returns it.

    >>> edit(drawn_run(1).manifest, machine={"cores": 4}, ok=False).machine.cores
    4
    """
    entries = manifest.data()
    for key, value in changes.items():
        mine = entries.get(key, {}) | value if isinstance(value, dict) else value
        setattr(manifest, key, getattr(Manifest.model_validate(entries | {key: mine}), key))
    return manifest


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
    out["begun_ns"] = np.minimum(out["start_ns"] + 2_000, out["end_ns"])
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


def open_loop(
    per_s: float,
    served_per_s: float,
    *,
    writers: int = 2,
    seconds: float = 2.0,
    warmup_s: float = 0.0,
    seed: int = 412,
    **more: Any,
) -> Run:
    """An open loop on a store that takes its time: each writer serves its share of `served_per_s`,
    first come first served, each transaction in the same time, and begins none after the end.
    """
    took = round(1e9 * writers / served_per_s)
    stop = START_NS + int((warmup_s + seconds) * 1e9)
    workers = []
    for number in range(writers):
        rng = np.random.default_rng([seed, ROLES.index("writer"), number, ARRIVALS])
        due = due_before(stop, per_s / writers, START_NS, rng)
        free, starts = 0, []
        for when in due.tolist():
            free = max(when, free)
            if free >= stop:
                break
            starts.append(free)
            free += took
        rows = np.zeros(len(starts), ATTEMPT)
        rows["txn"], rows["attempt"], rows["outcome"] = np.arange(len(rows)), 1, COMMITTED
        rows["start_ns"], rows["intended_ns"] = starts, due[: len(rows)]
        rows["begun_ns"], rows["end_ns"] = rows["start_ns"] + took // 10, rows["start_ns"] + took
        rows["worked_ns"] = rows["end_ns"] - took // 10
        workers.append(made_worker(number, rows))
    plan = {"rate": per_s, "seed": seed} | dict(more.pop("plan", {}))
    return made_run(workers, seconds=seconds, warmup_s=warmup_s, plan=plan, **more)


def rated(per_s_of: Callable[[float], float], seconds: float, **more: Any) -> Run:
    """A run of one writer whose rate is a function of the time since the gate, commits a second."""
    at = np.arange(0, seconds, 0.001)
    due = np.cumsum([per_s_of(t) * 0.001 for t in at])
    ends_s = np.interp(np.arange(1, int(due[-1])), due, at)
    rows = np.zeros(len(ends_s), ATTEMPT)
    rows["end_ns"] = START_NS + (ends_s * 1e9).astype("i8")
    rows["start_ns"] = rows["intended_ns"] = rows["end_ns"] - 1000
    rows["txn"], rows["attempt"], rows["outcome"] = np.arange(len(rows)), 1, COMMITTED
    warmup_s = more.pop("warmup_s", 0.0)
    return made_run([made_worker(0, rows)], seconds=seconds - warmup_s, warmup_s=warmup_s, **more)


def write_folder(run: Run, folder: Path) -> Path:
    """Write a made-up run as a run folder, for what reads folders."""
    folder.mkdir(parents=True, exist_ok=True)
    write_manifest(folder, run.manifest)
    for worker in run.workers:
        np.save(segment_path(folder, worker.worker, 0), worker.attempts)
        if worker.messages:  # as a worker, which writes its first when it meets it
            lines = "".join(json.dumps(message) + "\n" for message in worker.messages)
            path = folder / f"worker-{worker.worker:03d}.messages.jsonl"
            path.write_text(lines, encoding="utf-8")
    return folder


def write_long_run(
    folder: Path,
    rows: int,
    *,
    writers: int = 4,
    per_s: float = 40_000.0,
    abort: float = 0.02,
    seed: int = 412,
    segment_rows: int = 1 << 15,
    **more: Any,
) -> Path:
    """Write the folder of a run of at least `rows` attempts, file by file: it need not fit into
    memory. The writers commit `per_s` together.

    engine, begin : of the writers, in `more`, and what else a manifest has.
    """
    how = {name: more.pop(name) for name in ("engine", "begin") if name in more}
    each_s = per_s / max(writers, 1)
    commits = max(int(segment_rows * (1 - abort) * 0.95), 1)  # with their refused tries they fit
    span_s, files = commits / each_s, max(-(-rows // (writers * commits)), 1)
    workers = [made_worker(n, np.zeros(0, ATTEMPT), cpu_s=0.4 * span_s * files, **how)
               for n in range(writers)]  # fmt: skip
    write_folder(made_run(workers, seconds=span_s * files, **more), folder)
    for worker in range(writers):
        for file in range(files):
            rng = np.random.default_rng([seed, worker, file])
            just = (commits + 0.5) / span_s  # exactly as many, however it is rounded
            part = drawn_rows(rng, per_s=just, seconds=span_s, abort=abort, work_us=60)
            part["txn"] += file * commits
            part["result"] = np.arange(len(part)) + (worker * files + file) * segment_rows
            for name in ("intended_ns", "start_ns", "begun_ns", "worked_ns", "end_ns"):
                part[name] += int(file * span_s * 1e9)
            np.save(segment_path(folder, worker, file), part)
    return folder


def write_long_open_loop(
    folder: Path,
    rows: int,
    *,
    writers: int = 4,
    per_s: float = 40_000.0,
    abort: float = 0.02,
    seed: int = 412,
    segment_rows: int = 1 << 15,
    **more: Any,
) -> Path:
    """Write the folder of an open loop of about `rows` attempts, file by file. It keeps up: each
    transaction is done a moment after it was due, `abort` of them at their second try.
    """
    seconds = rows / (1 + abort) / per_s
    stop = START_NS + int(seconds * 1e9)
    workers = [made_worker(n, np.zeros(0, ATTEMPT), cpu_s=0.4 * seconds) for n in range(writers)]
    write_folder(
        made_run(workers, seconds=seconds, plan={"rate": per_s, "seed": seed}, **more), folder
    )
    for worker in range(writers):
        rng = np.random.default_rng([seed, ROLES.index("writer"), worker, ARRIVALS])
        drawn = np.random.default_rng([seed, worker])
        waiting, file, first = [np.zeros(0, ATTEMPT)], 0, 0
        free = 0
        for due in due_in_turn(stop, per_s / writers, START_NS, rng):
            waiting.append(_served(drawn, due, first, free, abort))
            if len(due):
                first, free = first + len(due), int(waiting[-1]["end_ns"][-1])
            if sum(map(len, waiting)) >= segment_rows:
                whole = np.concatenate(waiting)
                np.save(segment_path(folder, worker, file), whole[:segment_rows])
                waiting, file = [whole[segment_rows:]], file + 1
        np.save(segment_path(folder, worker, file), np.concatenate(waiting))
    return folder


def _served(
    rng: np.random.Generator, due: np.ndarray, first: int, free: int, abort: float
) -> np.ndarray:
    """Rows of transactions that are begun when they are due and their worker is free.

    first : the number of the first. free : from when on it is.
    """
    tries = 1 + (rng.random(len(due)) < abort)
    at = np.repeat(np.arange(len(due)), tries)
    out = np.zeros(len(at), ATTEMPT)
    last = np.append(at[1:] != at[:-1], True)[: len(at)]
    out["txn"], out["intended_ns"], out["attempt"] = first + at, due[at], 1
    out["attempt"][last] = tries
    took = rng.integers(1_000, 4_000, len(at))
    before = np.cumsum(took) - took
    out["start_ns"] = before + np.maximum.accumulate(np.maximum(due[at], free) - before)
    out["begun_ns"], out["end_ns"] = out["start_ns"] + 100, out["start_ns"] + took
    out["worked_ns"] = out["start_ns"] + took // 2
    out["outcome"] = np.where(last, COMMITTED, CONFLICT)
    out["conflict"], out["phase"] = np.where(last, 0, BUSY), np.where(last, 0, 3)
    out["message"] = np.where(last, 0, 1)
    return out


def write_long_concurrent_run(
    folder: Path,
    rows: int,
    *,
    writers: int = 4,
    per_s: float = 40_000.0,
    abort: float = 0.1,
    seed: int = 412,
    segment_rows: int = 1 << 15,
    **more: Any,
) -> Path:
    """Write the folder of a run under BEGIN CONCURRENT of about `rows` attempts, file by file.

    Each writer's attempts follow one another, `per_s` of all of them. `abort` of the attempts are
    refused, whatever others did, and tried again; each transaction reads and writes one row.
    """
    table, a_page, each_ns = 10_000, 20, int(1e9 * writers / per_s)
    pages = table // a_page
    tree = {
        "root": 2, "cells": table, "leaves": pages, "interior": 1,
        "pages": packed(range(3, 3 + pages), [a_page] * pages), "above": "2:0",
    }  # fmt: skip
    params = {"rows": table, "keys": "zipfian:0.99", "mix": "read-modify-write=1"}
    seconds = rows / per_s
    how: dict[str, Any] = {
        "engine": "sqlite-concurrent",
        "begin": "concurrent",
        "cpu_s": 0.4 * seconds,
    }
    workers = [made_worker(n, np.zeros(0, ATTEMPT), **how) for n in range(writers)]
    plan = {"params": params, "database": "sqlite-concurrent", "seed": seed}
    layout = {"loaded": {"table register": tree}, "left": {"table register": tree}}
    write_folder(made_run(workers, seconds=seconds, plan=plan, layout=layout, **more), folder)
    for worker in range(writers):
        rng, at, txn = np.random.default_rng([seed, worker]), START_NS, 0
        left, file = rows // writers, 0
        while left > 0 or not file:
            part = _concurrent(rng, max(min(left, segment_rows), 1), at, txn, each_ns, abort)
            np.save(segment_path(folder, worker, file), part)
            left, file = left - len(part), file + 1
            # The last is a commit, so that a transaction lies in one file.
            at, txn = int(part["end_ns"][-1]), int(part["txn"][-1]) + 1
    return folder


def _concurrent(
    rng: np.random.Generator, many: int, at: int, txn: int, each_ns: int, abort: float
) -> np.ndarray:
    """Attempts of one worker from the moment `at` on, each_ns apart; the last one commits."""
    out = np.zeros(many, ATTEMPT)
    lost = rng.random(many) < abort
    lost[-1] = False
    shares = np.sort(rng.random((many, 4)), axis=1)
    starts = at + np.arange(many, dtype=np.int64) * each_ns
    for column, name in enumerate(("start_ns", "begun_ns", "worked_ns", "end_ns")):
        out[name] = starts + (shares[:, column] * each_ns).astype(np.int64)
    out["end_ns"][-1] = starts[-1] + each_ns
    out["intended_ns"] = out["start_ns"]
    again = np.append(False, lost[:-1])
    out["txn"] = txn + np.cumsum(~again) - 1
    first = np.maximum.accumulate(np.where(again, 0, np.arange(many)))
    out["attempt"] = 1 + np.arange(many) - first
    out["kind"] = 4  # read-modify-write
    out["outcome"] = np.where(lost, CONFLICT, COMMITTED)
    out["conflict"], out["phase"] = np.where(lost, STALE, 0), np.where(lost, 3, 0)
    out["message"] = np.where(lost, 2, 0)
    return out


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
                found.manifest.run = str(entry["run"])
                write_folder(found, folder / str(entry["run"]))
                if not found.manifest.ok:
                    broken = "; ".join(finding.sentence for finding in found.manifest.broken)
                    entry |= {"state": FAILED, "words": broken}
            else:
                state, _, message = found.partition(": ")
                known = state in (REFUSED, MISSING)
                entry |= {"state": state, "words": message} if known else {"state": FAILED}
                entry["words"] = message if known else found
            cells.append(entry)
    entries = {
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
    (folder / "experiment.json").write_text(json.dumps(entries, indent=1), encoding="utf-8")
    return folder


ARMS = {
    "libsql immediate": {"database": "libsql", "write_engine": "libsql", "begin": "immediate"},
    "branch concurrent": {
        "database": "libsql",
        "write_engine": "sqlite-concurrent",
        "begin": "concurrent",
    },
}


ACKED: Mapping[str, Mapping[str, Any]] = {
    "libsql": {"database": "libsql"},
    "control": {"database": "sqlite-concurrent"},
    "ordinary": {"database": "libsql", "writers": 4, "checkpointers": 0, "synchronous": "normal"},
    "one": {"database": "libsql", "checkpointers": 1, "wal_autocheckpoint": 0},
    "full": {"database": "libsql", "checkpoint": "full", "wal_autocheckpoint": 0},
}
"""Arms of a made-up search for lost commits."""

VERSIONS = {"libsql": "3.45.1", "sqlite": "3.40.1", "sqlite-concurrent": "3.54.0"}


def made_acked(
    folder: Path,
    *,
    arms: Mapping[str, Mapping[str, Any]] = ACKED,
    losing: Collection[str] = ("libsql",),
    seconds: Mapping[str, float] | None = None,
    blocks: int = 1,
    **how: Any,
) -> Path:
    """A folder of the experiment `acked`, in which the arms `losing` lose two commits each.

    arms : name -> fields of a plan, over those of a race. seconds : arm -> the measured part,
    default 2. how : for `made_experiment`.
    """
    racing = {"scenario": "acked", "writers": 1, "readers": 1, "checkpointers": 3}
    racing |= {"synchronous": "off", "begin": "immediate"}
    plans: dict[str, dict[str, Any]] = {arm: {**racing, **plan} for arm, plan in arms.items()}

    def make(arm: str, block: int) -> Run:
        plan, seconds_s = plans[arm], (seconds or {}).get(arm, 2.0)
        engine = str(plan["database"])
        found = drawn_run(
            [block, len(arm)], per_s=500.0, writers=plan["writers"], readers=1, engine=engine,
            begin="immediate", seconds=seconds_s, plan=plan,
        )  # fmt: skip
        manifest = found.manifest
        manifest.engines = {
            engine: EngineEntry(binding=f"{engine} 1.0", version=VERSIONS.get(engine, ""))
        }
        manifest.scenario = ScenarioEntry(name="acked", params={})
        many = int(500 * seconds_s)
        lost = [[0, 76], [0, 77]] if arm in losing else []
        manifest.findings = [
            FindingEntry(
                check="acknowledged values",
                ok=not lost,
                sentence=f"{many - len(lost)} of {many} acknowledged values are there.",
                evidence={"acknowledged": many, "lost": lost},
            )
        ]
        if lost:
            manifest.ok, manifest.ended = False, "invariant broken"
            manifest.findings.insert(
                0,
                FindingEntry(
                    check="during the run",
                    ok=False,
                    sentence="Writer 0 was told that value 77 is committed, reader 0 read 76.",
                    evidence={"acknowledged": [14, 77], "missing": [77]},
                ),
            )
        return found

    return made_experiment(folder, plans, make, name="acked", blocks=blocks, **how)


def made_report_folder(
    folder: Path,
    *,
    gain: float = 1.8,
    loses: bool = True,
    only: Sequence[str] = (),
    most_blocks: int = 10,
) -> Path:
    """A small folder of experiments like the report's own, with a planted truth.

    gain : throughput of the concurrent arm over the immediate one, with 200 us of work inside.
    loses : whether acknowledged commits are lost on libSQL in `acked`.
    only : the experiments that are made; all of them, where none is named.
    """
    speed = {"libsql immediate": 1000.0, "branch concurrent": 1000.0 * gain, "null": 3000.0}
    aborts = {"branch concurrent": 0.01}

    def arm_values(arm: str, params: Mapping[str, Any], **more: Any) -> dict[str, Any]:
        which = ARMS.get(arm.removesuffix(" again"), {"database": "null"})
        return {**which, "scenario": "register", "params": dict(params), "writers": 4, **more}

    def experiment(
        name: str, arms: Mapping[str, Mapping[str, Any]], blocks: int, **how: Any
    ) -> None:
        if only and name not in only:
            return

        def make(arm: str, block: int) -> Run | str:
            values = dict(arms[arm])
            key = next((key for key in speed if arm.startswith(key)), "null")
            engine = str(values.get("write_engine", values["database"]))
            rng = np.random.default_rng([len(name), block, len(arm)])
            per_s = speed[key] * how.get("factor", lambda values, key: 1.0)(values, key)
            plan = values | {"retry": {"policy": "exponential", "base_us": 100, "cap_us": 5e4}}
            found = drawn_run(
                [block, len(arm)],
                per_s=per_s * rng.normal(1, 0.01),
                writers=values["writers"],
                abort=aborts.get(key, 0.0) * how.get("hotter", lambda values: 1)(values),
                engine=engine,
                begin=str(values.get("begin", "immediate")),
                readers=values.get("readers", 0),
                plan={key: plan[key] for key in plan if key != "retry"},
            )
            found.manifest.scenario = ScenarioEntry(
                name=values["scenario"], params=values["params"]
            )
            how.get("mend", lambda arm, run: None)(arm, found)
            return found

        made_experiment(
            folder / name, arms, make, name=name, blocks=min(blocks, most_blocks),
            baseline=next(iter(arms)),
        )  # fmt: skip

    work = {"think_us": 200, "keys": "uniform", "mix": "read-modify-write=100"}
    pair = ("libsql immediate", "branch concurrent")
    experiment(
        "headline", {a: arm_values(a, work) for a in (pair[0], f"{pair[0]} again", pair[1])}, 10
    )
    experiment(
        "writers",
        {
            f"{a} w{n}": arm_values(a, work) | {"writers": n}
            for n in (1, 4)
            for a in (*pair, "null")
        },
        3,
        factor=lambda values, key: 1 / gain if key == pair[1] and values["writers"] == 1 else 1,
    )
    experiment(
        "think",
        {f"{a} t0": arm_values(a, work | {"think_us": 0}) for a in pair},
        6,
        factor=lambda values, key: 0.6 / gain if key == pair[1] else 1,
    )
    experiment(
        "skew",
        {f"{pair[1]} {keys}": arm_values(pair[1], work | {"keys": keys})
         for keys in ("uniform", "zipfian:0.99", "zipfian:1.2")},
        6,
        hotter=lambda values: {"uniform": 1, "zipfian:0.99": 9}.get(values["params"]["keys"], 20),
    )  # fmt: skip
    experiment(
        "mission",
        {"mission": arm_values(pair[1], {}) | {"scenario": "bank", "readers": 2,
                                              "read_engine": "libsql"}},
        1,
    )  # fmt: skip

    def lose(arm: str, run: Run) -> None:
        if arm == "libsql" and loses:
            lost = "worker 1 was told that value 77 is committed, worker 0 read 76."
            run.manifest.ok, run.manifest.ended = False, "invariant broken"
            run.manifest.findings = [
                FindingEntry(check="during the run", ok=False, sentence=lost, evidence={})
            ]

    racing = {"scenario": "acked", "params": {}, "writers": 1, "checkpointers": 3}
    fixed = {"database": "sqlite-concurrent", "write_engine": "sqlite-concurrent"}
    experiment(
        "acked",
        {"libsql": ARMS[pair[0]] | racing, "control": fixed | {"begin": "immediate"} | racing},
        1,
        mend=lose,
    )
    probe: dict[str, Any] = {
        "missing": None,
        "several_processes": True,
        "processes_words": "",
        "pragmas": {},
    }
    refused = {"accepted": False, "words": 'near "CONCURRENT": syntax error', "overlaps": None}
    taken = {"accepted": True, "words": "", "overlaps": True}
    identity = {"version": "3.45.1", "source_id": "", "options": []}
    probes = [
        probe | {"engine": "libsql", "identity": identity | {"binding": "libsql-experimental 1"},
                 "modes": {"concurrent": refused}},
        probe | {"engine": "sqlite-concurrent", "identity": identity | {"binding": "branch 1"},
                 "modes": {"concurrent": taken}},
        probe | {"engine": "turso", "missing": "pyturso is not installed. `make setup` does it.",
                 "identity": None, "modes": {}},
    ]  # fmt: skip
    suite = {
        "cwkit": FORMAT_VERSION,
        "quick": False,
        "seed": 412,
        "command": "cwkit report --seed 412",
        "started": "2026-11-22T12:00:00+00:00",
        "probes": probes,
    }
    (folder / "campaign.json").write_text(json.dumps(suite, indent=1), encoding="utf-8")
    return folder


def whole_report(out: Path, figures: Path) -> str:
    """The text of a report that was written, and of its pages behind it."""
    pages = [out, *sorted(figures.glob("*.md"))]
    return "\n".join(path.read_text(encoding="utf-8") for path in pages)
