"""The session guarantees and consistent prefix against their definitions, tried out by brute force.

A guarantee holds by brute force if some order of each key's writes keeps it. The checker must say
the same, name what it found by session, transaction and value, and stay silent on what is sound.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from properties.checker.brute_force import BruteForce, Order, Terry
from properties.checker.catalogue import CATALOGUE, GUARANTEES, LEVELS, weaker_or_equal
from properties.checker.decide import full_check
from properties.checker.drawn import Confusing, drawn, replicated
from properties.checker.examples import parse
from properties.checker.explanations import report
from properties.checker.session_guarantees import DAMAGE
from properties.checker.verdict import Verdict
from workloads.records import History

MODELS = ("list-append", "rw-register")
SESSIONS = "strong-session-snapshot-isolation"


def judged(history: History, label: str) -> Counter[tuple[str, object]]:
    """The verdicts on one history; fails where brute force says the contrary."""
    verdict, truth = full_check(history), BruteForce(history)
    damaged = DAMAGE & verdict.anomalies.keys()
    seen: Counter[tuple[str, object]] = Counter()
    for level, name in GUARANTEES.items():
        got = verdict.levels[level]
        seen[level, got] += 1
        if damaged:
            assert got is not True, f"{label}\n{report(verdict, level)}"
            continue
        undecided = got == "unknown" and bool(verdict.unjudged)
        if got == "unknown" and verdict.levels["read-committed"] is False:
            undecided |= not truth.keeps(level)  # no order of the versions fits what was updated
        assert undecided or got is truth.keeps(level), f"{label}\n{report(verdict, level)}"
        assert (name in verdict.anomalies) is (got is False), label
        assert got is not False or verdict.levels[SESSIONS] is False, label
    return seen


def small(rng: random.Random, model: str) -> History:
    if rng.random() < 0.5:
        return replicated(rng, model, rng.randint(3, 4), sessions=2, keys=2, most=2, stale=0.7)
    how = Confusing(repeated=rng.random() < 0.2, predicates=rng.random() < 0.3)
    return drawn(rng, model, how)


@pytest.mark.parametrize("model", MODELS)
def test_a_guarantee_is_kept_exactly_where_some_order_of_the_writes_keeps_it(
    model: str, seed: int
) -> None:
    seen: Counter[tuple[str, object]] = Counter()
    for number in range(200):
        label = f"guarantees of {model}, seed {seed}, number {number}"
        seen += judged(small(random.Random(label), model), label)
    often = ("read-your-writes", "monotonic-reads")
    assert all(seen[level, held] for level in often for held in (True, False)), seen


@pytest.mark.slow
@pytest.mark.parametrize("model", MODELS)
def test_thousands_are_kept_exactly_where_some_order_keeps_them(model: str, seed: int) -> None:
    for number in range(200, 5000):
        label = f"guarantees of {model}, seed {seed}, number {number}"
        judged(small(random.Random(label), model), label)


class InOrder(Terry):
    """Brute force where the order of each list's appends is known, so that more can be judged."""

    order: Order = ()

    def _some_order(self, key: int, musts: list[tuple[Any, Any]]) -> bool:
        mine = [w for w, (k, _) in self.writes.items() if k == key]
        place = {w: i for i, w in enumerate(sorted(mine))}
        until = {
            r: max((place[w] for w in shown), default=-1)
            for r, shown in self.seen.items()
            if self._key(r) == key
        }
        return all(
            place[w] <= (until[to] if to in until else place[to])
            for w, to in musts
            if w in place and (to in until or to in place)
        )

    def _sightings(self) -> Iterator[dict[tuple[int, int], list[tuple[int, int]]]]:
        by = {version: w for w, version in self.writes.items()}
        ops = self.all.ops
        yield {(t, i): [by[ops[t][i][1], value] for value in ops[t][i][2]] for t, i in self.reads}


