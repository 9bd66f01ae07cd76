"""Where a sweep's cells lie: a folder of its own, found again when the sweep goes on."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from workloads import records as rec
from workloads.experiments.experiment import (
    NOTE,
    STATE_OF_A_CELL,
    SWEEP_NOTE,
    Design,
    Experiment,
    read_experiment,
    unwritable,
    with_todays_keys,
)
from workloads.experiments.sweep import Skipped, Sweep, planned_s
from workloads.files import read_text, read_versioned, replace, write_json

SWEEP_FILE = "sweep.toml"
ASSUMED_S = 1.0
"""The time assumed for loading, starting and checking a cell, until some were measured, s."""

FEW = 8
"""From this many cells on, the time besides a run is fitted with a part for each worker."""


def asked_before(design: Design, runs: Path) -> list[Experiment]:
    """The folders of the same experiment with the same settings, the newest first."""
    wanted = json.loads(json.dumps(design.data()))
    found = []
    for path in sorted(Path(runs).glob(f"*/{NOTE}"), reverse=True):
        try:
            data = with_todays_keys(read_versioned(path))
            if all(data.get(key) == value for key, value in wanted.items()):
                found.append(read_experiment(path.parent))
        except (OSError, rec.RunError):  # cut, or no experiment at all: not this one
            continue
    return found


def choose_folder(sweep: Sweep, runs: Path, *, new: bool = False, finished: bool = False) -> Path:
    """The folder of a sweep, as `folder_of`."""
    return folder_of(sweep.design, runs, new=new, finished=finished)


def folder_of(design: Design, runs: Path, *, new: bool = False, finished: bool = False) -> Path:
    """The newest folder in which this experiment is not finished, or the name of a new one.

    new : always a new one. finished : one that is finished will do, for its cells are wanted again.
    """
    if not new:
        for experiment in asked_before(design, runs):
            if finished or not experiment.complete:
                return experiment.folder
    name = f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{design.name}-s{design.seed}"
    tails = ["", *(f".{n}" for n in range(2, 1000))]
    return next(p for p in (Path(runs) / (name + tail) for tail in tails) if not p.exists())


def note_sweep(folder: Path, sweep: Sweep) -> None:
    """Keep beside the experiment its file's name and text, and the combinations left out."""
    folder = Path(folder)
    data = {
        "cwkit": rec.FORMAT_VERSION,
        "file": sweep.path.name,
        "control": sweep.control,
        "skipped": [{"arm": one.arm, "why": one.why} for one in sweep.skipped],
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not os.path.lexists(folder / SWEEP_FILE):
            replace(folder / SWEEP_FILE, read_text(sweep.path, named=True))
        write_json(folder / SWEEP_NOTE, data)
    except OSError as error:
        raise unwritable(folder, error) from error


class _Skip(msgspec.Struct, frozen=True):
    arm: str
    why: str


class _Note(msgspec.Struct, frozen=True):
    """`sweep.json` as it stands, as far as it is read."""

    skipped: list[_Skip]


def skipped_in(folder: Path) -> list[Skipped]:
    """Combinations that a sweep's rules leave out; [] where it is no sweep's. Raises RunError."""
    try:
        note: _Note = read_versioned(Path(folder) / SWEEP_NOTE, _Note)
    except FileNotFoundError:
        return []
    return [Skipped(one.arm, one.why) for one in note.skipped]


# --- how long it takes ------------------------------------------------------------------------


@dataclass(frozen=True)
class Beside:
    """The time of a cell besides warm-up and measurement: `fixed_s`, and `each_s` for each worker.

    cells : how many cells it was measured on; 0: it is an assumption.
    """

    fixed_s: float
    each_s: float
    cells: int

    def seconds(self, values: Mapping[str, Any]) -> float:
        """All that a cell takes, s. values : of a Plan."""
        return planned_s(values) + self.fixed_s + self.each_s * _workers(values)


def beside(folders: Sequence[Path]) -> Beside:
    """The time besides a run, from the first of these experiment folders with finished cells."""
    for folder in folders:
        if not any(Path(folder).glob(f"*{STATE_OF_A_CELL}")):
            continue
        try:
            experiment = read_experiment(folder)
        except rec.RunError:
            continue
        planned = {arm: planned_s(values) for arm, values in experiment.design.arms.items()}
        finished = (c for c in experiment.cells.values() if c.state == "done" and c.took_s > 0)
        done = [
            cell for cell in finished if planned[cell.arm] > 0
        ]  # otherwise its plan is not known
        if not done:
            continue
        extra = np.array([cell.took_s - planned[cell.arm] for cell in done])
        workers = np.array([_workers(experiment.design.arms[cell.arm]) for cell in done])
        if len(done) >= FEW and len(set(workers.tolist())) > 1:
            each, fixed = (float(x) for x in np.polyfit(workers, extra, 1))
            if each >= 0 and fixed >= 0:
                return Beside(fixed, each, len(done))
        return Beside(max(float(np.median(extra)), 0.0), 0.0, len(done))
    return Beside(ASSUMED_S, 0.0, 0)


def _workers(values: dict[str, Any] | Any) -> int:
    defaults = {"writers": 4, "readers": 0, "checkpointers": 0}
    return sum(int(values.get(role, default)) for role, default in defaults.items())
