"""The reader in C tells what msgspec and Python tell, of whole lines and of damaged ones."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from workloads.files import compiled_path, load_compiled
from workloads.records import columns, elle, elle_blocks, elle_lines, elle_scanned
from workloads.records.elle_scanned import BUILD, MODULE_NAME, SOURCE, Scanned
from workloads.records.test_elle_blocks import lines_of, told

C = load_compiled(compiled_path(SOURCE, BUILD, MODULE_NAME), MODULE_NAME)
pytestmark = pytest.mark.skipif(
    C is None, reason="the reader of histories in C is not built: make setup"
)
PIECES = (
    *'{}[]":,-.0123456789eE \t\r\n\\\x00\x7fé',
    *("null", "true", "nul", '"x"', "-0", "00", "1.0", "1e3", "[]", "{}", ", ", '"r"', '"rp"'),
    *('"value": null, ', '"type": "ok", ', '"f": {"a": [1.5, true]}, ', '"\\u0074ype": 1, '),
    *("123456789012345678", "1234567890123456789", "[" * 20 + "]" * 20, '"extra": -1.25, '),
)


def damaged(rng: random.Random, text: str) -> str:
    """The text with one or two pieces put in, taken out or put in the place of others."""
    for _ in range(rng.randrange(1, 3)):
        at = rng.randrange(len(text) + 1)
        text = text[:at] + rng.choice((*PIECES, "")) + text[at + rng.choice((0, 0, 1, 2)) :]
    return text


def in_other_words(rng: random.Random, text: str) -> str:
    """The same JSON with other blanks between its parts, where they come after a comma or colon."""
    blank = rng.choice(("", " ", "  ", "\t"))
    text = text.replace(", ", f"{rng.choice(('', ' '))},{blank}").replace(": ", f":{blank}")
    return text.replace("\n", rng.choice(("\n", "\n", " \n", "\r\n")))


def draw(rng: random.Random, path: Path, monkeypatch: pytest.MonkeyPatch) -> str | None:
    """Write a history, set the limits of its reader, and return the model to ask for."""
    oddity = rng.choice((0.0, 0.0, 0.0, 0.02))
    text = in_other_words(rng, "\n".join(lines_of(rng, oddity)) + rng.choice(("", "\n")))
    if rng.random() < 0.5:
        text = damaged(rng, text)
    path.write_bytes(text.encode(errors="surrogatepass"))
    size = rng.choice((300, 2000, 1 << 17))
    monkeypatch.setattr(elle_lines, "CHUNK_BYTES", size)
    monkeypatch.setattr(elle, "CHUNK_BYTES", size)
    monkeypatch.setattr(elle, "LOOKED_AT", 1)
    return rng.choice((None, None, None, None, "list-append", "rw-register"))


def three_ways(path: Path, model: str | None, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What is told of a file by the reader in C, by msgspec, and line by line."""

    def refused(*_: Any) -> Any:
        raise elle_blocks.Unusual

    found = [told(path, model)]
    with monkeypatch.context() as patch:
        patch.setattr(elle_scanned, "load", lambda: None)
        found.append(told(path, model))
        patch.setattr(elle, "Block", refused)
        found.append(told(path, model))
    return found


