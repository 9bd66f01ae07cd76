"""A schedule: the steps of several sessions, as programs, their order and the schema.

A schedule is plain data that prints as it is written, so that a counterexample pastes back:

    Schedule(("begin; r 0; w 0 1; commit", "begin; r 0; w 0 2; commit"), "00110101")
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

from workloads.engines import Settings

FAST = Settings(busy_timeout_ms=0, synchronous="off", cache_size=-2000)
"""No step waits. Isolation does not depend on syncing; a schedule may set other pragmas."""

FEATURES = ("index", "unique", "check", "foreign", "trigger", "spread", "attached")
"""The features that a schema may have besides its table: see `Schema.statements`."""

NEVER_TAG = -1  # the tag of a row that is never written: the other side of a UNIQUE clash
TAG = 1000  # a row's tag is its newest value plus this; before any write it is its key

OPS = {
    "begin": 0, "commit": 0, "rollback": 0,
    "savepoint": 1, "rollback_to": 1, "release": 1,
    "r": 1, "range": 2, "where": 1,
    "w": 2, "append": 2, "put": 2, "insert": 2, "delete": 1,
    "clash": 1, "bad": 1, "orphan": 1,
}  # fmt: skip
"""Operation -> how many words follow it."""

READS = ("r", "range", "where")
SAVEPOINTS = {"savepoint": "SAVEPOINT", "rollback_to": "ROLLBACK TO", "release": "RELEASE"}
WRITES = ("w", "append", "put", "insert")


class Op(NamedTuple):
    """One step of a program.

    r k            read the row of key k
    range lo hi    read all rows with lo <= key <= hi: a predicate read
    where v        read all rows by value: registers of at least v, lists of at least v elements
    w k v          UPDATE: set a register to v; nothing happens where the row is absent
    append k v     UPDATE: append v to a list, likewise
    put k v        INSERT ... ON CONFLICT DO UPDATE: the same, and makes the row where it is absent
    insert k v     INSERT: fails where the row is there
    delete k       DELETE
    clash k        an UPDATE that breaks UNIQUE; bad k: CHECK; orphan k: an INSERT, FOREIGN KEY
    savepoint a, rollback_to a, release a, begin, commit, rollback
    """

    name: str
    args: tuple[Any, ...]

    def __str__(self) -> str:
        return " ".join(map(str, (self.name, *self.args)))


@lru_cache(maxsize=100_000)
def parse(text: str) -> Op:
    """One operation from its text. Raises ValueError that names the rule.

    >>> parse("w 0 5")
    Op(name='w', args=(0, 5))
    """
    name, *args = text.split()
    if name not in OPS:
        raise ValueError(f"operation {name!r} is not one of {', '.join(OPS)}.")
    if len(args) != OPS[name]:
        raise ValueError(f"{text!r}: {name} takes {OPS[name]} arguments, not {len(args)}.")
    if name in ("savepoint", "rollback_to", "release"):
        if not args[0].isidentifier():
            raise ValueError(f"{text!r}: {args[0]!r} is no name for a savepoint.")
        return Op(name, tuple(args))
    return Op(name, tuple(int(arg) for arg in args))


@lru_cache(maxsize=100_000)
def program(text: str) -> tuple[Op, ...]:
    """The steps of one session: operations separated by semicolons."""
    return tuple(parse(part) for part in text.split(";") if part.strip())


@dataclass(frozen=True)
class Schema:
    """The tables a schedule runs on. Keys 0 to rows - 1 are there at first, with no value yet.

    model    : "list" (values are appended, kept as text) or "register" (values are set).
    absent   : how many keys follow that no row has at first.
    features : of FEATURES, in any order.
    page_bytes : of the file; with "spread" every row fills more than half a page.
    """

    model: str = "list"
    rows: int = 3
    absent: int = 2
    features: tuple[str, ...] = ()
    page_bytes: int = 4096

    def __post_init__(self) -> None:
        if self.model not in ("list", "register"):
            raise ValueError(f"model {self.model!r} is neither 'list' nor 'register'.")
        if unknown := set(self.features) - set(FEATURES):
            raise ValueError(f"features {sorted(unknown)} are not of {', '.join(FEATURES)}.")

    @property
    def keys(self) -> range:
        return range(self.rows + self.absent)

    @property
    def tables(self) -> tuple[str, ...]:
        return ("item", "other.item") if "attached" in self.features else ("item",)

    @property
    def all_tables(self) -> tuple[str, ...]:
        """Every table with rows, children before their parents."""
        more = [
            name for name, f in (("part", "foreign"), ("audit", "trigger")) if f in self.features
        ]
        return tuple(t.replace("item", name) for name in (*more, "item") for t in self.tables)

    def table(self, key: int) -> str:
        """Where a key's row is. With two files, neighbouring keys are in different ones."""
        return self.tables[key % len(self.tables)]

    def statements(self) -> list[str]:
        """DDL and the first rows, each statement run on its own."""
        f = self.features
        columns = ["id INTEGER PRIMARY KEY"]
        kind = "TEXT NOT NULL" if self.model == "list" else "INTEGER"
        allowed = "value NOT LIKE '%!%'" if self.model == "list" else "value >= 0"
        columns.append(f"value {kind}" + (f" CHECK ({allowed})" if "check" in f else ""))
        if "unique" in f:
            columns.append("tag INTEGER UNIQUE")
        if "spread" in f:
            # So long that two rows never share a leaf, whatever the page size; not so long that a
            # row overflows its page.
            columns.append(f"pad TEXT NOT NULL DEFAULT '{'.' * (self.page_bytes * 6 // 10)}'")
        made = []
        for table in self.tables:
            made.append(f"CREATE TABLE {table}({', '.join(columns)})")
            schema, _, name = table.rpartition(".")
            dot = f"{schema}." if schema else ""
            if "index" in f:
                made.append(f"CREATE INDEX {dot}item_value ON {name}(value)")
            if "foreign" in f:
                made.append(
                    f"CREATE TABLE {dot}part(id INTEGER PRIMARY KEY, "
                    "item INTEGER NOT NULL REFERENCES item(id))"
                )
            if "trigger" in f:
                made.append(
                    f"CREATE TABLE {dot}audit(id INTEGER PRIMARY KEY AUTOINCREMENT, "
                    "item INTEGER NOT NULL, value)"
                )
        for key in range(self.rows):
            made.append(self._insert_first(key))
            if "foreign" in f and self.pinned(key):
                dot = self.table(key).removesuffix("item")
                made.append(f"INSERT INTO {dot}part(id, item) VALUES ({key}, {key})")
        if "unique" in f:
            made += [
                f"INSERT INTO {t}(id, value, tag) VALUES (-1, {self._nothing}, {NEVER_TAG})"
                for t in self.tables
            ]
        if "trigger" in f:  # last, so that loading leaves no trace in the audit
            made += [trigger for table in self.tables for trigger in self._triggers(table)]
        return made

    def pinned(self, key: int) -> bool:
        """Whether a child row keeps this row from being deleted."""
        return "foreign" in self.features and key == 0 and self.rows > 0

    @property
    def _nothing(self) -> str:
        return "''" if self.model == "list" else "NULL"

    def _insert_first(self, key: int) -> str:
        names, values = "id, value", f"{key}, {self._nothing}"
        if "unique" in self.features:
            names, values = names + ", tag", f"{values}, {key}"
        return f"INSERT INTO {self.table(key)}({names}) VALUES ({values})"

    def _triggers(self, table: str) -> list[str]:
        schema = table.removesuffix("item")
        made = []
        for when, row in (("UPDATE OF value", "new"), ("INSERT", "new"), ("DELETE", "old")):
            word = when.split()[0].lower()
            value = "NULL" if word == "delete" else "new.value"
            made.append(
                f"CREATE TRIGGER {schema}on_{word} AFTER {when} ON item BEGIN "
                f"INSERT INTO audit(item, value) VALUES ({row}.id, {value}); END"
            )
        return made

    def sql(self, op: Op) -> tuple[str, tuple[Any, ...]]:
        """The statement of an operation on rows, and its parameters."""
        return _sql(self, op)

    def seen(self, op: Op, rows: list[tuple[Any, ...]]) -> Any:
        """The meaning of a read's rows: a value for `r`, else a tuple of (key, value).

        A register is an int or None; a list is a tuple of ints; an absent row is None or ().
        """
        if op.name == "r":
            return self.value(rows[0][0]) if rows else self.value(None)
        return tuple((int(row[0]), self.value(row[1])) for row in rows)

    def value(self, stored: Any) -> Any:
        """A stored value as this model's. A value that cannot be read so is returned as it is."""
        if self.model == "register":
            return stored
        try:
            return tuple(int(word) for word in (stored or "").split())
        except (AttributeError, ValueError):
            return stored


