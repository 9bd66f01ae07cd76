"""Histories as columns: their archive, its arrays' headers, the numbers and the names, changed."""

from __future__ import annotations

import io
import json
import random
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.lib import format as npy

from tools.fuzz.bytes import damage_bytes
from tools.fuzz.rows import DTYPES as ODD_DTYPES
from tools.fuzz.rows import LITERALS, SHAPES
from tools.fuzz.trees import damage_text, damage_tree
from workloads.records.columns import DTYPES

Members = dict[str, bytes]
MODERATE = 1 << 26
"""Bytes of what is packed into little: eight times this for all eight that may be packed."""


def damage_columns(rng: random.Random, path: Path) -> None:
    """Change a history.npz."""
    kind = rng.choices(("numbers", "names", "header", "archive", "bytes"), (40, 20, 15, 20, 5))[0]
    if kind == "bytes":
        damage_bytes(rng, path)
        return
    members = _read(path)
    if kind == "archive":
        path.write_bytes(_archive(rng, members))
        return
    {"numbers": _numbers, "names": _names, "header": _header}[kind](rng, members)
    path.write_bytes(_packed(members))


def other_columns(rng: random.Random, path: Path) -> None:
    """The same history in another order of members, in wider columns, with more beside them."""
    members = _read(path)
    for name in DTYPES:
        if rng.random() < 0.5:
            column = _array(members[f"{name}.npy"])
            wider = rng.choice((">i8", "<i8", column.dtype.str))
            members[f"{name}.npy"] = _member(column.astype(wider))
    if rng.random() < 0.5:
        members["more.npy"] = _member(np.arange(3))
        members["../more.txt"] = b"more"
    names = list(members)
    rng.shuffle(names)
    path.write_bytes(_packed({name: members[name] for name in names}))


