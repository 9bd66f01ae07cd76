"""The pages of a database are read as SQLite itself counts them, and a broken file is no layout."""

import shutil
import sqlite3
from collections import Counter

import numpy as np
import pytest

from workloads.engines.pages import (
    MOST_TEXT,
    TREES,
    Unreadable,
    layout_of,
    leaf_of_rows,
    packed,
    read_layout,
    unpacked,
)
from workloads.records import Tree
from workloads.runs import make_plan, run

ROWS = 5000


def made(path, page_bytes):
    """A table, an index and a table without rowid; more than one level of pages each."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute(f"PRAGMA page_size = {page_bytes}")
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("CREATE TABLE t(id INTEGER PRIMARY KEY, v, body)")
    connection.execute("CREATE INDEX t_v ON t(v)")
    connection.execute("CREATE TABLE bare(a TEXT PRIMARY KEY, b) WITHOUT ROWID")
    connection.execute(
        "WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < ?) "
        "INSERT INTO t SELECT i, i * 7919 % 5003, printf('%.100c', 'x') FROM n",
        (ROWS - 1,),
    )
    connection.execute("INSERT INTO bare SELECT 'k' || id, body FROM t")
    return connection


@pytest.mark.parametrize("page_bytes", [512, 4096, 65536])
def test_the_layout_is_the_same_from_the_wal_and_from_the_file(tmp_path, page_bytes):
    connection = made(tmp_path / "a.db", page_bytes)
    connection.execute("BEGIN")
    connection.execute("INSERT INTO t VALUES (?, 0, 'not committed')", (ROWS + 10,))
    trees = sqlite3.connect(tmp_path / "a.db").execute(TREES).fetchall()
    for name in ("a.db", "a.db-wal"):
        shutil.copyfile(tmp_path / name, tmp_path / name.replace("a", "b", 1))
    assert (tmp_path / "b.db-wal").stat().st_size > 0
    from_wal = read_layout(tmp_path / "b.db", trees)
    connection.execute("ROLLBACK")
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    assert from_wal == read_layout(tmp_path / "a.db", trees)
    table = from_wal["table t"]
    assert table["cells"] == ROWS and table["interior"] >= 1
    assert set(from_wal) == {"table t", "index t.t_v", "table bare", "index bare."} - {
        "index bare."
    }


def test_each_row_lies_on_the_page_that_the_branch_itself_says(tmp_path):
    # dbstat, which the branch has, is SQLite's own account of every page.
    from workloads.engines.concurrent_build import MissingBuild, load

    try:
        apsw = load()
    except MissingBuild as reason:
        pytest.skip(str(reason))
    made(tmp_path / "a.db", 1024).close()
    connection = apsw.Connection(str(tmp_path / "a.db"))
    trees = connection.execute(TREES).fetchall()
    rows = connection.execute(
        "SELECT pageno, ncell, pagetype, path FROM dbstat WHERE name = 't' ORDER BY path"
    ).fetchall()
    connection.close()
    tree = read_layout(tmp_path / "a.db", trees)["table t"]
    leaves = {page: cells for page, cells, kind, _ in rows if kind == "leaf"}
    pages, cells = unpacked(tree["pages"])
    assert dict(zip(pages.tolist(), cells.tolist(), strict=True)) == leaves
    of_rows = leaf_of_rows(Tree(**tree))
    assert len(of_rows) == ROWS
    assert Counter(of_rows.tolist()) == leaves
    assert tree["interior"] == sum(kind == "internal" for _, _, kind, _ in rows)


def test_a_file_that_is_cut_or_none_is_no_layout_and_no_error(tmp_path):
    connection = made(tmp_path / "a.db", 4096)
    trees = connection.execute(TREES).fetchall()
    connection.close()
    path = tmp_path / "a.db"
    whole = path.read_bytes()
    path.write_bytes(whole[: 20 * 4096])
    with pytest.raises(Unreadable, match="page"):
        read_layout(path, trees)
    assert "why" in layout_of(path, trees)
    loop = bytearray(whole)
    root = next(root for kind, name, _, root in trees if name == "t")
    at = (root - 1) * 4096
    loop[at + 8 : at + 12] = root.to_bytes(4, "big")  # its last child is itself
    path.write_bytes(loop)
    assert "does not end" in layout_of(path, trees)["why"]
    path.write_bytes(b"no database")
    assert "does not begin" in layout_of(path, trees)["why"]
    assert "no table" in layout_of(path, [])["why"]


def test_a_layout_too_long_for_a_manifest_is_said_to_be():
    rng = np.random.default_rng(1)
    pages = np.cumsum(rng.integers(1, 4, 30_000))
    text = packed(pages.tolist(), rng.integers(1, 90, 30_000).tolist())
    assert len(text) > MOST_TEXT
    np.testing.assert_array_equal(unpacked(text)[0], pages)
    with pytest.raises(ValueError, match="too long to be kept"):
        leaf_of_rows(Tree(pages="", leaves=30_000))


@pytest.mark.parametrize("engine", ["libsql", "turso", "null"])
def test_a_run_keeps_where_its_rows_lay(tmp_path, engine):
    plan = make_plan(
        scenario="counter",
        database=engine,
        writers=1,
        transactions=5,
        duration_s=60,
        params={"rows": 1000},
    )
    layout = run(plan, tmp_path).manifest.layout
    if engine == "null":
        assert layout.data() == {"loaded": {}}
    elif engine == "turso":
        assert "no pages" in str(layout.loaded["why"]) and "why" in layout.left
    else:
        loaded, left = layout.loaded["table counter"], layout.left["table counter"]
        assert isinstance(loaded, Tree) and isinstance(left, Tree)
        assert len(leaf_of_rows(loaded)) == 1000
        assert left.cells == 1000 and "pages" not in left.data()
