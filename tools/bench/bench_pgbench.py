"""`cwkit run` beside pgbench on PostgreSQL: the same script, clients and scale, in turn; 3 minutes.

bench_postgres.py compares two clients on one connection. This compares what users type: pgbench
with `-M prepared` and cwkit's `--tx`, which is one process a client where pgbench's clients are
threads of one. Each has a server of its own with the same settings; the other's is idle meanwhile.
pgbench's tables have its own types (an int where ours have a bigint), and both are at scale 1 and
filled anew for each rate, so that neither runs on the tables that the other has grown.

Where no PostgreSQL is to be had, it says so and is no miss.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tools.bench.bench_postgres import Pgbench
from workloads.engines import Settings, find_engine, serving
from workloads.engines.postgres_server import programs, read_address
from workloads.files import made

BLOCKS, SECONDS, WARMUP_S = 3, 3.0, 0.5
SCRIPTS, CLIENTS, SCALE = ("tpcb-like", "simple-update", "select-only"), (1, 4), 1
TARGET = 0.5
"""Of pgbench's rate. What is recorded of each attempt, and a process a client, cost the rest."""
LIMIT_S = 120


def by_pgbench(pgbench: Pgbench, script: str, clients: int) -> float:
    """Transactions a second by pgbench, on tables that were just filled."""
    pgbench("-i", "-s", f"{SCALE}", "-q")
    return pgbench.rate(script, seconds=SECONDS, clients=clients)


def by_cwkit(runs: Path, script: str, clients: int) -> float:
    """Committed transactions a second by `cwkit run`. Raises RuntimeError where it is not well."""
    role = ["--writers", f"{clients}"]
    asked = script
    if script == "select-only":  # a script that only reads is a reader's
        asked, role = f"{script}@1:reader", ["--writers", "0", "--readers", f"{clients}"]
    done = subprocess.run(
        [
            sys.executable, "-m", "analysis.cli", "run", "--tx", asked, "--scale", f"{SCALE}",
            "--database", "postgres", "--begin", "read-committed", *role,
            "--synchronous", "normal", "--duration", f"{SECONDS:g}", "--warmup", f"{WARMUP_S:g}",
            "--runs", str(runs), "--quiet", "--json",
        ],
        cwd=Path(__file__).resolve().parents[2], capture_output=True, text=True,
        timeout=LIMIT_S, check=False,
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(f"cwkit run: {done.stdout[-500:]} {done.stderr[-500:]}")
    (told,) = json.loads(done.stdout)["roles"]
    return float(told["throughput_per_s"]["value"])


def _measured(pgbench: Pgbench, runs: Path) -> int:
    print(f"{'script':<14} {'clients':>7} {'pgbench tx/s':>12} {'cwkit tx/s':>11}  cwkit / pgbench")
    missed = 0
    for script in SCRIPTS:
        for clients in CLIENTS:
            pairs = np.array([
                (by_pgbench(pgbench, script, clients), by_cwkit(runs, script, clients))
                for _ in range(BLOCKS)
            ])  # fmt: skip
            ratio = pairs[:, 1] / pairs[:, 0]
            theirs, ours = np.median(pairs, axis=0)
            span = f"{np.median(ratio):.2f} [{ratio.min():.2f}, {ratio.max():.2f}]"
            print(f"{script:<14} {clients:>7} {theirs:>12,.0f} {ours:>11,.0f}  {span}", flush=True)
            missed += bool(np.median(ratio) < TARGET)
    print(f"{missed} below the target of {TARGET:g}" if missed else "every target met")
    return 1 if missed else 0


def main() -> int:
    """Measure in turn, print ratios; 1 where one is below the target."""
    engine, place = find_engine("postgres"), programs()
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
            return _measured(Pgbench(place, read_address(path)), folder / "runs")


if __name__ == "__main__":
    sys.exit(main())
