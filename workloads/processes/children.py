"""Child processes: started, waited for with a limit, ended by their id, gone with their parent."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from workloads.processes.last_words import gist, read_last_words

POLL_S = 0.1


_PR_SET_PDEATHSIG = 1


_prctl = ctypes.CDLL(None, use_errno=True).prctl  # looked up before any fork, not after


@dataclass
class ChildProcess:
    """A process we started: which workers it carries, and where its last words go."""

    name: str
    process: subprocess.Popen[bytes]
    stderr: Path
    workers: tuple[int, ...] = ()


def die_with_parent(parent: int) -> None:
    """Have the kernel kill this process when `parent`, which started it, is gone.

    Ends it at once where that has happened already. It holds whatever this process is busy with,
    which a watching thread would not: the libSQL binding keeps the interpreter while it waits. The
    kernel takes the end of the thread that started this process for the end of its parent.
    """
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(3)


def wait(host: ChildProcess, limit_s: float, tell: Callable[[float], None]) -> int | None:
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


def ended_words(host: ChildProcess) -> str:
    """How a process ended, and what its last words come to."""
    return f"{status_words(host.process.returncode)}: {gist(read_last_words(host.stderr))}".rstrip(
        ": "
    )
