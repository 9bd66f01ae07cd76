"""The anomalies of the literature as fixed schedules: each a story, run on every engine and mode.

Keys 0, 1, 2 hold lists that are empty at first; 3 and 4 are absent. T0, T1, T2 are the sessions.
A schedule is `seen` when its transactions committed and its reads saw what the story says; else
something prevented it, and `how` tells what: a lock, a refusal, or the reader's snapshot.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from workloads.schedules import READS, Schedule, ScheduleRun

ADYA = "Adya 1999, Weak Consistency: A Generalized Theory, ch. 3"
BERENSON = "Berenson et al. 1995, A Critique of ANSI SQL Isolation Levels"
BAILIS = "Bailis et al. 2013, Highly Available Transactions"
FEKETE = "Fekete, O'Neil and O'Neil 2004, A Read-Only Transaction Anomaly Under Snapshot Isolation"
HERMITAGE = "Kleppmann 2014, Hermitage"


@dataclass(frozen=True)
class Classic:
    """One anomaly as a schedule.

    names : the checker's names for it, the most exact first; where it is seen, one is found.
    reads : (session, number of its read from 0, what it must have seen), for it to be seen.
    final : rows at the end, for those that only they show. committed : sessions that must have.
    """

    name: str
    story: str
    source: str
    programs: tuple[str, ...]
    order: str
    names: tuple[str, ...]
    reads: tuple[tuple[int, int, Any], ...] = ()
    final: Mapping[int, Any] = field(default_factory=dict)
    committed: tuple[int, ...] = ()

    @property
    def schedule(self) -> Schedule:
        return Schedule(self.programs, self.order)

    def seen(self, run: ScheduleRun) -> bool:
        """Whether the story happened."""
        reads = {s: run.seen(s) for s, _, _ in self.reads}
        outcomes = {s: [t.outcome for t in run.txns if t.session == s] for s in self.committed}
        return (
            all(len(reads[s]) > n and reads[s][n] == value for s, n, value in self.reads)
            and all(run.final.get(key) == value for key, value in self.final.items())
            and all(set(found) == {"committed"} for found in outcomes.values())
        )


_ITEMS = [
    Classic(
        "G0",
        "Dirty write: T0 and T1 both write x and then y, in opposite orders; x ends as one left "
        "it, y as the other.",
        f"{ADYA}, G0; {BERENSON}, P0",
        ("begin; append 0 1; append 1 3; commit", "begin; append 0 2; append 1 4; commit"),
        "01011100",
        ("G0",),
        final={0: (1, 2), 1: (4, 3)},
        committed=(0, 1),
    ),
    Classic(
        "G1a",
        "Aborted read: T1 reads x as T0 wrote it, and T0 rolls back.",
        f"{ADYA}, G1a",
        ("begin; append 0 1; rollback", "begin; r 0; commit"),
        "001101",
        ("G1a",),
        reads=((1, 0, (1,)),),
        committed=(1,),
    ),
    Classic(
        "G1b",
        "Intermediate read: T1 reads x between two writes of T0.",
        f"{ADYA}, G1b",
        ("begin; append 0 1; append 0 2; commit", "begin; r 0; commit"),
        "0011001",
        ("G1b",),
        reads=((1, 0, (1,)),),
        committed=(0, 1),
    ),
    Classic(
        "G1c",
        "Circular information flow: T0 reads what T1 wrote, and T1 what T0 wrote.",
        f"{ADYA}, G1c",
        ("begin; append 0 1; r 1; commit", "begin; append 1 2; r 0; commit"),
        "01010101",
        ("G1c",),
        reads=((0, 0, (2,)), (1, 0, (1,))),
        committed=(0, 1),
    ),
    Classic(
        "OTV",
        "Observed transaction vanishes: T2 sees x as T0 left it and then y as T1 left it, though "
        "T1 wrote x, too: what T2 saw of T0 has gone under its eyes.",
        f"{BAILIS}, OTV; {HERMITAGE}",
        (
            "begin; append 0 1; append 1 3; commit",
            "begin; append 0 2; append 1 4; commit",
            "begin; r 0; r 1; commit",
        ),
        "010001221122",
        ("fractured-read", "G-single"),
        reads=((2, 0, (1,)), (2, 1, (3, 4))),
        committed=(0, 1, 2),
    ),
    Classic(
        "PMP",
        "Predicate-many-preceders: T0 asks twice which rows of a range there are; in between T1 "
        "inserts one and commits, and the second answer has it.",
        f"{HERMITAGE}; {BERENSON}, P3 (phantom)",
        ("begin; range 3 4; range 3 4; commit", "begin; insert 3 1; commit"),
        "0011100",
        ("internal-predicate", "G-single-predicate"),
        reads=((0, 0, ()), (0, 1, ((3, (1,)),))),
        committed=(0, 1),
    ),
    Classic(
        "P4",
        "Lost update: both read x, then both write it; the second write knows nothing of the "
        "first.",
        f"{BERENSON}, P4",
        ("begin; r 0; append 0 1; commit", "begin; r 0; append 0 2; commit"),
        "00110011",
        ("lost-update", "G-single"),
        reads=((0, 0, ()), (1, 0, ())),
        committed=(0, 1),
    ),
    Classic(
        "G-single",
        "Read skew: T0 reads x, T1 writes x and y and commits, T0 reads the new y: its two reads "
        "belong to no one moment.",
        f"{ADYA}, G-single; {BERENSON}, A5A",
        ("begin; r 0; r 1; commit", "begin; append 0 1; append 1 2; commit"),
        "00111100",
        ("fractured-read", "G-single"),
        reads=((0, 0, ()), (0, 1, (2,))),
        committed=(0, 1),
    ),
    Classic(
        "G-single-predicate",
        "Read skew with a predicate: T0 finds no row in a range, T1 inserts one there, writes x "
        "and commits, T0 reads the new x.",
        f"{ADYA}, G-single with a predicate dependency; {HERMITAGE}",
        ("begin; range 3 4; r 0; commit", "begin; insert 3 1; append 0 2; commit"),
        "00111100",
        ("fractured-read", "G-single-predicate"),
        reads=((0, 0, ()), (0, 1, (2,))),
        committed=(0, 1),
    ),
    Classic(
        "G2-item",
        "Write skew: both read x and y; T0 then writes x and T1 writes y. Neither wrote what the "
        "other wrote, and yet no order of the two explains both.",
        f"{ADYA}, G2-item; {BERENSON}, A5B",
        ("begin; r 0; r 1; append 0 1; commit", "begin; r 0; r 1; append 1 2; commit"),
        "0001110011",
        ("G2-item",),
        reads=((0, 0, ()), (0, 1, ()), (1, 0, ()), (1, 1, ())),
        committed=(0, 1),
    ),
    Classic(
        "G2",
        "Write skew by a predicate: both find no row in a range, then each inserts one there.",
        f"{ADYA}, G2; {HERMITAGE}",
        ("begin; range 3 4; insert 3 1; commit", "begin; range 3 4; insert 4 2; commit"),
        "00110011",
        ("G2",),
        reads=((0, 0, ()), (1, 0, ())),
        committed=(0, 1),
    ),
    Classic(
        "read-only",
        "Read-only transaction anomaly: T0 reads x and y; T1 pays into y and commits; T2 only "
        "reads, sees T1's payment and nothing of T0; then T0 writes x. Without T2 all were well: "
        "it is the report that makes the history wrong.",
        FEKETE,
        (
            "begin; r 0; r 1; append 0 1; commit",
            "begin; r 1; append 1 2; commit",
            "begin; r 0; r 1; commit",
        ),
        "0001111222200",
        ("G2-item",),
        reads=((0, 0, ()), (0, 1, ()), (1, 0, ()), (2, 0, ()), (2, 1, (2,))),
        committed=(0, 1, 2),
    ),
]
CLASSICS: dict[str, Classic] = {classic.name: classic for classic in _ITEMS}

RESULTS = ("seen", "blocked", "refused", "snapshot")


class Found(NamedTuple):
    """How a schedule ended on an engine.

    result : "seen"; "blocked" (a lock was not to be had), "refused" (the engine saw the conflict),
        "snapshot" (all went through, and the reads saw an older state than the story needs).
    step   : the step that prevented it, "T1: append 0 2"; message : the engine's own.
    """

    result: str
    step: str = ""
    message: str = ""


def how(classic: Classic, run: ScheduleRun) -> Found:
    """Whether the anomaly was seen, or what prevented it and at which step."""
    if classic.seen(run):
        return Found("seen")
    for event in run.events:
        if event.status in ("conflict", "ended", "unknown", "failed"):
            result = "blocked" if event.kind == "busy" else "refused"
            return Found(result, f"T{event.session}: {event.op}", event.message)
    place = dict.fromkeys(range(len(classic.programs)), 0)
    wanted = {(s, n): value for s, n, value in classic.reads}
    for event in run.events:
        if event.op.name in READS:
            at = (event.session, place[event.session])
            place[event.session] += 1
            if at in wanted and event.value != wanted[at]:
                return Found("snapshot", f"T{event.session}: {event.op}")
    return Found("snapshot")
