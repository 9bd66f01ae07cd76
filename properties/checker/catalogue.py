"""Which anomalies there are, who named them, and which levels each one rules out.

The names are the papers' own (those of the session guarantees are from Bailis et al. 2013, Highly
Available Transactions; non-prefix-read alone is ours). Every anomaly carries a minimal history that
shows it; the tests check that the checker finds exactly that name in it.
"""

from __future__ import annotations

from dataclasses import dataclass

# Each level, weakest first, with the levels directly below it: what they forbid, it forbids too.
#
# The four session guarantees (Terry et al. 1994) follow from no isolation level that knows nothing
# of sessions: a serializable store may show every session an old state. They follow from the levels
# in which a session's next transaction sees all that its earlier ones saw and wrote, and the
# weakest of these here is strong session snapshot isolation. Nothing follows from them: a session
# may see its own writes and read what another aborted.
#
# Consistent prefix (Terry 2013: a reader sees the store as it was at the master at some moment in
# the past) is here the axioms INT, EXT and PREFIX of Cerone, Bernardi and Gotsman 2015: there is
# one order of all commits, and each transaction reads from one beginning of it. Snapshot isolation
# is that and first committer wins, so it implies it, and serializable does. Repeatable read
# (PL-2.99) does not: its predicates may see an older state. Sessions are no part of it, so a
# transaction may read from an older beginning than its session's last one did.
LEVELS: dict[str, tuple[str, ...]] = {
    "read-uncommitted": (),
    "read-committed": ("read-uncommitted",),
    "read-atomic": ("read-committed",),
    "consistent-prefix": ("read-atomic",),
    "snapshot-isolation": ("consistent-prefix",),
    "repeatable-read": ("read-committed",),
    "serializable": ("snapshot-isolation", "repeatable-read"),
    "read-your-writes": (),
    "monotonic-reads": (),
    "monotonic-writes": (),
    "writes-follow-reads": (),
    "strong-session-snapshot-isolation": (
        "snapshot-isolation",
        "read-your-writes",
        "monotonic-reads",
        "monotonic-writes",
        "writes-follow-reads",
    ),
    "strong-session-serializable": ("serializable", "strong-session-snapshot-isolation"),
    "strong-snapshot-isolation": ("strong-session-snapshot-isolation",),
    "strict-serializable": ("strong-session-serializable", "strong-snapshot-isolation"),
}
# Each session guarantee, and the anomaly that violates it.
GUARANTEES = {
    "read-your-writes": "MYR",
    "monotonic-reads": "N-MR",
    "monotonic-writes": "N-MW",
    "writes-follow-reads": "MRWD",
}
DEFAULT_LEVEL = "strict-serializable"

ADYA = "Adya 1999, Weak Consistency"
BERENSON = "Berenson et al. 1995, A Critique of ANSI SQL Isolation Levels"
BAILIS = "Bailis et al. 2014, Scalable Atomic Visibility with RAMP Transactions"
CERONE = "Cerone and Gotsman 2016, Analysing Snapshot Isolation"
INT = "Cerone, Bernardi and Gotsman 2015, A Framework for Transactional Consistency Models"
ELLE = "Alvaro and Kingsbury 2020, Elle"
DAUDJEE = "Daudjee and Salem 2006, Lazy Database Replication with Snapshot Isolation"
TERRY = "Terry et al. 1994, Session Guarantees for Weakly Consistent Replicated Data"
HERLIHY = "Herlihy and Wing 1990, Linearizability"

# A transaction of an example: session, when it runs, its end (`ok`, `fail` or `info`) and its
# operations. `1-2` begins at 1 and ends at 2; transactions on one line of time run one by one.
Example = tuple[str, ...]


@dataclass(frozen=True)
class Anomaly:
    """One anomaly: its story, its source, the weakest levels that it rules out, an example.

    example : lines "SESSION BEGIN-END OUTCOME OPERATIONS" that `examples.parse` reads;
        register, where it shows in registers too, is the same for rw-register.
    """

    name: str
    story: str
    source: str
    rules_out: tuple[str, ...]
    example: Example
    register: Example = ()


