"""A limit for steps in this process: a driver's call that never returns must not hang a suite.

No thread can do it: a driver may hold the interpreter's lock while it waits. So another process
looks at shared memory in which this one notes what it is about; where that stays the same for too
long, it prints the note and ends this process (SIGABRT, on which pytest's faulthandler shows where
it stood).

    with watched("Schedule(…)"):
        …

`python -m workloads.watchdog FD PID` is started here and by nobody else, once a process, and ends
with it.
"""

from __future__ import annotations

import atexit
import mmap
import os
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import AbstractContextManager
from pathlib import Path
from struct import Struct

LIMIT_S = 60.0
"""For one schedule or one step. Nothing waits for a lock there, so this is a hang."""

POLL_S = 0.25
_HEAD = Struct("<qd")  # number of what is under way (0: nothing), its limit in s
_SIZE = 1 << 16
_memory: mmap.mmap | None = None
_number = 0


def start() -> None:
    """Start the watching process, once. What it says goes to the standard error of this moment."""
    global _memory
    if _memory is not None:
        return
    with tempfile.TemporaryFile() as file:
        file.truncate(_SIZE)
        _memory = mmap.mmap(file.fileno(), _SIZE)
        root = str(Path(__file__).resolve().parents[1])
        process = subprocess.Popen(
            [sys.executable, "-m", "workloads.watchdog", str(file.fileno()), str(os.getpid())],
            pass_fds=[file.fileno()],
            env={**os.environ, "PYTHONPATH": os.pathsep.join([root, *sys.path[1:]])},
            stdin=subprocess.DEVNULL,
        )
    atexit.register(_end, process)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()


class watched(AbstractContextManager[None]):  # noqa: N801 - used as `with watched(…)`; a generator would cost twice as much
    """The body has LIMIT_S; after that `note` is printed and this process ends. Does not nest."""

    def __init__(self, note: str) -> None:
        self.note = note

    def __enter__(self) -> None:
        global _number
        if _memory is None:
            start()
        assert _memory is not None
        text = self.note.encode()[: _SIZE - _HEAD.size - 1] + b"\0"
        _memory[_HEAD.size : _HEAD.size + len(text)] = text
        _number += 1
        _HEAD.pack_into(_memory, 0, _number, LIMIT_S)

    def __exit__(self, *_: object) -> None:
        assert _memory is not None
        _HEAD.pack_into(_memory, 0, 0, 0.0)


def watch(memory: mmap.mmap, parent: int) -> None:
    """In the watching process: until the watched one is gone, or has to go."""
    before, waited = 0, 0.0
    while os.getppid() == parent:
        number, limit = _HEAD.unpack_from(memory, 0)
        # Counted in looks and not by the clock: both may have been stopped (Ctrl-Z) meanwhile.
        waited = waited + POLL_S if number and number == before else 0.0
        before = number
        if waited > limit > 0:
            note = memory[_HEAD.size :].partition(b"\0")[0].decode(errors="replace")
            print(
                f"\nA driver's call has not returned in {limit:g} s; process {parent} is ended. "
                f"It was at:\n{note}",
                file=sys.stderr,
                flush=True,
            )
            for way in (signal.SIGABRT, signal.SIGKILL):
                if os.getppid() == parent:
                    os.kill(parent, way)
                    time.sleep(2)
            return
        time.sleep(POLL_S)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; it ends with us
    watch(mmap.mmap(int(sys.argv[1]), _SIZE), int(sys.argv[2]))
