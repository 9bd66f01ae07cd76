"""What a report stands on: the experiments of a folder, counted, and what the engines answered.

Everything is looked up by what a run was asked to do (engine, BEGIN mode, writers, work), never by
an arm's name, so that a renamed arm or a grid of another size still finds its place.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from dataclasses import field as field_
from pathlib import Path
from typing import Any, NamedTuple

from analysis import words
from analysis.compare import FOREIGN_LIMIT, Cell, Grid, gather
from analysis.served import NEVER, Served, read_served
from workloads.engines import Probe
from workloads.engines.probe import from_dict
from workloads.experiment import read_experiment
from workloads.recording import FORMAT_VERSION, RunError

STUDIED = ("sqlite-concurrent", "concurrent")
"""The arm that the report is about, (engine, BEGIN mode) of the writers."""

CONTROL = ("libsql", "immediate")
"""The arm that it is held against: what a libSQL user does today."""

MODE_ALONE = ("sqlite-concurrent", "immediate")
"""The same library and binding without BEGIN CONCURRENT: against it only the mode differs."""

ORDER = (
    "headline",
    "writers",
    "no-work",
    "think",
    "skew",
    "hot",
    "mvcc",
    "read-mostly",
    "read",
    "mission",
    "acked",
)
"""How experiments stand in the report; others follow by name."""


class Pair(NamedTuple):
    """Two arms of one experiment that differ only in how they write."""

    grid: Grid
    over: str
    under: str


@dataclass(frozen=True)
class Evidence:
    """A folder of experiments, read.

    grids    : experiments by name, in the report's order. sweeps : those that are grids, by name;
        of two with one name the later has its seed behind it.
    campaign : campaign.json as it is, {} where there is none.
    probes   : what each engine answered, by name. unread : what could not be read, in words.
    isolation : rows of properties.matrix.isolation_matrix, () where it was not made; known: those
        of known_findings. served : what was measured beside libSQL's server.
    """

    folder: Path
    grids: Mapping[str, Grid]
    campaign: Mapping[str, Any]
    probes: Mapping[str, Probe]
    unread: tuple[str, ...]
    isolation: Sequence[Mapping[str, Any]] = ()
    known: Sequence[Mapping[str, Any]] = ()
    sweeps: Mapping[str, Grid] = field_(default_factory=dict)
    served: Served = NEVER

    def cells(self) -> Iterator[tuple[Grid, Cell]]:
        """Every cell of every experiment, in the report's order."""
        for grid in self.grids.values():
            for _, cell in sorted(grid.cells.items()):
                yield grid, cell

    def pair(
        self,
        over: tuple[str, str] = STUDIED,
        under: tuple[str, str] = CONTROL,
        **want: Any,
    ) -> Pair | None:
        """The first experiment where two ways to write meet with everything else alike.

        want : fields of the plan or of its params that both must have (writers=4, think_us=200).
        """
        for grid in self.grids.values():
            if grid.name == "acked":
                continue  # shaped to break, not to be fast
            for top in arms_of(grid, *over, **want):
                for bottom in arms_of(grid, *under, **want):
                    if alike(grid, top, bottom) and grid.usable(top) and grid.usable(bottom):
                        return Pair(grid, top, bottom)
        return None

    def floor(self, grid: Grid, arm: str) -> tuple[Grid, str] | None:
        """The `null` arm that does what an arm does: the generator alone.

        Looked for in the same experiment first.
        """
        wanted = grid.plan(arm)
        if look(grid, arm)[0] == "null":
            return None
        for other in dict.fromkeys([grid, *self.grids.values()], True):
            for name in arms_of(other, "null"):
                plan = other.plan(name)
                same = all(plan[key] == wanted[key] for key in ("writers", "readers", "scenario"))
                if same and plan["params"] == wanted["params"] and other.usable(name):
                    return other, name
        return None


