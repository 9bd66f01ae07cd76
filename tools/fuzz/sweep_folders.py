"""Folders of sweeps, reports and searches, damaged and forged: what the commands do with each.

No cell is measured here: what would start a run says instead that it would, so that thousands of
folders are read in a minute, also by the commands that go on with one.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

from analysis.search import Search
from analysis.search import begin as begin_search
from analysis.synthetic import drawn_run, write_folder
from tools.fuzz import EVIL, PRECIOUS, Call, Fuzzer
from tools.fuzz.bytes import damage_bytes, odd_file
from tools.fuzz.trees import damage_text, damage_tree
from workloads.errors import RunFailed
from workloads.experiments import Cell, Design, begin, cell_name, note_sweep, read_sweep, write_cell
from workloads.files import write_json
from workloads.runs import make_plan

SWEEP = """\
question = "Does it run?"
name = "tiny"
blocks = 2
[plan]
scenario = "counter"
database = "null"
transactions = 20
[plan.params]
rows = 10
[grid]
writers = [1, 2]
[[system]]
name = "one way"
begin = "immediate"
[[system]]
name = "another"
begin = "concurrent"
[[skip]]
system = "another"
writers = 1
why = "one writer overlaps with nobody"
"""

OF_A_SWEEP = (
    ["list"],
    ["show", "runs/sweep"],
    ["show", "sweep"],
    ["show", "last", "--json"],
    ["archive", "runs/sweep", "--out", "out.tar.gz"],
    ["export", "runs/sweep", "--format", "csv", "--out", "out.csv"],
    ["export", "runs/sweep", "--what", "attempts", "--out", "out.parquet"],
    ["export", "runs/sweep/b00-one-way-writers-1", "--format", "trace", "--out", "out.json"],
    ["export", "runs/sweep/b00-one-way-writers-1", "--what", "series", "--format", "csv"],
    ["compare", "runs/sweep"],
    ["compare", "runs/sweep", "--json"],
    ["compare", "runs/sweep:one way, writers 2", "runs/sweep:another, writers 2"],
    ["compare", "runs/sweep", "runs/sound"],
    ["conflicts", "runs/sweep"],
    ["scaling", "runs/sweep"],
    ["sweep", "tiny.toml", "--dry-run"],
    ["sweep", "tiny.toml", "--into", "runs/sweep", "--dry-run"],
    ["sweep", "tiny.toml", "--into", "runs/sweep", "--dry-run", "--again", "all"],
    ["sweep", "tiny.toml"],
    ["sweep", "tiny.toml", "--into", "runs/sweep"],
    ["sweep", "tiny.toml", "--into", "runs/sweep", "--again", "all"],
    ["sweep", "tiny.toml", "--into", "runs/sweep", "--retry-contaminated"],
    ["sweep", "tiny.toml", "--into", "runs/sweep", "--retry-failed"],
)
OF_A_REPORT = (
    ["list", "--runs", "runs/report"],
    ["list"],
    ["show", "runs/report"],
    ["compare", "runs/report"],
    ["report", "--into", "runs/report", "--foreign-limit", "0.5"],
    ["show", "report/headline"],
)
WRITING = ["report", "--only-write", "--into", "runs/report", "--out", "R.md", "--figures", "figs"]
OF_A_HUNT = (
    ["fuzz", "--publish", "runs/hunt"],
    ["fuzz", "--publish", "runs/hunt", "--published", "p"],
)
OF_AN_ADVICE = (
    ["list"],
    ["show", "runs/advice"],
    ["show", "runs/advice", "--json"],
    ["compare", "runs/advice"],
    ["conflicts", "runs/advice"],
    ["advise", "--into", "runs/advice"],
    ["advise", "--into", "runs/advice", "--json", "--retry-contaminated"],
)
OF_A_SEARCH = (
    ["list"],
    ["show", "runs/search"],
    ["search", "--into", "runs/search"],
    ["search", "--into", "runs/search", "--json"],
    ["show", "runs/search/capacity-1"],
)

LINES = (
    "x = nan", "x = inf", f"x = {'9' * 5000}", "x = 0xffffffffffffffffffffffff", "writers = 10**9",
    "[plan]", "[grid]", "[[system]]", "[[way]]", "[[skip]]", "[params]",
    "name = '\\u001b'", 'name = "\\u202e"',
    f"x = {'[' * 5000}{']' * 5000}", f"{'a.' * 3000}a = 1", "blocks = 1000000000", "seed = -1",
    f"writers = {list(range(500))}", f"think_us = {list(range(500))}", "rows = [1, 1]",
    'scenario = "nobody.py:X"', "duration_s = 1979-05-27", "question = 1", "control = 'no'",
    'keys = ["zipfian:nan", "hotspot:1e999:1"]', "params = 3", "retry = []", "= 1", "\x00",
)  # fmt: skip
"""Lines for a sweep's file."""

