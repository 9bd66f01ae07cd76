"""The private build lets writers overlap, and its absence is reported in one sentence."""

from __future__ import annotations

import hashlib
import importlib.util
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from workloads.engines import concurrent_build as begin_concurrent

ROOT = Path(begin_concurrent.__file__).resolve().parents[2]


@pytest.fixture
def apsw() -> ModuleType:
    """The private module, or a skip that says why there is none."""
    try:
        return begin_concurrent.load()
    except begin_concurrent.MissingBuild as reason:
        pytest.skip(str(reason))


@pytest.fixture
def pair(apsw: ModuleType, tmp_path: Path) -> Iterator[tuple[Any, Any]]:
    """Two connections on one WAL database; rows 1 and 9999 of t lie on different pages."""
    one, two = (apsw.Connection(str(tmp_path / "pair.db")) for _ in range(2))
    one.execute("PRAGMA journal_mode = WAL")
    one.execute("CREATE TABLE t(id INTEGER PRIMARY KEY, v INTEGER)")
    one.execute(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 10000) "
        "INSERT INTO t SELECT i, 0 FROM n"
    )
    yield one, two
    one.close()
    two.close()


def add_one(connection: Any, row: int) -> None:
    connection.execute("BEGIN CONCURRENT")
    connection.execute("SELECT v FROM t WHERE id = ?", (row,)).fetchall()
    connection.execute("UPDATE t SET v = v + 1 WHERE id = ?", (row,))


def test_its_version_is_3_54_0_and_its_source_the_pinned_check_in(apsw: ModuleType) -> None:
    assert apsw.sqlite_lib_version() == "3.54.0"
    assert "2137918d6aa8cc5963af92ba7302c8944e403b5f" in apsw.sqlite3_sourceid()


def test_it_waits_for_locks_as_the_other_engines_do(apsw: ModuleType) -> None:
    # apsw's default would be ENABLE_SETLK_TIMEOUT, which neither libSQL nor the stdlib has.
    assert not [option for option in apsw.compile_options if "SETLK" in option]
    assert "THREADSAFE=1" in apsw.compile_options


def test_two_connections_write_at_once_on_different_pages(pair: tuple[Any, Any]) -> None:
    one, two = pair
    add_one(one, 1)
    add_one(two, 9999)
    one.execute("COMMIT")
    two.execute("COMMIT")
    assert one.execute("SELECT sum(v) FROM t").fetchall() == [(2,)]


def test_the_second_commit_on_one_page_is_refused_as_busy_snapshot(
    apsw: ModuleType, pair: tuple[Any, Any]
) -> None:
    one, two = pair
    add_one(one, 1)
    add_one(two, 2)
    one.execute("COMMIT")
    with pytest.raises(apsw.BusyError) as refused:
        two.execute("COMMIT")
    assert refused.value.extendedresult == apsw.SQLITE_BUSY_SNAPSHOT == 517
    assert two.in_transaction, "the refused transaction stays open until ROLLBACK"
    two.execute("ROLLBACK")
    assert one.execute("SELECT sum(v) FROM t").fetchall() == [(1,)]


def test_plain_begin_still_lets_only_one_write(apsw: ModuleType, pair: tuple[Any, Any]) -> None:
    one, two = pair
    one.execute("BEGIN IMMEDIATE")
    with pytest.raises(apsw.BusyError) as refused:
        two.execute("BEGIN IMMEDIATE")
    assert refused.value.extendedresult == apsw.SQLITE_BUSY == 5


def test_outside_wal_begin_concurrent_silently_lets_only_one_write(
    apsw: ModuleType, tmp_path: Path
) -> None:
    one, two = (apsw.Connection(str(tmp_path / "delete.db")) for _ in range(2))
    one.execute("PRAGMA journal_mode = DELETE")
    one.execute("CREATE TABLE a(x)")
    one.execute("CREATE TABLE b(x)")
    one.execute("BEGIN CONCURRENT; INSERT INTO a VALUES (1)")
    two.execute("BEGIN CONCURRENT")
    with pytest.raises(apsw.BusyError):
        two.execute("INSERT INTO b VALUES (1)")
    two.execute("ROLLBACK")
    one.execute("COMMIT")


def test_the_log_names_the_page_and_the_table_of_a_conflict(
    apsw: ModuleType, tmp_path: Path
) -> None:
    # In a process of its own and from another folder: the callback has to be set before the
    # library's first use, and workers are spawned anywhere.
    program = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
