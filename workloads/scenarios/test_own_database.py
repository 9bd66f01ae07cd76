"""The user's database: the copy has all that was committed, and the original stays as it is."""

from __future__ import annotations

import hashlib
import os
import sqlite3
from pathlib import Path

import pytest

from workloads.errors import PlanError
from workloads.runs import make_plan
from workloads.scenarios.own_database import NotCopied, copy
from workloads.scenarios.sql_files import with_texts


def made(path: Path, mode: str) -> sqlite3.Connection:
    """A database with two rows, open; the second row is in the log alone where there is one."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute(f"PRAGMA journal_mode = {mode}")
    connection.execute("CREATE TABLE a(n)")
    connection.execute("INSERT INTO a VALUES (1)")
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.execute("PRAGMA wal_autocheckpoint = 0")
    connection.execute("INSERT INTO a VALUES (2)")
    return connection


def looks(folder: Path, *, but: str = "-shm") -> dict[str, str]:
    """Every file of a folder with its hash. The log's index belongs to whoever has it open."""
    files = (file for file in folder.iterdir() if not file.name.endswith(but))
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def rows(path: Path) -> list[int]:
    with sqlite3.connect(path) as connection:
        return [row[0] for row in connection.execute("SELECT n FROM a ORDER BY n")]


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    (tmp_path / "mine").mkdir()
    return tmp_path / "mine" / "mine?.db"


@pytest.mark.parametrize("mode", ["wal", "delete"])
@pytest.mark.parametrize("state", ["in use", "writing", "closed", "left with its log"])
def test_a_copy_has_what_is_committed_and_the_original_stays(
    tmp_path: Path, mine: Path, mode: str, state: str
) -> None:
    connection = made(mine, mode)
    if state == "writing":
        connection.execute("BEGIN")
        connection.execute("INSERT INTO a VALUES (3)")
    elif state == "closed":
        connection.close()
    elif state == "left with its log":
        kept = {file.name: file.read_bytes() for file in mine.parent.iterdir()}
        connection.close()
        for name, content in kept.items():
            if not name.endswith("-shm"):
                (mine.parent / name).write_bytes(content)
    before = looks(mine.parent)
    names = {file.name for file in mine.parent.iterdir()}
    copy(mine, tmp_path / "copy.db")
    assert looks(mine.parent) == before
    assert {file.name for file in mine.parent.iterdir()} == names
    assert rows(tmp_path / "copy.db") == [1, 2]
    connection.close()


@pytest.mark.parametrize("state", ["in use", "left with its log"])
def test_a_link_to_a_database_is_copied_with_the_log_beside_the_database(
    tmp_path: Path, mine: Path, state: str
) -> None:
    connection = made(mine, "wal")
    if state == "left with its log":
        kept = {tail: mine.with_name(mine.name + tail).read_bytes() for tail in ("", "-wal")}
        connection.close()
        for tail, content in kept.items():
            mine.with_name(mine.name + tail).write_bytes(content)
    (tmp_path / "link.db").symlink_to(mine)
    copy(tmp_path / "link.db", tmp_path / "copy.db")
    assert rows(tmp_path / "copy.db") == [1, 2]
    connection.close()


def test_a_transaction_that_was_cut_short_is_told_apart_from_damage(
    tmp_path: Path, mine: Path
) -> None:
    connection = made(mine, "delete")
    connection.execute("PRAGMA cache_size = 1")
    connection.execute("BEGIN")
    connection.execute("INSERT INTO a SELECT n + 2 FROM a, json_each(?)", [str([0] * 9000)])
    (tmp_path / "cut").mkdir()
    for tail in ("", "-journal"):
        content = mine.with_name(mine.name + tail).read_bytes()
        (tmp_path / "cut" / f"cut.db{tail}").write_bytes(content)
    connection.close()
    before = looks(tmp_path / "cut")
    with pytest.raises(NotCopied, match=r"cut short, and cut\.db-journal has what undoes it"):
        copy(tmp_path / "cut" / "cut.db", tmp_path / "copy.db")
    assert looks(tmp_path / "cut") == before


def test_a_damaged_database_is_told_before_anything_runs_on_it(tmp_path: Path, mine: Path) -> None:
    made(mine, "delete").close()
    content = bytearray(mine.read_bytes())
    content[4096:] = b"\xff" * (len(content) - 4096)
    mine.write_bytes(content)
    with pytest.raises(NotCopied, match="damaged"):
        copy(mine, tmp_path / "copy.db")


def test_a_locked_database_is_a_sentence(
    tmp_path: Path, mine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workloads.scenarios.own_database.WAIT_S", 0.0)
    connection = made(mine, "delete")
    connection.execute("BEGIN EXCLUSIVE")
    with pytest.raises(NotCopied, match="Somebody has it locked"):
        copy(mine, tmp_path / "copy.db")
    connection.close()


def test_what_is_no_database_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "text.db").write_text("no database, and long enough to be one")
    (tmp_path / "empty.db").touch()
    os.mkfifo(tmp_path / "pipe.db")
    for name, why in [
        ("text.db", "no database"),
        ("empty.db", "empty"),
        ("no.db", "cannot be read"),
        ("pipe.db", "is a pipe or a device and no file"),
    ]:
        with pytest.raises(PlanError, match=why):
            with_texts({"from_db": str(tmp_path / name)})


def test_a_server_opens_no_database_of_somebody_elses(mine: Path) -> None:
    made(mine, "delete").close()
    with pytest.raises(PlanError, match="null opens no database of SQLite's format"):
        make_plan(
            scenario="sql",
            database="null",
            params={"tx": ["t.sql\nSELECT 1"], "from_db": str(mine)},
        )
