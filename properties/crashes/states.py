"""What a crash may leave of a folder's files: states built from the log of what was done to them.

A crash comes after one record of the log, its point. All that a file got by then and that no sync
covers may be on the disk or not, a sector of 512 bytes at a time: a sector has the version of one
of the moments since the last sync. So a state is a point and the set of the pieces that are there,
a piece being what one write put into one sector; where one is there, the earlier ones of the same
sector are.

    kill      every piece: the processes died, and the machine did not
    strict    none: only what was synced
    prefix    every piece of the first writes, and of one more a part: it was torn
    reorder   any set of the writes, each whole: later ones without earlier ones
    subset    any set of the sectors

Changes of names (made, renamed, removed) and of lengths come in their order, as a journal of
metadata keeps them, and are there up to some point: all of them at kill, those that a sync of the
folder (or, for a file that was made, of itself, with all names before it) covers at strict, up to a
drawn one else. A file that was removed is there still where its removal is not.

A sync covers what was logged before it began, and counts when it has returned. What was mapped for
writing has no record: `Recording.unexplained` compares the end with the files, and says so.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import combinations
from typing import Literal, get_args

from properties.crashes.change_log import (
    BEGUN,
    CREATED,
    LIED,
    OPEN,
    RENAME,
    SYNC,
    TRUNCATE,
    UNLINK,
    WRITE,
    Change,
    LogError,
)

SECTOR = 512
Model = Literal["kill", "strict", "prefix", "reorder", "subset"]
MODELS: tuple[Model, ...] = get_args(Model)
SMALL_TAIL = 6
"""Pieces of a tail of which every set is tried: 64 states."""
MOST_FILE = 1 << 32
"""Bytes of a file that a log can make: a forged one asks for more."""

Piece = tuple[int, int]
"""(number of the write's record, its sector)."""


@dataclass(frozen=True, slots=True)
class CrashState:
    """One state. point : the number of the last record before the crash, 0 before all.

    model : how it was drawn. names : changes of names and lengths are there up to this record.
    pieces : those that are there of what no sync covers.
    """

    point: int
    model: str
    names: int
    pieces: frozenset[Piece]


@dataclass(slots=True)
class _File:
    """One file. base : what syncs have covered. tail : the changes since, in their order."""

    base: bytearray = field(default_factory=bytearray)
    tail: list[Change] = field(default_factory=list)
    syncing: list[tuple[int, int, int]] = field(default_factory=list)  # pid, worker, number


def sectors_of(change: Change) -> range:
    """The sectors that a write touches."""
    if not change.length:
        return range(0)
    return range(change.offset // SECTOR, (change.offset + change.length - 1) // SECTOR + 1)


def _put(content: bytearray, offset: int, data: bytes | memoryview) -> None:
    if offset + len(data) > MOST_FILE or offset < 0:
        raise LogError("The log makes a file larger than can be judged. Record it again.")
    if offset > len(content):
        content.extend(bytes(offset - len(content)))
    content[offset : offset + len(data)] = data


def _resize(content: bytearray, length: int) -> None:
    if not 0 <= length <= MOST_FILE:
        raise LogError("The log makes a file larger than can be judged. Record it again.")
    if length < len(content):
        del content[length:]
    else:
        content.extend(bytes(length - len(content)))


class Replay:
    """The files of a folder while its log is gone through, from one crash point to the next.

    base : name -> (inode, content) of each file when the log began. Only forward.

    A file has an id of its own: a new one may get the inode of one that was removed.
    """

    def __init__(self, base: Mapping[str, tuple[int, bytes]], changes: Iterable[Change]) -> None:
        self._ids = {inode: inode for inode, _ in base.values()}  # inode -> id
        self._files = {inode: _File(bytearray(content)) for inode, content in base.values()}
        self._durable = {name: inode for name, (inode, _) in base.items()}
        self._name_changes: list[tuple[Change, int]] = []  # with the file's id
        self._folder_syncs: list[tuple[int, int, str, int]] = []
        self._changes = iter(changes)
        self._next: Change | None = next(self._changes, None)
        self.point = 0

    def advance(self, point: int) -> None:
        """Go on until the record of this number has been done."""
        while self._next is not None and self._next.number <= point:
            self._do(self._next)
            self._next = next(self._changes, None)
        self.point = point

    # -- one record -------------------------------------------------------------------------

    def _do(self, change: Change) -> None:
        if (change.call == WRITE and change.result > 0) or (
            change.call == TRUNCATE and change.result == 0
        ):
            self._file(change.file).tail.append(change)
        elif change.call == OPEN and not change.error:
            self._opened(change)
        elif change.call in (RENAME, UNLINK) and change.result == 0:
            self._name_changes.append((change, self._id(change.file)))
        elif change.call == SYNC and not change.flags & LIED:
            self._synced(change)

    def _id(self, inode: int) -> int:
        return self._ids.setdefault(inode, inode)

    def _file(self, inode: int) -> _File:
        return self._files.setdefault(self._id(inode), _File())

    def _opened(self, change: Change) -> None:
        if change.flags & CREATED:
            self._ids[change.file] = -change.number
            self._files[-change.number] = _File()
            self._name_changes.append((change, -change.number))
        else:
            self._file(change.file).tail.append(change)  # opened with O_TRUNC: its length is 0

    def _synced(self, change: Change) -> None:
        key = (change.pid, -1 if change.worker is None else change.worker)
        if self._ids.get(change.file) not in self._files:  # a folder
            if change.flags & BEGUN:
                self._folder_syncs.append((*key, change.name, change.number))
            elif change.result == 0:
                self._folder_is_durable(key, change.name)
            return
        file = self._file(change.file)
        if change.flags & BEGUN:
            file.syncing.append((*key, change.number))
            return
        begun = next((one for one in file.syncing if one[:2] == key), None)
        if begun is None:
            return
        file.syncing.remove(begun)
        if change.result == 0:
            self._is_durable(self._id(change.file), file, begun[2])

    def _is_durable(self, of: int, file: _File, before: int) -> None:
        covered = [one for one in file.tail if one.number < before]
        for one in covered:
            _apply(file.base, one)
        file.tail = file.tail[len(covered) :]
        made = [one for one, owner in self._name_changes if one.call == OPEN and owner == of]
        if made and made[0].number < before:
            self._keep_names(lambda one: one.number <= made[0].number)

    def _folder_is_durable(self, key: tuple[int, int], name: str) -> None:
        begun = next((one for one in self._folder_syncs if one[:3] == (*key, name)), None)
        if begun is None:
            return
        self._folder_syncs.remove(begun)
        parent = "" if name == "." else name
        self._keep_names(
            lambda one: (
                one.number < begun[3]
                and any(part.rpartition("/")[0] == parent for part in one.name.split("\n"))
            )
        )

    def _keep_names(self, chosen: Callable[[Change], bool]) -> None:
        left = []
        for one, owner in self._name_changes:
            if chosen(one):
                _rename(self._durable, one, owner)
            else:
                left.append((one, owner))
        self._name_changes = left

    # -- what a crash here leaves ------------------------------------------------------------

    def tail(self) -> list[tuple[Change, int]]:
        """Every piece that no sync covers, (its write, its sector), in the order of writing."""
        changes = sorted(
            (one for file in self._files.values() for one in file.tail if one.call == WRITE),
            key=lambda one: one.number,
        )
        return [(one, sector) for one in changes for sector in sectors_of(one)]

    def state(self, model: str, draw: random.Random) -> CrashState:
        """One state of this model at this point; `draw` chooses where there is a choice."""
        if model == "kill":
            return self.all_there()
        if model == "strict":
            return CrashState(self.point, model, 0, frozenset())
        tail = self.tail()
        names = self._a_names_cut(draw)
        pieces: Iterable[Piece]
        if model == "prefix":
            cut = draw.randrange(len(tail) + 1)
            pieces = ((one.number, sector) for one, sector in tail[:cut])
        elif model == "reorder":
            kept = {one.number for one, _ in tail}
            share = draw.choice((0.1, 0.5, 0.9))
            kept = {number for number in sorted(kept) if draw.random() < share}
            pieces = ((one.number, sector) for one, sector in tail if one.number in kept)
        else:
            share = draw.choice((0.1, 0.5, 0.9))
            pieces = ((one.number, sector) for one, sector in tail if draw.random() < share)
        return CrashState(self.point, model, names, frozenset(pieces))

    def every_subset(self) -> Iterator[CrashState]:
        """All sets of the sectors of a tail of at most `SMALL_TAIL` pieces; nothing of a longer."""
        tail = [(one.number, sector) for one, sector in self.tail()]
        if 0 < len(tail) <= SMALL_TAIL:
            for many in range(len(tail) + 1):
                for some in combinations(tail, many):
                    yield CrashState(self.point, "subset", self.point, frozenset(some))

    def _all(self) -> frozenset[Piece]:
        return frozenset((one.number, sector) for one, sector in self.tail())

    def _a_names_cut(self, draw: random.Random) -> int:
        moments = [one.number for one, _ in self._name_changes]
        moments += [o.number for file in self._files.values() for o in file.tail if o.call != WRITE]
        return draw.choice([0, *sorted(moments), self.point])

    def files(self, state: CrashState) -> dict[str, bytes]:
        """Name -> content of a state of this point. Raises ValueError for one of another."""
        if state.point != self.point:
            raise ValueError(f"a state of point {state.point}, and the replay is at {self.point}")
        names = dict(self._durable)
        for one, owner in self._name_changes:
            if one.number <= state.names:
                _rename(names, one, owner)
        return {name: bytes(self._content(of, state)) for name, of in sorted(names.items())}

    def _content(self, of: int, state: CrashState) -> bytearray:
        file = self._files.get(of, _File())
        content = bytearray(file.base)
        latest: dict[int, int] = {}  # sector -> the last write of it that is there
        for one in file.tail:
            if one.call == WRITE:
                for sector in sectors_of(one):
                    if (one.number, sector) in state.pieces:
                        latest[sector] = one.number
        for one in file.tail:
            if one.call != WRITE:
                if one.number <= state.names:
                    _apply(content, one)
                continue
            for sector in sectors_of(one):
                if one.number <= latest.get(sector, 0):
                    begin = max(sector * SECTOR, one.offset)
                    end = min((sector + 1) * SECTOR, one.offset + one.length)
                    _put(content, begin, one.data[begin - one.offset : end - one.offset])
        return content

    def all_there(self) -> CrashState:
        """The state in which nothing is missing."""
        return CrashState(self.point, "kill", self.point, self._all())


def _apply(content: bytearray, change: Change) -> None:
    if change.call == WRITE:
        _put(content, change.offset, change.data)
    elif change.call == TRUNCATE:
        _resize(content, change.offset)
    else:  # opened with O_TRUNC
        content.clear()


def _rename(names: dict[str, int], change: Change, of: int) -> None:
    """Do what a record did to the names. of : the id of its file."""
    if change.call == OPEN:
        names[change.name] = of
    elif change.call == UNLINK:
        names.pop(change.name, None)
    else:
        old, _, new = change.name.partition("\n")
        found = names.pop(old, of) if old else of
        if new:
            names[new] = found
