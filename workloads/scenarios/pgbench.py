"""What pgbench brings along: its three scripts, its tables and what fills them.

The scripts are pgbench's own, unchanged. Its tables are made with SQLite's types, which every
engine takes: on PostgreSQL an INTEGER is a bigint where pgbench has an int, and a primary key is an
identity; CHAR(84) holds 84 letters everywhere, since the loader writes the spaces.
"""

from __future__ import annotations

from collections.abc import Iterator

from workloads.engines import Session
from workloads.scenarios.loading import fill

BRANCHES, TELLERS, ACCOUNTS = 1, 10, 100_000
"""Rows of these tables, each times the scale."""

_KEY, _FILLED = "INTEGER PRIMARY KEY, bid INTEGER", "filler CHAR(84))"
_CHANGE = "delta INTEGER, mtime TIMESTAMP, filler CHAR(22))"
SCHEMA = (
    "CREATE TABLE pgbench_branches(bid INTEGER PRIMARY KEY, bbalance INTEGER, filler CHAR(88))",
    f"CREATE TABLE pgbench_tellers(tid {_KEY}, tbalance INTEGER, {_FILLED}",
    f"CREATE TABLE pgbench_accounts(aid {_KEY}, abalance INTEGER, {_FILLED}",
    f"CREATE TABLE pgbench_history(tid INTEGER, bid INTEGER, aid INTEGER, {_CHANGE}",
)

_SETS = r"""\set aid random(1, 100000 * :scale)
\set bid random(1, 1 * :scale)
\set tid random(1, 10 * :scale)
\set delta random(-5000, 5000)
BEGIN;
UPDATE pgbench_accounts SET abalance = abalance + :delta WHERE aid = :aid;
SELECT abalance FROM pgbench_accounts WHERE aid = :aid;
"""
_HISTORY = """INSERT INTO pgbench_history (tid, bid, aid, delta, mtime) \
VALUES (:tid, :bid, :aid, :delta, CURRENT_TIMESTAMP);
END;
"""
SCRIPTS = {
    "tpcb-like": _SETS
    + """UPDATE pgbench_tellers SET tbalance = tbalance + :delta WHERE tid = :tid;
UPDATE pgbench_branches SET bbalance = bbalance + :delta WHERE bid = :bid;
"""
    + _HISTORY,
    "simple-update": _SETS + _HISTORY,
    "select-only": r"""\set aid random(1, 100000 * :scale)
SELECT abalance FROM pgbench_accounts WHERE aid = :aid;
""",
}
"""Name -> script."""

BALANCES = """
SELECT accounts, history FROM (SELECT
  (SELECT coalesce(sum(abalance), 0) FROM pgbench_accounts) AS accounts,
  (SELECT coalesce(sum(delta), 0) FROM pgbench_history) AS history) AS sums
  WHERE accounts <> history;
SELECT tellers, branches FROM (SELECT
  (SELECT coalesce(sum(tbalance), 0) FROM pgbench_tellers) AS tellers,
  (SELECT coalesce(sum(bbalance), 0) FROM pgbench_branches) AS branches) AS sums
  WHERE tellers <> branches;
SELECT n, :changed, :unknown_changes FROM (SELECT count(*) AS n FROM pgbench_history) AS h
  WHERE n NOT BETWEEN :changed AND :changed + :unknown_changes;
"""
"""As a check: the balances have one sum with the history, which has a row for each commit."""

TPCB_ALONE = """
SELECT accounts, branches FROM (SELECT
  (SELECT coalesce(sum(abalance), 0) FROM pgbench_accounts) AS accounts,
  (SELECT coalesce(sum(bbalance), 0) FROM pgbench_branches) AS branches) AS sums
  WHERE accounts <> branches;
"""
"""The same where every change was made by tpcb-like."""


def load(session: Session, scale: int) -> None:
    """Fill the tables, as `pgbench --initialize --scale` does."""
    fill(
        session,
        "INSERT INTO pgbench_branches(bid, bbalance) VALUES",
        (f"({bid},0)" for bid in range(1, BRANCHES * scale + 1)),
    )
    fill(
        session,
        "INSERT INTO pgbench_tellers(tid, bid, tbalance) VALUES",
        (f"({tid},{(tid - 1) // TELLERS + 1},0)" for tid in range(1, TELLERS * scale + 1)),
    )
    fill(session, "INSERT INTO pgbench_accounts(aid, bid, abalance, filler) VALUES",
         _accounts(scale))  # fmt: skip


def _accounts(scale: int) -> Iterator[str]:
    spaces = " " * 84
    for aid in range(1, ACCOUNTS * scale + 1):
        yield f"({aid},{(aid - 1) // ACCOUNTS + 1},0,'{spaces}')"
