"""Text that somebody else wrote is text in a report: no line of it is structure.

Each report is parsed as a reader's page would, and has the same headings, tables, links, images,
code and HTML whatever the texts in its runs are.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Callable
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
from markdown_it import MarkdownIt  # comes with rich

from analysis.report.markdown import (
    Markdown,
    address,
    alt,
    code,
    fenced,
    listed,
    markdown,
    table_cell,
)
from analysis.report.report import write_report
from analysis.synthetic import drawn_run, made_experiment, made_report_folder
from workloads.records import Run

ROOT = Path(__file__).resolve().parents[2]
PARSER = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])

TEXTS = {
    "a heading": "# Findings",
    "a heading on a line of its own": "so\n\n# Findings\n\nmore",
    "an underlined heading": "so\n===",
    "a rule": "---",
    "another rule": "***",
    "a fence": "```\n# now\n```",
    "a fence of tildes": "~~~\nnow\n~~~",
    "a long fence": "`````\nnow",
    "the end of a code span": "so ` more `` and ```",
    "HTML": "<script>alert(1)</script><img src=x onerror=alert(1)>",
    "the end of the details": "</summary></details><h1>now</h1>",
    "a comment": "<!-- the rest is hidden",
    "an image": "![x](http://evil.example/x.png)",
    "an image by reference": "![x][y]\n\n[y]: http://evil.example/x.png",
    "a link": "[the fix](http://evil.example)",
    "an address": "<http://evil.example> https://evil.example www.evil.example",
    "the end of an alternative": "a](http://evil.example/x.png) ![b",
    "more cells": "a | b | c",
    "an escaped pipe": "a \\| b \\\\| c",
    "a row": "| a | b |\n| --- | --- |\n| c | d |",
    "a list": "- one\n- two",
    "a numbered list": "1. one\n2) two",
    "a task": "[x] done",
    "a quotation": "> so it is said",
    "emphasis": "*so* **so** _so_ __so__ ~~so~~ a*b*c",
    "code": "`so` ``so``",
    "an indented block": "    so\n    and so",
    "an entity": "&lt;b&gt; &#60;b&#62; &amp;",
    "a formula": "$x$ $$y$$",
    "a backslash at the end": "so \\",
    "a break": "so  \nmore\\\nmore",
    "controls": "so\x1b[2J\0\x07\u202e\u200b",
    "a placeholder": "{} {0} {x} {{ x }} {% raw %}",
    "nothing": "",
    "blanks": "   ",
}


def shape(text: str) -> list[str]:
    """The structure of a page, without its text."""
    found = []
    for token in PARSER.parse(text):
        found.append(token.type)
        if token.type in ("html_block", "html_inline"):
            found += re.findall(r"<[/!]?\w*", token.content)
        for child in token.children or ():
            if child.type not in ("text", "softbreak"):
                found.append(f"{child.type} {child.attrGet('src') or child.attrGet('href') or ''}")
    return found


@pytest.mark.parametrize("name", list(TEXTS))
def test_text_is_one_line_of_text_wherever_it_stands(name: str) -> None:
    text = TEXTS[name]
    plain = "so" if text.strip() else text
    for place in ("{}", "- {}", "> - {}", "so {} so", "so\n{}", "**so** {}", "1. {}"):
        assert shape(place.format(Markdown.escape(text))) == shape(place.format(plain)), place
    head = "| a | b |\n| --- | --- |\n| {} | so |"
    assert shape(head.format(table_cell(text))) == shape(head.format(plain))
    assert shape(head.format(table_cell(code(text)))) == shape(head.format(code(plain)))
    assert shape(f"![{alt(text)}](x.svg)") == shape(f"![{plain}](x.svg)")
    assert shape(f"so {code(text)} so") == shape(f"so {code(plain)} so")
    assert shape(f"{fenced(text)}\n\nso") == shape(f"{fenced('so')}\n\nso")


@pytest.mark.parametrize("name", list(TEXTS))
def test_text_is_seen_as_it_is(name: str) -> None:
    from workloads.files import visible

    text = TEXTS[name]
    (inline,) = [t for t in PARSER.parse(f"x {Markdown.escape(text)} x") if t.type == "inline"]
    seen = "".join(child.content for child in inline.children or ())
    assert seen.split() == ["x", *visible(text, keep="\n").split(), "x"]


def test_pieces_are_escaped_and_markdown_is_not() -> None:
    made = markdown("**{}**: {} and {}", "a*b", code("c"), markdown("_{}_", "d"))
    assert str(made) == "**a\\*b**: `c` and _d_"
    assert str(listed(["a*", code("b"), "c"])) == "a\\*, `b` and c"
    assert str(Markdown("; ").join(["*", code("b")])) == "\\*; `b`"


# --- whole reports ----------------------------------------------------------------------------


def report_with(folder: Path, text: str) -> dict[str, str]:
    """A report and its pages, by their names. Their runs have this text wherever somebody else's
    may be.
    """
    runs = made_report_folder(folder / "runs" / "r", most_blocks=3)
    for path in runs.glob("*/experiment.json"):
        edit(path, lambda note: note.update(question=text))
    for path in runs.glob("*/*/manifest.json"):
        edit(path, lambda note: change_manifest(note, text))
    for path in runs.glob("*/*/*.messages.jsonl"):
        path.write_text(f"{json.dumps(text)}\n" * 2, encoding="utf-8")
    edit(runs / "skew" / "experiment.json", lambda note: fail(note["cells"][0], text))
    edit(runs / "campaign.json", lambda note: change_suite(note, text))
    (runs / "isolation.json").write_text(json.dumps(matrix_of(text)), encoding="utf-8")
    sweep(runs / "sweep", text)
    (runs / "broken").mkdir()
    (runs / "broken" / "experiment.json").write_text(json.dumps({"cwkit": text or "x"}))
    write_report(runs, folder / "R.md", folder / "figures")
    pages = [folder / "R.md", *(folder / "figures").glob("*.md")]
    return {path.name: path.read_text(encoding="utf-8") for path in pages}


def edit(path: Path, change: Callable[[Any], Any]) -> None:
    note = json.loads(path.read_text(encoding="utf-8"))
    change(note)
    path.write_text(json.dumps(note), encoding="utf-8")


def change_manifest(manifest: Any, text: str) -> None:
    manifest["command"] = text
    manifest["machine"] |= {"cpu": text, "kernel": text}
    manifest["findings"] = [{"check": text or "x", "ok": False, "sentence": text, "evidence": {}}]
    for worker in manifest["workers"]:
        worker["pragmas"] = {"journal_mode": text}
    for engine in manifest.get("engines", {}):
        manifest["engines"][engine] = {"binding": text, "version": text, "options": [text]}


def fail(cell: Any, text: str) -> None:
    cell.update(state="failed", words=text, run="")


def change_suite(suite: Any, text: str) -> None:
    suite.update(command=text, started=text)
    for probe in suite["probes"]:
        probe["processes_words"] = text
        for answer in probe["modes"].values():
            answer["words"] = text
        if probe["identity"]:
            probe["identity"] |= {"binding": text, "version": text}
        else:
            probe["missing"] = text


def matrix_of(text: str) -> dict[str, Any]:
    anomaly = {"result": "possible", "how": "", "story": text, "source": text, "schedule": text}
    row = {"engine": "libsql", "mode": "immediate", "accepted": True, "observed": text,
           "promised": {"level": text, "source": text},
           "anomalies": {"G0": anomaly, "G1a": anomaly},
           "others": {text or "x": 1}, "schedules": 3, "deviations": [text],
           "refusals": {"busy": {"refused": 2, "needless": 1}}}  # fmt: skip
    known = {"name": text, "sentence": text, "engine": "libsql", "mode": "immediate",
             "words": "", "seen": True, "text": text}  # fmt: skip
    return {"matrix": [row], "known": [known, known | {"seen": None, "words": text, "name": "x"}]}


def sweep(folder: Path, text: str) -> None:
    """A sweep with such a question, such systems and such a reason for a cell that failed."""
    systems = [" ".join(f"way {text[:40]}".split()), "other"]
    systems = ["".join(letter for letter in system if letter.isprintable()) for system in systems]
    arms = {system: {"scenario": "register", "writers": 1} for system in systems}

    def make(arm: str, block: int) -> Run | str:
        return drawn_run([block, 1], writers=1) if block < 6 else f"failed: {text}"

    made_experiment(
        folder, arms, make, name="hostile", question=text, blocks=7, baseline=systems[1]
    )
    edit(
        folder / "experiment.json",
        lambda note: note.update(
            axes={"way": systems}, points={system: {"way": system} for system in systems}
        ),
    )


@pytest.fixture(scope="module")
def harmless(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """The shapes of a report and its pages whose texts are plain words."""
    pages = report_with(tmp_path_factory.mktemp("harmless"), "plain words")
    return {name: shape(page) for name, page in pages.items()}


ALL = "\n\n".join(TEXTS.values())


# ALL has the others in it: alone they would say which of them it was.
@pytest.mark.parametrize(
    "text",
    [
        *(ALL, "\n" + ALL[::-1]),
        *(pytest.param(TEXTS[name], marks=pytest.mark.slow) for name in ("HTML", "a fence")),
    ],
)
def test_no_text_of_a_run_changes_the_shape_of_a_report(
    tmp_path: Path, harmless: dict[str, list[str]], text: str
) -> None:
    pages = report_with(tmp_path, text)
    assert len(pages) == 13
    for name, page in pages.items():
        assert shape(page) == harmless[name], name
        assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e]", page)


def test_the_address_of_a_file_is_its_bytes_whatever_they_are() -> None:
    """A name that is no UTF-8 comes from the command line as half characters."""
    assert address("a b/\udcff.svg") == "a%20b/%FF.svg"


def test_structure_is_written_out_in_the_code() -> None:
    """A template of `markdown` is a literal: pieces come in escaped, or not at all."""
    seen = 0
    for path in (ROOT / "analysis").rglob("*.py"):
        if path.name in ("markdown.py", "test_markdown.py"):
            continue
        text = path.read_text(encoding="utf-8")
        if not any(f"{name}(" in text for name in ("markdown", "Markdown", "bold")):
            continue
        for node in ast.walk(ast.parse(text)):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
                continue
            if node.func.id in ("markdown", "Markdown", "bold"):
                seen += 1
                where = f"{path}, line {node.lineno}"
                assert all(isinstance(arg, ast.Constant) for arg in node.args[:1]), where
    assert seen > 20
    templates = sorted((ROOT / "analysis" / "report" / "templates").glob("*.j2"))
    found = [
        re.findall(r"[^{ ][^{]*\| safe", path.read_text(encoding="utf-8")) for path in templates
    ]
    assert len(found) == 15
    assert list(chain(*found)) == ['(" --- |" * (t.head | length)) | safe']
