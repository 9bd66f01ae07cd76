"""An experiment: its design (the question), and the folder with the state of each of its cells.

A cell's state is a file of its own beside its run folder, replaced in one step, because several
processes write into one folder: jobs of a sweep, pytest's workers, other machines. Older folders,
whose cells stand inside `experiment.json`, are still read.
"""

from __future__ import annotations

import contextlib
import json
import re
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec
from pydantic import ValidationError

from workloads.errors import FolderUnwritable, PlanError, RunError, shortened
from workloads.files import (
    FORMAT_VERSION,
    LOCK_FILE,
    converted,
    inside,
    move_aside,
    read_versioned,
    replace,
    visible,
    write_json,
)
from workloads.processes import SUFFIX, path_of
from workloads.runs import Plan, complaint_of

if TYPE_CHECKING:
    from workloads.records import Run

NOTE, SWEEP_NOTE = "experiment.json", "sweep.json"
DONE, FAILED, REFUSED, MISSING = "done", "failed", "refused", "missing"
STATE_OF_A_CELL = ".cell.json"
EARLIER = "earlier"
"""Folder within an experiment's that keeps cells that were run again: no measurement is lost."""

TEMPLATES = ".cwkit-templates"
"""Folder of loaded databases, removed with its content; so its name is one that nobody else has."""

LONGEST_NAME = 100

LONGEST_EXPERIMENT = 100
"""Bytes of an experiment's name: files of a report are called by it."""

MOST_CELLS = 1_000_000
MOST_KEPT_BLOCKS = 10_000
LONGEST_ARM = 1000
AGAIN = "Run the experiment again."


@dataclass(frozen=True)
class Design:
    """An experiment's question and its arms: the whole of it is in `experiment.json`.

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
        import numpy as np

        generator = np.random.default_rng([self.seed, len(self.arms)])
        names = list(self.arms)
        return [[names[i] for i in generator.permutation(len(names))] for _ in range(self.blocks)]

    @property
    def cells(self) -> int:
        """How many cells the whole experiment has."""
        return self.blocks * len(self.arms)

    def block_seed(self, block: int) -> int:
        """The seed that all arms of a block share, so that they draw the same transactions."""
        return block_seed(self.seed, block)

    def data(self) -> dict[str, Any]:
        """As `experiment.json` has it."""
        return {
            "cwkit": FORMAT_VERSION,
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
    import numpy as np  # here: to read an experiment needs none

    return int(np.random.SeedSequence([seed, block]).generate_state(1)[0])


@dataclass(frozen=True)
class Cell:
    """One arm in one block: its state, the reason where it has no result, its folder, and the time
    it took with all its processes, loading and checks (0 where that was not kept).

    again : why it is to be run again, "" where it is not (workloads.experiments.spare).
    """

    block: int
    arm: str
    state: str
    reason: str
    folder: Path | None
    took_s: float = 0.0
    again: str = ""

    def read(self) -> Run:
        """The cell's run. Raises RunError."""
        if self.folder is None:
            raise RunError(f"block {self.block}, arm {self.arm!r} has no run: {self.reason}")
        from workloads.records import read_run

        return read_run(self.folder)


@dataclass(frozen=True)
class Experiment:
    """An experiment folder, read: its design, the arms of each block in their order, its cells.

    `cells` holds only those that were run or refused so far.
    """

    folder: Path
    design: Design
    order: list[list[str]]
    cells: dict[tuple[int, str], Cell] = field(default_factory=dict)

    def arm(self, name: str) -> Iterator[Cell]:
        """The cells of one arm, by block."""
        for block in range(self.design.blocks):
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
        return len(self.cells) == self.design.cells


OnCell = Callable[[Experiment, int, str, str], None]
"""Called before each cell with its block, its arm and "running", after it with its state."""


def cell_name(block: int, arm: str) -> str:
    """The name of a cell's files and of its run: two cells of one experiment never share it.

    >>> cell_name(3, "libsql immediate, writers 4, keys zipfian:0.99")
    'b03-libsql-immediate-writers-4-keys-zipfian-0.99'
    """
    slug = _slug(arm)
    if len(slug) > LONGEST_NAME:
        slug = f"{slug[: LONGEST_NAME - 9]}-{zlib.crc32(arm.encode()):08x}"
    return f"b{block:02d}-{slug}"


def _slug(arm: str) -> str:
    return re.sub("[^A-Za-z0-9.=-]+", "-", arm).strip("-").lower()


