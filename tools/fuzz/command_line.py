"""Values on the command line: every option and argument of every command, drawn from what nobody
would mean.

Nothing runs for long: what would start runs says so instead
(`tools.fuzz.sweep_folders.nothing_runs`), but for runs of a moment on the engine that does nothing.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import typer

from analysis.cli import app
from analysis.synthetic import drawn_run, write_folder
from tools.fuzz import Call, Fuzzer
from tools.fuzz.sweep_folders import RAW, SWEEP, nothing_runs
from tools.fuzz.sweep_folders import SweepFolders as Made
from workloads.engines import Probe
from workloads.errors import RunFailed
from workloads.runs import run

COMMANDS: Any = typer.main.get_command(app).commands  # type: ignore[attr-defined]

NUMBERS = (
    "0", "-0", "-1", "1", "2", "0.5", "1e-320", "1e308", "1e309", "nan", "-nan", "inf", "-inf",
    str(2**31), str(2**63 - 1), str(2**63), str(2**64), "9" * 400, "9" * 5000, "0x10", "1_000",
    "١٢", "１", " 1", "1 ", "1e", "+", "-", "--", "1;2", "1,5", "True", "None",
)  # fmt: skip
TEXTS = (
    "", " ", "é", "数据", "🙂", "\u202e", "\u200b", "\x1b[2J", "\x07", "\t", "a\nb", "\r", "\x7f",
    "\x9b", os.fsdecode(b"\xff\xfe"), "*", "?", "[", "[a-", "**", "*x", "{}", "{0}", "%s", "$x",
    "x" * 300, "x" * 5000, "'", '"', "\\", "|", ":", "::", "a:", ":a", "a:b:c", "=", "a=", "=a",
    "a=b", "rows=nan", "rows=-1", "keys=zipfian:nan", "mix=read=1e999", "-", "--", "-x", "--help",
    "null", "bank", "libsql ", "LIBSQL", "libsq", "nobody.py:X", "here.txt:X",
    ".py:", "a.py:", ".py:X", "here.py", "runs:X", "all", "json", "csv", "parquet",
    "concurrent", "p99", "p99 < 10ms", "p99 < 0ms", "p99 < 1e999s", "p99 < 10ms and", "x < 1%",
    "throughput < 0.95", "throughput < nan", "throughput <", "127.0.0.1:1", "tcp://x", "[::1]:1",
    "http://127.0.0.1:1", "tcp://127.0.0.1:99999999", "uniform", "zipfian:1e999", "hotspot:1:",
    "list-append", "serializable", "commit,,x", ",",
)  # fmt: skip
PATHS = (
    ".", "..", "/", "/dev/null", "/dev/null/x", "/dev/full", "/proc/nothing/x", "/proc/self/mem",
    "runs", "runs/a", "runs/a/", "./runs/a", "runs//a", "a", "runs/sweep", "runs/search", "sweep",
    "runs/report", "runs/none", "here.txt", "here.txt/x", "here.py", "tiny.toml", "history.jsonl",
    "fifo", "loop", "~", "~nobody", "runs/sweep:one way, writers 2", "b00",
    "runs/sweep/b00-one-way-writers-1", "x" * 256, "/".join(["x"] * 3000), "out", "out/put",
    "figures",
)  # fmt: skip
"""No path leads out of the input's folder to where something could be written."""

QUICK = ["--database", "null", "--scenario", "counter", "--duration", "0.02", "--warmup", "0",
         "--writers", "1", "--deadline", "5"]  # fmt: skip
GIVEN: dict[str, list[str]] = {
    "run": QUICK,
    "search": ["--database", "null", "--slo", "p99 < 10ms", "--duration", "0.02"],
    "sweep": ["tiny.toml"],
    "show": ["runs/a"],
    "export": ["runs/a"],
    "compare": ["runs/a", "runs/b"],
    "conflicts": ["runs/a"],
    "scaling": ["runs/sweep"],
    "check": ["history.jsonl"],
    "engines": ["nobody"],
    "report": ["--only-write", "--into", "runs/report", "--out", "R.md", "--figures", "figures"],
    "list": [],
}
"""Arguments that stand beside the drawn options, or are left out."""


