"""How the workers of a run came to a database that did not exist yet, in words."""

from __future__ import annotations

from collections import Counter

import numpy as np

from analysis.wording import duration, listed, times
from workloads.engines import holds
from workloads.records import Run, WorkerEntry

REFUSALS_SHOWN = 12


def cold_start_lines(run: Run) -> tuple[list[str], list[str]]:
    """Sentences on the start of all workers, and those that are doubts; both [] of other runs."""
    each = [entry for entry in run.manifest.workers if entry.start is not None]
    if not run.manifest.plan.cold_start:
        return [], []
    lines = [_ready(each)] if each else []
    answers: Counter[tuple[str, str, str]] = Counter()
    who: dict[tuple[str, str, str], set[int]] = {}
    for entry in each:
        for one in entry.start.refused if entry.start else ():
            key = (one.at, one.message, one.outcome)
            answers[key] += one.times
            who.setdefault(key, set()).add(entry.worker)
    for (at, message, outcome), many in answers.most_common(REFUSALS_SHOWN):
        workers = times(len(who[at, message, outcome]), "worker")
        lines.append(f"{at}: {times(many, 'time')} {outcome} at {workers}: {message}")
    if (more := len(answers) - REFUSALS_SHOWN) > 0:
        lines.append(f"and {times(more, 'other answer')}")
    if each and not answers:
        lines.append("nothing was refused meanwhile")
    return lines, _doubts(run, each)


def _ready(each: list[WorkerEntry]) -> str:
    ready = [e.start.ready_ns for e in each if e.start and e.start.ready_ns is not None]
    makers = [f"{e.role} {e.number}" for e in each if e.start and e.start.created]
    made = f"the schema was made by {listed(makers)}" if makers else "nobody made the schema"
    text = f"{times(len(each), 'worker')} opened a file that did not exist, at once; {made}"
    if not ready:
        return f"{text}; none was ready"
    span = f"after {duration(min(ready))} to {duration(max(ready))}"
    middle = f"(median {duration(float(np.median(ready)))})" if len(ready) > 2 else ""
    were = f"{len(ready)} {'was' if len(ready) == 1 else 'were'}"
    return f"{text}; {were} ready {span} {middle}".rstrip()


def _doubts(run: Run, each: list[WorkerEntry]) -> list[str]:
    """That several made the schema, or that a worker's journal mode is not what it asked for."""
    lines = []
    makers = [e for e in each if e.start and e.start.created]
    if len(makers) > 1:
        lines.append(
            f"{times(len(makers), 'worker')} found no schema and committed one: each has a "
            "database of its own, or one lost what another had committed."
        )
    asked = run.manifest.plan.journal_mode
    modes = Counter(str(e.pragmas["journal_mode"]) for e in each if "journal_mode" in e.pragmas)
    usual = asked or (modes.most_common(1)[0][0] if modes else "")
    if odd := [f"{many} in {mode}" for mode, many in modes.items() if not holds("", usual, mode)]:
        lines.append(
            f"Not all workers have journal mode {usual}: {listed(odd)}. A refused PRAGMA was not "
            "told to them."
        )
    return lines
