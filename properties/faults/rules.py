"""Stories by faults in calls: processes that are killed or stopped, calls that fail or are slow.

Which calls there are is taken from a recording of the engine itself, so that a story is the same
for an engine with another log.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from properties.crashes import Change, Recording
from properties.faults.story import DATABASE, Case, StoryResult
from workloads.records import Run

MOST_RULES = 14
ERRORS = ("EIO", "ENOSPC")
CALLS = ("write", "sync", "truncate", "rename", "unlink")


def _one(case: Case, result: StoryResult, *faults: str, **given: object) -> Run:
    plan = case.plan(fault=list(faults), **given)
    result.command = command_of(case, faults, given)
    made = case.run(plan)
    result.add(made)
    return made


def command_of(case: Case, faults: Sequence[str], given: dict[str, object]) -> str:
    """The command of one such run."""
    plan = case.plan(**given)
    words = [f"--fault '{one}'" for one in faults]
    if plan.checkpointers:
        words.append(f"--checkpointers {plan.checkpointers} --checkpoint {plan.checkpoint}")
    if plan.wal_autocheckpoint is not None:
        words.append(f"--wal-autocheckpoint {plan.wal_autocheckpoint}")
    if "busy_timeout_ms" in given:
        words.append(f"--busy-timeout-ms {plan.busy_timeout_ms}")
    limit = f"--transactions {plan.transactions}" if plan.transactions else ""
    limit = limit or f"--duration {plan.duration_s:g}"
    return (
        f"cwkit run --scenario ledger --database {case.engine} --begin {case.begin} "
        f"--synchronous full --writers {plan.writers} {limit} --seed {case.seed} {' '.join(words)}"
    )


# --- killed -----------------------------------------------------------------------------------


def kill_one(case: Case, result: StoryResult) -> None:
    who = "" if case.threads else "@1"
    number = case.draw("one").randint(2, _writes(case, 1))
    _one(case, result, f"write:{case.log}:{number}:kill{who}")


def kill_all(case: Case, result: StoryResult) -> None:
    first = case.draw("all").randint(2, _writes(case, 1))
    _one(case, result, f"write:{case.log}:{first}+:kill")


def _writes(case: Case, writers: int) -> int:
    """Writes of the log that so many writers of a plan make, less a third: of those there are."""
    every = commits(case.recording())
    each = sum(call == "write" and bool(file) for one in every for call, file in shape(one))
    return max(each * case.plan().transactions * writers * 2 // (3 * len(every)), 3)


def kill_in_commit(case: Case, result: StoryResult) -> None:
    for what in ("kill",) if case.quick else ("kill", "kill-after", "torn"):
        call = "write" if what == "torn" else "sync"
        _one(case, result, f"{call}:{case.log}:{case.draw(what).randint(3, 20)}:{what}")


def kill_in_checkpoint(case: Case, result: StoryResult) -> None:
    given = {"checkpointers": 1, "checkpoint": "truncate", "wal_autocheckpoint": 30}
    for what in ("write",) if case.quick else ("write", "sync"):
        _one(case, result, f"{what}:{DATABASE}:{case.draw(what).randint(1, 4)}:kill", **given)


# --- stopped and slow -------------------------------------------------------------------------


def stop_holder(case: Case, result: StoryResult) -> None:
    """Twice: for less than the busy timeout, and for more."""
    for stop_ms, timeout_ms in ((300, 2000),) if case.quick else ((400, 2000), (1500, 300)):
        number = case.draw("stop").randint(2, _writes(case, 2))
        fault = f"write:{case.log}:{number}:stop={stop_ms}ms"
        made = _one(case, result, fault, busy_timeout_ms=timeout_ms)
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
    made = _one(case, result, f"sync:*:1+:slow={slow_ms}ms", **given)
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


# --- every call fails once --------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Place:
    """A call of a commit: which, the number of such calls before its commit, its place in it."""

    call: str
    file: str
    before: int
    at: int


def armed(recording: Recording) -> Iterator[Change]:
    """The changes after the gate opened: those that faults count. A sync has one, at its begin."""
    start = recording.run.manifest.window.start_ns
    for change in recording.changes:
        if change.at_ns >= start and (change.what != "sync" or change.begun or change.injected):
            yield change


def commits(recording: Recording) -> list[list[Change]]:
    """The calls of each COMMIT that was acknowledged, of one writer, in their order."""
    found: list[list[Change]] = []
    now: list[Change] | None = None
    for change in armed(recording):
        if change.what == "note":
            if change.note.startswith("work "):
                now = []
            elif change.note.startswith("acked ") and now is not None:
                found.append(now)
                now = None
        elif now is not None and change.what in CALLS:
            now.append(change)
    return found


def shape(calls: Sequence[Change]) -> list[tuple[str, str]]:
    """(call, what the file's name ends with) of each."""
    return [(one.what, one.name.removeprefix(DATABASE)) for one in calls]


def rules_for(recording: Recording, checkpoint: bool, errors: Sequence[str]) -> list[list[str]]:
    """Faults that let each call of a commit fail once, by each error: groups for a run each.

    checkpoint : of a commit that copies the log back, what comes after its own sync. Each fault of
    a group is in a commit of its own, some commits after the last one; what a commit that failed
    did not call any more is taken off.
    """
    every = commits(recording)
    counts: Counter[tuple[str, str]] = Counter()
    seen: list[tuple[list[Change], Counter[tuple[str, str]]]] = []
    for calls in every:
        seen.append((calls, Counter(counts)))
        counts.update(shape(calls))
    copying = [one for one in seen if any(c.name == DATABASE for c in one[0])]
    plain = [one for one in seen if one not in copying][2:]
    chosen = copying if checkpoint else plain
    if not chosen:
        return []
    positions = max(len(calls) for calls, _ in chosen)
    first = 0
    if checkpoint:
        first = min(
            next(i for i, c in enumerate(calls) if c.name == DATABASE) for calls, _ in chosen
        )
        first = max(first - 1, 0)  # the sync of the log that a checkpoint begins with
    wanted = [(at, error) for error in errors for at in range(first, positions)]
    step = 1 if checkpoint else 2
    groups: list[list[str]] = []
    while wanted:
        skipped: Counter[tuple[str, str]] = Counter()
        group: list[str] = []
        for calls, before in chosen[::step]:
            fitting = next((one for one in wanted if one[0] < len(calls)), None)
            if fitting is None or len(group) == MOST_RULES:
                break
            wanted.remove(fitting)
            at, error = fitting
            call, file = shape(calls)[at]
            inside = shape(calls[: at + 1]).count((call, file))
            number = before[call, file] - skipped[call, file] + inside
            group.append(f"{call}:*{file or DATABASE}:{max(number, 1)}:{error}")
            if not checkpoint:
                skipped.update(shape(calls[at + 1 :]))
        if not group:
            break
        groups.append(list(dict.fromkeys(group)))
    return groups


def _calls_fail(case: Case, result: StoryResult, checkpoint: bool) -> None:
    recording = case.recording()
    every = commits(recording)
    copying = [c for c in every if any(one.name == DATABASE for one in c)]
    plain = [c for c in every if c not in copying]
    longest = max(copying if checkpoint else plain, key=len, default=[])
    if not longest:
        result.untold.append("the recorded run has none")
        return
    groups = rules_for(recording, checkpoint, ERRORS[:1] if case.quick else ERRORS)
    hit: Counter[str] = Counter()
    for group in groups[:1] if case.quick else groups:
        plan = case.plan(
            writers=1, transactions=40 + 3 * len(group), wal_autocheckpoint=30, fault=group
        )
        made = case.run(plan, record=True)
        result.add(made)
        words = " ".join(f"--fault '{one}'" for one in group)
        result.command = (
            f"cwkit run --scenario ledger --database {case.engine} --begin {case.begin} "
            f"--synchronous full --writers 1 --transactions {plan.transactions} "
            f"--wal-autocheckpoint 30 --seed {case.seed} {words}"
        )
        hit.update(_struck(made))
    what = "a commit with a checkpoint" if checkpoint else "a commit"
    result.told.append(
        f"{what} makes {len(longest)} calls ({_brief(longest)}); {sum(hit.values())} failed: "
        + (", ".join(f"{name} {many}" for name, many in sorted(hit.items())) or "none")
    )


def _brief(calls: Sequence[Change]) -> str:
    counted = Counter(
        f"{call} {file or 'database'}".replace("-", "") for call, file in shape(calls)
    )
    return ", ".join(f"{name} {many}" for name, many in counted.items())


def _struck(made: Run) -> Counter[str]:
    """Which calls failed, by their place within what the worker did since it came to its COMMIT."""
    from properties.crashes import read_recording

    found: Counter[str] = Counter()
    for change in armed(read_recording(made.folder)):
        if change.injected:
            found[
                f"{change.what} {change.name.removeprefix(DATABASE).lstrip('-') or 'database'}"
            ] += 1
    return found


def commit_calls(case: Case, result: StoryResult) -> None:
    _calls_fail(case, result, checkpoint=False)


def checkpoint_calls(case: Case, result: StoryResult) -> None:
    if any(one.name == DATABASE for calls in commits(case.recording()) for one in calls):
        _calls_fail(case, result, checkpoint=True)
        return
    given = {
        "checkpointers": 1,
        "checkpoint": "truncate",
    }  # its COMMITs copy nothing back: somebody else does
    for call in ("write", "sync"):
        for error in ERRORS[:1] if case.quick else ERRORS:
            _one(
                case,
                result,
                f"{call}:{DATABASE}:1:{error}",
                f"{call}:{DATABASE}:4:{error}",
                **given,
            )