def counting(taken: Counter[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Count the calls of both functions in C, and those that took what they were given."""
    assert C is not None

    def counted(name: str) -> Callable[..., Any]:
        def call(*args: Any) -> Any:
            found = getattr(C, name)(*args)
            taken[name] += found is not None
            taken[f"{name} left"] += found is None
            return found

        return call

    module = SimpleNamespace(lines=counted("lines"), operations=counted("operations"))
    monkeypatch.setattr(elle_scanned, "load", lambda: module)


def test_damaged_lines_are_told_as_by_msgspec_and_line_by_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    path, refused, taken = tmp_path / "history.jsonl", 0, Counter[str]()
    counting(taken, monkeypatch)
    for number in range(2000):
        rng = random.Random(f"{seed} {number}")
        model = draw(rng, path, monkeypatch)
        first, *others = three_ways(path, model, monkeypatch)
        assert others == [first, first], f"seed {seed}, number {number}"
        refused += len(first) == 1
    assert min(taken.values()) > 100 and len(taken) == 4, taken
    assert 200 < refused < 1500


def wrong_label(columns: bytes) -> bytes:
    """The last line's process is the first one's."""
    found = np.frombuffer(columns, np.int64).reshape(7, -1).copy()
    found[1, -1] = found[1, 0]
    return found.tobytes()


def wrong_value(found: tuple[Any, ...]) -> tuple[Any, ...]:
    rows = np.frombuffer(found[1], np.int64).copy()
    rows[2:3] += 1
    return (found[0], rows.tobytes(), *found[2:])


def without_new_keys_order(found: tuple[Any, ...]) -> tuple[Any, ...]:
    return (*found[:3], found[3], found[4][::-1], *found[5:])


@pytest.mark.parametrize(
    ("name", "wrong"),
    [("lines", wrong_label), ("operations", wrong_value), ("operations", without_new_keys_order)],
    ids=["process", "value", "keys"],
)
def test_a_wrong_answer_of_the_reader_in_c_would_be_seen(
    name: str, wrong: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    path, seen = tmp_path / "history.jsonl", 0
    assert C is not None
    whole = {"lines": C.lines, "operations": C.operations}

    def call(*args: Any) -> Any:
        found = whole[name](*args)
        return found if found is None else wrong(found)

    module = SimpleNamespace(**{**whole, name: call})
    monkeypatch.setattr(elle_scanned, "load", lambda: module)
    for number in range(200):
        model = draw(random.Random(f"{seed} {number}"), path, monkeypatch)
        first, second, third = three_ways(path, model, monkeypatch)
        assert second == third
        seen += first != second
    assert seen > 5


@pytest.mark.parametrize(
    "line",
    [
        '{"type": "ok"}',
        '{"type": "ok", "process": 0, "value": [["r", 1, null]], "f": "txn", "time": 12.5}',
        ' {"index":0,"type":"invoke","process":"p","value":[],"extra":{"a":[true,false,null]}}\t',
    ],
)
def test_usual_lines_are_taken(line: str) -> None:
    assert C is not None and C.lines(line.encode(), 1, {}, lambda _: 0) is not None


@pytest.mark.parametrize(
    "line",
    [
        " ", "{}", "[]", '{"type": "ok"', '{"type": "ok"}}', '{"type": "ok"} {"type": "ok"}',
        '{"type": "ok", }', '{"type": ok}', '{"type": "ok" "process": 1}', '{"type": null}',
        '{"type": "ok", "type": "ok"}', '{"type": "ok", "index": 01}', '{"type": "o\\u006b"}',
        '{"type": "ok", "index": -0}', '{"type": "ok", "index": 1.0}',
        '{"type": "ok", "index": 1e2}',
        '{"type": "ok", "index": 1234567890123456789}', '{"type": "ok", "process": true}',
        '{"type": "ok", "process": [1]}', '{"type": "ok", "time": 1.}', '{"type": "ok", "time": -}',
        '{"type": "ok", "f": "é"}', '{"type": "ok", "f": NaN}', '{"type": "ok", "f": "\x00"}',
        '{"process": 1}', '{"type": "ok", "value": [1 2]}', '{"type": "ok", "value": {"a"}}',
        '{"type": "ok", "value": ' + "[" * 500 + "]" * 500 + "}", '{"type": "ok"}\x00',
        '{"type": "ok", "value": nulL}', '{"type": "ok", "value": {"a": 1,}}',
    ],
)  # fmt: skip
def test_unusual_lines_are_left_to_others(line: str) -> None:
    assert C is not None and C.lines(line.encode(), 1, {}, lambda _: 0) is None


def test_what_the_caller_gives_wrongly_is_an_error_and_no_crash() -> None:
    assert C is not None
    calls: list[tuple[Any, ...]] = [(), ("text", 1, {}, int), (b"{}", 1, [], int)]
    for args in [*calls, (b"{}", -1, {}, int), (b"{}", 3, {}, int)]:
        with pytest.raises((TypeError, ValueError)):
            C.lines(*args)
    with pytest.raises(ValueError):
        C.operations(b"[]", b"", b"12345678", {}, True, 0)
    spans = np.array([-1, 5, 0, 90, 5, 2, 9, 9], np.int64)
    for span in spans.reshape(-1, 2):
        assert C.operations(b"[]", span, np.ones(1, np.int64), {}, True, 0) is None

    def fails(_: Any) -> int:
        raise LookupError("no place")

    with pytest.raises(LookupError, match="no place"):
        C.lines(b'{"type": "ok", "process": 7}', 1, {}, fails)


def test_a_build_with_other_codes_or_none_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert elle_scanned.load.__wrapped__() is not None
    with monkeypatch.context() as patch:
        patch.setattr(columns, "WRITE", 7)
        assert elle_scanned.load.__wrapped__() is None
    monkeypatch.setattr(elle_scanned, "BUILD", tmp_path)
    assert elle_scanned.load.__wrapped__() is None
    compiled_path(SOURCE, tmp_path, MODULE_NAME).write_bytes(b"cut short")
    assert elle_scanned.load.__wrapped__() is None


def test_columns_are_those_of_the_lines() -> None:
    assert C is not None
    text = b'{"type": "ok", "value": [1], "f": "g"}\n{"type": "info", "index": 4, "process": "n"}\n'
    found = Scanned(C, 1, text, C.lines(text, 2, {}, lambda process: 5 if process else 6))
    assert found.kinds().tolist() == [0, 3] and found.sessions().tolist() == [6, 5]
    assert [bytes(found.value(i)) for i in (0, 1)] == [b"[1]", b"null"]
    assert [bytes(found.f(i)) for i in (0, 1)] == [b'"g"', b"null"]
    assert found.indexes(np.array([1])).tolist() == [4]  # type: ignore[union-attr]
    with pytest.raises(elle_blocks.Unusual):
        found.indexes(np.array([0, 1]))


@pytest.mark.parametrize("asked", ["NaN", "5", "null", '[["r", 1, NaN]]'])
def test_an_open_line_that_only_python_could_decode_leaves_no_text(
    asked: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = [
        '{"type": "invoke", "process": 1, "value": [["w", 1, 1]]}',
        '{"type": "ok", "process": 1, "value": [["w", 1, 1]]}',
        f'{{"type": "invoke", "process": 0, "value": {asked}, "time": NaN, "f": "drain"}}',
        '{"type": "invoke", "process": 1, "value": [["w", 1, 2]]}',
        '{"type": "info", "process": 0}',
        '{"type": "ok", "process": 1, "value": [["w", 1, 2]]}',
    ]
    path = tmp_path / "history.jsonl"
    path.write_text("\n".join(lines))
    for module in (elle, elle_lines):
        monkeypatch.setattr(module, "CHUNK_BYTES", 10)
    monkeypatch.setattr(elle, "LOOKED_AT", 1)
    first, *others = three_ways(path, None, monkeypatch)
    assert len(first) > 1 and others == [first, first]
