"""What a process of a run is told: its plan, its places, who it is among the workers."""

from __future__ import annotations

import json
import time
import traceback
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from workloads import records as rec
from workloads.engines import (
    find_engine,
)
from workloads.processes import leave
from workloads.runs.plan import ROLES, Plan
from workloads.scenarios import (
    RunLog,
    Scenario,
    ScenarioFailed,
    WorkerContext,
    find_scenario,
)

MISTAKES = (NameError, AttributeError, TypeError, KeyError, IndexError, ZeroDivisionError)
"""No driver raises these for an engine's answer: the scenario's own code is wrong."""


class Job:
    """A process's task and places, read from the file that its parent wrote."""

    def __init__(self, path: str) -> None:
        job = json.loads(Path(path).read_text(encoding="utf-8"))
        self.plan = Plan(**job["plan"])
        self.folder = Path(job["folder"])
        self.database = str(job["database"])
        self.control_path = Path(job["control"])
        self.parent = int(job["parent"])

    @cached_property
    def scenario(self) -> Scenario:
        """The scenario, made when it is first used: merging histories needs none."""
        return find_scenario(self.plan.scenario)(self.plan.shape())

    def account(self, who: str, **values: Any) -> None:
        """Leave an account for the parent. Raises OSError where the disk has no room for it."""
        leave(self.folder, who, values)


def places_of(plan: Plan) -> tuple[tuple[str, int], ...]:
    """(role, number within the role) of each worker, by worker number."""
    seen: dict[str, int] = {}
    places = []
    for role, _, _ in plan.roles():
        places.append((role, seen.get(role, 0)))
        seen[role] = seen.get(role, 0) + 1
    return tuple(places)


def context_of(plan: Plan, worker: int) -> WorkerContext:
    """The context of one worker without its session, as it is for a replay of its draws."""
    places = places_of(plan)
    role, number = places[worker]
    return WorkerContext(
        role=role,
        number=number,
        of=sum(1 for other, _ in places if other == role),
        worker=worker,
        seed=(plan.seed, ROLES.index(role), number),
        places=places,
        clock=time.monotonic_ns,
    )


def log_of(
    plan: Plan,
    scenario: Scenario,
    workers: Sequence[rec.WorkerRecord],
    on_replay: Callable[[int], None] = lambda replayed: None,
) -> RunLog:
    """The answers that the workers of a run got, for the scenario's check.

    on_replay : as for `RunLog`.
    """
    return RunLog(scenario, workers, lambda worker: context_of(plan, worker.worker), on_replay)


def identity_of(name: str) -> dict[str, Any]:
    """The engine's own account of itself, as it goes into the manifest."""
    engine = find_engine(name)
    identity = engine.identity()._asdict()
    identity["options"] = list(identity["options"])
    return identity | {
        "file_format": engine.file_format,
        "hosting": engine.hosting,
        "unit": getattr(engine, "unit", ""),
    }


def error_text(error: BaseException) -> str:
    """An error as an account has it: its type and its words."""
    return f"{type(error).__name__}: {error}"


def mistake_in(error: BaseException) -> str:
    """Where a scenario's body went wrong, "" where the error is the engine's."""
    if isinstance(error, ScenarioFailed):
        return str(error)
    if not isinstance(error, MISTAKES):
        return ""
    at = traceback.extract_tb(error.__traceback__)[-1]
    return f"{Path(at.filename).name}:{at.lineno}: {type(error).__name__}: {error}"