@lru_cache(maxsize=100_000)
def _sql(schema: Schema, op: Op) -> tuple[str, tuple[Any, ...]]:
    name, args = op
    if name in ("range", "where"):
        by_size = "length(value) - length(replace(value, ' ', ''))"
        by_value = by_size if schema.model == "list" else "value"
        test = "id BETWEEN ? AND ?" if name == "range" else f"id >= 0 AND {by_value} >= ?"
        parts = [f"SELECT id, value FROM {table} WHERE {test}" for table in schema.tables]
        return " UNION ALL ".join(parts) + " ORDER BY id", args * len(parts)
    key = args[0]
    table = schema.table(key)
    if name == "r":
        return f"SELECT value FROM {table} WHERE id = ?", (key,)
    if name == "delete":
        return f"DELETE FROM {table} WHERE id = ?", (key,)
    if name == "orphan":
        dot = table.removesuffix("item")
        return f"INSERT INTO {dot}part(id, item) VALUES (?, ?)", (key + 900, key + 900)
    if name == "clash":
        return f"UPDATE {table} SET tag = ? WHERE id = ?", (NEVER_TAG, key)
    if name == "bad":
        return f"UPDATE {table} SET value = ? WHERE id = ?", (
            "!" if schema.model == "list" else -1,
            key,
        )
    lists, unique = schema.model == "list", "unique" in schema.features
    stored = f"{args[1]} " if lists else args[1]
    if name in ("w", "append"):
        new = "value || ?" if lists else "?"
        tag, more = (", tag = ?", (args[1] + TAG,)) if unique else ("", ())
        return f"UPDATE {table} SET value = {new}{tag} WHERE id = ?", (stored, *more, key)
    params: tuple[Any, ...]
    columns, marks, params = "id, value", "?, ?", (key, stored)
    if unique:
        columns, marks, params = "id, value, tag", "?, ?, ?", (key, stored, args[1] + TAG)
    sql = f"INSERT INTO {table}({columns}) VALUES ({marks})"
    if name == "put":
        new = "item.value || excluded.value" if lists else "excluded.value"
        tag = ", tag = excluded.tag" if unique else ""
        sql += f" ON CONFLICT(id) DO UPDATE SET value = {new}{tag}"
    return sql, params


