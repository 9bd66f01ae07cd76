"""A story: what is done to an engine while it writes, and how the kit tells what was left.

Every story counts the same: what was acknowledged, lost, torn, doubled, how long others waited, and
the engine's own words. One whose fault never struck has tested nothing, and says that.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from properties.crashes import Recording, read_recording
from properties.known_faults import Seen, recognised, seen_in
from workloads.engines import find_engine
from workloads.records import COMMITTED, FindingEntry, Manifest, WorkerRecord
from workloads.records import Run as MadeRun
from workloads.runs import Plan, RunUnderWay, make_plan, run

SOUND, FINDING, CANNOT_TELL = "sound", "finding", "cannot tell"
VERDICTS = (SOUND, FINDING, CANNOT_TELL)


@dataclass(slots=True)
class StoryResult:
    """What one story told of one engine in one mode.

    fired : how often the fault struck; 0: nothing was tested. lost, torn, doubled : acknowledged
    transactions that are not there, sentences on what no set of whole ones explains, refused ones
    that are there. integrity : failures of the engine's own check. longest_block_ms : until another
    worker committed again. errors : the engine's words -> how often. told : what else it says.
    found : what may not be, sentences; `verdict` is `finding` where there are any. known : of each,
    the name of the known deviation that it is, "" for none. calls : of a
    commit or a checkpoint, each of which is to fail once by each error; calls_failed : that did.
    """

    story: str
    engine: str
    begin: str
    seed: int
    version: str = ""
    fired: int = 0
    acknowledged: int = 0
    lost: int = 0
    torn: int = 0
    doubled: int = 0
    integrity: int = 0
    longest_block_ms: float | None = None
    runs: int = 0
    errors: dict[str, int] = field(default_factory=dict)
    told: list[str] = field(default_factory=list)
    found: list[str] = field(default_factory=list)
    untold: list[str] = field(default_factory=list)
    command: str = ""
    seconds: float = 0.0
    calls: int = 0
    calls_failed: int = 0
    known: list[str] = field(default_factory=list)

    @property
    def verdict(self) -> str:
        """Of the three."""
        if self.found:
            return FINDING
        return CANNOT_TELL if self.untold or not self.fired else SOUND

    def add(self, made: MadeRun, fired: int | None = None) -> None:
        """Count a run. fired : how often what was done to it struck, None: by its faults."""
        manifest = made.manifest
        self.runs += 1
        self.version = self.version or manifest.engines[manifest.plan.database].version
        self.fired += sum(one.fired for one in manifest.faults) if fired is None else fired
        for worker in made.workers:
            if worker.role == "writer":
                self.acknowledged += int((worker.attempts["outcome"] == COMMITTED).sum())
            self._add_words(worker)
        for finding in manifest.findings:
            self._add_finding(manifest, finding)
        for one in manifest.troubles or ():
            self.find(one.sentence)
        for worker in made.workers:
            if worker.entry.state not in ("finished", "killed by a fault", "invariant broken"):
                words = f"{worker.role} {worker.number} {worker.entry.state}"
                self.find(f"{words}: {worker.entry.account}".rstrip(": "))
        blocks = [e.longest_block_ns for e in manifest.faults if e.longest_block_ns is not None]
        if blocks:
            self.longest_block_ms = max(self.longest_block_ms or 0.0, max(blocks) / 1e6)

    def _add_words(self, worker: WorkerRecord) -> None:
        numbers = worker.attempts["message"]
        counts = np.bincount(numbers, minlength=len(worker.messages) + 1)
        for words, many in zip(worker.messages, counts[1:].tolist(), strict=False):
            if many:
                self.errors[words] = self.errors.get(words, 0) + many

    def find(self, sentence: str, seen: Seen | None = None) -> None:
        """Add what may not be. seen : the same as it is held against what is known, None: new."""
        self.found.append(sentence)
        self.known.append(recognised(seen) if seen is not None else "")

    def _add_finding(self, manifest: Manifest, finding: FindingEntry) -> None:
        evidence = finding.evidence
        self.lost += int(evidence.get("lost_count", 0))
        if finding.ok:
            return
        if not finding.checked:
            self.untold.append(f"{finding.check} {finding.sentence}")
            return
        sentence = f"{finding.check}: {finding.sentence}"
        kind = "doubled" if finding.check == "refused postings" else finding.check
        self.find(sentence, seen_in(manifest, kind, sentence))
        self.torn += len(evidence.get("wrong", ()))
        self.doubled += len(evidence.get("there", ()))
        self.integrity += finding.check in ("integrity", "readable", "readable during the run")


@dataclass(slots=True)
class Case:
    """An engine in a mode, for the stories of a campaign. place : a folder for its runs.

    quick : each story is told as shortly as it can be. kills : as many as `kill-often` makes.
    """

    engine: str
    begin: str
    seed: int
    place: Path
    quick: bool = False
    kills: int = 3
    _recording: Recording | None = None
    _number: int = 0

    @property
    def threads(self) -> bool:
        """Whether its workers are threads of one process, which has the file for itself."""
        return find_engine(self.engine).hosting == "thread"

    @property
    def log(self) -> str:
        """A pattern for the name of its log: the file that its COMMITs write."""
        names = Counter(
            change.name for change in self.recording().changes if change.what == "write"
        )
        names.pop(DATABASE, None)
        return f"*{names.most_common(1)[0][0].removeprefix(DATABASE)}" if names else DATABASE

    def draw(self, story: str) -> random.Random:
        """Chance of this story alone."""
        return random.Random(f"{self.seed}-{story}-{self.engine}-{self.begin}")

    def plan(self, **given: Any) -> Plan:
        """A plan of the scenario `ledger`; small, all of it measured, by as many transactions."""
        values: dict[str, Any] = {
            "scenario": "ledger", "database": self.engine, "begin": self.begin,
            "synchronous": "full", "writers": 2 if self.quick else 3, "readers": 0,
            "transactions": 20 if self.quick else 60, "duration_s": 30, "warmup_s": 0,
            "seed": self.seed, "start": "exec" if given.pop("anew", False) else None,
        }  # fmt: skip
        if given.get("transactions", 1) is None:
            values.pop("transactions")
        return make_plan(**values | {k: v for k, v in given.items() if v is not None})

    def run(
        self,
        plan: Plan,
        *,
        record: bool = False,
        beside: Callable[[RunUnderWay], None] | None = None,
        databases: Path | None = None,
        template: Path | None = None,
        keep_database: bool = False,
    ) -> MadeRun:
        """Carry it out in this case's folder. Raises KeyboardInterrupt where that ended it."""
        self._number += 1
        made = run(
            plan, self.place, name=f"run-{self._number:03d}", record_changes=record, beside=beside,
            databases=databases, template=template, keep_database=keep_database,
        )  # fmt: skip
        if made.manifest.ended == "interrupted":
            raise KeyboardInterrupt
        return made

    def recording(self) -> Recording:
        """One writer of this engine, recorded: which calls its commits make. Made once."""
        if self._recording is None:
            plan = self.plan(writers=1, transactions=40, wal_autocheckpoint=30)
            self._recording = read_recording(self.run(plan, record=True).folder)
        return self._recording


DATABASE = "database.db"


@dataclass(frozen=True, slots=True)
class Story:
    """name : as `--story` takes it. sentence : what is done, in plain words. tell : does it.

    why_not : why it has nothing to tell of a case, "" where it has.
    """

    name: str
    sentence: str
    tell: Callable[[Case, StoryResult], None]
    why_not: Callable[[Case], str] = lambda case: ""
