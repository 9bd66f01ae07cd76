"""What was published of hunts, crash and fault campaigns and soaks: a file each, written and read.

Such a file may come from anybody: it is data, nothing of it is run, and what does not fit together
is refused in a sentence.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import msgspec

from workloads.errors import RunError
from workloads.files import converted, inside, read_versioned, visible
from workloads.files import replace as replace_file


class Published(Protocol):
    """A published document: NAME.json, whose first key is the version of its format."""

    @property
    def name(self) -> str: ...


P = TypeVar("P", bound=Published)


@dataclass(frozen=True)
class Kind(Generic[P]):
    """One kind of published documents.

    struct : its msgspec.Struct. one, several : what it is called. misfit : (document) -> what does
    not fit together in it, "" for nothing. way_out : how it is written anew. most, most_bytes : of
    a folder, of a file.
    """

    struct: type[P]
    one: str
    several: str
    misfit: Callable[[P], str]
    way_out: str
    most: int
    most_bytes: int

    def write(self, folder: Path, data: Mapping[str, Any], to: Path) -> tuple[Path, P]:
        """Write `data` into the folder `to`, as NAME.json of the folder that it tells of.

        No path of this machine goes with it. Raises RunError where its parts do not fit together,
        and OSError.
        """
        first: P = converted(folder, data, self.struct)
        text = json.dumps(msgspec.to_builtins(first), indent=1) + "\n"
        text = text.replace(json.dumps(str(folder))[1:-1], folder.name)
        made = self._fitting(folder, converted(folder, json.loads(text), self.struct), folder.name)
        path = inside(to, f"{made.name}.json")
        to.mkdir(parents=True, exist_ok=True)
        replace_file(path, text)
        return path, made

    def read(self, folder: Path) -> tuple[list[P], list[str]]:
        """Those of a folder by name, and why others could not be read.

        A folder that is not there has none.
        """
        found: list[P] = []
        unread: list[str] = []
        try:
            names = sorted(name for name in os.listdir(folder) if name.endswith(".json"))
        except OSError:
            return [], []
        if len(names) > self.most:
            unread.append(f"{folder}: has {len(names)} {self.several}; {self.most} are told.")
        for name in names[-self.most :]:
            try:
                path = inside(folder, name)
                one: P = read_versioned(path, self.struct, self.way_out, self.most_bytes)
                found.append(self._fitting(path, one, name.removesuffix(".json")))
            except FileNotFoundError:
                unread.append(f"{folder / name}: went away while it was read.")
            except (RunError, OSError) as error:
                unread.append(f"The {self.one} {visible(name)} is not told. {error}")
        return found, unread

    def _fitting(self, path: Path, one: P, name: str) -> P:
        why = f"it is called {visible(repr(one.name[:100]))} inside" if one.name != name else ""
        if why := why or self.misfit(one):
            raise RunError(f"{path}: {why}. It was cut or edited. {self.way_out}")
        return one
