"""Trial `compatibility`: what differs between libSQL and SQLite, by a battery of statements and by
files that are carried both ways.

Each library plays in a process of its own, by its driver as it is: the kit's adapters mend some of
what differs. The SQLite beside it is the one whose version is nearest.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from workloads.engines import Engine, find_engine, serving
from workloads.errors import EngineMissing, RunFailed
from workloads.processes import describe_end, end, python, start, wait
from workloads.trials.battery import STATEMENTS, Item
from workloads.trials.compatibility_client import MARK
from workloads.trials.items import libraries
from workloads.trials.trial import Check, Row

STUDIED = "libsql"
OTHERS = ("libsql-remote", "libsql-replica")
CONTROLS = ("sqlite", "sqlite-latest")
LIMIT_S = 20.0
JOURNALS = ("delete", "wal")
SAME, WORDS, DIFFERS, LATER, ADDS = "same", "words", "differs", "later", "adds"
"""same : the same answers. words : both refuse, in other words. later : the SQLite beside it is too
old for it. adds : libSQL has added it."""


class Compatibility:
    """The trial: one block, in which no time counts."""

    story = "What differs between libSQL and SQLite: statements, types, errors, files?"
    blocks = (1, 1)
    enough_s = 0.0
    limit_s = 90.0
    timed = False

    def begin(self, home: Path, stack: ExitStack, *, quick: bool) -> Client:
        return Client(home, stack)


class Client:
    """The libraries that are there."""

    arms: Mapping[str, tuple[int, int]] = {}
    pids: Sequence[int] = ()

    def __init__(self, home: Path, stack: ExitStack) -> None:
        self.home, self._stack = home, stack
        engines = {name: find_engine(name) for name in (STUDIED, *OTHERS, *CONTROLS)}
        missing = {name: why for name, engine in engines.items() if (why := engine.missing())}
        self._engines = {name: one for name, one in engines.items() if name not in missing}
        controls = [name for name in CONTROLS if name in self._engines]
        if STUDIED not in self._engines or not controls:
            raise EngineMissing(missing[STUDIED if STUDIED in missing else CONTROLS[0]])
        versions = {name: _version(self._engines[name]) for name in (STUDIED, *controls)}
        self.control = min(controls, key=lambda name: _apart(versions[name], versions[STUDIED]))
        self._since = versions[self.control]
        self.facts = {
            "settings": {"items": len(STATEMENTS), "beside": self.control},
            "versions": libraries(self._engines),
            "missing": missing,
        }

    def block(self, ns: Mapping[str, np.ndarray], rng: np.random.Generator) -> Sequence[Row]:
        beside = self._beside = self._asked(self.control, "battery", self.home / "beside.db")
        rows: list[Row] = []
        for name in (STUDIED, *OTHERS):
            if name in self._engines:
                with ExitStack() as stack:
                    path = self.home / f"{name}.db"
                    stack.enter_context(serving(self._engines[name], path))
                    rows += self._compared(name, self._asked(name, "battery", path), beside)
        return [*rows, *self._carried()]

    def _compared(self, name: str, here: list[list[str]], there: list[list[str]]) -> list[Row]:
        return [
            {
                "system": name,
                "about": item.about,
                "of": item.of,
                "kind": kind,
                "here": said,
                "there": other,
            }
            for item, mine, its in zip(STATEMENTS, here, there, strict=True)
            for kind, said, other in [compared(item, mine, its, self._since)]
        ]

    def _carried(self) -> list[Row]:
        """Files written by the one, read and changed by the other, and read by the first again."""
        rows: list[Row] = []
        for one, other in ((STUDIED, self.control), (self.control, STUDIED)):
            for journal in JOURNALS:
                path = self.home / f"{one}-{journal}.db"
                about = f"a file in journal_mode {journal} from {one} to {other}"
                made = self._asked(one, "make", path, journal)[-1]
                rows.append(_carried(about, made, self._asked(other, "read", path)[-1]))
                changed = self._asked(other, "change", path)[-1]
                back = self._asked(one, "read", path)[-1]
                rows.append(_carried(f"{about}, changed there and carried back", changed, back))
        path = self.home / "own.db"
        self._asked(STUDIED, "extend", path)
        here, there = self._asked(STUDIED, "look", path), self._asked(self.control, "look", path)
        about = "a file with a table of libSQL's own (RANDOM ROWID)"
        rows.append(_carried(about, here[-1], there[-1]))
        return rows

    def _asked(self, name: str, action: str, path: Path, journal: str = "") -> list[list[str]]:
        """What a library's process answers. Raises RunFailed where it does not."""
        words = self.home / f"{name}-{action}.err"
        with (self.home / "said.out").open("w+b") as out:
            argv = python("workloads.trials.compatibility_client", name, action, str(path), journal)
            child = start(name, argv, stdout=out, last_words=words)
            try:
                status = wait(child, LIMIT_S)
            finally:
                end(child.process)
            if status is None:
                raise RunFailed(f"{name}, {action}: not done after {LIMIT_S:g} s")
            out.seek(0)
            for line in out.read().decode(errors="replace").splitlines():
                if line.startswith(MARK):
                    found: list[list[str]] = json.loads(line[len(MARK) :])
                    return found
        raise RunFailed(f"{name}, {action}: {describe_end(child)}")

    def checks(self) -> Sequence[Check]:
        """The control against itself: what does not differ is not told as different."""
        again = self._asked(self.control, "battery", self.home / "again.db")
        pairs = zip(STATEMENTS, again, self._beside, strict=True)
        odd = [item.about for item, one, other in pairs if one != other]
        said = f"{self.control} beside itself differs in {len(odd)} of {len(STATEMENTS)} items"
        return [{"check": "control", "ok": not odd, "said": ": ".join([said, *odd[:1]]) + "."}]


def compared(
    item: Item, here: Sequence[str], there: Sequence[str], since: tuple[int, ...]
) -> tuple[str, str, str]:
    """How two libraries answer an item: (kind, this one's answer, the other's), the first that
    differs. since : the version of the other one.
    """
    for mine, its in zip(here, there, strict=True):
        if mine == its:
            continue
        if item.adds and its.startswith("error") and not mine.startswith("error"):
            return ADDS, mine, its
        if item.since > since and its.startswith("error"):
            return LATER, mine, its
        both = mine.startswith("error") and its.startswith("error")
        return (WORDS if both else DIFFERS), mine, its
    return SAME, "", ""


def _carried(about: str, made: list[str], read: list[str]) -> dict[str, Any]:
    kind, here, there = compared(Item(about, ()), made, read, (99,))
    return {
        "system": "files",
        "about": about,
        "of": "library",
        "kind": kind,
        "here": here,
        "there": there,
    }


def _version(engine: Engine) -> tuple[int, ...]:
    found = re.match(r"\d+(\.\d+)*", engine.identity().version)
    return tuple(map(int, found[0].split("."))) if found else ()


def _apart(one: tuple[int, ...], other: tuple[int, ...]) -> float:
    return sum(abs(a - b) * 1000.0**-n for n, (a, b) in enumerate(zip(one, other, strict=False)))
