"""libSQL's server of our own, sqld, for as long as somebody uses it, and never left behind.

It is fetched by `make setup` into .build. Its data lie beside the database's path; at the path
itself lies its address. It listens on 127.0.0.1 alone. sqld starts on a folder that another sqld
uses without a word, so the folder is locked, for as long as that one lives.
"""

from __future__ import annotations

import contextlib
import functools
import http.client
import json
import os
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from workloads.engines.engine import Settings
from workloads.errors import EngineMissing, RunFailed
from workloads.files import ROOT, Held, locked, made, write_json
from workloads.processes import (
    ChildProcess,
    describe_end,
    end,
    gist,
    read_last_words,
    start,
    wait,
)

# From this file, not from the current directory, as for the begin-concurrent build.
BUILD = ROOT / ".build" / "sqld"
WHY_MISSING = "why-missing.txt"

START_LIMIT_S, ANSWER_LIMIT_S, PROGRAM_LIMIT_S, AWAITED_S = 10.0, 1.0, 10.0, 10.0
ATTEMPTS = 3
"""Attempts to start: another program may take the free port before sqld does."""


@dataclass(frozen=True)
class Address:
    """Where a server answers. data : its folder. pid : its process."""

    port: int
    data: str
    pid: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


def read_address(path: Path) -> Address:
    """The address at a database's path. Raises OSError, and ValueError for another file."""
    try:
        return Address(**json.loads(Path(path).read_text(encoding="utf-8")))
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}: is no address of libSQL's server.") from error


def program() -> Path:
    """Where sqld lies, or would lie."""
    return BUILD / "sqld"


def why_missing() -> str | None:
    """Why no server can be had here, in a sentence with the way out; None where one can."""
    if program().is_file():
        return None
    why = "it was never fetched"
    with contextlib.suppress(OSError):
        why = (BUILD / WHY_MISSING).read_text(encoding="utf-8").strip().rstrip(".")
    return f"libSQL's server, sqld, is missing: {why}. Get it with: make setup"


@functools.cache
def version() -> str:
    """The server's version, as it says itself: "sqld 0.24.32"."""
    with made("server") as place:
        words = place / "words"
        child = start("sqld", [str(program()), "--version"], last_words=words, foreign=True)
        wait(child, PROGRAM_LIMIT_S)
        said = read_last_words(words)
    found = re.search(r"\d+\.\d+\.\d+", said)
    return f"sqld {found.group()}" if found else said.strip()


def data_of(path: Path) -> Path:
    """Where the data of the server at this path lie."""
    return path.with_name(f"{path.name}-data")


class Server:
    """A server that was started, as workloads.engines.engine.Server has it."""

    remembers = True  # its log is in the system's hands before it answers, as SQLite's is

    def __init__(self, path: Path, settings: Settings, inherit: Sequence[int] = ()) -> None:
        """Start it. Raises EngineMissing where there is none, RunFailed where it does not start.

        settings : nothing of them is the server's: each connection asks for its own.
        """
        if why := why_missing():
            raise EngineMissing(why)
        self.path, self.data = Path(path), data_of(Path(path))
        self._inherit, self._redirected = tuple(inherit), 0
        self._child: ChildProcess | None = None
        if self.path.exists() and not self.data.is_dir():
            # A new database would seem to have lost everything.
            raise RunFailed(f"{self.path}: the data of its server, sqld, are gone.")
        self.data.mkdir(exist_ok=True)
        self._held = contextlib.ExitStack()
        try:
            self._lock = self._held.enter_context(locked(self.data, wait_s=AWAITED_S))
            self._start()
        except Held:
            raise RunFailed(f"{self.data}: another sqld is using it.") from None
        except BaseException:
            self.close()
            raise

    def _start(self, same_port: int = 0) -> None:
        self.log = self.path.with_name(f"{self.path.name}-server.log")
        for _ in range(ATTEMPTS):
            port = same_port or _free_port()
            where = ["--db-path", str(self.data / "db"), "--http-listen-addr", f"127.0.0.1:{port}"]
            self._child = start(
                "sqld",
                [str(program()), *where, "--no-welcome"],
                last_words=self.log,
                environment={"NO_COLOR": "1"},
                # The caller's settings would make it a replica, or open other ports.
                without="SQLD_",
                foreign=True,
                # It holds the folder's lock for as long as it lives, whatever becomes of us.
                inherit=[*self._inherit, self._lock],
            )
            self.address = Address(port, str(self.data), self._child.process.pid)
            if self._answers():
                self._tell()
                return
        raise RunFailed(
            f"sqld did not start: {gist(read_last_words(self.log)) or 'it said nothing'}",
            read_last_words(self.log),
        )

    def _answers(self) -> bool:
        """Wait until it answers; False where it has ended, or does not answer in time."""
        assert self._child is not None
        process = self._child.process
        until = time.monotonic() + START_LIMIT_S
        while time.monotonic() < until:
            if process.poll() is not None:
                return False
            # A stranger that took the port answers too; then ours has ended, for want of the port.
            if _is_well(self.address.port) and process.poll() is None:
                return True
            time.sleep(0.01)
        end(process)
        return False

    def _tell(self) -> None:
        """Write the address for whoever connects to the path."""
        address = self.address
        if self._redirected:
            address = replace(address, port=self._redirected)
        write_json(self.path, asdict(address))

    @property
    def endpoint(self) -> tuple[str, int]:
        """Host and port of its TCP side, whatever `redirect` says."""
        return "127.0.0.1", self.address.port

    def pids(self) -> list[int]:
        """Its processes now, [] where it is gone."""
        there = self._child is not None and self._child.process.poll() is None
        return [self.address.pid] if there else []

    def ended(self) -> str:
        """How it ended, with its last words; "" while it runs."""
        gone = self._child is not None and self._child.process.poll() is not None
        return describe_end(self._child) if gone and self._child is not None else ""

    def redirect(self, port: int) -> None:
        """Have later connections to this path go to a port of loopback."""
        self._redirected = port
        self._tell()

    def kill(self) -> None:
        """End it as a crash would, and return when it is gone."""
        if self._child is not None:
            self._child.process.kill()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._child.process.wait(ANSWER_LIMIT_S * 10)

    def start_again(self) -> None:
        """After `kill`: the same data at the same port. Raises RunFailed."""
        self.kill()
        self._start(same_port=self.address.port)

    def close(self, *, keep: bool = True) -> None:
        """End the server. keep : its data."""
        if self._child is not None:
            end(self._child.process)
        self._held.close()
        if not keep:
            shutil.rmtree(self.data, ignore_errors=True)
            with contextlib.suppress(OSError):
                os.unlink(self.path)


def _is_well(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=ANSWER_LIMIT_S)
    try:
        connection.request("GET", "/health")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])
