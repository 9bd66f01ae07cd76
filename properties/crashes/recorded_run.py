"""What a recorded run says of itself before any crash: whether it can be read, in which order it
committed, and what cannot be asked of its engine.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from properties.crashes.commit_order import CommitOrder, Expected
from properties.crashes.finding_order import Moments, find_order
from properties.crashes.opening import open_state
from properties.crashes.recording import Recording
from workloads.errors import PlanError
from workloads.runs import Plan
from workloads.scenarios import find_scenario, tells_postings

CONTENTS = "contents.jsonl"


@dataclass(slots=True)
class RecordedRun:
    """folder : the campaign's. place : for databases that are open just now. limit_s : of one.

    order : its commit order, None where the scenario tells its transactions apart. foreign :
    whether its engine can be asked for foreign keys. notes : sentences.
    """

    recording: Recording
    plan: Plan
    folder: Path
    place: Path
    limit_s: float
    order: CommitOrder | None = None
    foreign: bool = True
    notes: list[str] = field(default_factory=list)
    _why: str = ""

    def ask(self) -> None:
        """Open what the run left. Raises PlanError where the scenario's own code fails on it."""
        for check in self.recording.run.manifest.broken:
            self.notes.append(f"the recorded run itself broke {check.check}: {check.sentence}")
        if why := self.opened({}, "keys", "keys").get("no_foreign"):
            self.foreign = False
            self.notes.append(f"foreign keys were not asked for: {why}")
        replay = self.recording.replay()
        replay.advance(len(self.recording.changes))
        answer = self.opened(replay.files(replay.all_there()), "whole", "open")
        if answer.get("by") == "scenario":
            raise PlanError(
                f"--scenario {self.plan.scenario}: its own code fails on the database that the "
                f"recorded run left: {answer['failed'][1]}. Mend it, and go on with: cwkit crash "
                f"--into {self.folder}"
            )
        self._why = answer.get("failed", ("", ""))[1]

    def find_order(self, on_opened: Callable[[int, int], None]) -> None:
        """Find the commit order, where it is needed."""
        if tells_postings(find_scenario(self.plan.scenario)):
            return
        moments = Moments(
            self.recording, self.plan, self.folder / CONTENTS, self.place,
            limit_s=self.limit_s, foreign=self.foreign, on_opened=on_opened,
        )  # fmt: skip
        self.order = find_order(moments, self.recording, self.plan, self._why)
        self.notes += self.order.notes()

    @property
    def contents(self) -> int:
        """How many the database had in turn, 0 where the order was not asked for."""
        return len(self.order.contents) if self.order else 0

    def expected(self, point: int) -> Expected | None:
        """What a crash there may leave."""
        return self.order.at(point) if self.order else None

    def opened(self, files: dict[str, bytes], name: str, what: str = "look") -> dict[str, Any]:
        """What the engine says of these files."""
        return answer_of(
            files, self.place / name, self.plan, limit_s=self.limit_s, what=what,
            foreign=self.foreign,
        )  # fmt: skip


def answer_of(files: dict[str, bytes], place: Path, plan: Plan, **how: Any) -> dict[str, Any]:
    """Open a state and wait for what the engine says. how : as for `open_state`."""
    opened = open_state(files, place, plan, **how)
    try:
        while (answer := opened.answer()) is None:
            time.sleep(0.002)
    finally:
        opened.close()
    return answer
