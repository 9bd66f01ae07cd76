"""The table that trials read from: 10,000 small rows with a key."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from workloads.engines import Engine, Session, Settings

ROWS, RECORD_BYTES = 10_000, 100
SCHEMA = "CREATE TABLE item(id INTEGER PRIMARY KEY, v INTEGER NOT NULL, pad BLOB NOT NULL)"
READ = "SELECT v FROM item WHERE id = ?"
WRITE = "UPDATE item SET v = v + 1 WHERE id = ?"


def fill(rows: int = ROWS) -> str:
    """The statement that fills it, in SQLite's words."""
    return (
        f"INSERT INTO item WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n "
        f"WHERE i < {rows - 1}) SELECT i, 0, zeroblob({RECORD_BYTES}) FROM n"
    )


def made_file(engine: Engine, path: Path, settings: Settings | None = None) -> Session:
    """A session on a new file with the table."""
    session = engine.connect(str(path), settings=settings or Settings())
    session.run(SCHEMA)
    session.run(fill())
    return session


def libraries(engines: dict[str, Engine]) -> dict[str, Any]:
    """Engine -> its binding and the library's version, as the manifest has it."""
    found = {name: engine.identity() for name, engine in engines.items()}
    return {name: f"{each.binding}, {each.version}" for name, each in found.items()}
