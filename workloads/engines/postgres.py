"""PostgreSQL through psycopg's libpq wrapper: the server that the article compares libSQL with.

Its modes are its isolation levels. Statements are SQLite's, translated (dialect.py) and prepared
once a session. What is easy to get wrong, and is not here: COMMIT after an error answers ROLLBACK
without any error; lock waits have no limit unless one is set; an error ends what the transaction
can do, not the transaction.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from workloads.engines import postgres_elsewhere as elsewhere
from workloads.engines import postgres_server as server
from workloads.engines.dialect import CHANGES, to_postgres
from workloads.engines.engine import Identity, Promise, Refusal, Server, Settings
from workloads.errors import EngineMissing
from workloads.records import (
    BUSY,
    COMMIT,
    CONFLICT,
    FAILED,
    FULL,
    IO,
    LIMIT,
    NO_CONFLICT,
    SERIALIZATION,
    UNKNOWN,
    WRITE_WRITE,
)

DOCS = "https://www.postgresql.org/docs/current/transaction-iso.html"

LEVELS = {
    "read-committed": "READ COMMITTED",
    "repeatable-read": "REPEATABLE READ",
    "serializable": "SERIALIZABLE",
}
"""Mode -> the level as SQL says it."""

CONFLICTS = {
    "40001": SERIALIZATION,
    "40P01": BUSY,  # each waited for the other: one of them is ended
    "55P03": BUSY,  # lock_timeout
}
"""SQLSTATE -> kind of conflict: https://www.postgresql.org/docs/current/errcodes-appendix.html"""

CAUSES = {"53100": FULL, "53200": LIMIT, "53300": LIMIT, "54": LIMIT, "58": IO, "XX001": IO}
"""SQLSTATE, or the beginning of one -> cause of a failure in which nobody else had a part."""

PAUSE_S = 0.05
"""After an attempt to connect anew that failed. A worker gives up after 1,000 of them."""

LONG = 2_000
"""Letters of a text beyond which it is not prepared: it has its values in it, and comes once."""

GONE = ("08", "57P01", "57P02", "57P03")
"""Beginnings of SQLSTATEs by which a connection is over; "" where the server said nothing more."""

INTEGERS, FLOATS = (20, 21, 23, 26), (700, 701)
BYTES, BOOL, NUMERIC = 17, 16, 1700
"""The numbers of the types that are no text (pg_type.dat)."""

OIDS = {int: 20, bool: 20, float: 701, bytes: 17, str: 0, type(None): 0}
"""Type of a parameter -> the type it is sent as; 0: the server takes it from where it stands."""


class PostgresError(Exception):
    """The server's own error. sqlstate : "" where the connection is over without one."""

    def __init__(self, message: str, sqlstate: str) -> None:
        super().__init__(message)
        self.sqlstate = sqlstate


class Postgres:
    name = "postgres"
    takes_pragmas = False
    file_format = "postgres"
    hosting = "process"
    unit = "row"
    aborts = True
    modes = tuple(LEVELS)
    offers = ("pipeline",)
    usual: Mapping[str, str] = {"writer": "read-committed", "reader": "read-committed"}
    promises: Mapping[str, Promise] = {
        "read-committed": Promise("read-committed", f"{DOCS} (13.2.1)"),
        "repeatable-read": Promise("snapshot-isolation", f"{DOCS} (13.2.2)"),
        "serializable": Promise("serializable", f"{DOCS} (13.2.3)"),
    }

    def missing(self) -> str | None:
        if importlib.util.find_spec("psycopg") is None:
            return "psycopg is not installed. Get it with: make setup"
        return elsewhere.why_missing() if elsewhere.url() else server.why_missing()

    @property
    def anew(self) -> tuple[str, ...]:
        """Of a server of our own alone: on another's, a new schema is made."""
        return () if elsewhere.url() else ("DROP SCHEMA public CASCADE", "CREATE SCHEMA public")

    @property
    def copied(self) -> bool:
        return not elsewhere.url()

    def identity(self) -> Identity:
        if why := self.missing():
            raise EngineMissing(why)
        binding = f"psycopg {importlib.metadata.version('psycopg')} (pq)"
        version = elsewhere.version() if elsewhere.url() else server.version()
        return Identity(binding, version, "", ())

    def serve(self, path: Path, settings: Settings, inherit: Any = ()) -> Server:
        """Start the server whose data lie beside the path, and write its address there. Where a URL
        names somebody else's, make a schema there. What is at the path already is gone on with.
        """
        if path.exists():
            is_lent = server.read_address(path).elsewhere is not None
        else:
            is_lent = bool(elsewhere.url())
        return (elsewhere.Lent if is_lent else server.Server)(path, settings, inherit)

    def forsake(self, path: Path) -> str:
        """Remove what a database that nobody goes on with has elsewhere than beside its path."""
        return elsewhere.drop(path)

    def clear_left(self) -> list[str]:
        """Remove what killed processes left elsewhere than in temporary folders; what, in words."""
        return elsewhere.clear_left()

    def connect(
        self, path: str, *, begin: str = "read-committed", settings: Settings | None = None
    ) -> PostgresSession:
        if importlib.util.find_spec("psycopg") is None:
            raise EngineMissing(self.missing() or "")
        if begin not in LEVELS:
            raise ValueError(f"{begin!r} is no mode of PostgreSQL. Modes: {', '.join(LEVELS)}.")
        return PostgresSession(server.read_address(Path(path)), begin, settings or Settings())

    def bare(self, path: str) -> Any:
        """The driver's own connection, as an application opens it."""
        import psycopg

        if why := self.missing():
            raise EngineMissing(why)
        return psycopg.connect(server.read_address(Path(path)).conninfo(), autocommit=True)