@dataclass(frozen=True)
class Schedule:
    """Programs, one a session, and the order in which their steps are taken.

    order   : a digit for each step: the session that takes its next one. Steps beyond the order are
        taken afterwards, session by session; a digit of a session that is through is passed over.
    patient : a BEGIN that finds the database locked waits, as it would with a busy timeout: it is
        `blocked`, holds nothing, and is taken again when another session's transaction has
        ended. Otherwise it is refused at once.
    settings : the pragmas of every session. busy_timeout_ms is always 0 and the page size the
        schema's, whatever they say.
    """

    programs: tuple[str, ...]
    order: str = ""
    schema: Schema = Schema()
    patient: bool = False
    settings: Settings = FAST

    def __post_init__(self) -> None:
        for text in self.programs:
            program(text)
        if not all(digit.isdigit() and int(digit) < len(self.programs) for digit in self.order):
            raise ValueError(
                f"order {self.order!r} names a session that has no program; "
                f"there are {len(self.programs)}, from 0."
            )

    def steps(self) -> tuple[tuple[Op, ...], ...]:
        return tuple(program(text) for text in self.programs)

    @property
    def checkable(self) -> bool:
        """Whether a history is complete. A read of an absent row does not show which delete it saw,
        and a history cannot express rows that an UPDATE did not find.
        """
        return not any(op.name == "delete" for steps in self.steps() for op in steps)
