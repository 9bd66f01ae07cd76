"""A recording, and the states that crashes at its moments may leave: drawn, opened, judged, kept.

Half of the crash points come right after an acknowledgement, where a commit is lost most easily, a
quarter after a record of a kind that is rare (a file is cut, removed, renamed or made, or the
database is synced: the steps of a checkpoint), and a quarter after any record.

A state whose bytes were judged before, with the same acknowledgements, is not opened again.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from properties.crashes.change_log import CREATED, Change
from properties.crashes.commit_order import CommitOrder, Expected
from properties.crashes.judging import Fault, Told, judge, lost_of, told_by, until
from properties.crashes.opening import (
    DATABASE,
    LIMIT_S,
    Opened,
    digest_of,
    journal_of,
    open_state,
)
from properties.crashes.recording import Recording
from properties.crashes.states import MODELS, CrashState, Replay
from workloads.runs import Plan

POWER = ("strict", "prefix", "reorder", "subset")
"""Models of a crash of the machine; `kill` is one of the processes alone."""

MOST_SUBSETS = 64
"""States of small tails in which every set of sectors is tried, at each crash point."""


@dataclass(slots=True)
class Judged:
    """One state that was opened. lost : acknowledged ones that are not there, None: unknown."""

    state: CrashState
    faults: list[Fault]
    lost: int | None
    acked: int
    seconds: float

    @property
    def promised(self) -> list[Fault]:
        """What the level promises and the state does not keep."""
        return [fault for fault in self.faults if fault.promised]


@dataclass(slots=True)
class Campaign:
    """All that was judged of one recording. same : states that were like an earlier one."""

    judged: list[Judged] = field(default_factory=list)
    same: int = 0
    interrupted: bool = False

    def broken(self) -> list[Judged]:
        """The states that keep less than is promised."""
        return [one for one in self.judged if one.promised]

    def by_model(self) -> dict[str, list[Judged]]:
        """Model -> what was judged of it, in the order of MODELS."""
        return {model: [o for o in self.judged if o.state.model == model] for model in MODELS}


def draw_states(
    recording: Recording, *, many: int, seed: int, models: Sequence[str] = MODELS
) -> Iterator[tuple[Replay, CrashState]]:
    """`many` states with the replay that stands at their point, points ascending.

    The same arguments draw the same states. Where a tail is small, every set of its sectors comes
    in place of a drawn one.
    """
    draw = random.Random(f"{seed}-points")
    acked = sorted(told_by(recording.changes).acked.values())
    every = range(1, len(recording.changes) + 1)
    rare = [one.number for one in recording.changes if _is_rare(one)]
    turns: tuple[Sequence[int], ...] = (acked or every, every, acked or every, rare or every)
    asked: list[tuple[int, str]] = []
    for at in range(many):
        # Every model comes before any comes twice: few states are of all of them, too.
        moments = turns[at // len(models) % len(turns)]
        asked.append((draw.choice(moments), models[at % len(models)]))
    replay = recording.replay()
    tried: set[int] = set()
    for number, (point, model) in enumerate(sorted(asked)):
        replay.advance(point)
        if model == "subset" and point not in tried:
            tried.add(point)
            whole = list(replay.every_subset())[:MOST_SUBSETS]
            if whole:
                yield from ((replay, state) for state in whole)
                continue
        yield replay, replay.state(model, random.Random(f"{seed}-{number}"))


def _is_rare(change: Change) -> bool:
    """Whether it is a step that a commit does not make again and again."""
    if change.what == "open":
        return bool(change.flags & CREATED)
    return change.what in ("truncate", "rename", "unlink") or (
        change.what == "sync" and change.name == DATABASE
    )


def run_campaign(
    recording: Recording,
    place: Path,
    *,
    many: int,
    seed: int = 0,
    models: Sequence[str] = MODELS,
    jobs: int = 0,
    limit_s: float = LIMIT_S,
    on_judged: Callable[[Judged, int], None] = lambda one, asked: None,
    on_broken: Callable[[Judged, dict[str, bytes]], None] = lambda one, files: None,
    before: Mapping[str, Mapping[str, Any]] = MappingProxyType({}),
    order: CommitOrder | None = None,
    foreign: bool = True,
) -> Campaign:
    """Open and judge `many` states. place : a folder for those that are open just now.

    jobs : states that are open at a time, 0 for one a CPU. on_judged : called with each and with
    `many`. on_broken : called with each that keeps less than is promised, and with its files.
    before : what is known of states that were judged before, by `key_of`: they stay closed, and
    those that keep less than is promised go to on_broken again.
    order : of a scenario that does not tell its transactions apart. foreign : whether the engine is
    asked for foreign keys.
    An interrupt ends it with what it has.
    """
    plan = Plan(**recording.run.manifest.plan.model_dump(mode="json"))
    worked = told_by(recording.changes)
    most = jobs or len(os.sched_getaffinity(0))
    campaign, seen = Campaign(), set[tuple[str, int]]()
    waiting: list[_Waiting] = []

    def collect(limit: int) -> None:
        while len(waiting) > limit:
            for one in list(waiting):
                answer = one.opened.answer()
                if answer is None:
                    continue
                waiting.remove(one)
                judged = one.judged(answer, plan)
                campaign.judged.append(judged)
                on_judged(judged, many)
                if judged.promised:
                    on_broken(judged, one.files)
                one.opened.close()
            time.sleep(0.002)

    try:
        for number, (replay, state) in enumerate(
            draw_states(recording, many=many, seed=seed, models=models)
        ):
            files, told = replay.files(state), until(worked, state.point)
            key = digest_of(files), len(told.acked)
            if key in seen:
                campaign.same += 1
                continue
            seen.add(key)
            if (known := before.get(key_of(state))) is not None:
                campaign.judged.append(again := Judged(state, **known))
                if again.promised:
                    on_broken(again, files)
                continue
            collect(most - 1)
            opened = open_state(files, place / f"{number}", plan, limit_s=limit_s, foreign=foreign)
            expected = order.at(state.point) if order else None
            waiting.append(_Waiting(opened, state, told, files, time.monotonic(), expected))
        collect(0)
    except KeyboardInterrupt:
        campaign.interrupted = True
    finally:
        for one in waiting:
            one.opened.close()
    return campaign


@dataclass(slots=True)
class _Waiting:
    """A state that is open, and what it is held against."""

    opened: Opened
    state: CrashState
    told: Told
    files: dict[str, bytes]
    begun: float
    expected: Expected | None

    def judged(self, answer: dict[str, Any], plan: Plan) -> Judged:
        faults = judge(
            answer, self.told, synchronous=plan.synchronous, journal=journal_of(plan),
            power=self.state.model in POWER, expected=self.expected,
        )  # fmt: skip
        lost = lost_of(answer, self.told, self.expected)
        seconds = time.monotonic() - self.begun
        return Judged(self.state, faults, lost, len(self.told.acked), seconds)


def key_of(state: CrashState) -> str:
    """What tells a state from any other of its recording."""
    return key_of_data(state.point, state.model, state.names, state.pieces)


def key_of_data(point: int, model: str, names: int, pieces: Iterable[Sequence[int]]) -> str:
    """The same of its plain data."""
    text = json.dumps([point, model, names, sorted(map(list, pieces))])
    return hashlib.sha256(text.encode()).hexdigest()[:24]


def kinds_of(judged: Sequence[Judged], *, promised: bool) -> Counter[str]:
    """Kind of fault -> states that show it."""
    return Counter(
        kind
        for one in judged
        for kind in {fault.kind for fault in one.faults if fault.promised == promised}
    )
