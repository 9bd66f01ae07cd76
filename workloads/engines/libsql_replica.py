"""An embedded replica of libSQL's server: reads are local, writes go through the server.

A replica's file lies beside the database's path, one for each connection, and goes with it. Its
modes: a plain BEGIN, IMMEDIATE and EXCLUSIVE make even their reads at the server; READONLY stays
local and keeps the snapshot of its first read. Traps beyond the local binding's: settings are the
server's and cannot be made; the binding logs to standard output; a transaction whose server went
away and came back is forgotten without a word, and its next statement commits by itself.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from workloads.engines import pragmas, sqld_server
from workloads.engines.engine import Identity, Refusal, Settings, sync_interval_s
from workloads.engines.libsql import _panicked
from workloads.engines.libsql_remote import TIMED_OUT, LibsqlRemote, ServedSession, Told
from workloads.records import BUSY, CONFLICT, FAILED, NO_CONFLICT, UNKNOWN

READONLY = "readonly"
_number = itertools.count(1)

AT_THE_SERVER = re.compile(r"Remote SQlite failure: `(?P<kind>\d+):(?P<code>\d+):(?P<message>.*)`")
"""The server's own words, with SQLite's extended result code."""

DENIED = re.compile(r'status: (PermissionDenied|InvalidArgument), message: "(?P<message>.*?)", det')
"""The same for a text that the server did not take."""

BY_CODE = {5: "SQLITE_BUSY", 13: "SQLITE_FULL", 19: "SQLITE_CONSTRAINT"}
ELSEWHERE = ("Write delegation", "replication error", "sync error", "connection has reached an inv")
"""Beginnings of errors that came about between the replica and its server."""


class Forgotten(ValueError):
    """A statement of a transaction that the server had forgotten: it was made outside of it."""


class LibsqlReplica(LibsqlRemote):
    name = "libsql-replica"
    takes_pragmas = False
    modes = ("deferred", "immediate", "exclusive", READONLY)
    usual: Mapping[str, str] = {"writer": "immediate", "reader": READONLY}
    offers = ("sync",)
    most_durable = "normal"  # its writes are the server's, whose settings nobody can make

    def identity(self) -> Identity:
        found = super().identity()
        return found._replace(binding=f"{self._package()}, embedded replica")

    def connect(
        self, path: str, *, begin: str = "deferred", settings: Settings | None = None
    ) -> ReplicaSession:
        if begin not in self.modes:
            raise ValueError(f"{begin!r} is no mode of a replica. Modes: {', '.join(self.modes)}.")
        return ReplicaSession(self._driver(), Path(path), begin, settings or Settings())

    def bare(self, path: str, every_s: float | None = None) -> Any:
        """The driver's own connection, as an application opens it; its file is PATH-bare.

        every_s : it fetches by itself so often; None: when it is asked to.
        """
        url = sqld_server.read_address(Path(path)).url
        more = {} if every_s is None else {"sync_interval": every_s}
        return self._driver().connect(f"{path}-bare", sync_url=url, isolation_level=None, **more)


class ReplicaSession(ServedSession):
    """One connection with a replica of its own.

    sync() : fetch what the server has committed; fails after 3 s where there is none, and nothing
        else runs in this process meanwhile.
    """

    takes_nul: ClassVar[bool] = False
    file: Path | None = None
    _only_reads = False  # of the statement under way, outside of a transaction

    def __init__(self, driver: Any, path: Path, begin: str, settings: Settings) -> None:
        self._local = begin == READONLY
        self._syncs = self._local and settings.sync == "begin"
        super().__init__(driver, path, begin, settings)

    def _connected(self) -> Any:
        url = sqld_server.read_address(self._path).url
        # A file of its own for each connection: none is ever open twice.
        file = self._path.with_name(f"{self._path.name}-replica-{os.getpid()}-{next(_number)}")
        every_s = sync_interval_s(self._settings.sync)
        more = {} if every_s is None else {"sync_interval": every_s}
        try:
            made = self._driver.connect(str(file), sync_url=url, isolation_level=None, **more)
            made.sync()  # without it there is nothing in it
        except BaseException:
            _removed(file)
            raise
        before, self.file = self.file, file
        if before is not None:
            with contextlib.suppress(BaseException):  # a panic of the binding's is no Exception
                self._connection.close()
            _removed(before)
        return made

    def _settle(self) -> Mapping[str, Any]:
        return pragmas.read_all(lambda sql: self._execute(sql).fetchall() or [])

    def _is_stale(self) -> bool:
        return False  # the server keeps no stream for it

    def sync(self) -> None:
        self._connection.sync()

    def _ready(self) -> None:
        # A new connection cannot be made without the server, and what was fetched is there.
        if self._lost and self._only_reads and self._reads_here():
            self._wrote = False
            return
        super()._ready()

    def _reads_here(self) -> bool:
        """Whether the connection reads its own file: not while it takes itself to be in a
        transaction at the server, which it does for good where that went away before a COMMIT.
        """
        try:
            return self._connection is not None and not self._connection.in_transaction
        except BaseException as error:
            if _panicked(error):
                return False
            raise

    def _begin(self) -> None:
        if self._syncs:
            self.sync()
        super()._begin()

    def _rows(self, sql: str, params: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        if not self._inside:
            if self._syncs:
                self.sync()
            self._only_reads = sql.lstrip()[:6].upper() == "SELECT"
            try:
                return super()._rows(sql, params)
            finally:
                self._only_reads = False
        found = super()._rows(sql, params)
        if not self._connection.in_transaction:
            raise Forgotten(
                "the server had forgotten this transaction, and made its statement without it"
            )
        return found

    # -- errors -------------------------------------------------------------------------------

    def _told(self, text: str) -> Told | None:
        if found := AT_THE_SERVER.search(text):
            code, message = int(found["code"]), found["message"].strip("`")
            if "timed-out" in message:
                return Told(TIMED_OUT, message)
            return Told(
                BY_CODE.get(code & 0xFF, "ARGS_INVALID" if not code else str(code)), message
            )
        if found := DENIED.search(text):
            return Told("SQL_INPUT_ERROR", found["message"])
        return None

    def refusal(self, error: BaseException, phase: int, within_ns: int | None = None) -> Refusal:
        text = str(error)
        if isinstance(error, Forgotten):
            self._lost = True
            self._inside = False
            return Refusal(UNKNOWN, NO_CONFLICT, text, True)
        if text == "database is locked":  # of the replica's own file
            return Refusal(CONFLICT, BUSY, text, not self.in_transaction())
        if self._local and text.startswith(ELSEWHERE):
            # Its transactions are its own: they go on without a server.
            still_open = self.in_transaction()
            return Refusal(FAILED, NO_CONFLICT, text, not still_open)
        return super().refusal(error, phase, within_ns)

    def _is_ours(self, error: BaseException, text: str) -> bool:
        return not text.startswith(ELSEWHERE) and super()._is_ours(error, text)

    def close(self) -> None:
        super().close()
        file, self.file = self.file, None
        if file is not None:
            _removed(file)


def _removed(file: Path) -> None:
    """Remove a replica's files."""
    for one in file.parent.glob(f"{file.name}*"):
        with contextlib.suppress(OSError):
            one.unlink()
