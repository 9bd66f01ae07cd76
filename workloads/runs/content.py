"""What a database holds, as a digest of each table: whoever opens it twice can tell it is the same.

A table's digest is the sum of its rows' hashes, so that it does not depend on the order in which an
engine gives them, and no table has to be sorted or kept. Values count with their types: 1, 1.0 and
'1' are three. Rowids that no column names are left out: VACUUM may change them.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator
from typing import Any

from workloads.engines import Session

KIT_TABLE = "cwkit_after_crash"
"""The table by which a database is written on after a crash; it is in no digest."""

TABLES = "SELECT type, name, tbl_name, sql FROM sqlite_master"
OF_ITS_OWN = ("sqlite_stat", "__turso_internal")
"""How tables begin that the engine writes for itself, whatever transactions do."""

BITS = 192

Content = dict[str, list[Any]]
"""Name of a table -> [rows, digest]; under "" what the schema says."""


def content_of(session: Session) -> Content:
    """The tables of an open database, in a transaction that has begun. Raises what it raises."""
    listed = sorted(
        (str(kind), str(name), str(of), str(sql or ""))
        for kind, name, of, sql in session.rows(TABLES)
        if of != KIT_TABLE and not str(of).startswith(OF_ITS_OWN)
    )
    found: Content = {"": [len(listed), f"{_sum(iter(listed))[1]:x}"]}
    for kind, name, _, sql in listed:
        # What a virtual table holds is in its shadow tables, which are listed themselves.
        if kind == "table" and not sql.upper().startswith("CREATE VIRTUAL"):
            quoted = name.replace('"', '""')
            many, total = _sum(_rows(session, f'SELECT * FROM "{quoted}"'))
            found[name] = [many, f"{total:x}"]
    return found


def _rows(session: Session, sql: str) -> Iterator[tuple[Any, ...]]:
    cursor = getattr(session, "cursor", None)
    return iter(cursor(sql).fetchone, None) if cursor else iter(session.rows(sql))


def _sum(rows: Iterator[tuple[Any, ...]]) -> tuple[int, int]:
    many = total = 0
    for row in rows:
        one = hashlib.sha256()
        for value in row:
            kind, raw = _typed(value)
            one.update(b"%c%d:" % (kind, len(raw)))
            one.update(raw)
        many += 1
        total += int.from_bytes(one.digest()[: BITS // 8], "big")
    return many, total % (1 << BITS)


def _typed(value: Any) -> tuple[bytes, bytes]:
    """A letter for the type, and the value's bytes.

    >>> _typed(1), _typed("1"), _typed(None)
    ((b'i', b'1'), (b't', b'1'), (b'n', b''))
    """
    if value is None:
        return b"n", b""
    if isinstance(value, int):
        return b"i", b"%d" % value
    if isinstance(value, float):
        return b"f", struct.pack("<d", value)
    if isinstance(value, str):
        return b"t", value.encode("utf-8", "surrogatepass")
    return b"b", bytes(value)
