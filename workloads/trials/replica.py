"""Trial `replica`: libSQL beside its server. The cost of a read, a write and a transaction in a
plain local file, in an embedded replica and over loopback, and the age of a replica's rows.

One client does one thing at a time.
"""

from __future__ import annotations

import shutil
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from workloads.engines import find_engine, serving
from workloads.errors import EngineMissing
from workloads.trials.items import READ, RECORD_BYTES, ROWS, SCHEMA, WRITE, fill
from workloads.trials.older import ARMS
from workloads.trials.peer import HOP_BYTES, Peer, round_trip
from workloads.trials.trial import Check, Row

LOCAL, PRIMARY, REPLICA = "libsql", "libsql-remote", "libsql-replica"

BUSY_ROW = ROWS - 1  # for the other process: its commits touch no row of ours

WARM = 2
"""Untimed calls at the start of an arm, because the arm before it left its pages in caches."""

SYNC_INTERVAL_S = 0.01
WAIT_UNASKED_S = 0.02
LAG_LIMIT_S = 1.0
"""After this time a commit counts as not shown; the time waited is recorded."""

IDLE_S = 0.1
PAUSE_S = 0.0002
"""The pause between reads beside the other process, which spreads them over its commits."""

POLL_S = 0.0005
ANSWER_LIMIT_S = 30.0
TRIALS = 3
"""Trials of a replica's age in a block."""


class Replica:
    """The trial."""

    story = "What do a read, a write and a transaction cost in a file, a replica and at the server?"
    blocks = (10, 7)
    enough_s = 12.0
    timed = True
    limit_s = 90.0

    def begin(self, home: Path, stack: ExitStack, *, quick: bool) -> Client:
        return Client(home, stack)


