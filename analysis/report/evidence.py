"""The evidence of a report: the experiments of a folder, counted, and the engines' answers.

Reading ends by computing the report's facts, once.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from dataclasses import field as field_
from pathlib import Path
from typing import Any, NamedTuple

from analysis.claims import (
    NEVER,
    NOT_THERE,
    TRIALS,
    Served,
    Trial,
    read_served,
    read_trial,
    trials_of_claims,
)
from analysis.counting import FOREIGN_LIMIT, Arm, CountedCell, Measured, gather
from analysis.report import isolation
from analysis.report.facts import (
    CONTROL,
    STUDIED,
    Pair,
    ReportFacts,
    System,
    facts_of,
    find_floor,
    find_pair,
)
from analysis.report.markdown import Markdown, code, markdown
from analysis.report.measurements import MOST_SITTINGS, SITTING, planned
from analysis.report.published import Published, read_published
from analysis.report.published_crashes import CRASHES, PublishedCrash, read_crashes
from analysis.report.published_faults import FAULTS, PublishedFaults, read_faults
from analysis.report.published_hunts import (
    FOUND,
    HUNTS,
    KitFinding,
    PublishedHunt,
    read_found,
    read_hunts,
)
from analysis.report.published_soaks import SOAKS, PublishedSoak, read_soaks
from analysis.report.suite_file import SUITE_FILE, Suite, read_suite, sweep_beside
from analysis.wording import times
from workloads.engines import Probe
from workloads.errors import LaterVersion, RunError
from workloads.experiments import NOTE, read_experiment
from workloads.files import inside, resolved

ORDER = (
    "headline",
    "fairness",
    "offered",
    "plain",
    "writers",
    "no-work",
    "think",
    "skew",
    "skew-turso",
    "hot",
    "mvcc",
    "read-mostly",
    "cache",
    "read",
    "mission",
    "acked",
)
"""How experiments stand in the report; others follow by name."""


MATRIX = "isolation.json"
NO_SUITE = Suite()


class Spent(NamedTuple):
    """The time of a report, s: in the windows of its runs, and all that its commands took, from
    the first to the last run. Writing it is in neither.
    """

    measured_s: float
    took_s: float

    @property
    def share(self) -> float:
        return self.measured_s / self.took_s


class Sitting(NamedTuple):
    """A later sitting of a report: what it claims, measured again. experiments : by name."""

    name: str
    started: str
    experiments: Mapping[str, Measured]


@dataclass(frozen=True)
class Evidence:
    """A folder of experiments, read.

    experiments : by name, in the report's order.
    sweeps : experiments whose arms are a grid, by name. If two have one name, the later one's name
        ends with its seed.
    suite : campaign.json, an empty one where the folder has none.
    probes : each engine's answers, by its name. unread : why something could not be read.
    isolation : rows of properties.conformance.isolation_matrix, () where it was not made.
    known : rows of properties.conformance.known_findings.
    served : measurements beside libSQL's server. facts : computed from experiments and sweeps.
    published : those of the sweeps that were published earlier, by name; their rows are gone.
    sittings : later ones of the same report, in order.
    trials : experiments that are no run of workers, by name; `served` is not among them.
    hunts : hunts that were published, which lie in `hunts_in`. found : the kit's own findings.
    crashes : crash campaigns that were published, which lie in `crashes_in`; faults : of faults.
    soaks : that were published, which lie in `soaks_in`.
    """

    folder: Path
    experiments: Mapping[str, Measured]
    suite: Suite
    probes: Mapping[str, Probe]
    unread: tuple[str, ...]
    isolation: Sequence[Mapping[str, Any]] = ()
    known: Sequence[Mapping[str, Any]] = ()
    sweeps: Mapping[str, Measured] = field_(default_factory=dict)
    served: Served = NEVER
    facts: ReportFacts = field_(default_factory=ReportFacts)
    published: Mapping[str, Published] = field_(default_factory=dict)
    sittings: Sequence[Sitting] = ()
    trials: Mapping[str, Trial] = field_(default_factory=dict)
    hunts: Sequence[PublishedHunt] = ()
    found: Sequence[KitFinding] = ()
    hunts_in: Path = HUNTS
    crashes: Sequence[PublishedCrash] = ()
    crashes_in: Path = CRASHES
    faults: Sequence[PublishedFaults] = ()
    faults_in: Path = FAULTS
    soaks: Sequence[PublishedSoak] = ()
    soaks_in: Path = SOAKS

    def trial(self, name: str) -> Trial:
        """A trial, also one that was not made."""
        return self.trials.get(name, NOT_THERE)

    @property
    def seed(self) -> int:
        """The seed of the report's runs, or of its first experiment if campaign.json has none."""
        if self.suite.seed is not None:
            return self.suite.seed
        return next((measured.seed for measured in self.experiments.values()), 0)

    @property
    def foreign_limit(self) -> float:
        """Share of the machine's CPU time that others may use in a run."""
        given = self.suite.foreign_limit
        return FOREIGN_LIMIT if given is None else given

    @property
    def spent(self) -> Spent | None:
        """What part of the time that the report took was measured; None where it was not kept."""
        if not self.suite.took_s:
            return None
        windows = [c.manifest.window for _, c in self.cells() if c.manifest]
        measured = sum(window.stop_ns - window.measure_ns for window in windows) / 1e9
        return Spent(measured, self.suite.took_s)

    def cells(self) -> Iterator[tuple[Arm, CountedCell]]:
        """Every cell of every experiment with its arm, in the report's order."""
        for measured in self.experiments.values():
            for _, cell in sorted(measured.cells.items()):
                yield measured.arms[cell.arm], cell

    def pair(
        self, candidate: System = STUDIED, baseline: System = CONTROL, **want: Any
    ) -> Pair | None:
        """The first experiment where two systems meet with everything else alike."""
        return find_pair(self.experiments, candidate, baseline, **want)

    def floor(self, arm: Arm) -> Arm | None:
        """The `null` arm that does what an arm does: the generator alone."""
        return find_floor(self.experiments, arm)


