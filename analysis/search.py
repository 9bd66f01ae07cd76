"""The runs behind `cwkit search`: a closed loop for the capacity, then an open loop for each rate.

A search is a folder: `search.json` says what is looked for, and each run is a run folder in it. A
run that is there and whole is never made again, so that an interrupted search goes on where it
was: the same answers lead to the same next rate.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from analysis import words
from analysis.bisect_rate import STEP, Answer, highest_rate
from analysis.compare import FOREIGN_LIMIT, contamination
from analysis.intervals import resampled_percentile
from analysis.rates import count
from analysis.slo import SHARES, Judgement, Objective, judge, load_of, parse_objectives, statistic
from workloads.engines import EngineMissing, find_engine
from workloads.locks import Held, locked
from workloads.plan import Plan, PlanError
from workloads.processes import FolderUnwritable, OnProgress, RunFailed, prepare, run
from workloads.recording import FORMAT_VERSION, Run, RunError, read_manifest, read_run

SEARCH, DOCUMENT = "search.json", "answer.json"
EARLIER = "earlier"
SPARE = 3
"""Runs beyond the asked-for repeats that are made where others used the machine meanwhile."""

LONGEST_S = 60.0
GRACES = 5
"""Times the limit that a window lasts at least: its last limit's worth is not judged."""

SURPLUS = 1.3
"""Samples more than are needed, so that a slow minute still has enough."""


class Undecided(RuntimeError):
    """The search cannot be decided on this machine now; the text says why and the way out."""


@dataclass(frozen=True)
class Search:
    """What is looked for: the whole of it is in `search.json`.

    plan : as of a closed loop; rate and duration are the search's. repeats : runs at each rate, of
    which more than half must meet the objectives. step : between neighbouring rates. longest_s : a
    window is lengthened so far for the sake of enough samples.
    """

    plan: Plan
    objective: str
    repeats: int = 3
    step: float = STEP
    longest_s: float = LONGEST_S
    foreign_limit: float = FOREIGN_LIMIT

    @property
    def objectives(self) -> tuple[Objective, ...]:
        return parse_objectives(self.objective)

    @property
    def role(self) -> str:
        return "writer" if self.plan.writers else "reader"

    def at(self, rate: float, repeat: int) -> Plan:
        """The plan of one run; rate 0 is the closed loop. Repeats share their draws at all rates.

        Raises PlanError where no window of `longest_s` could hold enough transactions.
        """
        seed = int(np.random.SeedSequence([self.plan.seed, repeat]).generate_state(1)[0])
        name = "rate" if self.role == "writer" else "read_rate"
        changes = {"seed": seed, name: rate, "duration_s": self.window_s(rate)}
        return Plan(**{**self.plan.model_dump(), **changes})

    def window_s(self, rate: float) -> float:
        """How long to measure at a rate: as the plan says, or for as long as the objectives need.

        Raises PlanError where that is longer than `longest_s`.
        """
        graces = GRACES * self._grace_s()
        needed = self._samples() / rate + self._grace_s() if rate else 0.0
        window = max(self.plan.duration_s, graces, needed)
        if window > max(self.longest_s, self.plan.duration_s):
            where = f" at {rate:,g} a second" if rate else ""
            raise PlanError(
                f'"{self.objective}" needs windows of {window:.3g} s{where} '
                f"(at least {self._samples():,.0f} transactions, and {GRACES} times the limit), "
                f"and --longest is {self.longest_s:g} s. Give a longer one, or an objective that "
                "needs less."
            )
        return float(window)

    def floor(self) -> float:
        """The lowest rate that can be judged in the longest window."""
        self.window_s(0)
        longest = max(self.longest_s, self.plan.duration_s)
        # A hundredth more: rates are rounded to three digits.
        return 1.01 * self._samples() / (longest - self._grace_s())

    def _samples(self) -> float:
        return max(objective.samples for objective in self.objectives) * SURPLUS

    def _grace_s(self) -> float:
        return max(objective.grace_ns for objective in self.objectives) / 1e9

    def data(self) -> dict[str, Any]:
        """As `search.json` has it."""
        return {
            "cwkit": FORMAT_VERSION,
            "search": self.objective,
            "plan": self.plan.model_dump(mode="json"),
            "repeats": self.repeats,
            "step": self.step,
            "longest_s": self.longest_s,
            "foreign_limit": self.foreign_limit,
        }


