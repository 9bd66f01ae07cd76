"""What Hypothesis draws: programs first, then the order in which their steps merge.

Drawn so because it finds things: unordered lists of (session, step) found nothing in 300 examples
where programs-then-merge found a lost update at once. Values are numbered after the drawing, so
that every write is told apart and a shrunk program has small numbers.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from hypothesis import strategies as st

from workloads.engines import Settings
from workloads.schedule import Schedule, Schema

# What a schema's features let a program try: operations that must fail without an effect.
BREAKING = {"unique": "clash", "check": "bad", "foreign": "orphan"}
PLAIN = ("index", "unique", "check", "foreign", "trigger", "spread")


def schemas(
    models: tuple[str, ...] = ("list", "register"),
    features: tuple[str, ...] = PLAIN,
    *,
    most_features: int = 3,
    pages: tuple[int, ...] = (4096, 1024),
) -> st.SearchStrategy[Schema]:
    """Schemas with some of the features; two files only where `attached` is among them."""
    some = st.lists(st.sampled_from(features), unique=True, max_size=most_features) if features else st.just([])
    return st.builds(
        lambda model, chosen, page: Schema(model, 3, 2, tuple(sorted(chosen)), page),
        st.sampled_from(models),
        some,
        st.sampled_from(pages),
    )


def settings_drawn() -> st.SearchStrategy[Settings]:
    """A connection's pragmas: none of them may change what a transaction sees."""
    return st.builds(
        Settings,
        synchronous=st.sampled_from(("off", "normal", "full")),
        busy_timeout_ms=st.just(0),
        cache_size=st.sampled_from((-2000, 10, 1)),
        wal_autocheckpoint=st.sampled_from((1000, 1, 0)),
        mmap_bytes=st.sampled_from((0, 1 << 20)),
    )


@st.composite
def schedules(
    draw: st.DrawFn,
    schema: Schema | st.SearchStrategy[Schema] = Schema(),  # noqa: B008 - frozen, and a default
    *,
    sessions: tuple[int, int] = (2, 3),
    transactions: int = 2,
    operations: int = 4,
    deletes: bool = False,
    patient: bool | None = None,
) -> Schedule:
    """A schedule of two to four programs.

    transactions, operations : most of a program, and of a transaction. deletes : rows may go, and
    then only the model can judge (`Schedule.checkable`). patient : None draws it.
    """
    shape = schema if isinstance(schema, Schema) else draw(schema)
    count = draw(st.integers(*sessions))
    one = st.lists(_transaction(shape, operations, deletes), min_size=1, max_size=transactions)
    drawn = [[step for txn in draw(one) for step in txn] for _ in range(count)]
    order = draw(st.permutations([s for s in range(count) for _ in drawn[s]]))
    wait = draw(st.booleans()) if patient is None else patient
    return numbered(drawn, order, shape, patient=wait)


def numbered(
    drawn: list[list[tuple[Any, ...]]], order: list[int], schema: Schema, *, patient: bool = False
) -> Schedule:
    """A Schedule of operations whose written values (None) are numbered in turn, from 1."""
    value = 0
    programs = []
    for steps in drawn:
        texts = []
        for step in steps:
            if step[-1] is None:
                value += 1
                step = (*step[:-1], value)
            texts.append(" ".join(map(str, step)))
        programs.append("; ".join(texts))
    return Schedule(tuple(programs), "".join(map(str, order)), schema, patient)


@lru_cache(maxsize=1000)
def _transaction(schema: Schema, operations: int, deletes: bool) -> st.SearchStrategy[Any]:
    one = _operation(schema, deletes)
    # Mostly of pieces that transactions are made of in earnest: of independent operations one in
    # thousands reads a key, writes it, and meets another that does the same.
    piece = st.one_of(_piece(schema), _piece(schema), one.map(lambda op: [op]))
    body = st.lists(piece, min_size=1, max_size=max(operations // 2, 1)).map(
        lambda pieces: [op for some in pieces for op in some][:operations]
    )
    end = st.sampled_from([("commit",)] * 7 + [("rollback",)])
    plain = st.tuples(body, end).map(lambda t: [("begin",), *t[0], t[1]])
    # A part of the transaction inside a savepoint, undone or kept.
    undo = st.sampled_from([("rollback_to", "a"), ("release", "a")])
    saved = st.tuples(body, body, undo, end).map(
        lambda t: [("begin",), *t[0][:2], ("savepoint", "a"), *t[1][:2], t[2], t[3]]
    )
    alone = one.map(lambda op: [op])
    return st.one_of(*[plain] * 8, saved, alone)


@lru_cache(maxsize=1000)
def _piece(schema: Schema) -> st.SearchStrategy[Any]:
    """Two operations that belong together, on the few keys on which transactions meet."""
    write = "append" if schema.model == "list" else "w"
    last = len(schema.keys) - 1
    hot, other = st.integers(0, 1), st.integers(0, 1)
    rows = ("range", schema.rows, last)
    fresh = st.integers(schema.rows, last)
    return st.one_of(
        hot.map(lambda k: [("r", k), (write, k, None)]),
        st.tuples(hot, other).map(lambda t: [("r", t[0]), (write, t[1], None)]),
        st.tuples(hot, other).map(lambda t: [("r", t[0]), ("r", t[1])]),
        st.tuples(hot, other).map(lambda t: [(write, t[0], None), (write, t[1], None)]),
        fresh.map(lambda k: [rows, ("put", k, None)]),
        st.tuples(hot, other).map(lambda t: [(write, t[0], None), ("r", t[1])]),
    )


@lru_cache(maxsize=1000)
def _operation(schema: Schema, deletes: bool) -> st.SearchStrategy[tuple[Any, ...]]:
    there = st.integers(0, schema.rows - 1)
    anywhere = st.integers(0, len(schema.keys) - 1)
    last = len(schema.keys) - 1
    write = "append" if schema.model == "list" else "w"
    some: list[st.SearchStrategy[tuple[Any, ...]]] = [
        st.tuples(st.just("r"), there),
        st.tuples(st.just(write), there, st.none()),
        st.sampled_from([("range", 0, last), ("range", schema.rows, last), ("range", 0, 1)]),
        st.tuples(st.just("put"), anywhere, st.none()),
        st.tuples(st.just("insert"), st.integers(schema.rows, last), st.none()),
        st.tuples(st.just("where"), st.integers(0, 2)),
    ]
    if deletes:
        some.append(st.tuples(st.just("delete"), anywhere))
    if breaking := [BREAKING[f] for f in schema.features if f in BREAKING]:
        some.append(st.tuples(st.sampled_from(breaking), anywhere))
    return st.one_of(*some)
