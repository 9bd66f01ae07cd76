"""`cwkit check --html`: a page that stands alone, says what --json says, and runs nothing else."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from analysis.charts.pages.frame import in_script
from analysis.charts.pages.headless import HOW_TO_GET, Browser, chromium
from analysis.charts.pages.verdict_page import MOST_DRAWN
from analysis.cli.check import run_check
from properties.checker.catalogue import CATALOGUE
from properties.checker.examples import parse
from workloads.records.elle import write_history

EVIL = "</script><script>document.title='run'</script><img src=x onerror=\"document.title='run'\">"
HOSTILE = f"{EVIL}\u2028\u202e\x00'\"&lt;"


class Page(HTMLParser):
    """What a page holds: its scripts, its policy, what it refers to, and its text."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.scripts: list[str] = []
        self.styles: list[str] = []
        self.referred: list[str] = []
        self.handlers: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.policy, self.text, self._inside = "", "", ""
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        about = dict(attrs)
        self.tags.append((tag, about))
        self._inside = tag if "type" not in about else "data"
        if self._inside == "script":
            self.scripts.append("")
        if tag == "style":
            self.styles.append("")
        if about.get("http-equiv") == "Content-Security-Policy":
            self.policy = about["content"] or ""
        names = ("src", "href", "srcset", "action", "data", "poster", "xlink:href")
        self.referred += [about[name] or "" for name in names if name in about]
        self.handlers += [name for name in about if name.startswith("on")]

    def handle_data(self, data: str) -> None:
        if self._inside == "script":
            self.scripts[-1] += data
        elif self._inside == "style":
            self.styles[-1] += data
        elif self._inside != "data":
            self.text += data

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""


def stands_alone(page: Page) -> None:
    """Nothing is fetched, and only scripts that the policy names by their hash may run."""
    assert all(one.startswith("#") for one in page.referred) and not page.handlers
    assert "default-src 'none'" in page.policy and "unsafe-eval" not in page.policy
    assert not re.search(r"url\(|@import", "".join(page.styles))
    script_src = page.policy.partition("script-src ")[2].partition(";")[0].split()
    for script in page.scripts:
        digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        assert f"'sha256-{digest}'" in script_src


def check(*paths: Path, html: Path, **options: Any) -> tuple[int, list[dict[str, Any]]]:
    """The status, and what --json says."""
    out = io.StringIO()
    status = run_check(paths, as_json=True, html_file=html, out=out, **options)
    return status, [json.loads(line) for line in out.getvalue().splitlines() if line[:1] == "{"]


@pytest.fixture
def hostile(tmp_path: Path) -> Path:
    """A lost update on a key, with values and sessions, that a page would trip over."""
    ops: list[dict[str, object]] = []
    for kind, seen in (("invoke", None), ("ok", [])):
        for process in (f"{HOSTILE}p", "b"):
            value = [["r", HOSTILE, seen], ["append", HOSTILE, f"{HOSTILE}{process}"]]
            ops.append({"process": process, "type": kind, "f": "txn", "value": value})
    for kind, both in (("invoke", None), ("ok", [f"{HOSTILE}{HOSTILE}p", f"{HOSTILE}b"])):
        ops.append({"process": 2, "type": kind, "f": "txn", "value": [["r", HOSTILE, both]]})
    path = tmp_path / "<b>&.jsonl"
    path.write_text("".join(f"{json.dumps(op)}\n" for op in ops), encoding="utf-8")
    return path


def test_the_page_says_what_json_says(tmp_path: Path) -> None:
    for name in ("G2-item", "G1a"):
        write_history(parse(CATALOGUE[name].example, "list-append"), tmp_path / f"{name}.jsonl")
    write_history(parse(("a 0-1 ok append:x:1",), "list-append"), tmp_path / "fine.edn")
    (tmp_path / "cut.json").write_text("{")
    files = [tmp_path / name for name in ("G2-item.jsonl", "G1a.jsonl", "fine.edn", "cut.json")]
    status, told = check(*files, html=tmp_path / "page.html")
    page = Page(tmp_path / "page.html")
    stands_alone(page)
    assert status == 2 and "violated in 2, kept in 1, not decided in 0, not readable 1" in (
        " ".join(page.text.split())
    )
    steps = [s for one in told for all_of in one["anomalies"].values() for w in all_of
             for s in w["steps"]]  # fmt: skip
    assert steps and all(step["why"] in page.text for step in steps)
    listed = [about for tag, about in page.tags if tag == "li" and "data-step" in about]
    arrows = [about for tag, about in page.tags if tag == "g" and about.get("class") == "step"]
    assert len(listed) == len(arrows) == len(steps)
    assert "cut.json line 1" in page.text and "VALID" in page.text and "VIOLATED" in page.text
    words = " ".join(page.text.split())
    for one in told:
        kept = [level for level, holds in one["levels"].items() if holds is True]
        assert f"Holds: {', '.join(kept)}." in words