RAW = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e]")


class SweepFolders(Fuzzer):
    """A sweep's, a report's, a search's or a hunt's folder beside a sound one, with some damage."""

    def prepare(self, base: Path, seed: int) -> None:
        (base / "tiny.toml").write_text(SWEEP, encoding="utf-8")
        for folder in ("sweep", "sound"):
            _sweep(base / "tiny.toml", base / folder, seed)
        _report(base / "report", seed)
        _search(base / "search", seed)
        _advice(base / "advice", seed)
        _hunt(base / "hunt", seed)

    def draw(self, rng: random.Random, base: Path, where: Path) -> Sequence[Sequence[str]]:
        kind = rng.choices(
            ("sweep", "file", "report", "search", "hunt", "advice"), (6, 2, 2, 2, 1, 2)
        )[0]
        shutil.copy(base / "tiny.toml", where)
        if kind == "file":
            _lines(rng, where / "tiny.toml")
            return [["sweep", "tiny.toml", "--dry-run"]]
        known = {"sweep": OF_A_SWEEP, "report": OF_A_REPORT, "search": OF_A_SEARCH,
                 "hunt": OF_A_HUNT, "advice": OF_AN_ADVICE}  # fmt: skip
        argv = rng.choice(known[kind])
        if kind == "report" and rng.random() < 0.1:
            argv = WRITING
        for name in (kind, "sound") if "runs/sound" in argv else (kind,):
            shutil.copytree(base / name, where / "runs" / name, symlinks=True)
        for _ in range(rng.choice((1, 1, 1, 2, 4))):
            damage(rng, where / "runs" / kind)
        return [argv]

    def call(self, argv: Sequence[str]) -> None:
        with nothing_runs():
            super().call(argv)

    def judge(self, call: Call) -> str:
        for text in (call.out, call.err):
            if found := RAW.search(text):
                return f"{found[0]!r} reached the terminal: {text[:200]!r}"
        for name in ("R.md", "out.csv"):
            path = Path(name)
            if path.exists() and (found := RAW.search(path.read_text("utf-8", "replace"))):
                return f"{found[0]!r} is in {name}"
        return ""


@contextlib.contextmanager
def nothing_runs() -> Iterator[None]:
    """Have everything that would start a run of a sweep, a report or a search say so instead."""

    def cell(folder: Path, block: int, arm: str, **how: Any) -> Cell:
        made = Cell(block, arm, "failed", "the fuzzer runs nothing", None)
        write_cell(folder, made)
        return made

    def run(*args: Any, **how: Any) -> Any:
        raise RunFailed("The fuzzer runs nothing.")

    with contextlib.ExitStack() as stack:
        for place, stub in (
            ("workloads.experiments.conduct.run_cell", cell),
            ("analysis.search.search.run", run),
            ("analysis.search.search.prepare", run),
            ("workloads.runs.run", run),
            ("analysis.report.measurements.run_experiment", run),
            ("analysis.report.advice_asked.probe_all", run),
            ("analysis.report.advice_asked.prepare", run),
            ("analysis.report.measurements.probe_all", run),
            ("analysis.report.measurements.measure_trial", run),
            ("analysis.report.measurements.start", run),
            ("workloads.cluster.conduct.find_machines", run),
            ("properties.hunter.hunt_all", run),
            ("properties.soaks.begin_soak", run),
            ("properties.soaks.resume_soak", run),
        ):
            stack.enter_context(mock.patch(place, stub))
        yield


