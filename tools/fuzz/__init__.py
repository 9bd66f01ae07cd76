"""Fuzzers: damaged and forged inputs, drawn by number, given to the commands under limits.

Whatever its input, a command ends with a documented status, within 10 s and 1 GiB, without a
traceback, and runs nothing that the input names. A fuzzer is one file and one line of REGISTRY:

    class Greetings(Fuzzer):
        def prepare(self, base, seed):          # once: what all inputs are made from
            (base / "greeting.txt").write_text("hello")

        def draw(self, rng, base, where):       # one input: from `rng` alone, into `where`
            text = (base / "greeting.txt").read_text()
            (where / "greeting.txt").write_text(text * rng.randrange(1000))
            return [["show", "greeting.txt"]]   # `cwkit show greeting.txt`, in the folder `where`

`python -m tools.fuzz NAME --inputs 20000 --seed S` runs it, `--from N --inputs 1` input N again.
"""

from __future__ import annotations

import difflib
import functools
import importlib
import random
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

REGISTRY: dict[str, str] = {
    "run-folders": "tools.fuzz.run_folders:RunFolders",
    "sweep-folders": "tools.fuzz.sweep_folders:SweepFolders",
    "command-line": "tools.fuzz.command_line:CommandLine",
    "histories": "tools.fuzz.histories:Histories",
}
"""Name -> "module:Class"; `make fuzz` and analysis/test_fuzz.py run each."""

EVIL = "evil.py"
"""A Python file beside every input, which leaves a mark where anything imports or runs it.

Fuzzers name it wherever a file of the user's could stand: `evil.py:X`.
"""

USED_ROOMS = (
    *("workloads.records", "workloads.scenarios", "workloads.runs", "workloads.experiments"),
    *("properties.checker", "analysis.statistics", "analysis.counting", "analysis.compare"),
    *("analysis.models", "analysis.search", "analysis.charts", "analysis.report"),
)
"""Whose names the commands use, but for rooms that could load a second copy of SQLite."""

PRECIOUS = "precious"
"""A folder beside every input (`../precious`) that no command may touch."""


@dataclass(frozen=True)
class Call:
    """One call that has ended: `out` and `err` are what it printed, cut at a megabyte each."""

    argv: Sequence[str]
    status: int
    out: str
    err: str


class Fuzzer:
    """Draws inputs and says what to call with them. Only `draw` has to be written."""

    statuses: frozenset[int] = frozenset({0, 1, 2, 3})
    """Exit statuses that a call may end with."""

    def prepare(self, base: Path, seed: int) -> None:
        """Write into `base` what inputs are made from. The same each time for a seed."""

    def draw(self, rng: random.Random, base: Path, where: Path) -> Sequence[Sequence[str]]:
        """Write one input into the empty folder `where`; returns the calls to make there.

        rng  : seeded with the run's seed and the input's number. Nothing else may decide.
        base : to be read only.
        """
        raise NotImplementedError

    def import_all(self) -> None:
        """Import what the calls need, before memory is limited and files are watched."""
        import matplotlib
        import pyarrow.csv
        import pyarrow.parquet
        import scipy.special  # noqa: F401
        import typer.main

        from analysis.cli import app

        # Built anew for each call, the command line takes longer than most calls do.
        typer.main.get_command = functools.cache(typer.main.get_command)
        commands: Any = typer.main.get_command(app)
        dict(commands.commands)  # a command is imported when it is asked for
        importlib.import_module("analysis.cli.run_summary")
        for room in USED_ROOMS:  # and what it takes from a room, when it is used
            door = importlib.import_module(room)
            for name in door.__all__:
                getattr(door, name)
        pyarrow.array(["the first one"])  # with it a GiB of addresses is reserved, not used
        matplotlib.get_configdir(), matplotlib.get_cachedir()  # made once, where a user has none

    def call(self, argv: Sequence[str]) -> None:
        """Make one call, in this process; ends by returning or by SystemExit."""
        from analysis.cli import main

        sys.argv = ["cwkit", *argv]
        main()

    def judge(self, call: Call) -> str:
        """A complaint of this fuzzer's own about a call that ended in order; "" for none."""
        return ""


def find(name: str) -> Fuzzer:
    """The fuzzer of a name of the registry, or of "module:Class". Raises ValueError."""
    where = REGISTRY.get(name, name)
    module, colon, attribute = where.partition(":")
    if not colon:
        near = difflib.get_close_matches(name, REGISTRY, n=1, cutoff=0.4)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"There is no fuzzer {name!r}.{hint} There are: {', '.join(REGISTRY)}.")
    made: Fuzzer = getattr(importlib.import_module(module), attribute)()
    return made
