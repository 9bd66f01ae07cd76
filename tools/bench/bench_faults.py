"""What the library before libc costs: runs with it, and without, in turn; two minutes.

Without a fault and without a recording a run does not load it. With a rule that never fires each
call that changes a file asks the rule; with a recording each is logged as well. The runs are alike
in all else (4 writers of `ledger` that commit as fast as they can, synchronous off and full). A
recording that costs half the rate is slow, and still records what happened.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from analysis.counting import count
from workloads.errors import EngineMissing
from workloads.files import made
from workloads.processes import fault_library
from workloads.runs import make_plan, run

BLOCKS, SECONDS = 3, 2.0
NEVER = "rename:*:1000000:EIO"
ENGINES = (("libsql", "immediate"), ("sqlite-concurrent", "concurrent"))
LEAST = {"loaded": 0.85, "recording": 0.5}
"""Of the rate without it."""


def rate(runs: Path, engine: str, begin: str, synchronous: str, how: str) -> float:
    """Committed transactions a second of one run."""
    plan = make_plan(
        scenario="ledger", database=engine, begin=begin, writers=4, synchronous=synchronous,
        duration_s=SECONDS, warmup_s=0.5, start="exec", fault=NEVER if how == "loaded" else None,
    )  # fmt: skip
    found = count(run(plan, runs, record_changes=how == "recording"))
    tally = found.roles["writer"]
    return float(tally.committed / found.seconds)


def main() -> int:
    """Measure in turn, print ratios; 1 where one is below the least."""
    try:
        fault_library()
    except EngineMissing as missing:
        print(f"not measured: {missing}")
        return 0
    ways = ("without", *LEAST)
    print(f"{'engine':<20}{'synchronous':<13}{'tx/s without':>12}" +
          "".join(f"  {way + ' / without':<26}" for way in LEAST))  # fmt: skip
    missed = 0
    with made("bench") as folder:
        for engine, begin in ENGINES:
            for synchronous in ("off", "full"):
                rates = np.array([
                    [rate(folder / "runs", engine, begin, synchronous, way) for way in ways]
                    for _ in range(BLOCKS)
                ])  # fmt: skip
                ratios = rates[:, 1:] / rates[:, :1]
                told = "".join(
                    f"  {np.median(each):<5.2f}[{each.min():.2f}, {each.max():.2f}]{'':<7}"
                    for each in ratios.T
                )
                print(f"{engine:<20}{synchronous:<13}{np.median(rates[:, 0]):>12,.0f}{told}",
                      flush=True)  # fmt: skip
                least = np.array(list(LEAST.values()))
                missed += int((np.median(ratios, axis=0) < least).sum())
    print(f"{missed} missed" if missed else "every target met")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
