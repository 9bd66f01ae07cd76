"""What an experiment asks, and the folder that holds it: its design and the state of each cell.

A cell's state is a file of its own beside its run folder, replaced in one step, because several
processes write into one folder: jobs of a sweep, pytest's workers, other machines. Folders of
before, whose cells stand inside `experiment.json`, are still read.
"""

from __future__ import annotations

import json
import os
import re
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from workloads import recording as rec
from workloads.locks import LOCK_FILE
from workloads.plan import PlanError
from workloads.processes import FolderUnwritable

NOTE = "experiment.json"
DONE, FAILED, REFUSED, MISSING = "done", "failed", "refused", "missing"
STATE_OF_A_CELL = ".cell.json"
EARLIER = "earlier"
"""Folder within an experiment's that keeps what was run again: nothing measured is lost."""

TEMPLATES = ".cwkit-templates"
"""Folder of loaded databases, removed with all that is in it: so by a name that nobody else has."""

LONGEST_NAME = 100


@dataclass(frozen=True)
class Design:
    """What an experiment asks and how: the whole of it is in `experiment.json`.

    arms : name -> values of a Plan. baseline : the arm that ratios are taken against.
    axes : of a grid, name -> its values in order, as they are shown. points : arm -> axis -> value.
    """

    name: str
    question: str
    arms: Mapping[str, Mapping[str, Any]]
    blocks: int = 10
    seed: int = 0
    baseline: str = ""
    axes: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    points: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def order(self) -> list[list[str]]:
        """The arms of each block, in the order they run."""
        generator = np.random.default_rng([self.seed, len(self.arms)])
        names = list(self.arms)
        return [[names[i] for i in generator.permutation(len(names))] for _ in range(self.blocks)]

    def block_seed(self, block: int) -> int:
        """Of every arm in a block, so that they draw the same transactions."""
        return block_seed(self.seed, block)

    def data(self) -> dict[str, Any]:
        """As `experiment.json` has it."""
        return {
            "cwkit": rec.FORMAT_VERSION,
            "experiment": self.name,
            "question": self.question,
            "seed": self.seed,
            "blocks": self.blocks,
            "baseline": self.baseline,
            "arms": {name: dict(values) for name, values in self.arms.items()},
            "axes": {name: list(values) for name, values in self.axes.items()},
            "points": {name: dict(values) for name, values in self.points.items()},
            "order": self.order(),
        }


def block_seed(seed: int, block: int) -> int:
    """The seed of a block's runs, from the experiment's."""
    return int(np.random.SeedSequence([seed, block]).generate_state(1)[0])


@dataclass(frozen=True)
class Cell:
    """One arm in one block: its state, the words where it went wrong, its folder, and how long it
    took with all its processes, loading and checks (0 where that was not kept).
    """

    block: int
    arm: str
    state: str
    words: str
    folder: Path | None
    took_s: float = 0.0

    def read(self) -> rec.Run:
        """The cell's run. Raises RunError."""
        if self.folder is None:
            raise rec.RunError(f"block {self.block}, arm {self.arm!r} has no run: {self.words}")
        return rec.read_run(self.folder)


@dataclass(frozen=True)
class Experiment:
    """An experiment folder, read. `cells` holds only those that were run or refused so far."""

    folder: Path
    name: str
    question: str
    seed: int
    blocks: int
    baseline: str
    arms: dict[str, dict[str, Any]]
    order: list[list[str]]
    cells: dict[tuple[int, str], Cell] = field(default_factory=dict)
    axes: dict[str, list[Any]] = field(default_factory=dict)
    points: dict[str, dict[str, Any]] = field(default_factory=dict)

    def arm(self, name: str) -> Iterator[Cell]:
        """The cells of one arm, by block."""
        for block in range(self.blocks):
            if (block, name) in self.cells:
                yield self.cells[block, name]

    def left(self) -> list[tuple[int, str]]:
        """(block, arm) of the cells that are still to be run, in their order."""
        return [
            (block, arm)
            for block, arms in enumerate(self.order)
            for arm in arms
            if (block, arm) not in self.cells
        ]

    @property
    def complete(self) -> bool:
        return len(self.cells) == self.blocks * len(self.arms)


