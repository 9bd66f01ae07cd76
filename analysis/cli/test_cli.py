"""Bad input on the command line: one sentence, by the name that was typed, and status 2."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from analysis.cli.entry import main
from analysis.synthetic import drawn_run, write_folder

ROOT = Path(__file__).resolve().parents[2]


def refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    monkeypatch.setattr(sys, "argv", ["cwkit", *argv])
    with pytest.raises(SystemExit) as left:
        main()
    assert left.value.code == 2
    err = capsys.readouterr().err
    assert err.startswith("cwkit: ") and err.count("\n") == 1
    return err


@pytest.mark.parametrize(
    ("argv", "starts"),
    [
        (["--duration", "-1"], "--duration: "),
        (["--retry-base-us=0"], "--retry-base-us: "),
        (["--retry", "often"], "--retry: "),
        (["--rows", "-5"], "Scenario 'bank': --rows: "),
        (["--set", "rows=-5"], "Scenario 'bank': rows: "),
    ],
)
def test_a_complaint_names_what_was_typed(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    argv: list[str],
    starts: str,
) -> None:
    assert refused(monkeypatch, capsys, "run", *argv).startswith(f"cwkit: {starts}")


SEEDED = {
    "run": (),
    "search": ("--slo", "p99 < 1s"),
    "sweep": ("writers", "--dry-run"),
    "report": ("--quick",),
}


@pytest.mark.parametrize("command", list(SEEDED))
@pytest.mark.parametrize("seed", ["-1", str(2**63)])
def test_a_seed_that_is_none_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    command: str,
    seed: str,
) -> None:
    runs = tmp_path / "runs"
    monkeypatch.chdir(ROOT)
    argv = (command, *SEEDED[command], "--runs", str(runs), "--seed", seed)
    assert refused(monkeypatch, capsys, *argv).startswith("cwkit: --seed")
    assert not runs.exists()


def test_each_mistake_of_a_sweeps_file_is_a_line_and_the_status_is_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file = tmp_path / "s.toml"
    file.write_text('qestion = "?"\n[plan]\n"a\\nb\\u001b" = 1\n', encoding="utf-8")
    monkeypatch.setattr(sys, "argv", ["cwkit", "sweep", str(file), "--dry-run"])
    with pytest.raises(SystemExit) as left:
        main()
    assert left.value.code == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 3 and all(line.startswith("cwkit: ") for line in lines)
    assert "question is missing" in lines[0] and "Did you mean 'question'?" in lines[1]
    assert lines[2].isprintable()


NO_NAMES = ("*", "*x", "[", "[a-", "**/*", "x" * 300, "/".join(["x"] * 3000), "a:b", ":", "nobody")
NAMING: dict[str, list[str]] = {
    "show": ["show"],
    "export": ["export"],
    "conflicts": ["conflicts"],
    "scaling": ["scaling"],
    "compare": ["compare", "also-none"],
}


@pytest.mark.parametrize("command", list(NAMING))
@pytest.mark.parametrize("name", NO_NAMES)
def test_a_name_is_no_pattern_and_may_be_any_text(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    command: str,
    name: str,
) -> None:
    (tmp_path / "runs" / "one" / "two").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert len(refused(monkeypatch, capsys, *NAMING[command], name)) < 300


def test_a_path_that_cannot_be_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    write_folder(drawn_run(1), tmp_path / "run")
    monkeypatch.chdir(tmp_path)
    for argv in (
        ("list", "--runs", "x" * 300),
        ("export", "run", "--out", ""),
        ("export", "run", "--out", "x" * 300),
        ("sweep", "x" * 300, "--dry-run"),
        ("report", "--only-write", "--into", "x" * 300),
        ("report", "--only-write", "--into", "run", "--sweep", "x" * 300),
        ("search", "--into", "x" * 300),
        ("compare", "run", "x" * 300),
        ("check", "x" * 300),
        ("check", "history", "--model", "nobody"),
    ):
        refused(monkeypatch, capsys, *argv)


@pytest.mark.parametrize("command", ["report", "export"])
def test_a_folder_in_the_place_of_a_file_is_refused_before_anything_is_run(
    command: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    write_folder(drawn_run(1, per_s=80, seconds=0.3, writers=1, engine="null"), tmp_path / "one")
    name = ["one"] if command == "export" else []
    argv = [command, *name, "--runs", str(tmp_path), "--out=/"]
    assert "/: " in refused(monkeypatch, capsys, *argv)
    assert [path.name for path in tmp_path.iterdir()] == ["one"]
