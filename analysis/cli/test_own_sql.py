"""`cwkit run` with one's own SQL, from the files to the exit status."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest

FILES = {
    "schema.sql": "CREATE TABLE a(id INTEGER PRIMARY KEY, n INT);\nINSERT INTO a VALUES (1, 0);",
    "add.sql": "BEGIN;\nSELECT n FROM a \\gset\nUPDATE a SET n = :n + 1;\nEND;",
    "check.sql": "SELECT n, :changed FROM a WHERE n NOT BETWEEN :changed AND :changed + :unknown;",
}  # fmt: skip
OPTIONS = ("--schema", "schema.sql", "--tx", "add.sql", "--check", "check.sql", "--warmup", "0")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, text in FILES.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(cwkit: Any, *options: str) -> Any:
    return cwkit("run", *OPTIONS, "--writers", "2", "--transactions", "200", *options)


def test_own_scripts_run_and_are_checked_and_are_shown_without_their_files(
    cwkit: Any, here: Path
) -> None:
    ran = run(cwkit, "--database", "sqlite")
    assert ran.returncode == 0, ran.stderr
    assert "ok      check.sql, line 1: no row" in ran.stdout
    for name in FILES:
        (here / name).unlink()
    shown = cwkit("show", "runs/" + next((here / "runs").iterdir()).name)
    assert "tx add.sql" in shown.stdout
    assert "ok      check.sql, line 1: no row" in shown.stdout
    assert "UPDATE a" not in shown.stdout


def test_a_run_on_a_copy_leaves_the_database_as_it_is(cwkit: Any, here: Path) -> None:
    with sqlite3.connect(here / "mine.db") as connection:
        connection.executescript(FILES["schema.sql"])
    connection.close()
    before = (here / "mine.db").read_bytes()
    ran = cwkit("run", "--from", "mine.db", *OPTIONS[2:], "--transactions", "50", "--writers", "1")
    assert ran.returncode == 0, ran.stderr + ran.stdout
    assert "ok      check.sql, line 1: no row: SELECT n, 50 FROM a" in ran.stdout
    assert (here / "mine.db").read_bytes() == before


def test_a_check_that_answers_rows_is_not_well(cwkit: Any, here: Path) -> None:
    slowly = ("--think-us", "500", "--think", "sleep")  # so that the writers meet on any machine
    ran = run(cwkit, "--database", "faulty-lost-update", *slowly)
    assert ran.returncode == 1
    assert "BROKEN  check.sql, line 1: 1 row where none may be" in ran.stdout


def test_a_search_takes_ones_own_sql_and_keeps_its_texts(
    cwkit: Any, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(folder: Path, **how: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr("analysis.search.run_search", interrupted)
    found = cwkit("search", "--slo", "p99 < 10ms", *OPTIONS[:-2], "--database", "sqlite")
    assert "the search goes on with" in found.stderr
    (folder,) = (here / "runs").iterdir()
    plan = json.loads((folder / "search.json").read_text())["plan"]
    assert plan["scenario"] == "sql" and plan["params"]["tx"] == [f"add.sql\n{FILES['add.sql']}"]
    wrong = cwkit("search", "--slo", "p99 < 10ms", "--schema", "schema.sql", "--tx", "no.sql")
    assert wrong.returncode == 2 and "no.sql: cannot be read" in wrong.stderr


@pytest.mark.slow
def test_a_search_finds_the_rate_of_ones_own_sql(cwkit: Any, here: Path) -> None:
    found = cwkit("search", "--slo", "p90 < 100ms", *OPTIONS[:-2], "--database", "sqlite",
                  "--writers", "1", "--duration", "0.3", "--repeats", "1", "--step", "2",
                  "--longest", "1", "--foreign-limit", "1")  # fmt: skip
    assert found.returncode == 0 and "met up to" in found.stdout, found.stderr


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--tx", "missing.sql"), "missing.sql: cannot be read (No such file or directory)."),
        (
            ("--tx", "schema.sql", "--scenario", "queue"),
            "this is for --scenario sql, and queue was",
        ),
        (("--set", "tx=add.sql"), "tx"),
        (("--tx", "add.sql", "--check", ""), "--check: the name of its file is empty."),
    ],
)
def test_bad_input_is_a_sentence_and_leaves_nothing(
    cwkit: Any, here: Path, options: tuple[str, ...], sentence: str
) -> None:
    ran = cwkit("run", *OPTIONS[:2], *options)
    assert ran.returncode == 2
    assert sentence in ran.stderr
    assert "Traceback" not in ran.stderr
    assert not (here / "runs").exists()
