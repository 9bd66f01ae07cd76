"""A PostgreSQL server that somebody else runs, named by a URL (CWKIT_POSTGRES, or --postgres).

Whoever makes a database gets a schema of its own in the URL's database, and that schema alone is
dropped at its end. A database in which anything else lies is refused. The password is in the
address at the database's path, which is ours to read, and in our environment; it is nowhere else.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import re
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from workloads.engines.engine import Settings
from workloads.engines.postgres_server import Address, quoted, read_address, write_address
from workloads.errors import EngineMissing, RunFailed
from workloads.files import Owner, this_process

POSTGRES_URL = "CWKIT_POSTGRES"
OLDEST, NEWEST = 14, 18
"""Versions of the server that are supported; 15, 16 and 18 are those the kit was tried with."""

CONNECT_S = 10
SCHEMA = "cwkit_[0-9a-f]{16}"
"""Names of our schemas. One is ours to drop only where its comment says who made it, too."""

FORM = "Give postgresql://USER@HOST:PORT/DATABASE."
HAS_OURS_ALONE = f"""
SELECT format('%I.%I', n.nspname, c.relname) FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S') AND n.nspname !~ '^pg_'
AND n.nspname <> 'information_schema' AND n.nspname !~ '^{SCHEMA}$'
AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = c.oid AND d.deptype = 'e')
ORDER BY 1 LIMIT 3
"""
"""What is not ours in a database: no extension's, and no sequence of a table that is."""

LEFT = f"""
SELECT n.nspname, d.description FROM pg_namespace n
JOIN pg_description d ON d.objoid = n.oid AND d.classoid = 'pg_namespace'::regclass
WHERE n.nspname ~ '^{SCHEMA}$' ORDER BY 1
"""


def url() -> str:
    """The URL of the server that is to be used, "" for one of the kit's own."""
    return os.environ.get(POSTGRES_URL, "")


def without_password(text: str) -> str:
    """A URL as it may be shown.

    >>> without_password("postgresql://me:secret@db:5432/test?password=secret&sslmode=require")
    'postgresql://me@db:5432/test?sslmode=require'
    """
    found = re.fullmatch(r"(postgres(?:ql)?://)(?:([^:/?#]*)(?::.*)?@)?([^@?]*)(\?.*)?", text)
    if found is None:
        return "(no URL)"
    start, user, rest, options = found.groups()
    kept = [part for part in (options or "?")[1:].split("&") if not re.match("(?i)pass|ssl", part)]
    kept += re.findall(r"sslmode=[a-z-]+", options or "")
    shown = f"?{'&'.join(filter(None, kept))}" if any(kept) else ""
    return f"{start}{f'{user}@' if user else ''}{rest}{shown}"


def why_missing() -> str | None:
    """Why the server of the URL cannot be used, in a sentence; None where it can, or none is named.

    It is asked once in a process.
    """
    return _why(url()) if url() else None


@functools.cache
def _why(text: str) -> str | None:
    try:
        _looked_at(text)
    except EngineMissing as error:
        return str(error)
    return None


@functools.cache
def version() -> str:
    """The server's own version, "15.18 (Debian 15.18-0)". Raises EngineMissing."""
    return _looked_at(url())


@functools.cache
def _looked_at(text: str) -> str:
    """Look whether this server's database can be used: its version. Raises EngineMissing."""
    parameters = parsed(text)
    with _connected(parameters) as ask:
        _is_supported(int(ask("SHOW server_version_num")[0][0]))
        where = place(parameters)
        if others := [name for (name,) in ask(HAS_OURS_ALONE)]:
            raise EngineMissing(
                f"{where} is not empty, it has {', '.join(others)}: nothing was written there. "
                "Give a database of its own: CREATE DATABASE cwkit."
            )
        if ask("SELECT has_database_privilege(current_database(), 'CREATE')") != [("t",)]:
            raise EngineMissing(
                f"{where}: its user may not make a schema there. GRANT CREATE ON DATABASE to it."
            )
        return str(ask("SHOW server_version")[0][0])


