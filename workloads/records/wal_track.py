"""A run's write-ahead log along its time, as its parent saw it: `wal.npy` in its folder.

Rows of WAL_LOOK, one for each look: `numpy.load` reads it. Older runs have none, nor have runs
whose parent was killed, or whose engine keeps no such log.
"""

from __future__ import annotations

import contextlib
import io
from pathlib import Path

import numpy as np
from numpy.lib import format as npy

from workloads.errors import RunError
from workloads.files import inside, read_bytes, replacing

WAL_TRACK = "wal.npy"

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

LONGEST_HEADER = 4_000
"""Bytes of the file's header; ours has 200."""


def write_wal_track(folder: Path, looks: np.ndarray) -> None:
    """Keep the looks. A disk without room for them loses them, and nothing else."""
    if len(looks):
        with contextlib.suppress(OSError), replacing(Path(folder) / WAL_TRACK) as file:
            np.save(file, looks.astype(WAL_LOOK), allow_pickle=False)


def read_wal_track(folder: Path) -> np.ndarray:
    """The looks in order of time, WAL_LOOK array; empty where none were kept.

    Raises RunError where the file is none of ours.
    """
    path = inside(folder, WAL_TRACK)
    try:
        data = read_bytes(path, LONGEST_HEADER + MOST_LOOKS * WAL_LOOK.itemsize)
    except FileNotFoundError:
        return np.zeros(0, WAL_LOOK)
    looks = _looks(data)
    if looks is None or (np.diff(looks["at_ns"]) < 0).any() or (looks["bytes"] < 0).any():
        raise RunError(
            f"{path}: holds no looks at a log in order of time. It was cut or edited. Remove it: "
            "the rest of the run is read without it."
        )
    return looks


def _looks(data: bytes) -> np.ndarray | None:
    """The rows of such a file; None where it is none. No array is made that is not in it."""
    file = io.BytesIO(data)
    try:
        if npy.read_magic(file) != (1, 0):
            return None
        shape, _, kind = npy.read_array_header_1_0(file, max_header_size=LONGEST_HEADER)
    except Exception:  # whatever a Python literal of somebody's can end in
        return None
    rest = data[file.tell() :]
    if kind != WAL_LOOK or shape != (len(rest) // WAL_LOOK.itemsize,) or len(rest) % kind.itemsize:
        return None
    found: np.ndarray = np.frombuffer(rest, WAL_LOOK)
    return found
