"""The checker against brute force on histories that confuse: neither contradicts the other."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from properties.checker.brute_force import BruteForce
from properties.checker.catalogue import LEVELS, ruled_out_by, weaker_or_equal
from properties.checker.decide import full_check
from properties.checker.drawn import Confusing, drawn
from properties.checker.examples import parse
from properties.checker.explanations import report
from workloads.records import History

MODELS = ("list-append", "rw-register")
KINDS = {
    "predicates": Confusing(predicates=True),
    "repeated values": Confusing(repeated=True, predicates=True),
    "sets": Confusing(sets=True, predicates=True),
    "alike": Confusing(alike=True, predicates=True),
    "everything": Confusing(repeated=True, sets=True, predicates=True, alike=True),
    "four transactions": Confusing(repeated=True, predicates=True, most=4),
}


def compared(history: History, label: str) -> Counter[object]:
    """How often each verdict was given; fails where brute force says the contrary."""
    verdict, truth = full_check(history), BruteForce(history).levels()
    got = {level: verdict.levels[level] for level in truth}
    why = f"{label}\n{[history.ops(i) for i in range(len(history))]}\n{truth}\n"
    for level, holds in truth.items():
        undecided = got[level] == "unknown" and bool(verdict.unjudged)
        assert undecided or got[level] is holds, why + report(verdict, level)
    ruled_out = {level for name in verdict.anomalies for level in ruled_out_by(name)}
    assert {level for level in LEVELS if verdict.levels[level] is False} >= ruled_out, why
    assert all(ruled_out & weaker_or_equal(k) for k, value in got.items() if value is False), why
    if verdict.unjudged:
        assert True not in verdict.levels.values(), why
    return Counter(got.values())


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("kind", KINDS)
def test_no_verdict_contradicts_what_trying_all_orders_says(
    model: str, kind: str, seed: int
) -> None:
    seen: Counter[object] = Counter()
    for number in range(60):
        label = f"{kind} of {model}, seed {seed}, number {number}"
        seen += compared(drawn(random.Random(label), model, KINDS[kind]), label)
    assert seen[True] > 20 < seen[False], seen


@pytest.mark.slow
@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("kind", KINDS)
def test_no_verdict_of_thousands_contradicts_it(model: str, kind: str, seed: int) -> None:
    for number in range(60, 2000):
        label = f"{kind} of {model}, seed {seed}, number {number}"
        compared(drawn(random.Random(label), model, KINDS[kind]), label)


# Brute force itself, on what it newly reads: it must be able to say both.
JUDGED = {
    "a lost update by predicates": (
        "rw-register",
        ["a 0-9 ok rp:x:nil w:x:1", "b 0-9 ok rp:x:nil w:x:2"],
        {"serializable": False, "snapshot-isolation": False, "repeatable-read": True},
    ),
    "a lost update by name after predicates": (
        "rw-register",
        ["a 0-9 ok rp:x:nil r:x:nil w:x:1", "b 0-9 ok rp:x:nil r:x:nil w:x:2"],
        {"repeatable-read": False, "read-atomic": True},
    ),
    "two answers of one predicate": (
        "list-append",
        ["a 0-9 ok rp:x:[] rp:x:[1]", "b 0-9 ok append:x:1"],
        {"repeatable-read": True, "read-atomic": False, "read-committed": True},
    ),
    "two answers by name": (
        "list-append",
        ["a 0-9 ok r:x:[] r:x:[1]", "b 0-9 ok append:x:1"],
        {"repeatable-read": False, "read-atomic": False, "read-committed": True},
    ),
    "one value appended twice": (
        "list-append",
        ["a 0-1 ok append:x:1", "a 2-3 ok append:x:1", "b 4-5 ok r:x:[1]"],
        {"strict-serializable": False, "strong-session-serializable": True},
    ),
}


@pytest.mark.parametrize("name", JUDGED)
def test_brute_force_tells_these_apart_and_the_checker_agrees(name: str) -> None:
    model, lines, expected = JUDGED[name]
    history = parse(lines, model)
    truth = BruteForce(history).levels()
    assert {level: truth[level] for level in expected} == expected
    compared(history, name)
