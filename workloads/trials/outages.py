"""Trial `outages`: what an application with an embedded replica can do while something is gone.

Each situation has a primary and a network of its own, and each action an application of its own
(outage_client.py), which got ready while all was well. All situations happen at once, so that the
longest wait is waited for once. An action that has not come back at the limit hangs.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from workloads.engines import Delay, Link, Server, find_engine, serving
from workloads.errors import EngineMissing, RunFailed
from workloads.processes import Process, describe_end, end, gist, python, read_last_words, start
from workloads.trials.items import SCHEMA, fill, libraries
from workloads.trials.outage_client import ACTIONS, COUNT, MARK
from workloads.trials.trial import Check, Row

PRIMARY = "libsql-remote"
ROWS, FIRST_KEY, NEW_ROWS = 10, 1000, 1
LIMIT_S, QUICK_LIMIT_S, READY_S = 15.0, 6.0, 40.0
SETTLE_S = 0.2

SITUATIONS = (
    "nothing", "network away", "black hole", "primary killed", "primary back", "data gone",
)  # fmt: skip
"""nothing : all is well, the control. network away : connections are reset and refused. black
hole : they are held, and nobody answers. primary killed : SIGKILL. primary back : killed and
started again with its data. data gone : killed, and started again empty, with one row of somebody
else's."""


class Outages:
    """The trial: one block."""

    story = "What can an application with a replica do while the network or the primary is gone?"
    blocks = (1, 1)
    enough_s = 0.0
    timed = False
    limit_s = 120.0

    def begin(self, home: Path, stack: ExitStack, *, quick: bool) -> Client:
        return Client(home, stack, QUICK_LIMIT_S if quick else LIMIT_S)


class Place(NamedTuple):
    """A primary, the network before it, and the path that leads there."""

    path: Path
    server: Server
    link: Link