def _is_supported(number: int) -> None:
    if not OLDEST <= number // 10_000 <= NEWEST:
        raise EngineMissing(
            f"The server is PostgreSQL {number // 10_000}. Supported are {OLDEST} to {NEWEST}."
        )


def parsed(text: str) -> dict[str, str]:
    """The parameters of a URL, by libpq's names. Raises EngineMissing; no part of it is shown."""
    from psycopg import Error, pq

    if not re.match("postgres(ql)?://", text):
        raise EngineMissing(f"--postgres is no URL of a PostgreSQL server. {FORM}")
    try:
        options = pq.Conninfo.parse(text.encode())
    except (Error, UnicodeEncodeError):
        raise EngineMissing(f"--postgres is a URL that libpq cannot read. {FORM}") from None
    found = {one.keyword.decode(): one.val.decode() for one in options if one.val is not None}
    if "dbname" not in found:
        raise EngineMissing(f"--postgres names no database. {FORM}")
    found = {"connect_timeout": str(CONNECT_S), "port": os.environ.get("PGPORT", "5432")} | found
    # libpq would quote what it takes for the port, which may be the half of a password.
    if not re.fullmatch("[0-9]{1,5}", found["port"]):
        raise EngineMissing(
            f"--postgres has a port that is no number: a password with one of /#?@ has to be "
            f"percent-encoded (@ is %40). {FORM}"
        )
    return found


def place(parameters: dict[str, str]) -> str:
    """Where a database is, for people."""
    host = parameters.get("host") or parameters.get("hostaddr") or "localhost"
    return f"Database {parameters['dbname']} at {host}:{parameters.get('port', '5432')}"


@contextlib.contextmanager
def _connected(parameters: dict[str, str]) -> Iterator[Any]:
    """A function that asks: the rows of a statement as texts. Raises EngineMissing."""
    from psycopg import pq

    connection = pq.PGconn.connect(quoted(parameters).encode())
    good = (pq.ExecStatus.COMMAND_OK, pq.ExecStatus.TUPLES_OK)

    def ask(sql: str) -> list[tuple[str, ...]]:
        result = connection.exec_(sql.encode())
        if result.status not in good:
            raise EngineMissing(f"{place(parameters)}: {_told(result.error_message)}.")
        return [
            tuple((result.get_value(row, n) or b"").decode() for n in range(result.nfields))
            for row in range(result.ntuples)
        ]

    try:
        if connection.status != pq.ConnStatus.OK:
            raise EngineMissing(
                f"{place(parameters)} cannot be used: {_told(connection.error_message)}. Give "
                "another URL with --postgres, or leave it out for a server of the run's own."
            )
        ask.password = (connection.password or b"").decode()  # type: ignore[attr-defined]
        yield ask
    finally:
        connection.finish()


def _told(message: bytes) -> str:
    """Libpq's or the server's words in one line, without where it was: that is said before."""
    text = " ".join(message.decode(errors="replace").split())
    said = re.sub(r"connection to server (?:at|on) .*? failed: ", "", text)
    said = re.sub(r" Is the server running .*?connections\?", "", said)
    return re.sub(r"^(FATAL|ERROR): +", "", said).strip().rstrip(".")[:300]


# --- a database there -------------------------------------------------------------------------


