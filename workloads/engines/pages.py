"""Where the rows of a loaded database lie: the pages of each b-tree, read from the file itself.

An engine that validates pages refuses transactions whose rows share one, so a model of its aborts
needs to know which rows do. The file is read as the file format describes it, changes that are
still in the WAL included, and only while no connection of this process is open: closing a file
drops the process's POSIX locks on it. Source: https://sqlite.org/fileformat2.html, 1.6 and 4.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from workloads.engines.engine import Session
from workloads.records import Tree

LEAVES = (0x0D, 0x0A)
INTERIOR = (0x05, 0x02)
TREES = "SELECT type, name, tbl_name, rootpage FROM sqlite_schema WHERE rootpage > 0 ORDER BY 4"
"""The query for the b-trees, which the loading session runs before it closes."""

MOST_TEXT = 100_000
"""Characters of one table's leaves in the manifest. Beyond it only their number is kept."""

MOST_CELLS = 65_536
"""Cells of one page: no page has more bytes."""

MOST_PAGES = 1 << 22
MOST_ROWS = 1 << 24
"""Rows of a layout that is looked at again: a database of several GB."""

MOST_DEEP = 20
"""Levels of a b-tree; SQLite's own limit (BTCURSOR_MAX_DEPTH)."""


class Unreadable(ValueError):
    """A file whose pages do not follow the format."""


def trees_of(session: Session, file_format: str) -> list[Any]:
    """The rows of TREES of an open database; none where its file has no pages that we can read."""
    try:
        return session.rows(TREES) if file_format == "sqlite" else []
    except Exception:
        return []  # too broken to answer: the check says so, this is only a note for a model


def layout_of(path: Path | str, trees: Sequence[Any], *, brief: bool = False) -> dict[str, Any]:
    """`read_layout` as it goes into the manifest: {"why": reason} where it cannot be read.

    brief : without the pages themselves, for a database after its run: only how much it grew.
    """
    if not trees:
        return {"why": "the engine's file has no pages of SQLite's format, or no table"}
    try:
        found = read_layout(path, trees)
    except (OSError, ValueError) as error:
        return {"why": str(error)}
    long = ("pages", "above") if brief else ()
    return {name: {k: v for k, v in tree.items() if k not in long} for name, tree in found.items()}


def read_layout(path: Path | str, trees: Iterable[Sequence[Any]]) -> dict[str, dict[str, Any]]:
    """The pages of each b-tree of a database file.

    trees : rows of TREES.
    Returns name ("table t", "index t.i") -> {"root": page, "cells": in all leaves, "leaves":
    how many, "interior": how many, "pages": the leaves in key order as `packed` has them, "above":
    the interior pages, packed with 0 cells}. "pages" is "" where it would be longer than MOST_TEXT.
    Raises Unreadable, OSError.
    """
    found = {}
    with Path(path).open("rb") as file:
        pages = _Pages(file, Path(f"{path}-wal"))
        for kind, name, table, root in trees:
            leaves, cells, above = _walk(pages, int(root))
            text = packed(leaves, cells)
            found[f"{kind} {name}" if kind == "table" else f"{kind} {table}.{name}"] = {
                "root": int(root),
                "cells": int(sum(cells)),
                "leaves": len(leaves),
                "interior": len(above),
                "pages": text if len(text) <= MOST_TEXT else "",
                "above": packed(sorted(above), [0] * len(above))[:MOST_TEXT],
            }
    return found


def packed(pages: Sequence[int], cells: Sequence[int]) -> str:
    """Pages and their cells as text: neighbours with as many cells each are one entry.

    >>> packed([4, 5, 6, 8], [33, 33, 33, 7])
    '4-6:33 8:7'
    """
    entries: list[list[int]] = []  # first, last, cells
    for page, count in zip(pages, cells, strict=True):
        if entries and entries[-1][1] == page - 1 and entries[-1][2] == count:
            entries[-1][1] = page
        else:
            entries.append([page, page, count])
    return " ".join(f"{a}:{n}" if a == b else f"{a}-{b}:{n}" for a, b, n in entries)