def _read(path: Path) -> Members:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def _packed(members: Members, how: int = zipfile.ZIP_STORED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", how) as archive:
        for name, data in members.items():
            archive.writestr(zipfile.ZipInfo(name), data, how)
    return file.getvalue()


def _array(data: bytes) -> np.ndarray:
    return np.load(io.BytesIO(data), allow_pickle=False)


def _member(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    npy.write_array(file, array, allow_pickle=False)
    return file.getvalue()


# -- numbers and names ---------------------------------------------------------------------------


def _numbers(rng: random.Random, members: Members) -> None:
    """Numbers of one to three columns: others of the same column, or none that can be."""
    for _ in range(rng.choice((1, 1, 2, 3))):
        name = rng.choice(list(DTYPES))
        column = _array(members[f"{name}.npy"]).copy()
        limits, many = np.iinfo(column.dtype), len(column)
        at = rng.randrange(many) if many else 0
        some = rng.choice((slice(at, at + 1), slice(at, at + 1), slice(at, None), slice(None)))
        match rng.randrange(7):
            case 0 if many:
                column = column[rng.sample(range(many), many)]
            case 1:
                column = column[: rng.randrange(many + 1)]
            case 2:
                column = np.concatenate([column, column[at : at + 1]])
            case 3 if many:
                column[some] = column[rng.randrange(many)]
            case _:
                value = int(column[at]) if many else 0
                odd = (0, 1, 2, 3, -1, -2, value + 1, value - 1, value * 1000, 2**62, -(2**62),
                       2**62 - 1, 2**62 + 1, -(2**62) - 1, limits.min, limits.max, 2**31 - 1,
                       255)  # fmt: skip
                column[some] = min(max(rng.choice(odd), int(limits.min)), int(limits.max))
        members[f"{name}.npy"] = _member(column)


def _names(rng: random.Random, members: Members) -> None:
    """Damage the names, which are written as JSON and are no numbers."""
    here = Path("names.json")  # in the input's folder, and gone when it is played
    here.write_bytes(_array(members["names.npy"]).tobytes())
    try:
        for _ in range(rng.choice((1, 1, 2))):
            rng.choice((damage_tree, damage_tree, damage_tree, damage_text, _more_names))(rng, here)
        members["names.npy"] = _member(np.frombuffer(here.read_bytes(), np.uint8))
    finally:
        here.unlink()


def _more_names(rng: random.Random, path: Path) -> None:
    """Add one of the later keys of names, which an older history does not have."""
    try:
        names = json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        return
    if not isinstance(names, dict):
        return
    key, value = rng.choice(
        (
            ("edn", {"keys": [0, 99, -1, "a", None]}), ("edn", {"keys": [0], "others": [0]}),
            ("edn", [1]), ("edn", {"keys": 7}), ("sets", [[0, [1]]]), ("sets", [[0, []]]),
            ("sets", [[10**30, [1]]]), ("sets", [[1, [2**62]]]), ("sets", {"0": [1]}),
            ("sets", [0]),
            ("sets", [[0, [1.5]]]), ("unjudged", {"a\x1b[2J": 3}), ("unjudged", {"a": -1}),
            ("unjudged", {"a": "b"}), ("unjudged", ["a"]), ("notes", ["\x1b[2J\n# heading"]),
            ("notes", [1]), ("notes", "text"), ("model", "rw-register"), ("model", "list-append"),
            ("format", 2), ("format", True), ("format", 1.0), ("format", "1"), ("more", {}),
            ("keys", list(range(5000))), ("others", ["a"] * 3), ("databases", []),
        )
    )  # fmt: skip
    path.write_text(json.dumps(names | {key: value}), encoding="utf-8")


def _header(rng: random.Random, members: Members) -> None:
    """One member under another header, or none that numpy would write."""
    name = rng.choice(list(members))
    column = _array(members[name])
    descr, shape, fortran, version = repr(column.dtype.str), f"({len(column)},)", "False", 1
    match rng.randrange(5):
        case 0:
            shape = rng.choice(SHAPES)
        case 1:
            descr = rng.choice((*ODD_DTYPES, "'<f8'", "'<u8'", "'<i2'", "'|b1'", "'<c16'", "'|S8'"))
        case 2:
            fortran = rng.choice(("True", "1", "None", "'a'", "[]"))
        case 3:
            version = rng.choice((0, 2, 3, 9, 255))
    text = f"{{'descr': {descr}, 'fortran_order': {fortran}, 'shape': {shape}, }}\n"
    if rng.random() < 0.2:
        text = f"{rng.choice(LITERALS)}\n"
    length = rng.choice((len(text),) * 5 + (0, 10, 60_000, 2**32 - 1))
    size = struct.pack("<H", length % 65_536) if version == 1 else struct.pack("<I", length)
    start = b"\x93NUMPY" + bytes((version, 0)) + size
    members[name] = start + text.encode("latin-1") + column.tobytes()


# -- the archive ---------------------------------------------------------------------------------


def _archive(rng: random.Random, members: Members) -> bytes:
    ways: tuple[Callable[[random.Random, Members], bytes], ...]
    ways = (_compressed, _bomb, _wrong_sum, _directory, _directory, _other_members)
    return rng.choice(ways)(rng, members)


def _compressed(rng: random.Random, members: Members) -> bytes:
    return _packed(members, rng.choice((zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)))


def _bomb(rng: random.Random, members: Members) -> bytes:
    """A member that is a thousand times as large as the file."""
    name = rng.choice(list(members))
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for other, data in members.items():
            if other == name:
                archive.writestr(name, data[:128] + bytes(MODERATE), zipfile.ZIP_DEFLATED, 1)
            else:
                archive.writestr(other, data)
    whole = file.getvalue()
    # Half of them say that they are not compressed.
    return whole if rng.random() < 0.5 else whole.replace(b"\x08\x00", b"\x00\x00")


def _wrong_sum(rng: random.Random, members: Members) -> bytes:
    whole = bytearray(_packed(members))
    data = rng.choice(list(members.values()))
    at = whole.find(data)
    whole[at + len(data) - 1] ^= 1
    if rng.random() < 0.3:
        whole = bytearray(bytes(whole).replace(struct.pack("<I", zlib.crc32(data)), bytes(4)))
    return bytes(whole)


def _directory(rng: random.Random, members: Members) -> bytes:
    """The archive's directory says otherwise: flags, method, sizes, places, how many there are."""
    whole = bytearray(_packed(members))
    entries, end = [], whole.rfind(b"PK\x05\x06")
    at = whole.find(b"PK\x01\x02")
    while 0 <= at < end:
        entries.append(at)
        at = whole.find(b"PK\x01\x02", at + 4)
    entry = rng.choice(entries)
    local = struct.unpack_from("<I", whole, entry + 42)[0]
    odd = (0, 1, 2, 8, 9, 12, 14, 93, 99, 0x41, 0x800, 0x2000, 0x7FFF, 0xFFFF)
    wide = (0, 1, 30, 2**31 - 1, 2**31, 2**32 - 2, 2**32 - 1, local, entry, end, len(whole))
    match rng.randrange(6):
        case 0:  # of one entry: needed version, flags, method, length of its name, comment
            place = entry + rng.choice((6, 8, 10, 28, 30, 32))
            struct.pack_into("<H", whole, place, rng.choice(odd))
        case 1:  # flags and method in both places
            value = rng.choice((1, 0x41, 0x20, 0x2000))
            for place in (entry + 8, local + 6):
                struct.pack_into("<H", whole, place, value)
        case 2:  # sum, size packed, size, place
            struct.pack_into("<I", whole, entry + rng.choice((16, 20, 24, 42)), rng.choice(wide))
        case 3:  # both sizes
            value = rng.choice(wide)
            struct.pack_into("<II", whole, entry + 20, value, value)
        case 4:  # all at one place
            for one in entries:
                struct.pack_into("<I", whole, one + 42, local)
        case _:  # how many entries, how long the directory is, where it is
            place, many = rng.choice(((8, "<H"), (10, "<H"), (12, "<I"), (16, "<I"), (20, "<H")))
            value = rng.choice(wide) % (2**16 if many == "<H" else 2**32)
            struct.pack_into(many, whole, end + place, value)
    return bytes(whole)


def _other_members(rng: random.Random, members: Members) -> bytes:
    name = rng.choice(list(members))
    match rng.randrange(5):
        case 0:
            del members[name]
        case 1:
            members[rng.choice(("../x.npy", "/etc/x.npy", "\x1b[2J.npy", "a" * 60_000))] = b"x"
        case 2:
            members[name] = members[rng.choice(list(members))]
        case 3:
            members[name] = members[name][: rng.randrange(len(members[name]) + 1)]
        case _:
            file = io.BytesIO(_packed(members))
            with zipfile.ZipFile(file, "a") as archive:
                for at in range(rng.choice((1, 3000))):
                    archive.writestr(f"{at}.npy", b"")
            return file.getvalue()
    return _packed(members)