# --- what inputs are made from ----------------------------------------------------------------


def _sweep(file: Path, folder: Path, seed: int) -> None:
    sweep = read_sweep(file)
    begin(sweep.design, folder)
    note_sweep(folder, sweep)
    for block in range(sweep.design.blocks):
        for n, arm in enumerate(sweep.design.arms):
            if n == 3 and block == 1:
                write_cell(folder, Cell(block, arm, "failed", "it broke", None))
                continue
            _run(folder / cell_name(block, arm), seed + 10 * block + n, sweep.design.arms[arm])
            write_cell(folder, Cell(block, arm, "done", "", folder / cell_name(block, arm), 1.0))


def _run(folder: Path, seed: int, values: Any) -> None:
    run = drawn_run(
        seed, per_s=80, seconds=0.3, writers=values.get("writers", 1), engine="null",
        begin=values.get("begin", "immediate"), abort=0.2,
    )  # fmt: skip
    write_folder(run, folder)
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    write_json(folder / "manifest.json", manifest | {"run": folder.name})


def _report(folder: Path, seed: int) -> None:
    arms: dict[str, dict[str, Any]] = {
        "libsql immediate": {"database": "libsql", "begin": "immediate", "writers": 1},
        "branch concurrent": {
            "database": "libsql", "write_engine": "sqlite-concurrent", "begin": "concurrent",
            "writers": 1,
        },
    }  # fmt: skip
    for name in ("headline", "writers"):
        design = Design(name, "What does it do?", arms, blocks=1, baseline="libsql immediate")
        begin(design, folder / name)
        for n, arm in enumerate(arms):
            where = folder / name / cell_name(0, arm)
            _run(where, seed + n, arms[arm])
            write_cell(folder / name, Cell(0, arm, "done", "", where, 1.0))
    answer = {"accepted": False, "words": "no such mode", "overlaps": None}
    identity = {"binding": "b", "version": "1", "source_id": "s", "options": ["o"]}
    probe = {
        "engine": "libsql",
        "missing": None,
        "identity": identity,
        "pragmas": {"a": 1},
        "modes": {"concurrent": answer},
        "several_processes": True,
        "processes_words": "",
    }
    write_json(
        folder / "campaign.json",
        {"cwkit": 1, "campaign": "report", "quick": True, "seed": 1, "command": "cwkit report",
         "started": "2026-11-22T12:00:00+00:00", "experiments": ["headline", "writers"],
         "probes": [probe], "sweeps": ["../sweep"], "foreign_limit": 0.9},
    )  # fmt: skip
    anomaly = {"result": "possible", "how": "", "story": "a", "source": "b", "schedule": "c"}
    row = {"engine": "libsql", "mode": "immediate", "accepted": True, "observed": "x",
           "promised": {"level": "y", "source": "z"}, "anomalies": {"G0": anomaly},
           "others": {"G1": 1}, "schedules": 3, "deviations": ["d"],
           "refusals": {"busy": {"refused": 2, "needless": 1}}}  # fmt: skip
    known = {"name": "n", "sentence": "s", "engine": "libsql", "mode": "immediate", "words": "",
             "seen": True, "text": "t"}  # fmt: skip
    write_json(folder / "isolation.json", {"matrix": [row], "known": [known]})
    (folder / "served").mkdir()
    write_json(folder / "served" / "served.json", {"cwkit": 1, "ended": "failed", "failure": "x"})


