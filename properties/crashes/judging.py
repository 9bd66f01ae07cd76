"""What a crash may leave and what it may not: the answers of an opened state against the log.

What is promised depends on `synchronous`, on the crash and on the journal. Where only the processes
died, all that was acknowledged is there at every level: the machine still had it. Where the power
went, a write-ahead log keeps at FULL all that was acknowledged, at NORMAL it may lose the last
commits and nothing else, and of OFF nothing is promised. Of a rollback journal NORMAL promises no
more than OFF; and one that COMMIT removes needs EXTRA, which syncs the folder, too: at FULL it may
be there again, and the last commits are rolled back
(https://sqlite.org/pragma.html#pragma_synchronous).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from properties.crashes.change_log import NOTE, Change
from properties.crashes.commit_order import NEVER, Expected, difference
from workloads.runs import AFTER_CRASH
from workloads.scenarios import Posting

WAL = "wal"
LOSES = {WAL: ("normal", "off"), "delete": ("full", "normal", "off")}
MAY_CORRUPT = {WAL: ("off",)}
ROLLBACK = ("normal", "off")
"""Levels of `synchronous` under which a power cut may lose commits, and under which it may do
anything, as documented: of each journal, and of the others, which are rollback journals."""

NONSENSE = "nonsense read"
"""The kind of a state on whose content the scenario's own code failed."""