def byte_of(experiment: Experiment, block: int, arm: str) -> int:
    """The byte of the folder's lock (`locks.locked`) that is held while this cell is run."""
    return 1 + block * len(experiment.design.arms) + list(experiment.design.arms).index(arm)


# --- writing ----------------------------------------------------------------------------------


def begin(design: Design, folder: Path) -> None:
    """Make an experiment's folder, or see that the one there asks the same.

    Raises RunError where it holds another experiment, PlanError where two arms would share their
    files, FolderUnwritable where it can't be written.
    """
    asked = json.loads(json.dumps(design.data()))
    if why := no_name(design.name) or _no_arms(design.arms):
        raise PlanError(f"An experiment cannot be begun so: {why}.")
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
                write_cell(folder, cell)  # an older folder keeps its cells in the note
        if there.get("cells"):
            write_json(path, {key: there[key] for key in there if key != "cells"})
        return
    free_or_ours(folder)
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        write_json(path, asked)
    except OSError as error:
        raise unwritable(folder, error) from error


def free_or_ours(folder: Path, note: str = NOTE, what: str = "experiment") -> None:
    """See that a folder is new, empty, or one that a command of the kit has begun.

    note : the file that a command of the kit writes first. what : what the command began, in a
    word. A command that was killed before it wrote the note left its lock, its loaded databases, or
    half the note. Raises RunError where anything else is there: runs would mix with a user's files.
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
        raise RunError(
            f"{folder}: is not empty (it holds {others[0]!r}) and no {what} was begun there (it "
            f"has no {note}). Give a new or an empty folder with --into, or leave --into out."
        )


def with_todays_keys(data: Mapping[str, Any]) -> dict[str, Any]:
    """`experiment.json` as it would be written today: an older grid calls a system `way`.

    >>> with_todays_keys({"axes": {"way": ["a"]}, "points": {"a": {"way": "a"}}})
    {'axes': {'system': ['a']}, 'points': {'a': {'system': 'a'}}}
    """
    now = {"axes": {}, "points": {}} | dict(data)
    axes, points = now["axes"], now["points"]
    if isinstance(axes, dict):
        now["axes"] = _todays_axes(axes)
    if isinstance(points, dict):
        now["points"] = {
            arm: _todays_axes(point) if isinstance(point, dict) else point
            for arm, point in points.items()
        }
    return now


def _todays_axes(given: Mapping[str, Any]) -> dict[str, Any]:
    new = {"way": "system"} if "system" not in given else {}
    return {new.get(axis, axis): value for axis, value in given.items()}


def asked_alike(design: Design, folder: Path) -> dict[str, Any]:
    """`experiment.json` of a folder that asks the same. Raises RunError where it asks another."""
    asked = json.loads(json.dumps(design.data()))
    there = _read(folder)
    if differs := [key for key in asked if there.get(key) != asked[key]]:
        raise RunError(
            f"{folder}: holds another experiment (it differs in {', '.join(differs)}). "
            "Give another folder, or the same settings to go on with this one."
        )
    return there


def write_cell(folder: Path, cell: Cell) -> None:
    """Keep a cell's state beside its run folder, in one step."""
    path = _state_file(folder, cell.block, cell.arm)
    data = {
        "cwkit": FORMAT_VERSION,
        "block": cell.block,
        "arm": cell.arm,
        "state": cell.state,
        "words": cell.reason,
        "run": cell.folder.name if cell.folder else "",
        "took_s": round(cell.took_s, 3),
    } | ({"again": cell.again} if cell.again else {})
    try:
        write_json(path, data)
    except OSError as error:
        raise unwritable(folder, error) from error


def write_last_words(folder: Path, block: int, arm: str, text: str) -> None:
    """Keep the standard error of a cell's processes, where no run's folder has it."""
    if text.strip():
        with contextlib.suppress(OSError):  # the cell's reason has its gist
            replace(path_of(folder, cell_name(block, arm)), text)


def set_aside(folder: Path, cell: Cell) -> None:
    """Have a cell run again: its files are moved to the experiment's folder `earlier`.

    Raises RunError where something of it would lead out of the folder, FolderUnwritable.
    """
    name = cell_name(cell.block, cell.arm)
    moved = {cell.folder.name: ""} if cell.folder is not None else {}
    # The state last: if we are killed between the two, the cell still counts as run.
    moved |= {f"{name}{end}": end for end in (SUFFIX, STATE_OF_A_CELL)}
    try:
        move_aside(folder, EARLIER, name, moved)
    except OSError as error:
        raise unwritable(folder, error) from error


