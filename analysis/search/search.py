"""The runs behind `cwkit search`: a closed loop for the capacity, then an open loop for each rate.

A run that is in the search's folder and whole is never made again, so that an interrupted search
goes on where it was: the same answers lead to the same next rate.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

import numpy as np

from analysis import wording
from analysis.counting import contamination, count
from analysis.search.bisect import Answer, highest_rate
from analysis.search.folder import Search, as_here, not_one_search, read_search, search_confounders
from analysis.search.objective import SHARES, Judgement, judge, load_of, statistic
from analysis.statistics import Series, joined_values, resampled_percentile
from workloads.engines import find_engine
from workloads.errors import EngineMissing, RunError, RunFailed
from workloads.experiments import EARLIER, TEMPLATES, finished, unwritable
from workloads.files import LOCK_FILE, Held, inside, locked, move_aside, remove
from workloads.records import Run, read_manifest, read_run
from workloads.runs import PARENT_KILLED, OnProgress, Plan, disk_trouble, prepare, run, why_not

SPARE = 3
"""Runs beyond the asked-for repeats that are made where others used the machine meanwhile."""


class Undecided(RuntimeError):
    """The search cannot be decided on this machine now; the text says why and the way out."""


@dataclass
class Probe:
    """The runs at one rate and their result. runs : names. broken : checks that did not hold."""

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

    def latencies_ns(self) -> Series:
        """Latencies of all runs in the order of time; infinite for those never served."""
        each = [judged.latencies_ns for judged in self.judged]
        return Series(
            sum(series.size for series in each),
            lambda: joined_values(each),
            lambda: chain.from_iterable(series.pieces() for series in each),
        )

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


CUT_SHORT = ("running", "interrupted", PARENT_KILLED)

Notify = Callable[[str], None]


def run_search(
    folder: Path,
    *,
    command: str = "",
    databases: Path | None = None,
    on_progress: OnProgress | None = None,
    notify: Notify = lambda line: None,
    begun: Sequence[Path] = (),
) -> Found:
    """Make what is missing of the search in a folder, and return what it came to.

    notify : called with a line for each run that was judged. begun : what `begin` made just now;
    it is taken back where the first run can't be made.
    Raises Undecided where others use the machine too much, or where the closed loop commits
    nothing; RunError where another process is at this search; RunFailed and its kin where a run
    can't be made; KeyboardInterrupt.
    """
    try:
        with locked(folder) as file:
            making = _Making(folder, command, databases, on_progress, notify, file)
            return _found(making, begun)
    except Held:
        raise RunError(
            f"{folder}: another process is at this search. Wait until it has ended, then go on "
            "with the same command."
        ) from None


def _found(making: _Making, begun: Sequence[Path]) -> Found:
    folder = making.folder
    remove(folder, TEMPLATES)  # of a search that was killed
    try:
        capacity, runs = making.capacity()
        probes: dict[float, Probe] = {}

        def met(rate: float) -> bool:
            probes[rate] = making.probe(rate)
            return probes[rate].met

        answer = highest_rate(capacity, met, step=making.search.step, floor=making.search.floor())
    except (RunFailed, EngineMissing):
        if begun and not any(p.is_dir() for p in folder.iterdir() if p.name != TEMPLATES):
            _take_back(folder, begun)  # a mode that is refused, say: nothing was measured
        raise
    finally:
        remove(folder, TEMPLATES)
    probes = dict(sorted(probes.items()))
    return Found(making.search, folder, capacity, runs, probes, answer)


def _take_back(folder: Path, begun: Sequence[Path]) -> None:
    """Remove what `begin` and this search have made, and nothing else."""
    remove(folder, TEMPLATES)
    with contextlib.suppress(OSError):  # somebody put a file of theirs there meanwhile
        (folder / LOCK_FILE).unlink(missing_ok=True)
        for path in begun:
            path.rmdir() if path.is_dir() else path.unlink()


class _Making:
    """A search while it is made. The public function is `run_search`."""

    def __init__(
        self,
        folder: Path,
        command: str,
        databases: Path | None,
        on_progress: OnProgress | None,
        notify: Notify,
        lock: int,
    ) -> None:
        self.folder, self.search = folder, read_search(folder)
        self.command, self.databases, self.on_progress = command, databases, on_progress
        self.notify, self.lock = notify, lock
        self.template: Path | None = None
        self.first: Run | None = None
        self.here = False

    def capacity(self) -> tuple[float, tuple[str, ...]]:
        """Commits a second of a closed loop, the median of the repeats, and the runs' names."""
        role, found = self.search.role, {}
        for name, made in self.clean("capacity", 0.0):
            counted = count(made)
            found[name] = counted.roles[role].per_s if role in counted.roles else 0.0
            self.notify(f"closed loop, {name}: {wording.number(found[name])} tx/s")
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
        judged: dict[str, Judgement] = {}

        def too_short(name: str, made: Run) -> str:
            if not made.manifest.ok:
                return ""
            judged[name] = judge(load_of(made, search.role), search.objectives)
            many = wording.times(judged[name].latencies_ns.size, "transaction")
            return f"{many} are too few to tell" if judged[name].met is None else ""

        for name, made in self.clean(f"rate-{rate:g}", rate, too_short):
            probe.runs.append(name)
            probe.broken += [f"{name}: {f.check}: {f.sentence}" for f in made.manifest.broken]
            if name in judged:
                probe.judged.append(judged[name])
                probe.met_runs += bool(judged[name].met)
                why = judged[name].why
            else:
                why = tuple(why_not(made.manifest))
            probe.why += [line for line in why if line not in probe.why]
            verdict = f"not met: {'; '.join(why)}" if why else "met"
            self.notify(f"{rate:,g} a second, {name}: {verdict}")
            agreed = max(probe.met_runs, len(probe.runs) - probe.met_runs)
            if 2 * agreed > search.repeats or len(probe.runs) == search.repeats:
                break
        return probe

    def clean(
        self,
        stem: str,
        rate: float,
        too_short: Callable[[str, Run], str] = lambda name, made: "",
    ) -> Iterator[tuple[str, Run]]:
        """(name, run) of the runs of one rate that can be counted, one after the other.

        Skips two kinds of runs: those that other programs disturbed, and those too short to judge.
        too_short : why a run is too short to judge, "" where it is not. Raises Undecided where
        too many runs are skipped.
        """
        done, reasons = 0, dict.fromkeys(("disturbed", "too_short"), "")
        for number in range(1, self.search.repeats + SPARE + 1):
            name = f"{stem}-{number}"
            made = self.made(name, self.search.at(rate, number))
            disturbed = contamination(made.manifest, self.search.foreign_limit)
            if why := disturbed or too_short(name, made):
                reasons["disturbed" if disturbed else "too_short"] = why
                self.notify(f"{name}: not counted, {why}")
                continue
            done += 1
            yield name, made
        remedies = {
            "disturbed": "Close other programs, or begin a search with a greater --foreign-limit.",
            "too_short": "Begin a search with a longer --duration.",
        }
        raise Undecided(
            f"{self.folder}: only {wording.times(done, 'run')} of {stem} could be counted: "
            f"{'; '.join(filter(None, reasons.values()))}. "
            + " ".join(remedy for reason, remedy in remedies.items() if reasons[reason])
        )

    def made(self, name: str, plan: Plan) -> Run:
        """The run of that name: as it is there, or made now, and alike to all others.

        Raises RunError where it is not, of another machine, checkout or version of an engine, say.
        """
        kept = self.there(name)
        if kept is None:
            self.must_be_here()
        made = kept or self.make(name, plan)
        self.first = self.first or made
        if found := search_confounders(self.first.manifest, made.manifest):
            if kept is None:
                self.set_aside(made.folder)  # so that the search can still go on where it was
            raise not_one_search(self.folder, self.first.name, name, found)
        return made

    def must_be_here(self) -> None:
        """See once, before anything is run, that what is kept was made here, as it would be now."""
        if self.first is not None and not self.here:
            now = as_here(self.first.manifest, self.databases)
            if found := search_confounders(self.first.manifest, now):
                raise not_one_search(self.folder, self.first.name, "a run of here and now", found)
        self.here = True

    def there(self, name: str) -> Run | None:
        """The run of that name, None where it is not there; what was cut short is set aside."""
        where = inside(self.folder, name)
        if where.exists():
            finished(where)
            try:
                manifest = read_manifest(where)
                cut = manifest.under_way is not None or manifest.ended in CUT_SHORT
                if not cut and not disk_trouble(manifest):
                    return read_run(where)
            except RunError:
                pass
            if where.exists():  # else nothing was measured of it
                self.set_aside(where)
        return None

    def make(self, name: str, plan: Plan) -> Run:
        engine = find_engine(plan.database)
        copied = engine.file_format != "none" and getattr(engine, "copied", True)
        if self.template is None and copied:
            self.template = prepare(plan, self.folder / TEMPLATES, self.on_progress)
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
        if made.manifest.ended == "interrupted":
            raise KeyboardInterrupt
        if why := disk_trouble(made.manifest):
            raise Undecided(
                f"{made.folder}: {why} The search goes on with: cwkit search --into {self.folder}"
            )
        return made

    def set_aside(self, where: Path) -> None:
        """Keep a run that was cut short where it is in nobody's way."""
        try:
            move_aside(self.folder, EARLIER, where.name, {where.name: ""})
        except OSError as error:
            raise unwritable(self.folder, error) from error
