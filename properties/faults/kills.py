"""SIGKILL again and again: one worker after another in the same run, all of them in some, and the
database of one run is used on by the next.
"""

from __future__ import annotations

import json
import random
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

from properties.faults.calls import commit_parts
from properties.faults.story import DATABASE, Case, StoryResult
from workloads.records import Run

VICTIMS = 8
"""Workers of one run that are killed; one more stays, and must go on."""

ALL_EVERY = 4
"""Of so many runs one, in which nobody stays."""

FAR = 10_000
"""The number of a run's first posting is so much higher than that of the run before."""

MOST_BYTES = 1 << 20
"""A database beyond that is left, and a new one begun: larger ones take longer to check."""

IN_CHECKPOINT = 0.4
"""Share of the kills at a call on the database's own file: somebody copies the log back."""

CALLS = (("write", "kill"), ("write", "kill-after"), ("write", "torn"), ("write", "torn"),
         ("sync", "kill"), ("sync", "kill-after"))  # fmt: skip
PROCESSES: dict[str, Any] = {"transactions": None, "duration_s": 0.8, "wal_autocheckpoint": 10}
EACH_S = 30.0
"""Transactions of one worker a second: each comes to its turn, and who stays has some left."""

THREADS: dict[str, Any] = {
    "writers": 3, "transactions": 20, "checkpointers": 1, "checkpoint": "truncate",
    "checkpoint_pause_ms": 2,
}  # fmt: skip


def kill_often(case: Case, result: StoryResult) -> None:
    """As many kills as were asked, at moments drawn from the seed."""
    draw = case.draw("kill-often")
    each = _calls_of_a_commit(case)
    used = UsedOn(case.place / "kill-often")
    most = 3 * case.kills // (1 if case.threads else VICTIMS) + 6
    kinds: Counter[str] = Counter()
    nobody = used_on = 0
    # Not one run's: it goes on with what the runs before it left.
    result.command = (
        f"cwkit faults --engine {case.engine} --begin {case.begin} --story kill-often --kills "
        f"{case.kills} --seed {case.seed}{' --quick' if case.quick else ''}"
    )
    for number in range(most):
        left = case.kills - result.fired
        if left <= 0:
            break
        if case.threads:
            asked = THREADS | {"fault": [_rule(draw, case, each, latest=36)]}
        else:
            asked = for_processes(draw, case, number, left, each)
        used_on += used.template is not None
        made = case.run(
            case.plan(**asked, params=used.params), template=used.template, keep_database=True
        )
        result.add(made)
        kinds.update(_kind(one.rule) for one in made.manifest.faults if one.fired)
        writers = [one for one in made.workers if one.role == "writer"]
        nobody += all(one.entry.state == "killed by a fault" for one in writers)
        used.keep(made)
    spelled = ", ".join(f"{kind} {many}" for kind, many in sorted(kinds.items()))
    whom = "all workers at once" if case.threads else f"in {nobody} of them nobody stayed"
    result.told.append(f"{result.fired} kills in {result.runs} runs, {whom}: {spelled}")
    result.told.append(f"{used_on} runs went on with the database of the run before")
    if result.fired < case.kills:
        result.untold.append(f"{result.fired} of {case.kills} kills came about in {most} runs")


def _calls_of_a_commit(case: Case) -> dict[str, float]:
    """How often a commit makes each call on the log."""
    parts = commit_parts(case.recording())
    calls = Counter(one.call for part in parts for one in part.places if one.file)
    return {call: many / len(parts) for call, many in calls.items()}


def for_processes(
    draw: random.Random, case: Case, number: int, left: int, each: dict[str, float]
) -> dict[str, Any]:
    """A run in which workers are killed one after another. number : of the run; left : kills."""
    victims = min(VICTIMS, left)
    stays = not (number % ALL_EVERY == ALL_EVERY - 1 and left > VICTIMS)
    writers = victims + stays
    rules = [f"{_rule(draw, case, each, latest=12)}@{one}" for one in range(victims)]
    return PROCESSES | {"writers": writers, "rate": EACH_S * writers, "fault": rules}


def _rule(draw: random.Random, case: Case, each: dict[str, float], latest: int) -> str:
    """A kill at one call of the log or the database. latest : commit in which it comes at last."""
    call, what = draw.choice(CALLS)
    what = f"torn={draw.randint(1, 4000)}" if what == "torn" else what
    if draw.random() < IN_CHECKPOINT:
        # A thread's engine writes all pages of a checkpoint at once.
        last = 12 if call == "write" and not case.threads else 3
        return f"{call}:{DATABASE}:{draw.randint(1, last)}:{what}"
    number = draw.randint(1, max(round(each.get(call, 1) * latest), 1))
    return f"{call}:{case.log}:{number}:{what}"


def _kind(rule: str) -> str:
    """A fault's rule in a word or two: where it struck, and how.

    >>> _kind("write:*-wal:7:torn=512@1"), _kind("sync:database.db:1:kill-after")
    ('write wal torn', 'sync database kill-after')
    """
    call, file, _, what = rule.partition("@")[0].split(":")
    name = "database" if file == DATABASE else file.lstrip("*-")
    return f"{call} {name} {what.partition('=')[0]}"


class UsedOn:
    """The database of the run before, which the next one takes. folder : where it lies."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._first = self._earlier = 0

    @property
    def template(self) -> Path | None:
        return self._folder if self._first else None

    @property
    def params(self) -> dict[str, int]:
        """Of the scenario: where its numbers begin, and how many postings are there already."""
        return {"first": self._first, "earlier": self._earlier} if self._first else {}

    def keep(self, made: Run) -> None:
        """Take this run's; where it is not well, or has grown too large, a new one is begun."""
        shutil.rmtree(self._folder, ignore_errors=True)
        whole = next((f.evidence.get("whole") for f in made.manifest.findings
                      if f.check == "postings"), None)  # fmt: skip
        files = sorted(made.folder.glob(f"{DATABASE}*"))
        large = sum(path.stat().st_size for path in files) > MOST_BYTES
        if not made.manifest.ok or whole is None or large or not files:
            self._first = self._earlier = 0
            return
        self._folder.mkdir()
        for path in files:
            shutil.move(path, self._folder / path.name)
        identity = made.manifest.engines[made.manifest.plan.database].data()
        told = json.dumps({"identity": identity, "layout": {}})
        (self._folder / "load.json").write_text(told, encoding="utf-8")
        self._first, self._earlier = self._first + FAR, int(whole)
