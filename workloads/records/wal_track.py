"""A run's write-ahead log along its time, as its parent saw it: `wal-track.bin` in its folder.

Rows of WAL_LOOK, one for each look, without a header: `numpy.fromfile(path, WAL_LOOK)` reads it.
Older runs have none, nor have runs whose parent was killed, or whose engine keeps no such log.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

import numpy as np

from workloads.errors import RunError
from workloads.files import inside, read_bytes, replacing

WAL_TRACK = "wal-track.bin"

WAL_LOOK = np.dtype(
    [
        ("at_ns", "<i8"),  # on the run's clock
        ("bytes", "<i8"),  # of the log's file; 0: there was none
        ("restarts", "<i8"),  # times that it was seen to begin again, since the first look
        ("frames", "<i4"),  # pages that the log holds, by its index; -1 where that was not readable
        ("copied", "<i4"),  # pages of them that checkpoints have copied back; -1 likewise
    ]
)
MOST_LOOKS = 4096
"""Rows at most: a longer run is looked at less often."""


def write_wal_track(folder: Path, looks: np.ndarray) -> None:
    """Keep the looks. A disk without room for them loses them, and nothing else."""
    if len(looks):
        with contextlib.suppress(OSError), replacing(Path(folder) / WAL_TRACK) as file:
            file.write(looks.astype(WAL_LOOK).tobytes())


def read_wal_track(folder: Path) -> np.ndarray:
    """The looks in order of time, WAL_LOOK array; empty where none were kept.

    Raises RunError where the file is none of ours.
    """
    path = inside(folder, WAL_TRACK)
    try:
        data = read_bytes(path, MOST_LOOKS * WAL_LOOK.itemsize)
    except FileNotFoundError:
        return np.zeros(0, WAL_LOOK)
    if len(data) % WAL_LOOK.itemsize:
        raise RunError(
            f"{path}: holds {len(data)} bytes, which is no whole number of looks at the log "
            f"({WAL_LOOK.itemsize} bytes each). It was cut. Without it the run is read as before: "
            "remove it."
        )
    looks: np.ndarray = np.frombuffer(data, WAL_LOOK)
    if (np.diff(looks["at_ns"]) < 0).any() or (looks["bytes"] < 0).any():
        raise RunError(f"{path}: its looks are not in order of time. It was edited. Remove it.")
    return looks
