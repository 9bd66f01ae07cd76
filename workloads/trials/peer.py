"""Peers: the other side while one client is measured, each in a process of its own.

`echo` sends back what it gets over loopback TCP: a hop with nothing behind it. `commit` commits
at the server without pause between a line on its input and the next, and prints the number.
"""

from __future__ import annotations

import select
import socket
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

from workloads.engines import find_engine
from workloads.processes import die_with_parent, end, python, start

HOP_BYTES = 64
LIMIT_S = 30.0
"""How long an answer of the other side is waited for, s."""


class Peer:
    """A process of this module. Raises RuntimeError where it does not answer in time."""

    def __init__(self, *argv: str) -> None:
        self.process = start(
            argv[0],
            python("workloads.trials.peer", *argv),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        ).process

    def signal(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(b"\n")

    def next_number(self) -> int:
        """The next number that it prints."""
        assert self.process.stdout is not None
        line = b""
        if select.select([self.process.stdout], [], [], LIMIT_S)[0]:
            line = self.process.stdout.readline()
        if not line.endswith(b"\n"):
            raise RuntimeError(f"the other side did not answer within {LIMIT_S:g} s, or has ended")
        return int(line)

    def close(self) -> None:
        end(self.process)
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()


def round_trip(connection: socket.socket, message: bytes) -> None:
    """Send a message and wait until all of it is back. Raises OSError where the other is gone."""
    connection.sendall(message)
    left = len(message)
    while left:
        got = len(connection.recv(left))
        if not got:
            raise ConnectionError("the other side has closed the connection")
        left -= got


def _echo() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        print(server.getsockname()[1], flush=True)
        connection, _ = server.accept()
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    with connection:
        while message := connection.recv(HOP_BYTES):
            connection.sendall(message)


def _commit(engine: str, path: str, statement: str, row: int) -> None:
    primary: Any = find_engine(engine)
    connection = primary.bare(path)
    print(0, flush=True)
    while sys.stdin.readline():
        committed = 0
        print(0, flush=True)  # it has begun
        while not select.select([sys.stdin], [], [], 0)[0]:
            connection.execute(statement, (row,)).fetchall()
            committed += 1
        sys.stdin.readline()
        print(committed, flush=True)


def main(argv: Sequence[str]) -> int:
    """Echo | commit ENGINE PATH STATEMENT ROW."""
    die_with_parent()
    if argv[0] == "echo":
        _echo()
    else:
        _commit(argv[1], argv[2], argv[3], int(argv[4]))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
