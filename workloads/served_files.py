"""The files of what was measured beside libSQL's server: a manifest, and an array for each arm.

Arrays are mapped files that are made before anything is measured: what was written into them is
there however the measuring process ends. `blocks_done` of the manifest says how many blocks are
whole.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.format import open_memmap

from workloads.files import write_json
from workloads.recording import FORMAT_VERSION, RunError

MANIFEST = "served.json"

ARMS: dict[str, tuple[int, int]] = {
    "hop": (200, 1),
    "read-local": (400, 1),
    "read-local-again": (400, 1),
    "read-replica": (400, 1),
    "read-remote": (60, 1),
    "write-local": (100, 1),
    "write-replica": (12, 1),
    "write-remote": (40, 1),
    "transaction-local": (100, 4),
    "transaction-replica": (6, 4),
    "transaction-remote": (20, 4),
    "sync-idle": (30, 1),
    "sync-one": (12, 1),
    "read-local-written": (200, 1),
    "read-replica-written": (200, 1),
    "read-replica-syncing": (200, 1),
    "syncing-cpu": (1, 2),
    "lag": (2, 1),
}
"""Name -> (repetitions in a block, numbers of a repetition), int64, ns; 0 is not measured.

hop: 64 bytes to another process and back over loopback TCP, with no database in it. read, write :
one row by its key, autocommit. transaction : BEGIN IMMEDIATE, that read, that write, COMMIT, a
number each. local : a plain file. replica : an embedded replica of the server. remote : the server.
sync-idle, sync-one : `sync()` with nothing to fetch, and with one commit waiting. written : while
another process commits at the server without pause. syncing : the replica fetches by itself as
well. syncing-cpu : CPU time that fetching took, and the wall time, while nothing happened. lag :
from a commit at the server to the first read that sees it at a replica that fetches by itself.
"""

AGE = np.dtype(
    [
        ("waited_ns", np.int64),
        ("seen_unasked", np.uint8),
        ("seen_after_sync", np.uint8),
        ("own_seen", np.uint8),
        ("done", np.uint8),
    ]
)
"""One trial of a replica's age. seen_unasked : it saw the server's commit while it waited, without
`sync()`. own_seen : its own write, at once."""

TRIALS = 3


@dataclass(frozen=True)
class Measured:
    """What is in a folder. said : the manifest. ns : arm -> int64, shape (blocks, repetitions,
    numbers), whole blocks alone. age : shape (blocks, trials), dtype AGE.
    """

    said: Mapping[str, Any]
    ns: Mapping[str, np.ndarray]
    age: np.ndarray

    @property
    def blocks(self) -> int:
        return len(self.age)


def create(folder: Path, blocks: int) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Make the arrays, all 0, and return them: (arm -> array, age)."""
    ns: dict[str, np.ndarray] = {
        arm: open_memmap(folder / f"{arm}.npy", "w+", np.int64, (blocks, *shape))
        for arm, shape in ARMS.items()
    }
    return ns, open_memmap(folder / "age.npy", "w+", AGE, (blocks, TRIALS))


def write(folder: Path, said: Mapping[str, Any]) -> None:
    """Write the manifest, whole or not at all."""
    write_json(folder / MANIFEST, said)


def set_aside(folder: Path) -> None:
    """Move what is there beside, to FOLDER.1 and so on: nothing measured is written over."""
    number = 1
    while (aside := folder.with_name(f"{folder.name}.{number}")).exists():
        number += 1
    folder.replace(aside)


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest, {} where there is none. Raises RunError where it is cut or of a later cwkit."""
    path = Path(folder) / MANIFEST
    if not path.exists():
        return {}
    try:
        said = dict(json.loads(path.read_text(encoding="utf-8")))
        version = int(said["cwkit"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(f"{path}: cut or edited ({type(error).__name__}: {error}).") from error
    if version > FORMAT_VERSION:
        raise RunError(f"{path}: written by a later cwkit (format {version}). Update cwkit.")
    return said


def read(folder: Path) -> Measured:
    """Everything that was measured, in whole blocks; none where nothing was.

    Raises RunError where a file is missing, cut or of another shape.
    """
    folder = Path(folder)
    said = read_manifest(folder)
    try:
        blocks = int(said.get("blocks_done", 0))
        if not blocks:
            return Measured(said, {}, np.zeros((0, TRIALS), AGE))
        ns = {arm: np.load(folder / f"{arm}.npy")[:blocks] for arm in said["arms"]}
        age = np.load(folder / "age.npy")[:blocks]
        whole = len(age) == blocks and age.dtype == AGE and len(said["foreign"]) >= blocks
        if not whole or any(a.ndim != 3 or len(a) != blocks or not a.all() for a in ns.values()):
            raise ValueError("an array has not the blocks that the manifest tells of")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(f"{folder}: cut or edited ({type(error).__name__}: {error}).") from error
    return Measured(said, ns, age)
