"""The orders of the library before libc, in a file that all processes of a run map.

The layout is that of `struct control` in before_libc.c; a library
of another layout is not loaded.
"""

from __future__ import annotations

import ctypes
import hashlib
import mmap
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from workloads.errors import EngineMissing, PlanError
from workloads.files import ROOT
from workloads.processes.fault_rules import ACTIONS, CALLS, FaultRule

FAULT_MAGIC = 0x63776B31
MOST_RULES, MOST_HITS, PATH_MAX = 16, 256, 4096
EVERY = (1 << 64) - 1


class _Rule(ctypes.Structure):
    _fields_ = (
        ("call", ctypes.c_uint32),
        ("action", ctypes.c_uint32),
        ("argument", ctypes.c_uint32),
        ("worker", ctypes.c_uint32),
        ("first", ctypes.c_uint64),
        ("last", ctypes.c_uint64),
        ("matched", ctypes.c_uint64),
        ("fired", ctypes.c_uint64),
        ("file", ctypes.c_char * 64),
    )


class _Hit(ctypes.Structure):
    _fields_ = (
        ("at_ns", ctypes.c_int64),
        ("rule", ctypes.c_uint32),
        ("worker", ctypes.c_uint32),
        ("pid", ctypes.c_uint32),
        ("padding", ctypes.c_uint32),
    )


class Hit(NamedTuple):
    """A moment at which a rule fired. rule : its place among the rules. at_ns : of the monotonic
    clock. worker : whose call, None where the process has no number.
    """

    rule: int
    at_ns: int
    worker: int | None
    pid: int


class _Control(ctypes.Structure):
    _fields_ = (
        ("magic", ctypes.c_uint32),
        ("rules", ctypes.c_uint32),
        ("armed", ctypes.c_uint32),
        ("logging", ctypes.c_uint32),
        ("sequence", ctypes.c_uint64),
        ("lost", ctypes.c_uint64),
        ("hits", ctypes.c_uint64),
        ("clock_s", ctypes.c_int64),
        ("folder", ctypes.c_char * PATH_MAX),
        ("log", ctypes.c_char * PATH_MAX),
        ("prefix", ctypes.c_char * 64),
        ("rule", _Rule * MOST_RULES),
        ("hit", _Hit * MOST_HITS),
    )


SIZE = ctypes.sizeof(_Control)

LIBRARIES = ROOT / ".build" / "before-libc"
SOURCE = Path(__file__).with_name("before_libc.c")


def fault_library() -> Path:
    """The library as it was built from this source. Raises EngineMissing with the reason and the
    way out.
    """
    digest = hashlib.sha256(SOURCE.read_bytes()).hexdigest()[:16]
    if (path := LIBRARIES / f"before_libc-{digest}.so").exists():
        return path
    with suppress(OSError):
        why = (LIBRARIES / "why-missing.txt").read_text(encoding="utf-8").strip().rstrip(".")
        raise EngineMissing(f"The library for faults is not to be had here: {why}.")
    raise EngineMissing("The library for faults is not built. Get it with: make setup")


def fault_environment(control: Path, worker: int | None = None) -> dict[str, str]:
    """What a process gets to be under the orders of this file. Only a program that is started by
    exec takes it. worker : its number, for rules of one worker alone. Raises EngineMissing.
    """
    found = {"LD_PRELOAD": str(fault_library()), "CWKIT_FAULTS": str(control)}
    return found if worker is None else found | {"CWKIT_FAULTS_WORKER": str(worker)}


class FaultControl:
    """The orders of one run, and what became of them.

    path : the file, made anew. folder : whose files are watched; it exists. log : the log's file,
    made anew. prefix : of the names of the watched files.
    Nothing is counted before `arm` and nothing logged before `begin_log`.
    """

    def __init__(
        self,
        path: Path,
        folder: Path,
        log: Path,
        rules: Sequence[FaultRule] = (),
        *,
        prefix: str = "",
    ) -> None:
        if len(rules) > MOST_RULES:
            raise PlanError(f"--fault: {len(rules)} are too many. Give at most {MOST_RULES}.")
        real, kept = str(folder.resolve(strict=True)).encode(), str(log.absolute()).encode()
        if max(len(real), len(kept)) >= PATH_MAX:
            raise PlanError(f"{folder}: this path is too long for the fault library.")
        log.write_bytes(b"")
        path.write_bytes(bytes(SIZE))
        self.path, self.log, self.rules = path, log, tuple(rules)
        with path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), SIZE)
        self._all = _Control.from_buffer(self._map)
        self._all.folder, self._all.log, self._all.prefix = real, kept, prefix.encode()
        for place, rule in zip(self._all.rule, rules, strict=False):
            place.call, place.action = CALLS[rule.call], ACTIONS[rule.action]
            place.argument = rule.argument
            place.worker = 0 if rule.worker is None else rule.worker + 1
            place.first, place.last = rule.first, EVERY if rule.last is None else rule.last
            place.file = rule.file.encode()
        self._all.rules = len(rules)
        self._all.magic = FAULT_MAGIC

    def arm(self, on: bool = True) -> None:
        """Have rules count and fire from now on."""
        self._all.armed = int(on)

    def begin_log(self, on: bool = True) -> None:
        """Have changes be logged from now on."""
        self._all.logging = int(on)

    @property
    def fired(self) -> tuple[int, ...]:
        """How often each rule fired."""
        return tuple(int(one.fired) for one in self._all.rule[: len(self.rules)])

    @property
    def matched(self) -> tuple[int, ...]:
        """How many calls each rule matched while armed, fired or not."""
        return tuple(int(one.matched) for one in self._all.rule[: len(self.rules)])

    @property
    def hits(self) -> list[Hit]:
        """When rules fired, and in which process: the first MOST_HITS times."""
        return [
            Hit(one.rule, one.at_ns, one.worker - 1 if one.worker else None, one.pid)
            for one in self._all.hit[: min(int(self._all.hits), MOST_HITS)]
        ]

    def set_clock(self, shift_s: int) -> None:
        """Have the time of day be another one in these processes from now on."""
        self._all.clock_s = shift_s

    @property
    def lost(self) -> int:
        """Records that could not be appended to the log."""
        return int(self._all.lost)

    def close(self) -> None:
        """Give the map back; the files stay."""
        del self._all
        self._map.close()