def read_evidence(folder: Path) -> Evidence:
    """Read a folder of experiments (or a single one), and campaign.json where there is one.

    Raises RunError where there is no experiment at all; a single one that cannot be read is kept
    in `unread` with its words.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise RunError(f"{folder}: there is no such folder. `cwkit report` makes one.")
    places = [folder] if (folder / "experiment.json").exists() else sorted(folder.iterdir())
    grids: dict[str, Grid] = {}
    sweeps: dict[str, Grid] = {}
    unread: list[str] = []
    campaign: dict[str, Any] = {}
    probes: dict[str, Probe] = {}
    path = folder / "campaign.json"
    if path.exists():
        try:
            campaign = dict(json.loads(path.read_text(encoding="utf-8")))
            if int(campaign["cwkit"]) > FORMAT_VERSION:
                raise RunError(
                    f"{path}: written by a later cwkit (format {campaign['cwkit']}). Update cwkit."
                )
            float(campaign.get("foreign_limit", 0))
            probes = {p.engine: p for p in map(from_dict, campaign.get("probes", []))}
        except RunError:
            raise
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            campaign = {}
            unread.append(f"{path}: cut or edited ({type(error).__name__}: {error}).")
    limit = float(campaign.get("foreign_limit", FOREIGN_LIMIT))
    places = [place for place in places if (place / "experiment.json").exists()]
    places += [folder / place for place in campaign.get("sweeps", [])]
    for place in dict.fromkeys(place.resolve() for place in places):
        try:
            grid = gather(read_experiment(place), limit)
        except RunError as error:
            unread.append(str(error))
        else:
            there = sweeps if grid.points else grids
            name = _name(grid, there)
            there[name] = replace(grid, name=name)
    if not grids and not sweeps and not unread:
        raise RunError(f"{folder}: holds no experiment. `cwkit report` makes them and reports.")
    rank = {name: n for n, name in enumerate(ORDER)}
    names = sorted(grids, key=lambda name: (rank.get(name, len(rank)), name))
    matrix = folder / "isolation.json"
    if matrix.exists() and not _isolation(folder)[0]:
        unread.append(f"{matrix}: cut or edited, so the isolation part is missing.")
    elif campaign and not matrix.exists():
        unread.append("The isolation matrix was not made: `cwkit report --into` makes it.")
    ordered = {name: grids[name] for name in names}
    return Evidence(
        folder,
        ordered,
        campaign,
        probes,
        tuple(unread),
        *_isolation(folder),
        dict(sorted(sweeps.items())),
        read_served(folder, limit),
    )


def _name(grid: Grid, there: Mapping[str, Grid]) -> str:
    """Its own, or where the report has one of that name already, that with the seed behind it.

    It names a heading and files, so it has letters, digits and "-_." only.
    """
    names = (grid.name, f"{grid.name}-s{grid.seed}")
    more = (f"{names[1]}.{n}" for n in range(2, len(there) + 3))
    return next(name for name in (*names, *more) if name not in there)


def _isolation(folder: Path) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Matrix and known findings of a report's folder, empty where there are none or it is cut."""
    try:
        said = json.loads((folder / "isolation.json").read_text(encoding="utf-8"))
        return list(said["matrix"]), list(said["known"])
    except (OSError, ValueError, KeyError, TypeError):
        return [], []


def arms_of(grid: Grid, engine: str, begin: str | None = None, **want: Any) -> list[str]:
    """Arms whose writers use this engine and mode, and whose plan or params hold `want`."""
    found = []
    for arm in grid.arms:
        plan = grid.plan(arm)
        engines = (plan["write_engine"], plan["begin"])
        if not plan["writers"]:
            engines = (plan["read_engine"], plan["read_begin"])
        if engines[0] != engine or (begin and (engines[1] != begin or not plan["writers"])):
            continue
        if all(field(plan, key) == value for key, value in want.items()):
            found.append(arm)
    return found


def field(plan: Mapping[str, Any], key: str) -> Any:
    """A field of a plan, or of its scenario's params."""
    return plan[key] if key in plan else plan.get("params", {}).get(key)


WRITING = ("write_engine", "begin", "seed", "database", "read_engine", "read_begin")
"""Fields in which two arms may differ and still be the same work written in another way."""


def alike(grid: Grid, one: str, other: str, *but: str) -> bool:
    """Two arms ask for the same work; how it is written, and `but`, may differ."""
    plans = [
        {**plan, **plan["params"], "params": None} for plan in (grid.plan(one), grid.plan(other))
    ]
    skip = {*WRITING, *but}
    return all(plans[0].get(key) == plans[1].get(key) for key in plans[0] if key not in skip)


def look(grid: Grid, arm: str) -> tuple[str, str]:
    """(engine, BEGIN mode) of an arm's writers, or of its readers where it has no writer."""
    plan = grid.plan(arm)
    if plan["writers"]:
        return plan["write_engine"], plan["begin"]
    return plan["read_engine"], plan["read_begin"]


def label(grid: Grid, arm: str) -> str:
    """How an arm writes, or how it reads where nothing writes."""
    plan = grid.plan(arm)
    if plan["writers"]:
        return words.arm_words(plan)
    return words.arm_words(
        {
            "database": plan["database"],
            "write_engine": plan["read_engine"],
            "begin": plan["read_begin"],
        }
    )


def theta(keys: str) -> float | None:
    """The skew of a key distribution: zipfian's theta, 0 for uniform, None for others.

    >>> theta("zipfian:0.99"), theta("uniform"), theta("hotspot:80:20")
    (0.99, 0.0, None)
    """
    name, _, rest = str(keys).partition(":")
    if name == "uniform":
        return 0.0
    try:
        return float(rest or 0.99) if name == "zipfian" else None
    except ValueError:
        return None


def where(grid: Grid, *arms: str) -> str:
    """The runs behind a number, short enough for a sentence: `headline/b00-x` and so on."""
    runs = grid.runs(*arms) or tuple(c.run for a in arms for c in grid.of(a) if c.run)
    if not runs:
        return f"experiment `{grid.name}`, no run"
    if len(runs) == 1:
        return f"run `{grid.name}/{runs[0]}`"
    blocks = sorted({run.split("-")[0] for run in runs})
    span = blocks[0] if len(blocks) == 1 else f"{blocks[0]}…{blocks[-1]}"
    return f"{words.times(len(runs), 'run')} `{grid.name}/{span}`"
