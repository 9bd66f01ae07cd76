"""Published sweeps: a sweep's cells, summarised and kept without their rows, and read back.

A sweep takes longer than a report may, so that it is measured when somebody decides to. What it
counted is kept in two files, which every report tells again as of their date and machine:
NAME.csv has a row for each sound run, NAME.json its design, its conditions, and what was dropped.
Both may come from anybody: they are data, and what does not fit together is refused in a sentence.
"""

from __future__ import annotations

import csv
import hashlib
import importlib.metadata
import io
import json
import os
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import msgspec

from analysis.counting import CountedCell, Measured, cell_text, columns_of, count_of, spare_clause
from analysis.report.markdown import Markdown, code, markdown
from analysis.wording import listed, number, times
from workloads.errors import RunError
from workloads.experiments import (
    DONE,
    EARLIER,
    STATE_OF_A_CELL,
    Experiment,
    cell_name,
    checked_design,
    spared,
)
from workloads.files import (
    FORMAT_VERSION,
    inside,
    read_bytes,
    read_versioned,
    replace,
    resolved,
    visible,
)
from workloads.records import MANIFEST, Manifest, checked

PUBLISHED = Path("analysis/published/sweeps")
MOST_NOTE_BYTES, MOST_TABLE_BYTES = 32 << 20, 32 << 20
MOST_SWEEPS = 64
"""Published sweeps that a report tells."""

WAY_OUT = "`cwkit sweep NAME --into FOLDER --publish` writes it anew."
FIRST = ("block", "arm")
NOT_NEEDED = ("id", "command", "layout", "under_way", "database_kept", "recovered", "cwkit")
"""Keys of a manifest that are of its machine or its rows alone."""

OF_CONDITION = ("scenario", "plan", "conduct", "machine", "engines", "workers")
OF_WORKER = ("role", "engine", "begin", "pragmas", "loop", "state")

_Index = Annotated[int, msgspec.Meta(ge=0, lt=1 << 20)]


class _Dropped(msgspec.Struct, frozen=True):
    """A cell that is not published, and why."""

    block: _Index
    arm: str
    state: str
    why: str


class _RunNote(msgspec.Struct, frozen=True):
    """What is a run's own: of its manifest all that others do not share."""

    block: _Index
    arm: str
    state: str
    words: str
    condition: _Index
    seed: Annotated[int, msgspec.Meta(ge=0)]
    manifest: dict[str, Any]


class _Condition(msgspec.Struct, frozen=True):
    """What several runs share. machine, engines : places in the note's lists."""

    scenario: dict[str, Any]
    plan: dict[str, Any]
    conduct: dict[str, Any]
    machine: _Index
    engines: dict[str, _Index]
    workers: list[dict[str, Any]]


class _Note(msgspec.Struct, frozen=True):
    """NAME.json. manifests : sha256 over the runs' manifests. cells : of NAME.csv. spares : which
    runs were made again at once, and why, "" for none.
    """

    cwkit: int
    version: str
    measured: tuple[str, str]
    manifests: str
    cells: str
    again: _Index
    design: dict[str, Any]
    machines: list[dict[str, Any]]
    engines: list[dict[str, Any]]
    conditions: list[_Condition]
    runs: list[_RunNote]
    dropped: list[_Dropped]
    spares: str = ""


@dataclass(frozen=True)
class Published:
    """A published sweep, read. measured : as of its folder, with its sound runs only.

    first, last : when its runs began, as text. machine : where, in words. version : of the cwkit
    that published it, with the checkouts that measured. again : cells that were run again, later.
    """

    measured: Measured
    note: Path
    table: Path
    first: str
    last: str
    machine: str
    version: str
    manifests: str
    again: int
    dropped: Sequence[str]

    @property
    def name(self) -> str:
        return self.measured.name

    @property
    def date(self) -> str:
        """The day, or the days from the first run to the last."""
        days = list(dict.fromkeys([self.first[:10], self.last[:10]]))
        return " to ".join(days)

    def sentence(self) -> Markdown:
        """As of when and of which machine it is told."""
        return markdown(
            "Measured {} on {}, published by cwkit {} (digest of its manifests {}…), and told from "
            "there until it is measured anew.",
            self.date,
            self.machine,
            self.version,
            code(self.manifests[:12]),
        )


# --- publishing -------------------------------------------------------------------------------


