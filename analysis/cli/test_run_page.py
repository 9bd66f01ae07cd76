"""`cwkit show RUN --html`: the numbers of --json, within bounds, and what is foreign is text."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import re
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from analysis import wording
from analysis.charts.pages import frame, slices
from analysis.charts.pages.along_time import BINS
from analysis.charts.pages.headless import HOW_TO_GET, Browser, chromium
from analysis.charts.pages.slices import MOST_SLICES
from analysis.cli.documents import run_document
from analysis.cli.show import write_page
from analysis.cli.test_histories_page import HOSTILE, Page, stands_alone
from analysis.cli.test_streams import Command
from analysis.cli.test_streams import cwkit as cwkit
from analysis.synthetic import drawn_run, edit, made_experiment, made_run, made_worker, write_folder
from workloads.records import COMMITTED, CONFLICT, FAILED, Run, read_run

# As a clone has it between `git pull` and its next `make setup`.
pytestmark = pytest.mark.skipif(
    find_spec("plotly") is None, reason="the package plotly is not here: make setup"
)


def page_of(run: Run, folder: Path, limit: float = 0.05) -> tuple[Page, dict[str, Any]]:
    """The page of a run as a command writes it, and the data of its charts."""
    write_folder(run, folder / "run")
    write_page(folder / "run", folder / "page.html", foreign_limit=limit)
    page = Page(folder / "page.html")
    stands_alone(page)
    text = (folder / "page.html").read_text("utf-8")
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', text)
    assert found
    return page, json.loads(found[1])


def words(page: Page) -> str:
    return " ".join(page.text.split())


@pytest.fixture(scope="module")
def usual(tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, Page, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("usual")
    run = drawn_run(412, per_s=2000, writers=3, readers=2, abort=0.2)
    page, data = page_of(run, folder)
    return read_run(folder / "run"), page, data


def test_the_numbers_are_those_of_json(usual: tuple[Run, Page, dict[str, Any]]) -> None:
    run, page, data = usual
    document, text = run_document(run), words(page)
    for one in document["roles"]:
        assert wording.number(one["throughput_per_s"]["value"]) in text
        assert wording.percent(one["abort_rate"]["value"]) in text
        for span in one["latency_ns"]["whole"].values():
            assert (
                wording.duration(float("nan" if span["value"] is None else span["value"])) in text
            )
    by_role = {"writer": [0, 0], "reader": [0, 0]}
    since, until = data["counted"]
    for lane in data["lanes"]["lanes"]:
        starts = lane["first"] + np.cumsum(lane["start"])
        ends = (starts + lane["begin"] + np.array(lane["work"]) + lane["commit"]) / 1e9
        inside = (ends >= since) & (ends <= until)
        for outcome in (COMMITTED, CONFLICT):
            many = int((inside & (np.array(lane["outcome"]) == outcome)).sum())
            by_role[lane["role"]][outcome - 1] += many
        assert len(lane["start"]) == sum(map(sum, lane["counts"].values()))
    for one in document["roles"]:
        attempts = one["attempts"]
        assert by_role[one["role"]] == [attempts["committed"], attempts["conflicted"]]
    width_s = data["edges"][1] - data["edges"][0]
    for series, role in zip(data["committed"], by_role, strict=True):
        assert len(series["per_s"]) == BINS
        counts = [one["counts"] for one in data["lanes"]["lanes"] if one["role"] == role]
        committed = sum(sum(each["committed"]) for each in counts)
        assert sum(series["per_s"]) * width_s == pytest.approx(committed, rel=1e-4)
    refused = sum(sum(one["per_s"]) for one in data["refused"]) * width_s
    many = sum(sum(one["counts"].get("conflict", [])) for one in data["lanes"]["lanes"])
    assert refused == pytest.approx(many, rel=1e-4)
    for curve, one in zip(data["latency"], document["roles"], strict=True):
        at = next(ns for ns, share in zip(curve["ns"], curve["share"], strict=True) if share >= 0.5)
        assert at == pytest.approx(one["latency_ns"]["whole"]["p50"]["value"], rel=0.02)
        assert curve["share"] == sorted(curve["share"]) and curve["share"][-1] == 1


def test_the_library_in_the_page_is_the_one_that_its_policy_lets_run(
    usual: tuple[Run, Page, dict[str, Any]], tmp_path: Path
) -> None:
    packed, digest = frame.packed()
    library = gzip.decompress(base64.b64decode(packed))
    assert library == frame.bundle()
    assert base64.b64encode(hashlib.sha256(library).digest()).decode() in digest
    assert digest in usual[1].policy


def test_each_attempt_is_there_with_what_begin_work_and_commit_took(
    usual: tuple[Run, Page, dict[str, Any]],
) -> None:
    run, _, data = usual
    for worker, lane in zip(run.workers, data["lanes"]["lanes"], strict=True):
        rows = worker.attempts[np.argsort(worker.attempts["start_ns"], kind="stable")]
        first = run.window_ns[0]
        starts = lane["first"] + np.cumsum(lane["start"])
        assert starts.tolist() == (rows["start_ns"] - first).tolist()
        ends = starts + lane["begin"] + np.array(lane["work"]) + lane["commit"]
        assert ends.tolist() == (rows["end_ns"] - first).tolist()
        assert lane["outcome"] == rows["outcome"].tolist()


def test_a_large_run_has_a_bounded_page_that_says_what_it_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slices, "MOST_SLICES", 300)
    run = drawn_run(412, per_s=20_000, writers=4, abort=0.1)
    page, data = page_of(run, tmp_path)
    lanes = data["lanes"]
    kept = sum(len(lane["start"]) for lane in lanes["lanes"])
    total = sum(sum(map(sum, lane["counts"].values())) for lane in lanes["lanes"])
    assert not lanes["whole"] and 100 < kept <= 300 < total
    assert f"Of {total:,} attempts {kept:,} are kept singly" in words(page)
    assert {why for why, _, _ in lanes["windows"]} == {
        "the start", "most refusals", "the longest attempt", "the end"
    }  # fmt: skip
    # In a window that is kept no attempt is missing, however it reaches into it.
    _, since, until = next(one for one in lanes["windows"] if one[0] == "most refusals")
    first, stop = run.window_ns[0] + since * 1e9, run.window_ns[0] + until * 1e9
    for worker, lane in zip(run.workers, lanes["lanes"], strict=True):
        rows = worker.attempts
        there = rows[(rows["start_ns"] < stop - 1e3) & (rows["end_ns"] > first + 1e3)]
        assert set(there["txn"].tolist()) <= set(lane["txn"])
    assert MOST_SLICES * 40 < 2**19


def test_what_is_looked_for_is_among_what_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One failure in ten thousand attempts, at the very end, where no window reaches by itself."""
    monkeypatch.setattr(slices, "MOST_SLICES", 200)
    run = drawn_run(412, per_s=10_000, writers=2)
    rows = run.workers[1].attempts.copy()
    rows["outcome"][-3], rows["phase"][-3] = FAILED, 3
    rows["start_ns"][777] = rows["end_ns"][777] - 40_000_000
    run = made_run([run.workers[0], made_worker(1, rows)])
    lane = slices.lanes(run).data["lanes"][1]
    assert FAILED in lane["outcome"]
    took = np.array(lane["begin"]) + lane["work"] + lane["commit"]
    assert took.max() == 40_000_000
    last = [worker.attempts["txn"][-1] for worker in run.workers]
    kept = [one["txn"][-1] for one in slices.lanes(run).data["lanes"]]
    assert kept == last