class Application:
    """A process that got ready and waits for its cue."""

    def __init__(self, action: str, path: Path, key: int, stack: ExitStack) -> None:
        self.action, self.key = action, key
        self.words = path.with_name(f"{path.name}-{action.replace(' ', '-')}.err")
        self.child = start(
            "application",
            python("workloads.trials.outage_client", action, str(path), str(key)),
            last_words=self.words,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        stack.callback(_ended, self.child.process)
        self._read = b""

    def answer(self, until: float) -> dict[str, Any] | None:
        """Its next line, None where none comes by then. Raises RunFailed where it has ended."""
        out = self.child.process.stdout
        assert out is not None
        while True:
            line, found, rest = self._read.partition(b"\n")
            if found:
                self._read = rest
                if line.startswith(MARK.encode()):
                    answer: dict[str, Any] = json.loads(line[len(MARK) :])
                    return answer
                continue
            if not select.select([out], [], [], max(until - time.monotonic(), 0))[0]:
                return None
            text = os.read(out.fileno(), 1 << 16)
            if not text:
                raise RunFailed(f"{self.action}: {describe_end(self.child)}",
                                read_last_words(self.words))  # fmt: skip
            self._read += text

    def cue(self) -> None:
        assert self.child.process.stdin is not None
        self.child.process.stdin.write(b"\n")
        self.cued = time.monotonic()


def _ended(process: Process) -> None:
    with contextlib.suppress(OSError):
        process.kill()  # it may hang in a call that keeps the interpreter: asking is in vain
    end(process)
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            pipe.close()


class Client:
    """All situations, each with its applications, ready."""

    arms: Mapping[str, tuple[int, int]] = {}

    def __init__(self, home: Path, stack: ExitStack, limit_s: float) -> None:
        engines = {name: find_engine(name) for name in (PRIMARY, "libsql-replica", "libsql")}
        for engine in engines.values():
            if why := engine.missing():
                raise EngineMissing(why)
        self._primary, self._limit_s, self._stack = engines[PRIMARY], limit_s, stack
        self._places = {
            name: self._place(home / name.replace(" ", "-"), stack) for name in SITUATIONS
        }
        self.pids = [pid for place in self._places.values() for pid in place.server.pids()]
        self.pids += [place.link.pid for place in self._places.values()]
        self._checks: list[Check] = []
        self.facts = {
            "settings": {
                "rows": ROWS,
                "limit_s": limit_s,
                "network": "loopback, through a relay that delays nothing",
            },
            "versions": libraries(engines),
        }

    def _place(self, home: Path, stack: ExitStack) -> Place:
        home.mkdir()
        path = home / "db"
        server = stack.enter_context(serving(self._primary, path))
        assert server is not None
        self._fill(path, ROWS)
        link = Link(Delay(0.0), server.endpoint, home / "relay.err")
        stack.callback(link.close)
        server.redirect(link.port)
        return Place(path, server, link)

    def _fill(self, path: Path, rows: int) -> None:
        session = self._primary.connect(str(path))
        session.run(SCHEMA)
        session.run(fill(rows))
        session.close()

    def block(self, ns: Mapping[str, np.ndarray], rng: np.random.Generator) -> Sequence[Row]:
        applications = {
            (name, action): Application(action, place.path, FIRST_KEY + number, self._stack)
            for name, place in self._places.items()
            for number, action in enumerate(ACTIONS)
        }
        until = time.monotonic() + READY_S
        for (name, action), one in applications.items():
            if one.answer(until) is None:
                raise RunFailed(f"{name}, {action}: not ready after {READY_S:g} s")
        for name in SITUATIONS:
            self._bring_about(name)
        time.sleep(SETTLE_S)
        for one in applications.values():
            one.cue()
        rows = [self._row(name, one) for (name, _), one in applications.items()]
        for name in SITUATIONS:
            self._judge(name, rows)
        return rows

    def _row(self, situation: str, one: Application) -> dict[str, Any]:
        head = {"situation": situation, "action": one.action}
        try:
            answer = one.answer(one.cued + self._limit_s)
        except RunFailed as failed:
            return head | {"outcome": "dies", "ms": 0.0, "said": gist(str(failed))}
        if answer is None:
            waited = f"not back after {self._limit_s:g} s"
            return head | {"outcome": "hangs", "ms": self._limit_s * 1e3, "said": waited}
        return head | answer | {"said": " ".join(str(answer["said"]).split())[:300]}

    def _bring_about(self, situation: str) -> None:
        """Have it happen, once every application is ready."""
        path, server, link = self._places[situation]

        def gone() -> None:
            server.kill()
            # A server's data lie beside the path; what it locks is a file of its own.
            shutil.rmtree(path.with_name(f"{path.name}-data") / "db")
            server.start_again()
            server.redirect(server.endpoint[1])
            self._fill(path, NEW_ROWS)
            server.redirect(link.port)

        def back() -> None:
            server.kill()
            server.start_again()

        happen: dict[str, Callable[[], None]] = {
            "network away": link.cut,
            "black hole": link.hold,
            "primary killed": server.kill,
            "primary back": back,
            "data gone": gone,
        }
        happen.get(situation, lambda: None)()

    def _judge(self, situation: str, rows: Sequence[dict[str, Any]]) -> None:
        """With everything there again: which writes are there?"""
        if situation == "data gone":
            return
        path, server, _ = self._places[situation]
        if situation == "primary killed":
            server.start_again()
        server.redirect(server.endpoint[1])
        session = self._primary.connect(str(path))
        try:
            for row in rows:
                if row["situation"] != situation or row["action"] != "write":
                    continue
                key = FIRST_KEY + list(ACTIONS).index("write")
                there = session.rows(f"{COUNT} WHERE id = {key}")[0][0]
                row["there"] = there == 1
                ok = there == 1 or row["outcome"] != "works"
                place = "is there" if there else "is not there"
                said = f"{situation}: a write that {row['outcome']} {place}."
                self._checks.append({"check": "acknowledged writes", "ok": ok, "said": said})
        finally:
            session.close()

    def checks(self) -> Sequence[Check]:
        return self._checks