class CommandLine(Fuzzer):
    """One command with a few options, most of them with a value that it cannot use."""

    def prepare(self, base: Path, seed: int) -> None:
        made = base / "made"
        made.mkdir()
        Made().prepare(made, seed)
        for n, name in enumerate(("a", "b")):
            run = drawn_run(seed + n, per_s=80, seconds=0.3, writers=1, engine="null")
            write_folder(run, made / name)
        (base / "tiny.toml").write_text(SWEEP, encoding="utf-8")
        (base / "here.py").write_text("class X:\n    pass\n", encoding="utf-8")
        (base / "here.txt").write_text("text\n", encoding="utf-8")
        lines = [
            {"process": 0, "type": kind, "f": "txn", "value": [["append", 1, 1], ["r", 1, value]]}
            for kind, value in (("invoke", None), ("ok", [1]))
        ]
        (base / "history.jsonl").write_text("".join(f"{json.dumps(x)}\n" for x in lines), "utf-8")

    def draw(self, rng: random.Random, base: Path, where: Path) -> Sequence[Sequence[str]]:
        for name in ("tiny.toml", "here.py", "here.txt", "history.jsonl"):
            shutil.copy(base / name, where)
        # Without the second sweep, which no value names: most of an input's time is its copies.
        spare = shutil.ignore_patterns("sound")
        shutil.copytree(base / "made", where / "runs", symlinks=True, ignore=spare)
        os.mkfifo(where / "fifo")
        (where / "loop").symlink_to("loop")
        name = rng.choice(list(COMMANDS))
        argv = list(GIVEN.get(name, [])) if rng.random() < 0.7 else []
        options = [p for p in COMMANDS[name].params if p.param_type_name == "option"]
        for _ in range(rng.choice((1, 1, 2, 3, 5))):
            argv += _typed(rng, rng.choice(options)) if options else []
        if rng.random() < 0.3:
            argv.insert(rng.randrange(len(argv) + 1), _value(rng, Path))
        if rng.random() < 0.02:
            name = _value(rng, str)
        if name == "recover":
            # It goes through any folder that is named, so none above the input's is.
            argv = ["." if Path(one) in (Path("/"), Path("..")) else one for one in argv]
        return [[name, *argv]]

    def call(self, argv: Sequence[str]) -> None:
        with nothing_runs(), moments_run():
            with mock.patch(
                "workloads.engines.probing.probe",
                lambda name, **how: Probe(name, "not asked"),
            ):
                super().call(argv)

    def judge(self, call: Call) -> str:
        for text in (call.out, call.err):
            if found := RAW.search(text):
                return f"{found[0]!r} reached the terminal: {text[:200]!r}"
        sentences = [line for line in call.err.splitlines() if line.startswith("cwkit: ")]
        # Several histories are several mistakes; one is one sentence.
        if call.status == 2 and len(sentences) > 1 and call.argv[0] != "check":
            return f"{len(sentences)} sentences for one mistake: {sentences}"
        return ""


@contextlib.contextmanager
def moments_run() -> Iterator[None]:
    """Have `cwkit run` make those runs that take a moment; others say that they would."""

    def perhaps(plan: Any, *args: Any, **how: Any) -> Any:
        workers = plan.writers + plan.readers + plan.checkpointers
        takes_s = plan.duration_s + plan.warmup_s + plan.deadline_s
        if plan.database == "null" and workers <= 2 and takes_s < 6 and plan.shape().rows < 10**6:
            return run(plan, *args, **how)
        raise RunFailed("The fuzzer runs nothing.")

    with mock.patch("workloads.runs.run", perhaps):
        yield


def _typed(rng: random.Random, option: Any) -> list[str]:
    """An option as it may be typed."""
    flag = rng.choice([*option.opts, *option.secondary_opts])
    if rng.random() < 0.02:
        flag = flag[:-1]
    if option.is_flag:
        return [flag] if rng.random() < 0.95 else [f"{flag}={_value(rng, str)}"]
    value = _value(rng, option.bare_type)
    return [f"{flag}={value}"] if rng.random() < 0.3 and flag.startswith("--") else [flag, value]


def _value(rng: random.Random, kind: Any) -> str:
    """A value, most often of the kind that is asked for."""
    likely = {Path: PATHS, int: NUMBERS, float: NUMBERS}.get(kind, TEXTS)
    among = likely if rng.random() < 0.7 else rng.choice((NUMBERS, TEXTS, PATHS))
    value = rng.choice(among)
    if rng.random() < 0.05:
        place = rng.randrange(len(value) + 1)
        value = value[:place] + rng.choice("\x1b\u202e\n'\"\\ 0-*[") + value[place:]
    return value
