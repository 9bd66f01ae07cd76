"""Text that somebody else wrote is shown on the terminal, and never acts there."""

from __future__ import annotations

import io
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from rich.console import Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from analysis.cli.streams import guarded
from analysis.cli.terminal import Terminal, one_line
from analysis.cli.test_forged import change, made_sweep, run_cwkit
from analysis.cli.test_forged import home as home
from analysis.synthetic import drawn_run, edit, write_folder
from workloads.experiments import Cell, write_cell
from workloads.files import visible
from workloads.records import Run

ROOT = Path(__file__).resolve().parents[2]
HOSTILE = "\x1b[2J\x1b]0;owned\x07\x9b31m\rall is well\0\x7f\u202e\u200b[bold]x[/bold]:smile:"
HOSTILE += "\nok  forged: yes"
"""Clears the screen, names the window, overwrites its line, turns its direction, forges a line."""

SHOWN = visible(HOSTILE)
RAW = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e]")


def hostile_run(seed: int = 1, writers: int = 2) -> Run:
    """A run with such text wherever a run has words that are no names."""
    made = drawn_run(seed, writers=writers, engine="null", abort=0.2)
    for worker in made.workers:
        worker.entry.state, worker.entry.account = "died", HOSTILE
        worker.entry.pragmas = {"journal_mode": HOSTILE}
    identity = dict.fromkeys(("binding", "version", "source_id"), HOSTILE)
    edit(
        made.manifest,
        ok=False,
        ended=HOSTILE,
        command=HOSTILE,
        findings=[{"check": HOSTILE, "ok": False, "sentence": HOSTILE, "evidence": {}}],
        machine={"cpu": HOSTILE, "kernel": HOSTILE},
        engines={"null": identity | {"options": [HOSTILE]}},
    )
    return made


def written(run: Run, folder: Path) -> Path:
    write_folder(run, folder)
    for path in folder.glob("*.messages.jsonl"):
        path.write_text(f"{json.dumps(HOSTILE)}\n" * 2, encoding="utf-8")
    return folder


@pytest.fixture
def hostile(home: Path) -> Path:
    """Run, sweep, report and search in whose folders such text is, below `runs`."""
    runs = home / "runs"
    shutil.rmtree(runs / "forged")
    (home / "tiny.toml").write_text(
        (home / "tiny.toml").read_text().replace('"Does it run?"', json.dumps(HOSTILE)),
        encoding="utf-8",
    )
    made_sweep(runs / "forged", blocks=2)
    first = runs / "forged" / "b00-writers-1"
    shutil.rmtree(first)
    written(hostile_run(writers=1), first)
    write_cell(runs / "forged", Cell(1, "writers 2", "failed", HOSTILE, None))
    change(runs / "forged" / "sweep.json", skipped=[{"arm": HOSTILE, "why": HOSTILE}])
    written(hostile_run(), runs / "hostile")
    (runs / "broken").mkdir()
    (runs / "broken" / "manifest.json").write_text(json.dumps({HOSTILE: 1}), encoding="utf-8")
    return home


COMMANDS: dict[str, list[str]] = {
    "list": ["list"],
    "show a run": ["show", "hostile"],
    "show a sweep": ["show", "forged"],
    "show what is broken": ["show", "broken"],
    "compare": ["compare", "runs/forged"],
    "compare runs": ["compare", "hostile", "runs/sound/b00-writers-2"],
    "compare for a program": ["compare", "runs/forged", "--json"],
    "conflicts": ["conflicts", "hostile"],
    "scaling": ["scaling", "forged"],
    "dry run": ["sweep", "tiny.toml", "--dry-run", "--blocks", "2"],
    "go on": ["sweep", "tiny.toml", "--blocks", "2"],
    "an arm that is none": ["sweep", "tiny.toml", "--again", HOSTILE.replace("\0", "")],
    "a run that is none": ["show", HOSTILE.replace("\0", "")],
    "an option that is none": ["show", f"--{HOSTILE}".replace("\0", "")],
    "a number that is none": ["run", "--duration", HOSTILE.replace("\0", "")],
    "a command that is none": [HOSTILE.replace("\0", "")],
}


