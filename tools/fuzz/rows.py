"""Changes of the attempts of a worker: of the array's header, and of single rows."""

from __future__ import annotations

import random
import struct
from pathlib import Path

import numpy as np

from workloads.records import ATTEMPT

SHAPES = (
    "(10**15,)", "(1000000000000000,)", "(-1,)", "()", "(0,)", "(3, 7)", "(1,)*9", "7", "None",
    "(2**70,)", "(1.5,)", "(True,)", "(40,)", "(41,)", "'a'",
)  # fmt: skip
DTYPES = (
    "'|O'", "'<i8'", "'V64'", "'V1000000000'", "[('a', '|O')]", "'<U9999999'", "'x'", "[]", "{}",
    "[('a', '<i8', (1000000, 1000000))]", "[('start_ns', '<i8'), ('start_ns', '<i8')]", "'M8[ns]'",
    "None",
)  # fmt: skip
LITERALS = (
    "(" * 900, "[" * 900 + "]" * 900, "-" * 900 + "1", "{" * 100, "'a' * 9**9", "\x00", "1" * 900,
    "{'descr': '<i8'}", "__import__('os')", "lambda: 0", "f'{1}'",
)  # fmt: skip


def damage_rows(rng: random.Random, path: Path) -> None:
    """Change the header of a worker's array, or its rows."""
    if rng.random() < 0.3:
        path.write_bytes(_header(rng, path.read_bytes()))
        return
    try:
        rows = np.load(path, allow_pickle=False)
    except Exception:  # an earlier change made its header another Python literal
        return
    if rows.dtype != ATTEMPT or rows.ndim != 1 or not len(rows):
        return
    at = rng.randrange(len(rows))
    match rng.randrange(6):
        case 0:
            rows = rows[rng.randrange(len(rows)) :]
        case 1:
            rows = rows[:at]
        case 2:
            rows = np.concatenate([rows, rows[at:]])
        case 3:
            other = rng.randrange(len(rows))
            rows[[at, other]] = rows[[other, at]]
        case _:
            name = rng.choice([name for name in ATTEMPT.names or () if name != "pad"])
            some = rng.choice((slice(at, at + 1), slice(at, None), slice(None)))
            rows[name][some] = _number(rng, rows.dtype[name], int(rows[name][at]))
    np.save(path, rows)


def _number(rng: random.Random, kind: np.dtype, value: int) -> int:
    limits = np.iinfo(kind)
    some = (0, 1, 2, 5, 7, 255, value + 1, value - 1, value * 1000, limits.min, limits.max,
            limits.max // 2, rng.randrange(limits.max))  # fmt: skip
    return min(max(rng.choice(some), int(limits.min)), int(limits.max))


def _header(rng: random.Random, data: bytes) -> bytes:
    """The file with another header before the same rows."""
    end = data.find(b"\n") + 1
    version, descr = rng.choice((1, 1, 2, 2, 3, 9)), repr(ATTEMPT.descr)
    fortran, shape = "False", f"({(len(data) - end) // 64},)"
    match rng.randrange(5):
        case 0:
            shape = rng.choice(SHAPES)
        case 1:
            descr = rng.choice(DTYPES)
        case 2:
            fortran = rng.choice(("True", "1", "None", "'a'", "[]"))
        case 3:
            version = rng.choice((0, 3, 9, 255))
    text = f"{{'descr': {descr}, 'fortran_order': {fortran}, 'shape': {shape}, }}\n"
    if rng.random() < 0.2:
        text = f"{rng.choice(LITERALS)}\n"
    length = rng.choice((len(text),) * 5 + (0, 10, 60_000, 2**32 - 1))
    size = struct.pack("<H", length % 65_536) if version == 1 else struct.pack("<I", length)
    return b"\x93NUMPY" + bytes((version % 256, 0)) + size + text.encode("latin-1") + data[end:]
