"""The rooms and their doors: which stands on which, and what may be taken through a door.

ROOMS is the plan of the house. An import runs up this list, to a room that is named earlier, or
stays within its room. It goes through the door of a room: the names in its `__all__`. Tests may
look behind a door.
"""

from __future__ import annotations

import ast
import importlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parent.parent
ROOMS = {
    "workloads": (
        *("errors", "files", "processes", "records", "engines", "scenarios", "runs"),
        *("schedules", "experiments", "trials", "cluster"),
    ),
    "properties": (
        *("checker", "conformance", "hunter", "known_faults", "crashes", "faults", "soaks"),
    ),
    "analysis": (
        *("wording", "statistics", "counting", "compare", "models", "search", "charts", "claims"),
        *("report", "cli", "synthetic"),
    ),
}
MOST_ROOMS, MOST_FLOORS = 11, 8


class Import(NamedTuple):
    """One import of a module: from which room into which, and of what."""

    place: str
    room: str
    other: str
    module: str
    name: str


def modules(root: Path, top: str) -> Iterator[Path]:
    """The modules of a folder that are no tests."""
    for path in sorted((root / top).rglob("*.py")):
        if not path.name.startswith("test_") and path.name != "conftest.py":
            yield path


def room_of(module: str) -> str:
    """The room that a module stands in, "" for a folder itself and for what is not ours."""
    parts = module.split(".")
    return ".".join(parts[:2]) if parts[0] in ROOMS and len(parts) > 1 else ""


def absolute(path: Path, node: ast.ImportFrom) -> str:
    """The module that an import names, also where it is written relative to the importing one."""
    if not node.level:
        return node.module or ""
    package = path.parent.parts[: len(path.parent.parts) - node.level + 1]
    return ".".join([*package, *([node.module] if node.module else [])])


class Told(NamedTuple):
    """A module's story, None for none, and its imports, wherever in it."""

    story: str | None
    imports: list[ast.Import | ast.ImportFrom]


@cache
def told(text: str) -> Told:
    """By a module's text: most modules of a changed copy are as they were."""
    tree = ast.parse(text)
    nodes = [node for node in statements(tree) if isinstance(node, ast.Import | ast.ImportFrom)]
    return Told(ast.get_docstring(tree), nodes)


def statements(node: ast.AST) -> Iterator[ast.AST]:
    """Every statement within another one. No import is in an expression, and those are many."""
    for field in ("body", "orelse", "finalbody", "handlers", "cases"):
        for inner in getattr(node, field, ()):
            yield inner
            yield from statements(inner)


def imports(root: Path) -> Iterator[Import]:
    """Every import of a module of ours that leaves its room."""
    for top in ROOMS:
        for path in modules(root, top):
            here = room_of(".".join(path.relative_to(root).with_suffix("").parts))
            for node in told(path.read_text(encoding="utf-8")).imports:
                found: list[tuple[str, str]] = []
                if isinstance(node, ast.Import):
                    found = [(alias.name, "") for alias in node.names]
                else:
                    origin = absolute(path.relative_to(root), node)
                    for alias in node.names:
                        whole = origin in ROOMS
                        module = f"{origin}.{alias.name}" if whole else origin
                        found.append((module, "" if whole else alias.name))
                for module, name in found:
                    other = room_of(module)
                    if other and other != here:
                        line = node.lineno
                        place = f"{path.relative_to(root)}:{line}"
                        yield Import(place, here, other, module, name)


def door(root: Path, room: str) -> set[str] | None:
    """The names of a room's `__all__`; None for a room of one module, which is its own door."""
    file = root / room.replace(".", "/") / "__init__.py"
    if not file.exists():
        return None
    return names_of(file.read_text(encoding="utf-8"))


@cache
def names_of(text: str) -> set[str]:
    """A door's `__all__`, by its text: it is asked for at each import that goes through it."""
    for node in ast.parse(text).body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "__all__":
            return set(ast.literal_eval(node.value))
    return set()


def unlisted(root: Path) -> list[str]:
    """Rooms and modules without a line in ROOMS, and lines without a room."""
    found = []
    for top, listed in ROOMS.items():
        entries = {path.relative_to(root / top).parts[0] for path in modules(root, top)}
        there = {entry.removesuffix(".py") for entry in entries} - {"__init__"}
        found += [f"{top}/{name} has no line in ROOMS" for name in sorted(there - set(listed))]
        found += [f"{top}/{name} is no room" for name in sorted(set(listed) - there)]
    return found


def faults(root: Path) -> list[str]:
    """Each import that runs up, and each that reaches past a door."""
    order = [f"{top}.{room}" for top, rooms in ROOMS.items() for room in rooms]
    found = []
    for one in imports(root):
        if one.other not in order or (one.room and one.room not in order):
            continue  # told by `unlisted`
        if one.room and order.index(one.other) > order.index(one.room):
            found.append(f"{one.place}: {one.room} imports {one.module}, which stands above it")
        names = door(root, one.other)
        if names is not None and (one.module != one.other or (one.name and one.name not in names)):
            found.append(f"{one.place}: {one.module} {one.name} is behind the door of {one.other}")
    return found


