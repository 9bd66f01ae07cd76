"""The names and numbers in a row: how an attempt ended, which kind of conflict it met, and where.

They are on disk. An engine and a session's process need only these, and without numpy such a
process starts in a third of the time.
"""

from __future__ import annotations

from collections.abc import Mapping

OPEN, COMMITTED, CONFLICT, FAILED, UNKNOWN = range(5)
OUTCOMES = ("open", "committed", "conflict", "failed", "unknown")
"""`open` exists only while a run goes on: whoever reads a finished run reads it as `unknown`."""

NO_CONFLICT, BUSY, STALE, WRITE_WRITE, SERIALIZATION, UNCLASSIFIED, UPGRADE = range(7)
CONFLICTS = ("", "busy", "stale", "write_write", "serialization", "unclassified", "upgrade")
"""Kinds of conflict. The numbers are on disk: a new kind goes to the end."""

MEANINGS = {
    "busy": "another transaction held the lock, and it was waited for as long as the busy timeout "
    "allows.",
    "stale": "another transaction has committed since this one took its snapshot; waiting could "
    "not help, and the whole transaction has to run again. At a statement of a deferred "
    "transaction it is a refused upgrade as well, and BEGIN IMMEDIATE avoids it.",
    "write_write": "another transaction had written the same row first.",
    "serialization": "a transaction that this one had built upon did not commit, or the engine saw "
    "that what it did together with others may be what no serial order does.",
    "unclassified": "the engine gives one answer for several kinds, and the time that was waited "
    "does not tell which it was (after a busy timeout of 0 it never does). Where a deferred "
    "transaction had read before it wrote, BEGIN IMMEDIATE leaves only a lock to be waited for.",
    "upgrade": "a deferred transaction had read and then wanted to write, while another was "
    "writing (or had committed since, where the binding does not tell the two apart). The engine "
    "refuses that at once, and the busy timeout does not apply: once the other commits, what this "
    "one has read is out of date. BEGIN IMMEDIATE avoids it: it waits for the lock, then reads.",
}
"""Each kind as text, with the way out where there is one. Whatever shows a kind takes it here."""

FULL, IO, LIMIT = range(129, 132)
CAUSES: Mapping[int, str] = {FULL: "full", IO: "io", LIMIT: "limit"}
"""Causes of a failure in which no other transaction had a part, where the engine reports one: the
disk or the database is full; reading or writing failed; a limit was met (memory, the size of a file
or of a value). They share a field with the kinds of conflict, so their numbers differ from those. 0
is any other cause, and every cause in a run made before causes were kept."""


def reason(outcome: int, number: int) -> str:
    """Why an attempt did not commit, in a word or two. number : its field `conflict`.

    "" : it failed, and its engine gives no cause besides its message.

    >>> reason(CONFLICT, BUSY), reason(FAILED, FULL), reason(UNKNOWN, IO), reason(FAILED, 0)
    ('busy', 'failed: full', 'unknown: io', '')
    """
    if outcome == CONFLICT:
        return CONFLICTS[number] if number < len(CONFLICTS) else "unclassified"
    if cause := CAUSES.get(number, ""):
        return f"{OUTCOMES[outcome]}: {cause}"
    return "" if outcome == FAILED else OUTCOMES[outcome]


NO_PHASE, BEGIN, STATEMENT, COMMIT = range(4)
PHASES = ("", "begin", "statement", "commit")
"""Where an attempt that did not commit ended."""
