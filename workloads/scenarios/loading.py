"""Filling a scenario's tables before a run: rows as SQL literals, many to a statement.

Plain INSERT ... VALUES is what every engine under study takes, and 100,000 rows of 100 bytes take
well under a second on each. Bound parameters would be slower: one statement a row.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from workloads.engines import Session

ROWS_A_STATEMENT = 500
BYTES_A_STATEMENT = 400_000  # SQLite refuses statements above 1,000,000
ROWS_A_COMMIT = 100_000


class Watched:
    """A session that counts what it loads and reports it: rows where `fill` counts them, else
    statements. Everything else is the real session's.

    on_progress : called with (count, whether it counts rows).
    """

    def __init__(self, real: Session, on_progress: Callable[[int, bool], None]) -> None:
        self._real, self._on_progress = real, on_progress
        self._rows = self._statements = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def run(self, sql: str, params: tuple[Any, ...] = ()) -> Any:
        result = self._real.run(sql, params)
        self._statements += 1
        if not self._rows:
            self._on_progress(self._statements, False)
        return result

    def loaded(self, rows: int) -> None:
        """Count rows that are now in the tables."""
        self._rows += rows
        self._on_progress(self._rows, True)


def fill(session: Session, insert: str, rows: Iterable[str]) -> None:
    """Run `insert` ("INSERT INTO t(a, b) VALUES") with all rows, each a literal "(1,'x')"."""
    count_loaded = getattr(session, "loaded", lambda rows: None)
    session.begin()
    part: list[str] = []
    size = in_commit = 0
    for row in rows:
        part.append(row)
        size += len(row)
        in_commit += 1
        if len(part) == ROWS_A_STATEMENT or size > BYTES_A_STATEMENT:
            session.run(f"{insert} {','.join(part)}")
            count_loaded(len(part))
            part.clear()
            size = 0
        if in_commit >= ROWS_A_COMMIT and not part:
            session.commit()
            session.begin()
            in_commit = 0
    if part:
        session.run(f"{insert} {','.join(part)}")
        count_loaded(len(part))
    session.commit()


def payload(rng: np.random.Generator, record_bytes: int) -> str:
    """Text of `record_bytes` letters and digits."""
    letters = np.frombuffer(b"abcdefghijklmnopqrstuvwxyz012345", dtype="u1")
    return letters[rng.integers(0, 32, record_bytes)].tobytes().decode()