def test_of_longer_histories_too_what_lists_tell_is_what_the_definitions_say(seed: int) -> None:
    seen: Counter[tuple[str, object]] = Counter()
    for number in range(24):
        label = f"longer, seed {seed}, number {number}"
        rng = random.Random(label)
        stale = rng.choice((0.0, 0.02, 0.1))
        history = replicated(
            rng, "list-append", rng.randint(20, 40), keys=rng.randint(2, 6), sessions=4,
            stale=stale, torn=rng.choice((0.0, 0.02)) if stale else 0.05,
        )  # fmt: skip
        verdict = full_check(history)
        truth = InOrder(BruteForce(history), tuple(range(len(history))))
        for level in GUARANTEES:
            assert verdict.levels[level] is truth.keeps(level), f"{label}, {level}"
            seen[level, verdict.levels[level]] += 1
    assert all(seen[level, held] for level in GUARANTEES for held in (True, False)), seen


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("level", GUARANTEES)
def test_its_example_violates_this_guarantee_and_no_other(model: str, level: str) -> None:
    verdict = of_example(GUARANTEES[level], model)
    strong = {above for above in LEVELS if level in weaker_or_equal(above)}
    assert {name for name, kept in verdict.levels.items() if kept is not True} == strong


def of_example(name: str, model: str) -> Verdict:
    anomaly = CATALOGUE[name]
    return full_check(parse(anomaly.example if model == MODELS[0] else anomaly.register, model))