@dataclass
class Probe:
    """What the runs at one rate came to. runs : names. broken : checks that did not hold."""

    rate: float
    duration_s: float
    runs: list[str] = field(default_factory=list)
    judged: list[Judgement] = field(default_factory=list)
    why: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    met_runs: int = 0

    @property
    def met(self) -> bool:
        return 2 * self.met_runs > len(self.runs)

    def latencies_ns(self) -> np.ndarray:
        """Of all runs, one after the other in the order of time; infinite: never served."""
        return np.concatenate([*(j.latencies_ns for j in self.judged), np.zeros(0)])

    def statistic(self, name: str) -> tuple[float, float, float]:
        """(low, value, high) of a statistic over all runs of the rate, nan where it is not known.

        The interval is within the runs: stretches of time are drawn again in blocks.
        """
        if name == "abort-rate":
            return np.nan, self.abort_rate, np.nan
        values = self.latencies_ns()
        if name not in SHARES or values.size * (1 - SHARES[name]) + 1e-9 < 10:
            return np.nan, statistic(name, values) if name not in SHARES else np.nan, np.nan
        drawn = resampled_percentile(values, SHARES[name], seed=values.size)
        low, high = (
            (np.nan, np.nan)
            if drawn is None
            else np.quantile(drawn, [0.025, 0.975], method="nearest")
        )
        return float(low), statistic(name, values), float(high)

    @property
    def abort_rate(self) -> float:
        """The mean of its runs, nan without any."""
        return float(np.mean([j.abort_rate for j in self.judged])) if self.judged else np.nan

    @property
    def served_per_s(self) -> float:
        return float(np.mean([j.served_per_s for j in self.judged])) if self.judged else np.nan


@dataclass(frozen=True)
class Found:
    """A search that has come to its end. capacity : the closed loop's median, commits a second."""

    search: Search
    folder: Path
    capacity: float
    capacity_runs: tuple[str, ...]
    probes: Mapping[float, Probe]
    answer: Answer

    @property
    def broken(self) -> list[str]:
        return [line for probe in self.probes.values() for line in probe.broken]


