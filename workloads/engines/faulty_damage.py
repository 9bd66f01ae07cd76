"""Engines broken on purpose: what a bit that flipped, or a second process, shows of them."""

from __future__ import annotations

import os
import sqlite3
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

from workloads.engines.engine import Settings
from workloads.engines.faulty import Faulty, FaultySession, PassingSession

WORD = (1 << 32) - 1
LOG_HEAD, FRAME_HEAD = 32, 24
PAGES_AT, PAGES_MOST = 136, 4062
"""Of the shared memory: where it lists the page of each frame of the log, and the first of many."""


class DiesOfDamageSession(PassingSession):
    def run(self, sql: str, params: tuple[Any, ...] = ()) -> Any:
        return _or_die(self.real.run, sql, params)

    def rows(self, sql: str, params: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        rows: list[tuple[Any, ...]] = _or_die(self.real.rows, sql, params)
        if sql == "PRAGMA integrity_check" and rows != [("ok",)]:
            os.abort()
        return rows


class DiesOfDamage(Faulty):
    """Takes its process down where the real one says that the file is damaged."""

    name = "faulty-dies-of-damage"
    Session = DiesOfDamageSession

    def connect(
        self, path: str, *, begin: str = "deferred", settings: Settings | None = None
    ) -> FaultySession:
        made: FaultySession = _or_die(super().connect, path, begin=begin, settings=settings)
        return made


def _or_die(call: Callable[..., Any], *args: Any, **given: Any) -> Any:
    try:
        return call(*args, **given)
    except sqlite3.DatabaseError as error:
        if getattr(error, "sqlite_errorcode", 0) & 0xFF in (
            sqlite3.SQLITE_CORRUPT,
            sqlite3.SQLITE_NOTADB,
        ):
            os.abort()
        raise


class TrustsItsLog(Faulty):
    """Makes the log's checksums anew when it opens it: whatever is in it is taken for content."""

    name = "faulty-trusts-its-log"
    Session = PassingSession

    def connect(
        self, path: str, *, begin: str = "deferred", settings: Settings | None = None
    ) -> FaultySession:
        log = Path(f"{path}-wal")
        if log.exists() and log.stat().st_size > LOG_HEAD:
            before = log.read_bytes()
            if (now := with_checksums(before)) != before:
                log.write_bytes(now)
        return super().connect(path, begin=begin, settings=settings)


def with_checksums(log: bytes) -> bytes:
    """A write-ahead log of SQLite's with the checksums that its frames should have.

    Only frames of the log's present salts are looked at: older ones lie behind them.
    """
    made = bytearray(log)
    order = ">" if log[3] & 1 else "<"
    (size,) = struct.unpack_from(">I", log, 8)
    if size < 512 or size & (size - 1):
        return log
    sums = _sum(order, (0, 0), log[:24])
    struct.pack_into(">II", made, 24, *sums)
    for at in range(LOG_HEAD, len(log) - FRAME_HEAD - size + 1, FRAME_HEAD + size):
        if log[at + 8 : at + 16] != log[16:24]:
            break
        sums = _sum(order, sums, log[at : at + 8])
        sums = _sum(order, sums, log[at + FRAME_HEAD : at + FRAME_HEAD + size])
        struct.pack_into(">II", made, at + 16, *sums)
    return bytes(made)


def _sum(order: str, start: tuple[int, int], data: bytes) -> tuple[int, int]:
    first, second = start
    for one, other in struct.iter_unpack(f"{order}II", data):
        first = (first + one + second) & WORD
        second = (second + other + first) & WORD
    return first, second


class ThrowsItsLogAway(Faulty):
    """Removes the log where the shared memory that dead processes left is not as it likes."""

    name = "faulty-throws-its-log-away"
    Session = PassingSession

    def connect(
        self, path: str, *, begin: str = "deferred", settings: Settings | None = None
    ) -> FaultySession:
        shared, log = Path(f"{path}-shm"), Path(f"{path}-wal")
        if shared.exists() and log.exists() and not _likes(shared.read_bytes()):
            shared.unlink()
            log.unlink()
        return super().connect(path, begin=begin, settings=settings)


def _likes(shared: bytes) -> bool:
    """Whether both headers are the same, and no page is listed behind the last frame."""
    if len(shared) < PAGES_AT + 4 * PAGES_MOST:
        return True
    (frames,) = struct.unpack_from("=I", shared, 16)
    behind = shared[PAGES_AT + 4 * min(frames, PAGES_MOST) : PAGES_AT + 4 * PAGES_MOST]
    return shared[:48] == shared[48:96] and not any(behind)


class NeverLocksSession(PassingSession):
    """Each statement is a transaction of its own, whatever was begun."""

    def prepare(self) -> None:
        self._begun = False

    def begin(self) -> None:
        self._begun = True

    def commit(self) -> None:
        self._begun = False

    def rollback(self) -> None:
        self._begun = False

    def in_transaction(self) -> bool:
        return self._begun


class NeverLocks(Faulty):
    """Holds no lock between the statements of a transaction, so that another process writes."""

    name = "faulty-never-locks"
    Session = NeverLocksSession
