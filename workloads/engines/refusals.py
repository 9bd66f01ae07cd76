"""Refusals: the meaning of SQLite's error codes for an attempt. Only the error path comes here.

Codes: https://sqlite.org/rescode.html
"""

from __future__ import annotations

from workloads.engines.engine import Refusal
from workloads.records import (
    BUSY,
    COMMIT,
    CONFLICT,
    FAILED,
    FULL,
    IO,
    LIMIT,
    NO_CONFLICT,
    STALE,
    STATEMENT,
    UNCLASSIFIED,
    UNKNOWN,
    UPGRADE,
)

SQLITE_BUSY, SQLITE_LOCKED, SQLITE_FULL, SQLITE_CONSTRAINT = 5, 6, 13, 19
SQLITE_BUSY_SNAPSHOT = SQLITE_BUSY | 2 << 8  # 517
SQLITE_LOCKED_SHAREDCACHE = SQLITE_LOCKED | 1 << 8
SQLITE_NOMEM, SQLITE_IOERR, SQLITE_CANTOPEN, SQLITE_TOOBIG, SQLITE_NOLFS = 7, 10, 14, 18, 22
SQLITE_IOERR_NOMEM = SQLITE_IOERR | 12 << 8
NOT_APPLIED = (SQLITE_FULL, SQLITE_CONSTRAINT)
NO_CODE = -1

CAUSES = {
    SQLITE_FULL: FULL,
    SQLITE_IOERR: IO,
    SQLITE_CANTOPEN: IO,  # a folder that is gone, too many open files
    SQLITE_NOMEM: LIMIT,
    SQLITE_IOERR_NOMEM: LIMIT,
    SQLITE_TOOBIG: LIMIT,
    SQLITE_NOLFS: LIMIT,
}
"""By the extended result code where that is here, else by the primary one."""

IN_PROGRESS = "SQL statements in progress"


def code_of(error: BaseException, attribute: str) -> int:
    """The extended result code that a driver's error carries under this name."""
    if isinstance(error, MemoryError):  # what Python's sqlite3 makes of SQLITE_NOMEM
        return SQLITE_NOMEM
    return int(getattr(error, attribute, NO_CODE))


def by_code(code: int, message: str, phase: int, still_open: bool, lock: int = BUSY) -> Refusal:
    """Classify an error that carries SQLite's extended result code.

    code       : extended result code; NO_CODE where the error did not come from SQLite.
    still_open : whether the connection is inside a transaction after the error.
    lock       : the kind of a plain SQLITE_BUSY, as `which_lock` finds it.
    """
    over = not still_open
    primary = code & 0xFF if code >= 0 else NO_CODE
    if code == SQLITE_BUSY_SNAPSHOT:
        return Refusal(CONFLICT, STALE, message, over)
    # A cursor of the same connection, left open at COMMIT, is called BUSY too: no other
    # transaction had a part in that, so counting it as a conflict would blame the engine.
    if (primary == SQLITE_BUSY and IN_PROGRESS not in message) or code == SQLITE_LOCKED_SHAREDCACHE:
        return Refusal(CONFLICT, lock if primary == SQLITE_BUSY else BUSY, message, over)
    cause = CAUSES.get(code, CAUSES.get(primary, NO_CONFLICT))
    return not_conflict(message, phase, still_open, certain=primary in NOT_APPLIED, cause=cause)


def which_lock(
    phase: int, *, held: bool, certain: bool = False, within_ns: int | None, timeout_ms: object
) -> int:
    """Was a lock waited for (BUSY), or was a transaction refused at once because it had read?

    SQLite waits for the write lock as long as the busy timeout allows, except where the
    transaction holds a snapshot (in a rollback journal: a SHARED lock). There the two could wait
    for each other, so it refuses at once, by the same code and text (UPGRADE). Source:
    https://sqlite.org/c3ref/busy_handler.html

    held       : the transaction may hold a snapshot. certain : it does, the engine says so.
    within_ns  : the statement took at most so long. timeout_ms : PRAGMA busy_timeout, read back.
    UNCLASSIFIED where neither the engine nor the clock can tell: with a timeout of 0 every refusal
    comes at once, and a "read" such as SELECT 1 takes no snapshot.
    """
    if phase != STATEMENT or not held:
        return BUSY
    if certain:
        return UPGRADE
    if within_ns is None or not isinstance(timeout_ms, int):
        return UNCLASSIFIED
    # A lock that was waited for is refused after the whole timeout, never before.
    return UPGRADE if within_ns < timeout_ms * 1_000_000 else UNCLASSIFIED


def not_conflict(
    message: str, phase: int, still_open: bool, *, certain: bool, cause: int = NO_CONFLICT
) -> Refusal:
    """An error that has nothing to do with another transaction.

    certain : the error itself says that nothing was applied, even at COMMIT.
    cause   : FULL, IO or LIMIT where the engine says that it is one.
    """
    over = not still_open
    # An fsync that fails after the commit record was written ends the transaction with an error,
    # and after a restart the record may be found and replayed: nobody can know. A COMMIT that
    # leaves the transaction open (a deferred foreign key) has certainly not happened.
    if phase == COMMIT and over and not certain:
        return Refusal(UNKNOWN, cause, message, over)
    return Refusal(FAILED, cause, message, over)
