"""CPUs for cells that run side by side: each of the machine's CPUs goes to one cell only."""

from __future__ import annotations

import os
from pathlib import Path

from workloads.errors import PlanError

MOST_ON_A_CPU = 64
"""The most cells that may share a CPU: more would measure the scheduler."""


def slots(
    jobs: int, *, cpus_each: int = 0, oversubscribe: bool = False
) -> tuple[list[tuple[int, ...]], bool]:
    """CPUs of each of `jobs` cells, and whether some CPU has more than one cell.

    cpus_each : CPUs a cell; 0: as many as there are for each, at least one.
    The CPUs are those that this process may use; hardware threads of one core stay together.
    Raises PlanError where there are too few and `oversubscribe` is not asked for, and for numbers
    that nobody can mean.
    """
    if jobs < 1:
        raise PlanError(f"--jobs {jobs}: at least one cell must run at a time.")
    if cpus_each < 0:
        raise PlanError(
            f"--cpus {cpus_each}: a cell has at least one CPU (0: as many as there are)."
        )
    allowed = sorted(os.sched_getaffinity(0), key=_place)
    each = cpus_each or max(len(allowed) // jobs, 1)
    if each > len(allowed):
        raise PlanError(
            f"{each} CPUs a cell: there are {len(allowed)} here, and a cell cannot have more."
        )
    over = jobs * each > len(allowed)
    if over and not oversubscribe:
        many = f"{jobs} cells at a time with {each} CPU{'s' if each > 1 else ''} each"
        raise PlanError(
            f"{many} need {jobs * each} CPUs; there are {len(allowed)} here. Ask for fewer at a "
            "time, or give --oversubscribe: every result is then marked so."
        )
    if jobs * each > (most := MOST_ON_A_CPU * len(allowed)):
        raise PlanError(
            f"--jobs {jobs}: at most {most // each} cells of {each} CPUs share {len(allowed)} CPUs."
        )
    taken = [allowed[i % len(allowed)] for i in range(jobs * each)]
    return [tuple(sorted(taken[each * i : each * (i + 1)])) for i in range(jobs)], over


def spare(taken: list[tuple[int, ...]]) -> set[int]:
    """CPUs that no slot has."""
    return set(os.sched_getaffinity(0)) - {cpu for slot in taken for cpu in slot}


def _place(cpu: int) -> tuple[int, int, int]:
    """(package, core, CPU), as the kernel numbers them."""
    topology = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology")
    try:
        return (
            int((topology / "physical_package_id").read_text()),
            int((topology / "core_id").read_text()),
            cpu,
        )
    except (OSError, ValueError):
        return 0, cpu, cpu