def publish_sweep(measured: Measured, to: Path) -> tuple[Path, Path]:
    """Write a sweep's sound cells into the folder `to`: NAME.json and NAME.csv.

    Raises RunError where it is no sweep, or has no sound cell; OSError.
    """
    name, folder = measured.name, measured.experiment.folder
    if not measured.points:
        raise RunError(f"{folder}: is no sweep's folder, so there is nothing to publish.")
    sound = {key: cell for key, cell in sorted(measured.cells.items()) if not _unsound(cell)}
    if not sound:
        why = next((_unsound(cell) for cell in measured.cells.values()), "it has none")
        raise RunError(f"{folder}: has no sound cell to publish ({visible(why).rstrip('.')}).")
    table = _table(measured, sound)
    note = _note(measured, sound, table)
    paths = to / f"{name}.json", to / f"{name}.csv"
    to.mkdir(parents=True, exist_ok=True)
    # The note comes last: with the digest of the table it says that both are whole.
    replace(paths[1], table)
    replace(paths[0], _without_folder(note, folder))
    return paths


def _unsound(cell: CountedCell) -> str:
    """Why a cell is not published, "" if it is. A check that did not hold is a result."""
    if cell.counted is None:
        return cell.failure or cell.state
    if cell.state != DONE and not cell.broken:
        return cell.failure or cell.state
    if cell.manifest and cell.manifest.plan.scenario == "acked":
        return ""  # what was lost was lost, whoever used the machine besides: no rate is told of it
    return cell.contaminated or cell.crowded


def _table(measured: Measured, sound: Mapping[tuple[int, str], CountedCell]) -> str:
    """NAME.csv: columns in which no run has anything are left out."""
    rows = [columns_of(cell.counted) for cell in sound.values() if cell.counted]
    names = [
        name
        for name in dict.fromkeys(name for row in rows for name in row)
        if any(row.get(name) for row in rows) or not name.rpartition("refused_")[1]
    ]
    axes = list(measured.axes)
    out = io.StringIO(newline="")
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([*FIRST, *map(cell_text, axes), *names])
    for ((block, arm), _), row in zip(sound.items(), rows, strict=True):
        at = measured.points.get(arm, {})
        place = [str(block), cell_text(arm), *(_cell(at.get(axis, "")) for axis in axes)]
        writer.writerow([*place, *(cell_text(row.get(name, "")) for name in names)])
    return out.getvalue()


def _cell(value: Any) -> str:
    return cell_text(str(value).lower() if isinstance(value, bool) else value)


def _note(
    measured: Measured, sound: Mapping[tuple[int, str], CountedCell], table: str
) -> dict[str, Any]:
    pools: dict[str, list[Any]] = {"machines": [], "engines": [], "conditions": []}
    runs = []
    for (block, arm), cell in sound.items():
        assert cell.manifest is not None
        data = cell.manifest.data()
        seed = data.get("plan", {}).pop("seed", 0)
        own = {k: data[k] for k in data if k not in (*NOT_NEEDED, *OF_CONDITION)}
        condition = _condition(data, pools)
        runs.append(
            {"block": block, "arm": arm, "state": cell.state, "words": cell.failure,
             "condition": condition, "seed": seed, "manifest": own}
        )  # fmt: skip
    design = measured.experiment.design.data()
    started = sorted(str(one["manifest"].get("started", "")) for one in runs)
    return {
        "cwkit": FORMAT_VERSION,
        "version": importlib.metadata.version("cwkit"),
        "measured": [started[0], started[-1]],
        "manifests": _digest(sound.values()),
        "cells": hashlib.sha256(table.encode()).hexdigest(),
        "again": cells_again(measured.experiment.folder),
        "spares": spare_clause(measured),
        "design": {key: design[key] for key in design if key != "order"},
        **pools,
        "runs": runs,
        "dropped": [
            {"block": block, "arm": arm, "state": cell.state, "why": why}
            for (block, arm), cell in sorted(measured.cells.items())
            if (why := _unsound(cell))
        ],
    }


def _condition(data: dict[str, Any], pools: dict[str, list[Any]]) -> int:
    """The place of what a run shares with others, which is added where it is new."""
    engines = {name: _place(pools["engines"], one) for name, one in data["engines"].items()}
    workers: list[dict[str, Any]] = []
    for entry in data["workers"]:
        one = {key: entry[key] for key in OF_WORKER if key in entry}
        if workers and {**workers[-1], "many": 0} == {**one, "many": 0}:
            workers[-1]["many"] += 1
        else:
            workers.append({"many": 1, **one})
    return _place(
        pools["conditions"],
        {
            **{key: data.get(key, {}) for key in ("scenario", "plan", "conduct")},
            "machine": _place(pools["machines"], data.get("machine", {})),
            "engines": engines,
            "workers": workers,
        },
    )


