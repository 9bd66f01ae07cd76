"""One's own SQL in a sweep's file: its files lie beside it, and its folder has their texts."""

from __future__ import annotations

from pathlib import Path

import pytest

from workloads.errors import PlanError
from workloads.experiments.experiment import begin, read_experiment
from workloads.experiments.sweep import read_sweep
from workloads.runs import make_plan

SWEEP = """\
question = "Which mode suits my transactions?"
blocks = 2

[plan]
scenario = "sql"
database = "sqlite"
writers = 2

[plan.params]
schema_sql = "sql/schema.sql"
tx = ["add.sql@3", "select-only:reader"]
check_sql = "check.sql"
define = ["first=1"]

[grid]
begin = ["deferred", "immediate"]
"""
FILES = {
    "sql/schema.sql": "CREATE TABLE a(n);\nINSERT INTO a VALUES (:first);",
    "add.sql": "BEGIN;\nUPDATE a SET n = n + 1;\nEND;",
    "check.sql": "SELECT n FROM a WHERE n < :first;",
}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    folder = tmp_path / "mine"
    (folder / "sql").mkdir(parents=True)
    for name, text in FILES.items():
        (folder / name).write_text(text, encoding="utf-8")
    (folder / "own.toml").write_text(SWEEP, encoding="utf-8")
    (tmp_path / "secret.sql").write_text("SELECT 1;", encoding="utf-8")
    return folder / "own.toml"


def test_a_sweep_of_own_sql_keeps_the_texts_in_its_folder(file: Path, tmp_path: Path) -> None:
    design = read_sweep(file).design
    assert set(design.arms) == {"begin deferred", "begin immediate", "begin deferred again"}
    begin(design, tmp_path / "runs" / "own")
    for path in file.parent.rglob("*.sql"):
        path.unlink()
    for values in read_experiment(tmp_path / "runs" / "own").design.arms.values():
        plan = make_plan(**values)
        assert plan.readers == 1
        assert plan.params["tx"][0] == f"add.sql@3\n{FILES['add.sql']}"
        assert plan.params["schema_sql"].endswith(FILES["sql/schema.sql"])


def test_an_axis_may_be_the_scripts(file: Path) -> None:
    file.write_text(
        SWEEP.replace('tx = ["add.sql@3", "select-only:reader"]\n', "").replace(
            'begin = ["deferred", "immediate"]', 'tx = [["add.sql"], ["add.sql@2", "tpcb-like"]]'
        )
    )
    assert list(read_sweep(file).design.arms)[:2] == ["tx add.sql", "tx add.sql@2+tpcb-like"]


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("add.sql@3", "../secret.sql", "leads out of the sweep's folder"),
        ("add.sql@3", "/etc/hostname", "leads out of the sweep's folder"),
        ("add.sql@3", "missing.sql", "cannot be read"),
        ('define = ["first=1"]', 'from_db = "../mine.db"', "leads out of the sweep's folder"),
        ('define = ["first=1"]', "", "schema.sql, line 2: the variable :first is never set"),
        ("schema_sql", "schema", "Did you mean 'schema_sql'?"),
    ],
)
def test_a_mistake_is_a_sentence_and_no_file_elsewhere_is_read(
    file: Path, old: str, new: str, sentence: str
) -> None:
    file.write_text(SWEEP.replace(old, new))
    with pytest.raises(PlanError) as told:
        read_sweep(file)
    assert sentence in str(told.value)
    assert str(told.value).startswith(str(file))
