"""The trial `replica` as earlier versions kept it: served.json, and a mapped array for each arm.

Nothing writes it any more. It is read into what `workloads.trials.files` reads.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import numpy as np

from workloads.errors import RunError
from workloads.files import converted, opened, read_versioned

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
MOST_BLOCKS = 10_000

_Count = Annotated[int, msgspec.Meta(ge=0, le=10**15)]
_Share = Annotated[float, msgspec.Meta(ge=0)]


class _Head(msgspec.Struct):
    """The manifest, as far as an attempt that measured nothing has it."""

    ended: Literal["running", "done", "failed", "missing"]
    seed: int = 0
    failure: str = ""
    blocks_done: Annotated[int, msgspec.Meta(ge=0, le=MOST_BLOCKS)] = 0


class _Foreign(msgspec.Struct):
    cpu_share: _Share
    steal_share: _Share


class _Settings(msgspec.Struct):
    sync_interval_s: _Share
    pause_beside_s: _Share
    network: str
    rows: _Count


class _Versions(msgspec.Struct):
    sqld: str
    binding: str


class _Durable(msgspec.Struct):
    synchronous: int | str


class _Durabilities(msgspec.Struct):
    local: _Durable
    server: _Durable


class _Check(msgspec.Struct, rename={"sentence": "said"}):
    check: str
    ok: bool
    sentence: str


class _Whole(_Head, kw_only=True):
    """The manifest of something that was measured, as far as it is read."""

    arms: list[str]
    foreign: list[_Foreign]
    settings: _Settings
    versions: _Versions
    pragmas: _Durabilities
    first_copy_ns: _Count
    replica_bytes: _Count
    database_bytes: _Count
    checks: list[_Check]


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest, {} where there is none. Raises RunError where it is cut or of a later cwkit."""
    path = Path(folder) / MANIFEST
    try:
        manifest: dict[str, Any] = read_versioned(path)
    except FileNotFoundError:
        return {}
    head: _Head = converted(path, manifest, _Head)
    if head.blocks_done:
        whole: _Whole = converted(path, manifest, _Whole)
        if set(whole.arms) != set(ARMS):
            raise RunError(f"{path}: `arms` are not those of this version. Measure it anew.")
    return manifest | {"trial": "replica", "arms": ARMS if head.blocks_done else {}}


def blocks(
    folder: Path, manifest: Mapping[str, Any]
) -> tuple[dict[str, np.ndarray], list[list[dict[str, Any]]], list[dict[str, float]]]:
    """The whole blocks: (arm -> shape (blocks, repetitions, numbers), rows, what others used).

    Raises RunError where a file is missing, cut or of another shape.
    """
    done = int(manifest.get("blocks_done", 0))
    if not done:
        return {}, [], []
    ns = {arm: _array(folder, arm, np.dtype(np.int64), done, shape) for arm, shape in ARMS.items()}
    age = _array(folder, "age", AGE, done, (TRIALS,))
    if len(manifest["foreign"]) < done or any(not (each > 0).all() for each in ns.values()):
        raise RunError(f"{folder}: an array has not the blocks that the manifest tells of. It was "
                       "cut or edited.")  # fmt: skip
    rows = [[_age(each) for each in block] for block in age]
    shares = [
        {name: float(each[name]) for name in ("cpu_share", "steal_share")}
        for each in manifest["foreign"][:done]
    ]
    return ns, rows, shares


def _age(one: np.void) -> dict[str, Any]:
    seen = {name: bool(one[name]) for name in ("seen_unasked", "seen_after_sync", "own_seen")}
    return {"waited_ns": int(one["waited_ns"])} | seen


def _array(
    folder: Path, name: str, dtype: np.dtype, blocks: int, shape: tuple[int, ...]
) -> np.ndarray:
    """The whole blocks of an array. Raises RunError where it is missing or another one."""
    path = folder / f"{name}.npy"
    try:
        with opened(path):  # a file, and no pipe
            mapped = np.load(path, mmap_mode="r")  # what a header promises is not allocated
    except (OSError, ValueError) as error:
        raise RunError(f"{path}: cut or edited ({type(error).__name__}: {error}).") from error
    if mapped.dtype != dtype or mapped.shape[1:] != shape or len(mapped) < blocks:
        raise RunError(f"{path}: cut or edited (it has another shape).")
    return np.array(mapped[:blocks])
