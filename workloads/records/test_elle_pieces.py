"""EDN and arrays that are read in pieces tell what they tell when they are read whole."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from workloads.records import elle, elle_lines
from workloads.records.elle_lines import _first_members
from workloads.records.test_elle_blocks import lines_of, told
from workloads.records.values import edn_text

BREAKS = ("\n", " ", ", ", "[", "]", "{", "}", '"', "\\", ",", "},{", "#_", "#<a", "é", "; x\n", "")


def text_of(rng: random.Random, edn: bool) -> str:
    """A drawn history as an array or as EDN, laid out in some way, every third one damaged."""
    oddity = rng.choice((0.0, 0.0, 0.01))
    maps = [m for m in map(json.loads, valid(lines_of(rng, oddity))) if isinstance(m, dict)]
    for one in maps:
        if rng.random() < 0.1:
            one["extra"] = rng.choice(("a},{b", 'q" },\n{ "', [{"a": {}}, {"b": 1}], "é\n", ";"))
    gap = rng.choice(("\n", "", "\n\n ", " "))
    if edn:
        inner = gap.join(map(edn_text, maps)) if gap else " ".join(map(edn_text, maps))
        inner = inner.replace('"type" ', rng.choice(('"type" ', ":type\n#_ {:a 1} ")))
        form = rng.choice(("{}", "[{}\n]", "({})", "; why\n{}\n"))
    else:
        indent = rng.choice((None, None, 1))
        inner = f"{gap},{gap}".join(json.dumps(m, indent=indent) for m in maps)
        form = rng.choice(("[{}]", "\n [{}\n]\n", "[{}]"))
    text = form.replace("{}", inner)
    if rng.random() < 0.33:
        at = rng.randrange(len(text) + 1)
        text = text[:at] + rng.choice(BREAKS) + text[at + rng.randrange(3) :]
        text = text[: rng.choice((len(text), len(text), at))]
    return text


def valid(lines: list[str]) -> list[str]:
    found = []
    for line in lines:
        try:
            json.loads(line)
        except ValueError:
            continue
        found.append(line)
    return found


@pytest.mark.parametrize("suffix", [".edn", ".json"])
def test_pieces_tell_what_the_whole_tells(
    suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    path, read, refused = tmp_path / f"history{suffix}", 0, 0
    in_pieces = elle._in_pieces

    def counted(*args: Any) -> Any:
        nonlocal read
        history = in_pieces(*args)
        read += history is not None
        return history

    monkeypatch.setattr(elle, "_in_pieces", counted)
    for number in range(400):
        rng = random.Random(f"{seed} {suffix} {number}")
        path.write_bytes(text_of(rng, suffix == ".edn").encode(errors="surrogatepass"))
        monkeypatch.setattr(elle, "CHUNK_BYTES", rng.choice((40, 300, 2000)))
        model = rng.choice((None, None, None, None, "list-append", "rw-register"))
        monkeypatch.setattr(elle, "PIECES_FROM", 0)
        pieces = told(path, model)
        monkeypatch.setattr(elle, "PIECES_FROM", 1 << 40)
        whole = told(path, model)
        assert pieces == whole, f"seed {seed}, number {number}"
        refused += len(whole) == 1
    assert read > 100 and refused > 40, (read, refused)


def test_a_comma_before_the_end_is_told_as_of_the_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(elle, "PIECES_FROM", 0)
    monkeypatch.setattr(elle, "CHUNK_BYTES", 8)
    path = tmp_path / "history.json"
    path.write_text('[{"type": "invoke", "process": 1, "value": []},\n]')
    pieces = told(path, None)
    monkeypatch.setattr(elle, "PIECES_FROM", 1 << 40)
    assert pieces == told(path, None)


@pytest.mark.parametrize(
    ("text", "members"),
    [('{"a": 1}, {"b": 2}, {"c', 2), ('{"a": [{"b": 1}, {"c": 2}, ', None), ('{"a": "},{"}', None),
     ('{"a": "},', None), ("1, {}, [{}, ", 2), (", {}, ", None), ("", None), ("{}", None)],
)  # fmt: skip
def test_members_are_told_where_nothing_is_open(text: str, members: int | None) -> None:
    found = _first_members(text.encode())
    assert (found and len(found[1])) == members


def test_a_piece_that_is_told_wrongly_would_be_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "history.json"
    maps = [{"type": kind, "process": 0, "value": [["w", n, n]]}
            for n in range(9) for kind in ("invoke", "ok")]  # fmt: skip
    path.write_text(json.dumps(maps))
    monkeypatch.setattr(elle, "CHUNK_BYTES", 90)
    whole = told(path, None)
    monkeypatch.setattr(elle, "PIECES_FROM", 0)
    assert told(path, None) == whole

    def wrong(text: bytes) -> Any:
        return _first_members(text.replace(b'["w", 3, 3]', b'["w", 3, 4]'))

    monkeypatch.setattr(elle_lines, "_first_members", wrong)
    assert told(path, None) != whole