def unwritable(folder: Path, error: OSError) -> FolderUnwritable:
    return FolderUnwritable(
        f"{folder}: cannot be written ({error.strerror}). Give another folder with --runs."
    )


def _state_file(folder: Path, block: int, arm: str) -> Path:
    return Path(folder) / f"{cell_name(block, arm)}{STATE_OF_A_CELL}"


# --- reading ----------------------------------------------------------------------------------

_Count = Annotated[int, msgspec.Meta(ge=0, le=MOST_CELLS)]
_Scalar = str | int | float | bool


class _Kept(msgspec.Struct, frozen=True, rename={"reason": "words"}):
    """A cell's state as its file has it."""

    block: _Count
    arm: str
    state: Literal["done", "failed", "refused", "missing"]
    reason: str
    run: str
    took_s: Annotated[float, msgspec.Meta(ge=0, le=1e9)] = 0.0
    again: str = ""


class _Asked(msgspec.Struct, frozen=True):
    """`experiment.json` as it stands; only older folders have `cells`."""

    experiment: str
    question: str
    seed: Annotated[int, msgspec.Meta(ge=0)]
    blocks: Annotated[int, msgspec.Meta(ge=1, le=MOST_CELLS)]
    arms: dict[str, dict[str, Any]]
    order: list[list[str]]
    baseline: str | None = ""
    axes: dict[str, list[_Scalar]] = {}
    points: dict[str, dict[str, _Scalar]] = {}
    cells: list[_Kept] = []


def no_name(name: str) -> str:
    """Why a text is no experiment's name, as a part of a sentence; "" where it is one."""
    fits = name.strip(" .") and "/" not in name and visible(name) == name
    if fits and len(name.encode()) <= LONGEST_EXPERIMENT:
        return ""
    return (
        f"{visible(shortened(name))} is no name of an experiment (files are called by it: no "
        f"slash, nothing invisible, {LONGEST_EXPERIMENT} bytes at most)"
    )


def _no_arms(arms: Mapping[str, Any]) -> str:
    """Why these are no arms, as a part of a sentence; "" where they are."""
    if not arms:
        return "it has no arms"
    for arm in arms:
        if not arm or visible(arm) != arm or len(arm) > LONGEST_ARM:
            return f"{visible(repr(arm[:40]))} is no name of an arm"
    return ""


def _fault(asked: _Asked) -> str:
    """The fault of an experiment's file, as a part of a sentence; "" where it has none."""
    arms = sorted(asked.arms)
    if why := no_name(asked.experiment) or _no_arms(asked.arms):
        return why
    if len(asked.order) != asked.blocks or any(sorted(block) != arms for block in asked.order):
        return "`order` has not each arm once in each block"
    if asked.baseline and asked.baseline not in asked.arms:
        return "`baseline` is none of the arms"
    for arm, point in asked.points.items():
        if arm not in asked.arms:
            return "`points` names arms that are none"
        for axis, value in point.items():
            if value not in asked.axes.get(axis, ()):
                return f"`points` has a value of {visible(repr(axis))} that its axis has not"
    for arm, values in asked.arms.items():
        try:
            Plan(**values)
        except (ValidationError, TypeError) as error:
            why = complaint_of(error) if isinstance(error, ValidationError) else str(error)
            return f"the arm {visible(repr(arm))} makes no plan: {visible(why).rstrip('.')}"
    return ""


def _read(folder: Path) -> dict[str, Any]:
    path = Path(folder) / NOTE
    try:
        data: dict[str, Any] = read_versioned(path, way_out=AGAIN)
    except FileNotFoundError:
        raise RunError(f"{folder}: not an experiment (it has no {NOTE}).") from None
    return with_todays_keys(data)


def _asked(data: Any, path: Path, way_out: str = AGAIN) -> _Asked:
    asked: _Asked = converted(path, data, _Asked, way_out)
    if why := _fault(asked):
        raise RunError(f"{path}: {why}. It was cut or edited. {way_out}")
    return asked


def _design(asked: _Asked) -> Design:
    return Design(
        asked.experiment,
        asked.question,
        asked.arms,
        blocks=asked.blocks,
        seed=asked.seed,
        baseline=asked.baseline or "",
        axes=asked.axes,
        points=asked.points,
    )