def test_text_and_numbers_of_a_forged_run_stay_text_and_numbers(tmp_path: Path) -> None:
    run = drawn_run(1, per_s=300, writers=2, abort=0.3)
    forged = made_worker(0, run.workers[0].attempts, engine=HOSTILE[:60], begin="x<b>",
                         messages=[HOSTILE] * 2)  # fmt: skip
    run = made_run([forged, run.workers[1]], seconds=1.0)
    edit(
        run.manifest,
        command=HOSTILE, seed=2**63 - 1,
        scenario={"name": HOSTILE, "params": {HOSTILE: HOSTILE}, "kinds": [HOSTILE, "b"]},
        findings=[{"check": HOSTILE, "ok": False, "sentence": HOSTILE}],
        machine={"cpu": HOSTILE, "memory_bytes": 2**62},
        foreign={"cpu_share": 0.5}, ok=False,
    )  # fmt: skip
    page, data = page_of(run, tmp_path)
    assert len(page.scripts) == 1 and not [tag for tag, _ in page.tags if tag in ("img", "b")]
    assert not re.search("[\x00-\x08\u2028\u202e]", (tmp_path / "page.html").read_text("utf-8"))
    assert "alert" not in page.policy and len(data["lanes"]["lanes"]) == 2


def test_rows_of_any_numbers_make_lanes() -> None:
    """What is read from a folder is checked first; this is what would get past that."""
    rows = drawn_run(1, per_s=300, writers=1).workers[0].attempts.copy()
    far = np.iinfo(np.int64).max // 2
    rows["end_ns"][:3], rows["begun_ns"][5], rows["conflict"][:9] = far, far, 250
    rows["phase"][:9], rows["outcome"][2:9], rows["txn"][4] = 99, CONFLICT, 2**32 - 1
    found = slices.lanes(made_run([made_worker(0, rows)]))
    lane = found.data["lanes"][0]
    numbers = [lane["first"], *lane["start"], *lane["begin"], *lane["work"], *lane["commit"]]
    assert max(map(abs, numbers)) <= 2 * slices.FAR_NS and frame.in_script(found.data).isascii()