def unpacked(text: str) -> tuple[np.ndarray, np.ndarray]:
    """The inverse of `packed`: (pages, cells), int64 arrays, shape (pages,). ValueError else.

    >>> unpacked("4-6:33 8:7")
    (array([4, 5, 6, 8]), array([33, 33, 33,  7]))
    """
    entries = []  # first, last, cells
    for entry in text.split():
        span, _, count = entry.partition(":")
        first, _, last = span.partition("-")
        entries.append((int(first), int(last or first), int(count)))
    for begin, end, number in entries:
        if not (0 < begin <= end < 1 << 32 and 0 <= number <= MOST_CELLS):
            raise ValueError("its layout has pages that no file has")
    many = [end - begin + 1 for begin, end, _ in entries]
    if sum(many) > MOST_PAGES:
        raise ValueError(f"its layout has {sum(many):,} pages, more than can be looked at")
    pages = [np.arange(begin, end + 1) for begin, end, _ in entries]
    cells = np.repeat(np.array([number for *_, number in entries], np.int64), many)
    return np.concatenate([np.zeros(0, np.int64), *pages]), cells


def leaf_of_rows(tree: Tree) -> np.ndarray:
    """The page of each row of a table whose ids were loaded in order, int64, shape (rows,).

    Raises ValueError for a layout that was too long to be kept, and for text that is no layout.
    """
    pages, cells = unpacked(tree.pages)
    if not len(pages):
        raise ValueError(f"the layout of {tree.leaves} leaf pages was too long to be kept")
    if cells.sum() > MOST_ROWS:
        raise ValueError(f"its layout has {cells.sum():,} rows, more than can be looked at")
    return np.repeat(pages, cells)


class _Pages:
    """Bytes of pages: the newest committed version, from the WAL where it is there."""

    def __init__(self, file: BinaryIO, wal: Path) -> None:
        self.file = file
        head = file.read(100)
        if head[:16] != b"SQLite format 3\0":
            raise Unreadable("the file does not begin as an SQLite database does")
        size = struct.unpack(">H", head[16:18])[0]
        self.size = 65536 if size == 1 else size
        self.in_wal: dict[int, int] = {}
        self.wal = wal.read_bytes() if wal.is_file() else b""
        if len(self.wal) > 32:
            self._read_wal()
        self.count = max([Path(file.name).stat().st_size // self.size, *self.in_wal])

    def _read_wal(self) -> None:
        """Which frame holds the newest committed version of each page.

        Frames of the log before this one have another salt; those after the last commit record
        belong to a transaction that nobody committed. Checksums are not verified: no crash is
        read here, only what a connection that was closed in order left.
        """
        salt, at, pending = self.wal[16:24], 32, {}
        while at + 24 + self.size <= len(self.wal) and self.wal[at + 8 : at + 16] == salt:
            page, commit = struct.unpack(">II", self.wal[at : at + 8])
            pending[page] = at + 24
            if commit:
                self.in_wal.update(pending)
                pending = {}
            at += 24 + self.size

    def read(self, page: int, length: int) -> bytes:
        """The first bytes of a page, file header of page 1 left out."""
        if not 1 <= page <= self.count:
            raise Unreadable(f"page {page} of {self.count}")
        skip = 100 if page == 1 else 0
        length = min(length, self.size - skip)
        if page in self.in_wal:
            at = self.in_wal[page] + skip
            return self.wal[at : at + length]
        self.file.seek((page - 1) * self.size + skip)
        return self.file.read(length)


def _walk(pages: _Pages, root: int) -> tuple[list[int], list[int], list[int]]:
    """(leaves in key order, cells of each, interior pages) of one b-tree."""
    leaves: list[int] = []
    cells: list[int] = []
    above: list[int] = []
    todo = [(root, 0)]
    while todo:
        page, depth = todo.pop()
        head = pages.read(page, 12)
        if depth > MOST_DEEP or len(leaves) + len(above) > pages.count or len(head) < 12:
            raise Unreadable(f"the b-tree of page {root} does not end")
        kind, count = head[0], struct.unpack(">H", head[3:5])[0]
        if kind in LEAVES:
            leaves.append(page)
            cells.append(count)
        elif kind in INTERIOR:
            above.append(page)
            skip = 100 if page == 1 else 0
            whole = pages.read(page, pages.size)
            offsets = struct.unpack(f">{count}H", whole[12 : 12 + 2 * count])
            children = [struct.unpack(">I", whole[o - skip : o - skip + 4])[0] for o in offsets]
            children.append(struct.unpack(">I", head[8:12])[0])
            todo += [(child, depth + 1) for child in reversed(children)]
        else:
            raise Unreadable(f"page {page} is no page of a b-tree (its first byte is {kind})")
    return leaves, cells, above
