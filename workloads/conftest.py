"""Fixtures of the workloads' tests: a database file, and sessions on it that are closed again."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from workloads.engines import Engine, Session, Settings
from workloads.engines.testing import IMPATIENT


@pytest.fixture
def path(tmp_path: Path) -> str:
    """A database file of one test."""
    return str(tmp_path / "test.db")


@pytest.fixture
def opened(path: str) -> Iterator[Any]:
    """Opens sessions on that file, by one engine only, and closes them all."""
    sessions: list[Session] = []

    def open_one(engine: Engine, begin: str = "deferred", settings: Settings = IMPATIENT) -> Any:
        sessions.append(engine.connect(path, begin=begin, settings=settings))
        return sessions[-1]

    yield open_one
    for session in sessions:
        session.close()
