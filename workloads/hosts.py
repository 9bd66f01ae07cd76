"""The processes of a run: started, waited for with a limit, and ended; what can go wrong with them.

Errors here are for the user, of one sentence with the way out.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from workloads.last_words import gist, path_of, read

ROOT = Path(__file__).resolve().parent.parent
POLL_S = 0.1
TEMPORARY = "tmp"
"""In the temporary folder of a run: what its processes, or their engines, leave there."""
_PR_SET_PDEATHSIG = 1
_prctl = ctypes.CDLL(None, use_errno=True).prctl  # looked up before any fork, not after


class RunFailed(RuntimeError):
    """A run that could not be made; nothing was measured. The text is for the user.

    said : what the process that failed wrote to its standard error.
    """

    def __init__(self, sentence: str, said: str = "") -> None:
        super().__init__(sentence)
        self.said = said


class ModeRefused(RunFailed):
    """An engine refused the BEGIN mode asked for. `words` are the engine's own."""

    def __init__(self, engine: str, mode: str, words: str) -> None:
        super().__init__(
            f"{engine} refuses BEGIN {mode.upper()}: {words}. "
            "`cwkit engines` shows which engine accepts which mode."
        )
        self.engine, self.mode, self.words = engine, mode, words


class FolderUnwritable(RunFailed):
    """The runs' folder or the databases' folder cannot be written, or its disk is full."""


class TooLong(RunFailed):
    """Loading or checking came to its limit."""


@dataclass
class Progress:
    """What is known while a run goes on. Counts are since the start, warm-up included."""

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

    def told(self) -> str:
        """The step of loading or checking in words, "" where nothing is known of it.

        >>> Progress("loading", step="loading rows", done=1_500, of=4_000).told()
        'loading rows, 1,500 of 4,000'
        """
        if not self.done:
            return self.step
        # A check may replay some of them twice.
        return f"{self.step}, {self.done:,}" + (f" of {self.of:,}" if self.done <= self.of else "")


OnProgress = Callable[[Progress], None]

LEAST_S = POLL_S / 2
"""The shortest time over which a rate is told."""


def per_s(count: int, elapsed_s: float) -> float | None:
    """How many a second, None where hardly any time has passed: 124 commits in a run's first
    instant are no 124,000,000,000 a second.

    >>> per_s(124, 1e-9), per_s(124, 0.1)
    (None, 1240.0)
    """
    return count / elapsed_s if elapsed_s >= LEAST_S else None


@dataclass
class Host:
    """A process we started: which workers it carries, and where its last words go."""

    name: str
    process: subprocess.Popen[bytes]
    stderr: Path
    workers: tuple[int, ...] = ()


def start(
    home: Path,
    name: str,
    *words: str,
    into: Path,
    workers: tuple[int, ...] = (),
    inherit: tuple[int, ...] = (),
) -> Host:
    """Start a process of `workloads.worker` for the run whose job lies in `home`.

    into : the folder for what it writes to its standard error.
    """
    stderr = path_of(into, name)
    environment = dict(os.environ)
    environment["PYTHONPATH"] = os.pathsep.join(
        part for part in (str(ROOT), environment.get("PYTHONPATH", "")) if part
    )
    # A worker multiplies no matrices: numpy's pool of threads would only cost its start.
    environment |= {"OPENBLAS_NUM_THREADS": "1", "PYDANTIC_DISABLE_PLUGINS": "__all__"}
    # Turso makes a temporary database for each connection, and a killed process removes nothing:
    # what is left goes with the run.
    environment["TMPDIR"] = str(home / TEMPORARY)
    (home / TEMPORARY).mkdir(exist_ok=True)
    with stderr.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "workloads.worker", str(home / "job.json"), *words],
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            env=environment,
            process_group=0,  # Ctrl-C reaches the parent alone, which ends the run in order
            pass_fds=inherit,
        )
    return Host(name, process, stderr, workers)


def die_with(parent: int) -> None:
    """Have the kernel kill this process when `parent`, which started it, is gone.

    Ends it at once where that has happened already. It holds whatever this process is busy with,
    which a watching thread would not: the libSQL binding keeps the interpreter while it waits. The
    kernel takes the end of the thread that started this process for the end of its parent.
    """
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(3)


def wait(host: Host, limit_s: float, tell: Callable[[float], None]) -> int | None:
    """Wait for a process and return its status, None where it had to be ended at the limit.

    tell : called meanwhile with the seconds waited.
    """
    begun = time.monotonic()
    while host.process.poll() is None:
        elapsed = time.monotonic() - begun
        if elapsed > limit_s:
            end(host.process)
            return None
        tell(elapsed)
        with contextlib.suppress(subprocess.TimeoutExpired):
            host.process.wait(POLL_S)
    return host.process.returncode


def end(process: subprocess.Popen[bytes]) -> None:
    """End a process that we started: asked first, then made to."""
    process.terminate()
    try:
        process.wait(2)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(10)


def status_words(code: int) -> str:
    """How a process ended, for people.

    >>> status_words(-11), status_words(3)
    ('signal 11 (SIGSEGV)', 'exit status 3')
    """
    if code >= 0:
        return f"exit status {code}"
    known = -code in {number.value for number in signal.Signals}
    return f"signal {-code} ({signal.Signals(-code).name})" if known else f"signal {-code}"


def ended_words(host: Host) -> str:
    """How a process ended, and what its last words come to."""
    return f"{status_words(host.process.returncode)}: {gist(read(host.stderr))}".rstrip(": ")
