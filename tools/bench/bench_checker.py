"""How fast the checker is: `python tools/bench/bench_checker.py`, about two minutes.

Generated histories of 1 to 4 operations a transaction, valid and with planted anomalies, all ten
levels at once, from JSON lines and from the columnar form. Every measurement is a process of its
own, pinned to one core; peak memory is that process's.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

TARGETS = {".jsonl": 80_000, ".npz": 200_000}
PLANTED = ("G1a", "lost-update", "G2-item", "G-nonadjacent", "G-single-realtime")


def measure(path: str) -> None:
    """In the child: read and check one file, print seconds, peak bytes and the verdict."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    from properties.checker import check
    from workloads.records import read_history

    started = time.perf_counter()
    history = read_history(path)
    read = time.perf_counter()
    verdict = check(history)
    ended = time.perf_counter()
    # Not ru_maxrss: across fork and exec it keeps the parent's peak, and the parent generates.
    status = Path("/proc/self/status").read_text()
    peak = int(status.split("VmHWM:")[1].split()[0]) * 1024
    found = sorted(verdict.anomalies)
    print(json.dumps([len(history), read - started, ended - read, peak, found]))


def main() -> int:
    """Generate, measure, print a table; 1 where a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--model", default="list-append")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        measure(args.measure)
        return 0
    from tools.bench.generate import generate
    from workloads.records.elle import write_history

    missed = 0
    print(
        f"{'transactions':>12} {'form':>6} {'history':>8} {'read s':>7} {'check s':>8} "
        f"{'tx/s':>9} {'target':>8} {'peak MB':>8}  found"
    )
    with tempfile.TemporaryDirectory() as folder:
        for size in args.sizes:
            for kind, planted in (("valid", ()), ("seeded", PLANTED)):
                history = generate(size, seed=size, model=args.model, planted=planted)
                for form, target in TARGETS.items():
                    path = Path(folder) / f"{kind}-{size}{form}"
                    write_history(history, path)
                    command = [sys.executable, __file__, "--measure", str(path)]
                    answer = subprocess.run(command, check=True, capture_output=True, text=True)
                    count, read, judge, peak, found = json.loads(answer.stdout)
                    rate = count / (read + judge)
                    missed += rate < target and size >= 100_000 and args.model == "list-append"
                    print(
                        f"{count:>12,} {form[1:]:>6} {kind:>8} {read:7.2f} {judge:8.2f} "
                        f"{rate:9,.0f} {target:8,} {peak / 1e6:8,.0f}  "
                        f"{', '.join(found) or 'nothing'}",
                        flush=True,
                    )
                    path.unlink()
                del history
    return 1 if missed else 0


if __name__ == "__main__":
    raise SystemExit(main())
