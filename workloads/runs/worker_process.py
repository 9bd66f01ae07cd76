"""A worker's process is started here. `Progress` is what a run reports while it goes on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from workloads.processes import POLL_S, ChildProcess, StartMethod, path_of, python
from workloads.processes import start as start_child

TEMPORARY = "tmp"
"""In the temporary folder of a run: what its processes, or their engines, leave there."""


@dataclass
class Progress:
    """A run's progress while it goes on. Counts are since the start, warm-up included."""

    phase: str  # "loading", "starting", "warm-up", "measuring", "ending", "checking"
    elapsed_s: float = 0.0
    left_s: float = 0.0
    committed: int = 0
    conflicts: int = 0
    failed: int = 0
    rate: float | None = None  # commits a second since the last report; None: too soon to say
    alive: int = 0
    workers: int = 0
    step: str = ""  # of loading and checking: what is done just now
    done: int = 0  # rows, statements or transactions of that step
    of: int = 0  # how many there are; 0: nobody knows, or they are not counted

    def describe(self) -> str:
        """The step of loading or checking as text, "" where nothing is known of it.

        >>> Progress("loading", step="loading rows", done=1_500, of=4_000).describe()
        'loading rows, 1,500 of 4,000'
        """
        if not self.done:
            return self.step
        # A check may replay some of them twice.
        return f"{self.step}, {self.done:,}" + (f" of {self.of:,}" if self.done <= self.of else "")


OnProgress = Callable[[Progress], None]

LEAST_S = POLL_S / 2
"""The shortest time over which a rate is computed."""


def per_s(count: int, elapsed_s: float) -> float | None:
    """How many a second, None where hardly any time has passed: 124 commits in a run's first
    instant are no 124,000,000,000 a second.

    >>> per_s(124, 1e-9), per_s(124, 0.1)
    (None, 1240.0)
    """
    return count / elapsed_s if elapsed_s >= LEAST_S else None


def start(
    home: Path,
    name: str,
    *argv: str,
    into: Path,
    method: StartMethod,
    workers: tuple[int, ...] = (),
    inherit: tuple[int, ...] = (),
    environment: Mapping[str, str] | None = None,
) -> ChildProcess:
    """Start a process of `workloads.runs.worker` for the run whose job lies in `home`.

    into : the folder for what it writes to its standard error.
    """
    (home / TEMPORARY).mkdir(exist_ok=True)
    return start_child(
        name,
        python("workloads.runs.worker", str(home / "job.json"), *argv),
        last_words=path_of(into, name),
        # Turso makes a temporary database for each connection, and a killed process removes
        # nothing: what is left goes with the run.
        environment={"TMPDIR": str(home / TEMPORARY), **(environment or {})},
        inherit=inherit,
        workers=workers,
        method=method,
    )