def begin(search: Search, folder: Path) -> None:
    """Write `search.json`, or see that the one there looks for the same.

    Raises RunError where it does not, PlanError where the objective can't be judged at any rate,
    FolderUnwritable.
    """
    search.floor()
    asked = json.loads(json.dumps(search.data()))
    if (folder / SEARCH).exists():
        there = read_search(folder).data()
        differs = [key for key in asked if asked[key] != json.loads(json.dumps(there[key]))]
        if "plan" in differs:
            differs.remove("plan")
            differs += [key for key in asked["plan"] if asked["plan"][key] != there["plan"][key]]
        if differs:
            raise RunError(
                f"{folder}: holds another search (it differs in {', '.join(differs)}). "
                "Give --into FOLDER alone to go on with it, or leave --into out to begin another."
            )
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / SEARCH).write_text(json.dumps(asked, indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise _unwritable(folder, error) from error


def read_search(folder: Path) -> Search:
    """The search of a folder. Raises RunError for one that holds none."""
    path = folder / SEARCH
    if not path.is_file():
        raise RunError(f"{folder}: no search was begun there (it has no {SEARCH}).")
    try:
        said = json.loads(path.read_text(encoding="utf-8"))
        if int(said["cwkit"]) > FORMAT_VERSION:
            raise RunError(f"{path}: written by a later cwkit. Update cwkit to read it.")
        return Search(
            Plan(**said["plan"]),
            said["search"],
            int(said["repeats"]),
            float(said["step"]),
            float(said["longest_s"]),
            float(said["foreign_limit"]),
        )
    except RunError:
        raise
    except (ValueError, KeyError, TypeError) as error:
        raise RunError(f"{path}: cut or edited ({type(error).__name__}: {error}).") from error


Say = Callable[[str], None]


def conduct(
    folder: Path,
    *,
    command: str = "",
    databases: Path | None = None,
    on_progress: OnProgress | None = None,
    say: Say = lambda line: None,
) -> Found:
    """Make what is missing of the search in a folder, and return what it came to.

    say : called with a line for each run that was judged.
    Raises Undecided where others use the machine too much, or where the closed loop commits
    nothing; RunError where another process is at this search; RunFailed and its kin where a run
    can't be made; KeyboardInterrupt.
    """
    try:
        with locked(folder) as file:
            making = _Making(folder, command, databases, on_progress, say, file)
            return _found(making)
    except Held:
        raise RunError(
            f"{folder}: another process is at this search. Wait until it has ended, then go on "
            "with the same command."
        ) from None


def _found(making: _Making) -> Found:
    folder = making.folder
    try:
        capacity, runs = making.capacity()
        probes: dict[float, Probe] = {}

        def met(rate: float) -> bool:
            probes[rate] = making.probe(rate)
            return probes[rate].met

        answer = highest_rate(capacity, met, step=making.search.step, floor=making.search.floor())
    except (RunFailed, EngineMissing):
        if not any(path.is_dir() for path in folder.iterdir() if path.name != "templates"):
            shutil.rmtree(folder)  # a mode that is refused, say: nothing was measured
        raise
    finally:
        shutil.rmtree(folder / "templates", ignore_errors=True)
    probes = dict(sorted(probes.items()))
    return Found(making.search, folder, capacity, runs, probes, answer)


class _Making:
    """A search while it is made. The public door is `conduct`."""

    def __init__(
        self,
        folder: Path,
        command: str,
        databases: Path | None,
        on_progress: OnProgress | None,
        say: Say,
        lock: int,
    ) -> None:
        self.folder, self.search = folder, read_search(folder)
        self.command, self.databases, self.on_progress = command, databases, on_progress
        self.say, self.lock = say, lock
        self.template: Path | None = None

    def capacity(self) -> tuple[float, tuple[str, ...]]:
        """Commits a second of a closed loop, the median of the repeats, and the runs' names."""
        role, found = self.search.role, {}
        for name, made in self.clean("capacity", 0.0):
            counted = count(made)
            found[name] = counted.roles[role].per_s if role in counted.roles else 0.0
            self.say(f"closed loop, {name}: {words.number(found[name])} tx/s")
            if len(found) == self.search.repeats:
                break
        capacity = float(np.median(list(found.values())))
        if not capacity > 0:
            raise Undecided(
                f"{self.folder}: the closed loop committed nothing, so that no rate can be tried. "
                f"`cwkit show {self.folder}/capacity-1` says what its attempts met."
            )
        return capacity, tuple(found)

    def probe(self, rate: float) -> Probe:
        """Runs at one rate, until more than half of the repeats agree."""
        search = self.search
        probe = Probe(rate, search.window_s(rate))
        for name, made in self.clean(f"rate-{rate:g}", rate):
            probe.runs.append(name)
            probe.broken += [
                f"{name}: {f['check']}: {f['sentence']}"
                for f in made.manifest.get("findings", [])
                if not f.get("ok")
            ]
            if made.manifest.get("ok"):
                judged = judge(load_of(made, search.role), search.objectives)
                probe.judged.append(judged)
                probe.met_runs += bool(judged.met)
                why = judged.why or (() if judged.met else ("too few transactions to tell",))
            else:
                why = (f"the run ended as {made.manifest.get('ended')!r}",)
            probe.why += [line for line in why if line not in probe.why]
            said = f"not met: {'; '.join(why)}" if why else "met"
            self.say(f"{rate:,g} a second, {name}: {said}")
            agreed = max(probe.met_runs, len(probe.runs) - probe.met_runs)
            if 2 * agreed > search.repeats or len(probe.runs) == search.repeats:
                break
        return probe

    def clean(self, stem: str, rate: float) -> Iterator[tuple[str, Run]]:
        """(name, run) of the runs of one rate that nobody else disturbed, one after the other.

        Raises Undecided where too many are disturbed.
        """
        done, disturbed = 0, ""
        for number in range(1, self.search.repeats + SPARE + 1):
            name = f"{stem}-{number}"
            made = self.made(name, self.search.at(rate, number))
            if why := contamination(made.manifest, self.search.foreign_limit):
                disturbed = why
                self.say(f"{name}: not counted, {why}")
                continue
            done += 1
            yield name, made
        raise Undecided(
            f"{self.folder}: only {words.times(done, 'run')} of {stem} "
            f"{'was' if done == 1 else 'were'} undisturbed: {disturbed}. Close other programs, "
            "or begin a search with a greater --foreign-limit."
        )

    def made(self, name: str, plan: Plan) -> Run:
        """The run of that name: as it is there, or made now."""
        where = self.folder / name
        if where.exists():
            try:
                ended = read_manifest(where).get("ended")
                if ended not in ("running", "interrupted"):
                    return read_run(where)
            except RunError:
                pass
            self.set_aside(where)
        if self.template is None and find_engine(plan.database).file_format != "none":
            self.template = prepare(plan, self.folder / "templates", self.on_progress)
        made = run(
            plan,
            self.folder,
            name=name,
            command=self.command,
            databases=self.databases,
            template=self.template,
            on_progress=self.on_progress,
            conduct={"way": "search", "jobs": 1, "oversubscribed": False},
            inherit=(self.lock,),
        )
        if made.manifest["ended"] == "interrupted":
            raise KeyboardInterrupt
        return made

    def set_aside(self, where: Path) -> None:
        """Keep a run that was cut short where it is in nobody's way."""
        earlier = self.folder / EARLIER
        try:
            earlier.mkdir(exist_ok=True)
            number = 1
            while (earlier / f"{where.name}.{number}").exists():
                number += 1
            os.replace(where, earlier / f"{where.name}.{number}")
        except OSError as error:
            raise _unwritable(self.folder, error) from error


def _unwritable(folder: Path, error: OSError) -> FolderUnwritable:
    return FolderUnwritable(
        f"{folder}: cannot be written ({error.strerror}). Give another folder with --runs."
    )
