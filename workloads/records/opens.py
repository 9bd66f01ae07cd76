"""The connections that a worker opened and closed in a run, or borrowed: `worker-000.opens`.

Only workers that do not keep their connection, or start cold, have this file. Its rows are OPEN_ROW
as they lie in memory, one after the other, in the order of the worker's attempts. A worker that is
killed loses the last of them; a row cut short is dropped.
"""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np

from workloads.errors import RunError
from workloads.files import inside, read_bytes

OPEN_ROW = np.dtype(
    [
        ("start_ns", "<i8"),  # on the run's clock
        ("opened_ns", "<i8"),  # it was open, with its PRAGMAs; or it was borrowed
        ("close_ns", "<i8"),  # when closing began; 0: it was not closed
        ("closed_ns", "<i8"),
        ("how", "<i8"),  # the flags below
    ]
)
BORROWED, FIRST, RECOVERY, LAST, COLD, SCHEMA = 1, 2, 4, 8, 16, 32
"""Flags. FIRST: no worker was connected when opening began. RECOVERY: and a log lay there, which it
had to read. LAST: no other worker was connected when closing began: it checkpoints, and the log
goes. COLD: the file did not exist when all workers began to open it; SCHEMA: and this is what its
schema took. FIRST and LAST are looked at, not locked: workers that act in the same moments may both
be the first."""

MOST_BYTES = 1 << 31


class OpenRecorder:
    """Writes a worker's rows. full : why one could not be written, None where all could."""

    def __init__(self, folder: Path, worker: int) -> None:
        self._file = path_of_opens(folder, worker).open("wb", buffering=1 << 16)
        self.full: OSError | None = None

    def add(self, *row: int) -> None:
        try:
            self._file.write(struct.pack("<qqqqq", *row))
        except OSError as error:
            self.full = error

    def close(self) -> None:
        try:
            self._file.close()
        except OSError as error:
            self.full = error


def path_of_opens(folder: Path, worker: int) -> Path:
    return Path(folder) / f"worker-{worker:03d}.opens"


def read_opens(folder: Path, worker: int) -> np.ndarray:
    """OPEN_ROW array in the order of the worker's attempts; empty where it kept its connection.

    Raises RunError where the file is none of ours.
    """
    path = inside(folder, path_of_opens(folder, worker).name)
    try:
        data = read_bytes(path, MOST_BYTES)
    except FileNotFoundError:
        return np.zeros(0, OPEN_ROW)
    found: np.ndarray = np.frombuffer(data[: len(data) // OPEN_ROW.itemsize * OPEN_ROW.itemsize],
                                      OPEN_ROW)  # fmt: skip
    closed = found["close_ns"] > 0
    forward = (found["start_ns"] > 0) & (found["opened_ns"] >= found["start_ns"])
    forward &= ~closed | (found["close_ns"] >= found["opened_ns"])
    forward &= ~closed | (found["closed_ns"] >= found["close_ns"])
    if not forward.all() or (found["closed_ns"] >= 1 << 62).any():
        raise RunError(
            f"{path}: holds no openings and closings in order of time. It was cut or edited. "
            "Remove it: the rest of the run is read without it."
        )
    return found