def _search(folder: Path, seed: int) -> None:
    plan = make_plan(scenario="counter", database="null", writers=1, duration_s=0.3, warmup_s=0)
    begin_search(Search(plan, "p50 < 20ms", repeats=1), folder)
    for n, name in enumerate(("capacity-1", "rate-125-1")):
        _run(folder / name, seed + n, {"writers": 1})
    write_json(folder / "answer.json", {"cwkit": 1, "rate_per_s": 125.0})


def _advice(folder: Path, seed: int) -> None:
    tx = "add.sql\nBEGIN;\nUPDATE a SET n = n + 1;\nINSERT INTO a VALUES (1, 2);\nEND;"
    params = {"tx": [tx], "schema_sql": "schema.sql\nCREATE TABLE a(id INTEGER PRIMARY KEY, n)"}
    plan = {"scenario": "sql", "params": params, "database": "sqlite", "writers": 1,
            "duration_s": 0.3, "warmup_s": 0}  # fmt: skip
    arms = {f"sqlite {mode}": plan | {"begin": mode} for mode in ("immediate", "deferred")}
    points = {arm: {"system": arm, "writers": 1, "rate": 0.0} for arm in arms}
    axes: dict[str, list[Any]] = {"system": list(arms), "writers": [1], "rate": [0.0]}
    begin(Design("advise", "?", arms, blocks=2, baseline="sqlite immediate", axes=axes,
                 points=points), folder)  # fmt: skip
    for n, arm in enumerate(arms):
        _run(folder / cell_name(0, arm), seed + n, arms[arm])
        write_cell(folder, Cell(0, arm, "done", "", folder / cell_name(0, arm), 1.0))
    script = {
        "name": "add",
        "role": "writer",
        "whole": True,
        "transactions": 1,
        "reads": ["a"],
        "shape": "reads, then writes",
        "writes": ["a"],
        "twice": "again",
        "why": "w",
    }
    words = {"engine": "libsql", "mode": "BEGIN CONCURRENT", "words": "no"}
    write_json(
        folder / "advise.json",
        {"cwkit": 1, "database": "sqlite", "refused": [words], "foreign_limit": 0.5,
         "left_out": [{"what": "turso", "why": "it"}], "scripts": [script] * (seed % 2)},
    )  # fmt: skip


def _hunt(folder: Path, seed: int) -> None:
    finding = folder / "findings" / "rows-01234567"
    finding.mkdir(parents=True)
    of = {"engine": "sqlite", "modes": ["immediate"], "seed": seed}
    write_json(
        folder / "hunt.json",
        {"cwkit": 1, **of, "minutes": 0.5, "processes": 2, "without": [], "ended": "done",
         "started": "2026-11-26T12:00:00+00:00", "version": "0.1.0", "machine": {"cores": 2},
         "identity": ["sqlite3", "3.54.1", "id"], "died": [], "elapsed_s": 30.5, "programs": 70,
         "steps": 9, "unsupported": 1, "unsure": 2, "statuses": {"ok": 8, "failed": 1},
         "known": {"a bug": 3}, "refused": {"vacuum": "no"},
         "pairs": [["a", "b", 1], ["b", "b", 2]]},
    )  # fmt: skip
    write_json(
        finding / "finding.json",
        {"cwkit": 1, **of, "signature": "s", "judge": "rows", "sentence": "x", "expected": "1",
         "seen": "2", "when": "", "binding": "sqlite3", "version": "3.54.1", "source_id": "id",
         "index": 4, "steps": 1, "drawn_steps": 5, "again": [10, 10], "method": "repro.py"},
    )  # fmt: skip
    (finding / "program.txt").write_text("CREATE TABLE t(a)\n---\nA sql SELECT a FROM t\n")
    (finding / "timeline.txt").write_text("step\n   0  SELECT a FROM t\n")


