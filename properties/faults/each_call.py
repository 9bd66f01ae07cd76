"""Stories in which every call of a commit, and of a checkpoint, fails once by each error.

Where a call stands in its commit is looked up in the recording of each run, after the fault struck.
Several faults share a run at first; they disturb each other's counts, so that whatever was not
struck is done alone afterwards.
"""

from __future__ import annotations

import errno
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from properties.crashes import Recording, read_recording
from properties.faults.calls import (
    Kind,
    Part,
    Place,
    checkpoint_parts,
    commit_parts,
    shape,
)
from properties.faults.rules import command_of, one_run
from properties.faults.story import DATABASE, Case, StoryResult
from workloads.records import Run

ERRORS = ("EIO", "ENOSPC")
SHARING = 14
"""Faults of one run at most."""
TRIES = 6
"""Times that a call is done alone, twice in the same commit, before it is given up."""

BESIDE = {
    "writers": 3, "transactions": None, "rate": 150.0, "duration_s": 2.6, "busy_timeout_ms": 200,
}  # fmt: skip
"""Long enough beside the busy timeout to tell that nobody goes on."""

Target = tuple[Place, str]
"""A call, and the error by which it fails."""


@dataclass(slots=True)
class Aim:
    """Which calls shall fail, and how they are struck.

    parts : recorded commits or checkpoints in which they are. seen : of a run, those in which one
    may have been struck. plan : of such a run. who : @N of the rules, "" for everybody.
    """

    parts: Sequence[Part]
    wanted: dict[Place, None]
    seen: Callable[[Recording], list[Part]]
    plan: Mapping[str, Any]
    who: str = ""
    goes_on: bool = False
    """Whether a commit goes on after such a call failed, so that later counts stay as they are."""
    struck: dict[Target, None] = field(default_factory=dict)

    def missing(self, errors: Sequence[str]) -> list[Target]:
        """What was not struck yet."""
        return [(p, e) for e in errors for p in self.wanted if (p, e) not in self.struck]


def commit_calls(case: Case, result: StoryResult) -> None:
    """Each call of a COMMIT by one writer; then one worker's, beside others."""
    aim = of_commits(case)
    if not aim.parts:
        result.untold.append("the recorded run has no commit that writes")
        return
    fail_each(case, result, aim, "a commit")
    others_go_on(case, result, aim)


def checkpoint_calls(case: Case, result: StoryResult) -> None:
    """Those of a COMMIT that copies the log back, and those of a process that checkpoints."""
    within, alone = of_commits(case, copying=True), of_checkpointer(case)
    if not within.parts and not alone.parts:
        result.untold.append("no recorded checkpoint writes the database")
        return
    if within.parts:
        fail_each(case, result, within, "a checkpoint within a commit")
    if alone.parts and not (case.quick and within.parts):
        fail_each(case, result, alone, "a checkpointer's checkpoint")


def of_commits(case: Case, copying: bool = False) -> Aim:
    """The calls of a COMMIT of one writer. copying : those that only a COMMIT makes that copies the
    log back into the database.
    """
    every = commit_parts(case.recording())
    plain = [one for one in every if not one.copies]
    parts = [one for one in every if one.copies] if copying else plain
    wanted = dict.fromkeys(place for one in parts for place in one.places)
    if copying:
        for place in {place for one in plain for place in one.places}:
            wanted.pop(place, None)
    given = {"writers": 1, "transactions": 40, "wal_autocheckpoint": 30}
    return Aim(parts, wanted, lambda made: commit_parts(made, acknowledged=False), given,
               goes_on=copying)  # fmt: skip


def of_checkpointer(case: Case) -> Aim:
    """The calls of a checkpoint of a worker that does nothing else, beside one writer."""
    given = {
        "writers": 1, "checkpointers": 1, "checkpoint": "truncate", "checkpoint_pause_ms": 15,
        "transactions": None, "rate": 60.0, "duration_s": 0.5,
    }  # fmt: skip
    plain = [one for one in commit_parts(case.recording()) if not one.copies]
    kinds = Counter(tuple(shape(one.calls)) for one in plain)
    commit: Sequence[Kind] = kinds.most_common(1)[0][0] if kinds else ()

    def seen(made: Recording) -> list[Part]:
        return checkpoint_parts(made, commit)

    made = case.run(case.plan(**given), record=True)
    parts = [one for one in seen(read_recording(made.folder)) if one.copies]
    # How many pages are copied, and what comes between in a thread, depends on the moment: what
    # most of them have is wanted.
    counted = Counter(place for one in parts for place in dict.fromkeys(one.places))
    wanted = dict.fromkeys(place for place, many in counted.items() if 2 * many > len(parts))
    return Aim(parts, wanted, seen, given, "" if case.threads else "@1")


# --- struck -----------------------------------------------------------------------------------