from workloads.engines.concurrent_build import load
apsw = load()
assert load() is apsw and "apsw" not in sys.modules
told = []
apsw.config(apsw.SQLITE_CONFIG_LOG, lambda code, text: told.append(text))
one, two = (apsw.Connection("log.db") for _ in "12")
one.execute("PRAGMA journal_mode = WAL").fetchall()
one.execute("CREATE TABLE accounts(x)")
for connection in (one, two):
    connection.execute("BEGIN CONCURRENT; INSERT INTO accounts VALUES (1)")
one.execute("COMMIT")
try:
    two.execute("COMMIT")
except apsw.BusyError:
    print(told[-1])
"""
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True
    )
    assert "conflict at page 2 (" in done.stdout, done.stderr
    assert "part of db table accounts" in done.stdout


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder in the place of .build/begin-concurrent."""
    monkeypatch.setattr(begin_concurrent, "BUILD", tmp_path)
    monkeypatch.setattr(begin_concurrent, "WHY_MISSING", tmp_path / "why-missing.txt")
    return tmp_path


@pytest.mark.usefixtures("elsewhere")
def test_a_build_never_made_is_one_sentence_with_the_way_out() -> None:
    with pytest.raises(begin_concurrent.MissingBuild) as missing:
        begin_concurrent.load.__wrapped__()
    assert str(missing.value) == (
        "The begin-concurrent SQLite is missing: it was never built for this Python. "
        "Get it with: make setup"
    )


def test_a_build_that_failed_says_why(elsewhere: Path) -> None:
    (elsewhere / "why-missing.txt").write_text("there is no C compiler.\n")
    with pytest.raises(
        begin_concurrent.MissingBuild, match=r"missing: there is no C compiler. Get"
    ):
        begin_concurrent.load.__wrapped__()


def test_a_damaged_build_is_no_traceback_of_the_loader(elsewhere: Path) -> None:
    begin_concurrent.module_path().write_bytes(b"cut short")
    with pytest.raises(begin_concurrent.MissingBuild, match=r"does not load: .* Run: make clean"):
        begin_concurrent.load.__wrapped__()


@pytest.fixture
def builder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """tools/setup/build_begin_concurrent.py with its folders moved to an empty place."""
    path = ROOT / "tools" / "setup" / "build_begin_concurrent.py"
    spec = importlib.util.spec_from_file_location("build_begin_concurrent", path)
    assert spec and spec.loader
    monkeypatch.syspath_prepend(path.parent)  # it imports the module beside it
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    places = {
        "BUILD": tmp_path,
        "TARGET": tmp_path / "begin-concurrent",
        "SOURCES": tmp_path / "sources",
        "WHY_MISSING": tmp_path / "begin-concurrent" / "why-missing.txt",
    }
    for name, place in places.items():
        monkeypatch.setattr(module, name, place)
    monkeypatch.setattr(module, "find_compiler", lambda: ["cc"])
    return module


def test_an_npm_package_that_changed_is_refused_before_anything_is_unpacked(
    builder: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def other_content(package: str, folder: Path, size: str) -> Path:
        archive = folder / "package.tgz"
        archive.write_bytes(b"something else")
        return archive

    monkeypatch.setattr(sys.modules["fetching"], "npm_pack", other_content)
    assert builder.main() == 1
    why = builder.WHY_MISSING.read_text()
    assert why.startswith("@rocicorp/zero-sqlite3@1.1.4 is not what it was: ")
    assert why.count("\n") == 1
    assert not list((tmp_path / "sources").rglob("*.c"))


def test_an_apsw_archive_that_changed_is_refused_and_removed(
    builder: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    archive = tmp_path / "sources" / "apsw-3.53.4.0.tar.gz"
    archive.parent.mkdir()
    archive.write_bytes(b"something else")
    monkeypatch.setattr(builder, "fetch_amalgamation", lambda: tmp_path)
    monkeypatch.setattr(builder, "run", lambda *_: None)
    assert builder.main() == 1
    got = hashlib.sha256(b"something else").hexdigest()
    assert f"apsw-3.53.4.0.tar.gz is not what it was: it has sha256 {got}" in (
        builder.WHY_MISSING.read_text()
    )
    assert not archive.exists()
