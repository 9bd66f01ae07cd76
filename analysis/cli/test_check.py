"""`cwkit check`: exit statuses, one line of JSON a history, and bad input in one sentence."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from analysis.cli.check import run_check
from properties.checker.catalogue import CATALOGUE
from properties.checker.examples import parse
from workloads.records import HISTORY_FILE
from workloads.records.elle import write_history
from workloads.runs import Plan

SKEW, FINE = CATALOGUE["G2-item"].example, ("a 0-1 ok append:x:1", "b 2-3 ok r:x:[1]")


@pytest.fixture
def files(tmp_path: Path) -> Path:
    write_history(parse(SKEW, "list-append"), tmp_path / "skew.jsonl")
    write_history(parse(FINE, "list-append"), tmp_path / "fine.edn")
    (tmp_path / "empty.jsonl").write_text("")
    return tmp_path


def run(*args: object, **options: object) -> tuple[int, str]:
    out = io.StringIO()
    return run_check(list(args), out=out, **options), out.getvalue()  # type: ignore[arg-type]


def test_exit_statuses(files: Path) -> None:
    assert run(files / "fine.edn")[0] == 0
    assert run(files / "skew.jsonl")[0] == 1
    assert run(files / "skew.jsonl", level="snapshot-isolation")[0] == 0
    assert run(files / "empty.jsonl")[0] == 3
    assert run(files)[0] == 1
    assert run(files / "none.jsonl")[0] == 2


def test_a_history_cut_between_its_lines_says_what_has_no_end(files: Path) -> None:
    assert "nobody knows" not in run(files / "skew.jsonl")[1]
    cut = files / "cut.edn"
    write_history(parse(SKEW, "list-append"), cut)
    cut.write_text("".join(cut.read_text().splitlines(keepends=True)[:-1]))
    text = run(cut)[1]
    assert "cut.edn (2 transactions, 1 of which nobody knows how they ended): " in text


def test_what_lies_beside_histories_is_skipped_and_said(
    files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (files / "skew.jsonl").unlink()
    (files / "expected.json").write_text('{"levels": {"serializable": true}}')
    (files / "numbers.npz").write_bytes(b"PK")
    status, text = run(files)
    assert status == 3  # of the empty one: nothing that is a history is violated
    assert f"skipped: {files / 'expected.json'}" in text
    assert f"skipped: {files / 'numbers.npz'}" in text
    assert "fine.edn (2 transactions): valid" in text
    # Programs read standard output: every line there is a verdict.
    status, text = run(files, as_json=True)
    assert [Path(json.loads(x)["file"]).name for x in text.splitlines()] == [
        "empty.jsonl",
        "fine.edn",
    ]
    assert "skipped" in capsys.readouterr().err
    # Named, it is what was asked for; the others are judged all the same.
    status, text = run(files / "expected.json", files / "fine.edn")
    assert status == 2
    assert "expected.json line 1: not an operation map" in text
    assert "fine.edn (2 transactions): valid" in text


def test_a_folder_without_anything_to_read_is_bad_input(tmp_path: Path) -> None:
    (tmp_path / "expected.json").write_text("{}")
    status, text = run(tmp_path)
    assert status == 2
    assert text.splitlines()[-1].endswith(
        "no history (.edn, .json, .jsonl, .npz) that can be read."
    )


def test_json_is_one_line_for_each_history(files: Path) -> None:
    status, text = run(files, as_json=True)
    lines = [json.loads(line) for line in text.splitlines()]
    assert status == 1
    assert [(Path(x["file"]).name, x["valid"]) for x in lines] == [
        ("empty.jsonl", "unknown"),
        ("fine.edn", True),
        ("skew.jsonl", False),
    ]
    assert lines[2]["levels"]["snapshot-isolation"] is True
    assert lines[2]["levels"]["serializable"] is False
    witness = lines[2]["anomalies"]["G2-item"][0]
    assert [step["type"] for step in witness["steps"]] == ["rw", "rw"]
    assert [txn["worker"] for txn in witness["txns"]] == ["a", "b"]


def test_a_run_folder_holds_its_columnar_history(files: Path) -> None:
    window = {"start_ns": 1, "measure_ns": 1, "stop_ns": 2}
    manifest = {
        "cwkit": 1,
        "run": "r",
        "plan": Plan().model_dump(),
        "workers": [],
        "window": window,
    }
    (files / "manifest.json").write_text(json.dumps(manifest | {"ended": "duration"}))
    status, text = run(files)
    assert status == 2
    assert "recorded no history" in text
    parse(FINE, "list-append").save(files / HISTORY_FILE)
    assert run(files)[0] == 0


def test_the_drawing_is_written(files: Path) -> None:
    assert run(files / "skew.jsonl", svg_file=files / "skew.svg")[0] == 1
    assert (files / "skew.svg").read_text().startswith("<svg")
    status, text = run(files / "fine.edn", svg_file=files / "fine.svg")
    assert status == 0
    assert "no anomaly to draw" in text


BAD = {
    "level": ({"level": "serialisable"}, "did you mean serializable?"),
    "model": ({"model": "rw-registers"}, "did you mean rw-register?"),
    "drawing": ({"svg_file": "/none/such/x.svg"}, "can't be written"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_sentence_with_the_way_out(files: Path, case: str) -> None:
    options, hint = BAD[case]
    status, text = run(files / "skew.jsonl", **options)
    assert status == 2
    assert hint in text.splitlines()[-1]


def test_an_undecided_register_history_is_never_called_valid(tmp_path: Path) -> None:
    lines = ["a 0-1 ok w:x:1", "b 0-1 ok w:x:1", "c 2-3 ok r:x:1"]
    write_history(parse(lines, "rw-register"), tmp_path / "h.json")
    status, text = run(tmp_path / "h.json")
    assert status == 3
    assert "no violation found" in text
    assert "valid:" not in text


def test_the_module_is_a_command(files: Path) -> None:
    command = [sys.executable, "-m", "analysis.cli", "check", str(files / "skew.jsonl"), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    assert json.loads(done.stdout)["valid"] is False


def test_text_of_a_history_is_text_in_what_is_said_and_drawn(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    key, value = "k\x1b[2J\x00\u202e</svg>", "v\x07\x9b"
    both: list[dict[str, object]] = []
    reads: tuple[tuple[str, list[str] | None], ...] = (("invoke", None), ("ok", []))
    for kind, seen in reads:
        for process in (0, 1):
            ops = [["r", key, seen], ["append", key, f"{value}{process}"]]
            both.append({"process": process, "type": kind, "f": "txn", "value": ops})
    for kind, seen in (("invoke", None), ("ok", [f"{value}0", f"{value}1"])):
        both.append({"process": 2, "type": kind, "f": "txn", "value": [["r", key, seen]]})
    (tmp_path / "h.jsonl").write_text("".join(f"{json.dumps(op)}\n" for op in both))
    assert run_check([tmp_path / "h.jsonl"], svg_file=tmp_path / "a.svg") == 1
    text, drawn = capsys.readouterr().out, (tmp_path / "a.svg").read_text()
    assert len(ElementTree.fromstring(drawn).findall(".//{*}text")) > 5
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e]", drawn)
    assert "lost-update" in text
