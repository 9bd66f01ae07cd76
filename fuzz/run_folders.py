"""Run folders, damaged and forged: what the reading commands do with each."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from analysis.synthetic import drawn_run, write_folder
from fuzz import EVIL, Fuzzer

COMMANDS = (
    ["show", "runs/a"],
    ["list"],
    ["export", "runs/a", "out"],
    ["conflicts", "runs/a"],
    ["compare", "runs/a", "runs/b"],
    ["check", "runs/a"],
    ["scaling", "runs/a"],
)

VALUES: tuple[Any, ...] = (
    None, True, 0, -1, 1 << 63, 10**400, 1e308, float("nan"), float("inf"), "", "\x1b[2J", "\x00",
    "\ud800", "../precious", f"{EVIL}:X", f"runs/a/{EVIL}:X", [], {}, [[]], {"": None}, 900_000,
)  # fmt: skip


class RunFolders(Fuzzer):
    """Structural and bytewise mutations of whole run folders."""

    def prepare(self, base: Path, seed: int) -> None:
        write_folder(drawn_run(seed, per_s=300, abort=0.2, readers=1), base / "a")
        write_folder(drawn_run(seed + 1, per_s=300, abort=0.1), base / "b")

    def draw(self, rng: random.Random, base: Path, where: Path) -> Sequence[Sequence[str]]:
        shutil.copytree(base, where / "runs")
        folder = where / "runs" / "a"
        shutil.copy(where / EVIL, folder)
        for _ in range(rng.choice((1, 1, 1, 2, 4))):
            path = folder / rng.choice(sorted(p.name for p in folder.iterdir()))
            if path.name == "manifest.json" or rng.random() < 0.6:
                structural(rng, folder / "manifest.json")
            else:
                bytewise(rng, path)
        return [rng.choice(COMMANDS)]


def structural(rng: random.Random, path: Path) -> None:
    """Change one place of a JSON document: its value, its key, or whether it is there."""
    try:
        document = json.loads(path.read_text())
    except ValueError:
        return
    places = list(_places(document))
    if not places:
        return
    parent, key = rng.choice(places)
    match rng.randrange(4):
        case 0:
            del parent[key]
        case 1 if isinstance(parent, dict):
            parent[rng.choice(("", "\x1b", "x" * 300, "cwkit"))] = parent.pop(key)
        case _:
            parent[key] = rng.choice(VALUES)
    path.write_text(json.dumps(document))


def _places(document: Any) -> list[tuple[Any, Any]]:
    if isinstance(document, dict):
        here = [(document, key) for key in document]
        return here + [place for value in document.values() for place in _places(value)]
    if isinstance(document, list):
        items: list[tuple[Any, Any]] = [(document, number) for number in range(len(document))]
        return items + [place for value in document for place in _places(value)]
    return []


def bytewise(rng: random.Random, path: Path) -> None:
    """Cut, overwrite or repeat some bytes of a file."""
    data = bytearray(path.read_bytes())
    at = rng.randrange(len(data) + 1)
    match rng.randrange(4):
        case 0:
            del data[at:]
        case 1:
            data[at : at + 8] = rng.randbytes(rng.randrange(9))
        case 2:
            data[at:at] = data[at : at + rng.randrange(200)]
        case _:
            data[at : at + 1] = b"\xff"
    path.write_bytes(data)