@pytest.mark.parametrize("command", list(COMMANDS))
def test_no_command_prints_what_acts(
    hostile: Path, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    status, out, err = run_cwkit(capsys, COMMANDS[command])
    assert status in (0, 1, 2, 3), err
    for text in (out, err):
        assert not RAW.search(text.replace("\n", "")), repr(text)
        assert "\nok  forged" not in text and "\ud83d\ude04" not in text
    if status == 2:
        assert len([line for line in err.splitlines() if line.startswith("cwkit: ")]) <= 1


def test_what_was_written_is_seen_whole(hostile: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = run_cwkit(capsys, ["show", "hostile"])
    assert "".join(SHOWN.split()) in "".join(out.split())


def shown(renderable: Any, **how: Any) -> str:
    terminal = Terminal(file=io.StringIO(), force_terminal=True, width=300, **how)
    terminal.print(renderable)
    return terminal.file.getvalue()  # type: ignore[attr-defined]


def test_tables_lines_and_texts_are_shown_on_a_terminal_with_our_styles_alone() -> None:
    table = Table(title=HOSTILE, caption=HOSTILE)
    table.add_column(HOSTILE, footer=HOSTILE)
    table.add_row(HOSTILE, style="bold")
    for one in (HOSTILE, table, Text(HOSTILE), one_line(HOSTILE, "bold red"), Group(HOSTILE)):
        text = shown(one)
        ours = re.sub("\x1b\\[[0-9;]*m", "", text)  # colours and weights, which are ours
        assert not RAW.search(ours) and "[2J" in ours and "[bold]x[/bold]" in ours
    assert "\x1b[1;31m" in shown(one_line("ours", "bold red"))


def test_a_table_is_laid_out_by_what_is_seen() -> None:
    table = Table(box=None, pad_edge=False)
    table.add_column("a")
    table.add_column("b")
    table.add_row("\x1b", "one")
    table.add_row("x", "two")
    lines = shown(table, color_system=None).splitlines()
    assert lines[1].index("one") == lines[2].index("two") >= len("\\x1b")


def test_live_lines_are_guarded_too() -> None:
    terminal = Terminal(file=io.StringIO(), force_terminal=True, width=300, color_system=None)
    with Live(one_line(HOSTILE), console=terminal, auto_refresh=False) as live:
        live.update(Text(HOSTILE), refresh=True)
    text = terminal.file.getvalue()  # type: ignore[attr-defined]
    assert "\x1b[2J" not in text and "\x07" not in text and "\\x1b[2J" in text


def test_whatever_is_printed_meanwhile_is_guarded(capsys: pytest.CaptureFixture[str]) -> None:
    before = sys.stdout
    with guarded():
        print(HOSTILE)
        sys.stderr.writelines([HOSTILE, "\n"])
        Terminal().print(Text("ours", style="bold"))
    assert sys.stdout is before
    out, err = capsys.readouterr()
    assert not RAW.search(out.replace("\n", "")) and not RAW.search(err.replace("\n", ""))
    assert out.endswith("ours\n")


def test_help_and_complaints_are_text_as_they_are_written() -> None:
    command = [sys.executable, "-m", "analysis.cli"]
    made = subprocess.run([*command, "list", "--help"], capture_output=True, timeout=60)
    assert made.stdout.startswith(b"Usage: ") and b"\n\n  The runs, sweeps" in made.stdout
    result = subprocess.run([*command, "list", "--nonsense"], capture_output=True, timeout=60)
    assert result.stderr.startswith(b"Usage: ") and b"\nError: No such option: " in result.stderr
    with guarded(), pytest.raises(TypeError):  # click asks a stream so whether it takes bytes
        sys.stdout.write(b"")  # type: ignore[arg-type]


def test_every_console_of_ours_is_the_guarded_one() -> None:
    for path in (ROOT / "analysis").rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        if path.name != "terminal.py" and not path.name.startswith("test_"):
            assert not re.search(r"(?<!\w)(Console|Text)\(", text), path
