"""Blocks of operation maps are read as they are line by line: same history, same refusal."""

from __future__ import annotations

import json
import random
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from workloads.errors import HistoryError
from workloads.records import TXN_UNKNOWN, elle, elle_blocks, elle_lines, elle_scanned
from workloads.records.elle import read_history

ODD: tuple[Any, ...] = (None, True, 1.0, -1.5, [], [1], ["a"], {"a": 1}, 2**62, -(2**62), 2**63,
                        -(2**62) + 1, 2**70, "x", "", 0, "nemesis", "é", 10**1300)  # fmt: skip


def lines_of(rng: random.Random, oddity: float) -> list[str]:
    """Operation maps of a few processes, one a line; a share is odd in some way."""
    lists = rng.random() < 0.5
    write, indexed = "append" if lists else "w", rng.choices((0, 0.9, 1), (3, 1, 3))[0]
    running: dict[Any, list[Any]] = {}
    lines: list[str] = []

    def odd(usual: Any) -> Any:
        return rng.choice(ODD) if rng.random() < oddity else usual

    def operation(answered: bool) -> list[Any]:
        verb, key = rng.choice((write, "r", "rp")), rng.choice((1, 2, "x", "y"))
        if verb == write:
            return [odd(verb), odd(key), odd(rng.choice((len(lines), str(len(lines)))))]
        seen = [odd(n) for n in range(rng.randrange(4))] if lists else rng.choice((3, "a", None))
        seen = odd(seen if answered and rng.random() < 0.9 else None)
        return [odd(verb), odd(key), seen, 4] if rng.random() < oddity / 4 else [verb, key, seen]

    for index in range(rng.randrange(1, 60)):
        process = rng.choice((0, 1, 2, "p", odd(3)))
        ends = str(process) in running and rng.random() < 0.9
        ends ^= rng.random() < oddity / 8
        value = odd([operation(ends) for _ in range(rng.randrange(4))])
        line = {
            "type": odd(rng.choices(("ok", "fail", "info"), (8, 1, 1))[0] if ends else "invoke"),
            "process": odd("nemesis" if rng.random() < 0.05 else process),
            "f": odd("txn" if rng.random() < 0.9 else "drain"),
            "value": value,
            "index": odd(index) if rng.random() < indexed else None,
        }
        if rng.random() < oddity:
            del line[rng.choice(tuple(line))]
        running.pop(str(process), None) if ends else running.setdefault(str(process), [])
        lines.append(json.dumps(line))
        if rng.random() < oddity / 4:
            lines.append(rng.choice(("", "  ", "[1]", "{", "null", '{"type": "\\ud800"}')))
    return lines


def told(path: Path, model: str | None) -> tuple[Any, ...]:
    """All that a reader tells of a file, values with their types."""
    try:
        history = read_history(path, model)
    except HistoryError as error:
        return (str(error),)
    found: list[Any] = []
    for field in fields(history):
        value = getattr(history, field.name)
        found.append((value.dtype.str, value.tolist()) if isinstance(value, np.ndarray)
                     else repr(value))  # fmt: skip
    return tuple(found)


def both(path: Path, model: str | None, monkeypatch: pytest.MonkeyPatch) -> tuple[Any, Any, int]:
    """What blocks tell and what line by line tells, and how many blocks were taken whole."""
    taken = [0]
    add = elle_blocks.Block.add

    def counted(block: elle_blocks.Block, builder: Any) -> None:
        add(block, builder)
        taken[0] += len(block) > 0

    def refused(*_: Any) -> Any:
        raise elle_blocks.Unusual

    with monkeypatch.context() as patch:
        patch.setattr(elle_blocks.Block, "add", counted)
        by_blocks = told(path, model)
    with monkeypatch.context() as patch:
        patch.setattr(elle, "Block", refused)
        one_by_one = told(path, model)
    return by_blocks, one_by_one, taken[0]


@pytest.fixture(params=["in C", "in Python"])
def scanner(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks are scanned in C, or decoded by msgspec alone."""
    if request.param == "in Python":
        monkeypatch.setattr(elle_scanned, "load", lambda: None)
    elif elle_scanned.load() is None:
        pytest.skip("the reader of histories in C is not built: make setup")


@pytest.mark.usefixtures("scanner")
@pytest.mark.parametrize("oddity", [0.0, 0.002, 0.01, 0.1])
def test_blocks_tell_what_line_by_line_tells(
    oddity: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    path, blocks, refused = tmp_path / "history.jsonl", 0, 0
    for number in range(500):
        rng = random.Random(f"{seed} {oddity} {number}")
        path.write_text("\n".join(lines_of(rng, oddity)) + rng.choice(("", "\n")))
        monkeypatch.setattr(elle_lines, "CHUNK_BYTES", rng.choice((300, 2000, 1 << 17)))
        monkeypatch.setattr(elle, "CHUNK_BYTES", rng.choice((300, 2000, 1 << 17)))
        monkeypatch.setattr(elle, "LOOKED_AT", rng.choice((1, 4, 64)))
        model = rng.choice((None, None, "list-append", "rw-register"))
        by_blocks, one_by_one, taken = both(path, model, monkeypatch)
        assert by_blocks == one_by_one, f"seed {seed}, oddity {oddity}, number {number}"
        blocks, refused = blocks + taken, refused + (len(by_blocks) == 1)
    assert blocks > 2000 * (0.1 - oddity) or oddity == 0.1, "hardly any block was read as one"
    assert refused > 20 or oddity < 0.01, "hardly anything was refused"


@pytest.mark.usefixtures("scanner")
def test_a_block_that_is_read_wrongly_would_be_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "history.jsonl"
    value = [["w", "x", 1], ["r", "y", None]]
    lines = [{"type": kind, "process": 0, "value": value} for kind in ("invoke", "ok")]
    path.write_text("\n".join(map(json.dumps, lines)))
    add = elle_blocks.Block.add

    def wrong(block: elle_blocks.Block, builder: Any) -> None:
        block.code[:] = TXN_UNKNOWN
        add(block, builder)

    by_blocks, one_by_one, taken = both(path, "rw-register", monkeypatch)
    assert taken == 1 and by_blocks == one_by_one
    monkeypatch.setattr(elle_blocks.Block, "add", wrong)
    by_blocks, one_by_one, taken = both(path, "rw-register", monkeypatch)
    assert taken == 1 and by_blocks != one_by_one
