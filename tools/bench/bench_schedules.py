"""How many schedules a second one core steps and judges, with one process and with one a session.

    python tools/bench/bench_schedules.py [SECONDS]

Every schedule runs on a database in its first state, which is read back and compared.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from hypothesis import HealthCheck, Phase, given, settings

from properties.conformance.judge import judge
from properties.conformance.strategies import schedules
from workloads.engines import find_engine
from workloads.schedules import Schedule, ScheduleRunner, Schema

WANTED = 500
"""Schedules a second on libsql, its sessions in one process."""

CASES = (
    ("libsql", "deferred", False),
    ("libsql", "immediate", False),
    ("sqlite", "deferred", False),
    ("sqlite-concurrent", "concurrent", False),
    ("turso", "concurrent", False),
    ("libsql", "deferred", True),
    ("sqlite-concurrent", "concurrent", True),
)


def drawn(count: int) -> list[Schedule]:
    """The same schedules every time: two or three sessions, two transactions each at most."""
    found: list[Schedule] = []

    @settings(
        max_examples=count,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(schedules(Schema()))
    def collect(schedule: Schedule) -> None:
        found.append(schedule)

    collect()
    return found


def rate(step: Callable[[Schedule], object], some: list[Schedule], seconds: float) -> float:
    """Schedules a second of processor time and of waiting: of the clock."""
    for schedule in some[:20]:
        step(schedule)
    start, done = time.perf_counter(), 0
    while (took := time.perf_counter() - start) < seconds:
        step(some[done % len(some)])
        done += 1
    return done / took


def main(seconds: float) -> int:
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    some = drawn(300)
    steps = sum(len(steps) for s in some for steps in s.steps()) / len(some)
    print(f"{len(some)} drawn schedules of {steps:.1f} steps; schedules a second on one core")
    print(f"{'engine':20}{'mode':12}{'sessions':16}{'played':>8}{'and judged':>12}")
    first = 0.0
    for name, mode, processes in CASES:
        if why := find_engine(name).missing():
            print(f"{name:20}{why}")
            continue
        with ScheduleRunner(name, (mode,) * 3, Schema(), processes=processes) as stage:
            played = rate(stage.play, some, seconds)
            level = find_engine(name).promises[mode].level
            judged = rate(lambda s, st=stage, lv=level: judge(st.play(s), lv), some, seconds)  # type: ignore[misc]
        where = "a process each" if processes else "one process"
        print(f"{name:20}{mode:12}{where:16}{played:8.0f}{judged:12.0f}")
        first = first or played
    print(f"libsql, one process: {first:.0f} a second, {WANTED} wanted")
    return 0 if first >= WANTED else 1


if __name__ == "__main__":
    sys.exit(main(float(sys.argv[1]) if len(sys.argv) > 1 else 3))
