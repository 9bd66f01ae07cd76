"""Stories by faults in calls: processes that are killed or stopped, calls that fail or are slow.

Which calls there are is taken from a recording of the engine itself, so that a story is the same
for an engine with another log.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median
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


SLOW_MS = 5


def slow_sync(case: Case, result: StoryResult) -> None:
    """Short runs with and without by turns: what else the machine does meets both alike."""
    pairs, window_s = (2, 0.3) if case.quick else (6, 0.8)
    given = {"transactions": None, "duration_s": window_s}
    rates: list[tuple[Rate, Rate]] = []
    foreign = 0.0
    for _ in range(pairs):
        plain = case.run(case.plan(**given))
        slow = one_run(case, result, f"sync:*:1+:slow={SLOW_MS}ms", **given)
        rates.append((_rate(plain), _rate(slow)))
        foreign = max(foreign, *(one.manifest.foreign.cpu_share or 0 for one in (plain, slow)))
    if sentence := told_ratio(rates):
        doubt = f" (doubtful: others used {foreign:.0%} of the machine)" if foreign > 0.05 else ""
        result.told.append(f"each sync {SLOW_MS} ms slower: {sentence}{doubt}")
    else:
        result.untold.append("nothing was committed in the runs without")


Rate = tuple[int, float]
"""Commits of a run, and Jain's index of its writers."""


def _rate(made: Run) -> Rate:
    counts = [int((w.attempts["outcome"] == 1).sum()) for w in made.workers if w.role == "writer"]
    squares = len(counts) * sum(one * one for one in counts)
    return sum(counts), sum(counts) ** 2 / squares if squares else 0.0


def told_ratio(rates: Sequence[tuple[Rate, Rate]]) -> str:
    """The median over pairs of runs, plain and slow, and the lowest and highest; "" without any.

    >>> print(told_ratio([((100, 0.9), (20, 0.5)), ((50, 0.9), (20, 0.6))]))
    0.30 of the commits (0.20 to 0.40 in 2 pairs of runs), Jain's index 0.55 (0.50 to 0.60) beside \
0.90 (0.90 to 0.90)
    """
    rates = [one for one in rates if one[0][0]]
    if not rates:
        return ""
    ratios = sorted(slow[0] / plain[0] for plain, slow in rates)
    fair, before = _middle([slow[1] for _, slow in rates]), _middle([one[1] for one, _ in rates])
    pairs = f"{len(rates)} pair{'' if len(rates) == 1 else 's'} of runs"
    return (
        f"{median(ratios):.2f} of the commits ({ratios[0]:.2f} to {ratios[-1]:.2f} in {pairs}), "
        f"Jain's index {fair} beside {before}"
    )


def _middle(values: Sequence[float]) -> str:
    return f"{median(values):.2f} ({min(values):.2f} to {max(values):.2f})"
