"""What commands say, as documents for programs: `--json`, and `numbers.json` beside a manifest.

docs/json.md has each key with its meaning. A document says its kind and the version of its format;
a later version of the same number may have more keys. A test holds the page against the documents.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from analysis import counting, report, statistics
from analysis.counting import FOREIGN_LIMIT, Count, Tally
from analysis.statistics import PERCENTILES
from workloads.files import FORMAT_VERSION, visible, write_json
from workloads.records import FindingEntry, Run

if TYPE_CHECKING:
    from analysis.counting import Arm, CountedCell, Measured
    from analysis.report import AdviceFacts
    from workloads.records import Manifest

NUMBERS = "numbers.json"
"""A run's document in its own folder, as `cwkit run` wrote it."""

BATCHES = 20
"""Parts of a run's time from which the interval of its throughput is."""


def document(kind: str, **keys: Any) -> dict[str, Any]:
    """A document of this kind. Numbers that are not known become null, infinite ones "infinite"."""
    made: dict[str, Any] = plain({"cwkit": FORMAT_VERSION, "document": kind, **keys})
    return made


def plain(value: Any) -> Any:
    """Data as JSON has it."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float):
        return None if math.isnan(value) else "infinite" if math.isinf(value) else value
    if isinstance(value, Mapping):
        return {key: plain(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(each) for each in value]
    return str(value) if isinstance(value, Path) else value


def span(low: float, value: float, high: float) -> dict[str, float]:
    """A number with its 95 % interval."""
    return {"low": low, "value": value, "high": high}


# --- a run ------------------------------------------------------------------------------------


def run_document(run: Run, foreign_limit: float = FOREIGN_LIMIT) -> dict[str, Any]:
    """One run: throughput, abort rate and latency with intervals, fairness, checks."""
    from analysis.cli.run_summary import doubts, troubles_of

    counted, manifest = counting.count(run), run.manifest
    return document(
        "run",
        **_identity(manifest, run.folder),
        plan=manifest.plan.model_dump(mode="json"),
        params=manifest.scenario.params,
        measured_s=counted.seconds,
        warmup=_warmup(counted),
        roles=[
            _role(run, counted, one)
            for role in counted.roles
            for one in (role, *counted.modes(role))
        ],
        cold_start=_cold_start(manifest),
        faults=[one.model_dump(mode="json") for one in manifest.faults],
        wal=_wal(counted),
        foreign=_foreign(manifest),
        doubtful=counting.contamination(manifest, foreign_limit) or None,
        checks=[_check(each) for each in manifest.findings],
        troubles=[{"kind": one.kind, "sentence": one.sentence, "attempts": one.attempts}
                  for one in troubles_of(run)],
        doubts=doubts(run, counted, foreign_limit),
    )  # fmt: skip


def keep_numbers(run: Run, foreign_limit: float = FOREIGN_LIMIT) -> None:
    """Write the document of a run beside its manifest. Where that fails the run stays as it is."""
    try:
        write_json(run.folder / NUMBERS, run_document(run, foreign_limit))
    except OSError as error:
        where = visible(run.folder / NUMBERS)
        print(f"cwkit: {where}: not written ({error.strerror}).", file=sys.stderr)


def _identity(manifest: Manifest, folder: Path) -> dict[str, Any]:
    return {
        "run": manifest.run,
        "folder": folder,
        "id": manifest.id,
        "command": manifest.command,
        "started": manifest.started,
        "scenario": manifest.scenario.name or manifest.plan.scenario,
        "database": manifest.plan.database,
        "seed": manifest.seed,
        "ended": manifest.ended,
        "ok": manifest.ok,
    }


def _warmup(counted: Count) -> dict[str, Any]:
    steady = counted.steady
    return {"s": steady.warmup_s, "state": steady.state} if steady else {"s": None, "state": ""}


def _role(run: Run, counted: Count, role: str) -> dict[str, Any]:
    tally, each = counted.roles[role], counted.of(role)
    found = {
        "role": role,
        "workers": tally.workers,
        "engine": each[0].engine,
        "begin": ",".join(dict.fromkeys(one.begin for one in each)),
        "attempts": {
            name: getattr(tally, name)
            for name in ("committed", "conflicted", "failed", "unknown", "given_up", "unfinished")
        },
        "throughput_per_s": throughput_of(tally, counted.window_ns),
        "abort_rate": span(*tally.abort_rate),
        "first_tries_abort_rate": tally.first_refused(),
        "conflicts": [
            {"kind": kind, "phase": phase, "attempts": many}
            for kind, phase, many in tally.conflict_table()
        ],
        "wasted": tally.wasted,
        "cpu_us": tally.cpu_us,
    }
    if role != "checkpointer":
        found["latency_ns"] = _latency(tally, counting.latency_stages(run, counted, role))
        found["due"] = _due(tally)
        found["fairness"] = {
            "jain": tally.fairness,
            "worst_share": tally.worst_share,
            "worst_p99_ns": counted.worst_p99(role)[0],
            "longest_ns": tally.longest_ns,
        }
        found["each_worker"] = [
            {
                "number": one.number,
                "state": one.state,
                "throughput_per_s": one.tally.per_s,
                "abort_rate": one.tally.abort_rate[1],
                "p99_ns": one.tally.whole()[2, 0],
            }
            for one in each
        ]
    return found


def throughput_of(tally: Tally, window_ns: tuple[int, int]) -> dict[str, float]:
    """Committed transactions a second, with the interval from batches of this run's time."""
    edges = np.linspace(*window_ns, BATCHES + 1)
    commits = np.histogram(tally.ends_ns, bins=edges)[0] if window_ns[1] > window_ns[0] else [0]
    low, high = statistics.batch_means(commits, tally.seconds / BATCHES)
    return span(low, tally.per_s, high)


