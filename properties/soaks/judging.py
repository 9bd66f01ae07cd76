"""What is wrong in a round, by one word for each kind, whatever way it was found.

A fault or a kill that was asked for is no finding. What may not follow from it is: a commit that
was acknowledged and is gone, one that was refused and is there, half of one, a worker that never
comes back, a process that ends by itself.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING

from properties.known_faults import is_deadly, recognised, seen_in
from properties.soaks.folder import Found

if TYPE_CHECKING:
    from workloads.records import FindingEntry, Manifest, WorkerEntry
    from workloads.runs import Plan

LONGEST = 1000
BY_CHECK = {
    "postings": "torn",
    "refused postings": "doubled",
    "earlier postings": "lost",
    "readable": "integrity",
    "readable during the run": "integrity",
    "going on": "hang",
}
"""Name of a check of a run -> the kind of what it found. Others are an invariant."""

ENDED_WELL = ("finished", "killed by a fault", "could not record")


def findings_of(manifest: Manifest, plan: Plan, killed: Collection[int] = ()) -> list[Found]:
    """What is wrong in a run. killed : ids of the processes that the round killed."""
    found = [_of_check(one) for one in manifest.findings if not one.ok]
    deadly = bool(killed) or any(is_deadly(one) for one in manifest.faults)
    found += [one for entry in manifest.workers if (one := _of_worker(entry, deadly))]
    if not killed and not manifest.faults:
        found += [_made("trouble", one.sentence) for one in manifest.troubles or ()]
    if manifest.ended in ("scenario failed", "worker could not start"):
        found.append(_made(manifest.ended, f"the run ended so: {manifest.ended}"))
    return once(named(one, manifest, plan, ended=deadly) for one in found)


def named(found: Found, manifest: Manifest, plan: Plan, *, ended: bool) -> Found:
    """With the name of the known deviation that it is. ended : processes were killed, or it is the
    state of a crash.
    """
    seen = seen_in(manifest, found.kind, found.sentence, ended=ended)
    return found if seen is None else Found(found.kind, found.sentence, recognised(seen))


def _of_check(one: FindingEntry) -> Found:
    if not one.checked:
        return _made("not checked", one.sentence)
    kind = BY_CHECK.get(one.check, "invariant")
    if one.check == "acknowledged postings":
        kind = "lost" if one.evidence.get("lost") else "doubled"
    elif one.check.startswith("integrity"):
        kind = "integrity"
    return _made(kind, f"{one.check}: {one.sentence}")


def _of_worker(entry: WorkerEntry, deadly: bool) -> Found | None:
    if entry.state in (*ENDED_WELL, "invariant broken"):
        return None
    who = f"{entry.role} {entry.number} {entry.state}: {entry.account}"
    if entry.state == "hung":
        return _made("hang", who)
    if entry.state == "died" and deadly and ("SIGKILL" in entry.account or "killed" in who):
        return None
    return _made("death" if entry.state == "died" else "worker", who)


def _made(kind: str, sentence: str) -> Found:
    return Found(kind, sentence if len(sentence) <= LONGEST else f"{sentence[: LONGEST - 1]}…")


def once(found: Iterable[Found]) -> list[Found]:
    """One of each kind, and one of each known deviation: several workers say the same."""
    kinds: dict[tuple[str, str], Found] = {}
    for one in found:
        kinds.setdefault((one.kind, one.known), one)
    return list(kinds.values())
