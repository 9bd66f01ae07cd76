"""How the runs of a report were made: the numbers in the method's sentences, the machine, what was
missing.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from analysis.counting import FOREIGN_LIMIT
from analysis.report.acked import ORDINARY
from analysis.report.evidence import Evidence
from analysis.report.markdown import Markdown, code, markdown
from analysis.statistics import FEWEST_BLOCKS, SHORT, UNSTEADY
from analysis.wording import DASH, Table, duration, listed, number, percent, times, whole
from workloads.records import Retry

MOST_LINES_OF_A_COMMAND = 5

SIMULATIONS = "simulations.csv"
"""Beside the figures: how often intervals and claims are right, by simulation (tools/)."""

MOST_SIMULATIONS = 200


class Effort(NamedTuple):
    """How long the runs of a report took together, and how much of that was measured, s.

    runs : those whose time is known; older runs do not tell it.
    """

    runs: int
    took_s: float
    measured_s: float

    @property
    def share(self) -> float:
        return self.measured_s / self.took_s if self.took_s else math.nan


def effort(evidence: Evidence) -> Effort:
    """The time of every run from its start to the end of its checks, and its window in that."""
    runs, took, inside = 0, 0.0, 0.0
    for measured in evidence.experiments.values():
        for key, cell in measured.cells.items():
            made = measured.experiment.cells.get(key)
            if made is not None and made.took_s > 0:
                runs += 1
                took += made.took_s
                inside += cell.counted.seconds if cell.counted is not None else 0.0
    return Effort(runs, took, inside)


def effort_sentence(evidence: Evidence) -> str:
    """How long it took and how much of it was measured."""
    if told := spent(evidence):
        return told
    found = effort(evidence)
    if not found.runs:
        return "How long these runs took is not known: they were made before runs told it."
    return (
        f"{times(found.runs, 'run')} took {duration(found.took_s * 1e9)} together, of which "
        f"{duration(found.measured_s * 1e9)} ({percent(found.share)}) were measured; the rest was "
        "starting, loading, warming up and checking. The engines' answers, the schedules of the "
        "isolation matrix and the server come on top."
    )


def covers(evidence: Evidence) -> str:
    """What the intervals cover: on which machines the runs were made, and when."""
    cells = [cell for _, cell in evidence.cells() if cell.manifest]
    places = {cell.place for cell in cells}
    on = "one machine" if len(places) < 2 else times(len(places), "machine")
    begun = sorted(
        cell.manifest.started for cell in cells if cell.manifest and cell.manifest.started
    )
    when = f", from {begun[0]} to {begun[-1]}" if begun else ""
    more = len(evidence.sittings)
    later = ""
    if more:
        later = f" {times(more, 'later sitting')} measured again what is claimed (see the method)."
    return (
        f"The intervals cover one sitting on {on}{when}. Another day, another disk or more cores "
        f"may differ by more than they say.{later}{_published(evidence)}"
    )


def _published(evidence: Evidence) -> str:
    """Sweeps that are told from what was published earlier, with their dates and machines."""
    alike: dict[str, list[str]] = {}
    for name, one in evidence.published.items():
        alike.setdefault(f"measured {one.date} on {one.machine}", []).append(name)
    if not alike:
        return ""
    told = [f"{listed(names)} ({when})" for when, names in alike.items()]
    return f" Told as they were published, with all that rests on their runs: {'; '.join(told)}."


def limits(evidence: Evidence) -> list[Markdown]:
    """What these runs cannot tell. Each line follows what was tried and what was not."""
    arms = [
        arm
        for measured in (*evidence.experiments.values(), *evidence.sweeps.values())
        for arm in measured.arms.values()
        if arm.usable and arm.engine != "null" and arm.plan["scenario"] != "acked"
    ]
    found = [c.manifest.machine.cores for _, c in evidence.cells() if c.manifest]
    cores = {count for count in found if count}
    levels = sorted({str(arm.plan["synchronous"]).upper() for arm in arms})
    longest = max((float(arm.plan["duration_s"]) for arm in arms), default=0.0)
    on = f"{listed([str(count) for count in sorted(cores)])} cores" if cores else "this machine"
    strict = (
        "so that COMMIT was seen to weigh what it weighs on this disk"
        if {"FULL", "EXTRA"} & set(levels)
        else "and with FULL or on a slower disk COMMIT weighs more"
    )
    return [
        markdown(
            "Other machines. These runs had {}; with more of them the room for overlapping work is "
            "larger. Throughput was measured with synchronous {}, {}.",
            on,
            listed(levels) or "at no level",
            strict,
        ),
        markdown(
            "Your application. Its transactions touch other pages, wait for other things, and may "
            "not be safe to run twice, which every refused commit demands of them."
        ),
        _lost(evidence),
        markdown(
            "Starvation over more than {} s, which is the longest window here: who waits longer "
            "than that is cut; `cwkit run --duration 60` looks longer.",
            number(longest),
        ),
        markdown(
            "Long runs. Seconds show no slow growth of the log, no fragmentation, no thermal limit."
        ),
        markdown(
            "A real network. At most one client over loopback was measured: a network adds its "
            "round trip to each hop, and encryption and other clients add more."
        ),
        markdown(
            "Anything faster than the generator, which is Python: where a throughput comes near "
            "`null`, it is the generator's and the machine's."
        ),
        markdown(
            "That no anomaly exists: checks that held are no proof. `properties/` looks for "
            "anomalies."
        ),
    ]


def _lost(evidence: Evidence) -> Markdown:
    """How much the runs say of lost commits under an ordinary load."""
    calm = evidence.facts.acked.of(ORDINARY)
    if not calm:
        return markdown(
            "How often an application whose connections checkpoint by themselves loses commits: no "
            "run had such a load. `cwkit sweep acked` has it."
        )
    return markdown(
        "How often an ordinary application loses commits: {} acknowledged ones of a load whose "
        "writers checkpoint by themselves are no proof for millions.",
        whole(sum(group.acknowledged for group in calm)),
    )


def simulations(figures: Path) -> tuple[Table | None, str]:
    """The table of the simulations beside the figures, and what it says, as text.

    Each row is a case: a nominal rate, the rate observed in so many tries, and its interval.
    """
    path = figures / SIMULATIONS
    if not path.is_file():
        return None, ""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(islice(csv.DictReader(file), MOST_SIMULATIONS))
        shown = [
            (
                row["case"],
                row["what"],
                percent(float(row["nominal"])) if row["nominal"] else DASH,
                percent(float(row["observed"])),
                f"{percent(float(row['low']))} to {percent(float(row['high']))}",
                whole(float(row["tries"])),
            )
            for row in rows
        ]
        said = _simulated(rows)
    except (
        OSError,
        UnicodeError,
        csv.Error,
        KeyError,
        TypeError,
        ValueError,
        OverflowError,
    ) as error:
        return None, f"{SIMULATIONS} cannot be read ({error}), so that its table is left out."
    head = ("case", "what", "nominal", "observed", "interval of that", "tries")
    return Table(head, shown), said


def _simulated(rows: Sequence[Mapping[str, str]]) -> str:
    """What the cases observed, from the least to the greatest of each kind that has a nominal."""
    kinds: dict[tuple[str, float], list[float]] = {}
    for row in rows:
        if row["nominal"]:
            kind = row["what"], float(row["nominal"])
            kinds.setdefault(kind, []).append(float(row["observed"]))
    said = [
        f"{what}: {percent(min(seen))} to {percent(max(seen))} in {times(len(seen), 'case')}, "
        f"nominally {percent(nominal)}"
        for (what, nominal), seen in kinds.items()
    ]
    text = "; ".join(said)
    return f"{text[:1].upper()}{text[1:]}." if text else ""


def numbers(evidence: Evidence) -> dict[str, str]:
    """The numbers in the method's sentences, from the manifests."""
    cells = [cell for _, cell in evidence.cells() if cell.counted is not None]
    seconds = [c.counted.seconds for c in cells if c.counted]
    foreign = [c.manifest.foreign for c in cells if c.manifest]
    plans = [c.manifest.plan for c in cells if c.manifest]
    steady = [c.counted.steady for c in cells if c.counted and c.counted.steady]
    moved = [s for s in steady if s.warmup_s > s.planned_s]
    return {
        "moved": times(len(moved), "run"),
        "unsteady": str(sum(s.state == UNSTEADY for s in steady)),
        "short": str(sum(s.state == SHORT for s in steady)),
        "runs": times(len(cells), "run"),
        "cold": str(sum(c.manifest.plan.cache == "cold" for c in cells if c.manifest)),
        "seconds": " to ".join(
            dict.fromkeys(f"{edge(seconds, default=0.0):.3g}" for edge in (min, max))
        ),
        "warmups": ", ".join(f"{s:g}" for s in sorted({p.warmup_s for p in plans})),
        "retries": ", ".join(sorted({_retry_policy(p.retry) for p in plans})),
        "loops": ", ".join(sorted({"open" if p.rate else "closed" for p in plans})),
        "fewest": str(FEWEST_BLOCKS),
        "limit": percent(cells[0].foreign_limit if cells else FOREIGN_LIMIT),
        "dropped": f"{sum(bool(c.contaminated) for c in cells)} of {len(cells)}",
        "foreign": percent(max((f.cpu_share for f in foreign), default=0.0)),
        "steal": percent(max((f.steal_share for f in foreign), default=0.0)),
    }


