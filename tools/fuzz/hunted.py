"""An engine whose findings have scripts, for hunts that are killed while they try them."""

from __future__ import annotations

from properties.hunter.broken import RefusesForNobody
from workloads.engines import Script

LINES = """
import sqlite3


class Connection(sqlite3.Connection):
    def execute(self, sql):
        if sql.startswith("DELETE"):
            raise sqlite3.OperationalError("database is locked")
        return super().execute(sql)


def connect(path, journal_mode="wal"):
    return sqlite3.connect(path, isolation_level=None, factory=Connection)
"""


class Refuses(RefusesForNobody):
    """DELETE finds the database locked, with the driver alone, too."""

    def script(self) -> Script:
        return Script(LINES)
