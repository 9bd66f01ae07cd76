"""Trial `connecting`: opening a connection, the first query, closing it, each timed on its own.

Each by the driver as an application uses it, with none of the kit's settings. Beside PostgreSQL
stands a connection that is kept: what a pool gives out once it is full, a pool of one. A file is
opened where nobody has it open, so that the first query makes the write-ahead log, and where
another connection has. PostgreSQL answers over loopback without TLS, whose handshake would add its
round trips.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from workloads.engines import Engine, find_engine, serving
from workloads.errors import EngineMissing
from workloads.trials.items import ROWS, libraries, made_file
from workloads.trials.trial import Check, Row

QUERY = "SELECT v FROM item WHERE id = 1"

FILES, SERVERS = ("libsql", "sqlite"), ("libsql-remote", "postgres")
REPETITIONS = {"libsql": 40, "sqlite": 40, "libsql-remote": 12, "postgres": 8}
PARTS = 3
"""Opening, the first query, closing; ns."""

SOCKET, TCP, POOL = "postgres/socket", "postgres/tcp", "postgres/pool"


class Connecting:
    """The trial."""

    story = "How long do opening a connection, its first query and closing it take?"
    blocks = (10, 7)
    enough_s = 8.0
    timed = True
    limit_s = 60.0

    def begin(self, home: Path, stack: ExitStack, *, quick: bool) -> Client:
        return Client(home, stack)


class Client:
    """The databases and the servers that are there."""

    def __init__(self, home: Path, stack: ExitStack) -> None:
        engines = {name: find_engine(name) for name in (*FILES, *SERVERS)}
        missing = {name: why for name, engine in engines.items() if (why := engine.missing())}
        engines = {name: engine for name, engine in engines.items() if name not in missing}
        if not any(name in engines for name in FILES):
            raise EngineMissing(next(iter(missing.values())))
        self.arms: dict[str, tuple[int, int]] = {}
        self.pids: list[int] = []
        self._works: dict[str, Callable[[np.ndarray], None]] = {}
        for name, engine in engines.items():
            path = home / f"{name}.db"
            server = stack.enter_context(serving(engine, path))
            made_file(engine, path).close()
            if server is not None:
                self.pids += server.pids()
            if name in FILES:
                self._beside(name, engine, home / f"{name}-beside.db", stack)
            if name != "postgres":
                self._add(name, name, _opened_anew(engine, path))
                continue
            assert server is not None
            near = home / "socket.db"
            shutil.copy(path, near)
            server.redirect(server.endpoint[1])  # whoever reads the path now goes over TCP
            self._add(SOCKET, name, _opened_anew(engine, near))
            self._add(TCP, name, _opened_anew(engine, path))
            kept = engine.bare(str(path))  # type: ignore[attr-defined]
            stack.callback(kept.close)
            self._add(POOL, name, _of_a_pool([kept]))
        self.facts = {
            "settings": {
                "rows": ROWS,
                "network": "loopback without TLS, a password by SCRAM",
                "pool": "one connection that is kept, over TCP; psycopg_pool is not used",
            },
            "versions": libraries(engines),
            "missing": missing,
        }

    def _beside(self, name: str, engine: Engine, path: Path, stack: ExitStack) -> None:
        """The same while another connection has the file open: who comes first makes the log."""
        made_file(engine, path).close()
        other = engine.bare(str(path))  # type: ignore[attr-defined]
        stack.callback(other.close)
        other.execute(QUERY).fetchall()
        self._add(f"{name}/beside", name, _opened_anew(engine, path))

    def _add(self, arm: str, engine: str, work: Callable[[np.ndarray], None]) -> None:
        self.arms[arm], self._works[arm] = (REPETITIONS[engine], PARTS), work

    def block(self, ns: Mapping[str, np.ndarray], rng: np.random.Generator) -> Sequence[Row]:
        arms = list(self._works)
        for at in rng.permutation(len(arms)):
            self._works[arms[at]](ns[arms[at]])
        return ()

    def checks(self) -> Sequence[Check]:
        return ()


def _opened_anew(engine: Engine, path: Path) -> Callable[[np.ndarray], None]:
    opened: Callable[[str], Any] = engine.bare  # type: ignore[attr-defined]
    place = str(path)
    return lambda out: _timed(lambda: opened(place), lambda one: one.close(), out)


def _of_a_pool(kept: list[Any]) -> Callable[[np.ndarray], None]:
    """Taken and given back: opened long ago and not closed."""
    return lambda out: _timed(kept.pop, kept.append, out)


def _timed(open_: Callable[[], Any], close: Callable[[Any], Any], out: np.ndarray) -> None:
    clock = time.perf_counter_ns
    for n in range(-1, len(out)):  # the first one finds caches cold, and is not counted
        begun = clock()
        one = open_()
        opened = clock()
        rows = one.execute(QUERY).fetchall()
        answered = clock()
        close(one)
        closed = clock()
        if [tuple(row) for row in rows] != [(0,)]:
            raise ValueError(f"the first query answered {rows!r}")
        if n >= 0:
            out[n] = np.maximum((opened - begun, answered - opened, closed - answered), 1)