def _retry_policy(retry: Retry) -> str:
    text: str = retry.policy
    if text == "exponential":
        text += f" with jitter from {retry.base_us:g} to {retry.cap_us:g} µs"
    most = retry.most_tries
    return f"{text}, at most {most} tries" if most else f"{text}, without a limit of tries"


def machine(evidence: Evidence) -> Mapping[str, Any]:
    """The machine of the first run that tells it, by the names of its parts."""
    for _, cell in evidence.cells():
        if cell.manifest and (shown := cell.manifest.machine.data()):
            if size := shown.pop("memory_bytes", None):
                shown["memory"] = f"{size / 2**30:.1f} GiB"
            return {key.replace("_", " "): value for key, value in shown.items()}
    return {}


def libraries(evidence: Evidence) -> Table:
    """Each engine that the runs used, with its build options."""
    rows: dict[str, tuple[str, ...]] = {}
    for _, cell in evidence.cells():
        for engine, entry in cell.manifest.engines.items() if cell.manifest else ():
            if entry.data() and engine not in rows:
                options = ", ".join(entry.options)
                rows[engine] = (engine, entry.binding, entry.version, entry.source_id, options)
    head = ("engine", "binding", "library", "source id", "build options")
    return Table(head, [rows[engine] for engine in sorted(rows)])


