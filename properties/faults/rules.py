"""Stories by faults in calls: processes that are killed or stopped, calls that fail or are slow.

Which calls there are is taken from a recording of the engine itself, so that a story is the same
for an engine with another log.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from properties.faults.calls import commit_parts
from properties.faults.story import DATABASE, Case, StoryResult
from workloads.records import Run


def one_run(case: Case, result: StoryResult, *faults: str, **given: Any) -> Run:
    plan = case.plan(fault=list(faults), **given)
    result.command = command_of(case, faults, given)
    made = case.run(plan)
    result.add(made)
    return made


def command_of(case: Case, faults: Sequence[str], given: Mapping[str, Any]) -> str:
    """The command of one such run."""
    plan = case.plan(**given)
    words = [f"--fault '{one}'" for one in faults]
    if plan.checkpointers:
        words.append(f"--checkpointers {plan.checkpointers} --checkpoint {plan.checkpoint}")
    if plan.wal_autocheckpoint is not None:
        words.append(f"--wal-autocheckpoint {plan.wal_autocheckpoint}")
    if "busy_timeout_ms" in given:
        words.append(f"--busy-timeout-ms {plan.busy_timeout_ms}")
    if plan.checkpoint_pause_ms:
        words.append(f"--checkpoint-pause-ms {plan.checkpoint_pause_ms:g}")
    if plan.rate:
        words.append(f"--rate {plan.rate:g}")
    limit = f"--transactions {plan.transactions}" if plan.transactions else ""
    limit = limit or f"--duration {plan.duration_s:g} --warmup 0"
    return (
        f"cwkit run --scenario ledger --database {case.engine} --begin {case.begin} "
        f"--synchronous full --writers {plan.writers} {limit} --seed {case.seed} {' '.join(words)}"
    )


# --- killed -----------------------------------------------------------------------------------


def kill_one(case: Case, result: StoryResult) -> None:
    who = "" if case.threads else "@1"
    number = case.draw("one").randint(2, _writes(case, 1))
    one_run(case, result, f"write:{case.log}:{number}:kill{who}")


def kill_all(case: Case, result: StoryResult) -> None:
    first = case.draw("all").randint(2, _writes(case, 1))
    one_run(case, result, f"write:{case.log}:{first}+:kill")


def _writes(case: Case, writers: int) -> int:
    """Writes of the log that so many writers of a plan make, less a third: of those there are."""
    every = commit_parts(case.recording())
    each = sum(one.call == "write" and bool(one.file) for part in every for one in part.places)
    return max(each * case.plan().transactions * writers * 2 // (3 * len(every)), 3)


def kill_in_commit(case: Case, result: StoryResult) -> None:
    for what in ("kill",) if case.quick else ("kill", "kill-after", "torn"):
        call = "write" if what == "torn" else "sync"
        one_run(case, result, f"{call}:{case.log}:{case.draw(what).randint(3, 20)}:{what}")


def kill_in_checkpoint(case: Case, result: StoryResult) -> None:
    given = {"checkpointers": 1, "checkpoint": "truncate", "wal_autocheckpoint": 30}
    for what in ("write",) if case.quick else ("write", "sync"):
        one_run(case, result, f"{what}:{DATABASE}:{case.draw(what).randint(1, 4)}:kill", **given)


# --- stopped and slow -------------------------------------------------------------------------


def stop_holder(case: Case, result: StoryResult) -> None:
    """Twice: for less than the busy timeout, and for more."""
    for stop_ms, timeout_ms in ((300, 2000),) if case.quick else ((400, 2000), (1500, 300)):
        number = case.draw("stop").randint(2, _writes(case, 2))
        fault = f"write:{case.log}:{number}:stop={stop_ms}ms"
        made = one_run(case, result, fault, busy_timeout_ms=timeout_ms)
        busy = sum(
            int((w.attempts["outcome"] == 2).sum()) for w in made.workers if w.role == "writer"
        )
        block = made.manifest.faults[0].longest_block_ns
        waited = "nobody else waited" if block is None else f"others waited {block / 1e6:,.0f} ms"
        result.told.append(
            f"stopped for {stop_ms} ms, busy timeout {timeout_ms} ms: {waited}, {busy} conflicts"
        )


def slow_sync(case: Case, result: StoryResult) -> None:
    """Beside the same run without: as a ratio."""
    slow_ms = 5
    given = {"transactions": None, "duration_s": 0.6 if case.quick else 2.0}
    plain = case.run(case.plan(**given))
    made = one_run(case, result, f"sync:*:1+:slow={slow_ms}ms", **given)
    (before, fair_before), (after, fair) = _rate(plain), _rate(made)
    ratio = after / before if before else float("nan")
    foreign = max(plain.manifest.foreign.cpu_share or 0, made.manifest.foreign.cpu_share or 0)
    doubt = f" (doubtful: others used {foreign:.0%} of the machine)" if foreign > 0.05 else ""
    result.told.append(
        f"each sync {slow_ms} ms slower: {ratio:.2f} of the commits, Jain's index {fair:.2f} "
        f"beside {fair_before:.2f}{doubt}"
    )


def _rate(made: Run) -> tuple[int, float]:
    counts = [int((w.attempts["outcome"] == 1).sum()) for w in made.workers if w.role == "writer"]
    squares = len(counts) * sum(one * one for one in counts)
    return sum(counts), sum(counts) ** 2 / squares if squares else 0.0
