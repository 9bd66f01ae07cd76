"""Changes that know nothing of what is in a file: of its bytes, and of what kind of file it is."""

from __future__ import annotations

import os
import random
import shutil
import socket
from pathlib import Path

HUGE = 1 << 42


def damage_bytes(rng: random.Random, path: Path) -> None:
    """Cut, overwrite, repeat or add some bytes of a file."""
    data = bytearray(path.read_bytes())
    at = rng.randrange(len(data) + 1)
    match rng.randrange(6):
        case 0:
            del data[at:]
        case 1:
            data[at : at + 8] = rng.randbytes(rng.randrange(9))
        case 2:
            data[at:at] = data[at : at + rng.randrange(200)]
        case 3 if data:
            data[at % len(data)] ^= 1 << rng.randrange(8)
        case 4:
            data += rng.randbytes(rng.randrange(1, 200))
        case _:
            data[at : at + 1] = rng.choice((b"\xff", b"\x00", b"\n", b'"', b"}", b"\xed\xa0\x80"))
    path.write_bytes(data)


def odd_file(rng: random.Random, path: Path, outside: str) -> None:
    """Something that is no file of ours in a file's place. outside : where a link may lead to."""
    kind = rng.choice(
        ("gone", "empty", "pipe", "folder", "socket", "loop", "zero", "full", "out", "proc", "huge",
         "moved")
    )  # fmt: skip
    if kind == "moved":
        path.rename(path.with_name(rng.choice(("worker-007.npy", "manifest.json", "a b.npy", "é"))))
        return
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
    links = {"loop": path.name, "zero": "/dev/zero", "full": "/dev/full", "proc": "/proc/kmsg"}
    links["out"] = f"{outside}/{path.name}"
    if kind == "empty":
        path.touch()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "socket":
        _socket(path)
    elif kind == "huge":  # without a byte on the disk
        with path.open("wb") as file:
            file.truncate(HUGE)
    elif kind in links:
        path.symlink_to(links[kind])


def _socket(path: Path) -> None:
    here = os.open(path.parent, os.O_RDONLY)  # a socket's address has 107 bytes at most
    try:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(f"/proc/self/fd/{here}/socket")
            path.with_name("socket").rename(path)
    finally:
        os.close(here)