def missing(evidence: Evidence) -> list[str]:
    """Engines that were missing, the questions left open without them, and how to get them."""
    lost = {
        "sqlite-concurrent": "Without it nothing here says what BEGIN CONCURRENT does for libSQL",
        "libsql": "Without it there is no libSQL side to compare with",
        "sqlite-latest": "Without it only one fixed version controls the search for lost commits",
        "turso": "Without it nothing is said about Turso's row-level BEGIN CONCURRENT",
    }
    lines = []
    for probe in evidence.probes.values():
        if probe.missing:
            part = lost.get(probe.engine, f"Without it the arms of {probe.engine} are missing")
            lines.append(f"{probe.engine}: {probe.missing.rstrip('.')}. {part}.")
    known = {probe.engine for probe in evidence.probes.values() if probe.missing}
    absent: dict[str, None] = {}
    for arm, cell in evidence.cells():
        if cell.state == "missing" and arm.engine not in known:
            why = cell.failure.rstrip(".")
            absent[markdown("{}, {}: {}.", code(arm.measured.name), arm, why)] = None
    return lines + list(absent)


def spent(evidence: Evidence) -> str:
    """How long the runs took and what part of it was measured, "" where that was not kept."""
    found = evidence.spent
    if found is None:
        return ""
    return (
        f"The runs took {number(found.took_s)} s with everything around them, and "
        f"{number(found.measured_s)} s of that ({percent(found.share)}) were measured."
    )


def command(evidence: Evidence) -> str:
    """The command that made the runs."""
    commands = [cell.manifest.command for _, cell in evidence.cells() if cell.manifest]
    found = evidence.suite.command or next(filter(None, commands), "make report")
    return "\n".join(found.splitlines()[:MOST_LINES_OF_A_COMMAND])
