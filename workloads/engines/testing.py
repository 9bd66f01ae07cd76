"""Helpers of the engines' tests. An engine that is not installed is skipped, with the reason."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from typing import Any

import pytest

from workloads.engines.engine import Engine, Session, Settings, find_engine

REAL = ["libsql", "libsql-0.1", "sqlite", "sqlite-concurrent", "sqlite-latest", "turso"]
SQLITE_FAMILY = ["libsql", "sqlite", "sqlite-concurrent"]
IMPATIENT = Settings(busy_timeout_ms=0)
LIMIT_S = 60
"""For one process of a test; it needs about one second."""

SPAWN = multiprocessing.get_context("spawn")


def usable(name: str) -> Engine:
    engine = find_engine(name)
    if why := engine.missing():
        pytest.skip(why)
    return engine


def refused(session: Session, phase: int, call: Callable[..., Any], *args: Any) -> Any:
    """The refusal of a call that has to raise."""
    try:
        call(*args)
    except BaseException as error:
        return session.refusal(error, phase)
    raise AssertionError(f"{args or call} was not refused")


def in_a_process(task: Callable[..., None], *args: Any) -> Any:
    """The value that a task sends, from a process of its own that is gone afterwards."""
    ours, theirs = SPAWN.Pipe()
    process = SPAWN.Process(target=task, args=(*args, theirs), daemon=True)
    process.start()
    theirs.close()
    try:
        assert ours.poll(LIMIT_S), f"no answer within {LIMIT_S} s"
        return ours.recv()
    finally:
        ours.close()
        process.join(10)
        process.kill()
        process.join(10)