class Client:
    """Everything that the client holds open, and the arms. A local of the measuring process."""

    arms = ARMS

    def __init__(self, home: Path, stack: ExitStack) -> None:
        engines: dict[str, Any] = {name: find_engine(name) for name in (LOCAL, PRIMARY, REPLICA)}
        for engine in engines.values():
            if why := engine.missing():
                raise EngineMissing(why)
        self.home, self._engines, path = home, engines, home / "server.db"
        server = stack.enter_context(serving(engines[PRIMARY], path))
        assert server is not None
        self.acknowledged = {"local": 0, "server": 0}
        # The drivers themselves: what an adapter does differs, and would be timed.
        self.remote = engines[PRIMARY].bare(str(path))
        self.local = engines[LOCAL].bare(str(home / "local.db"))
        self.local.execute("PRAGMA journal_mode = WAL").fetchall()
        # The server's setting: different durability is never compared.
        durable = self.remote.execute("PRAGMA synchronous").fetchall()[0][0]
        self.local.execute(f"PRAGMA synchronous = {int(durable)}").fetchall()
        for connection in (self.remote, self.local):
            connection.execute(SCHEMA).fetchall()
            connection.execute(fill()).fetchall()
        for name in ("replica", "background"):  # each has its own file beside its address
            shutil.copy(path, home / name)
        start = time.monotonic_ns()
        self.replica = engines[REPLICA].bare(str(home / "replica"))
        self.replica.sync()
        self.first_copy_ns = time.monotonic_ns() - start
        self.replica_bytes = sum(p.stat().st_size for p in home.glob("replica-bare*"))
        first = engines[REPLICA].bare(str(home / "background"))
        first.sync()
        first.close()
        self.busy = Peer("commit", PRIMARY, str(path), WRITE, str(BUSY_ROW))
        stack.callback(self.busy.close)
        self.busy.next_number()
        echo = Peer("echo")
        stack.callback(echo.close)
        self.wire = socket.create_connection(("127.0.0.1", echo.next_number()), ANSWER_LIMIT_S)
        stack.callback(self.wire.close)
        self.wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.pids = [*server.pids(), self.busy.process.pid, echo.process.pid]
        self.facts = {
            "settings": _settings(),
            "versions": _versions(self),
            "pragmas": _pragmas(self),
            "first_copy_ns": self.first_copy_ns,
            "replica_bytes": self.replica_bytes,
            "database_bytes": _database_bytes(self.local),
        }

    def _background(self) -> Any:
        """A replica of its own file that fetches by itself."""
        return self._engines[REPLICA].bare(str(self.home / "background"), SYNC_INTERVAL_S)

    def block(self, ns: Mapping[str, np.ndarray], rng: np.random.Generator) -> Sequence[Row]:
        keys = rng.integers(0, BUSY_ROW, 1000).tolist()
        work, rows = self._works(), list[Row]()
        order = rng.permutation(len(work))
        names = list(work)
        for name in (names[i] for i in order):
            work[name](ns, rows, keys)
        return rows

    def _works(self) -> dict[str, Callable[..., None]]:
        """The parts of a block, by name; lag and syncing-cpu belong to read-replica-syncing."""
        connections = {"local": self.local, "replica": self.replica, "remote": self.remote}
        works: dict[str, Callable[..., None]] = {"age": self._ages, "hop": self._hops}
        for place, connection in connections.items():
            works[f"read-{place}"] = self._timed(f"read-{place}", _reader(connection))
            write = self._timed(f"write-{place}", _writer(connection), writes=place)
            works[f"write-{place}"] = write
            works[f"transaction-{place}"] = self._transactions(place, connection)
        again = self._timed("read-local-again", _reader(self.local))
        works["read-local-again"] = again
        works["sync-idle"] = self._timed("sync-idle", lambda key: self.replica.sync())
        works["sync-one"] = self._syncs_of_one
        works["read-local-written"] = self._beside("read-local-written", self.local)
        works["read-replica-written"] = self._beside("read-replica-written", self.replica)
        works["read-replica-syncing"] = self._syncing
        return works

    def _timed(self, arm: str, call: Callable[[int], Any], writes: str = "") -> Callable[..., None]:
        def work(ns: Mapping[str, np.ndarray], rows: list[Row], keys: list[int]) -> None:
            out = ns[arm]
            for key in keys[:WARM]:
                call(key)
            _time(call, keys, out)
            if writes:
                side = "local" if writes == "local" else "server"
                self.acknowledged[side] += len(out) + WARM

        return work

    def _hops(self, ns: Mapping[str, np.ndarray], rows: list[Row], keys: list[int]) -> None:
        message = bytes(HOP_BYTES)
        round_trip(self.wire, message)
        _time(lambda key: round_trip(self.wire, message), keys, ns["hop"])

    def _transactions(self, place: str, connection: Any) -> Callable[..., None]:
        execute, clock = connection.execute, time.monotonic_ns

        def work(ns: Mapping[str, np.ndarray], rows: list[Row], keys: list[int]) -> None:
            out = ns[f"transaction-{place}"]
            for n, key in enumerate(keys[: WARM + len(out)]):
                at = [clock()]
                for statement, params in (
                    ("BEGIN IMMEDIATE", ()), (READ, (key,)), (WRITE, (key,)), ("COMMIT", ()),
                ):  # fmt: skip
                    execute(statement, params).fetchall()
                    at.append(clock())
                if n >= WARM:
                    out[n - WARM] = np.maximum(np.diff(at), 1)
            self.acknowledged["local" if place == "local" else "server"] += len(out) + WARM

        return work

    def _syncs_of_one(self, ns: Mapping[str, np.ndarray], rows: list[Row], keys: list[int]) -> None:
        out, write = ns["sync-one"], _writer(self.remote)
        self.replica.sync()
        for n in range(len(out)):
            write(keys[n])
            _time(lambda key: self.replica.sync(), [0], out[n : n + 1])
        self.acknowledged["server"] += len(out)

    def _beside(self, arm: str, connection: Any) -> Callable[..., None]:
        def work(ns: Mapping[str, np.ndarray], rows: list[Row], keys: list[int]) -> None:
            call, out = _reader(connection), ns[arm]
            self.busy.signal()
            self.busy.next_number()
            for n in range(len(out)):
                _time(call, keys[n : n + 1], out[n : n + 1])
                time.sleep(PAUSE_S)
            self.busy.signal()
            self.acknowledged["server"] += self.busy.next_number()

        return work

    def _syncing(self, ns: Mapping[str, np.ndarray], rows: list[Row], keys: list[int]) -> None:
        replica = self._background()
        try:
            replica.sync()  # what was committed since the block before is no part of idling
            idle, begun = time.process_time_ns(), time.monotonic_ns()
            time.sleep(IDLE_S)
            took = time.process_time_ns() - idle
            ns["syncing-cpu"][0] = max(took, 1), time.monotonic_ns() - begun
            read, write, seen = _reader(replica), _writer(self.remote), _reader(self.remote)
            for n in range(len(ns["lag"])):
                write(keys[n])
                begun = time.monotonic_ns()
                self.acknowledged["server"] += 1
                want = seen(keys[n])
                while read(keys[n]) != want and time.monotonic_ns() - begun < LAG_LIMIT_S * 1e9:
                    time.sleep(POLL_S)
                ns["lag"][n] = time.monotonic_ns() - begun
            self._beside("read-replica-syncing", replica)(ns, rows, keys)
        finally:
            replica.close()

    def _ages(self, ns: Mapping[str, np.ndarray], rows: list[Row], keys: list[int]) -> None:
        at_server, here = _reader(self.remote), _reader(self.replica)
        for key in keys[:TRIALS]:
            self.replica.sync()
            _writer(self.remote)(key)
            want, begun = at_server(key), time.monotonic_ns()
            limit = begun + int(WAIT_UNASKED_S * 1e9)
            while not (unasked := here(key) == want) and time.monotonic_ns() < limit:
                pass
            waited_ns = time.monotonic_ns() - begun
            self.replica.sync()
            after = here(key) == want
            _writer(self.replica)(key)
            rows.append(
                {
                    "waited_ns": waited_ns,
                    "seen_unasked": unasked,
                    "seen_after_sync": after,
                    "own_seen": here(key) == want + 1,
                }
            )
            self.acknowledged["server"] += 2

    def checks(self) -> Sequence[Check]:
        """Compare the rows with the acknowledged writes. Closes the replica."""
        self.replica.sync()
        sums = {
            name: connection.execute("SELECT sum(v), count(*) FROM item").fetchall()[0]
            for name, connection in (
                ("local", self.local), ("server", self.remote), ("replica", self.replica),
            )
        }  # fmt: skip
        self.replica.close()
        plain = self._engines[LOCAL].bare(str(self.home / "replica-bare"))
        whole = plain.execute("PRAGMA integrity_check").fetchall()[0][0]
        plain.close()
        return judged(sums, self.acknowledged, whole)