def _place(pool: list[Any], one: Any) -> int:
    if one not in pool:
        pool.append(one)
    return pool.index(one)


def _digest(cells: Iterator[CountedCell] | Any) -> str:
    """sha256 over the manifests of these cells, as their files have them, in order."""
    found = hashlib.sha256()
    for cell in cells:
        if cell.folder is not None:
            found.update(read_bytes(cell.folder / MANIFEST))
    return found.hexdigest()


def cells_again(folder: Path) -> int:
    """Cells that were run again, later than the rest of their blocks; not those made again at once
    (workloads.experiments.spare).
    """
    paths = (folder / EARLIER).glob(f"*{STATE_OF_A_CELL}")
    # Behind the cell's name stands the number of the earlier run.
    every = Counter(path.name.removesuffix(STATE_OF_A_CELL).rpartition(".")[0] for path in paths)
    return len(every - Counter(cell_name(cell.block, cell.arm) for cell in spared(folder)))


def _without_folder(note: Mapping[str, Any], folder: Path) -> str:
    """The note as text, a line for each item of its lists, without the path of the runs."""
    parts = []
    for key, value in note.items():
        if isinstance(value, list) and value and isinstance(value[0], dict):
            lines = ",\n  ".join(json.dumps(one) for one in value)
            parts.append(f"{json.dumps(key)}: [\n  {lines}\n ]")
        else:
            parts.append(f"{json.dumps(key)}: {json.dumps(value)}")
    text = "{\n " + ",\n ".join(parts) + "\n}\n"
    for path in (str(resolved(folder)), os.path.abspath(folder)):
        text = text.replace(json.dumps(path)[1:-1], folder.name)
    return text


# --- reading ----------------------------------------------------------------------------------


def read_published(
    folder: Path, only: Collection[str] | None = None
) -> tuple[list[Published], list[str]]:
    """The published sweeps of a folder by name, and why others could not be read; nothing is run.

    only : the names of those that are wanted, None for all. A folder that is not there has none.
    """
    found: list[Published] = []
    unread: list[str] = []
    try:
        names = sorted(name for name in os.listdir(folder) if name.endswith(".json"))
        names = [name for name in names if only is None or name.removesuffix(".json") in only]
    except OSError:
        return [], []
    if len(names) > MOST_SWEEPS:
        unread.append(
            f"{folder}: has {len(names)} published sweeps; the first {MOST_SWEEPS} are told."
        )
    for name in names[:MOST_SWEEPS]:
        try:
            found.append(_read(folder, name))
        except FileNotFoundError:
            unread.append(f"{folder / name}: went away while it was read.")
        except (RunError, OSError) as error:
            unread.append(f"The published sweep {visible(name)} is not told. {error}")
    return found, unread


def _read(folder: Path, name: str) -> Published:
    path = inside(folder, name)
    note: _Note = read_versioned(path, _Note, WAY_OUT, MOST_NOTE_BYTES)
    design = checked_design(note.design, path, WAY_OUT)
    stem = name.removesuffix(".json")
    if design.name != stem:
        raise _wrong(path, f"it is called {visible(repr(design.name))} inside")
    table = inside(folder, f"{stem}.csv")
    try:
        content = read_bytes(table, MOST_TABLE_BYTES)
    except FileNotFoundError:
        raise _wrong(path, f"{table.name} is not beside it") from None
    if hashlib.sha256(content).hexdigest() != note.cells:
        raise _wrong(table, f"it is not the table that {name} was written with")
    experiment = Experiment(folder, design, [])
    cells: dict[tuple[int, str], CountedCell] = {}
    for one, row in zip(note.runs, _rows(table, content, experiment, note), strict=True):
        key = (one.block, one.arm)
        if key in cells:
            raise _wrong(path, f"it has two runs of {_where(*key)}")
        manifest = _manifest(note, one, path)
        try:
            counted = count_of(manifest.run, row)
        except ValueError as error:
            raise _wrong(table, f"the row of {_where(*key)}: {error}") from None
        cell = CountedCell(*key, one.state, one.words, counted, manifest)
        if why := _unsound(cell):
            raise _wrong(path, f"the run of {_where(*key)} is not sound ({visible(why)})")
        cells[key] = cell
    for gone in note.dropped:
        key = (gone.block, gone.arm)
        if key in cells or gone.arm not in design.arms or gone.block >= design.blocks:
            raise _wrong(path, f"it dropped {_where(*key)}, which it cannot have")
        cells[key] = CountedCell(*key, gone.state, gone.why)
    return _published(note, Measured(experiment, cells, design.name), path, table)


