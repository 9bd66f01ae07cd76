"""What a manifest says of the workers: by their accounts, and by how their processes ended."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workloads import records as rec
from workloads.processes import ChildProcess, describe_end, read_account
from workloads.records import FindingEntry, Manifest, WorkerEntry
from workloads.runs.fault_effects import KILLED
from workloads.runs.job import places_of
from workloads.runs.plan import Plan

ENDED_WITH_IT = "it ended with the run's process, which was killed"
CORRUPT = ("malformed", "not a database", "corrupt", "logical log header is missing")
"""Parts of the messages by which engines say that a file is no sound database any more."""


@dataclass(frozen=True, slots=True)
class Ends:
    """How the processes of the workers ended, as far as they have. All by numbers of workers.

    hung : ended by the run, after waited_s without an answer. by_faults : as was asked.
    killed : whether the run's own process was killed, and another one finishes the run.
    """

    children: Sequence[ChildProcess]
    hung: Collection[int]
    by_faults: Collection[int]
    killed: bool
    waited_s: float


def accounts_of(folder: Path, many: int) -> list[dict[str, Any]]:
    """The accounts of all workers, {} for one that left none."""
    return [read_account(folder, f"worker-{worker:03d}") for worker in range(many)]


def worker_entries(
    plan: Plan, folder: Path, before: Manifest, accounts: Sequence[Mapping[str, Any]], ends: Ends
) -> list[WorkerEntry]:
    """Each worker's part of the manifest. before : what it says by now."""
    known = {entry.worker: entry for entry in before.workers}
    return [
        _entry(plan, folder, worker, known.get(worker), written, ends)
        for worker, written in enumerate(accounts)
    ]


def _entry(
    plan: Plan,
    folder: Path,
    worker: int,
    before: WorkerEntry | None,
    written: Mapping[str, Any],
    ends: Ends,
) -> WorkerEntry:
    role, engine, mode = plan.roles()[worker]
    child = next((c for c in ends.children if worker in c.workers), None)
    if before is not None and child is None and not written:
        return _as_it_was(before, ends)
    state, account = written.get("state", "never started"), written.get("account", "")
    if worker in ends.by_faults and state != "finished":
        state, account = KILLED, account or (describe_end(child) if child else "")
    elif worker in ends.hung:
        state = "hung"
        account = f"ended by the run: {ends.waited_s:g} s without an answer"
    elif child is not None and child.process.poll() and state in ("died", "never started"):
        state = "died"
        account = account or describe_end(child)
    elif account:
        pass  # its own account: of what it died, or how it ended
    elif child is not None and child.process.poll() is None and state == "died":
        state = "running"
    elif ends.killed and state == "died":
        state, account = "interrupted", ENDED_WITH_IT
    return WorkerEntry(
        worker=worker,
        role=role,
        number=places_of(plan)[worker][1],
        engine=engine,
        begin=mode,
        pid=child.process.pid if child else before.pid if before else 0,
        state=state,
        account=account,
        opened=rec.segment_path(folder, worker, 0).exists(),
        pragmas=written.get("pragmas", {}),
        loop=written.get("loop", ""),
        cpu_s=written.get("cpu_s"),
        cpus=written.get("cpus", ()),
        idle_checkpoints=written.get("idle_checkpoints", 0),
        busy_checkpoints=written.get("busy_checkpoints", 0),
        reconnects=written.get("reconnects", 0),
        met=written.get("met"),
        start=written.get("start"),
    )


def _as_it_was(before: WorkerEntry, ends: Ends) -> WorkerEntry:
    """The earlier entry of a worker that left no whole account, as the manifest has it."""
    if ends.killed and before.state in ("died", "running"):
        return before.model_copy(update={"state": "interrupted", "account": ENDED_WITH_IT})
    return before


def unreadable(plan: Plan, folder: Path) -> list[FindingEntry]:
    """A finding for each message by which an engine told a worker that the file is corrupt."""
    found = []
    for worker, (role, number) in enumerate(places_of(plan)):
        for message in rec.read_messages(folder, worker):
            if any(sign in message for sign in CORRUPT):
                found.append(
                    FindingEntry(
                        check="readable during the run",
                        ok=False,
                        sentence=f"{role} {number} ({plan.roles()[worker][1]}) was told: {message}",
                        evidence={"worker": worker},
                    )
                )
    return found
