"""Opens moments of a recording until every change of content is between two neighbouring records.

What was found is kept line by line (`contents.jsonl`): an interrupted search goes on with it.
"""

from __future__ import annotations

import json
import os
import time
from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any

import msgspec

from properties.crashes.commit_order import (
    CommitOrder,
    ContentLine,
    Seen,
    changes_files,
    moments_to_open,
    order_of,
)
from properties.crashes.opening import LIMIT_S, Opened, digest_of, open_state
from properties.crashes.recording import Recording
from workloads.engines import AUTOCOMMIT, find_engine
from workloads.errors import PlanError
from workloads.runs import Plan
from workloads.scenarios import find_scenario

MOST_MOMENTS = 200_000
"""That are opened for one recording: more would take hours, and so is refused."""


class Moments:
    """What is there after records of the log, with all there that was written.

    place : for those that are open just now. path : the lines. foreign : whether keys are asked.
    on_opened : called with how many are known, and how many are asked for so far.
    """

    def __init__(
        self,
        recording: Recording,
        plan: Plan,
        path: Path,
        place: Path,
        *,
        limit_s: float = LIMIT_S,
        foreign: bool = True,
        on_opened: Callable[[int, int], None] = lambda known, asked: None,
    ) -> None:
        self._recording, self._plan, self._path, self._place = recording, plan, path, place
        self._limit_s, self._foreign, self._on_opened = limit_s, foreign, on_opened
        self._asked: set[int] = set()
        self._by_files: dict[str, dict[str, Any]] = {}
        last = len(recording.changes)
        self.known: dict[int, Seen | None] = {
            record: seen for record, seen in _read(path).items() if record <= last
        }

    def look(self, records: Iterable[int]) -> None:
        """Know these moments: None for one that the engine could not read."""
        new = sorted(set(records) - self.known.keys())
        self._asked |= {*new, *self.known}
        if len(self._asked) > MOST_MOMENTS:
            raise PlanError(
                f"The recorded run has more than {MOST_MOMENTS:,} moments to open. Record a "
                "smaller one: fewer --transactions or --writers."
            )
        replay = self._recording.replay()
        waiting: list[tuple[int, str, Opened]] = []
        with self._path.open("a", encoding="utf-8") as lines:
            if lines.tell():
                lines.write("\n")  # the last line may have been cut

            def collect(limit: int) -> None:
                while len(waiting) > limit:
                    for one in list(waiting):
                        if (answer := one[2].answer()) is not None:
                            waiting.remove(one)
                            one[2].close()
                            self._by_files[one[1]] = answer
                            keep(one[0], answer)
                    time.sleep(0.002)

            def keep(record: int, answer: dict[str, Any]) -> None:
                line = {"record": record, "first": answer.get("first")}
                lines.write(json.dumps(line) + "\n")
                lines.flush()
                self.known[record] = _seen(line)
                self._on_opened(len(self.known), len(self._asked))

            try:
                for record in new:
                    replay.advance(record)
                    files = replay.files(replay.all_there())
                    key = digest_of(files)
                    if key in self._by_files:
                        keep(record, self._by_files[key])
                        continue
                    collect(len(os.sched_getaffinity(0)) - 1)
                    opened = open_state(
                        files, self._place / f"moment-{record}", self._plan,
                        limit_s=self._limit_s, what="open", foreign=self._foreign,
                    )  # fmt: skip
                    waiting.append((record, key, opened))
                collect(0)
            finally:
                for one in waiting:
                    one[2].close()


def find_order(moments: Moments, recording: Recording, plan: Plan, why: str = "") -> CommitOrder:
    """The commit order of a recorded run. Raises PlanError where it can be read at no moment.

    why : it cannot be read at the end.
    """
    changes = recording.changes
    alone = find_engine(plan.write_engine).hosting == "process"
    scenario: Any = find_scenario(plan.scenario)(plan.shape())
    own = getattr(scenario, "keeps_its_connection", False) or plan.begin == AUTOCOMMIT
    steps = [0, *(change.number for change in changes if changes_files(change))]
    found = _bisected(moments, steps, moments_to_open(changes, alone=alone))
    if not found:
        raise PlanError(
            f"--scenario {plan.scenario}: at no moment of the recorded run {plan.write_engine} can "
            f"read the database as it asks for: {why}"
        )
    return order_of(changes, found, single=not own, alone=alone)


def _bisected(
    moments: Moments, steps: Sequence[int], first: Sequence[int]
) -> list[tuple[int, Seen]]:
    """The moments that are known in the end. steps : records that change files, and 0.

    A record that changes none is its predecessor's moment. What cannot be read there is taken for
    what was there before it.
    """
    known = moments.known
    at_of = [bisect_right(steps, record) - 1 for record in first]
    moments.look(steps[at] for at in at_of)
    held = {at: seen for at in sorted({*at_of}) if (seen := known[steps[at]]) is not None}
    # A commit mostly ends with its last record: so the one before that is tried first.
    waiting = [(low, high, high - 1) for low, high in pairwise(held)]
    while waiting := [one for one in waiting if _apart(held, one[0], one[1])]:
        moments.look(steps[middle] for _, _, middle in waiting)
        halves = []
        for low, high, middle in waiting:
            held[middle] = known[steps[middle]] or held[low]
            halves.append((low, middle, (low + middle) // 2))
            halves.append((middle, high, (middle + high) // 2))
        waiting = halves
    return [(record, seen) for record, seen in sorted(known.items()) if seen is not None]


def _apart(held: Mapping[int, Seen], low: int, high: int) -> bool:
    """Whether there are moments between two that hold something else."""
    return high - low > 1 and held[low].content != held[high].content


def _seen(line: dict[str, Any]) -> Seen | None:
    first = line.get("first")
    if first is None:
        return None
    return Seen(first["content"], tuple(first["wrong"]), tuple(first.get("foreign", ())))


class _Line(msgspec.Struct):
    record: Annotated[int, msgspec.Meta(ge=0)]
    first: ContentLine | None


def _read(path: Path) -> dict[int, Seen | None]:
    """What was found before. A line that was cut is left out."""
    found: dict[int, Seen | None] = {}
    if not path.exists():
        return found
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            told = msgspec.json.decode(line, type=_Line)
        except (msgspec.DecodeError, ValueError, RecursionError):
            continue
        found[told.record] = told.first.seen() if told.first else None
    return found