def fail_each(case: Case, result: StoryResult, aim: Aim, what: str) -> None:
    """Strike each call, and say of which commits or checkpoints (what) how many were struck."""
    errors = ERRORS[:1] if case.quick else ERRORS
    for group in together(aim, aim.missing(errors))[: 1 if case.quick else None]:
        _strike(case, result, aim, group)
    if not case.quick:
        for target in aim.missing(errors):
            for attempt in range(TRIES):
                if target in aim.struck or (rule := alone(aim, target, attempt)) is None:
                    break
                _strike(case, result, aim, [rule])
    result.calls += len(aim.wanted)
    missing = aim.missing(errors)
    failed = len(aim.wanted) - len({place for place, _ in missing})
    result.calls_failed += failed
    result.told.append(_sentence(aim, what, failed, errors))
    if missing and not case.quick:
        names = Counter(f"{place} by {error}" for place, error in missing)
        spelled = ", ".join(f"{name} {many}" for name, many in names.items())
        result.untold.append(f"of {what} no fault struck in {TRIES} runs each: {spelled}")


def _sentence(aim: Aim, what: str, failed: int, errors: Sequence[str]) -> str:
    all_ = len(aim.wanted)
    many = f"{all_} calls" if failed == all_ else f"{failed} of {all_} calls"
    by = " and by ".join(errors)
    counted = Counter(str(place) for place in aim.wanted)
    spelled = ", ".join(f"{name} {number}" for name, number in counted.items())
    longest = max(sum(place in aim.wanted for place in one.places) for one in aim.parts)
    return f"{what}: {many}, each failed by {by} ({spelled}; up to {longest} in one)"


def together(aim: Aim, targets: Collection[Target]) -> list[list[str]]:
    """Rules for groups of a run each: each fault in a commit of its own.

    Where a commit ends at the call that failed, what it did not call any more is taken off the
    counts of the later ones.
    """
    left = list(targets)
    groups: list[list[str]] = []
    chosen = aim.parts if aim.goes_on else aim.parts[2::2]
    while left:
        skipped: Counter[Kind] = Counter()
        group: dict[str, None] = {}
        for part in chosen:
            where = {place: at for at, place in enumerate(part.places)}
            fitting = next((one for one in left if one[0] in where), None)
            if fitting is None or len(group) == SHARING:
                continue
            left.remove(fitting)
            place, error = fitting
            at = where[place]
            number = part.numbers[at] - skipped[place.kind]
            group[_rule(place, max(number, 1), error, aim.who)] = None
            if not aim.goes_on:
                skipped.update(shape(part.calls[at + 1 :]))
        if not group:
            break
        groups.append(list(group))
    return groups


def alone(aim: Aim, target: Target, attempt: int) -> str | None:
    """The rule for one call in the n-th recorded commit that has it, None where there is none."""
    place, error = target
    having = [one for one in aim.parts if place in one.places]
    if not having:
        return None
    part = having[attempt // 2 % len(having)]
    return _rule(place, part.numbers[part.places.index(place)], error, aim.who)


def _rule(place: Place, number: int, error: str, who: str) -> str:
    return f"{place.call}:*{place.file or DATABASE}:{number}:{error}{who}"


def _strike(case: Case, result: StoryResult, aim: Aim, rules: Sequence[str]) -> None:
    made = case.run(case.plan(**aim.plan, fault=list(rules)), record=True)
    result.add(made)
    result.command = command_of(case, rules, dict(aim.plan))
    for target in struck(aim.seen(read_recording(made.folder))):
        aim.struck[target] = None


def struck(parts: Sequence[Part]) -> list[Target]:
    """Which calls failed, and by which error: of each commit the first one alone."""
    found = []
    for part in parts:
        at = next((n for n, one in enumerate(part.calls) if one.injected), None)
        if at is not None:
            error = errno.errorcode.get(part.calls[at].error, "")
            found.append((part.places[at], error))
    return found


# --- the others go on -------------------------------------------------------------------------


def others_go_on(case: Case, result: StoryResult, aim: Aim) -> None:
    """One of three writers meets each kind of call and error: do the others go on in time?"""
    kinds = dict.fromkeys(place.kind for place in aim.wanted)
    errors = ERRORS[:1] if case.quick else ERRORS
    told = Counter[bool]()
    blocks: list[float] = []
    for call, file in list(kinds)[: 1 if case.quick else None]:
        # The first commits alone make some calls: a log that begins, a folder that is synced.
        many = sum(place.kind == (call, file) for part in aim.parts for place in part.places)
        for error in errors:
            number = case.draw(f"others-{call}{file}-{error}").randint(1, max(many // 8, 1))
            rule = f"{call}:*{file or DATABASE}:{number}:{error}{'' if case.threads else '@0'}"
            made = one_run(case, result, rule, **BESIDE)
            told.update(one.ok for one in made.manifest.findings if one.check == "going on")
            blocks += _blocks(made)
    if not told:
        result.told.append("beside two other writers no such call failed")
        return
    longest = f", the longest block {max(blocks):,.0f} ms" if blocks else ""
    runs = sum(told.values())
    result.told.append(
        f"in {told[True]} of {runs} runs in which one of 3 writers met it the others went on"
        f"{longest}"
    )


def _blocks(made: Run) -> list[float]:
    every = (one.longest_block_ns for one in made.manifest.faults)
    return [one / 1e6 for one in every if one is not None]
