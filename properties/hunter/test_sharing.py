"""Two sessions that use one connection: one transaction, two cursors, and maybe two threads."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from properties.hunter.folder import describe, tried
from properties.hunter.hunt import Hunter
from properties.hunter.judges import Found
from properties.hunter.reference import Wrong
from properties.hunter.script import script
from workloads.engines import find_engine, trust
from workloads.schedules import parse_program

BROKEN = Path(__file__).with_name("broken.py")
TABLE = """CREATE TABLE t0(id INTEGER PRIMARY KEY, v INTEGER)
INSERT INTO t0(id, v) VALUES (1, 5)
INSERT INTO t0(id, v) VALUES (2, 6)
INSERT INTO t0(id, v) VALUES (3, 7)
---
"""
CURSORS = f"""SHARE A B
{TABLE}A half SELECT v FROM t0
B half SELECT id FROM t0
A fetch
B fetch"""
THREADS = f"""SHARE A B by threads
{TABLE}A begin immediate
B sql UPDATE t0 SET v = 1 WHERE id = 1
A sql SELECT v FROM t0
B commit
C sql SELECT v FROM t0"""
ONE = f"""SHARE A B
{TABLE}A begin immediate
B sql UPDATE t0 SET v = 1 WHERE id = 1
C sql SELECT v FROM t0
A sql SELECT v FROM t0
B half SELECT v FROM t0
A close
B sql SELECT v FROM t0
B begin immediate
A sql DELETE FROM t0
B rollback
A sql SELECT v FROM t0
* reopen
B sql SELECT v FROM t0"""
Hunters = Callable[[str], Hunter]


@pytest.fixture(scope="module")
def hunters() -> Iterator[Hunters]:
    made: dict[str, Hunter] = {}

    def of(name: str) -> Hunter:
        trust(f"{BROKEN}:{name}")
        if name not in made:
            made[name] = Hunter(f"{BROKEN}:{name}", ("immediate",), 1)
        return made[name]

    yield of
    for hunter in made.values():
        hunter.close()


@pytest.mark.parametrize("text", [CURSORS, THREADS, ONE], ids=["cursors", "threads", "one"])
def test_a_sound_engine_shows_nothing(text: str, hunters: Hunters) -> None:
    program = parse_program(text)
    assert str(program) == text
    hunter = hunters("Sound")
    made = hunter.judged(program)
    assert made is None, describe(*made) if made else ""
    assert hunter.last
    assert {one.status for one in hunter.last.results} == {"ok"}
    assert hunter.tally.unsure == 0


def test_a_refusal_ends_the_cursors_of_the_whole_connection(hunters: Hunters) -> None:
    program = parse_program(
        f"SHARE A C\n{TABLE}C begin deferred\nC half SELECT v FROM t0\nB sql DELETE FROM t0\n"
        "A sql UPDATE t0 SET v = 0\nC commit\nA sql INSERT INTO t0(id, v) VALUES (9, 9)"
    )
    hunter = hunters("Sound")
    assert hunter.judged(program) is None
    assert hunter.last
    assert [one.status for one in hunter.last.results][-3:] == ["conflict", "skipped", "ok"]


@pytest.mark.parametrize("text", [CURSORS, THREADS], ids=["cursors", "threads"])
def test_an_engine_that_shares_badly_is_caught(text: str, hunters: Hunters) -> None:
    hunter = hunters("SharesBadly")
    assert hunter.judged(parse_program(text))
    alone = text.replace("SHARE A B by threads\n", "SHARE A B\n")
    alone = alone if alone != text else text.replace("SHARE A B\n", "")
    assert hunter.judged(parse_program(alone)) is None


def test_a_drawn_program_finds_it_and_keeps_that_it_shares(hunters: Hunters) -> None:
    hunter = hunters("SharesBadly")
    for index in range(3_000):
        program = hunter.program(index)
        if program.shared and hunter.judged(program) and (finding := hunter.one(index)):
            assert finding.played.program.shared
            assert "SHARE" in describe(finding.found, finding.played)
            return
    pytest.fail("nothing was found")


def test_sound_engines_show_nothing_with_drawn_programs_that_share(hunters: Hunters) -> None:
    hunter, judged = hunters("Sound"), 0
    for index in range(2_000):
        program = hunter.program(index)
        if program.shared:
            judged += 1
            made = hunter.judged(program)
            assert made is None, f"{program}\n{describe(*made) if made else ''}"
        if judged == 30:
            return


@pytest.mark.parametrize("text", [CURSORS, THREADS, ONE], ids=["cursors", "threads", "one"])
def test_a_script_shares_as_the_program_did(text: str, hunters: Hunters, tmp_path: Path) -> None:
    hunter, path = hunters("Sound"), tmp_path / "repro.py"
    hunter.judged(parse_program(text))
    assert hunter.last
    lines = find_engine("sqlite").script().lines  # type: ignore[attr-defined]
    last = len(hunter.last.program.steps) - 1
    rows = hunter.last.results[last].rows
    if hunter.last.program.steps[last].verb == "fetch":
        rows = [(1,), *(rows or [])]
    for right, status in ((rows, 0), ([(99,)], 1)):
        found = Found(Wrong("rows", "it", "", "", rows=right), last)
        path.write_text(script(found, hunter.last, version="any", driver=lines))
        assert tried(path, find_engine("sqlite").script(), 1, status=status) == 1  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "text", ["SHARE A\n---", "SHARE A A\n---", "SHARE A B\nSHARE B C\n---", "SHARE A B\n--- apart"]
)
def test_what_cannot_be_shared_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="SHARE"):
        parse_program(text)