class Lent:
    """A schema at that server, in a database's stead. Its `close` drops it, unless it is kept.

    lent : True; nobody can keep what is here beside the path.
    """

    lent = True

    remembers = False  # nobody here can start it again

    def __init__(self, path: Path, settings: Settings, inherit: Sequence[int] = ()) -> None:
        """Make the schema, or find that of before. Raises EngineMissing and RunFailed."""
        self.path = Path(path)
        if self.path.exists():
            self.address = read_address(self.path)
            self._is_there()
        else:
            self.address = self._made()
            write_address(self.path, self.address)

    @property
    def _parameters(self) -> dict[str, str]:
        assert self.address.elsewhere is not None
        return self.address.elsewhere

    def _made(self) -> Address:
        if why := why_missing():
            raise EngineMissing(why)
        parameters = parsed(url())
        schema = f"cwkit_{secrets.token_hex(8)}"
        owner = this_process("run")
        about = {"pid": owner.pid, "start_ticks": owner.start_ticks, "boot_id": owner.boot_id}
        with _connected(parameters) as ask:
            if ask.password:  # which may be from PGPASSWORD or a file, and is needed elsewhere
                parameters["password"] = ask.password
            comment = json.dumps(about).replace("'", "''")
            ask(f"BEGIN; CREATE SCHEMA {schema}; COMMENT ON SCHEMA {schema} IS '{comment}'; COMMIT")
        port = int(parameters.get("port", "5432"))
        return Address(port, "", "", "", 0, elsewhere=parameters, schema=schema)

    def _is_there(self) -> None:
        schema = self.address.schema
        with _connected(self._parameters) as ask:
            if not ask(f"SELECT FROM pg_namespace WHERE nspname = '{schema}'"):
                raise RunFailed(f"{place(self._parameters)}: its schema {schema} is gone.")

    @property
    def endpoint(self) -> tuple[str, int]:
        """Host and port of its TCP side. A URL with a socket is taken for one of this machine."""
        host = self._parameters.get("hostaddr") or self._parameters.get("host") or "127.0.0.1"
        return "127.0.0.1" if host.startswith("/") else host, self.address.port

    def pids(self) -> list[int]:
        """None are ours: where it runs on this machine, its CPU time is foreign."""
        return []

    def ended(self) -> str:
        return ""

    def about(self) -> dict[str, str]:
        """What it has, as the result says it: nothing of it was asked for."""
        names = ("server_version", "fsync", "synchronous_commit", "full_page_writes")
        with _connected(self._parameters) as ask:
            has = {name: ask(f"SHOW {name}")[0][0] for name in names}
        return {"where": place(self._parameters), **has}

    def redirect(self, port: int) -> None:
        """Have later connections to this path go to a port of loopback, by TCP."""
        host = self._parameters.get("host", "/")
        direct = port == self.address.port and not host.startswith("/")
        through = 0 if direct else port
        write_address(self.path, replace(self.address, through=through))

    def kill(self) -> None:
        raise RunFailed("A server that somebody else runs is not the kit's to kill.")

    def start_again(self) -> None:
        raise RunFailed("A server that somebody else runs is not the kit's to start.")

    def close(self, *, keep: bool = False) -> None:
        """Drop the schema and remove the address. keep : leave both, for whoever goes on."""
        if not keep:
            drop(self.path)


def drop(path: Path) -> str:
    """Drop the schema whose address is at this path, and remove the address: what was dropped.

    "" where no such address is there. Raises EngineMissing where the server does not answer.
    """
    try:
        address = read_address(path)
    except (OSError, ValueError):
        return ""
    if address.elsewhere is None or not re.fullmatch(SCHEMA, address.schema):
        return ""
    parameters = address.elsewhere
    with _connected(parameters) as ask:
        ask(f"SET client_min_messages = warning; DROP SCHEMA IF EXISTS {address.schema} CASCADE")
    path.unlink(missing_ok=True)
    return f"schema {address.schema} of {place(parameters)}"


def clear_left() -> list[str]:
    """Drop the schemas that killed processes of this machine left at the URL's server.

    Returns a sentence for each, also for those that are another's or whose process lives.
    """
    if not url():
        return []
    done, here = [], this_process("run").boot_id
    parameters = parsed(url())
    with _connected(parameters) as ask:
        for schema, about in ask(LEFT):
            where = f"schema {schema} of {place(parameters)}"
            owner = _owner(about)
            if owner is None:
                done.append(f"{where}: left alone, for it does not say who made it.")
            elif owner.boot_id != here:
                done.append(
                    f"{where}: left alone, for another machine made it, or this one before it was "
                    f"started anew. If nobody needs it: DROP SCHEMA {schema} CASCADE."
                )
            elif not owner.alive:
                ask(f"DROP SCHEMA {schema} CASCADE")
                done.append(f"{where}: dropped, its process {owner.pid} was killed.")
    return done


def _owner(about: str) -> Owner | None:
    try:
        found = json.loads(about)
        return Owner("run", int(found["pid"]), int(found["start_ticks"]), str(found["boot_id"]))
    except (ValueError, TypeError, KeyError):
        return None