DEADLY = ("does not open", "takes its process down", "hangs")


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that a state shows and should not. promised : whether the level promises that."""

    kind: str
    sentence: str
    promised: bool


@dataclass(slots=True)
class Told:
    """What the writers had done when the crash came: by the notes in the log up to its point.

    worked : posting -> number of the note before its COMMIT. acked : -> of its acknowledgement.
    """

    worked: dict[Posting, int] = field(default_factory=dict)
    acked: dict[Posting, int] = field(default_factory=dict)


def told_by(changes: Iterable[Change]) -> Told:
    """The notes of these records. A transaction that was tried again has its last note."""
    told = Told()
    for change in changes:
        if change.call != NOTE:
            continue
        what, _, rest = bytes(change.data).decode("ascii", "replace").partition(" ")
        parts = rest.split()
        if len(parts) != 2 or not all(part.isdecimal() for part in parts):
            continue
        posting = int(parts[0]), int(parts[1])
        if what == "work":
            told.worked[posting] = change.number
        elif what == "acked":
            told.acked[posting] = change.number
    return told


def until(told: Told, point: int) -> Told:
    """The same up to a crash point."""
    return Told(
        {posting: at for posting, at in told.worked.items() if at <= point},
        {posting: at for posting, at in told.acked.items() if at <= point},
    )


def judge(
    answer: Mapping[str, Any],
    told: Told,
    *,
    synchronous: str,
    power: bool,
    journal: str = WAL,
    expected: Expected | None = None,
) -> list[Fault]:
    """What is wrong with one state.

    answer : of workloads.runs.after_crash, or {"died": how} or {"hung": seconds}. told : up to the
    crash point. power : whether the machine died too. journal : its mode. expected : of a scenario
    that does not tell its transactions apart, what the database may hold.
    """
    safe = not power or synchronous not in MAY_CORRUPT.get(journal, ROLLBACK)
    keeps = not power or synchronous not in LOSES.get(journal, ROLLBACK)
    if "died" in answer:
        return [Fault(DEADLY[1], f"the engine's process ended: {answer['died']}", safe)]
    if "hung" in answer:
        return [Fault(DEADLY[2], f"no answer within {answer['hung']:g} s", safe)]
    found: list[Fault] = []
    failed, why = answer.get("failed") or ("", "")
    by_scenario = answer.get("by") == "scenario"
    if by_scenario:
        found.append(
            Fault(NONSENSE, f"the scenario's own code failed on what it read: {why}", safe)
        )
    if failed == "first":
        return found or [Fault(DEADLY[0], why, safe)]
    first = answer["first"]
    if first["integrity"]:
        found.append(Fault("integrity", "; ".join(first["integrity"][:3]), safe))
    there: set[Posting] = set()
    if expected is not None:
        found += _by_content(first, expected, safe=safe, keeps=keeps)
    else:
        if first["wrong"]:
            found.append(Fault("torn", "; ".join(first["wrong"][:3]), safe))
        if first.get("foreign") and first.get("enforced"):
            found.append(Fault("foreign keys", "; ".join(first["foreign"][:3]), safe))
        there = {(writer, number) for writer, number in first["whole"]}
        found += _by_the_log(there, told, safe=safe, keeps=keeps)
    if by_scenario:
        return found
    if failed == "second":
        found.append(Fault("second opening", f"it does not open again: {why}", safe))
    elif "second" in answer and answer["second"] != first:
        found.append(Fault("second opening", "opened again it holds something else", safe))
    if failed in ("writing", "third"):
        found.append(Fault("writing on", why, safe))
    elif "third" in answer and expected is not None:
        found += _content_written_on(answer["third"], first, safe)
    elif "third" in answer:
        found += _written_on(answer["third"], there, safe)
    return found


def lost_of(answer: Mapping[str, Any], told: Told, expected: Expected | None = None) -> int | None:
    """How many acknowledged transactions are not there, None where that cannot be told."""
    if "first" not in answer:
        return None
    if expected is not None:
        at = expected.found(answer["first"]["content"])
        return None if at is None else expected.lost(at)
    there = {(writer, number) for writer, number in answer["first"]["whole"]}
    return len(told.acked.keys() - there)


def _by_content(
    first: Mapping[str, Any], expected: Expected, *, safe: bool, keeps: bool
) -> list[Fault]:
    found = []
    at = expected.found(first["content"])
    seen = None if at is None else expected.contents[at]
    if at is None:
        found.append(Fault("torn", difference(first["content"], expected), safe))
    elif at >= expected.torn_from < NEVER:
        words = (
            f"what is there was there after record {expected.records[at]} of the log, when there "
            "had been more contents than transactions that came to their COMMIT: it is a part of "
            "one, or of none"
        )
        found.append(Fault("torn", words, safe))
    if at is not None and (lost := expected.lost(at)):
        last = max([*expected.claims, expected.least])
        words = (
            f"{lost} acknowledged: what is there was there after record {expected.records[at]} of "
            f"the log, and what was there after record {expected.records[last]} was acknowledged"
        )
        found.append(Fault("lost", words, keeps))
    if first["wrong"] and (seen is None or list(seen.wrong) != first["wrong"]):
        found.append(Fault("invariant", "; ".join(first["wrong"][:3]), safe))
    foreign = first.get("foreign", [])
    allowed = seen is not None and list(seen.foreign) == foreign and not first.get("enforced")
    if foreign and not allowed:
        found.append(Fault("foreign keys", "; ".join(foreign[:3]), safe))
    return found


def _content_written_on(
    third: Mapping[str, Any], first: Mapping[str, Any], safe: bool
) -> list[Fault]:
    wrong = list(third["integrity"])
    wrong += [name for name, one in third["content"].items() if one != first["content"].get(name)]
    if third["written"] != 1:
        wrong.append("the row that was written is not there")
    if wrong:
        words = f"after one more transaction: {'; '.join(wrong[:3])}"
        return [Fault("writing on", words, safe)]
    return []


def _by_the_log(there: set[Posting], told: Told, *, safe: bool, keeps: bool) -> list[Fault]:
    found = []
    if lost := sorted(told.acked.keys() - there):
        words = f"{len(lost)} acknowledged, such as {_name(lost[0])}"
        found.append(Fault("lost", words, keeps))
    if never := sorted(there - told.worked.keys()):
        words = f"{_name(never[0])} is there, and its writer had not come to its COMMIT"
        found.append(Fault("from nowhere", words, safe))
    if gap := _gap(there, told):
        early, late = gap
        words = (
            f"{_name(late)} is there and {_name(early)} is not, which was acknowledged before the "
            "other came to its COMMIT"
        )
        found.append(Fault("no prefix", words, safe))
    return found


def _gap(there: set[Posting], told: Told) -> tuple[Posting, Posting] | None:
    """(lost, kept) where one that is there came to its COMMIT after a lost one was acknowledged."""
    lost = [(at, posting) for posting, at in told.acked.items() if posting not in there]
    kept = [(told.worked[one], one) for one in there if one in told.worked]
    if not lost or not kept:
        return None
    early, late = min(lost), max(kept)
    return (early[1], late[1]) if late[0] > early[0] else None


def _written_on(third: Mapping[str, Any], there: set[Posting], safe: bool) -> list[Fault]:
    found = []
    now = {(writer, number) for writer, number in third["whole"]}
    if third["integrity"] or third["wrong"]:
        words = "; ".join([*third["integrity"], *third["wrong"]][:3])
        found.append(Fault("writing on", f"after one more transaction: {words}", safe))
    if missing := sorted((there | {AFTER_CRASH}) - now):
        words = f"after one more transaction {_name(missing[0])} is not there"
        found.append(Fault("writing on", words, safe))
    return found


def _name(posting: Sequence[int]) -> str:
    return f"transaction {posting[1]} of writer {posting[0]}"
