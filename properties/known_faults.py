"""What engines are known to do under faults and crashes: counted by name, and hiding nothing else.

Each says by what it is recognised, in which versions it was seen, and how it is seen again. What
fits less than all of that is a new finding.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from workloads.processes import parse_rule

if TYPE_CHECKING:
    from workloads.records import FaultEntry, Manifest, RecordedPlan
    from workloads.runs import Plan

MOST_TOLD = 20
"""Refused transactions that a run's check names at most."""

DEADLY = ("kill", "kill-after", "torn")
"""What a rule may do that ends its process."""


class Seen(NamedTuple):
    """A finding, and what was done when it came.

    kind : its word in a soak. binding, version : as the engine calls itself. fired : the rules of
    --fault that did something. ended : whether processes were killed, or it is a crash's state.
    words : what COMMIT said of each refused transaction that is there.
    """

    kind: str
    sentence: str
    binding: str
    version: str
    plan: Plan | RecordedPlan | None = None
    fired: tuple[str, ...] = ()
    ended: bool = False
    words: tuple[str, ...] = ()


class KnownFault(NamedTuple):
    """A deviation that is known.

    versions : a pattern of "binding, version" of those that show it. fits : whether a finding is
    this. command : shows it. script : of examples/findings, "" for none. public : the address of
    somebody else's report, "" for none.
    """

    name: str
    sentence: str
    versions: str
    fits: Callable[[Seen], bool]
    command: str
    script: str = ""
    public: str = ""


def _refused_and_kept(seen: Seen) -> bool:
    rules = [parse_rule(rule) for rule in seen.fired]
    failed = any(
        rule.call == "sync" and rule.action == "fail" and "log" in rule.file for rule in rules
    )
    said = bool(seen.words) and all(text.startswith("sync: ") for text in seen.words)
    return seen.kind == "doubled" and failed and said


CUT_SHORT = "WAL has committed frames but logical log header is missing"


def _checkpoint_cut_short(seen: Seen) -> bool:
    return CUT_SHORT in seen.sentence and seen.ended


def _header_bit(seen: Seen) -> bool:
    flipped = re.search(r"bit \d of byte (\d+) of the database: took its process", seen.sentence)
    return flipped is not None and 52 <= int(flipped[1]) < 68


MALFORMED = "database disk image is malformed"


def _wal_reset(seen: Seen) -> bool:
    """Only where nothing else was done to the run: a fault may lose commits by itself."""
    checkpointed = seen.plan is not None and seen.plan.checkpointers > 0
    alone = checkpointed and not seen.fired and not seen.ended
    return alone and (seen.kind in ("lost", "torn", "integrity") or MALFORMED in seen.sentence)


TURSO = r"^pyturso 0\.8\.3,"
BEFORE_3_51_3 = r"^(sqlite3|apsw|libsql)\b.*, 3\.([7-9]|[1-4]\d|50|51(?=\.[0-2]$))(\.\d+)*$"

KNOWN: tuple[KnownFault, ...] = (
    KnownFault(
        "a refused COMMIT that is kept",
        "a COMMIT that is refused because the sync of its log failed is there at once for every "
        "connection, and after the database is opened again",
        TURSO,
        _refused_and_kept,
        "cwkit run --scenario ledger --database turso --begin immediate --writers 1 "
        "--transactions 6 --synchronous full --fault 'sync:*-log:4:EIO'",
        script="turso-refused-commit-is-kept.py",
    ),
    KnownFault(
        "a checkpoint cut short",
        "a process that dies in a checkpoint after it has cut the logical log and before it cuts "
        "the WAL leaves a database that does not open again",
        TURSO,
        _checkpoint_cut_short,
        "cwkit run --scenario ledger --database turso --begin deferred --writers 2 "
        "--checkpointers 1 --checkpoint truncate --checkpoint-pause-ms 5 --transactions 60 "
        "--synchronous full --fault 'truncate:*-wal:1:kill'",
        script="turso-checkpoint-cut-short.py",
        public="https://github.com/tursodatabase/turso/issues/7480",
    ),
    KnownFault(
        "an abort by a bit of the header",
        "a flipped bit in the header's fields for auto-vacuum takes down the process that opens "
        "the database, where its logical log holds commits and no WAL is beside it",
        TURSO,
        _header_bit,
        "cwkit faults --engine turso --begin immediate --story flip-database --seed 1",
        script="turso-header-bit-abort.py",
    ),
    KnownFault(
        "SQLite's WAL-reset race",
        "where one connection checkpoints while others commit, acknowledged commits are lost, "
        "transactions are torn and the database may be malformed; SQLite 3.51.3 mended it",
        BEFORE_3_51_3,
        _wal_reset,
        "cwkit run --scenario acked --checkpointers 3",
        public="https://sqlite.org/wal.html#walresetbug",
    ),
)


def recognised(seen: Seen) -> str:
    """The name of the known deviation that a finding is, "" for none."""
    who = f"{seen.binding}, {seen.version}"
    return next((one.name for one in KNOWN if re.search(one.versions, who) and one.fits(seen)), "")


def seen_in(manifest: Manifest, kind: str, sentence: str, *, ended: bool = False) -> Seen | None:
    """A finding of a run. ended : processes were killed that no fault killed, or it is the state of
    a crash. None where the run does not say which engine it was.
    """
    plan = manifest.plan
    if (engine := manifest.engines.get(plan.database)) is None:
        return None
    return Seen(
        kind, sentence, engine.binding, engine.version, plan,
        fired=tuple(one.rule for one in manifest.faults if one.fired),
        ended=ended or any(is_deadly(one) for one in manifest.faults),
        words=_words(manifest) if kind == "doubled" else (),
    )  # fmt: skip


def is_deadly(entry: FaultEntry) -> bool:
    """Whether a fault of a run has ended a process."""
    action = entry.rule.partition("@")[0].rpartition(":")[2].partition("=")[0]
    return bool(entry.fired) and action in DEADLY


def _words(manifest: Manifest) -> tuple[str, ...]:
    """What COMMIT said of each refused transaction that is there; () where not all are told, or
    others are there without an answer.
    """
    said: list[str] = []
    for one in manifest.findings:
        if one.check == "acknowledged postings" and one.evidence.get("more"):
            return ()
        if one.check == "refused postings" and not one.ok:
            there = one.evidence.get("there", ())
            if len(there) >= MOST_TOLD:
                return ()
            said += [str(words) for _, words in there]
    return tuple(said)


def known_state(binding: str, version: str, sentence: str) -> KnownFault | None:
    """The known deviation that a state shows which a crash left, None for none."""
    return known_fault(recognised(Seen("state", sentence, binding, version, ended=True)))


def known_fault(name: str) -> KnownFault | None:
    """The known deviation of this name, None for one of an older or later cwkit."""
    return next((one for one in KNOWN if one.name == name), None)


__all__ = [
    "KNOWN",
    "KnownFault",
    "Seen",
    "is_deadly",
    "known_fault",
    "known_state",
    "recognised",
    "seen_in",
]