class PostgresSession:
    """One connection. Each statement is prepared when it is first used, by its values' types.

    One that was lost is made anew before the next transaction, never in one, and no statement is
    repeated. anew : how often that was so.
    """

    def __init__(self, address: server.Address, begin: str, settings: Settings) -> None:
        from psycopg import Error, pq

        self.anew = 0
        self._lent = address.elsewhere is not None
        self._connection = connection = connected(address)
        well = pq.ConnStatus.OK
        good = (pq.ExecStatus.COMMAND_OK, pq.ExecStatus.TUPLES_OK)
        inside = pq.TransactionStatus
        self._open = (inside.ACTIVE, inside.INTRANS, inside.INERROR)
        prepared: dict[Any, tuple[bytes, list[Callable[[bytes], Any]] | None]] = {}
        last: Any = None  # the result of the last statement: who asks how many it changed is told

        lost = begun = False

        def failed(result: Any) -> PostgresError:
            nonlocal lost
            # None: libpq had nothing to send it by.
            gone = PostgresError(_said(connection), "")
            error = gone if result is None else _error(connection, result)
            # libpq takes a connection for sound until the call after the one that lost it.
            lost = (
                connection.status != well or not error.sqlstate or error.sqlstate.startswith(GONE)
            )
            return error

        def sent(sql: bytes) -> Any:
            try:
                result = connection.exec_(sql)
            except Error:
                raise failed(None) from None
            if result.status not in good:
                raise failed(result)
            return result

        def prepare(sql: str, types: tuple[type, ...]) -> bytes:
            told = to_postgres(sql)
            if told.parameters != len(types):
                raise ValueError(
                    f"{sql!r} takes {told.parameters} parameters and was given {len(types)}."
                )
            name = b"s%d" % len(prepared)
            oids = [_oid(one) for one in types]
            try:
                result = connection.prepare(name, told.sql.encode(), oids)
            except Error:
                raise failed(None) from None
            if result.status not in good:
                raise failed(result)
            return name

        def executed(sql: str, params: Any) -> tuple[Any, Any]:
            nonlocal last
            if lost:
                connect_anew()
            if params.__class__ is dict:  # its names would be bound, and not its values
                raise TypeError("parameters by name: a session takes a tuple of values.")
            types = tuple(map(type, params))
            known = prepared.get((sql, types))
            if known is None and len(sql) > LONG:
                known = b"", None
                told = to_postgres(sql)
                last = sent(told.sql.encode())
                return last, known
            if known is None:
                known = prepared[sql, types] = (prepare(sql, types), None)
            values = [_encoded(value) for value in params]
            try:
                result = connection.exec_prepared(known[0], values)
            except Error:
                raise failed(None) from None
            if result.status not in good:
                raise failed(result)
            last = result
            return result, known

        def run(sql: str, params: tuple[Any, ...] = ()) -> None:
            executed(sql, params)

        def rows(sql: str, params: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
            if CHANGES.fullmatch(sql):
                return [(int(last.command_tuples or 0) if last is not None else 0,)]
            result, known = executed(sql, params)
            return decoded(result, sql, params, known)

        def decoded(
            result: Any, sql: str, params: tuple[Any, ...], known: Any
        ) -> list[tuple[Any, ...]]:
            name, decoders = known
            if decoders is None:
                decoders = [_decoder(result.ftype(n), pq) for n in range(result.nfields)]
                if name:
                    prepared[sql, tuple(map(type, params))] = (name, decoders)
            value = result.get_value
            columns = list(enumerate(decoders))
            return [
                tuple(
                    None if (got := value(row, at)) is None else decode(got)
                    for at, decode in columns
                )
                for row in range(result.ntuples)
            ]

        def pipeline(queries: list[tuple[str, tuple[Any, ...]]]) -> list[list[tuple[Any, ...]]]:
            if lost:
                connect_anew()
            asked = []
            for sql, params in queries:
                key = sql, tuple(map(type, params))
                if key not in prepared:
                    prepared[key] = (prepare(*key), None)
                asked.append((prepared[key][0], [_encoded(value) for value in params]))
            try:
                results = _answers(connection, asked, pq)
            except Error:
                raise failed(None) from None
            if bad := [result for result in results if result.status not in good]:
                raise failed(bad[0])  # those behind it were not made, and say only so
            return [
                decoded(result, sql, params, prepared[sql, tuple(map(type, params))])
                for result, (sql, params) in zip(results, queries, strict=True)
            ]

        def commit() -> None:
            nonlocal begun
            result = sent(b"COMMIT")
            begun = False
            if result.command_status != b"COMMIT":
                raise PostgresError(
                    "COMMIT answered ROLLBACK: the transaction had failed before", "25P02"
                )

        def connect_anew() -> None:
            nonlocal connection, last, lost
            if begun:  # what was done in it is gone: it must not go on elsewhere
                raise PostgresError("the connection was lost in this transaction", "")
            connection.finish()
            try:
                connection = connected(address)
            except PostgresError:
                time.sleep(PAUSE_S)  # else it would be asked ten thousand times a second
                raise
            self._connection, last, lost = connection, None, False
            self.anew += 1
            prepared.clear()
            set_up()

        def set_up() -> None:
            wait_ms = max(settings.busy_timeout_ms, 1)  # 0 would be without a limit
            sent(f"SET lock_timeout = {wait_ms}".encode())
            # The server's own words are read, and in whatever language it was set up.
            sent(b"SET lc_messages = 'C'")

        words = f"BEGIN ISOLATION LEVEL {LEVELS[begin]}".encode()

        def begin_() -> None:
            nonlocal begun
            begun = False
            if lost:
                connect_anew()
            sent(words)
            begun = True

        def in_transaction() -> bool:
            return not lost and connection.transaction_status in self._open

        def rollback() -> None:
            nonlocal begun
            if in_transaction():
                try:
                    sent(b"ROLLBACK")
                except PostgresError:
                    if not lost:
                        raise  # that of a connection which is gone, the server has ended
            begun = False

        self.run, self.rows, self.pipeline = run, rows, pipeline
        self.begin, self.commit, self.rollback = begin_, commit, rollback
        self.in_transaction = in_transaction
        set_up()
        self.pragmas = self._settings()

    def _settings(self) -> dict[str, Any]:
        asked = ("lock_timeout", "synchronous_commit", "fsync", "full_page_writes",
                 "shared_buffers", "wal_level", "deadlock_timeout", "autovacuum")  # fmt: skip
        return {name: self.rows(f"SHOW {name}")[0][0] for name in asked}

    def refusal(self, error: BaseException, phase: int, within_ns: int | None = None) -> Refusal:
        message, over = str(error), not self.in_transaction()
        state = getattr(error, "sqlstate", None)
        if state is None:  # not from the server: the scenario's own
            return Refusal(FAILED, NO_CONFLICT, message, over)
        if state in CONFLICTS:
            kind = CONFLICTS[state]
            if state == "40001" and "concurrent" in message:
                kind = WRITE_WRITE  # "due to concurrent update": somebody wrote its row first
            return Refusal(CONFLICT, kind, message, over)
        if not state or state.startswith(GONE):
            # Whether a COMMIT under way was made, nobody here can know.
            return Refusal(UNKNOWN if phase == COMMIT else FAILED, NO_CONFLICT, message, True)
        cause = next((c for begins, c in CAUSES.items() if state.startswith(begins)), NO_CONFLICT)
        return Refusal(FAILED, cause, message, over)

    def integrity(self) -> tuple[bool, str] | None:
        """Whether every index of ours is sound and has every row; None where nothing can tell.

        By PostgreSQL's own amcheck: https://www.postgresql.org/docs/current/amcheck.html
        """
        if self._lent:
            return None  # it would be made in somebody else's database
        try:
            self.run("CREATE EXTENSION IF NOT EXISTS amcheck")
        except PostgresError:
            return None
        found = self.rows(
            "SELECT CAST(CAST(i.indexrelid AS regclass) AS text) FROM pg_index i "
            "JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_am a ON a.oid = c.relam "
            "JOIN pg_namespace n ON n.oid = c.relnamespace "
            "WHERE a.amname = 'btree' AND n.nspname = current_schema() ORDER BY 1"
        )
        wrong = []
        for (index,) in found:
            try:
                self.rows(f"SELECT bt_index_check(CAST('{index}' AS regclass), true)")
            except PostgresError as error:
                wrong.append(f"{index}: {error}")
        said = "; ".join(wrong[:5]) or f"{len(found)} sound, each with every row"
        return not wrong, f"indexes by amcheck: {said}"

    def loaded(self) -> None:
        """After rows were loaded with keys of their own: the next key to be given is a new one."""
        for table, column in self.rows(
            "SELECT table_name, column_name FROM information_schema.columns "
            "WHERE is_identity = 'YES' AND table_schema = current_schema()"
        ):
            self.rows(
                f"SELECT setval(pg_get_serial_sequence('{table}', '{column}'), "
                f"(SELECT coalesce(max({column}), 0) + 1 FROM {table}), false)"
            )
        self.run("ANALYZE")

    def close(self) -> None:
        """Close; an open transaction is rolled back. The session's calls then raise."""
        self._connection.finish()
        # Otherwise it would be taken for a connection that was lost, and made anew.
        for name in ("run", "rows", "pipeline", "begin", "commit"):
            setattr(self, name, _closed)


def _closed(*_: Any) -> Any:
    raise PostgresError("this session is closed. Open another with engine.connect().", "08003")


def _answers(connection: Any, asked: list[tuple[bytes, list[Any]]], pq: Any) -> list[Any]:
    """Prepared statements in libpq's pipeline: all are sent, then each one's result is read.

    Outside a transaction they are one. What is sent must fit into the system's buffers: a server
    that nobody reads from stops reading (https://www.postgresql.org/docs/current/libpq-pipeline-mode.html).
    Raises OperationalError where the connection is lost.
    """
    from psycopg import OperationalError

    connection.enter_pipeline_mode()
    try:
        for name, values in asked:
            connection.send_query_prepared(name, values)
        connection.pipeline_sync()
        results = []
        while (result := connection.get_result()) is None or (
            result.status != pq.ExecStatus.PIPELINE_SYNC
        ):
            if result is not None:
                results.append(result)
            elif connection.status != pq.ConnStatus.OK:
                raise OperationalError
    finally:
        if connection.status == pq.ConnStatus.OK:
            connection.exit_pipeline_mode()
    return results


def connected(address: server.Address) -> Any:
    """A connection of libpq's. Raises PostgresError with the server's own words, or libpq's."""
    from psycopg import pq

    connection = pq.PGconn.connect(address.conninfo().encode())
    if connection.status != pq.ConnStatus.OK:
        message = _said(connection)
        connection.finish()
        raise PostgresError(message, "08001")
    return connection


def _oid(kind: type) -> int:
    try:
        return OIDS[kind]
    except KeyError:
        raise TypeError(
            f"a parameter of type {kind.__name__}: only None, int, float, str and bytes are sent."
        ) from None


def _encoded(value: Any) -> Any:
    if value is None:
        return None
    kind = value.__class__
    if kind is int:
        return b"%d" % value
    if kind is str:
        if "\0" in value:
            raise ValueError("a text with a NUL character: PostgreSQL takes none. Use bytes.")
        return value.encode()
    if kind is bytes:
        return b"\\x" + value.hex().encode()
    return (b"1" if value else b"0") if kind is bool else repr(value).encode()


def _decoder(oid: int, pq: Any) -> Callable[[bytes], Any]:
    if oid in INTEGERS:
        return int
    if oid in FLOATS:
        return float
    if oid == BYTES:
        return lambda got: bytes.fromhex(got[2:].decode())
    if oid == BOOL:
        return lambda got: int(got == b"t")
    if oid == NUMERIC:  # the sum of integers of 64 bits
        return lambda got: float(got) if b"." in got or b"N" in got else int(got)
    return bytes.decode


def _error(connection: Any, result: Any) -> PostgresError:
    """The server's error, in one line."""
    from psycopg import pq

    state = result.error_field(pq.DiagnosticField.SQLSTATE)
    text = result.error_field(pq.DiagnosticField.MESSAGE_PRIMARY)
    message = text.decode(errors="replace") if text else _said(connection)
    return PostgresError(message, state.decode() if state else "")


def _said(connection: Any) -> str:
    text = connection.error_message.decode(errors="replace").strip()
    return " ".join(text.split()) or "the connection is over"