# What each isolation level says of sessions and of prefixes: (history, levels kept, levels not).
APART = {
    "a serializable store may show each session an old state": (
        ["a 0-1 ok w:x:1", "a 2-3 ok r:x:nil"],
        {"serializable", "consistent-prefix"},
        {"read-your-writes", SESSIONS},
    ),
    "a lost update is read from a prefix": (
        ["a 0-3 ok r:x:nil w:x:1", "b 1-4 ok r:x:nil w:x:2"],
        {"consistent-prefix", *GUARANTEES},
        {"snapshot-isolation"},
    ),
    "a session that goes back in time still reads prefixes": (
        ["a 0-1 ok w:x:1", "b 2-3 ok r:x:1", "b 4-5 ok r:x:nil"],
        {"consistent-prefix", "read-your-writes"},
        {"monotonic-reads"},
    ),
    "a long fork is no prefix, and no session lost anything": (
        ["a 0-4 ok w:x:1", "b 0-4 ok w:y:1", "c 0-4 ok r:x:1 r:y:nil", "d 0-4 ok r:x:nil r:y:1"],
        {"read-atomic", *GUARANTEES},
        {"consistent-prefix"},
    ),
    "read committed may read x before and y after": (
        ["a 0-2 ok w:x:1", "a 3-4 ok w:y:1", "b 1-5 ok r:x:nil r:y:1"],
        {"monotonic-writes", "writes-follow-reads"},
        {SESSIONS},
    ),
    "of two sessions that saw two values in turn, one went back": (
        ["a 0-1 ok w:x:1", "b 0-1 ok w:x:2"]
        + ["c 2-3 ok r:x:1", "c 4-5 ok r:x:2", "d 2-3 ok r:x:2", "d 4-5 ok r:x:1"],
        {"consistent-prefix", "read-your-writes", "monotonic-writes", "writes-follow-reads"},
        {"monotonic-reads"},
    ),
    "what a write includes goes on through others": (
        ["a 0-1 ok w:x:1", "b 2-3 ok r:x:1 w:y:1"]
        + ["c 4-5 ok r:y:1 w:z:1", "d 6-7 ok r:z:1 r:x:nil"],
        {"monotonic-writes", "monotonic-reads", "read-your-writes"},
        {"writes-follow-reads", "snapshot-isolation"},
    ),
    "a write of unknown end may come later": (
        ["a 0-1 info w:x:1", "a 2-3 ok r:x:nil", "b 4-5 ok r:x:1"],
        set(LEVELS),
        set(),
    ),
    "what came before a write of unknown end that was seen did happen": (
        ["a 0-1 ok w:x:1", "a 2-3 info w:y:1", "b 4-5 ok r:y:1 r:x:nil"],
        {"read-your-writes", "monotonic-reads", "writes-follow-reads"},
        {"monotonic-writes"},
    ),
    "a refused write is nobody's": (
        ["a 0-1 conflict w:x:1", "a 2-3 ok r:x:nil"],
        set(LEVELS),
        set(),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", APART)
def test_the_levels_are_told_apart(name: str) -> None:
    lines, kept, violated = APART[name]
    history = parse(lines, "rw-register")
    verdict, truth = full_check(history), BruteForce(history)
    by_force = {level: truth.keeps(level) for level in GUARANTEES}
    if len(history) <= 4:  # of more there are too many snapshots to try them all
        by_force |= truth.levels()
    for level in kept | violated:
        assert verdict.levels[level] is (level in kept), report(verdict, level)
        assert by_force.get(level, True) is (level in kept)


def test_only_levels_that_know_of_sessions_imply_the_guarantees() -> None:
    for level in LEVELS:
        implied = GUARANTEES.keys() & (weaker_or_equal(level) - {level})
        strong = SESSIONS in weaker_or_equal(level)
        assert implied == (GUARANTEES.keys() if strong else set()), level
    assert "consistent-prefix" in weaker_or_equal("snapshot-isolation")
    assert "consistent-prefix" not in weaker_or_equal("repeatable-read")


def test_a_witness_names_the_session_the_transactions_and_the_values() -> None:
    lines = ["b 0-1 ok w:x:5", "c 2-3 ok r:x:5 w:x:8", "c 4-5 ok w:y:9", "d 6-7 ok r:y:9 r:x:5"]
    verdict = full_check(parse(lines, "rw-register"))
    said = verdict.anomalies["N-MW"][0].why
    assert said.startswith("session d read x = 5 in T"), said
    assert "after it had read y = 9 there: session c wrote 9 to y in T" in said
    assert "after it had itself written x = 8 in T1" in said
    back = [*lines[:2], "c 4-5 ok r:x:5"]
    verdict = full_check(parse(back, "rw-register"))
    said = verdict.anomalies["MYR"][0].why
    assert "session c read x = 5 in T2 after it had itself written x = 8 in T1" in said
    assert f"- {said}." in report(verdict, "read-your-writes")


def test_what_a_session_did_that_ran_several_transactions_at_once_is_told_and_proves_nothing() -> (
    None
):
    lines = ["a 0-9 ok append:x:1", "a 5-12 ok append:y:1", "a 13-14 ok r:x:[] r:y:[]"]
    verdict = full_check(parse(lines, "list-append"))
    assert verdict.levels["read-your-writes"] == "unknown"
    assert any("1 session ran several transactions at once" in note for note in verdict.notes)


@pytest.mark.parametrize("model", MODELS)
def test_the_first_of_two_transactions_at_once_comes_before_the_sessions_third(model: str) -> None:
    lines = ["a 0-9 ok w:x:1", "a 5-12 ok w:y:1", "a 13-14 ok r:x:nil r:y:1"]
    if model == MODELS[0]:
        lines = ["a 0-9 ok append:x:1", "a 5-12 ok append:y:1", "a 13-14 ok r:x:[] r:y:[1]"]
    verdict, truth = full_check(parse(lines, model)), BruteForce(parse(lines, model))
    assert verdict.levels[SESSIONS] is truth.levels()[SESSIONS] is False
    assert verdict.levels["read-your-writes"] == "unknown" and not truth.keeps("read-your-writes")


def test_where_there_is_no_room_the_guarantees_of_writes_stay_unknown_and_say_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("properties.checker.shown.MOST_BYTES", 1)
    verdict = of_example("MRWD", "list-append")
    assert verdict.levels["writes-follow-reads"] == "unknown"
    assert verdict.levels["read-your-writes"] is True
    assert "monotonic-writes and writes-follow-reads: only the order" in verdict.notes[-1]