def test_what_is_broken_and_what_is_doubtful_stands_before_the_numbers(tmp_path: Path) -> None:
    run = drawn_run(1, per_s=300, writers=1)
    findings = [{"check": "total", "ok": False, "sentence": "1 is missing."}]
    edit(run.manifest, findings=findings, foreign={"cpu_share": 0.5}, ok=False)
    text = words(page_of(run, tmp_path)[0])
    numbers = text.index("What it came to")
    assert text.index("BROKEN total: 1 is missing.") < numbers
    assert text.index("other programs used 50 %") < numbers
    assert " ‡" in text[numbers:]
    edit(run.manifest, findings=[{**findings[0], "ok": True}], foreign={"cpu_share": 0}, ok=True)
    text = words(page_of(run, tmp_path / "well")[0])
    assert "WELL All 1 checks hold." in text and "‡" not in text and "BROKEN" not in text


def test_a_run_without_an_attempt_has_a_page(tmp_path: Path) -> None:
    nothing = made_worker(0, np.zeros(0, drawn_run(1).workers[0].attempts.dtype))
    page, data = page_of(made_run([nothing]), tmp_path)
    assert data["lanes"]["lanes"][0]["counts"] == {}
    assert "None: no attempt ended in the window." in words(page)


def test_the_command_says_where_the_page_is_and_how_large(
    cwkit: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_folder(drawn_run(1, per_s=50, writers=1), tmp_path / "runs" / "one")
    status, out, err = cwkit("show", "one", "--html", "one.html")
    assert status == 0 and not err and re.fullmatch(r"one\.html: [12]\.\d MiB\n", out)
    assert json.loads(cwkit("show", "one", "--html", "one.html", "--json")[1])["document"] == "run"
    made_experiment(
        tmp_path / "runs" / "e",
        {"a": {"writers": 1}},
        lambda arm, block: drawn_run(block),
        blocks=1,
    )
    monkeypatch.setattr(frame, "BUNDLE", ("no_such_package", "x.js"))
    frame.packed.cache_clear()
    for argv, why in {
        ("e", "x.html"): "--html is of one run",
        ("one", "nowhere/x.html"): "can't be written",
        ("one", "x.html"): "needs the package no_such_package, which is not here. Run: make setup",
    }.items():
        if argv[1] == "nowhere/x.html":
            monkeypatch.setattr(frame, "packed", lambda: ("", ""))
        status, out, err = cwkit("show", argv[0], "--html", argv[1])
        assert status == 2 and not out and why in err and len(err.splitlines()) == 1
        monkeypatch.undo() if argv[1] == "nowhere/x.html" else None
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(frame, "BUNDLE", ("no_such_package", "x.js"))
        frame.packed.cache_clear()
    monkeypatch.undo()
    frame.packed.cache_clear()


# --- in a browser -----------------------------------------------------------------------------

SIZES = {"desktop": (1280, 900), "phone": (390, 844)}
needs_browser = pytest.mark.skipif(chromium() is None, reason=HOW_TO_GET)


def drawn(browser: Browser) -> None:
    browser.wait("document.documentElement.dataset.drawn === 'yes'")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page with hostile text in all that a chart shows."""
    folder = tmp_path_factory.mktemp("browsed")
    run = drawn_run(412, per_s=3000, writers=3, readers=1, abort=0.2, engine=HOSTILE[:60])
    edit(run.manifest, scenario={"name": HOSTILE, "kinds": [HOSTILE, "b"]}, command=HOSTILE)
    for worker in run.workers:
        worker.entry.engine = HOSTILE[:60]
    page_of(run, folder)
    return folder / "page.html"


@pytest.mark.slow
@needs_browser
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("size", SIZES)
def test_a_browser_draws_it_asks_for_nothing_and_runs_nothing_foreign(
    made: Path, size: str, dark: bool, tmp_path: Path
) -> None:
    width, height = SIZES[size]
    with Browser(tmp_path) as browser:
        browser.open(made, width=width, height=height, dark=dark)
        drawn(browser)
        assert browser.requests == [made.as_uri()] and not browser.complaints
        assert browser.ask("document.title").startswith("20261122")
        assert browser.ask("document.documentElement.scrollWidth") <= width
        assert browser.ask("document.querySelectorAll('.js-plotly-plot').length") >= 4
        assert not browser.ask("document.querySelectorAll('img, .js-plotly-plot a').length")
        page, ink = browser.ask("['--page', '--ink'].map(css)")
        assert (page < ink) is dark
        told = "getComputedStyle(document.querySelector('#lanes .xtick text')).fill"
        assert browser.ask(told) == browser.ask("getComputedStyle(document.body).color")
        # The same page, when the reader's eyes change at nightfall.
        other = [{"name": "prefers-color-scheme", "value": "light" if dark else "dark"}]
        browser.call("Emulation.setEmulatedMedia", features=other)
        browser.wait(f"css('--ink') !== '{ink}'")
        browser.wait(f"{told} === getComputedStyle(document.body).color")


@pytest.mark.slow
@needs_browser
def test_by_keyboard_a_lane_is_walked_from_attempt_to_attempt(made: Path, tmp_path: Path) -> None:
    with Browser(tmp_path) as browser:
        browser.open(made)
        drawn(browser)
        for _ in range(60):
            browser.press("Tab")
            if browser.ask("document.activeElement.id") == "lanes":
                break
        assert browser.ask("document.activeElement.id") == "lanes"
        browser.press("ArrowDown")
        assert browser.ask("said.textContent") == "writer 1 is chosen."
        browser.press("x")
        browser.wait("said.textContent.includes('writer 1, transaction')")
        assert ": conflict, " in browser.ask("said.textContent")
        assert browser.ask("lanes.dataset.shows") == "single"
        first = browser.ask("said.textContent")
        browser.press(".")
        browser.wait(f"said.textContent !== {json.dumps(first)}")
        before = browser.ask("view")
        browser.press("ArrowRight")
        browser.wait(f"view[0] > {before[0]}")
        browser.press("0")
        browser.wait("view[0] === 0 && view[1] === WHOLE[1]")
        browser.ask("committed.focus()")
        browser.press("+")
        browser.wait("committed.layout.xaxis.range[1] < WHOLE[1]")
        # All charts along time move together.
        assert browser.ask("refused.layout.xaxis.range") == browser.ask("span")


@pytest.mark.slow
@needs_browser
def test_an_attempt_that_is_pointed_at_is_told(made: Path, tmp_path: Path) -> None:
    with Browser(tmp_path) as browser:
        browser.open(made, height=4000)
        drawn(browser)
        browser.ask("setView([L.lanes[0].s[10] - 1e-6, L.lanes[0].e[10] + 1e-6]).then(() => 1)")
        plot = "document.querySelector('#lanes .nsewdrag').getBoundingClientRect()"
        x, y = browser.ask(f"(b => [b.left + b.width / 2, b.top + b.height / 8])({plot})")
        browser.point(x, y)
        browser.wait("said.textContent.includes('writer 0, transaction')")
        assert "<script>" in browser.ask("said.textContent")  # as text