# --- damage -----------------------------------------------------------------------------------


def damage(rng: random.Random, folder: Path) -> None:
    """Change one entry of a folder or of those in it: its content, its name, its kind."""
    names = sorted(path for path in folder.rglob("*") if not path.is_symlink())
    if not names:
        return
    # A file of the folder's own more often than one of its many runs'.
    own = [path for path in names if path.is_file() and "worker-" not in path.name]
    path = rng.choice(own if own and rng.random() < 0.8 else names)
    whole = path.is_file() and path.stat().st_size < 1 << 20
    if whole and path.suffix == ".json" and rng.random() < 0.7:
        rng.choice((damage_tree, damage_tree, damage_text))(rng, path)
    elif whole and rng.random() < 0.5:
        damage_bytes(rng, path)
    elif rng.random() < 0.3:
        odd_file(rng, path, f"{_up(path)}{PRECIOUS}")
    else:
        rng.choice((_removed, _renamed, _linked, _swapped, _added))(rng, path)


def _up(path: Path) -> str:
    """From a path in the folder `runs` to where `precious` lies."""
    return "../" * (len(path.parts) - path.parts.index("runs"))


def _removed(rng: random.Random, path: Path) -> None:
    shutil.rmtree(path) if path.is_dir() else path.unlink()


def _renamed(rng: random.Random, path: Path) -> None:
    names = ("x" * 255, "\x1b[2J", "\u202eb", "b00-.cell.json", "b99-x.cell.json", "earlier", "-x",
             os.fsdecode(b"\xff\xfe"), "experiment.json", "campaign.json")  # fmt: skip
    to = path.with_name(rng.choice(names))
    if not to.exists():
        path.rename(to)


def _linked(rng: random.Random, path: Path) -> None:
    _removed(rng, path)
    up = _up(path) + "../" * rng.randrange(2)
    path.symlink_to(rng.choice((f"{up}{PRECIOUS}", f"{up}{PRECIOUS}/{EVIL}", "/dev/stdin", "..")))


def _swapped(rng: random.Random, path: Path) -> None:
    others = [other for other in sorted(path.parent.iterdir()) if other != path]
    if others:
        other = rng.choice(others)
        beside = path.with_name("swapped")
        path.rename(beside)
        other.rename(path)
        beside.rename(other)


def _added(rng: random.Random, path: Path) -> None:
    folder = path if path.is_dir() else path.parent
    names = (".lock", ".cwkit-templates", "earlier", "cells.csv", "b00-x.cell.json",
             "manifest.json", "search.json", "sweep.toml", "worker-000.1.npy")  # fmt: skip
    name = rng.choice(names)
    if not os.path.lexists(folder / name):
        (folder / name).write_text("{}", encoding="utf-8")
        if rng.random() < 0.8:
            _linked(rng, folder / name)


def _lines(rng: random.Random, path: Path) -> None:
    """A sweep's file with other lines, values and letters in it."""
    lines = path.read_text(encoding="utf-8").splitlines()
    for _ in range(rng.choice((1, 1, 2, 4))):
        at = rng.randrange(len(lines))
        match rng.randrange(6):
            case 0:
                lines.insert(at, rng.choice(LINES))
            case 1:
                del lines[at]
            case 2:
                key = lines[at].partition("=")[0]
                lines[at] = f"{key}= {rng.choice(LINES).partition('=')[2]}"
            case 3:
                lines[at] = lines[at] * rng.choice((2, 50))
            case 4:
                lines.insert(at, rng.choice(lines))
            case _:
                place = rng.randrange(len(lines[at]) + 1)
                lines[at] = (
                    lines[at][:place] + rng.choice("\x00\x1b\u202e\"'[]{}=.,#é") + lines[at][place:]
                )
        lines = lines or [""]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    if rng.random() < 0.1:
        damage_bytes(rng, path)