def read_evidence(
    folder: Path,
    sweeps: Sequence[Path] = (),
    published: Path | None = None,
    only: Collection[str] | None = None,
    hunts: Path | None = None,
    found: Path = FOUND,
    crashes: Path | None = None,
    faults: Path | None = None,
    soaks: Path | None = None,
) -> Evidence:
    """Read a folder of experiments (or a single one), and campaign.json where there is one.

    sweeps : folders of sweeps that the user named, beside those that campaign.json names.
    published : folder of sweeps that were published; one is told unless a sweep of its name is
        among the others. only : the names of those that are wanted, None for all.
    hunts : folder of hunts that were published, None to tell of none. found : folder of the
        findings that have a script, which are told with the hunts. crashes : folder of crash
        campaigns that were published, None to tell of none. faults, soaks : the same of these.
    Raises RunError where there is no experiment at all. If a single one cannot be read, the reason
    is kept in `unread`.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise RunError(f"{folder}: there is no such folder. `cwkit report` makes one.")
    unread: list[str] = []
    suite = _suite(folder, unread)
    there = suite or NO_SUITE
    limit = FOREIGN_LIMIT if there.foreign_limit is None else there.foreign_limit
    experiments: dict[str, Measured] = {}
    swept: dict[str, Measured] = {}
    for place in _places(folder, there, sweeps, unread):
        try:
            measured = gather(read_experiment(place), limit)
        except RunError as error:
            unread.append(str(error))
        else:
            those = swept if measured.points else experiments
            name = _name(measured, those)
            those[name] = replace(measured, name=name)
    if not experiments and not swept and not unread and not (folder / TRIALS).is_dir():
        raise RunError(f"{folder}: holds no experiment. `cwkit report` makes them and reports.")
    rank = {name: n for n, name in enumerate(ORDER)}
    names = sorted(experiments, key=lambda name: (rank.get(name, len(rank)), name))
    matrix, known = _isolation(folder, unread)
    if suite is not None and not (folder / MATRIX).exists():
        unread.append(
            markdown("The isolation matrix was not made: `cwkit report --into` makes it.")
        )
    ordered = {name: experiments[name] for name in names}
    kept = _published(published, swept, unread, only)
    sittings = _sittings(folder, limit, unread) if suite else ()
    hunted, ours = _hunts(hunts, found, unread)
    crashed, why = read_crashes(crashes) if crashes is not None else ([], [])
    struck, why_not = read_faults(faults) if faults is not None else ([], [])
    soaked, why_none = read_soaks(soaks) if soaks is not None else ([], [])
    unread += [*why, *why_not, *why_none]
    swept = dict(sorted((swept | {name: one.measured for name, one in kept.items()}).items()))
    return Evidence(
        folder,
        ordered,
        there,
        there.answers(),
        tuple(unread),
        matrix,
        known,
        swept,
        read_served(folder, limit),
        facts_of(ordered, swept, there.offered_per_s, planned(False, 0) if suite else ()),
        kept,
        sittings,
        {name: read_trial(folder, name, limit) for name in trials_of_claims() if name != "replica"},
        hunted,
        ours,
        hunts or HUNTS,
        crashed,
        crashes or CRASHES,
        struck,
        faults or FAULTS,
        soaked,
        soaks or SOAKS,
    )


def _suite(folder: Path, unread: list[str]) -> Suite | None:
    """campaign.json, or None. If it is there but cannot be read, `unread` says why."""
    if not os.path.lexists(folder / SUITE_FILE):
        return None
    try:
        return read_suite(folder)
    except LaterVersion:
        raise
    except RunError as error:
        unread.append(str(error))
        return None


def _places(folder: Path, suite: Suite, sweeps: Sequence[Path], unread: list[str]) -> list[Path]:
    """The folders of the experiments and of the sweeps that the user named, each once."""
    named = [resolved(sweep) for sweep in sweeps]
    if os.path.lexists(folder / NOTE):
        return list(dict.fromkeys([resolved(folder), *named]))
    found = []
    for name in sorted(os.listdir(folder)):
        if os.path.lexists(folder / name / NOTE):
            try:
                found.append(resolved(inside(folder, name)))
            except RunError as error:
                unread.append(str(error))
    for place in suite.sweeps:
        try:
            found.append(resolved(sweep_beside(folder, place)))
        except RunError as error:
            if resolved(folder / place) not in named:
                unread.append(str(error))
    return list(dict.fromkeys([*found, *named]))


def _sittings(folder: Path, limit: float, unread: list[str]) -> tuple[Sitting, ...]:
    """The later sittings of a report that have runs."""
    found = []
    for number in range(2, MOST_SITTINGS + 1):
        name = f"{SITTING}{number}"
        if not os.path.lexists(folder / name):
            continue
        try:
            place = inside(folder, name)
            started = read_suite(place).started
            entries = sorted(os.listdir(place))
        except (RunError, OSError) as error:
            unread.append(f"The sitting {name} is not told. {error}")
            continue
        experiments = {}
        for entry in entries:
            if os.path.lexists(place / entry / NOTE):
                try:
                    measured = gather(read_experiment(inside(place, entry)), limit)
                except RunError as error:
                    unread.append(str(error))
                else:
                    experiments[measured.name] = measured
        if experiments:
            found.append(Sitting(name, started, experiments))
    return tuple(found)


def _published(
    folder: Path | None,
    swept: Mapping[str, Measured],
    unread: list[str],
    only: Collection[str] | None,
) -> dict[str, Published]:
    """The published sweeps that were not measured anew, by name."""
    if folder is None:
        return {}
    found, why = read_published(folder, only)
    unread += why
    return {one.name: one for one in found if one.name not in swept}


def _hunts(
    folder: Path | None, found: Path, unread: list[str]
) -> tuple[list[PublishedHunt], list[KitFinding]]:
    """The published hunts and the kit's findings; none where hunts are not asked for."""
    if folder is None:
        return [], []
    hunts, why = read_hunts(folder)
    ours, why_not = read_found(found)
    unread += [*why, *why_not]
    return hunts, ours


