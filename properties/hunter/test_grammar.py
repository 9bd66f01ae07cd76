"""What the grammar can say is said, and an engine that breaks it is caught by it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

import pytest

from properties.hunter.drawing import Grammar
from properties.hunter.hunt import Hunter
from properties.hunter.patterns import draw_pattern
from workloads.engines import trust
from workloads.schedules import Program

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


def names(sql: str) -> list[str]:
    return sql.partition("(")[2].partition(")")[0].split(", ")


def values(sql: str) -> list[str]:
    return sql.partition("VALUES (")[2].partition(")")[0].split(", ")
