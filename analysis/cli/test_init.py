"""`cwkit init`: what it writes runs as it is, and it overwrites nothing."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from analysis.cli import main
from analysis.cli.init import FILES

Typed = Callable[..., tuple[int, str, str]]


@pytest.fixture
def typed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Typed:
    """Types a line in an empty folder: its status and what it says on both streams."""
    monkeypatch.chdir(tmp_path)

    def type_it(line: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", shlex.split(line))
        try:
            main()
            status = 0
        except SystemExit as left:
            status = int(left.code or 0)
        return status, *capfd.readouterr()

    return type_it


def printed(typed: Typed, *folder: str) -> list[str]:
    """The commands that `cwkit init` prints."""
    status, out, err = typed(shlex.join(["cwkit", "init", *folder]))
    assert (status, err) == (0, "")
    return [line.strip() for line in out.splitlines() if line.startswith("  cwkit ")]


def test_the_commands_that_it_prints_run(typed: Typed) -> None:
    run, sweep = printed(typed, "a folder/shop")
    status, out, err = typed(f"{run} --duration 0.2 --warmup 0")
    assert status == 0, out + err
    assert out.count("ok      a folder/shop/check.sql, line") == 4
    status, out, err = typed(f"{sweep} --blocks 1 --duration 0.05 --dry-run")
    assert status == 0 and "7 arms in 1 block" in out, out + err


@pytest.mark.slow
def test_the_sweep_that_it_prints_runs(typed: Typed) -> None:
    _, sweep = printed(typed)
    status, out, err = typed(f"{sweep} --blocks 1 --duration 0.2 --foreign-limit 1")
    assert status == 0 and "7 of 7 cells" in out, out + err


@pytest.mark.parametrize(
    ("engine", "seen"),
    [("faulty-lost-commit", "SELECT n, "), ("faulty-double-write", "SELECT item.id, item.sold")],
)
def test_its_check_sees_what_an_engine_gets_wrong(typed: Typed, engine: str, seen: str) -> None:
    run, _ = printed(typed)
    status, out, err = typed(f"{run} --database {engine} --transactions 99 --warmup 0")
    (broken,) = [part for part in out.split("\nBROKEN  ")[1:] if part.startswith("check.sql")]
    assert status == 1 and seen in broken, out + err


@pytest.mark.parametrize("name", FILES)
def test_nothing_is_overwritten_and_then_nothing_is_written(typed: Typed, name: str) -> None:
    Path("mine").mkdir()
    Path("mine", name).symlink_to("nowhere")
    status, out, err = typed("cwkit init mine")
    assert (status, out) == (2, "") and len(err.splitlines()) <= 2
    assert f"mine/{name} is there already" in err
    assert os.listdir("mine") == [name]


def test_a_folder_that_cannot_be_is_told_in_a_sentence(typed: Typed) -> None:
    Path("file").write_text("", encoding="utf-8")
    for folder in ("file", "file/below", "n" * 300, "/proc/cwkit"):
        status, out, err = typed(f"cwkit init {folder}")
        assert (status, out) == (2, "") and len(err.splitlines()) == 1, err
        assert ("File name too long" if len(folder) > 255 else "cannot be written") in err


def test_where_one_file_cannot_be_written_none_is_left(
    typed: Typed, monkeypatch: pytest.MonkeyPatch
) -> None:
    from analysis.cli import init

    Path("starter").mkdir()
    for name in FILES[:-1]:
        Path("starter", name).write_text("", encoding="utf-8")
    monkeypatch.setattr(init, "STARTER", Path("starter").absolute())
    assert typed("cwkit init mine")[0] == 2
    assert os.listdir("mine") == []