def _name(measured: Measured, there: Mapping[str, Measured]) -> str:
    """An experiment's name in the report: its own, with its seed if that name is taken.

    Headings and files are named by it, so it has letters, digits and "-_." only.
    """
    names = (measured.name, f"{measured.name}-s{measured.seed}")
    more = (f"{names[1]}.{n}" for n in range(2, len(there) + 3))
    return next(name for name in (*names, *more) if name not in there)


def _isolation(folder: Path, unread: list[str]) -> tuple[isolation.Rows, isolation.Rows]:
    """Matrix and known findings of a report's folder; empty if there are none or it is cut."""
    try:
        return isolation.read_matrix(folder / MATRIX)
    except FileNotFoundError:
        return [], []
    except RunError as error:
        unread.append(f"{error} So the isolation part is missing.")
        return [], []


def where(*arms: Arm) -> Markdown:
    """The runs behind a number, short enough for a sentence: `headline/b00-x` and so on."""
    measured = arms[0].measured
    runs = measured.runs(*arms) or tuple(c.run for a in arms for c in a.cells if c.run)
    if not runs:
        return markdown("experiment {}, no run", code(measured.name))
    if len(runs) == 1:
        return markdown("run {}", code(f"{measured.name}/{runs[0]}"))
    blocks = sorted({run.split("-")[0] for run in runs})
    span = blocks[0] if len(blocks) == 1 else f"{blocks[0]}…{blocks[-1]}"
    return markdown("{} {}", times(len(runs), "run"), code(f"{measured.name}/{span}"))
