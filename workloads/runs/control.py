"""The control block: the few numbers that the processes of one run share, in shared memory.

The numbers are the gate, the stop, how far each worker is, and the scenario's own. They lie in one
memory-mapped file of aligned int64. Nobody locks it: each number has one writer (the stop may have
several, which all write the same), so a worker that dies holds nothing that another needs. At a
multiprocessing.Barrier the others would wait for the dead.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

STATE, START_NS, MEASURE_NS, STOP_NS, STEP, DONE, OF = range(7)
WAIT, GO, STOP = range(3)  # values of STATE
STARTING, READY, RUNNING, FINISHED, NOT_OPENED, REFUSED, BROKEN = range(7)
NOT_RECORDED, MISTAKEN, DIED = range(7, 10)

STEPS = (
    "",
    "asking the engines for their modes",
    "loading rows",
    "running statements",
    "reading the file's layout",
    "integrity_check",
    "merging the history",
    "checking the invariant",
)
"""The steps of a process that loads or checks: values of STEP."""
ASKING, ROWS, STATEMENTS, LAYOUT, INTEGRITY, HISTORY, INVARIANT = range(1, 8)

HEADER = 16
LINE = 8  # int64 in a cache line: two workers never write the same one


class ControlBlock:
    """`numbers` is an int64 memoryview: header, a status line and a scenario line a worker."""

    def __init__(self, path: Path, workers: int, *, create: bool = False) -> None:
        self.path, self.workers = Path(path), workers
        slots = HEADER + 2 * LINE * workers
        if create:
            self.path.write_bytes(bytes(8 * slots))
        self._array = np.memmap(self.path, mode="r+", dtype="<i8", shape=(slots,))
        self.numbers = self._array.data

    def scenario(self) -> memoryview:
        """The scenario's part: `[8 * worker + slot]`."""
        return self.numbers[HEADER + LINE * self.workers :]

    def status(self, worker: int) -> int:
        return int(self.numbers[HEADER + LINE * worker])

    def set_status(self, worker: int, status: int) -> None:
        self.numbers[HEADER + LINE * worker] = status

    def set_connected(self, worker: int, connected: int) -> None:
        """Say whether a worker that opens a connection for each attempt has one."""
        self.numbers[HEADER + LINE * worker + 1] = connected

    def connected_beside(self, worker: int) -> int:
        """How many of the other such workers have one at this moment."""
        each = self._array[HEADER + 1 : HEADER + LINE * self.workers : LINE]
        return int(each.sum()) - int(each[worker])

    def at(self, step: int, of: int = 0) -> None:
        """Announce the next step of this process, which loads or checks.

        of : how many items the step has, 0 where nobody knows. `numbers[DONE]` counts those done.
        """
        self.numbers[DONE], self.numbers[OF], self.numbers[STEP] = 0, of, step

    def stop(self) -> None:
        self.numbers[STATE] = STOP

    def stopping(self) -> bool:
        return self.numbers[STATE] == STOP
