"""Runs that stood still, or made less than half of what their arm usually makes: marked, and kept.

Such a run may show an engine's own stall or the machine's: what was waited for meanwhile stands
beside it (/proc/pressure), and the reader decides. Only the rule for foreign CPU time excludes.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from analysis import wording
from analysis.counting.cells import CountedCell, throughput
from analysis.counting.measured import Arm, Measured
from analysis.counting.tally import Count
from workloads.records import Manifest

LESS_THAN = 0.5
"""A run slumps below this share of the median of the arm's other runs."""

FEWEST_OTHERS = 2
"""Runs of an arm that say what it usually makes."""


def standstill_clause(counted: Count) -> str:
    """That a run stood still, without a full stop; "" where it did not."""
    found = counted.standstill
    if found is None:
        return ""
    return (
        f"stood still: nobody committed for {found.lasted_s:.3g} s of {counted.seconds:.3g} s, "
        f"from {found.since_s:.3g} s on"
    )


def pressure_clause(manifest: Manifest | None) -> str:
    """Resources that somebody on the machine waited for in the window of a run."""
    shares = manifest.pressure if manifest else None
    if not shares:
        if manifest and manifest.has("pressure"):
            return "what was waited for is not known: this kernel has no /proc/pressure"
        return "what was waited for was not recorded"
    shown = [
        f"{what} {wording.percent(shares[name]['some'])}"
        for name, what in (("io", "for the disk"), ("cpu", "for a CPU"), ("memory", "for memory"))
        if "some" in shares.get(name, {}) and (name != "memory" or shares[name]["some"] > 0)
    ]
    return f"somebody on the machine waited {wording.listed(shown)} of the time"


def slumps(measured: Measured, *arms: Arm) -> dict[tuple[int, str], str]:
    """The usable cells of these arms (of all, where none is named) that stood still or made less
    than half of what the others of their arm did: (block, arm) -> what is odd about it, with what
    was waited for.
    """
    found = {}
    for arm in arms or measured.arms.values():
        made = arm.values(throughput(arm.role))
        for cell in arm.usable:
            whys = [standstill_clause(cell.counted) if cell.counted else "", _half(cell, made)]
            if why := " and ".join(filter(None, whys)):
                found[cell.block, cell.arm] = f"{why} ({pressure_clause(cell.manifest)})"
    return found


def _half(cell: CountedCell, made: Mapping[int, float]) -> str:
    others = [value for block, value in made.items() if block != cell.block]
    if cell.block not in made or len(others) < FEWEST_OTHERS:
        return ""
    usual = float(np.median(others))
    if made[cell.block] >= LESS_THAN * usual:
        return ""
    return (
        "made less than half of what its arm usually makes: "
        f"{wording.number(made[cell.block])} tx/s against {wording.number(usual)}"
    )


def slump_clause(measured: Measured) -> str:
    """One sentence for all of them; "" where there are none."""
    found = slumps(measured)
    if not found:
        return ""
    (block, arm), why = next(iter(sorted(found.items())))
    return (
        f"{wording.times(len(found), 'run')} stood still or made less than half of what the arm "
        f"usually makes (†; kept in all numbers), the first in b{block:02d}, {arm}: {why}."
    )


__all__ = ["pressure_clause", "slump_clause", "slumps", "standstill_clause"]
