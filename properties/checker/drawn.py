"""Small histories drawn from a seed: brute force can judge them, and they hold all that confuses.

They have values written twice, lists answered with sets, predicate reads, and keys and values that
Python calls equal and that are not the same. Their reads fit some order of the writes, or nearly.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

from workloads.records import Builder, History, Literal, Unordered

KEYS: tuple[Any, ...] = ("x", "y", "z")
ALIKE: tuple[Any, ...] = (1, True, 1.0, "1", Literal(":x"), "x", Literal("[1]"), 0, False, "nil")


@dataclass(frozen=True)
class Confusing:
    """Features that a drawn history may have; it may have all of them at once."""

    repeated: bool = False
    sets: bool = False
    predicates: bool = False
    alike: bool = False
    most: int = 3


def drawn(rng: random.Random, model: str, how: Confusing = Confusing()) -> History:
    """Two to `most` transactions of one to three operations."""
    lists = model == "list-append"
    write = "append" if lists else "w"
    keys = rng.sample(ALIKE if how.alike else KEYS, rng.randint(1, 3))
    programs = _programs(rng, write, keys, how)
    outcomes = rng.choices(("committed", "failed", "unknown"), (8, 1, 1), k=len(programs))
    versions: dict[int, list[Any]] = {at: [] for at in range(len(keys))}
    for i in rng.sample(range(len(programs)), len(programs)):
        for f, at, value in programs[i]:
            if f == write and (outcomes[i] != "failed" or rng.random() < 0.1):
                versions[at].append(value)
    builder, free = Builder(model), dict.fromkeys("abc", 0)
    for program, outcome in zip(programs, outcomes, strict=True):
        ops = _answered(rng, program, versions, write, lists, how)
        session = rng.choice("abc")
        begin = free[session] + rng.randint(0, 6)
        end = begin + rng.randint(1, 6)
        free[session] = end + rng.randint(0, 1)
        builder.add(session, begin, end, outcome, [(f, keys[at], v) for f, at, v in ops])
    return builder.build()


Program = list[tuple[str, int, Any]]


def _programs(rng: random.Random, write: str, keys: list[Any], how: Confusing) -> list[Program]:
    programs: list[Program] = []
    number = 0
    for _ in range(rng.randint(2, how.most)):
        programs.append([])
        for _ in range(rng.randint(1, 3)):
            at = rng.randrange(len(keys))
            if rng.random() < 0.5:
                number += 1
                value = rng.randint(1, 2) if how.repeated and rng.random() < 0.7 else number + 2
                if how.alike:
                    value = ALIKE[value % len(ALIKE)] if rng.random() < 0.7 else number + 20
                programs[-1].append((write, at, value))
            else:
                predicate = how.predicates and rng.random() < 0.5
                programs[-1].append(("rp" if predicate else "r", at, None))
    return programs


def _answered(
    rng: random.Random,
    program: Program,
    versions: dict[int, list[Any]],
    write: str,
    lists: bool,
    how: Confusing,
) -> Program:
    """The program with what its reads saw: a version, its own writes after it; now and then not."""
    sane = rng.random() < 0.6
    ops: Program = []
    own: dict[int, list[Any]] = {}
    chosen: dict[int, int] = {}
    for f, at, value in program:
        if f == write:
            own.setdefault(at, []).append(value)
            ops.append((f, at, value))
            continue
        line, mine = versions[at], own.get(at, [])
        # Before its own writes, where it stands in the order.
        stop = min((i for i, v in enumerate(line) if mine and v is mine[0]), default=len(line))
        place = chosen.setdefault(at, rng.randint(0, stop if sane else len(line)))
        if not sane and rng.random() < 0.5:
            place = rng.randint(0, len(line))
        seen: Any
        if lists:
            seen = [*line[: stop if sane and mine else place], *(mine if sane else [])]
            if how.sets and rng.random() < 0.4:
                seen = Unordered(rng.sample(seen, len(seen)))
        elif sane and mine:
            seen = mine[-1]
        else:
            seen = line[place - 1] if place else None
        ops.append((f, at, seen))
    return ops


def replicated(
    rng: random.Random,
    model: str,
    transactions: int,
    *,
    keys: int = 3,
    sessions: int = 3,
    stale: float = 0.4,
    torn: float = 0.2,
    most: int = 4,
) -> History:
    """A primary's writes one after the other, and sessions that ask old copies of it, or mixtures.

    stale : how often a transaction reads an old copy; torn : how often one of its reads has an age
        of its own. With neither, every session is at the primary. most : operations of each.
    """
    builder, lists = Builder(model), model == "list-append"
    log: dict[int, list[int]] = {key: [] for key in range(keys)}
    marks = [dict.fromkeys(range(keys), 0)]  # how many writes each key had after each transaction
    for number in range(transactions):
        age = rng.randrange(len(marks)) if rng.random() < stale else len(marks) - 1
        ops: list[tuple[str, int, Any]] = []
        own: dict[int, list[int]] = {}
        for place in range(rng.randint(1, most)):
            key = rng.randrange(keys)
            if rng.random() < 0.45:
                value = 10 * number + place + 1
                own.setdefault(key, []).append(value)
                ops.append(("append" if lists else "w", key, value))
                continue
            at = rng.randrange(len(marks)) if rng.random() < torn else age
            if lists and key in own:
                at = len(marks) - 1  # what it appended stands after all that was there
            seen = [*log[key][: marks[at][key]], *own.get(key, [])]
            ops.append(("r", key, seen if lists else seen[-1] if seen else None))
        for key, values in own.items():
            log[key] += values
        marks.append({key: len(values) for key, values in log.items()})
        session = rng.randrange(sessions)
        builder.add(session, 2 * number, 2 * number + 1, "committed", ops)
    return builder.build()


def snapshot_isolated(
    rng: random.Random, transactions: int, *, keys: int = 5, sessions: int | None = None
) -> History:
    """A history as a snapshot-isolated store of registers would record it: first committer wins.

    sessions : how many are under way at once; None for all, each a session of its own, and then
        nothing but what was read tells an order.
    """
    builder = Builder("rw-register")
    state: dict[int, int] = {}
    last: dict[int, int] = {}  # when each key was committed
    free = list(range(sessions or transactions))
    active: list[tuple[int, int, int, dict[int, int]]] = []  # session, begin, snapshot's time
    began, value = 0, 0
    for time in range(8 * transactions):
        if began < transactions and free and rng.random() < 0.5:
            active.append((free.pop(0), time, time, dict(state)))
            began += 1
            continue
        if not active or rng.random() < 0.5:
            continue
        session, begin, taken, seen = active.pop(rng.randrange(len(active)))
        own: dict[int, int] = {}
        ops: list[tuple[str, int, int | None]] = []
        for _ in range(rng.randint(1, 4)):
            key = rng.randrange(keys)
            if rng.random() < 0.5:
                ops.append(("r", key, own.get(key, seen.get(key))))
            else:
                value += 1
                own[key] = value
                ops.append(("w", key, value))
        refused = any(last.get(key, -1) > taken for key in own)
        if not refused:
            state.update(own)
            last.update(dict.fromkeys(own, time))
        end = time if sessions else 9 * transactions
        builder.add(session, begin if sessions else 0, end, 1 if refused else 0, ops)
        if sessions:
            free.append(session)
    return builder.build()
