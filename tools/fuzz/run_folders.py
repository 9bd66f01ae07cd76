"""Run folders, damaged and forged: what the reading commands make of each.

An input is a folder `runs/` of a few sound runs, one of which was changed, by one to four changes,
and perhaps a small experiment whose cell was. The runs are those of tools/fuzz/folders/.
"""

from __future__ import annotations

import json
import random
import shutil
import stat
from collections.abc import Callable, Sequence
from pathlib import Path

from analysis.synthetic import drawn_run, made_experiment
from tools.fuzz import EVIL, PRECIOUS, Call, Fuzzer
from tools.fuzz.bytes import damage_bytes, odd_file
from tools.fuzz.make_folders import FOLDERS
from tools.fuzz.rows import damage_rows
from tools.fuzz.trees import damage_lines, damage_text, damage_tree
from workloads.files import visible

A_RUN: Sequence[Sequence[str]] = (
    ["show", "A"],
    ["show", "A", "--html", "out.html"],
    ["list"],
    ["conflicts", "A"],
    ["conflicts", "A", "--svg", "a.svg"],
    ["compare", "A", "B"],
    ["compare", "A", "A2", "--vary", "seed,scenario,commit", "--json"],
    ["compare", "A", "A2", "--measure", "p99"],
    ["check", "A"],
    ["check", "A", "--json", "--level", "snapshot-isolation"],
    ["export", "A", "--out", "a.parquet"],
    ["export", "A", "--format", "csv", "--out", "a.csv"],
    ["export", "A", "--format", "csv", "--what", "due", "--out", "a.csv"],
)
AN_EXPERIMENT: Sequence[Sequence[str]] = (
    ["show", "e"],
    ["list"],
    ["compare", "e"],
    ["conflicts", "e"],
    ["scaling", "e"],
    ["scaling", "e", "--svg", "e.svg"],
    ["export", "e", "--format", "csv", "--out", "e.csv"],
    ["export", "e", "--what", "attempts", "--out", "e.parquet"],
)
CELL = "b00-w2"


class RunFolders(Fuzzer):
    """Changes of a manifest's structure and text, of rows, of lines, of bytes and of files."""

    def prepare(self, base: Path, seed: int) -> None:
        shutil.copytree(FOLDERS, base / "runs")
        killed = shutil.copytree(FOLDERS / "bank", base / "runs" / "killed")
        manifest = json.loads((killed / "manifest.json").read_text(encoding="utf-8"))
        manifest |= {"ended": "running", "window": {"start_ns": 0, "measure_ns": 0, "stop_ns": 0}}
        (killed / "manifest.json").write_text(json.dumps(manifest | {"run": "killed"}, indent=1))
        (killed / "worker-001.account.json").write_text('{"state": "died", "account": ""}')
        arms = {
            f"w{n}": {"database": "libsql", "begin": "immediate", "writers": n} for n in (1, 2, 4)
        }
        made_experiment(
            base / "e",
            arms,
            lambda arm, block: drawn_run(
                [seed, block], per_s=200, seconds=0.2, abort=0.2, writers=int(arm[1:])
            ),
            blocks=1,
            baseline="w1",
        )
        shutil.copytree(FOLDERS / "bank", base / PRECIOUS / "run")

    def draw(self, rng: random.Random, base: Path, where: Path) -> Sequence[Sequence[str]]:
        runs = where / "runs"
        runs.mkdir()
        if rng.random() < 0.15:
            shutil.copytree(base / "e", runs / "e")
            folder, commands = runs / "e" / CELL, AN_EXPERIMENT
        else:
            names = sorted(path.name for path in (base / "runs").iterdir())
            one, other = rng.choice(names), rng.choice(names)
            for name, source in (("A", one), ("A2", one), ("B", other)):
                shutil.copytree(base / "runs" / source, runs / name)
            folder, commands = runs / "A", A_RUN
        shutil.copy(where / EVIL, folder)
        for _ in range(rng.choice((1, 1, 1, 2, 3, 4))):
            change(rng, folder)
        return [list(rng.choice(commands))]

    def judge(self, call: Call) -> str:
        """Nothing of the folder acts on a terminal."""
        for text in (call.out, call.err):
            if visible(text, keep="\n\t") != text.replace("\N{ZERO WIDTH NO-BREAK SPACE}", ""):
                return f"text that acts on a terminal: {text[:2000]!a}"
        return ""


def change(rng: random.Random, folder: Path) -> None:
    """Change one thing of a run folder; nothing where an earlier change left no file of ours."""
    kind = rng.choices(
        ("tree", "text", "rows", "lines", "bytes", "file"), (50, 8, 15, 8, 8, 6)
    )[0]  # fmt: skip
    files = sorted(path for path in folder.iterdir() if path.name != EVIL)
    if kind == "file":
        odd_file(rng, rng.choice(files), f"../../../{PRECIOUS}/run")
        return
    names = {"tree": "manifest.json", "text": "manifest.json", "rows": "*.npy", "lines": "*.jsonl"}
    ours = [path for path in files if path.match(names.get(kind, "*")) and _is_small_file(path)]
    if ours:
        DAMAGES[kind](rng, rng.choice(ours))


def _is_small_file(path: Path) -> bool:
    status = path.lstat()
    return stat.S_ISREG(status.st_mode) and status.st_size < 1 << 22


DAMAGES: dict[str, Callable[[random.Random, Path], None]] = {
    "tree": damage_tree,
    "text": damage_text,
    "rows": damage_rows,
    "lines": damage_lines,
    "bytes": damage_bytes,
}
