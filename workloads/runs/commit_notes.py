"""What the writers of a recorded run note in its log: that one comes to its COMMIT, and was told.

`work W N` is noted before the COMMIT of writer W's N-th transaction, `acked W N` when it has
returned. A scenario that tells its transactions apart by itself (`read` and `post`, as `ledger`)
writes these notes itself, with numbers of its own.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from workloads.processes import note
from workloads.runs.hot_path import Parts
from workloads.scenarios import Scenario, WorkerContext, tells_postings

RECORDED = "CWKIT_RECORDED"
"""Environment variable of the workers of a run whose changes are recorded."""


def noted(parts: Parts, scenario: Scenario, context: WorkerContext) -> Parts:
    """The same parts with these notes, where the run is recorded and nobody else writes them."""
    if RECORDED not in os.environ or context.role != "writer" or tells_postings(scenario):
        return parts
    commit, acknowledged, writer, number = parts.commit, parts.acknowledged, context.number, 0

    def noted_commit() -> None:
        note(f"work {writer} {number}")
        commit()

    def noted_acknowledged(drawn: Any, result: int) -> None:
        nonlocal number
        note(f"acked {writer} {number}")
        number += 1
        if acknowledged is not None:
            acknowledged(drawn, result)

    hook: Callable[[Any, int], None] = noted_acknowledged
    return parts._replace(commit=noted_commit, acknowledged=hook)
