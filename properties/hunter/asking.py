"""What an engine takes of the grammar: each feature and option is asked once, before a hunt."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import groupby

from properties.hunter.drawing import FEATURES, Option
from workloads.engines import OF_FILE, find_engine
from workloads.schedules import CannotPlay, Death, Program, Result, Stage, Step, pragma

KEYS = "PRAGMA foreign_keys=ON"
WITH_KEYS = ("foreign", "deferred keys")

DIED = "it never came back"
"""Begins the words on what took the process down, or hung, when it was asked."""

Options = tuple[tuple[str, str], ...]


def asked_for(
    stage: Stage, features: Iterable[str] = tuple(FEATURES), options: Options = ()
) -> dict[str, str]:
    """The features of the grammar that the engine refuses, with its words."""
    refused, left, again = {}, list(features), set[str]()
    while left:
        feature = left.pop(0)
        first, stage.first = stage.first, ((KEYS,) if feature in WITH_KEYS else ())
        try:
            results = _answers(stage, _statements(FEATURES[feature]), options)
            if wrong := next((one for one in results if one.status == "failed"), None):
                refused[feature] = wrong.message
            elif feature == "foreign" and stage.ask(["PRAGMA foreign_keys"])[0].rows != [(1,)]:
                refused[feature] = f"{KEYS} has no effect"
            stage.close()
        except (CannotPlay, Death) as refusal:
            stage.drop()
            if isinstance(refusal, Death) and refusal.by_others and feature not in again:
                again.add(feature)
                left.insert(0, feature)
            else:
                refused[feature] = _words(refusal)
        finally:
            stage.first = first
    return refused


def deadly(refused: Mapping[str, str]) -> Iterator[Program]:
    """A program for each feature whose statements took the process down when it was asked."""
    verbs = {"BEGIN": "begin", "COMMIT": "commit", "ROLLBACK": "rollback"}
    for feature, words in refused.items():
        if words.startswith(DIED) and feature in FEATURES:
            steps = [
                Step("A", verbs[sql], "") if sql in verbs else Step("A", "sql", sql)
                for sql in _statements(FEATURES[feature])
            ]
            yield Program((), tuple(steps))


def _words(refusal: CannotPlay | Death) -> str:
    return f"{DIED}: {refusal}" if isinstance(refusal, Death) else str(refusal)


def _answers(stage: Stage, statements: list[str], options: Options = ()) -> list[Result]:
    """What a new database answers to one session, which stays open."""
    stage.renew((), options)
    return stage.ask(statements)


def _statements(text: str) -> list[str]:
    before, trigger, rest = text.partition("CREATE TRIGGER")
    return [*filter(None, before.split(";")), *([trigger + rest] if trigger else [])]


def options_for(
    stage: Stage, refused: Mapping[str, str]
) -> tuple[tuple[Option, ...], dict[str, str]]:
    """The options with which the engine opens connections, and those that it refuses, with its
    words.

    refused : features; an option that gives some of them is drawn together with them.
    """
    engine, taken, not_taken = find_engine(stage.engine), list[Option](), dict[str, str]()
    for name, value, words in _refusals(stage, getattr(engine, "arguments", ())):
        if words:
            not_taken[f"{name} = {value}"] = words
            continue
        gives = frozenset[str]()
        if name in getattr(engine, "arguments", ()):
            gives = frozenset(refused) - asked_for(stage, refused, ((name, value),)).keys()
        taken.append(Option(name, value, gives))
    return tuple(taken), not_taken


def _refusals(stage: Stage, arguments: tuple[str, ...]) -> Iterator[tuple[str, str, str]]:
    """Each option that the engine declares: name, value, and why it is refused, or ""."""
    declared: Mapping[str, tuple[str, ...]] = getattr(find_engine(stage.engine), "options", {})
    pairs = [(name, value) for name, values in declared.items() for value in values]
    for plain, group in groupby(pairs, lambda pair: pair[0] not in (*arguments, "journal_mode")):
        if plain:
            yield from _pragmas(stage, list(group))
        else:
            for name, value in group:
                yield name, value, _opened(stage, name, value)


def _pragmas(stage: Stage, pairs: list[tuple[str, str]]) -> Iterator[tuple[str, str, str]]:
    """PRAGMAs: one that gives no answer when it is read is none of this engine's."""
    asked = [sql for name, value in pairs for sql in (pragma(name, value), f"PRAGMA {name}")]
    try:
        results = _answers(stage, asked)
        stage.close()
    except (CannotPlay, Death) as refusal:
        stage.drop()
        if len(pairs) > 1:  # one of them is to blame
            for pair in pairs:
                yield from _pragmas(stage, [pair])
        else:
            yield *pairs[0], _words(refusal)
        return
    for (name, value), made, read in zip(pairs, results[::2], results[1::2], strict=True):
        if made.status != "ok":
            yield name, value, made.message
        elif name not in OF_FILE and not read.rows:
            yield name, value, "it gives no answer when it is read"
        else:
            yield name, value, ""


def _opened(stage: Stage, name: str, value: str) -> str:
    """Why a connection cannot be opened so, or why that changes nothing; "" where it can."""
    try:
        if name != "journal_mode":
            _answers(stage, ["SELECT 1"], ((name, value),))
            stage.close()
            return ""
        first = [pragma(name, other) for other in ("wal", "delete")]  # where it has them
        *_, read, made = _answers(stage, [*first, f"PRAGMA {name}", pragma(name, value)])
        stage.close()
        if made.status != "ok":
            return made.message
        (before,), (after,) = (read.rows or [("",)])[0], (made.rows or [("",)])[0]
        return f"it stays in {before}" if after == before != value else ""
    except (CannotPlay, Death) as refusal:
        stage.drop()
        return _words(refusal)
