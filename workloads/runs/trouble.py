"""Troubles make a run not well although every invariant held: a full disk, errors, many failures.

Such a run measured its trouble and not the engine. An example: 24 transactions committed, 697 were
refused because the disk was full, and every check of the database still holds. So the trouble is
shown before anything else, the run is not `ok`, and the command that made it ends with status 1.
Its records are kept.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from workloads.records import (
    CAUSES,
    COMMIT,
    COMMITTED,
    CONFLICT,
    FAILED,
    FULL,
    IO,
    LIMIT,
    UNKNOWN,
    Manifest,
    WorkerRecord,
)
from workloads.runs.fault_effects import KILLED

MANY_SHARE = 0.01
"""More failed attempts than this share are many. Fewer move no figure of a run by more than its
interval is wide. With more, the run did not measure what was asked for."""

MANY_AT_LEAST = 10
FEW_SHARE = 0.1
"""Fewer failures than ten are an accident, unless they are more than a tenth of all attempts: three
of a hundred say nothing, three of twelve do."""

MESSAGES_SHOWN = 3

NOT_OF_THE_ENGINE = ("recording", "full", "io")
"""Kinds that are the disk's."""

INJECTED = ("full", "io", "limit", "commits", "failed")
"""Kinds that a fault of the run may have made."""

REMEDY = " This run measured "
NOT_OVER_IT = " These are more than the faults of this run let fail: it did not get over them."

NOT_RECORDED = "could not record"
"""The state of a worker whose attempts, or what it saw, could not be written down any more."""

TEXTS = {
    FULL: "met a full disk or a full database",
    IO: "met an I/O error",
    LIMIT: "met a limit of the engine or of the system",
}
REMEDIES = {
    FULL: "This run measured a disk that fills: free some space, or give another folder with "
    "--databases.",
    IO: "Whether those that failed in COMMIT were applied nobody knows. This run measured a disk "
    "that fails: look into the system's log.",
    LIMIT: "This run measured that limit.",
}


@dataclass(frozen=True)
class Trouble:
    """One reason why a run is not well.

    kind : "full", "io", "limit" (an engine reported it, if only once), "commits" (COMMITs refused
        for a reason that is no conflict), "failed" (many other attempts failed), "recording" (the
        kit's own records). sentence : for a person. attempts : how many, 0 where it is about none.
    """

    kind: str
    sentence: str
    attempts: int = 0


def why_not(manifest: Manifest) -> list[str]:
    """Sentences of why a run is not `ok`, its troubles first."""
    reasons = [one.sentence for one in manifest.troubles or ()]
    reasons += [finding.sentence for finding in manifest.broken]
    reasons += [f"{finding.check} {finding.sentence}" for finding in manifest.unmade]
    reasons += [
        f"worker {entry.worker} {entry.state}: {entry.account}".rstrip(": ")
        for entry in manifest.workers
        if entry.state not in ("finished", NOT_RECORDED, KILLED)
    ]
    return reasons or [manifest.ended]


def disk_trouble(manifest: Manifest) -> str:
    """The first trouble that is the disk's, as its sentence; "" where there is none.

    A run that met it measured neither its engine nor the rate that the engine keeps up with.
    """
    troubled = manifest.troubles or ()
    return next((one.sentence for one in troubled if one.kind in NOT_OF_THE_ENGINE), "")


def many(some: int, of: int) -> bool:
    """Whether so many failed that the run has to say so.

    >>> many(697, 721), many(3, 12), many(3, 100), many(10, 1_000), many(11, 1_000)
    (True, True, False, False, True)
    """
    return some > FEW_SHARE * of or (some >= MANY_AT_LEAST and some > MANY_SHARE * of)


def beyond_faults(found: Iterable[Trouble], injected: int) -> list[Trouble]:
    """The troubles that the faults of a run do not explain.

    injected : attempts that they may have let fail, 0 where they let none. A fault that was asked
    for is no trouble; that an engine does not get over it is.
    """
    return [
        one
        if one.kind not in INJECTED or not injected
        else replace(one, sentence=f"{one.sentence.partition(REMEDY)[0]}{NOT_OVER_IT}")
        for one in found
        if one.kind not in INJECTED or one.attempts > injected
    ]