OnCell = Callable[[Experiment, int, str, str], None]
"""Called before each cell with its block, its arm and "running", after it with its state."""


def cell_name(block: int, arm: str) -> str:
    """The name of a cell's files and of its run: two cells of one experiment never share it.

    >>> cell_name(3, "libsql immediate, writers 4, keys zipfian:0.99")
    'b03-libsql-immediate-writers-4-keys-zipfian-0.99'
    """
    slug = re.sub("[^A-Za-z0-9.=-]+", "-", arm).strip("-").lower()
    if len(slug) > LONGEST_NAME:
        slug = f"{slug[: LONGEST_NAME - 9]}-{zlib.crc32(arm.encode()):08x}"
    return f"b{block:02d}-{slug}"


def byte_of(experiment: Experiment, block: int, arm: str) -> int:
    """The byte of the folder's lock (`locks.locked`) that is held while this cell is run."""
    return 1 + block * len(experiment.arms) + list(experiment.arms).index(arm)


# --- writing ----------------------------------------------------------------------------------


def begin(design: Design, folder: Path) -> None:
    """Make an experiment's folder, or see that the one there asks the same.

    Raises RunError where it holds another experiment, PlanError where two arms would share their
    files, FolderUnwritable where it can't be written.
    """
    asked = json.loads(json.dumps(design.data()))
    names: dict[str, str] = {}
    for arm in design.arms:
        if (other := names.setdefault(cell_name(0, arm), arm)) != arm:
            raise PlanError(
                f"The arms {other!r} and {arm!r} would share their files, for these differ only "
                "in letters and digits. Name one otherwise."
            )
    path = Path(folder) / NOTE
    if path.exists():
        there = asked_alike(design, folder)
        for cell in read_experiment(folder).cells.values():
            if not _state_file(folder, cell.block, cell.arm).exists():
                write_cell(folder, cell)  # of a folder of before
        if there.get("cells"):
            _replace(path, {key: there[key] for key in there if key != "cells"})
        return
    free_or_ours(folder)
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        _replace(path, asked)
    except OSError as error:
        raise unwritable(folder, error) from error


def free_or_ours(folder: Path, note: str = NOTE, what: str = "experiment") -> None:
    """See that a folder is new, empty, or one that a command of the kit has begun.

    note : the file that says what was begun there, `what` what that is in a word. A command that
    was killed before it wrote the note left its lock, its loaded databases, or half the note.
    Raises RunError where anything else is there: runs would be strewn among a user's files.
    """
    folder = Path(folder)
    try:
        there = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    except OSError as error:
        raise unwritable(folder, error) from error
    others = sorted(
        name
        for name in there - {LOCK_FILE, TEMPLATES}
        if not (name.startswith(f"{note}.") and name.endswith(".new"))
    )
    if others and note not in there:
        raise rec.RunError(
            f"{folder}: is not empty (it holds {others[0]!r}) and no {what} was begun there (it "
            f"has no {note}). Give a new or an empty folder with --into, or leave --into out."
        )


def asked_alike(design: Design, folder: Path) -> dict[str, Any]:
    """`experiment.json` of a folder that asks the same. Raises RunError where it asks another."""
    asked = json.loads(json.dumps(design.data()))
    there = {"axes": {}, "points": {}} | _read(folder)
    if differs := [key for key in asked if there.get(key) != asked[key]]:
        raise rec.RunError(
            f"{folder}: holds another experiment (it differs in {', '.join(differs)}). "
            "Give another folder, or the same settings to go on with this one."
        )
    return there


def write_cell(folder: Path, cell: Cell) -> None:
    """Keep a cell's state beside its run folder, in one step."""
    path = _state_file(folder, cell.block, cell.arm)
    said = {
        "cwkit": rec.FORMAT_VERSION,
        "block": cell.block,
        "arm": cell.arm,
        "state": cell.state,
        "words": cell.words,
        "run": cell.folder.name if cell.folder else "",
        "took_s": round(cell.took_s, 3),
    }
    try:
        _replace(path, said)
    except OSError as error:
        raise unwritable(folder, error) from error


