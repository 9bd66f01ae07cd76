"""The quick way for small histories says what the full checker says, or nothing.

Thousands of histories are drawn: of a store that takes one transaction after the other, of every
anomaly of the catalogue, of both together, and each of these damaged. A careless quick way is
planted in each of its points, and the same comparison catches it.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from properties.checker import decide, serial_order
from properties.checker.catalogue import CATALOGUE, LEVELS
from properties.checker.decide import check, full_check
from properties.checker.drawn import Confusing, drawn, snapshot_isolated
from properties.checker.examples import OUTCOMES, parse, parse_line
from properties.checker.explanations import report
from properties.checker.serial_order import MOST_TRANSACTIONS, Search, explained_by_one_order
from workloads.records import (
    NOT_KNOWN,
    PREDICATE_READ,
    TXN_COMMITTED,
    TXN_UNKNOWN,
    WRITE,
    Builder,
    History,
    Unordered,
)

MODELS = ("list-append", "rw-register")
Row = list[Any]  # session, begin, end, outcome, operations


def difference(history: History, **options: bool) -> str:
    """What the two ways say differently of a history, as text; nothing where they agree."""
    quick, full = check(history, **options), full_check(history, **options)
    assert quick.history is history is full.history
    told = [repr((v.levels, v.anomalies, v.notes, v.unjudged)) for v in (quick, full)]
    if told[0] == told[1]:
        return ""
    shown = [
        (int(history.txn_session[i]), int(history.txn_begin[i]), int(history.txn_end[i]),
         int(history.txn_outcome[i]), history.ops(i)) for i in range(len(history))
    ]  # fmt: skip
    return "\n".join([*map(str, shown), *told, report(full, "strict-serializable")])


# -- drawing ---------------------------------------------------------------------------------------


def drawn_histories(rng: random.Random, model: str, count: int) -> Iterator[History]:
    """Sound ones, broken ones, damaged ones."""
    for number in range(count):
        if number % 4 == 0:
            kinds = (rng.random() < 0.3 for _ in range(4))
            yield drawn(rng, model, replace(Confusing(*kinds), most=rng.randint(2, 8)))
            continue
        rows = stored(rng, model) if number % 4 < 3 else []
        if number % 4 > 1:
            rows += example(rng, model)
        for _ in range(rng.choice((0, 0, 1, 2))):
            damage(rng, rows)
        yield touched(rng, built(rows, model))


def stored(rng: random.Random, model: str) -> list[Row]:
    """A store that takes one transaction after the other; their intervals overlap around that."""
    lists, state, number = model == "list-append", dict[str, list[int]](), 0
    rows: list[Row] = []
    free: dict[str, int] = {}
    wide = rng.choice((0, 5, 40))
    for moment in range(10, 10 + 10 * rng.randint(1, 12), 10):
        session = rng.choice("abcd")
        begin = max(moment - rng.randint(0, wide), free.get(session, 0))
        end = moment + 1 + rng.randint(0, wide)
        if begin > moment:
            continue
        free[session] = end + rng.randint(0, 1)
        outcome = rng.choices(("committed", "failed", "conflict", "unknown"), (30, 2, 1, 1))[0]
        ops: list[tuple[str, str, Any]] = []
        now = {key: list(values) for key, values in state.items()}
        for _ in range(rng.randint(0, 4)):
            key, seen = (k := rng.choice("pqr")), now.setdefault(k, [])
            if rng.random() < 0.5:
                answer = list(seen) if lists else (seen[-1] if seen else None)
                ops.append((rng.choice(("r", "r", "rp")), key, answer))
            else:
                number += 1
                seen.append(number)
                ops.append(("append" if lists else "w", key, number))
        rows.append([session, begin, end, outcome, ops])
        if outcome == "committed" or (outcome == "unknown" and rng.random() < 0.5):
            state = now
    return rows


def example(rng: random.Random, model: str) -> list[Row]:
    """An anomaly of the catalogue, some of them with their times, sessions or parts changed."""
    lines: tuple[str, ...] = ()
    while not lines:
        anomaly = rng.choice(list(CATALOGUE.values()))
        lines = anomaly.example if model == "list-append" else anomaly.register
    rows: list[Row] = []
    for session, begin, end, outcome, ops in map(parse_line, lines):
        rows.append([session, begin, end, OUTCOMES[outcome], ops])
    if rng.random() < 0.3:
        for row in rows:
            row[1] = rng.randint(0, 9)
            row[2] = row[1] + rng.randint(0, 9)
    if rng.random() < 0.3:
        rng.choice(rows)[0] = rng.choice("abce")
    if rng.random() < 0.3:
        rows.remove(rng.choice(rows))
    return rows


def damage(rng: random.Random, rows: list[Row]) -> None:
    """One thing of one transaction becomes another."""
    if not rows:
        return
    row, other = rng.choice(rows), rng.choice(rows)
    what = rng.choice(("outcome", "gone", "times", "session", "answer", "op", "order", "double"))
    if what == "outcome":
        row[3] = rng.choice(list(OUTCOMES.values()))
    elif what == "gone":
        rows.remove(row)
    elif what == "times":
        row[1] = rng.choice((other[1], other[2], rng.randint(0, 100)))
        row[2] = row[1] + rng.randint(0, 40)
    elif what == "session":
        row[0] = other[0]
    elif what == "order":
        row[4] = rng.sample(row[4], len(row[4]))
    elif what == "double" and other[4]:
        row[4] = [*row[4], rng.choice(other[4])]
    elif row[4]:
        at = rng.randrange(len(row[4]))
        f, key, value = row[4][at]
        if what == "op":
            row[4] = row[4][:at] + row[4][at + 1 :]
        elif f not in ("r", "rp"):
            row[4] = [*row[4][:at], (f, key, rng.randint(1, 9)), *row[4][at + 1 :]]
        else:
            row[4] = [*row[4][:at], (f, key, _another(rng, value)), *row[4][at + 1 :]]


def _another(rng: random.Random, value: Any) -> Any:
    """Another answer to a read: of a list where the first was one, now and then as a set."""
    if not isinstance(value, list | Unordered):
        return rng.choice((None, 1, 2, 3, 77)) if type(value) is int else None
    seen = list(value)
    others: tuple[list[Any], ...] = (
        seen[:-1],
        seen[1:],
        [*seen, 1],
        [*seen, 77],
        seen[::-1],
        [],
        seen * 2,
    )
    return Unordered(seen) if rng.random() < 0.1 else rng.choice(others)


def built(rows: list[Row], model: str) -> History:
    builder = Builder(model)
    for row in rows:
        builder.add(*row)
    return builder.build()


def touched(rng: random.Random, h: History) -> History:
    """The history, now and then with a note, with a read of unknown answer, or not all judged."""
    if rng.random() < 0.1:
        h = replace(h, notes=["one line was cut"])
    if rng.random() < 0.03:
        h = replace(h, unjudged={"operations of another kind": 2})
    reads = np.flatnonzero((h.op_kind != WRITE) & (h.op_length >= 0))
    if rng.random() < 0.05 and len(reads):
        at = int(reads[rng.randrange(len(reads))])
        value, length = h.op_value.copy(), h.op_length.copy()
        length[at] = -1
        value[at] = 0 if h.model == "list-append" else NOT_KNOWN
        h = replace(h, op_value=value, op_length=length)
    return h


# -- the two ways are held equal -------------------------------------------------------------------


def compare_drawn(seed: object, model: str, count: int) -> None:
    """Fails at the first drawn history of which the two ways say something different."""
    rng, proven = random.Random(f"{seed} {model}"), 0
    for number, history in enumerate(drawn_histories(rng, model, count)):
        found = explained_by_one_order(history)
        proven += found
        if not found:
            continue  # then `check` is the full checker
        options = {}
        if model == "rw-register" and number % 3:
            options = {("sequential_keys", "linearizable_keys")[number % 2]: True}
        different = difference(history, **options)
        assert not different, f"number {number} of {model}, seed {seed}\n{different}"
    assert count * 0.2 < proven < count * 0.8, (proven, count)


@pytest.mark.parametrize("model", MODELS)
def test_thousands_of_drawn_histories_are_judged_as_the_full_checker_judges_them(
    model: str, seed: int
) -> None:
    compare_drawn(seed, model, 3000)


@pytest.mark.slow
@pytest.mark.parametrize("model", MODELS)
def test_more_drawn_histories_are(model: str, seed: int) -> None:
    compare_drawn(f"more {seed}", model, 60_000)


# Everybody at once, each in a session of its own: nothing but what was read tells an order. This is
# where the full checker may have to leave registers undecided.
@pytest.mark.parametrize("sessions", [None, 3])
def test_registers_of_snapshots_are_judged_the_same_up_to_the_most_transactions(
    sessions: int | None, seed: int
) -> None:
    proven = 0
    for number in range(80):
        rng = random.Random(f"{seed} {sessions} {number}")
        history = snapshot_isolated(
            rng, rng.randint(2, MOST_TRANSACTIONS), keys=rng.randint(1, 6), sessions=sessions
        )
        proven += explained_by_one_order(history)
        different = difference(history)
        assert not different, f"number {number}, seed {seed}\n{different}"
    assert proven > 20


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("name", CATALOGUE)
def test_an_anomaly_of_the_catalogue_is_left_to_the_full_checker(model: str, name: str) -> None:
    lines = CATALOGUE[name].example if model == MODELS[0] else CATALOGUE[name].register
    history = parse(lines, model)
    assert not explained_by_one_order(history)
    assert not difference(history)


# -- negative controls -----------------------------------------------------------------------------


def only(h: History, kept: np.ndarray) -> History:
    """The history with these operations only."""
    starts = np.concatenate(([0], np.cumsum(kept)))[h.op_start]
    columns = (h.op_kind, h.op_key, h.op_value, h.op_length)
    kind, key, value, length = (column[kept] for column in columns)
    return replace(h, op_start=starts, op_kind=kind, op_key=key, op_value=value, op_length=length)


def as_outcome(*codes: int, becomes: int) -> Callable[[History], History]:
    return lambda h: replace(
        h, txn_outcome=np.where(np.isin(h.txn_outcome, codes), becomes, h.txn_outcome)
    )


def first_read_only(h: History) -> History:
    """What a transaction read of a key that it had used already is not looked at."""
    kept = np.ones(len(h.op_kind), bool)
    for v in range(len(h)):
        ops = range(int(h.op_start[v]), int(h.op_start[v + 1]))
        for op in ops:
            used = any(h.op_key[other] == h.op_key[op] for other in ops if other < op)
            kept[op] = h.op_kind[op] == WRITE or not used
    return only(h, kept)


def misread(h: History) -> History:
    """A read that saw what nobody wrote is left out, as if it had failed."""
    writes = h.op_kind == WRITE
    written = set(zip(h.op_key[writes].tolist(), h.op_value[writes].tolist(), strict=True))
    kept = writes.copy()
    for op in np.flatnonzero(~writes).tolist():
        at, key = int(h.op_value[op]), int(h.op_key[op])
        seen = [at] if h.model == "rw-register" and h.decode(at) is not None else []
        if h.model == "list-append":
            seen = h.elements[at : at + int(h.op_length[op])].tolist()
        kept[op] = all((key, value) in written for value in seen)
    return only(h, kept)


CARELESS: dict[str, Callable[[History], History]] = {
    "real time and sessions are not followed": lambda h: replace(
        h,
        txn_begin=np.zeros(len(h), int),
        txn_end=np.ones(len(h), int),
        txn_session=np.arange(len(h)),
    ),
    "a session's own order is not followed": lambda h: replace(h, txn_session=np.arange(len(h))),
    "aborted writes count": as_outcome(1, 2, becomes=TXN_COMMITTED),
    "an unknown outcome counts as committed": as_outcome(TXN_UNKNOWN, becomes=TXN_COMMITTED),
    "an unknown outcome counts as aborted": as_outcome(TXN_UNKNOWN, becomes=2),
    "reads of unknown answer are left out": lambda h: only(
        h, (h.op_kind == WRITE) | ((h.op_length >= 0) & (h.op_value != NOT_KNOWN))
    ),
    "reads by a predicate are left out": lambda h: only(h, h.op_kind != PREDICATE_READ),
    "reads of what nobody wrote are left out": misread,
    "second uses of a key are left out": first_read_only,
    "what is not judged is forgotten": lambda h: replace(h, unjudged={}),
}


LATE = {
    ("an unknown outcome counts as aborted", "list-append"),
    ("an unknown outcome counts as committed", "rw-register"),
}
"""Caught by one history of a thousand: quick is the same way with the other model."""


@pytest.mark.parametrize(
    ("name", "model"),
    [
        pytest.param(name, model, marks=[pytest.mark.slow] * ((name, model) in LATE))
        for name in CARELESS
        for model in MODELS
    ],
)
def test_a_careless_way_is_caught(
    model: str, name: str, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    caught_by_comparison(
        lambda h: explained_by_one_order(CARELESS[name](h)), model, seed, monkeypatch
    )


@pytest.mark.parametrize("model", MODELS)
def test_a_way_that_takes_values_written_twice_is_caught(
    model: str, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serial_order, "_any_twice", lambda written: False)
    caught_by_comparison(explained_by_one_order, model, seed, monkeypatch)


def test_a_way_that_reads_sets_as_nothing_is_caught(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def careless(h: History) -> bool:
        kept = np.ones(len(h.op_kind), bool)
        kept[list(h.sets)] = False
        return explained_by_one_order(replace(only(h, kept), sets={}))

    caught_by_comparison(careless, "list-append", seed, monkeypatch)


def caught_by_comparison(
    careless: Callable[[History], bool], model: str, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Plants a careless way; fails unless the comparison of the drawn histories finds it."""
    monkeypatch.setattr(decide, "explained_by_one_order", careless)
    rng = random.Random(f"{seed} {model}")
    wrong = (h for h in drawn_histories(rng, model, 3000) if careless(h) and difference(h))
    assert next(wrong, None) is not None


# -- what it takes ---------------------------------------------------------------------------------


def test_a_history_that_is_too_long_is_left_to_the_full_checker() -> None:
    lines = [f"a {2 * i}-{2 * i + 1} ok append:x:{i}" for i in range(MOST_TRANSACTIONS + 1)]
    assert explained_by_one_order(parse(lines[1:], "list-append"))
    assert not explained_by_one_order(parse(lines, "list-append"))
    assert set(check(parse(lines, "list-append")).levels) == set(LEVELS)


def test_the_search_is_bounded_where_nothing_fits() -> None:
    # Blind writes to two registers, in any order, and a reader of two that no order has at once.
    lines = [f"s{i} 0-9 ok w:x:{i} w:y:{i}" for i in range(MOST_TRANSACTIONS - 1)]
    history = parse([*lines, "r 0-9 ok r:x:1 r:y:2"], "rw-register")
    search = Search(serial_order._transactions(history), lists=False)
    assert not search.run()
    assert search.left == 0
