"""Changes of JSON: of what a document says, and of how it is written."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

from tools.fuzz import EVIL

NUMBERS: tuple[Any, ...] = (
    0, 1, -1, 2, 7, 255, 256, 768, 65_535, 65_536, 900_000, 2**31 - 1, 2**31, 2**32, 2**53 + 1,
    2**62, 2**63 - 1, 2**63, -(2**63), 10**18, 10**30, 10**400, 0.5, -0.0, 1e-300, 1e308, 1e18,
    float("nan"), float("inf"), float("-inf"),
)  # fmt: skip
TEXTS = (
    "", " ", "a", "\x00", "\x1b[2J\x1b]0;owned\x07", "\r", "\n", "a\nb", "\u202ecba", "\ud800",
    "é" * 300, "x" * 5000, "%s%n{0}{x.__class__}", "[bold]x[/bold]", "<script>", "```", "|",
    "../..",
    "../../../precious/run", "/etc/passwd", "/dev/zero", "C:\\con", "*", "[", "running", "duration",
    "interrupted", "bank", "append", "register", "queue", "acked", "ingest", "libsql", "turso",
    "null", "sqlite-concurrent", "concurrent", "immediate", "zipfian:0.99", "zipfian:1e308",
    "hotspot:0:0", "latest", "uniform", "4-6:33 8:7", "1-4294967295:1", "1-999999999999:65536",
    "3:0",
    f"{EVIL}:X", f"runs/A/{EVIL}:X", EVIL, "workloads.engines:X", "1" * 5000, "NaN", "-1", "0x10",
    "true", "none", "writer", "reader", "checkpointer", "finished", "died", "wal", "page", "row",
)  # fmt: skip
WHOLES: tuple[Any, ...] = (None, True, False, [], {}, [[]], [None], {"": None}, {"a": {"b": [1]}})


def damage_tree(rng: random.Random, path: Path) -> None:
    """Change one place of a JSON document: its value, its key, or whether it is there."""
    try:
        document = json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        return
    places = _places(document)
    if not places:
        return
    parent, key = rng.choice(places)
    value = parent[key]
    match rng.randrange(9):
        case 0:
            del parent[key]
        case 1 if isinstance(parent, dict):
            parent[rng.choice((*TEXTS, *_keys(document)))] = parent.pop(key)
        case 1:
            parent.insert(rng.randrange(len(parent) + 1), value)
        case 2:  # what stands elsewhere
            other, there = rng.choice(places)
            parent[key] = json.loads(json.dumps(other[there]))
        case 3 if isinstance(value, dict):
            value[rng.choice((*TEXTS, *_keys(document)))] = any_value(rng)
        case 3 if isinstance(value, list):
            value += value[-1:] * rng.choice((1, 2, 300, 5000)) if value else [any_value(rng)]
        case _:
            parent[key] = like(rng, value)
    path.write_text(json.dumps(document), encoding="utf-8")


def like(rng: random.Random, value: Any) -> Any:
    """Another value, mostly of the same kind."""
    if rng.random() < 0.25:
        return any_value(rng)
    if isinstance(value, bool):
        return not value
    if isinstance(value, (int, float)):
        if not abs(value) < 1e300:
            return rng.choice(NUMBERS)
        near = (value + 1, value - 1, -value, value * 1000, value * 10**9, value // 2, value * 0.3)
        return rng.choice((*near, *NUMBERS))
    if isinstance(value, str):
        cut = value[: rng.randrange(len(value) + 1)]
        return rng.choice((cut, value * 2, value + rng.choice(TEXTS), *TEXTS))
    return any_value(rng)


def any_value(rng: random.Random) -> Any:
    return rng.choice((NUMBERS, TEXTS, WHOLES)[rng.randrange(3)])


def _keys(document: Any) -> list[str]:
    return [key for parent, key in _places(document) if isinstance(parent, dict)]


def _places(document: Any) -> list[tuple[Any, Any]]:
    """(parent, key) of everything in a document."""
    places: list[tuple[Any, Any]] = []
    todo = [document]
    while todo:
        at = todo.pop()
        keys = list(at) if isinstance(at, dict) else range(len(at)) if isinstance(at, list) else []
        places += [(at, key) for key in keys]
        todo += [at[key] for key in keys]
    return places


def damage_text(rng: random.Random, path: Path) -> None:
    """Change how a JSON document is written: what no library would write."""
    data = path.read_bytes()
    numbers = [at for at, byte in enumerate(data) if chr(byte).isdigit()] or [0]
    at = rng.choice(numbers)
    instead = rng.choice(
        (
            b"9" * 5000, b"1e999", b"-1e999", b"NaN", b"Infinity", b"[" * 100_000, b'{"a":' * 5000,
            b"[" * 500 + b"]" * 500, b'"\\ud800"', b'"\\ud800\\u0041"', b'"\xff\xfe"', b"\x00",
            b'"\xed\xa0\x80"', b"'a'", b"0x10", b"01", b"1.", b"// no\n1", b"1, 1", b"", b"}",
            b'"a\tb"', b"truetrue", b'"' + b"a" * (1 << 20) + b'"',
        )
    )  # fmt: skip
    match rng.randrange(5):
        case 0:
            data = data[: rng.randrange(len(data) + 1)]
        case 1:
            data = rng.choice((b"\xef\xbb\xbf", b"\xff\xfe", b" " * 10, b"\x00", b"")) + data
        case 2:
            data += rng.choice((b"{}", b"\x00", b"]", b"\xff", data))
        case _:
            data = data[:at] + instead + data[at + 1 :]
    path.write_bytes(data)


def damage_lines(rng: random.Random, path: Path) -> None:
    """Change one line of a file of JSON lines, or their order."""
    lines = path.read_bytes().split(b"\n")
    at = rng.randrange(len(lines))
    match rng.randrange(6):
        case 0:
            del lines[at]
        case 1:
            lines.insert(at, lines[rng.randrange(len(lines))])
        case 2:
            other = rng.randrange(len(lines))
            lines[at], lines[other] = lines[other], lines[at]
        case 3:
            lines[at] = json.dumps(any_value(rng)).encode()
        case 4:
            lines[at] = rng.choice((b"[" * 100_000, b"\xff", b"", b"{", b"9" * 5000, b"\x00" * 9))
        case _:
            try:
                value = json.loads(lines[at])
            except (ValueError, RecursionError):
                return
            places = _places(value)
            if places:
                parent, key = rng.choice(places)
                parent[key] = like(rng, parent[key])
            lines[at] = json.dumps(value).encode()
    path.write_bytes(b"\n".join(lines))
