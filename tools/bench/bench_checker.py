"""How fast the checker is: `python tools/bench/bench_checker.py`, about four minutes.

Generated histories of 1 to 4 operations a transaction, valid and with planted anomalies, all ten
levels at once, from JSON lines and from the columnar form. Every measurement is a process of its
own, pinned to one core; peak memory is that process's.

First reading alone, in C and in Python, and registers under contention, against inference that asks
of every pair in each round and finds all reachability anew, as it was before.

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
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

if TYPE_CHECKING:
    from workloads.records import History

TARGETS = {".jsonl": 10.0, ".npz": 2.5}
"""Reading and checking may take so many times what decoding the JSON lines takes.

Measured on two shared cores: 3.5 to 4.1 and 0.8 to 1.1 at 100,000 transactions, 4.7 and 1.5 at a
million, where more memory is touched, and once 7.4 while other programs used both cores. A third
more than the worst is allowed for the lines, and two thirds for the columns, which are read so
fast that little disturbs much.
"""
COUNTED_FROM = 100_000
"""Transactions. Below, what is fixed (imports, first pages of memory) is too much of the time."""
READING = {"in C": 1.5, "in Python": 3.2}
"""Reading alone may take so many times what decoding its lines takes, the best of a few in turn.

Twice is wanted. Measured on two cores that others used too: 0.8 to 1.1 where `make setup` built the
reader in C, and 2.0 to 2.8 without it. Half of the latter is msgspec's own (each line, then the
operations of those that committed), a quarter the numbers and lists that become columns.
"""
CONTENTION = 1 / 3
"""Of the time of whole rounds, for 20,000 transactions of 100 overlapping sessions on 10 keys."""
GROWTH = 1.2
"""The time may grow so much faster than the pairs of a read and a chain of transactions.

Chains are as many as transactions are under way at once, and one for each whose end nobody knows.
"""
PLANTED = ("G1a", "lost-update", "G2-item", "G-nonadjacent", "G-single-realtime")


def decoding_s(lines: Path) -> float:
    """Seconds that msgspec alone takes for the lines: the yardstick."""
    decode = msgspec.json.Decoder().decode
    started = time.process_time()
    with lines.open("rb") as file:
        for line in file:
            decode(line)
    return time.process_time() - started


def measure(path: str, lines: Path) -> None:
    """In the child: read and check one file, print seconds, peak bytes and the verdict.

    lines : the same history as JSON lines.
    """
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    from properties.checker import check
    from workloads.records import read_history

    decodings = [decoding_s(lines)]
    started = time.process_time()
    history = read_history(path)
    read_s = time.process_time() - started
    decodings.append(decoding_s(lines))
    started = time.process_time()
    verdict = check(history)
    check_s = time.process_time() - started
    decodings.append(decoding_s(lines))
    # Not ru_maxrss: across fork and exec it keeps the parent's peak, and the parent generates.
    status = Path("/proc/self/status").read_text()
    peak = int(status.split("VmHWM:")[1].split()[0]) * 1024
    found = sorted(verdict.anomalies)
    print(json.dumps([len(history), read_s, check_s, min(decodings), peak, found]))


def reading_times(lines: Path) -> dict[str, float]:
    """In the child: seconds to decode a history's lines, and to read it in each way, the best."""
    from workloads.records import elle_scanned, read_history

    load, times = elle_scanned.load, dict[str, list[float]]()
    ways = [way for way in READING if way != "in C" or load() is not None]
    for _ in range(5 if lines.stat().st_size < 100e6 else 3):
        times.setdefault("msgspec", []).append(decoding_s(lines))
        for way in ways:
            elle_scanned.load = load if way == "in C" else lambda: None  # type: ignore[assignment]
            started = time.process_time()
            read_history(lines)
            times.setdefault(way, []).append(time.process_time() - started)
    return {way: min(all_) for way, all_ in times.items()}


def contention() -> list[float]:
    """In the child: CPU seconds of a fourth, of the whole, and of the whole by whole rounds.

    Then the pairs of a read and a chain, of a fourth and of the whole.
    """
    from properties.checker import check, order_inference
    from tools.bench.generate import generate

    found: list[list[float]] = [[], [], []]
    options: dict[str, Any] = {"model": "rw-register", "sessions": 100, "keys": 10}
    few, whole = (
        generate(n, seed=1, writes_per_key=n, **options) for n in (CONTENDING // 4, CONTENDING)
    )
    by_clocks, at_most = order_inference.Forced._by_clocks, order_inference.FEW
    verdicts = set()
    for _ in range(3):
        for i, history in enumerate((few, whole, whole)):
            if i == 2:
                order_inference.Forced._by_clocks = lambda _: None  # type: ignore[method-assign, assignment, return-value]
                order_inference.FEW = -1.0
            started = time.process_time()
            verdict = check(history)
            found[i].append(time.process_time() - started)
            order_inference.Forced._by_clocks = by_clocks  # type: ignore[method-assign]
            order_inference.FEW = at_most
            verdicts.add(tuple(verdict.levels.values()))
    assert len(verdicts) == 1, "they differ in a verdict"
    return [*(min(times) for times in found), *map(pairs, (few, whole))]


def pairs(history: History) -> int:
    """How many pairs of a read and a chain there are."""
    from properties.checker.chains import in_real_time
    from workloads.records import TXN_COMMITTED, TXN_UNKNOWN, WRITE

    outcome = history.txn_outcome
    chains, _ = in_real_time(history, (outcome == TXN_COMMITTED) | (outcome == TXN_UNKNOWN))
    return int((history.op_kind != WRITE).sum()) * (int(chains.max()) + 1)


CONTENDING = 20_000


def child(*args: str) -> Any:
    """What this script prints in a process of its own."""
    command = [sys.executable, __file__, *args]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def reading_and_contention(sizes: list[int]) -> int:
    """Print both as ratios with their targets; how many missed."""
    from tools.bench.generate import generate
    from workloads.records.elle import write_history

    missed = 0
    with tempfile.TemporaryDirectory() as folder:
        for size, model in product(sizes, ("list-append", "rw-register")):
            lines = Path(folder) / f"{model}.jsonl"
            write_history(generate(size, seed=1, model=model), lines)
            times = child("--reading", str(lines))
            decoded = times.pop("msgspec")
            for way, read in times.items():
                missed += read / decoded > READING[way]
                print(
                    f"reading {size:,} of {model} {way}: {read:.2f} s, msgspec {decoded:.2f} s, "
                    f"ratio {read / decoded:.2f}, target {READING[way]}",
                    flush=True,
                )
    few, now, before, fewer, many = child("--contention")
    growth = now / few / (many / fewer)
    missed += (now / before > CONTENTION) + (growth > GROWTH)
    print(
        f"contention, {CONTENDING:,} of 100 sessions on 10 keys: {now:.2f} s, by whole rounds "
        f"{before:.2f} s, ratio {now / before:.2f}, target {CONTENTION:.2f}; a fourth {few:.2f} s, "
        f"{many / fewer:.1f} times the pairs: it grows {growth:.2f} times as fast, target {GROWTH}"
    )
    return missed


def main() -> int:
    """Generate, measure, print a table; 1 where a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--model", default="list-append")
    parser.add_argument("--measure", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--reading", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--contention", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.reading or args.contention:
        print(json.dumps(reading_times(args.reading) if args.reading else contention()))
        return 0
    if args.measure:
        measure(args.measure[0], Path(args.measure[1]))
        return 0
    from tools.bench.generate import generate
    from workloads.records.elle import write_history

    missed = reading_and_contention([size for size in args.sizes if size >= COUNTED_FROM])
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
