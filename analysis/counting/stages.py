"""Stages of load, each counted by itself: what was due in it, and what became of that."""

from __future__ import annotations

from analysis.counting.tally import count
from analysis.wording import DASH, Table, at_least, number, percent
from workloads.records import Run
from workloads.runs import parse_stages, windows_ns

NOTE = (
    "Each stage is counted by what ended in it; p50 and p99 are over all that were due in it, "
    "infinite where too many of them were not served by its end."
)


def stages_table(run: Run) -> Table | None:
    """A row for each stage of the writers' load; None of a run without any, or an odd one."""
    try:
        stages = parse_stages(run.manifest.plan.stages)
    except ValueError:
        return None
    if not stages or not run.role("writer"):
        return None
    rows = []
    for stage, (first, last) in zip(stages, windows_ns(stages, *run.window_ns), strict=True):
        name = f"{stage.seconds:g} s at {number(stage.per_s)}/s"
        if last <= first:
            rows.append((name, *[DASH] * 6))
            continue
        tally = count(run, (first, last)).roles["writer"]
        due, whole = tally.due, tally.whole().tolist()
        asked = [DASH, DASH]
        if due is not None:
            asked = [number(due.many / tally.seconds), percent(due.share) if due.many else DASH]
        rows.append(
            (name, *asked, number(tally.per_s), percent(tally.abort_rate[1]),
             at_least(*whole[0]), at_least(*whole[2]))
        )  # fmt: skip
    head = ("stage", "due/s", "served", "tx/s", "abort rate", "p50 whole", "p99 whole")
    return Table(head, rows, NOTE)
