"""What a run costs beside what it measures: forked from a preloaded process, and by exec.

A run is loaded, has two writers for a tenth of a second, and is checked: four processes. Its
overhead is the CPU time, and the time, that it takes beyond that tenth. The two ways run in turn,
so that the machine's drift meets both; a ratio is the median over blocks with a 95 % bootstrap
interval. The same for `cwkit engines`, a command with everything it starts. It needs nine
processes, and the preloaded one, which is started for these alone, costs half of what is left.
"""

from __future__ import annotations

import contextlib
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from workloads.processes import StartMethod
from workloads.runs import Progress, make_plan, run

BLOCKS = 12
WRITERS, DURATION_S = 2, 0.1
TARGETS = {"run, time": 0.5, "run, CPU time": 0.5, "cwkit engines, CPU time": 0.8}


def children_of_kind(module: str) -> list[psutil.Process]:
    """Our children that run this module."""
    found = []
    for child in psutil.Process().children():
        with contextlib.suppress(psutil.Error):  # one that has just ended
            if module in " ".join(child.cmdline()):
                found.append(child)
    return found


def used_s() -> float:
    """CPU time of this process, of its children that have ended, and of what forks them, s."""
    mine, theirs = (
        resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )
    forking = 0.0
    for child in children_of_kind("workloads.processes.preloaded"):
        forking += sum(child.cpu_times()[:4])  # with those between, which it has reaped
    return mine.ru_utime + mine.ru_stime + theirs.ru_utime + theirs.ru_stime + forking


def a_run(method: StartMethod, folder: Path) -> tuple[float, float, float]:
    """Time and CPU time beyond what is measured, s, and a writer's own memory, MB."""
    memory: list[float] = []

    def look(progress: Progress) -> None:
        if progress.phase == "measuring" and not memory:
            for child in children_of_kind("workloads.runs.worker"):
                memory.append(child.memory_full_info().uss / 1e6)

    plan = make_plan(writers=WRITERS, duration_s=DURATION_S, warmup_s=0, start=method)
    begun, used = time.monotonic(), used_s()
    made = run(plan, folder, on_progress=look)
    assert made.manifest.ok
    # Two writers that are never idle take twice the window.
    worked = sum(worker.cpu_s or 0.0 for worker in made.manifest.workers)
    beyond = time.monotonic() - begun - DURATION_S, used_s() - used - worked
    return *beyond, float(np.median(memory)) if memory else float("nan")


def engines(method: StartMethod) -> float:
    """CPU time of `cwkit engines` and all that it starts, s."""
    used = used_s()
    command = [sys.executable, "-c", ENGINES.format(method=method)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return used_s() - used


ENGINES = """
import os, sys
os.environ["CWKIT_START"] = "{method}"
sys.argv[1:] = ["engines"]
from analysis.cli import main
main()
"""


def interval(ratios: np.ndarray) -> tuple[float, float, float]:
    """The median and its 95 % bootstrap interval."""
    rng = np.random.default_rng(1)
    medians = np.median(rng.choice(ratios, (4000, len(ratios))), axis=1)
    low, high = np.quantile(medians, [0.025, 0.975])
    return float(np.median(ratios)), float(low), float(high)


def in_turn(blocks: int, measure: Callable[[StartMethod], list[float]]) -> dict[str, np.ndarray]:
    """Method -> a row of measures for each block; who comes first changes from block to block."""
    taken: dict[str, list[list[float]]] = {"fork": [], "exec": []}
    methods: tuple[StartMethod, StartMethod] = ("fork", "exec")
    for block in range(blocks):
        for method in methods if block % 2 else methods[::-1]:
            taken[method].append(measure(method))
    return {method: np.array(rows) for method, rows in taken.items()}


def main() -> int:
    """Measure in turn, print a table; 1 where a target is missed."""
    missed = 0

    def line(name: str, unit: str, forked: np.ndarray, execed: np.ndarray) -> None:
        nonlocal missed
        ratio, low, high = interval(forked / execed)
        target = TARGETS.get(name)
        missed += target is not None and low > target
        print(
            f"{name:<26} fork {np.median(forked):8.3f} {unit:<3} exec {np.median(execed):8.3f} "
            f"{unit:<3} ratio {ratio:5.2f} [{low:.2f}, {high:.2f}]"
            + (f"  target {target}" if target else "")
        )

    with tempfile.TemporaryDirectory() as made:
        a_run("fork", Path(made))  # the preloaded process is started once for many runs
        runs = in_turn(BLOCKS, lambda method: list(a_run(method, Path(made))))
    print(f"beside what is measured; {BLOCKS} blocks, in turn")
    for column, (name, unit) in enumerate(
        (("run, time", "s"), ("run, CPU time", "s"), ("a writer's own memory", "MB"))
    ):
        line(name, unit, runs["fork"][:, column], runs["exec"][:, column])
    asked = in_turn(max(BLOCKS // 4, 3), lambda method: [engines(method)])
    line("cwkit engines, CPU time", "s", asked["fork"][:, 0], asked["exec"][:, 0])
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