def set_aside(folder: Path, cell: Cell) -> None:
    """Have a cell run again: what it has is moved to the experiment's folder `earlier`."""
    folder, name = Path(folder), cell_name(cell.block, cell.arm)
    earlier = folder / EARLIER
    try:
        earlier.mkdir(exist_ok=True)
        number = 1
        while (earlier / f"{name}.{number}{STATE_OF_A_CELL}").exists():
            number += 1
        # The state last: killed between the two, the cell still says that it was run.
        if cell.folder is not None and cell.folder.exists():
            os.replace(cell.folder, earlier / f"{name}.{number}")
        os.replace(
            _state_file(folder, cell.block, cell.arm), earlier / f"{name}.{number}{STATE_OF_A_CELL}"
        )
    except OSError as error:
        raise unwritable(folder, error) from error


def unwritable(folder: Path, error: OSError) -> FolderUnwritable:
    return FolderUnwritable(
        f"{folder}: cannot be written ({error.strerror}). Give another folder with --runs."
    )


def _state_file(folder: Path, block: int, arm: str) -> Path:
    return Path(folder) / f"{cell_name(block, arm)}{STATE_OF_A_CELL}"


def _replace(path: Path, said: Mapping[str, Any]) -> None:
    # A name of its own for each process: two that write the same file must not share it.
    beside = path.with_name(f"{path.name}.{os.getpid()}.new")
    beside.write_text(json.dumps(said, indent=1) + "\n", encoding="utf-8")
    os.replace(beside, path)


# --- reading ----------------------------------------------------------------------------------


def _read(folder: Path) -> dict[str, Any]:
    path = Path(folder) / NOTE
    if not path.is_file():
        raise rec.RunError(f"{folder}: not an experiment (it has no experiment.json).")
    try:
        said = json.loads(path.read_text(encoding="utf-8"))
        version = said["cwkit"]
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError) as error:
        raise rec.RunError(f"{path}: cut or edited ({error}). Run the experiment again.") from error
    if not isinstance(version, int) or version > rec.FORMAT_VERSION:
        raise rec.RunError(
            f"{path}: written by a later cwkit (format {version}, this one reads "
            f"{rec.FORMAT_VERSION}). Update cwkit to read it."
        )
    return dict(said)


def read_experiment(folder: Path) -> Experiment:
    """Read an experiment folder; its runs are read when a cell is. Raises RunError."""
    folder = Path(folder)
    said = _read(folder)
    try:
        made = Experiment(
            folder,
            said["experiment"],
            said["question"],
            said["seed"],
            said["blocks"],
            said["baseline"],
            dict(said["arms"]),
            said["order"],
            axes=dict(said.get("axes", {})),
            points=dict(said.get("points", {})),
        )
        found = [_cell(folder, entry) for entry in said.get("cells", [])]
    except (KeyError, TypeError, ValueError) as error:
        raise rec.RunError(
            f"{folder}/experiment.json: cut or edited ({type(error).__name__}: {error}). "
            "Run the experiment again."
        ) from error
    for path in sorted(folder.glob(f"*{STATE_OF_A_CELL}")):
        try:
            found.append(_cell(folder, json.loads(path.read_text(encoding="utf-8"))))
        except FileNotFoundError:
            continue  # set aside by another process, just now
        except (OSError, KeyError, TypeError, ValueError) as error:
            raise rec.RunError(
                f"{path}: cut or edited ({type(error).__name__}: {error}). "
                "Remove it, and its cell is run again."
            ) from error
    by_key = {(cell.block, cell.arm): cell for cell in found}
    for block, arms in enumerate(made.order):
        for arm in arms:
            if (block, arm) in by_key:
                made.cells[block, arm] = by_key[block, arm]
    return made


def read_cell(folder: Path, block: int, arm: str) -> Cell | None:
    """The state of one cell, None where it has not been run. Raises RunError."""
    path = _state_file(folder, block, arm)
    try:
        return _cell(Path(folder), json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise rec.RunError(
            f"{path}: cut or edited ({type(error).__name__}: {error}). "
            "Remove it, and its cell is run again."
        ) from error


def _cell(folder: Path, entry: Mapping[str, Any]) -> Cell:
    return Cell(
        int(entry["block"]),
        str(entry["arm"]),
        str(entry["state"]),
        str(entry["words"]),
        folder / entry["run"] if entry["run"] else None,
        float(entry.get("took_s", 0.0)),
    )