def checked_design(data: Mapping[str, Any], path: Path, way_out: str) -> Design:
    """A design that was kept elsewhere than in its folder, in `path`, without the order of arms.

    data : as of `Design.data`. Raises RunError where it is none.
    """
    arms = data.get("arms")
    blocks = data.get("blocks")
    order: list[list[str]] = []
    if isinstance(arms, dict) and isinstance(blocks, int) and blocks <= MOST_KEPT_BLOCKS:
        order = [list(arms)] * blocks
    return _design(_asked({**data, "order": order}, path, way_out))


def read_experiment(folder: Path) -> Experiment:
    """Read an experiment folder; its runs are read when a cell is. Raises RunError."""
    folder = Path(folder)
    path = folder / NOTE
    asked = _asked(_read(folder), path)
    made = Experiment(folder, _design(asked), asked.order)
    found = [_cell(folder, entry, path) for entry in asked.cells]
    for state in sorted(folder.glob(f"*{STATE_OF_A_CELL}")):
        # None: set aside by another process, just now
        if (cell := _kept(folder, state)) is not None:
            found.append(cell)
    by_key = {(cell.block, cell.arm): cell for cell in found}
    for block, arms in enumerate(made.order):
        for arm in arms:
            if (block, arm) in by_key:
                made.cells[block, arm] = by_key.pop((block, arm))
    if by_key:
        block, arm = next(iter(by_key))
        raise RunError(
            f"{folder}: has a result of block {block}, arm {visible(repr(arm))}, and no such "
            f"cell. Remove {cell_name(block, arm)}{STATE_OF_A_CELL}, which is of another sweep."
        )
    return made


def read_cell(folder: Path, block: int, arm: str) -> Cell | None:
    """The state of one cell, None where it has not been run. Raises RunError."""
    return _kept(Path(folder), _state_file(folder, block, arm))


def _kept(folder: Path, path: Path) -> Cell | None:
    """A cell by its file, None where that is not there. Raises RunError."""
    way_out = "Remove it, and its cell is run again."
    try:
        kept: _Kept = read_versioned(path, _Kept, way_out)
    except FileNotFoundError:
        return None
    if path.name != f"{cell_name(kept.block, kept.arm)}{STATE_OF_A_CELL}":
        where = f"block {kept.block}, arm {visible(repr(kept.arm[:LONGEST_ARM]))}"
        raise RunError(f"{path}: has the name of another cell than {where}. {way_out}")
    return _cell(folder, kept, path)


def _cell(folder: Path, kept: _Kept, path: Path) -> Cell:
    """A cell from its entry in `path`. Raises RunError for a run whose name is not ours."""
    if kept.run and not _is_run_of(kept.run, kept.block, kept.arm):
        raise RunError(
            f"{path}: calls the run of block {kept.block}, arm {visible(repr(kept.arm))}, "
            f"{visible(repr(kept.run[:LONGEST_ARM]))}, which is not its name. It was edited. "
            "Remove it, and its cell is run again."
        )
    run = inside(folder, kept.run) if kept.run else None
    return Cell(kept.block, kept.arm, kept.state, kept.reason, run, kept.took_s, kept.again)


def read_earlier(path: Path) -> Cell | None:
    """A cell that was set aside, by its file in the folder `earlier`; its run lies beside it.

    None where the file is gone. Raises RunError where it is no file of ours.
    """
    try:
        kept: _Kept = read_versioned(path, _Kept, "Remove it.")
    except FileNotFoundError:
        return None
    stem = path.name.removesuffix(STATE_OF_A_CELL)
    if not _is_run_of(stem, kept.block, kept.arm):
        raise RunError(f"{path}: has the name of another cell than its own. Remove it.")
    run = inside(path.parent, stem)
    there = run if run.is_dir() else None
    return Cell(kept.block, kept.arm, kept.state, kept.reason, there, kept.took_s, kept.again)


def _is_run_of(name: str, block: int, arm: str) -> bool:
    """Whether a cell's run may be called so: by its name, or that with a number behind it, where
    the folder of a run cut short could not be removed. Older versions did not shorten long ones.
    """
    ours = (cell_name(block, arm), f"b{block:02d}-{_slug(arm)}")
    stem, _, number = name.rpartition(".")
    return name in ours or (stem in ours and re.fullmatch("[0-9]{1,3}", number) is not None)
