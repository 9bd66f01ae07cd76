"""How the runs of a report were made: the numbers in the method's sentences, the machine, what was
missing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from analysis.counting import FOREIGN_LIMIT
from analysis.report.evidence import Evidence
from analysis.report.markdown import code, markdown
from analysis.statistics import FEWEST_BLOCKS, SHORT, UNSTEADY
from analysis.wording import Table, number, percent, times
from workloads.records import Retry

MOST_LINES_OF_A_COMMAND = 5


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