def floors(root: Path, top: str) -> int:
    """The length of the longest chain of rooms of a folder, each of which imports the next."""
    below: dict[str, set[str]] = {f"{top}.{room}": set() for room in ROOMS[top]}
    for one in imports(root):
        if one.room in below and one.other in below:
            below[one.room].add(one.other)
    height: dict[str, int] = {}
    for room in below:  # in order: what a room stands on comes before it
        height[room] = 1 + max((height.get(other, 0) for other in below[room]), default=0)
    return max(height.values())


def test_every_room_has_its_line() -> None:
    assert unlisted(ROOT) == []


def test_imports_run_down_and_go_through_doors() -> None:
    assert faults(ROOT) == []


@pytest.mark.parametrize("top", ROOMS)
def test_a_folder_is_seen_at_a_glance(top: str) -> None:
    assert len(ROOMS[top]) <= MOST_ROOMS
    assert floors(ROOT, top) <= MOST_FLOORS


def test_every_room_tells_its_story_and_names_its_door() -> None:
    for top, rooms in ROOMS.items():
        for room in rooms:
            file = ROOT / top / room / "__init__.py"
            if not file.exists():
                continue
            story = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""
            first = story.split("\n\n")[0]
            assert 0 < len(first) <= 300, f"{file} tells no story of one or two sentences"
            assert door(ROOT, f"{top}.{room}"), f"{file} names no door"


def eager(text: str) -> list[str]:
    """What a door does beside telling its story and naming its names: nothing, if it is lazy."""
    story, *rest = ast.parse(text).body
    lazy = ("import lazy_loader", "lazy_loader.attach_stub(__name__, __file__)", "__all__ = ")
    found = [] if isinstance(story, ast.Expr) else [ast.unparse(story)]
    return found + [
        line for line in map(ast.unparse, rest) if not any(part in line for part in lazy)
    ]


DOORS = [
    f"{top}.{room}" for top, rooms in ROOMS.items() for room in rooms if door(ROOT, f"{top}.{room}")
]


@pytest.mark.parametrize("room", DOORS)
def test_a_door_is_lazy_and_opens(room: str) -> None:
    """It imports nothing by itself, its stub says where each name comes from, and each is there."""
    file = ROOT / room.replace(".", "/") / "__init__.py"
    assert eager(file.read_text(encoding="utf-8")) == []
    module, missing = importlib.import_module(room), object()
    texts = {}
    for node in ast.parse(file.with_suffix(".pyi").read_text(encoding="utf-8")).body:
        assert isinstance(node, ast.ImportFrom)
        for alias in node.names:
            texts[alias.asname or alias.name] = node.module
    assert texts.keys() == door(ROOT, room)
    for name, origin in texts.items():
        found = getattr(module, name, missing)
        there = importlib.import_module(f"{room}.{origin}" if origin else f"{room}.{name}")
        assert found is (getattr(there, name) if origin else there), f"{room}.{name}"


@pytest.mark.parametrize(
    "more", ["import scipy.stats", "from .turso import Turso", "__all__ += ['x']", "print()"]
)
def test_a_door_that_is_not_lazy_is_seen(more: str) -> None:
    file = ROOT / "workloads" / "engines" / "__init__.py"
    assert eager(f"{file.read_text(encoding='utf-8')}\n{more}\n") != []


PLANTED = {
    "an import that runs up": ("workloads/files/up.py", "from workloads.runs import run\n"),
    "a folder above": ("workloads/runs/above.py", "from analysis.counting import count\n"),
    "past a door": ("analysis/counting/past.py", "from workloads.records.attempts import reason\n"),
    "a module past a door": ("analysis/cli/past.py", "import workloads.records.attempts\n"),
    "a name that no door has": ("analysis/cli/no.py", "from workloads.records import nothing\n"),
    "relatively": ("workloads/files/relative.py", "from ..runs import run\n"),
    "relatively, past a door": ("analysis/cli/relative.py", "from ..counting.tally import count\n"),
    "within a function": (
        "workloads/errors.py",
        "def f() -> None:\n    from workloads.files import visible\n",
    ),
}
"""Each in a file of its own, so that one look at the house is enough for all."""


def test_what_breaks_the_rule_is_told_with_its_line(tmp_path: Path) -> None:
    """In a copy of all modules, in which there is nothing to tell before."""
    for top in ROOMS:
        for path in modules(ROOT, top):
            copy = tmp_path / path.relative_to(ROOT)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(path.read_bytes())
    assert faults(tmp_path) == []
    lines = {}
    for file, text in PLANTED.values():
        (tmp_path / file).write_text(text, encoding="utf-8")
        lines[file] = text.count("\n")
    told_of = [one.split(":")[:2] for one in faults(tmp_path)]
    assert sorted(told_of) == sorted([file, str(line)] for file, line in lines.items())


def test_a_room_without_a_line_is_told(tmp_path: Path) -> None:
    for top in ROOMS:
        for path in modules(ROOT, top):
            copy = tmp_path / path.relative_to(ROOT)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(b"")
    (tmp_path / "workloads" / "hall").mkdir()
    (tmp_path / "workloads" / "hall" / "__init__.py").write_text("")
    (tmp_path / "analysis" / "shed.py").write_text("")
    assert unlisted(tmp_path) == [
        "workloads/hall has no line in ROOMS",
        "analysis/shed has no line in ROOMS",
    ]