def test_text_of_a_history_is_text_in_the_page(hostile: Path, tmp_path: Path) -> None:
    status, _ = check(hostile, html=tmp_path / "page.html")
    page = Page(tmp_path / "page.html")
    stands_alone(page)
    assert status == 1 and len(page.scripts) == 1
    assert not [tag for tag, _ in page.tags if tag in ("img", "b")]
    assert not re.search("[\x00-\x08\u2028\u202e]", (tmp_path / "page.html").read_text("utf-8"))


def test_a_check_of_the_page_itself_sees_a_script_that_got_in(tmp_path: Path) -> None:
    bad = tmp_path / "bad.html"
    for inside in ("<script>1</script>", "<img src='http://x/'>", "<p onclick='1'>"):
        bad.write_text(f"<meta http-equiv=Content-Security-Policy content=\"default-src 'none'\">"
                       f"{inside}")  # fmt: skip
        with pytest.raises(AssertionError):
            stands_alone(Page(bad))


def test_more_counterexamples_than_a_page_draws_are_listed(tmp_path: Path) -> None:
    lines = []
    for at in range(MOST_DRAWN + 2):
        path = tmp_path / f"{at}.jsonl"
        write_history(parse(CATALOGUE["G1a"].example, "list-append"), path)
        lines.append(path)
    check(*lines, html=tmp_path / "page.html")
    page = Page(tmp_path / "page.html")
    assert sum(about.get("class") == "lanes" for _, about in page.tags) == MOST_DRAWN
    assert "2 counterexamples more of this page are listed and not drawn." in page.text


def test_a_page_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "h.jsonl"
    write_history(parse(("a 0-1 ok append:x:1",), "list-append"), path)
    for where, why in ((tmp_path, "can't be written"), (tmp_path / "x.json", "a page (.html)")):
        out = io.StringIO()
        assert run_check([path], html_file=where, out=out) == 2
        assert why in out.getvalue().splitlines()[-1]


def test_data_cannot_end_its_element() -> None:
    text = in_script({HOSTILE: [HOSTILE, 1.5, None]})
    assert text.isascii() and not re.search("[<>&]", text)
    assert json.loads(text) == {HOSTILE: [HOSTILE, 1.5, None]}


@pytest.mark.skipif(chromium() is None, reason=HOW_TO_GET)
def test_in_a_browser_nothing_runs_and_the_keyboard_tells_each_reason(
    hostile: Path, tmp_path: Path
) -> None:
    """The browser's representative among the quick tests; the others are with --slow."""
    check(hostile, html=tmp_path / "page.html")
    with Browser(tmp_path) as browser:
        browser.open(tmp_path / "page.html", width=390, height=800)
        assert browser.ask("document.title").startswith("/") and not browser.complaints
        assert browser.requests == [(tmp_path / "page.html").as_uri()]
        assert browser.ask("document.documentElement.scrollWidth") <= 390
        for _ in range(12):
            browser.press("Tab")
            if browser.ask("document.activeElement.dataset.step") == "0":
                break
        said = browser.ask("document.activeElement.closest('article').querySelector('.said')"
                           ".textContent")  # fmt: skip
        assert said == browser.ask("document.activeElement.getAttribute('aria-label')")
        assert "T1 before T2" in said
        assert browser.ask("document.querySelector('li.on').dataset.step") == "0"
        # A script that gets in all the same is refused by the policy, and that is told.
        browser.ask("document.body.append(Object.assign(document.createElement('script'), "
                    "{textContent: 'document.title = 1'}))")  # fmt: skip
        browser.wait("document.title != 1")
        assert any("Content Security Policy" in one for one in browser.complaints)
