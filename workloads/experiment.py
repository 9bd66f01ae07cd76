"""Arms compared in randomised complete blocks: every arm once in each block, in an order by seed.

The machine's speed drifts, so arms that run one after the other, each many times, measure the
drift; arms that run close together share it, and the ratio within a block is free of it. A block
gives all its arms one seed, so they also share their draws. Source: Fisher 1935, ch. 4.

An experiment is a folder: `experiment.json` and one run folder for each cell. A finished cell is
never run again; one that was cut short is, and the folder goes on where it was.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from workloads import recording as rec
from workloads.engines import EngineMissing, find_engine
from workloads.plan import Plan, make_plan
from workloads.processes import FolderUnwritable, ModeRefused, OnProgress, RunFailed, prepare, run
from workloads.scenarios import find_scenario

DONE, FAILED, REFUSED, MISSING = "done", "failed", "refused", "missing"


@dataclass(frozen=True)
class Design:
    """What an experiment asks and how: the whole of it is in `experiment.json`.

    arms : name -> values of a Plan. baseline : the arm that ratios are taken against.
    """

    name: str
    question: str
    arms: Mapping[str, Mapping[str, Any]]
    blocks: int = 10
    seed: int = 0
    baseline: str = ""

    def order(self) -> list[list[str]]:
        """The arms of each block, in the order they run."""
        generator = np.random.default_rng([self.seed, len(self.arms)])
        names = list(self.arms)
        return [[names[i] for i in generator.permutation(len(names))] for _ in range(self.blocks)]

    def block_seed(self, block: int) -> int:
        """Of every arm in a block, so that they draw the same transactions."""
        return int(np.random.SeedSequence([self.seed, block]).generate_state(1)[0])


@dataclass(frozen=True)
class Cell:
    """One arm in one block: its state, the words where it has no run, and its folder."""

    block: int
    arm: str
    state: str
    words: str
    folder: Path | None

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

    def arm(self, name: str) -> Iterator[Cell]:
        """The cells of one arm, by block."""
        for block in range(self.blocks):
            if (block, name) in self.cells:
                yield self.cells[block, name]

    @property
    def complete(self) -> bool:
        return len(self.cells) == self.blocks * len(self.arms)


def cell_name(block: int, arm: str) -> str:
    return f"b{block:02d}-{re.sub('[^A-Za-z0-9.=-]+', '-', arm).strip('-').lower()}"


OnCell = Callable[[Experiment, int, str, str], None]
"""Called before each cell with its block, its arm and "running", after it with its state."""


def conduct(
    design: Design,
    folder: Path,
    *,
    command: str = "",
    databases: Path | None = None,
    on_cell: OnCell = lambda experiment, block, arm, state: None,
    on_progress: OnProgress | None = None,
) -> Experiment:
    """Run what is still missing of an experiment and return it.

    Raises RunError where `folder` holds another experiment; FolderUnwritable where it can't be
    written. A cell that an engine refuses or that fails is kept as such and the rest goes on.
    """
    folder = Path(folder)
    _begin(design, folder)
    experiment = read_experiment(folder)
    templates: dict[str, Path] = {}
    try:
        for block, arms in enumerate(experiment.order):
            for arm in arms:
                if (block, arm) in experiment.cells:
                    continue
                on_cell(experiment, block, arm, "running")
                cell = _one(
                    design, experiment, block, arm, templates, command, databases, on_progress
                )
                experiment.cells[block, arm] = cell
                _save(experiment)
                on_cell(experiment, block, arm, cell.state)
    finally:
        shutil.rmtree(folder / "templates", ignore_errors=True)
    return experiment


def _one(
    design: Design,
    experiment: Experiment,
    block: int,
    arm: str,
    templates: dict[str, Path],
    command: str,
    databases: Path | None,
    on_progress: OnProgress | None,
) -> Cell:
    """Run one cell. What goes wrong becomes its state and its words."""
    name = cell_name(block, arm)
    shutil.rmtree(experiment.folder / name, ignore_errors=True)  # cut short by an earlier call
    try:
        plan = make_plan(**{**design.arms[arm], "seed": design.block_seed(block)})
        template = _template(plan, experiment.folder / "templates", templates)
        made = run(
            plan,
            experiment.folder,
            name=name,
            command=command,
            databases=databases,
            template=template,
            on_progress=on_progress,
        )
    except EngineMissing as error:
        return Cell(block, arm, MISSING, str(error), None)
    except ModeRefused as error:
        return Cell(block, arm, REFUSED, f"{error.engine}: {error.words}", None)
    except FolderUnwritable:
        raise
    except RunFailed as error:
        return Cell(block, arm, FAILED, str(error), None)
    if made.manifest["ended"] == "interrupted":
        raise KeyboardInterrupt
    if made.manifest["ok"]:
        return Cell(block, arm, DONE, "", made.folder)
    return Cell(block, arm, FAILED, _what_went_wrong(made.manifest), made.folder)


def _what_went_wrong(manifest: Mapping[str, Any]) -> str:
    broken = [str(f["sentence"]) for f in manifest["findings"] if not f["ok"]]
    accounts = [
        f"worker {w['worker']} {w['state']}: {w['account']}"
        for w in manifest["workers"]
        if w["state"] != "finished"
    ]
    return "; ".join([*broken, *accounts]) or str(manifest["ended"])


def _template(plan: Plan, folder: Path, templates: dict[str, Path]) -> Path | None:
    """A loaded database for plans of this shape, made at its first use."""
    if find_engine(plan.database).file_format == "none":
        return None
    shape = plan.shape().model_dump()
    loaded_by = getattr(find_scenario(plan.scenario), "loaded_by", ()) or tuple(shape)
    what = {name: shape[name] for name in loaded_by}
    key = json.dumps(
        [plan.database, plan.scenario, what, plan.page_bytes, plan.journal_mode], default=str
    )
    if key not in templates:
        templates[key] = prepare(plan, folder)
    return templates[key]


# --- the folder -------------------------------------------------------------------------------


def _begin(design: Design, folder: Path) -> None:
    """Write `experiment.json`, or see that the one there asks the same."""
    path = folder / "experiment.json"
    asked = {
        "cwkit": rec.FORMAT_VERSION,
        "experiment": design.name,
        "question": design.question,
        "seed": design.seed,
        "blocks": design.blocks,
        "baseline": design.baseline,
        "arms": {name: dict(values) for name, values in design.arms.items()},
        "order": design.order(),
    }
    if path.exists():
        there = _read(folder)
        differs = [key for key in asked if there.get(key) != json.loads(json.dumps(asked[key]))]
        if differs:
            raise rec.RunError(
                f"{folder}: holds another experiment (it differs in {', '.join(differs)}). "
                "Give another folder, or the same settings to go on with this one."
            )
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _replace(path, asked | {"cells": []})
    except OSError as error:
        raise FolderUnwritable(
            f"{folder}: cannot be written ({error.strerror}). Give another folder with --runs."
        ) from error


def _read(folder: Path) -> dict[str, Any]:
    path = folder / "experiment.json"
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
        cells = {}
        for entry in said["cells"]:
            where = folder / entry["run"] if entry["run"] else None
            key = (int(entry["block"]), str(entry["arm"]))
            cells[key] = Cell(*key, entry["state"], entry["words"], where)
        return Experiment(
            folder,
            said["experiment"],
            said["question"],
            said["seed"],
            said["blocks"],
            said["baseline"],
            said["arms"],
            said["order"],
            cells,
        )
    except (KeyError, TypeError, ValueError) as error:
        raise rec.RunError(
            f"{folder}/experiment.json: cut or edited ({type(error).__name__}: {error}). "
            "Run the experiment again."
        ) from error


def _save(experiment: Experiment) -> None:
    said = _read(experiment.folder)
    said["cells"] = [
        {
            "block": cell.block,
            "arm": cell.arm,
            "state": cell.state,
            "words": cell.words,
            "run": cell.folder.name if cell.folder else "",
        }
        for cell in experiment.cells.values()
    ]
    _replace(experiment.folder / "experiment.json", said)


def _replace(path: Path, said: Mapping[str, Any]) -> None:
    beside = path.with_suffix(".json.new")
    beside.write_text(json.dumps(said, indent=1) + "\n", encoding="utf-8")
    os.replace(beside, path)
