"""libSQL's server, started on loopback for as long as somebody measures it, and never left behind.

It is fetched by `make setup` into .build. Everything that it holds lies in a folder of the
caller's; it listens on 127.0.0.1 alone.
"""

from __future__ import annotations

import contextlib
import http.client
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from workloads.errors import EngineMissing
from workloads.files import ROOT
from workloads.processes import Process, describe_status, end, gist, read_last_words, start

# From this file, not from the current directory, as for the begin-concurrent build.
BUILD = ROOT / ".build" / "sqld"
WHY_MISSING = BUILD / "why-missing.txt"

START_LIMIT_S = 10.0
ANSWER_LIMIT_S = 1.0
ATTEMPTS = 3
"""Attempts to start: another program may take the free port before sqld does."""


class SqldMissing(EngineMissing):
    """There is no sqld here, or it does not start; the text says why and how to get it."""


@dataclass(frozen=True)
class Server:
    """A running sqld. url : its HTTP address. version : its own text."""

    url: str
    version: str
    process: Process


@contextlib.contextmanager
def serving(folder: Path) -> Iterator[Server]:
    """Start sqld on a free port of loopback with its data in `folder`, and end it afterwards.

    It ends also where this process is killed; call it from the main thread, since the kernel takes
    the end of the thread that started it for the end of its parent.
    Raises SqldMissing where there is none, or it does not answer in time.
    """
    binary = path()
    if not binary.is_file():
        raise SqldMissing(_sentence())
    folder.mkdir(parents=True, exist_ok=True)
    for _ in range(ATTEMPTS):
        port = _free_port()
        process = _start(binary, folder, port)
        try:
            version = _answer(process, port, folder / "sqld.log")
            if version:
                yield Server(f"http://127.0.0.1:{port}", version, process)
                return
        finally:
            end(process)
    raise SqldMissing(
        f"sqld ended at each of {ATTEMPTS} starts ({describe_status(process.returncode or 0)}: "
        f"{_log_gist(folder / 'sqld.log')}). Run: make clean setup"
    )


def path() -> Path:
    """Return where sqld lies, or would lie."""
    return BUILD / "sqld"


def _start(binary: Path, folder: Path, port: int) -> Process:
    argv = ["--db-path", str(folder / "data"), "--http-listen-addr", f"127.0.0.1:{port}"]
    return start(
        "sqld",
        [str(binary), *argv, "--no-welcome"],
        last_words=folder / "sqld.log",
        environment={"NO_COLOR": "1"},
        without="SQLD_",  # the caller's settings would make it a replica, or open other ports
        foreign=True,
    ).process


def _answer(process: Process, port: int, log: Path) -> str:
    """Our sqld's version, once it answers; "" where it has ended.

    Raises SqldMissing where it does neither in time.
    """
    limit = time.monotonic() + START_LIMIT_S
    while time.monotonic() < limit:
        if process.poll() is not None:
            return ""
        answer = _ask(port, "/health") and _ask(port, "/version")
        # A stranger that took the port answers too; then ours has ended, for want of the port.
        if answer and answer.startswith("sqld") and process.poll() is None:
            return answer
        time.sleep(0.01)
    raise SqldMissing(f"sqld did not answer within {START_LIMIT_S:g} s: {_log_gist(log)}")


def _ask(port: int, what: str) -> str:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=ANSWER_LIMIT_S)
    try:
        connection.request("GET", what)
        answer = connection.getresponse()
        text = answer.read(1000).decode(errors="replace").strip()
        return (text or "yes") if answer.status == 200 else ""
    except (OSError, http.client.HTTPException):
        return ""
    finally:
        connection.close()


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def _log_gist(log: Path) -> str:
    return gist(read_last_words(log)) or "it said nothing"


def _sentence() -> str:
    why = "it was never fetched"
    if WHY_MISSING.is_file():
        why = WHY_MISSING.read_text(encoding="utf-8").strip().rstrip(".")
    return f"libSQL's server, sqld, is missing: {why}. Get it with: make setup"
