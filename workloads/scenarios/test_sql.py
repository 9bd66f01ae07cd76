"""One's own SQL: scripts run as they say, are tried again alike, and are checked afterwards."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from workloads.engines import find_engine
from workloads.errors import PlanError
from workloads.records import COMMIT, STATEMENT
from workloads.runs import make_plan
from workloads.scenarios import ScenarioFailed, WorkerContext, named, pgbench, with_texts
from workloads.scenarios.sql import Sql, SqlShape

SCHEMA = "schema.sql\nCREATE TABLE a(id INTEGER PRIMARY KEY, n);\nINSERT INTO a VALUES (1, :first);"
MOVE = "\\set n random(1, 1000000)\nBEGIN;\nUPDATE a SET n = n + :n WHERE id = 1;\nEND;"


def sql(*scripts: str, **params: Any) -> Sql:
    given = {"schema_sql": SCHEMA, "define": ("first=5",), **params}
    return Sql(SqlShape(tx=tuple(f"t{i}.sql\n{text}" for i, text in enumerate(scripts)), **given))


class Worker:
    """One worker of a scenario on SQLite, step by step."""

    def __init__(self, made: Sql, path: Path, begin: str = "immediate", seed: int = 7) -> None:
        self.real = find_engine("sqlite").connect(str(path), begin=begin)
        if (
            not path.exists()
            or not path.stat().st_size
            or not self.real.rows("SELECT 1 FROM sqlite_master")
        ):
            for statement in made.schema():
                self.real.run(statement)
            made.load(self.real, None)  # type: ignore[arg-type]
        self.session: Any = made.session(self.real)
        self.context = WorkerContext("writer", 0, 1, 0, (seed,), session=self.session)
        self.draw, self.bodies = made.draw(self.context), made.bodies(self.context)

    def attempt(self, draw: Any) -> Any:
        self.session.begin()
        result = self.bodies[draw.kind](draw.args)
        self.session.commit()
        return result

    def n(self) -> Any:
        return self.real.rows("SELECT n FROM a WHERE id = 1")[0][0]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "own.db"
    file.touch()
    return file


def test_a_retry_runs_the_whole_script_with_the_same_variables(path: Path) -> None:
    worker = Worker(
        sql(f"{MOVE[:-4]}\\set m random(1, 1000000)\nUPDATE a SET n = n + :m;\nEND;"), path
    )
    draw = worker.draw()
    seen = []
    for _ in range(3):
        worker.session.begin()
        worker.bodies[0](draw.args)
        seen.append(worker.n())
        worker.real.rollback()
    assert len(set(seen)) == 1
    assert seen[0] > 5
    worker.attempt(worker.draw())
    assert worker.n() not in seen


def test_the_same_seed_draws_the_same_transactions() -> None:
    def drawn(seed: int, worker: int = 0) -> list[Any]:
        made = sql(MOVE, "SELECT 1")
        draw = made.draw(WorkerContext("writer", 0, 1, worker, (seed, 0, worker)))
        return [draw() for _ in range(20)]

    assert drawn(1) == drawn(1)
    assert drawn(1) != drawn(2)
    assert drawn(1) != drawn(1, worker=1)


def test_weights_decide_how_often_a_script_is_drawn() -> None:
    made = Sql(SqlShape(tx=("a.sql@9\nSELECT 1", "b.sql\nSELECT 2", "c.sql:reader\nSELECT 3")))
    draw = made.draw(WorkerContext("writer", 0, 1, 0, (7,)))
    kinds = [draw().kind for _ in range(2000)]
    assert set(kinds) == {0, 1}
    assert 100 < kinds.count(1) < 320  # 200 are right: 8 standard deviations to each side
    reader = made.draw(WorkerContext("reader", 0, 1, 0, (7,)))
    assert {reader().kind for _ in range(20)} == {2}
    assert made.kinds == ("a", "b", "c")


def test_a_script_without_begin_commits_each_statement(path: Path) -> None:
    made = sql("UPDATE a SET n = 6;\nSELECT n FROM a \\gset\nINSERT INTO a VALUES (1, :n);")
    worker = Worker(made, path)
    other = find_engine("sqlite").connect(str(path))
    draw = worker.draw()
    worker.session.begin()
    with pytest.raises(Exception, match="UNIQUE") as raised:
        worker.bodies[0](draw.args)
    assert other.rows("SELECT n FROM a") == [(6,)]
    # Alone, it is its own COMMIT: after a lost answer nobody knows whether it was made.
    assert worker.session.phase == COMMIT
    assert not worker.session.refusal(raised.value, STATEMENT).message.startswith("ROLLBACK")
    assert made.autocommit


def test_a_script_of_several_transactions_is_one_attempt(path: Path) -> None:
    text = "BEGIN; UPDATE a SET n = 6; END;\nBEGIN; UPDATE a SET n = 7; ROLLBACK;"
    worker = Worker(sql(text), path)
    worker.attempt(worker.draw())
    assert worker.n() == 6
    assert not worker.real.in_transaction()


def test_branches_follow_what_was_read(path: Path) -> None:
    text = (
        "SELECT n FROM a WHERE id = 1 \\gset\nSELECT n FROM a WHERE id = 2 \\aset none_\n"
        "\\if :n > 6\nUPDATE a SET n = 0;\n\\elif :n > 4\nUPDATE a SET n = 10;\n\\endif\n"
        "\\set both :n > 4 and true\nUPDATE a SET n = n + 1 WHERE :both;\n"
    )
    worker = Worker(sql(text), path)
    assert worker.attempt(worker.draw()) == 1
    assert worker.n() == 11
    worker.attempt(worker.draw())
    assert worker.n() == 1


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("SELECT 1;\n\\set x 1 / 0", "t0.sql, line 2: division by zero."),
        ("\\set x 1 / 0\nSELECT 1;", "t0.sql, line 1: division by zero."),
        ("SELECT n FROM a\nWHERE id = 9\n\\gset", "t0.sql, line 1: \\gset needs one row, and"),
        ("\\if false\n\\set x 1\n\\endif\nSELECT :x;", "t0.sql, line 4: the variable :x has no"),
        ("\\if true\nBEGIN;\n\\endif\nSELECT 1;", "the script ends within a transaction"),
    ],
)  # fmt: skip
def test_what_goes_wrong_in_a_script_ends_the_run_with_its_line(
    path: Path, text: str, sentence: str
) -> None:
    worker = Worker(sql(text), path)
    with pytest.raises(ScenarioFailed) as raised:
        worker.attempt(worker.draw())
    assert sentence in str(raised.value)


def test_a_schema_that_fails_is_named_with_its_line(path: Path) -> None:
    made = sql(
        "SELECT 1", schema_sql="schema.sql\nCREATE TABLE a(id);\n\nINSERT INTO b\nVALUES (1);"
    )
    with pytest.raises(
        ScenarioFailed, match=r"schema.sql, line 3: no such table: b \(INSERT INTO b V"
    ):
        Worker(made, path)


def test_a_script_with_a_wrong_name_is_told_with_its_line_before_it_runs(path: Path) -> None:
    made = sql("SELECT 1;", "BEGIN;\nSELECT n FROM a;\nUPDATE a\nSET m = 1;\nEND;")
    with pytest.raises(ScenarioFailed, match=r"t1.sql, line 3: no such column: m \(UPDATE a SET"):
        Worker(made, path)
    made = sql("CREATE TEMP TABLE x(n); INSERT INTO x VALUES (1); DROP TABLE x")
    Worker(made, path.with_name("other.db"), "immediate")


def test_a_check_with_a_wrong_name_is_told_with_its_line_before_anything_runs(path: Path) -> None:
    wrong = "check.sql\nSELECT id FROM a WHERE n < :changed;\nSELECT m FROM a"
    with pytest.raises(ScenarioFailed, match=r"check.sql, line 2: no such column: m \(SELECT m"):
        Worker(sql(MOVE, check_sql=wrong), path)
    later = sql("CREATE TABLE IF NOT EXISTS b(n);", check_sql="check.sql\nSELECT n FROM b")
    Worker(later, path.with_name("later.db"))


def checked(made: Sql, worker: Worker, committed: int = 0) -> dict[str, Any]:
    log: Any = SimpleNamespace(committed=lambda role, kind: committed, unknown=lambda role, kind: 0)
    return {found.check: found for found in made.check(worker.real, log)}


def test_the_rows_of_a_check_are_its_evidence_and_no_row_is_well(path: Path) -> None:
    check = (
        "check.sql\nSELECT id, n FROM a WHERE n <> :first;\nSELECT :committed FROM a WHERE n < 0;"
    )
    made = sql(MOVE, check_sql=check)
    worker = Worker(made, path)
    assert all(found.ok for found in checked(made, worker).values())
    worker.real.run("UPDATE a SET n = -1")
    wrong = checked(made, worker, committed=3)
    assert [found.ok for found in wrong.values()] == [False, False]
    assert wrong["check.sql, line 1"].evidence["rows"] == [[1, -1]]
    assert "1 row where none may be: (3,)" in wrong["check.sql, line 2"].sentence


MISTAKES: dict[str, dict[str, Any]] = {
    "t0.sql, line 1: no statement begins with 'SELEC'": {"tx": ("t0.sql\nSELEC 1",)},
    "--tx a.sql@0: a weight is a whole number from 1": {"tx": ("a.sql@0\nSELECT 1",)},
    "a script is for writers or for :reader, not :raeder. Did you mean :reader?": {
        "tx": ("a.sql:raeder\nSELECT 1",)
    },
    "there is no such script. Did you mean 'tpcb-like'?": {"tx": ("tpcb-lik",)},
    "check.sql, line 1: DELETE is no query: a check only asks.": {
        "check_sql": "check.sql\nDELETE FROM a"
    },
    "check.sql, line 2: PRAGMA user_version = 5 is no query for a check. Of PRAGMAs": {
        "check_sql": "check.sql\nPRAGMA main.foreign_key_check;\nPRAGMA user_version = 5"
    },
    "check.sql, line 1: PRAGMA optimize is no query for a check.": {
        "check_sql": "check.sql\nPRAGMA optimize"
    },
    "check.sql, line 1: SELECT is no query: a check only asks.": {
        "check_sql": "check.sql\nSELECT 1 AS n INTO kept"
    },
    "check.sql, line 1: WITH is no query: a check only asks.": {
        "check_sql": "check.sql\nWITH x AS (SELECT 1) REPLACE INTO a SELECT * FROM x"
    },
    "check.sql: there is no query in it.": {"check_sql": "check.sql\n-- nothing"},
    "check.sql, line 2: the variable :frist is never set. Did you mean :first?": {
        "check_sql": "check.sql\nSELECT 1;\nSELECT :frist", "define": ("first=1",)
    },
    "schema.sql, line 1: the variable :n is never set": {"schema_sql": "schema.sql\nSELECT :n"},
    "--define 'x': give NAME=VALUE.": {"define": ("x",)},
    "--define x: it is given twice.": {"define": ("x=1", "x=2")},
}  # fmt: skip


@pytest.mark.parametrize("sentence", MISTAKES)
def test_a_mistake_is_a_sentence_before_anything_is_loaded(sentence: str) -> None:
    with pytest.raises(PlanError) as told:
        make_plan(scenario="sql", params={"tx": ["t.sql\nSELECT 1"], **MISTAKES[sentence]})
    assert sentence in str(told.value)


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"readers": 1}, "has no script for readers: give --readers 0"),
        ({"params": {"rows": 5}}, "rows says nothing to scripts of SQL: give --define"),
        (
            {"connection": "per-transaction", "params": {"tx": ["t.sql\nSELECT 1"]}},
            "keeps its connection",
        ),
        ({"begin": "autocommit"}, "needs transactions with these parameters"),
    ],
)  # fmt: skip
def test_roles_and_parameters_fit_the_scripts(values: dict[str, Any], sentence: str) -> None:
    params = {"tx": [f"t.sql\n{MOVE}"], **values.pop("params", {})}
    with pytest.raises(PlanError) as told:
        make_plan(scenario="sql", database="sqlite", params=params, **values)
    assert sentence in str(told.value)


def test_a_script_for_readers_brings_a_reader() -> None:
    def readers(*tx: str) -> int:
        return make_plan(scenario="sql", database="sqlite", params={"tx": tx}).readers

    assert (readers("tpcb-like@2", "select-only:reader"), readers("tpcb-like")) == (1, 0)


def test_files_become_texts_of_the_plan_and_stay_in_their_folder(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "a.sql").write_text("SELECT 1;")
    (tmp_path / "secret.sql").write_text("SELECT 2;")
    found = with_texts({"tx": ["a.sql@2:reader", "tpcb-like"], "scale": 3}, tmp_path / "mine")
    assert found == {"tx": ["a.sql@2:reader\nSELECT 1;", "tpcb-like"], "scale": 3}
    assert named(found["tx"]) == "a.sql@2:reader tpcb-like"
    assert with_texts(found, tmp_path) == found
    for name in ("../secret.sql", str(tmp_path / "secret.sql"), "missing.sql"):
        with pytest.raises(PlanError, match=r"leads out of the sweep's folder|cannot be read"):
            with_texts({"tx": [name]}, tmp_path / "mine")
    for weight in ("-1", "nan", "1.5", ""):
        with pytest.raises(PlanError, match="behind @ stands a weight, a whole number from 1"):
            with_texts({"tx": [f"a.sql@{weight}"]}, tmp_path / "mine")


@pytest.mark.parametrize("name", pgbench.SCRIPTS)
def test_pgbenchs_scripts_keep_its_sums(
    path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(pgbench, "ACCOUNTS", 1000)
    made = Sql(SqlShape(tx=(name,)))
    worker = Worker(made, path)
    for _ in range(5):
        draw = worker.draw()
        draw.args[0]["aid"] %= 1000
        draw.args[0]["aid"] += 1
        worker.attempt(draw)
    found = checked(made, worker, 5)
    assert found
    assert all(one.ok for one in found.values())
    if name == "select-only":
        return
    worker.real.run("UPDATE pgbench_accounts SET abalance = abalance + 1 WHERE aid = 1")
    worker.real.run("DELETE FROM pgbench_history WHERE rowid = 1")
    wrong = checked(made, worker, 5)
    assert [one.ok for one in wrong.values()][:3] == [False, True, False]


@pytest.mark.skipif(shutil.which("pgbench") is None, reason="pgbench is not here")
@pytest.mark.parametrize("name", pgbench.SCRIPTS)
def test_the_built_in_scripts_are_pgbenchs_own(name: str) -> None:
    command = ["pgbench", f"--show-script={name}"]
    shown = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    lines = (shown.stdout + shown.stderr).splitlines()
    theirs = [line for line in lines if line and not line.startswith("--")]
    assert theirs == pgbench.SCRIPTS[name].splitlines()