def _published(note: _Note, measured: Measured, path: Path, table: Path) -> Published:
    home = next(cell.manifest.machine for cell in measured.cells.values() if cell.manifest)
    known = [
        home.cpu,
        times(home.cores, "core") if home.cores else "",
        f"{number(home.memory_bytes / 2**30)} GiB" if home.memory_bytes else "",
        home.file_system,
        home.kernel,
    ]
    commits = dict.fromkeys(
        str(one.get("cwkit_commit")) for one in note.machines if one.get("cwkit_commit")
    )
    version = f"{note.version}{f', commit {listed(list(commits))}' if commits else ''}"
    many = len(measured.places)
    return Published(
        measured,
        path,
        table,
        *note.measured,
        machine=(f"{many} machines, most of it on " if many > 1 else "")
        + (", ".join(filter(None, known)) or "a machine that is not told"),
        version=version,
        manifests=note.manifests,
        again=note.again,
        dropped=_dropped(note),
    )


def _dropped(note: _Note) -> list[str]:
    """Cells that were run and not published, with the first of them, and those made again."""
    gone = [one for one in note.dropped if one.state == DONE]
    spares = [note.spares] if note.spares else []
    if not gone:
        return spares
    many = len(gone)
    return [
        *spares,
        (
            f"{times(many, 'cell')} {'is' if many == 1 else 'are'} not among what was published, "
            f"the first b{gone[0].block:02d}, {gone[0].arm}: {gone[0].why}."
        ),
    ]


def _rows(
    path: Path, content: bytes, experiment: Experiment, note: _Note
) -> Iterator[Mapping[str, str]]:
    """The table's rows, each of which must be of the run at its place in the note."""
    design = experiment.design
    try:
        lines = list(csv.reader(io.StringIO(content.decode(), newline=""), strict=True))
    except (UnicodeDecodeError, csv.Error) as error:
        raise _wrong(path, f"it is no table ({error})") from None
    head = lines[0] if lines else []
    first = [*FIRST, *map(cell_text, design.axes)]
    names = head[len(first) :]
    if head[: len(first)] != first or len(set(names)) < len(names):
        raise _wrong(path, "its columns are not those of this sweep")
    if len(lines) - 1 != len(note.runs) or not note.runs:
        raise _wrong(path, f"it has {len(lines) - 1} rows for {times(len(note.runs), 'run')}")
    for one, line in zip(note.runs, lines[1:], strict=True):
        if one.arm not in design.arms or one.block >= design.blocks:
            raise _wrong(path, f"{_where(one.block, one.arm)} is no cell of this sweep")
        at = design.points.get(one.arm, {})
        place = [str(one.block), cell_text(one.arm)]
        place += [_cell(at.get(axis, "")) for axis in design.axes]
        if len(line) != len(head) or line[: len(first)] != place:
            raise _wrong(path, f"{_where(one.block, one.arm)} has not its row")
        yield dict(zip(names, line[len(first) :], strict=True))


def _manifest(note: _Note, one: _RunNote, path: Path) -> Manifest:
    """A run's manifest, put together from its own part and what it shares."""
    try:
        shared = note.conditions[one.condition]
        machine = note.machines[shared.machine]
        engines = {name: note.engines[at] for name, at in shared.engines.items()}
    except IndexError:
        raise _wrong(path, f"{_where(one.block, one.arm)} names a condition that is none") from None
    workers: list[dict[str, Any]] = []
    each: Counter[Any] = Counter()
    for kind in shared.workers:
        many = kind.get("many")
        if not isinstance(many, int) or not 0 < many <= 1024 or len(workers) > 1024:
            raise _wrong(path, "`many` of workers is no number of them")
        role = str(kind.get("role"))
        for _ in range(many):
            rest = {key: kind[key] for key in OF_WORKER if key in kind}
            workers.append({"worker": len(workers), "number": each[role], **rest})
            each[role] += 1
    data = {
        **{key: value for key, value in one.manifest.items() if key not in NOT_NEEDED},
        "scenario": shared.scenario,
        "plan": {**shared.plan, "seed": one.seed},
        "conduct": shared.conduct,
        "machine": machine,
        "engines": engines,
        "workers": workers,
    }
    return checked(Manifest, data, path)


def _where(block: int, arm: str) -> str:
    return f"b{block:02d}, {visible(arm[:100])}"


def _wrong(path: Path, why: str) -> RunError:
    return RunError(f"{path}: {why}. It was cut or edited. {WAY_OUT}")
