"""The files of a trial: a manifest, and a line for each block, written when the block is done.

What was measured is there however the measuring process ends; a line that was cut off is no block.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import numpy as np

from workloads.errors import RunError
from workloads.files import converted, inside, read_bytes, read_versioned, write_json
from workloads.trials import older

MANIFEST, BLOCKS = "trial.json", "blocks.jsonl"
MOST_BLOCKS, MOST_BYTES = 10_000, 2**28

_Ns = Annotated[int, msgspec.Meta(ge=1, le=10**15)]
_Size = Annotated[int, msgspec.Meta(ge=1, le=100_000)]
_Share = Annotated[float, msgspec.Meta(ge=0)]
_Scalar = str | int | float | bool | None


class Foreign(msgspec.Struct):
    """Shares of the machine's CPU time that others used during a block, in [0, 1]."""

    cpu_share: _Share
    steal_share: _Share


class _Check(msgspec.Struct):
    check: str
    ok: bool
    said: str


class _Manifest(msgspec.Struct):
    """The manifest, as far as every trial has it."""

    trial: str
    ended: Literal["running", "done", "failed", "missing"]
    seed: int = 0
    quick: bool = False
    failure: str = ""
    timed: bool = True
    arms: dict[str, tuple[_Size, _Size]] = {}
    settings: dict[str, Any] = {}
    versions: dict[str, str] = {}
    missing: dict[str, str] = {}
    checks: list[_Check] = []


class _Block(msgspec.Struct):
    ns: dict[str, list[list[_Ns]]]
    rows: list[dict[str, _Scalar]]
    foreign: Foreign


@dataclass(frozen=True)
class Measured:
    """A trial's folder, read.

    manifest : {} where nothing was ever measured.
    ns : arm -> int64, shape (blocks, repetitions, numbers).
    rows : what is no time, block for block. foreign : what others used, block for block.
    """

    manifest: Mapping[str, Any]
    ns: Mapping[str, np.ndarray]
    rows: Sequence[Sequence[Mapping[str, Any]]]
    foreign: Sequence[Foreign]

    @property
    def blocks(self) -> int:
        return len(self.foreign)


class Written:
    """A trial's folder while it is measured. manifest : as it is on disk."""

    def __init__(self, folder: Path, manifest: Mapping[str, Any]) -> None:
        self.folder, self.manifest = Path(folder), dict(manifest)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.note()

    def note(self, **more: Any) -> None:
        """Write the manifest with these keys, whole or not at all."""
        self.manifest |= more
        write_json(self.folder / MANIFEST, self.manifest)

    def keep(
        self,
        ns: Mapping[str, np.ndarray],
        rows: Sequence[Mapping[str, Any]],
        foreign: Mapping[str, float],
    ) -> None:
        """Add a block. ns : arm -> shape (repetitions, numbers)."""
        shares = {name: float(foreign[name]) for name in ("cpu_share", "steal_share")}
        block = {"ns": {arm: each.tolist() for arm, each in ns.items()}, "rows": list(rows),
                 "foreign": shares}  # fmt: skip
        with (self.folder / BLOCKS).open("ab") as file:
            file.write(msgspec.json.encode(block) + b"\n")
            file.flush()
            os.fsync(file.fileno())


def set_aside(folder: Path) -> None:
    """Move the folder aside, to FOLDER.1 and so on: no measurement is written over."""
    number = 1
    while (aside := folder.with_name(f"{folder.name}.{number}")).exists():
        number += 1
    folder.replace(aside)


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest, {} where there is none. Raises RunError where it is cut or of a later cwkit."""
    path = inside(folder, MANIFEST)
    try:
        manifest: dict[str, Any] = read_versioned(path)
    except FileNotFoundError:
        return older.read_manifest(folder)
    converted(path, manifest, _Manifest)
    return manifest


def read(folder: Path) -> Measured:
    """A trial's measurements, in whole blocks; without blocks where nothing was measured.

    Reads the folders of older reports too. Raises RunError where a file is cut or edited.
    """
    folder = Path(folder)
    manifest = read_manifest(folder)
    if not (folder / MANIFEST).exists():
        ns, rows, shares = older.blocks(folder, manifest)
        return Measured(manifest, ns, rows, [Foreign(**each) for each in shares])
    path = inside(folder, BLOCKS)
    try:
        text = read_bytes(path, MOST_BYTES)
    except FileNotFoundError:
        text = b""
    *lines, cut = text.split(b"\n")
    if len(lines) > MOST_BLOCKS:
        raise RunError(f"{path}: more than {MOST_BLOCKS:,} blocks. It was edited.")
    if cut and manifest["ended"] == "done":
        raise RunError(f"{path}: its last line has no end. It was cut.")
    blocks = [_block(path, number, line) for number, line in enumerate(lines, 1)]
    arms = {arm: tuple(shape) for arm, shape in manifest.get("arms", {}).items()}
    ns = {}
    for arm, shape in arms.items():
        ns[arm] = np.zeros((len(blocks), *shape), np.int64)
        for number, block in enumerate(blocks):
            ns[arm][number] = _shaped(path, number + 1, arm, shape, block)
    return Measured(manifest, ns, [each.rows for each in blocks], [each.foreign for each in blocks])


def _block(path: Path, number: int, line: bytes) -> _Block:
    try:
        return msgspec.json.decode(line, type=_Block)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RunError(f"{path} line {number}: {error}. It was cut or edited.") from error


def _shaped(
    path: Path, number: int, arm: str, shape: tuple[int, ...], block: _Block
) -> list[list[int]]:
    """An arm's numbers of a block. Raises RunError where they have not the shape of the manifest.

    The shape is compared before anything is allocated for it.
    """
    numbers = block.ns.get(arm, [])
    if len(numbers) != shape[0] or any(len(each) != shape[1] for each in numbers):
        raise RunError(f"{path} line {number}: `{arm}` has not the shape that {MANIFEST} tells. "
                       "It was cut or edited.")  # fmt: skip
    return numbers