def _latency(tally: Tally, each: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Stage -> percentile -> its value; those of whole transactions have intervals."""
    found: dict[str, Any] = {}
    for stage, values in each.items():
        if stage == "queueing" and not tally.most_ns[stage]:
            continue  # a closed loop has no queue
        spans = np.full((len(PERCENTILES), 3), np.nan)
        spans[:, 1] = values
        if stage == "whole":
            spans = counting.latency_intervals(tally)
        found[stage] = {n: span(*each) for n, each in zip(PERCENTILES, spans, strict=True)}
    return found


def _due(tally: Tally) -> dict[str, Any] | None:
    due = tally.due
    if due is None:
        return None
    return {"asked_per_s": due.asked_per_s, "many": due.many, "served": due.served, "met": due.met}


def _cold_start(manifest: Manifest) -> dict[str, Any] | None:
    """How the workers came to a database that did not exist yet; None of other runs."""
    if not manifest.plan.cold_start:
        return None
    starts = [(entry, entry.start) for entry in manifest.workers if entry.start is not None]
    ready = [start.ready_ns for _, start in starts if start.ready_ns is not None]
    return {
        "workers": len(manifest.workers),
        "ready": len(ready),
        "ready_ns": sorted(ready),
        "created_by": [entry.worker for entry, start in starts if start.created],
        "refused": [
            {"worker": entry.worker, **one.data()} for entry, start in starts
            for one in start.refused
        ],
    }  # fmt: skip


def _wal(counted: Count) -> dict[str, Any] | None:
    wal = counted.wal
    return {"bytes_max": wal.bytes_max, "restarts": wal.restarts} if wal else None


def _foreign(manifest: Manifest) -> dict[str, Any]:
    return {"cpu_share": manifest.foreign.cpu_share, "steal_share": manifest.foreign.steal_share}


def _check(finding: FindingEntry) -> dict[str, Any]:
    result = "ok" if finding.ok else "broken" if finding.checked else "unknown"
    return {"check": finding.check, "result": result, "sentence": finding.sentence}


# --- an experiment or a sweep -----------------------------------------------------------------


def experiment_document(measured: Measured) -> dict[str, Any]:
    """All arms with their intervals over blocks, and all cells."""
    experiment, design = measured.experiment, measured.experiment.design
    states = {key: cell.state for key, cell in experiment.cells.items()}
    return document(
        "experiment",
        name=design.name,
        question=design.question,
        folder=experiment.folder,
        seed=design.seed,
        blocks=design.blocks,
        baseline=design.baseline,
        axes=design.axes,
        arms=[_arm(arm) for arm in measured.arms.values()],
        cells=[_cell(cell) for _, cell in sorted(measured.cells.items())],
        control=report.control_sentence(measured),
        doubts=report.doubt_lines(measured),
        failures=report.failure_lines(measured, states),
    )


def _arm(usable: Arm) -> dict[str, Any]:
    """An arm's numbers; where all it has are doubtful, these and the reason."""
    arm = usable.shown
    measure = counting.throughput(arm.role)
    baseline = arm.measured.baseline
    ratio = None
    if baseline is not None and baseline.name != arm.name:
        ratio = _over_blocks(arm.measured.ratio(arm, baseline, measure))
    rows = zip(PERCENTILES, arm.percentiles(arm.role).tolist(), strict=True)
    return {
        "arm": arm.name,
        "point": arm.point,
        "engine": arm.engine,
        "begin": arm.begin,
        "role": arm.role,
        "throughput_per_s": _over_blocks(arm.estimate(measure)),
        "ratio": ratio,
        "abort_rate": _over_blocks(arm.refused(arm.role)),
        "first_tries_abort_rate": _over_blocks(arm.refused(arm.role, first=True)),
        "latency_ns": {name: span(low, value, high) for name, (low, value, high, _) in rows},
        "doubtful": usable.doubtful or None,
        "dropped": usable.dropped,
    }


def _over_blocks(made: statistics.Estimate) -> dict[str, Any]:
    value = made.value if made.blocks else math.nan
    return {**span(made.low, value, made.high), "blocks": made.blocks}


def _cell(cell: CountedCell) -> dict[str, Any]:
    counted = cell.counted
    role = next(iter(counted.roles), "") if counted else ""
    return {
        "block": cell.block,
        "arm": cell.arm,
        "state": cell.state,
        "failure": cell.failure,
        "run": cell.run or None,
        "folder": cell.folder,
        "throughput_per_s": counted.roles[role].per_s if counted and role else None,
        "broken": [f"{each.check}: {each.sentence}" for each in cell.broken],
        "doubtful": cell.contaminated or None,
    }


# --- an advice --------------------------------------------------------------------------------


def advice_document(facts: AdviceFacts) -> dict[str, Any]:
    """What to do for one's own transactions, with the numbers behind it."""
    measured = facts.measured
    experiment, design = measured.experiment, measured.experiment.design
    states = {key: cell.state for key, cell in experiment.cells.items()}
    return document(
        "advise",
        folder=experiment.folder,
        finished=experiment.complete,
        database=facts.note.database,
        blocks=design.blocks,
        duration_s=design.arms[design.baseline]["duration_s"],
        advice=[row._asdict() for row in report.advice_rows(facts)],
        broken=[one._asdict() for one in facts.broken],
        scripts=[msgspec.to_builtins(note) for note in facts.note.scripts],
        arms=[_way(facts, arm) for arm in measured.arms.values()],
        comparisons=[one.data() for one in facts.compared.values()],
        asked={
            "refused": [msgspec.to_builtins(one) for one in facts.note.refused],
            "left_out": [msgspec.to_builtins(one) for one in facts.note.left_out],
        },
        control=report.control_sentence(measured),
        doubts=report.doubt_lines(measured),
        failures=report.failure_lines(measured, states),
    )


def _way(facts: AdviceFacts, arm: Arm) -> dict[str, Any]:
    """An arm as of an experiment, with its scripts' refusals, what they met, and its log."""
    looked, wal = facts.looked[arm.name], report.log_of(arm)
    return {
        **_arm(arm),
        "scripts": [
            {"role": role, "name": name, "finished": of.finished, "refused": of.refused}
            for (role, name), of in looked.scripts.items()
        ],
        "met": [{"thing": thing, "refused": many} for thing, many in looked.met.most_common()],
        "wal": {"bytes_max": wal.bytes_max, "times": wal.times, "restarts": wal.restarts,
                "why": wal.why} if wal else None,
    }  # fmt: skip
