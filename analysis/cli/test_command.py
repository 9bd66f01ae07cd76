"""What is the same for every command: its help, --quiet, complaints, and what a shell completes."""

from __future__ import annotations

import io
import os
import re
from pathlib import Path

import pytest

from analysis.cli.command import COMMANDS
from analysis.cli.terminal import Terminal
from analysis.cli.test_streams import RUN, Command
from analysis.cli.test_streams import cwkit as cwkit

PYTHONS = re.compile(r"<(str|int|float|bool|list|path|Path)\b|\b(INTEGER|FLOAT|BOOLEAN)\b")
"""A type of Python's, as the library writes it."""


def test_the_version_is_told(cwkit: Command) -> None:
    assert re.fullmatch(r"cwkit \d+\.\d+\.\d+\n", cwkit("--version")[1])


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_has_help_in_the_users_words_and_complains_on_standard_error(
    command: str, cwkit: Command
) -> None:
    status, text, err = cwkit(command, "-h")
    assert status == 0 and text.startswith(f"Usage: cwkit {command} ") and not err
    assert cwkit(command, "--help") == (0, text, "")
    assert not PYTHONS.search(text), text
    assert "--quiet" in text
    status, text, err = cwkit(command, "--nonsense")
    assert status == 2 and not text and "No such option: --nonsense" in err


def test_the_helps_check_knows_the_librarys_words() -> None:
    for text in ("--runs <path>", "--again <list[str]>", "--spare <int range>", "--x FLOAT RANGE"):
        assert PYTHONS.search(text)


def test_quiet_is_results_and_errors_alone(cwkit: Command) -> None:
    status, text, err = cwkit("run", *RUN, "--quiet")
    assert status == 0 and text.startswith("Run ") and not err
    assert cwkit("--quiet", "engines", "null")[2] == ""
    assert "asking null" in cwkit("engines", "null")[2]  # the next command is not quiet
    status, text, err = cwkit("show", "nothing", "-q")
    assert status == 2 and not text and err.startswith("cwkit: ")


def test_no_color_is_obeyed(monkeypatch: pytest.MonkeyPatch) -> None:
    def shown() -> str:
        terminal = Terminal(file=io.StringIO(), force_terminal=True, color_system="standard")
        terminal.print("red", style="red")
        return terminal.file.getvalue()  # type: ignore[attr-defined]

    monkeypatch.delenv("NO_COLOR", raising=False)
    assert "\x1b[31m" in shown()
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[31m" not in shown()


def test_a_shell_is_taught_and_then_completes(
    cwkit: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import shellingham

    shells = iter([("bash", "/bin/bash"), ("tcsh", "/bin/tcsh")])
    monkeypatch.setattr(shellingham, "detect_shell", lambda: next(shells))
    monkeypatch.setenv("HOME", os.fspath(tmp_path))
    status, text, _ = cwkit("--install-completion")
    script = tmp_path / ".bash_completions" / "cwkit.sh"
    assert status == 0 and text.startswith(f"{script}: bash completes")
    assert "_CWKIT_COMPLETE=complete_bash" in script.read_text()
    status, text, err = cwkit("--install-completion")
    assert status == 2 and not text and err.startswith("cwkit: --install-completion: the shell tc")

    monkeypatch.setenv("_CWKIT_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_CWORD", "1")
    monkeypatch.setenv("COMP_WORDS", "cwkit s")
    assert cwkit()[1].split() == [name for name in COMMANDS if name.startswith("s")]
    monkeypatch.setenv("COMP_CWORD", "2")
    monkeypatch.setenv("COMP_WORDS", "cwkit run --wr")
    assert cwkit()[1].split() == ["--writers", "--write-engine"]
