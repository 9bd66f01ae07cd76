"""What the grammar can say is said, and an engine that breaks it is caught by it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest

from properties.hunter.drawing import Grammar
from properties.hunter.folder import describe, tried
from properties.hunter.hunt import Hunter
from properties.hunter.judges import Found
from properties.hunter.known import of_engine, recognised
from properties.hunter.patterns import draw_pattern
from properties.hunter.reference import Wrong
from properties.hunter.script import script
from workloads.engines import OPTIONS, find_engine, trust
from workloads.schedules import Program, parse_program

BROKEN = Path(__file__).with_name("broken.py")


def says(*marks: str) -> Callable[[Program], bool]:
    """Whether a program's text has all of these."""
    return lambda program: all(mark in str(program) for mark in marks)


RARE = {
    "nested savepoints": ("ROLLBACK TO s", "SAVEPOINT t"),
    "an upsert on UNIQUE": ("ON CONFLICT(u)", "DO UPDATE"),
    "a UNIQUE index": ("CREATE UNIQUE INDEX",),
    "a statement of several rows that fails": ("), (",),
    "a read by an index": (" INDEXED BY ",),
    "a commit beside an attached database": ("sql ATTACH", "side.s"),
}
"""What broken.py's BreaksWhatIsRare breaks -> what a program says that has it."""


@pytest.fixture(scope="module")
def hunters() -> Iterator[Callable[[str], Hunter]]:
    made: dict[str, Hunter] = {}

    def of(name: str) -> Hunter:
        trust(f"{BROKEN}:{name}")
        if name not in made:
            made[name] = Hunter(f"{BROKEN}:{name}", ("immediate",), 1)
        return made[name]

    yield of
    for hunter in made.values():
        hunter.close()


@pytest.mark.parametrize("what", RARE)
def test_an_engine_that_breaks_it_is_caught(what: str, hunters: Callable[[str], Hunter]) -> None:
    others = [marks for name, marks in RARE.items() if name != what]
    hunter, judged = hunters("BreaksWhatIsRare"), 0
    for index in range(8_000):
        program = hunter.program(index)
        if says("* race")(program):
            continue
        if says(*RARE[what])(program) and not any(says(*marks)(program) for marks in others):
            judged += 1
            if hunter.judged(program):
                return
            assert judged < 150
    pytest.fail(f"{judged} programs have {what}, and none was caught")