def judged(
    sums: dict[str, tuple[int, int]], acknowledged: dict[str, int], whole: str
) -> list[Check]:
    """The checks at the end: no acknowledged write is lost, and the replica equals the server.

    sums : (sum of v, rows) of "local", "server", "replica". acknowledged : writes, each adding 1.
    whole : integrity_check of the replica's file.
    """
    checks = []
    for side in ("local", "server"):
        found, rows = sums[side]
        counts = f"{found:,} writes are in {rows:,} rows; {acknowledged[side]:,} were acknowledged"
        ok = (found, rows) == (acknowledged[side], ROWS)
        checks.append((f"acknowledged writes, {side}", ok, f"{counts} in {ROWS:,}."))
    counts = (
        f"after sync() it holds {sums['replica'][0]:,} writes, the server {sums['server'][0]:,}"
    )
    ok = sums["replica"] == sums["server"] and whole == "ok"
    checks.append(("replica", ok, f"{counts}; integrity_check: {whole}."))
    return [{"check": check, "ok": bool(ok), "said": sentence} for check, ok, sentence in checks]


def _reader(connection: Any) -> Callable[[int], int]:
    execute = connection.execute
    return lambda key: execute(READ, (key,)).fetchall()[0][0]


def _writer(connection: Any) -> Callable[[int], Any]:
    execute = connection.execute
    return lambda key: execute(WRITE, (key,)).fetchall()


def _time(call: Callable[[int], Any], keys: Sequence[int], out: np.ndarray) -> None:
    """Time one call for each row of `out`, shape (repetitions, 1), ns; 0 means not measured."""
    clock = time.monotonic_ns
    for n in range(len(out)):
        key = keys[n]
        start = clock()
        call(key)
        out[n, 0] = max(clock() - start, 1)


def _settings() -> dict[str, Any]:
    return {
        "rows": ROWS,
        "record_bytes": RECORD_BYTES,
        "keys": "uniform",
        "clients": 1,
        "network": "loopback, HTTP without TLS",
        "hop_bytes": HOP_BYTES,
        "warm_up_calls": WARM,
        "sync_interval_s": SYNC_INTERVAL_S,
        "wait_unasked_s": WAIT_UNASKED_S,
        "lag_limit_s": LAG_LIMIT_S,
        "pause_beside_s": PAUSE_S,
        "repetitions": {arm: shape[0] for arm, shape in ARMS.items()},
    }


def _versions(client: Client) -> dict[str, str]:
    ask = "SELECT sqlite_version() || ' ' || sqlite_source_id()"
    local, primary = (client._engines[name].identity() for name in (LOCAL, PRIMARY))
    return {
        "sqld": primary.version,
        "binding": local.binding,
        "local": client.local.execute(ask).fetchall()[0][0],
        "server": client.remote.execute(ask).fetchall()[0][0],
    }


def _pragmas(client: Client) -> dict[str, dict[str, Any]]:
    connections = {"local": client.local, "replica": client.replica, "server": client.remote}
    return {
        place: {
            name: connection.execute(f"PRAGMA {name}").fetchall()[0][0]
            for name in ("journal_mode", "synchronous", "page_size")
        }
        for place, connection in connections.items()
    }


def _database_bytes(connection: Any) -> int:
    pages, size = (
        connection.execute(f"PRAGMA {name}").fetchall()[0][0]
        for name in ("page_count", "page_size")
    )
    return int(pages * size)
