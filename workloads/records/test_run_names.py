"""A name is compared as it was typed, and one that no run has is one sentence."""

from pathlib import Path

import pytest

from workloads.errors import RunError
from workloads.records.run_names import find_run


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    for name in ("20261122-bank-s1", "20261122-bank-s2", "20261123-report/headline/b00-now"):
        (tmp_path / "runs" / name).mkdir(parents=True)
    (tmp_path / "runs" / "bank.txt").touch()
    return tmp_path / "runs"


def test_a_run_is_found_by_its_path_its_name_or_a_part_of_it(runs: Path) -> None:
    one = runs / "20261122-bank-s1"
    assert find_run(str(one), runs) == find_run(one.name, runs) == find_run("bank-s1", runs) == one
    found = find_run("headline/b00-now", runs)
    assert found == runs / "20261123-report" / "headline" / "b00-now"


@pytest.mark.parametrize(
    "name",
    ["*s1", "[", "**", "?" * 300, "x" * 300, "x" * 5000, "/no/such/*", "a\0b", "\ud800", "..."],
    ids=repr,
)
def test_a_name_that_no_run_has_is_one_sentence(runs: Path, name: str) -> None:
    with pytest.raises(RunError, match="There is no run") as caught:
        find_run(name, runs)
    sentence = str(caught.value)
    assert "\n" not in sentence and sentence.isprintable() and len(sentence) < 400


def test_a_part_that_several_names_have_is_answered_with_them(runs: Path) -> None:
    with pytest.raises(RunError, match="2 runs fit 'bank', 20261122-bank-s1, 20261122-bank-s2"):
        find_run("bank", runs)


def test_there_is_no_run_where_there_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for runs in (tmp_path / "none", tmp_path / "file", tmp_path / ("x" * 300)):
        with pytest.raises(RunError, match="There is no run 'a'"):
            find_run("a", runs)