def test_a_pattern_writes_the_same_unique_value_twice_and_a_child_beside_its_parent() -> None:
    grammar, same, beside = Grammar(("immediate",)), 0, 0
    for seed in range(600):
        program = draw_pattern(Random(seed), grammar, Random(seed // 8))
        inserts: dict[str, set[str]] = {}
        for step in program.steps:
            if step.text.startswith("INSERT INTO") and "u" in names(step.text):
                value = values(step.text)[names(step.text).index("u")]
                inserts.setdefault(value, set()).add(step.session)
        same += any(len(sessions) > 1 for sessions in inserts.values())
        parents = {
            (step.session, values(step.text)[names(step.text).index("p")])
            for step in program.steps
            if step.text.startswith("INSERT INTO") and "p" in names(step.text)
        }
        deleted = {
            (step.session, step.text.rpartition(" = ")[2])
            for step in program.steps
            if step.text.startswith("DELETE FROM") and " WHERE id = " in step.text
        }
        beside += any(p == d and a != b for a, p in parents for b, d in deleted)
    assert same > 20
    assert beside > 5


KILLED = """CREATE TABLE t0(id INTEGER PRIMARY KEY, v INTEGER)
INSERT INTO t0(id, v) VALUES (1, 5)
--- apart
A begin immediate
A sql UPDATE t0 SET v = 6
B half SELECT v FROM t0
A kill
B fetch
A sql SELECT v FROM t0
B sql UPDATE t0 SET v = 7
B kill
A sql SELECT v FROM t0"""


def test_one_session_s_process_may_be_killed_while_the_others_live(
    hunters: Callable[[str], Hunter],
) -> None:
    program = parse_program(KILLED)
    assert str(program) == KILLED
    hunter = hunters("SoundWithOptions")
    made = hunter.judged(program)
    assert made is None, describe(*made) if made else ""
    assert hunter.last
    rows = [one.rows for one in hunter.last.results if one.rows]
    assert rows == [[(5,)], [(5,)], [(7,)]]
    with pytest.raises(ValueError, match="is apart"):
        parse_program(KILLED.replace(" apart", ""))
    made = hunters("ForgetsTheDead").judged(program)
    assert made
    assert made[0].wrong.judge == "rows"


RECURSIVE = """OPEN recursive_triggers = 1
CREATE TABLE t0(id INTEGER PRIMARY KEY, v INTEGER)
CREATE TABLE log1(id INTEGER PRIMARY KEY, v INTEGER)
INSERT INTO t0(id, v) VALUES (1, 5)
CREATE TRIGGER r AFTER DELETE ON t0 BEGIN INSERT INTO log1(v) VALUES (old.v); END
---
A sql INSERT OR REPLACE INTO t0(id, v) VALUES (1, 6)
A sql SELECT v FROM log1"""


def test_what_an_engine_refuses_of_its_options_is_told_and_not_drawn(
    hunters: Callable[[str], Hunter],
) -> None:
    hunter = hunters("IgnoresOptions")
    assert {"journal_mode = no_such", "no_such = 1", "flavour = sour"} <= hunter.refused.keys()
    taken = {(one.name, one.value) for one in hunter.grammar.options}
    assert taken == {("cache_size", "10"), ("journal_mode", "delete"), ("flavour", "sweet")} | {
        ("recursive_triggers", "1")
    }
    drawn = {option for index in range(0, 800, 8) for option in hunter.program(index).options}
    assert drawn == taken


def test_an_option_that_changes_an_answer_holds_for_the_reference_too(
    hunters: Callable[[str], Hunter],
) -> None:
    program = parse_program(RECURSIVE)
    assert str(program) == RECURSIVE
    assert hunters("SoundWithOptions").judged(program) is None
    made = hunters("IgnoresOptions").judged(program)
    assert made
    assert made[0].wrong.judge == "rows"


def test_what_is_known_is_recognised_by_the_options_of_a_program() -> None:
    known = of_engine("apsw built on the begin-concurrent branch 3.54.0")
    found = Found(Wrong("serializable", "it read what was no more"), 0)
    program = parse_program("OPEN mmap_size = 1048576\n---\nA sql SELECT 1")
    assert recognised(found, program, known)
    assert not recognised(found, replace(program, options=()), known)


def test_a_bug_that_needs_an_option_is_found_with_it(hunters: Callable[[str], Hunter]) -> None:
    hunter = hunters("IgnoresOptions")
    for index in range(400):
        program = hunter.program(index)
        if ("cache_size", "10") in program.options and hunter.judged(program):
            finding = hunter.one(index)
            assert finding
            assert ("cache_size", "10") in finding.played.program.options
            assert "OPEN cache_size = 10" in describe(finding.found, finding.played)
            return
    pytest.fail("nothing was found")


def test_a_sound_engine_shows_nothing_with_any_of_its_options(
    hunters: Callable[[str], Hunter],
) -> None:
    hunter, met, most = hunters("SoundWithOptions"), set[str](), 60
    for index in range(0, 8_000, 8):  # a schema each
        program = hunter.program(index)
        mine = {name for name, _ in program.options} | {
            sql.split()[1] for sql in program.schema if sql.startswith("PRAGMA")
        }
        if mine <= met:
            continue
        met |= mine
        made = hunter.judged(program)
        assert made is None, f"{made[0] if made else ''}\n{program}"
        most -= 1
        if met >= OPTIONS.keys():
            return
    pytest.fail(f"{OPTIONS.keys() - met} were never drawn")


def test_a_script_opens_its_connections_as_the_program_did(
    hunters: Callable[[str], Hunter], tmp_path: Path
) -> None:
    text = f"OPEN journal_mode = delete\n{RECURSIVE}\nA sql PRAGMA journal_mode"
    made = hunters("IgnoresOptions").judged(parse_program(text))
    assert made
    engine = find_engine("sqlite")
    path = tmp_path / "repro.py"
    path.write_text(script(*made, version="", driver=engine.script().lines))  # type: ignore[attr-defined]
    assert "connect(PATH, journal_mode='delete')" in path.read_text()
    assert "PRAGMA recursive_triggers = 1" in path.read_text()
    assert tried(path, engine.script(), 1, status=0) == 1  # type: ignore[attr-defined]


@pytest.mark.parametrize("line", ["OPEN", "OPEN cache_size", "OPEN x = 1; DROP", "OPEN = 3"])
def test_what_is_no_option_is_refused(line: str) -> None:
    with pytest.raises(ValueError, match="is no option"):
        parse_program(f"{line}\n---\nA sql SELECT 1")


def names(sql: str) -> list[str]:
    return sql.partition("(")[2].partition(")")[0].split(", ")


def values(sql: str) -> list[str]:
    return sql.partition("VALUES (")[2].partition(")")[0].split(", ")