def troubles(workers: Iterable[WorkerRecord]) -> list[Trouble]:
    """All troubles of a run's workers, the gravest first. Each worker is looked at once."""
    seen: dict[str, _Seen] = {}
    found = []
    for worker in workers:
        seen.setdefault(worker.role, _Seen(worker.role)).add(worker)
        if worker.entry.state == NOT_RECORDED:
            found.append(_unrecorded(worker))
    found += [
        trouble for cause in CAUSES for each in seen.values() for trouble in each.of_cause(cause)
    ]
    for each in seen.values():
        found += each.of_commits()
    for each in seen.values():
        found += each.of_failures()
    return found


def _unrecorded(worker: WorkerRecord) -> Trouble:
    why = worker.entry.account or "the disk has no room even for the reason"
    return Trouble(
        "recording",
        f"What {worker.role} {worker.number} did could not be recorded any further ({why}): the "
        "run was ended, and what it had is kept. Free some space, or give another folder with "
        "--runs.",
    )


@dataclass
class _Seen:
    """The failures of one role's workers that were no conflicts. The warm-up counts as well."""

    role: str
    finished: int = 0
    commits: int = 0  # attempts that came to their COMMIT
    causes: dict[int, Counter[str]] = field(default_factory=dict)
    at_commit: Counter[str] = field(default_factory=Counter)
    others: Counter[str] = field(default_factory=Counter)

    def add(self, worker: WorkerRecord) -> None:
        fields = ("conflict", "phase", "message")
        groups: Counter[tuple[int, int, int]] = Counter()
        for rows in worker.rows.pieces():
            failing = np.isin(rows["outcome"], (FAILED, UNKNOWN)) & (rows["message"] > 0)
            done = np.isin(rows["outcome"], (COMMITTED, CONFLICT)) | failing
            self.finished += int(done.sum())
            self.commits += int((done & (rows["worked_ns"] > 0)).sum())
            found, counts = np.unique(rows[failing][list(fields)], return_counts=True)
            groups.update(dict(zip(found.tolist(), counts.tolist(), strict=True)))
        for (cause, phase, number), times in sorted(groups.items()):
            message = _message(worker.messages, number)
            if cause in CAUSES:
                self.causes.setdefault(cause, Counter())[message] += times
            elif phase == COMMIT:
                self.at_commit[message] += times
            else:
                self.others[message] += times

    def of_cause(self, cause: int) -> list[Trouble]:
        if not (messages := self.causes.get(cause)):
            return []
        sentence = (
            f"{self._share(messages.total(), self.finished)} {TEXTS[cause]}: {_quoted(messages)}."
        )
        return [Trouble(CAUSES[cause], f"{sentence} {REMEDIES[cause]}", messages.total())]

    def of_commits(self) -> list[Trouble]:
        if not many(self.at_commit.total(), self.commits):
            # Too few to be named by themselves; together with the others they may be many.
            self.others += self.at_commit
            return []
        times = self.at_commit.total()
        return [
            Trouble(
                "commits",
                f"{times:,} of {self.commits:,} COMMITs of the {self.role}s were refused for a "
                f"reason that is no conflict: {_quoted(self.at_commit)}. No other transaction had "
                "a part in that, so they are in no abort rate.",
                times,
            )
        ]

    def of_failures(self) -> list[Trouble]:
        times = self.others.total()
        if not many(times, self.finished):
            return []
        start = f"{self._share(times, self.finished)} failed, and not for a conflict"
        return [Trouble("failed", f"{start}: {_quoted(self.others)}.", times)]

    def _share(self, some: int, of: int) -> str:
        what = "checkpoints" if self.role == "checkpointer" else f"attempts of the {self.role}s"
        return f"{some:,} of {of:,} {what}"


def _message(messages: Sequence[str], number: int) -> str:
    return messages[number - 1] if number <= len(messages) else "(words not kept)"


def _quoted(messages: Counter[str]) -> str:
    shown = messages.most_common(MESSAGES_SHOWN)
    several = len(messages) > 1
    quoted = "; ".join(f"{text} ({times:,})" if several else text for text, times in shown)
    return quoted + ("; …" if len(messages) > len(shown) else "")


__all__ = ["Trouble", "beyond_faults", "disk_trouble", "many", "troubles", "why_not"]
