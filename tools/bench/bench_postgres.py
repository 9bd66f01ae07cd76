"""Our client of PostgreSQL against pgbench: the rate of the same script, about a minute.

pgbench is the reference for what a client can do (`-M prepared`, one client, the Unix socket). Both
run in turn against one server, which a fourth of the machine is enough for: select-only, and the
tpcb-like transaction of seven statements at scale 1. psycopg's own ways of calling are beside ours,
since what is compared matters more than the driver's name.

Where no PostgreSQL is to be had, it says so and is no miss.
"""

from __future__ import annotations

import random
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from workloads.engines import Settings, find_engine, serving
from workloads.engines.postgres_server import DATABASE, USER, Address, programs, read_address
from workloads.files import made

BLOCKS, SECONDS = 5, 1.0
TARGET = 0.85
ACCOUNTS, TELLERS = 100_000, 10

SELECT = "SELECT abalance FROM pgbench_accounts WHERE aid = ?"
TPCB = (
    "UPDATE pgbench_accounts SET abalance = abalance + ? WHERE aid = ?",
    SELECT,
    "UPDATE pgbench_tellers SET tbalance = tbalance + ? WHERE tid = ?",
    "UPDATE pgbench_branches SET bbalance = bbalance + ? WHERE bid = ?",
    (
        "INSERT INTO pgbench_history (tid, bid, aid, delta, mtime) "
        "VALUES (?, ?, ?, ?, CURRENT_TIMESTAMP)"
    ),
)

Transaction = Callable[[], object]


def ours(session: Any) -> dict[str, Transaction]:
    """The two scripts in a session of ours."""
    draw = random.Random(1)

    def tpcb() -> None:
        aid, tid, delta = draw.randint(1, ACCOUNTS), draw.randint(1, TELLERS), draw.randint(-99, 99)
        session.begin()
        session.run(TPCB[0], (delta, aid))
        session.rows(TPCB[1], (aid,))
        session.run(TPCB[2], (delta, tid))
        session.run(TPCB[3], (delta, 1))
        session.run(TPCB[4], (tid, 1, aid, delta))
        session.commit()

    return {
        "select-only": lambda: session.rows(SELECT, (draw.randint(1, ACCOUNTS),)),
        "tpcb-like": tpcb,
    }


def of_psycopg(address: Address, threshold: int | None) -> dict[str, Transaction]:
    """The same by psycopg's cursor. threshold : when it prepares; None: never."""
    import psycopg

    connection = psycopg.connect(address.conninfo(), autocommit=True)
    connection.prepare_threshold = threshold
    cursor = connection.cursor()
    execute: Any = cursor.execute
    draw = random.Random(1)
    told = [sql.replace("?", "%s") for sql in TPCB]

    def select() -> None:
        execute(told[1], (draw.randint(1, ACCOUNTS),)).fetchall()

    def tpcb() -> None:
        aid, tid, delta = draw.randint(1, ACCOUNTS), draw.randint(1, TELLERS), draw.randint(-99, 99)
        execute("BEGIN")
        execute(told[0], (delta, aid))
        execute(told[1], (aid,)).fetchall()
        execute(told[2], (delta, tid))
        execute(told[3], (delta, 1))
        execute(told[4], (tid, 1, aid, delta))
        execute("COMMIT")

    return {"select-only": select, "tpcb-like": tpcb}


def rate_of(transaction: Transaction) -> float:
    """How many a second, over about `SECONDS`."""
    done, begun = 0, time.perf_counter()
    until = begun + SECONDS
    while time.perf_counter() < until:
        for _ in range(20):
            transaction()
        done += 20
    return done / (time.perf_counter() - begun)


class Pgbench:
    """pgbench with a password in its environment and in no command line."""

    def __init__(self, place: Path, address: Address) -> None:
        self.program = place / "pgbench"
        self.where = ["-h", address.socket or "127.0.0.1", "-p", str(address.port), "-U", USER]
        self.environment = {"PGPASSWORD": address.password, "LC_ALL": "C"}

    def __call__(self, *argv: str) -> str:
        done = subprocess.run(
            [self.program, *self.where, *argv, DATABASE],
            env=self.environment, capture_output=True, text=True, timeout=120, check=True,
        )  # fmt: skip
        return done.stdout

    def rate(self, script: str, *, seconds: float = SECONDS, clients: int = 1) -> float:
        """Transactions a second, after its connections stand."""
        many = f"{clients}"
        said = self(
            "-n", "-M", "prepared", "-T", f"{seconds:g}", "-c", many, "-j", many, "-b", script
        )
        found = re.search(r"tps = ([0-9.]+) \(without initial", said)
        assert found, said
        return float(found.group(1))


def main() -> int:
    """Measure in turn, print ratios; 1 where ours is below the target."""
    engine = find_engine("postgres")
    place = programs()
    if (why := engine.missing()) is not None or place is None:
        print(f"not measured: {why}")
        return 0
    if not (place / "pgbench").is_file():
        print("not measured: this PostgreSQL has no pgbench (on Debian: postgresql-contrib)")
        return 0
    with made("bench") as folder:
        folder.chmod(0o711)
        path = folder / "database.db"
        with serving(engine, path, Settings(synchronous="normal")):
            address = read_address(path)
            session = engine.connect(str(path), begin="read-committed")
            return _measured(Pgbench(place, address), address, session)


def _measured(pgbench: Pgbench, address: Address, session: Any) -> int:
    pgbench("-i", "-s", "1", "-q")
    ways = {
        "cwkit (psycopg.pq, prepared)": ours(session),
        "psycopg execute": of_psycopg(address, 5),
        "psycopg execute, prepared at once": of_psycopg(address, 0),
        "psycopg execute, never prepared": of_psycopg(address, None),
    }
    print(f"{'script':<12} {'client':<36} {'tx/s':>8}  rate / pgbench's")
    missed = 0
    for script in ("select-only", "tpcb-like"):
        rates: dict[str, list[float]] = {name: [] for name in ("pgbench -M prepared", *ways)}
        for _ in range(BLOCKS):
            rates["pgbench -M prepared"].append(pgbench.rate(script))
            for name, way in ways.items():
                rates[name].append(rate_of(way[script]))
        base = np.array(rates["pgbench -M prepared"])
        for name, each in rates.items():
            ratio = np.array(each) / base
            span = f"{np.median(ratio):.2f} [{ratio.min():.2f}, {ratio.max():.2f}]"
            print(f"{script:<12} {name:<36} {np.median(each):8,.0f}  {span}")
            if name.startswith("cwkit") and np.median(ratio) < TARGET:
                print(f"{'':<12} below the target of {TARGET}")
                missed = 1
    return missed


if __name__ == "__main__":
    sys.exit(main())
