"""What SQLite's error codes mean for an attempt. Only the error path comes here.

Codes: https://sqlite.org/rescode.html
"""

from __future__ import annotations

from workloads.engines import Refusal
from workloads.recording import (
    BUSY,
    COMMIT,
    CONFLICT,
    FAILED,
    NO_CONFLICT,
    STALE,
    UNKNOWN,
)

SQLITE_BUSY, SQLITE_LOCKED, SQLITE_FULL, SQLITE_CONSTRAINT = 5, 6, 13, 19
SQLITE_BUSY_SNAPSHOT = SQLITE_BUSY | 2 << 8  # 517
SQLITE_LOCKED_SHAREDCACHE = SQLITE_LOCKED | 1 << 8
NOT_APPLIED = (SQLITE_FULL, SQLITE_CONSTRAINT)
NO_CODE = -1

IN_PROGRESS = "SQL statements in progress"


def by_code(code: int, words: str, phase: int, still_open: bool) -> Refusal:
    """Classify an error that carries SQLite's extended result code.

    code       : extended result code; NO_CODE where the error did not come from SQLite.
    still_open : whether the connection is inside a transaction after the error.
    """
    over = not still_open
    primary = code & 0xFF if code >= 0 else NO_CODE
    if code == SQLITE_BUSY_SNAPSHOT:
        return Refusal(CONFLICT, STALE, words, over)
    # A cursor of the same connection, left open at COMMIT, is called BUSY too: no other
    # transaction had a part in that, so counting it as a conflict would blame the engine.
    if (primary == SQLITE_BUSY and IN_PROGRESS not in words) or code == SQLITE_LOCKED_SHAREDCACHE:
        return Refusal(CONFLICT, BUSY, words, over)
    return not_conflict(words, phase, still_open, certain=primary in NOT_APPLIED)


def not_conflict(words: str, phase: int, still_open: bool, *, certain: bool) -> Refusal:
    """An error that has nothing to do with another transaction.

    certain : the error itself says that nothing was applied, even at COMMIT.
    """
    over = not still_open
    # An fsync that fails after the commit record was written ends the transaction with an error,
    # and after a restart the record may be found and replayed: nobody can know. A COMMIT that
    # leaves the transaction open (a deferred foreign key) has certainly not happened.
    if phase == COMMIT and over and not certain:
        return Refusal(UNKNOWN, NO_CONFLICT, words, over)
    return Refusal(FAILED, NO_CONFLICT, words, over)
