"""How fast the checker is: `python tools/bench/bench_checker.py`, about two minutes.

Generated histories of 1 to 4 operations a transaction, valid and with planted anomalies, all ten
levels at once, from JSON lines and from the columnar form. Every measurement is a process of its
own, pinned to one core; peak memory is that process's.

Each process also decodes the history's JSON lines with msgspec alone, before, between and after
what is measured. The targets are ratios to the fastest of these: an absolute target is missed on a
slow day and met on a fast one.
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

import msgspec

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

TARGETS = {".jsonl": 10.0, ".npz": 2.5}
"""Reading and checking may take so many times what decoding the JSON lines takes.

Measured on two shared cores: 3.5 to 4.1 and 0.8 to 1.1 at 100,000 transactions, 4.7 and 1.5 at a
million, where more memory is touched, and once 7.4 while other programs used both cores. A third
more than the worst is allowed for the lines, and two thirds for the columns, which are read so
fast that little disturbs much.
"""
COUNTED_FROM = 100_000
"""Transactions. Below, what is fixed (imports, first pages of memory) is too much of the time."""
PLANTED = ("G1a", "lost-update", "G2-item", "G-nonadjacent", "G-single-realtime")


def decoding_s(lines: Path) -> float:
    """Seconds that msgspec alone takes for the lines: the yardstick."""
    decode = msgspec.json.Decoder().decode
    started = time.perf_counter()
    with lines.open("rb") as file:
        for line in file:
            decode(line)
    return time.perf_counter() - started


def measure(path: str, lines: Path) -> None:
    """In the child: read and check one file, print seconds, peak bytes and the verdict.

    lines : the same history as JSON lines.
    """
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    from properties.checker import check
    from workloads.records import read_history

    decodings = [decoding_s(lines)]
    started = time.perf_counter()
    history = read_history(path)
    read_s = time.perf_counter() - started
    decodings.append(decoding_s(lines))
    started = time.perf_counter()
    verdict = check(history)
    check_s = time.perf_counter() - started
    decodings.append(decoding_s(lines))
    # Not ru_maxrss: across fork and exec it keeps the parent's peak, and the parent generates.
    status = Path("/proc/self/status").read_text()
    peak = int(status.split("VmHWM:")[1].split()[0]) * 1024
    found = sorted(verdict.anomalies)
    print(json.dumps([len(history), read_s, check_s, min(decodings), peak, found]))


def main() -> int:
    """Generate, measure, print a table; 1 where a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--model", default="list-append")
    parser.add_argument("--measure", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        measure(args.measure[0], Path(args.measure[1]))
        return 0
    from tools.bench.generate import generate
    from workloads.records.elle import write_history

    missed = 0
    print(
        f"{'transactions':>12} {'form':>6} {'history':>8} {'read s':>7} {'check s':>8} "
        f"{'tx/s':>9} {'msgspec s':>9} {'ratio':>6} {'target':>6} {'peak MB':>8}  found"
    )
    with tempfile.TemporaryDirectory() as folder:
        for size in args.sizes:
            for kind, planted in (("valid", ()), ("seeded", PLANTED)):
                history = generate(size, seed=size, model=args.model, planted=planted)
                paths = {form: Path(folder) / f"{kind}-{size}{form}" for form in TARGETS}
                for path in paths.values():
                    write_history(history, path)
                del history
                for form, target in TARGETS.items():
                    lines = [str(paths[form]), str(paths[".jsonl"])]
                    command = [sys.executable, __file__, "--measure", *lines]
                    answer = subprocess.run(command, check=True, capture_output=True, text=True)
                    count, read, judge, decoding, peak, found = json.loads(answer.stdout)
                    rate, ratio = count / (read + judge), (read + judge) / decoding
                    aimed = size >= COUNTED_FROM and args.model == "list-append"
                    missed += aimed and ratio > target
                    print(
                        f"{count:>12,} {form[1:]:>6} {kind:>8} {read:7.2f} {judge:8.2f} "
                        f"{rate:9,.0f} {decoding:9.2f} {ratio:6.2f} "
                        f"{target if aimed else '-':>6} {peak / 1e6:8,.0f}  "
                        f"{', '.join(found) or 'nothing'}",
                        flush=True,
                    )
                for path in paths.values():
                    path.unlink()
    print(f"{missed} missed" if missed else "every target met")
    return 1 if missed else 0


if __name__ == "__main__":
    raise SystemExit(main())
