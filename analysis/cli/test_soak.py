"""`cwkit soak` says what is new, what is known, and the command that repeats a round."""

from __future__ import annotations

import json
import re
import shlex
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from analysis.cli import entry as cli
from properties.soaks import Found, read_soak
from properties.soaks import soaking as going
from properties.soaks.folder import LINES
from workloads.errors import EngineMissing
from workloads.processes import fault_library

try:
    fault_library()
except EngineMissing as reason:
    pytestmark = pytest.mark.skip(reason=str(reason))

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def cwkit(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> Command:
    """Runs a command where it may write: its status, its standard output, its standard error."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")

    def command(*argv: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["cwkit", *map(str, argv)])
        with pytest.raises(SystemExit) as left:
            cli.main()
        out, err = capfd.readouterr()
        return int(left.value.code or 0), out, err

    return command


def folder_with(tmp_path: Path, *lines: dict[str, object]) -> Path:
    """A soak that is over, with these rounds."""
    folder = tmp_path / "runs" / "one"
    folder.mkdir(parents=True)
    design = {"cwkit": 1, "seed": 7, "engines": ["turso"], "asked_s": 60, "seconds": 3,
              "ended": "done", "rounds": len(lines)}  # fmt: skip
    (folder / "soak.json").write_text(json.dumps(design), encoding="utf-8")
    head = {"kind": "fault", "engine": "turso", "mode": "immediate", "scenario": "ledger",
            "seed": 3, "rules": ["sync:*-log:4:EIO"]}  # fmt: skip
    text = "".join(f"{json.dumps(head | {'number': n} | one)}\n" for n, one in enumerate(lines))
    (folder / LINES).write_text(text, encoding="utf-8")
    return folder


KEPT = {"kind": "doubled", "sentence": "it is there", "known": "a refused COMMIT that is kept"}
LOST = {"kind": "lost", "sentence": "one is gone"}


@pytest.mark.parametrize(("found", "status"), [([KEPT], 0), ([LOST], 1), ([KEPT, LOST], 1)])
def test_the_status_counts_what_is_new_alone(
    found: list[dict[str, str]], status: int, cwkit: Command, tmp_path: Path
) -> None:
    folder = folder_with(tmp_path, {}, {"findings": found})
    told, out, _ = cwkit("soak", "--into", folder, "--minutes", 0.0001)
    assert told == status
    assert ("LOST  round 1" in out) is (LOST in found) and "DOUBLED" not in out
    assert ("known  a refused COMMIT that is kept, 1 round:" in out) is (KEPT in found)
    assert ("\n    cwkit run --scenario ledger --database turso" in out) is (KEPT in found)
    assert ("Nothing new was found." in out) is (status == 0)
    again = "cwkit soak --seed 7 --engines turso --seconds 3 --only-round 1 --fault"
    assert (again in out) is (LOST in found)
    assert ("known: 1" in cwkit("list")[1]) is (KEPT in found)


def test_the_command_that_is_told_with_a_finding_finds_it_again(
    cwkit: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(going, "findings_of", lambda *told: [Found("lost", "planted")])
    status, out, _ = cwkit(
        "soak", "--engines", "sqlite", "--minutes", 1, "--rounds", 2, "--seconds", 0.2
    )
    assert status == 1
    *_, command = re.findall(r"^    (cwkit soak .*?)(?: \(on a new.*)?$", out, re.MULTILINE)
    status, out, _ = cwkit(*shlex.split(command)[1:])
    assert status == 1 and "LOST  round 1, sqlite" in out and "--only-round" not in out
    (folder,) = (tmp_path / "runs").glob("*-round-1")
    assert [one.number for one in read_soak(folder).rounds] == [1]
    status, _, said = cwkit("soak", "--publish", folder, "--published", tmp_path / "kept")
    assert status == 2 and "is one round of a soak alone" in said


@pytest.mark.parametrize(
    ("given", "why"),
    [
        (("--fault", "sync:*:1:EIO"), "Give its number with --only-round"),
        (("--only-round", 3, "--hours", 2), "--only-round takes no --hours"),
        (("--only-round", -1), "--only-round: from 0"),
        (("--only-round", 3, "--fault", "nonsense"), "CALL:FILE:N:WHAT"),
    ],
)
def test_what_is_no_round_is_refused_in_a_sentence(
    given: tuple[object, ...], why: str, cwkit: Command
) -> None:
    status, out, said = cwkit("soak", "--engines", "sqlite", *given)
    assert (status, out) == (2, "") and why in said
