"""Strategies for Hypothesis: it draws programs first, then the order in which their steps merge.

This order finds more: unordered lists of (session, step) found nothing in 300 examples where
programs and then their merge found a lost update at once. Values are numbered after the drawing, so
that every write is told apart and a shrunk program has small numbers.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import Any

from hypothesis import strategies as st

from workloads.engines import Settings
from workloads.schedules import FAST, Schedule, Schema

# Operations that a schema's features add to programs: they must fail without an effect.
BREAKING = {"unique": "clash", "check": "bad", "foreign": "orphan"}
PLAIN = ("index", "unique", "check", "foreign", "trigger", "spread")
PAGES = (4096, 1024, 512, 32768, 65536)


def schemas(
    models: tuple[str, ...] = ("list", "register"),
    features: tuple[str, ...] = PLAIN,
    *,
    most_features: int = 3,
    pages: tuple[int, ...] = PAGES,
) -> st.SearchStrategy[Schema]:
    """Schemas with some of the features; two files only where `attached` is among them."""
    some = (
        st.lists(st.sampled_from(features), unique=True, max_size=most_features)
        if features
        else st.just([])
    )
    return st.builds(
        lambda model, chosen, page: Schema(model, 3, 2, tuple(sorted(chosen)), page),
        st.sampled_from(models),
        some,
        st.sampled_from(pages),
    )


def settings_drawn() -> st.SearchStrategy[Settings]:
    """A connection's pragmas: none of them may change what a transaction sees.

    A cache of no page, of one and of ten; the log copied back after every commit, or never; reads
    of the file through a map of memory. The first of each is as in FAST, to which it shrinks.
    """
    return st.builds(
        Settings,
        synchronous=st.sampled_from((FAST.synchronous, "normal", "full")),
        busy_timeout_ms=st.just(FAST.busy_timeout_ms),
        cache_size=st.sampled_from((FAST.cache_size, 10, 1, 0)),
        wal_autocheckpoint=st.sampled_from((FAST.wal_autocheckpoint, 1, 0)),
        mmap_bytes=st.sampled_from((FAST.mmap_bytes, 1 << 20)),
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
    pragmas: Settings | st.SearchStrategy[Settings] = FAST,
) -> Schedule:
    """A schedule of two to four programs.

    transactions, operations : most of a program, and of a transaction. deletes : rows may go, and
    then only the model can judge (`Schedule.checkable`). patient : None draws it. pragmas : of
    every session; a strategy (`settings_drawn`) draws them.
    """
    shape = schema if isinstance(schema, Schema) else draw(schema)
    count = draw(st.integers(*sessions))
    # Often all sessions do the same kind of thing: two that read and then write the same key meet
    # in one schedule of a hundred so, and in one of a thousand where each draws for itself.
    theme = draw(_theme(shape))
    drawn: list[list[Any]] = []
    for _ in range(count):
        txns = draw(st.integers(1, transactions))
        steps = [draw(_transaction(shape, operations, deletes, theme)) for _ in range(txns)]
        drawn.append([step for txn in steps for step in txn])
    order = draw(st.permutations([s for s in range(count) for _ in drawn[s]]))
    wait = draw(st.booleans()) if patient is None else patient
    chosen = pragmas if isinstance(pragmas, Settings) else draw(pragmas)
    return replace(numbered(drawn, order, shape, patient=wait), settings=chosen)


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


@lru_cache(maxsize=100)
def _theme(schema: Schema) -> st.SearchStrategy[Any]:
    kinds = len(_pieces(schema))
    return st.sampled_from([*range(kinds), *[None] * kinds])


# Weights are places in a list that is sampled: `one_of` drops a strategy that it has already.
@lru_cache(maxsize=1000)
def _transaction(
    schema: Schema, operations: int, deletes: bool, theme: int | None
) -> st.SearchStrategy[Any]:
    one = _operation(schema, deletes)
    pieces = _pieces(schema)
    kinds = [theme] * 6 if theme is not None else [*range(len(pieces))]
    kind = st.sampled_from([*kinds, None])
    shape = st.sampled_from(["plain"] * 8 + ["saved", "alone"])
    end = st.sampled_from([("commit",)] * 7 + [("rollback",)])
    undo = st.sampled_from([("rollback_to", "a"), ("release", "a")])
    size = st.integers(1, max(operations // 2, 1))

    @st.composite
    def transaction(draw: st.DrawFn) -> list[tuple[Any, ...]]:
        def body() -> list[tuple[Any, ...]]:
            made: list[tuple[Any, ...]] = []
            for _ in range(draw(size)):
                chosen = draw(kind)
                made += [draw(one)] if chosen is None else draw(pieces[chosen])
            return made[:operations]

        how = draw(shape)
        if how == "alone":
            return [draw(one)]
        if how == "plain":
            return [("begin",), *body(), draw(end)]
        # A part of the transaction inside a savepoint, undone or kept.
        inside = [("savepoint", "a"), *body()[:2], draw(undo)]
        return [("begin",), *body()[:2], *inside, draw(end)]

    return transaction()


@lru_cache(maxsize=1000)
def _pieces(schema: Schema) -> tuple[st.SearchStrategy[Any], ...]:
    """Operations that transactions are made of in earnest, on the few keys on which they meet."""
    write = "append" if schema.model == "list" else "w"
    last = len(schema.keys) - 1
    hot, other = st.integers(0, 1), st.integers(0, 1)
    rows = ("range", schema.rows, last)
    fresh = st.integers(schema.rows, last)
    return (
        hot.map(lambda k: [("r", k), (write, k, None)]),
        hot.map(lambda k: [("r", 0), ("r", 1), (write, k, None)]),
        st.tuples(hot, other).map(lambda t: [("r", t[0]), (write, t[1], None)]),
        st.tuples(hot, other).map(lambda t: [(write, t[0], None), (write, t[1], None)]),
        fresh.map(lambda k: [rows, ("put", k, None)]),
        st.tuples(hot, other).map(lambda t: [(write, t[0], None), ("r", t[1])]),
        hot.map(lambda k: [("r", k), ("r", 1 - k)]),
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
