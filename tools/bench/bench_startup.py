"""The cost of starting `cwkit`: CPU time against `python -c 'import numpy'`, about ten seconds.

User and system time of processes that are started in turn, ten times each: the machine is as busy
for one as for the other. The least of ten is compared, for what others do only adds to it.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

TIMES = 10
TARGET = 3.0
NUMPY = "python -c 'import numpy'"


def cpu_s(command: list[str]) -> float:
    """User and system time of one process, s."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def some_runs(folder: Path) -> None:
    """Runs and an experiment, for `cwkit list` to list."""
    from analysis.synthetic import drawn_run, write_folder
    from workloads.experiments import Design, begin

    for seed in range(5):
        made = drawn_run(seed, per_s=80, seconds=0.3, writers=1, engine="null")
        write_folder(made, folder / f"run-{seed}")
    begin(Design("tiny", "How many?", {"null": {"database": "null"}}, 1, 1), folder / "tiny")


def main() -> int:
    """Measure in turn, print a table; 1 where a target is missed."""
    with tempfile.TemporaryDirectory() as made:
        some_runs(Path(made))
        cwkit = [sys.executable, "-m", "analysis.cli"]
        commands = {
            NUMPY: [sys.executable, "-c", "import numpy"],
            "cwkit --help": [*cwkit, "--help"],
            "cwkit list": [*cwkit, "list", "--runs", made],
        }
        taken: dict[str, list[float]] = {name: [] for name in commands}
        for _ in range(TIMES):
            for name, command in commands.items():
                taken[name].append(cpu_s(command))
    least = {name: min(values) for name, values in taken.items()}
    print(f"{'command':<26} {'CPU ms':>7} {'ratio':>6} {'target':>7}")
    missed = 0
    for name, seconds in least.items():
        ratio = seconds / least[NUMPY]
        missed += ratio > TARGET
        print(f"{name:<26} {seconds * 1e3:7.0f} {ratio:6.2f} {TARGET:7.1f}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
