"""What differs is found, and a library beside itself differs in nothing."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from workloads.engines import find_engine
from workloads.trials import find_trial
from workloads.trials.battery import STATEMENTS, Item
from workloads.trials.compatibility import ADDS, DIFFERS, LATER, SAME, WORDS, compared
from workloads.trials.compatibility_client import battery, changed, made, read

PAIRS: dict[str, tuple[Item, list[str], list[str], str]] = {
    "alike": (Item("x", ()), ["no rows", "int 1"], ["no rows", "int 1"], SAME),
    "another value": (Item("x", ()), ["int 1"], ["int 2"], DIFFERS),
    "another type": (Item("x", ()), ["int 1"], ["float 1.0"], DIFFERS),
    "one refuses": (Item("x", ()), ["error: no"], ["int 1"], DIFFERS),
    "other words": (Item("x", ()), ["error: no"], ["error: never"], WORDS),
    "later": (Item("x", (), since=(3, 45)), ["int 1"], ["error: no such function"], LATER),
    "late, refused by the later": (Item("x", (), since=(3, 20)), ["int 1"], ["error"], DIFFERS),
    "added": (Item("x", (), adds=True), ["int 1"], ["error: syntax"], ADDS),
}  # fmt: skip


@pytest.mark.parametrize("name", PAIRS)
def test_two_answers_are_held_against_each_other(name: str) -> None:
    item, here, there, kind = PAIRS[name]
    assert compared(item, here, there, (3, 40, 1))[0] == kind


def bare(name: str, path: Path) -> Any:
    engine: Any = find_engine(name)
    if why := engine.missing():
        pytest.skip(why)
    return engine.bare(str(path))


def test_the_battery_finds_what_differs_and_nothing_beside_itself(tmp_path: Path) -> None:
    names = {"libsql": "libsql", "sqlite": "sqlite", "again": "sqlite"}
    said = {
        file: battery(bare(name, tmp_path / f"{file}.db")) for file, name in names.items()
    }  # each with a file of its own: no two libraries open one
    assert said["sqlite"] == said["again"]
    pairs = zip(STATEMENTS, said["libsql"], said["sqlite"], strict=True)
    kinds = {item.about: compared(item, one, other, (3, 40))[0] for item, one, other in pairs}
    assert kinds["an integer above 2**53"] == DIFFERS  # the binding's well-known trap
    assert kinds["RANDOM ROWID"] == ADDS
    assert kinds["UPSERT"] == kinds["triggers"] == kinds["STRICT"] == SAME


def test_a_file_is_read_as_it_was_written_and_a_change_is_seen(tmp_path: Path) -> None:
    connection = bare("sqlite", tmp_path / "a.db")
    written = made(connection)[-1]
    assert written[0] == "str 'ok'" and read(connection)[-1] == written
    assert changed(connection)[-1] != written


@pytest.mark.slow
def test_every_system_that_is_there_is_compared_and_every_file_is_carried(tmp_path: Path) -> None:
    with ExitStack() as stack:
        client = find_trial("compatibility").begin(tmp_path, stack, quick=True)
        rows = client.block({}, np.random.default_rng(1))
        assert all(check["ok"] for check in client.checks())
    assert sum(row["system"] == "libsql" for row in rows) == len(STATEMENTS)
    assert sum(row["system"] == "files" for row in rows) == 9