_RC, _RA, _SI, _RR = "read-committed", "read-atomic", "snapshot-isolation", "repeatable-read"
_CP = "consistent-prefix"
_RYW, _MR, _MW = "read-your-writes", "monotonic-reads", "monotonic-writes"
_WFR = "writes-follow-reads"
_RU, _SER = "read-uncommitted", "serializable"
_SESSION_SI, _SESSION_SER = "strong-session-snapshot-isolation", "strong-session-serializable"
_STRONG_SI, _STRICT = "strong-snapshot-isolation", "strict-serializable"

_ITEMS = [
    Anomaly(
        "G0",
        "dirty write: the writes of two transactions are interleaved",
        ADYA,
        (_RU,),
        (
            "a 0-9 ok append:x:1 append:y:1",
            "b 1-8 ok append:x:2 append:y:2",
            "c 10-11 ok r:x:[1,2] r:y:[2,1]",
        ),
    ),
    Anomaly(
        "G1a",
        "aborted read: a value of a transaction that was refused was read",
        ADYA,
        (_RC,),
        ("a 0-3 fail append:x:1", "b 1-2 ok r:x:[1]"),
        ("a 0-3 fail w:x:1", "b 1-2 ok r:x:1"),
    ),
    Anomaly(
        "G1b",
        "intermediate read: a value was read that its writer then wrote over",
        ADYA,
        (_RC,),
        ("a 0-3 ok append:x:1 append:x:2", "b 1-2 ok r:x:[1]"),
        ("a 0-3 ok w:x:1 w:x:2", "b 1-2 ok r:x:1"),
    ),
    Anomaly(
        "G1c",
        "circular information flow: each saw what the other wrote",
        ADYA,
        (_RC,),
        ("a 0-3 ok append:x:1 r:y:[1]", "b 1-4 ok append:y:1 r:x:[1]"),
        ("a 0-3 ok w:x:1 r:y:1", "b 1-4 ok w:y:1 r:x:1"),
    ),
    Anomaly(
        "internal",
        "a transaction's read contradicts its own earlier read or write",
        INT,
        (_RA, _RR),
        ("a 0-1 ok append:x:1 r:x:[]",),
        ("a 0-1 ok w:x:1 r:x:nil",),
    ),
    Anomaly(
        "internal-predicate",
        "a transaction's two reads contradict each other, one of them a predicate's",
        INT,
        (_RA,),
        ("a 0-3 ok append:x:1", "b 1-2 ok r:x:[1] rp:x:[]"),
        ("a 0-3 ok w:x:1", "b 1-2 ok r:x:1 rp:x:nil"),
    ),
    Anomaly(
        "future-read",
        "a transaction read what it only later wrote",
        ELLE,
        (_RC,),
        ("a 0-1 ok r:x:[1] append:x:1",),
        ("a 0-1 ok r:x:1 w:x:1",),
    ),
    Anomaly(
        "dirty-update",
        "a committed write builds on the write of an aborted one",
        ELLE,
        (_RC,),
        ("a 0-3 fail append:x:1", "b 1-2 ok append:x:2", "c 4-5 ok r:x:[1,2]"),
    ),
    Anomaly(
        "lost-update",
        "two transactions read the same version and both wrote (P4)",
        BERENSON,
        (_SI, _RR),
        ("a 0-3 ok r:x:[] append:x:1", "b 1-4 ok r:x:[] append:x:2"),
        ("a 0-3 ok r:x:nil w:x:1", "b 1-4 ok r:x:nil w:x:2"),
    ),
    Anomaly(
        "fractured-read",
        "a transaction saw a part of another's writes, not all",
        BAILIS,
        (_RA,),
        ("a 0-3 ok append:x:1 append:y:1", "b 1-2 ok r:x:[1] r:y:[]"),
        ("a 0-3 ok w:x:1 w:y:1", "b 1-2 ok r:x:1 r:y:nil"),
    ),
    Anomaly(
        "G-single",
        "read skew: what was read belongs to no one moment (A5A)",
        ADYA,
        (_SI, _RR),
        ("a 0-1 ok append:x:1", "b 2-3 ok r:x:[1] append:y:1", "c 0-4 ok r:x:[] r:y:[1]"),
        ("a 0-1 ok w:x:1", "b 2-3 ok r:x:1 w:y:1", "c 0-4 ok r:x:nil r:y:1"),
    ),
    Anomaly(
        "G-nonadjacent",
        "a cycle whose anti-dependencies are never adjacent: long fork",
        CERONE,
        (_SI, _RR),
        (
            "a 0-4 ok append:x:1",
            "b 0-4 ok append:y:1",
            "c 0-4 ok r:x:[1] r:y:[]",
            "d 0-4 ok r:x:[] r:y:[1]",
        ),
        ("a 0-4 ok w:x:1", "b 0-4 ok w:y:1", "c 0-4 ok r:x:1 r:y:nil", "d 0-4 ok r:x:nil r:y:1"),
    ),
    Anomaly(
        "non-prefix-read",
        "what transactions read are not all beginnings of one order of commits",
        INT,
        (_CP,),
        (
            "a 0-4 ok append:x:1",
            "b 0-4 ok append:y:1",
            "c 0-4 ok r:x:[1] r:y:[]",
            "d 0-4 ok r:x:[] r:y:[1]",
        ),
        ("a 0-4 ok w:x:1", "b 0-4 ok w:y:1", "c 0-4 ok r:x:1 r:y:nil", "d 0-4 ok r:x:nil r:y:1"),
    ),
    Anomaly(
        "G2-item",
        "write skew: each overwrote what the other had read (A5B)",
        ADYA,
        (_RR,),
        ("a 0-3 ok r:x:[] append:y:1", "b 1-4 ok r:y:[] append:x:1"),
        ("a 0-3 ok r:x:nil w:y:1", "b 1-4 ok r:y:nil w:x:1"),
    ),
    Anomaly(
        "G-single-predicate",
        "read skew in which the old state was seen by a predicate",
        ADYA,
        (_SI,),
        ("a 0-1 ok append:x:1", "b 2-3 ok r:x:[1] append:y:1", "c 0-4 ok rp:x:[] r:y:[1]"),
        ("a 0-1 ok w:x:1", "b 2-3 ok r:x:1 w:y:1", "c 0-4 ok rp:x:nil r:y:1"),
    ),
    Anomaly(
        "G-nonadjacent-predicate",
        "long fork in which an old state was seen by a predicate",
        CERONE,
        (_SI,),
        (
            "a 0-4 ok append:x:1",
            "b 0-4 ok append:y:1",
            "c 0-4 ok r:x:[1] rp:y:[]",
            "d 0-4 ok rp:x:[] r:y:[1]",
        ),
        ("a 0-4 ok w:x:1", "b 0-4 ok w:y:1", "c 0-4 ok r:x:1 rp:y:nil", "d 0-4 ok rp:x:nil r:y:1"),
    ),
    Anomaly(
        "G2",
        "phantom write skew: each changed what the other's predicate matched",
        ADYA,
        (_SER,),
        ("a 0-3 ok rp:x:[] append:y:1", "b 1-4 ok rp:y:[] append:x:1"),
        ("a 0-3 ok rp:x:nil w:y:1", "b 1-4 ok rp:y:nil w:x:1"),
    ),
    Anomaly(
        "incompatible-order",
        "two reads can't both come from one order of appends",
        ELLE,
        (_RC,),
        ("a 0-1 ok append:x:1", "b 0-1 ok append:x:2", "c 2-3 ok r:x:[1,2]", "d 2-3 ok r:x:[2,1]"),
    ),
    Anomaly(
        "duplicate-elements",
        "a list holds an element more often than it was appended",
        ELLE,
        (_RU,),
        ("a 0-1 ok append:x:1", "b 2-3 ok r:x:[1,1]"),
    ),
    Anomaly(
        "garbage-read",
        "a value was read that nobody ever wrote",
        ELLE,
        (_RU,),
        ("a 0-1 ok append:x:1", "b 2-3 ok r:x:[1,7]"),
        ("a 0-1 ok w:x:1", "b 2-3 ok r:x:7"),
    ),
    Anomaly(
        "cyclic-versions",
        "the versions of one register follow each other in a circle",
        ELLE,
        (_RU,),
        (),
        ("a 0-3 ok r:x:2 w:x:1", "b 1-4 ok r:x:1 w:x:2"),
    ),
    Anomaly(
        "MYR",
        "missing your writes: a session did not see what it had itself written",
        TERRY,
        (_RYW,),
        ("a 0-1 ok append:x:1", "a 2-3 ok r:x:[]"),
        ("a 0-1 ok w:x:1", "a 2-3 ok r:x:nil"),
    ),
    Anomaly(
        "N-MR",
        "non-monotonic reads: a session no longer saw what it had seen",
        TERRY,
        (_MR,),
        ("a 0-1 ok append:x:1", "b 2-3 ok r:x:[1]", "b 4-5 ok r:x:[]"),
        ("a 0-1 ok w:x:1", "b 2-3 ok r:x:1", "b 4-5 ok r:x:nil"),
    ),
    Anomaly(
        "N-MW",
        "non-monotonic writes: a session's later write took effect without its earlier one",
        TERRY,
        (_MW,),
        ("a 0-1 ok append:x:1", "a 2-3 ok append:y:2", "b 4-5 ok r:y:[2] r:x:[]"),
        ("a 0-1 ok w:x:1", "a 2-3 ok w:y:2", "b 4-5 ok r:y:2 r:x:nil"),
    ),
    Anomaly(
        "MRWD",
        "missing read-write dependency: a write took effect without what its session had read",
        TERRY,
        (_WFR,),
        (
            "a 0-1 ok append:x:1",
            "b 2-3 ok r:x:[1]",
            "b 4-5 ok append:y:2",
            "c 6-7 ok r:y:[2] r:x:[]",
        ),
        ("a 0-1 ok w:x:1", "b 2-3 ok r:x:1", "b 4-5 ok w:y:2", "c 6-7 ok r:y:2 r:x:nil"),
    ),
    Anomaly(
        "G0-process",
        "a session's later write was put before its earlier one",
        DAUDJEE,
        (_SESSION_SI,),
        ("a 0-1 ok append:x:1", "a 2-3 ok append:x:2", "b 4-5 ok r:x:[2,1]"),
    ),
    Anomaly(
        "G1c-process",
        "a session saw something and then wrote what came before it",
        DAUDJEE,
        (_SESSION_SI,),
        ("a 0-1 ok r:x:[1]", "a 2-3 ok append:x:1"),
        ("a 0-1 ok r:x:1", "a 2-3 ok w:x:1"),
    ),
    Anomaly(
        "G-single-process",
        "a session did not see its own earlier write",
        DAUDJEE,
        (_SESSION_SI,),
        ("a 0-1 ok append:x:1", "a 2-3 ok r:x:[]"),
        ("a 0-1 ok w:x:1", "a 2-3 ok r:x:nil"),
    ),
    Anomaly(
        "G-nonadjacent-process",
        "long fork between two sessions, by their own order",
        DAUDJEE,
        (_SESSION_SI,),
        ("a 0-1 ok append:x:1", "a 2-3 ok r:y:[]", "b 0-1 ok append:y:1", "b 2-3 ok r:x:[]"),
        ("a 0-1 ok w:x:1", "a 2-3 ok r:y:nil", "b 0-1 ok w:y:1", "b 2-3 ok r:x:nil"),
    ),
    Anomaly(
        "G2-item-process",
        "write skew that only the order within a session closes",
        DAUDJEE,
        (_SESSION_SER,),
        (
            "a 0-1 ok append:x:1",
            "a 2-6 ok r:y:[]",
            "b 3-5 ok r:z:[] append:y:1",
            "c 0-7 ok r:x:[] append:z:1",
        ),
        ("a 0-1 ok w:x:1", "a 2-6 ok r:y:nil", "b 3-5 ok r:z:nil w:y:1", "c 0-7 ok r:x:nil w:z:1"),
    ),
    Anomaly(
        "G2-process",
        "phantom write skew that only the order within a session closes",
        DAUDJEE,
        (_SESSION_SER,),
        (
            "a 0-1 ok append:x:1",
            "a 2-6 ok r:y:[]",
            "b 3-5 ok rp:z:[] append:y:1",
            "c 0-7 ok r:x:[] append:z:1",
        ),
        ("a 0-1 ok w:x:1", "a 2-6 ok r:y:nil", "b 3-5 ok rp:z:nil w:y:1", "c 0-7 ok r:x:nil w:z:1"),
    ),
    Anomaly(
        "G0-realtime",
        "a write was put before one that had ended when it began",
        HERLIHY,
        (_STRONG_SI,),
        ("a 0-1 ok append:x:1", "b 2-3 ok append:x:2", "c 4-5 ok r:x:[2,1]"),
    ),
    Anomaly(
        "G1c-realtime",
        "something was read before its writer began",
        HERLIHY,
        (_STRONG_SI,),
        ("a 0-1 ok r:x:[1]", "b 2-3 ok append:x:1"),
        ("a 0-1 ok r:x:1", "b 2-3 ok w:x:1"),
    ),
    Anomaly(
        "G-single-realtime",
        "stale read: a write that had ended was not seen",
        HERLIHY,
        (_STRONG_SI,),
        ("a 0-1 ok append:x:1", "b 2-3 ok r:x:[]"),
        ("a 0-1 ok w:x:1", "b 2-3 ok r:x:nil"),
    ),
    Anomaly(
        "G-nonadjacent-realtime",
        "long fork, by real time",
        HERLIHY,
        (_STRONG_SI,),
        (
            "a 0-9 ok append:x:1",
            "b 1-9 ok r:x:[1] r:y:[]",
            "c 2-3 ok append:y:1",
            "d 5-6 ok r:x:[]",
        ),
        ("a 0-9 ok w:x:1", "b 1-9 ok r:x:1 r:y:nil", "c 2-3 ok w:y:1", "d 5-6 ok r:x:nil"),
    ),
    Anomaly(
        "G2-item-realtime",
        "write skew that only real time closes",
        HERLIHY,
        (_STRICT,),
        (
            "a 0-1 ok append:x:1",
            "d 2-6 ok r:y:[]",
            "b 3-5 ok r:z:[] append:y:1",
            "c 0-7 ok r:x:[] append:z:1",
        ),
        ("a 0-1 ok w:x:1", "d 2-6 ok r:y:nil", "b 3-5 ok r:z:nil w:y:1", "c 0-7 ok r:x:nil w:z:1"),
    ),
    Anomaly(
        "G2-realtime",
        "phantom write skew that only real time closes",
        HERLIHY,
        (_STRICT,),
        (
            "a 0-1 ok append:x:1",
            "d 2-6 ok r:y:[]",
            "b 3-5 ok rp:z:[] append:y:1",
            "c 0-7 ok r:x:[] append:z:1",
        ),
        ("a 0-1 ok w:x:1", "d 2-6 ok r:y:nil", "b 3-5 ok rp:z:nil w:y:1", "c 0-7 ok r:x:nil w:z:1"),
    ),
]
CATALOGUE: dict[str, Anomaly] = {anomaly.name: anomaly for anomaly in _ITEMS}


def weaker_or_equal(level: str) -> set[str]:
    """The level and every level that it implies."""
    found, todo = set(), [level]
    while todo:
        at = todo.pop()
        if at not in found:
            found.add(at)
            todo.extend(LEVELS[at])
    return found


def ruled_out_by(anomaly: str) -> set[str]:
    """Every level that an anomaly of this name rules out."""
    weakest = set(CATALOGUE[anomaly].rules_out)
    return {level for level in LEVELS if weakest & weaker_or_equal(level)}


# The contract of each level: the anomalies that it forbids.
FORBIDS: dict[str, frozenset[str]] = {
    level: frozenset(name for name in CATALOGUE if level in ruled_out_by(name)) for level in LEVELS
}
