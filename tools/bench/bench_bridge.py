"""What a bridge costs: a round trip, and a transaction by a bridge beside the same in the process.

About 10 seconds. Printed: the median time of a request to a program in Python that does nothing
but answer; the median time of a transaction of five calls (BEGIN, a read, two writes, COMMIT) on
Python's sqlite3 in this process and through examples/bridges/sqlite3_bridge.py, in turn. The file
lies in a folder of its own, synchronous off, so that the disk has little part in it.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from workloads.engines import BridgeLimits, Settings, find_engine, trust  # noqa: E402
from workloads.engines.bridge_program import Program  # noqa: E402

BLOCKS, TRIPS, TRANSACTIONS = 7, 3000, 1000
CALLS = 5
BRIDGE = f"{ROOT / 'examples' / 'bridges' / 'engines.py'}:Python"
MOST_US = 250.0
"""Of a round trip on a machine that has a core to spare for the program."""

NOTHING = """
import sys
for number, line in enumerate(sys.stdin, 1):
    print('{"id":%d,"in_transaction":false}' % number, flush=True)
"""


def median_us(call: Callable[[], Any], times: int) -> float:
    now, taken = time.perf_counter_ns, []
    for _ in range(times):
        begun = now()
        call()
        taken.append(now() - begun)
    return statistics.median(taken) / 1000


def round_trip_us() -> list[float]:
    program = Program("nothing", [sys.executable, "-S", "-c", NOTHING], ROOT, BridgeLimits())
    try:
        ask = lambda: program.ask("begin", 15, "begin", mode="immediate")  # noqa: E731
        return [median_us(ask, TRIPS) for _ in range(BLOCKS)]
    finally:
        program.close()


def transaction_of(name: str, folder: Path) -> tuple[Any, Callable[[], None]]:
    session = find_engine(name).connect(
        str(folder / "a.db"), begin="immediate", settings=Settings(synchronous="off")
    )
    session.run("CREATE TABLE t(id INTEGER PRIMARY KEY, n INTEGER)")
    session.run("INSERT INTO t VALUES (1, 0), (2, 0)")

    def transaction() -> None:
        session.begin()
        session.rows("SELECT n FROM t WHERE id = ?", (1,))
        session.run("UPDATE t SET n = n + ? WHERE id = ?", (1, 1))
        session.run("UPDATE t SET n = n - ? WHERE id = ?", (1, 2))
        session.commit()

    return session, transaction


def main() -> int:
    trips = round_trip_us()
    trip = statistics.median(trips)
    print(
        f"a round trip to a program that only answers: {trip:.0f} µs "
        f"({min(trips):.0f} to {max(trips):.0f} in {BLOCKS} blocks)"
    )
    trust(BRIDGE)
    with tempfile.TemporaryDirectory() as place:
        made: dict[str, Any] = {}
        for name in ("sqlite", BRIDGE):
            (folder := Path(place) / str(len(made))).mkdir()
            made[name] = transaction_of(name, folder)
        inside, through = (
            [median_us(made[name][1], TRANSACTIONS) for _ in range(BLOCKS)] for name in made
        )
        for session, _ in made.values():
            session.close()
    here, there = statistics.median(inside), statistics.median(through)
    print(f"a transaction of {CALLS} calls on sqlite3 in the process: {here:.0f} µs")
    print(
        f"the same through a bridge in Python: {there:.0f} µs, "
        f"{(there - here) / CALLS:.0f} µs more a call"
    )
    good = trip <= MOST_US
    print(f"a round trip of at most {MOST_US:.0f} µs: {'yes' if good else 'NO'}")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
