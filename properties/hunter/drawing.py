"""Draws programs: a schema with some of the features of SQL, and sessions that use it.

Everything comes from one `random.Random`, so that a program is drawn again from a seed and an
index, and so that Hypothesis, whose `randoms()` is one, can draw and shrink the same programs.

What no reference could judge is never drawn: a LIMIT without an order, floating-point numbers, an
UPDATE of a UNIQUE column over several rows (whose outcome hangs on the order of rows).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from random import Random
from typing import NamedTuple

from properties.hunter.reference import DEFER
from workloads.engines import OF_FILE
from workloads.schedules import ALL, Program, Step, pragma

FEATURES = {
    # of tables
    "text key": "CREATE TABLE x(k TEXT PRIMARY KEY, v INTEGER)",
    "pair key": "CREATE TABLE x(a INTEGER, b INTEGER, v INTEGER, PRIMARY KEY (a, b))",
    "without rowid": "CREATE TABLE x(k TEXT PRIMARY KEY, v INTEGER) WITHOUT ROWID",
    "autoincrement": "CREATE TABLE x(id INTEGER PRIMARY KEY AUTOINCREMENT, v INTEGER)",
    "unique": "CREATE TABLE x(id INTEGER PRIMARY KEY, u INTEGER UNIQUE)",
    "unique index": "CREATE TABLE x(id INTEGER PRIMARY KEY, u INTEGER);"
    "CREATE UNIQUE INDEX i ON x(u) WHERE u > 2",
    "check": "CREATE TABLE x(id INTEGER PRIMARY KEY, v INTEGER CHECK (v < 90))",
    "generated": "CREATE TABLE x(id INTEGER PRIMARY KEY, v INTEGER, g INTEGER AS (v * 2))",
    "foreign": "CREATE TABLE x(id INTEGER PRIMARY KEY, p INTEGER REFERENCES x(id))",
    # of indexes
    "index": "CREATE TABLE x(id INTEGER PRIMARY KEY, v INTEGER);CREATE INDEX i ON x(v)",
    "partial": "CREATE TABLE x(id INTEGER PRIMARY KEY, v INTEGER);"
    "CREATE INDEX i ON x(v) WHERE v > 2",
    "expression": "CREATE TABLE x(id INTEGER PRIMARY KEY, v INTEGER);CREATE INDEX i ON x(v % 3)",
    "descending": "CREATE TABLE x(id INTEGER PRIMARY KEY, v INTEGER);CREATE INDEX i ON x(v DESC)",
    "indexed by": "CREATE TABLE x(id INTEGER PRIMARY KEY, v INTEGER);CREATE INDEX i ON x(v);"
    "SELECT v FROM x INDEXED BY i;SELECT v FROM x NOT INDEXED",
    # of statements
    "deferred keys": "CREATE TABLE x(id INTEGER PRIMARY KEY, p INTEGER REFERENCES x(id));BEGIN;"
    "PRAGMA defer_foreign_keys = ON;INSERT INTO x VALUES (1, 2);ROLLBACK",
    "trigger": "CREATE TABLE x(id INTEGER PRIMARY KEY, v INTEGER);"
    "CREATE TABLE y(id INTEGER PRIMARY KEY, v INTEGER);CREATE TRIGGER r AFTER UPDATE ON x BEGIN "
    "INSERT INTO y(v) VALUES (new.v); END",
    "returning": "CREATE TABLE x(id INTEGER PRIMARY KEY, v INTEGER);"
    "INSERT INTO x VALUES (1, 1) RETURNING id",
    "upsert": "CREATE TABLE x(id INTEGER PRIMARY KEY, v INTEGER);"
    "INSERT INTO x(id, v) VALUES (1, 1) ON CONFLICT(id) DO UPDATE SET v = v + 1",
    "replace": "CREATE TABLE x(id INTEGER PRIMARY KEY, v INTEGER);"
    "INSERT OR REPLACE INTO x(id, v) VALUES (1, 1);INSERT OR IGNORE INTO x(id, v) VALUES (1, 1)",
    "savepoint": "BEGIN;SAVEPOINT a;ROLLBACK TO a;RELEASE a;COMMIT",
    "ddl": "CREATE TABLE x(id INTEGER PRIMARY KEY, v INTEGER);"
    "ALTER TABLE x ADD COLUMN y INTEGER DEFAULT 7;CREATE INDEX i ON x(y);DROP INDEX i;"
    "ALTER TABLE x RENAME TO z;DROP TABLE z",
    "attach": "ATTACH ':memory:' AS side;CREATE TABLE side.s(v INTEGER);DETACH side",
    "vacuum": "VACUUM",
    "analyze": "ANALYZE",
    "checkpoint": "PRAGMA wal_checkpoint(TRUNCATE)",
    "schema read": "SELECT name FROM sqlite_schema",
    "join": "CREATE TABLE x(id INTEGER PRIMARY KEY, v INTEGER);"
    "SELECT a.v FROM x a JOIN x b ON a.id = b.v",
}
"""Feature -> statements that an engine must take for it; they are asked once (hunt.py)."""

WAYS = (
    "race",
    "race autocommit",
    "autocommit",
    "add column",
    "half-read",
    "close",
    "reopen",
    "kill",
    "apart",
    "rollback",
    "options",
    "shared",
)
"""Features that need no syntax of their own."""

RACES = 0.01
"""The share of freely drawn programs with a race, which takes as long as a dozen others."""

SIDE = (
    "ATTACH ':memory:' AS side",
    "CREATE TABLE IF NOT EXISTS side.s(v INTEGER)",
    "INSERT INTO side.s SELECT v FROM {table}",
    "INSERT INTO side.s VALUES (1)",
    "DETACH side",
)
"""Statements about a second database of a connection: to attach it, of it, to detach it."""

KILLED = 0.1
"""The share of programs that are apart in which one session's process is killed."""

SHARED = 0.04
"""The share of programs two of whose sessions use one connection."""

OPENED = 0.25
"""The share of schemas whose connections are opened with options."""

LETTERS = "abcde"
MOST_SESSIONS = 3


class Option(NamedTuple):
    """With what connections may be opened. gives : features that the engine refuses without it."""

    name: str
    value: str
    gives: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Grammar:
    """What may be drawn. modes : of BEGIN, of which each transaction takes one. off : features that
    are switched off, or for a while because something known would hide other findings.
    refused : features that the engine refuses. options : with what its connections may be opened.
    shares : how sessions may share a connection (Engine.shares).
    """

    modes: tuple[str, ...]
    off: frozenset[str] = frozenset()
    steps: int = 14
    refused: frozenset[str] = frozenset()
    options: tuple[Option, ...] = ()
    shares: str = ""

    def has(self, feature: str) -> bool:
        return feature not in self.off and feature not in self.refused


@dataclass
class Table:
    """A table as the drawing knows it. keys, columns : name -> type. chosen : the engine may choose
    the key. rows, all_keys : the first value of each key that is there at first, and the keys.
    unique : what an upsert names for the column u. indexes : name, columns, WHERE.
    """

    name: str
    keys: dict[str, str]
    columns: dict[str, str]
    chosen: bool = False
    generated: bool = False
    parent: Table | None = None
    unique: str = "(u)"
    indexes: list[tuple[str, str, str]] = field(default_factory=list)
    rows: list[str] = field(default_factory=list)
    all_keys: list[tuple[str, ...]] = field(default_factory=list)

    @property
    def visible(self) -> str:
        names = [*self.keys, *self.columns, *(["g"] if self.generated else [])]
        return ", ".join(names)


class Drawing:
    """One program while it is drawn."""

    def __init__(self, rng: Random, grammar: Grammar) -> None:
        self.rng, self.grammar = rng, grammar
        self.tables: list[Table] = []
        self.schema: list[str] = []
        self.made = 0  # objects made by DDL within the steps, for their names
        self.given: dict[str, str] = {}  # column -> the value that a new row has
        self.options: dict[str, str] = {}

    # --- small draws ----------------------------------------------------------------------------

    def chance(self, share: float, feature: str = "") -> bool:
        """True with this chance, never for a feature that is off."""
        drawn = self.rng.random() < share
        return drawn and (not feature or self.grammar.has(feature))

    def number(self) -> str:
        return str(self.rng.randrange(10))

    def value(self, kind: str) -> str:
        if self.rng.random() < 0.06:
            return "NULL"
        return self.number() if kind == "INTEGER" else repr(self.rng.choice(LETTERS))

    def key(self, table: Table) -> tuple[str, ...]:
        """The values of a key, one that may be there or not."""
        return tuple(
            str(self.rng.randrange(1, 7)) if kind == "INTEGER" else repr(self.rng.choice(LETTERS))
            for kind in table.keys.values()
        )

    def at(self, table: Table) -> str:
        """A condition that names one row by its key."""
        pairs = zip(table.keys, self.key(table), strict=True)
        return " AND ".join(f"{name} = {value}" for name, value in pairs)

    def table(self) -> Table:
        return self.rng.choice(self.tables)

    # --- the schema -----------------------------------------------------------------------------

    def draw_schema(self) -> None:
        if self.grammar.options and self.chance(OPENED, "options"):
            self._options()
        for number in range(self.rng.choice((1, 2, 2, 3))):
            self._table(f"t{number}")
        for table in self.tables:
            self._indexes(table)
        for table in self.tables:
            self._rows(table)
        for table in self.tables:
            if self.chance(0.35, "trigger"):
                self._trigger(table)

    def _options(self) -> None:
        """One or two options; those of the file are statements before its tables."""
        drawn: dict[str, Option] = {}
        for _ in range(self.rng.choice((1, 1, 2))):
            name = self.rng.choice(list(dict.fromkeys(one.name for one in self.grammar.options)))
            values = [one for one in self.grammar.options if one.name == name]
            drawn[name] = self.rng.choice(values)
        gives = frozenset[str]().union(*(one.gives for one in drawn.values()))
        self.grammar = replace(self.grammar, refused=self.grammar.refused - gives)
        self.options = {n: one.value for n, one in drawn.items() if n not in OF_FILE}
        journal = self.options.get("journal_mode", "wal")
        for name, option in drawn.items():
            if name in OF_FILE:
                made = [pragma(name, option.value), "VACUUM"]
                if name == "page_size":
                    made.insert(0, pragma("journal_mode", "delete"))
                    made.append(pragma("journal_mode", journal))
                self.schema += made

    def program(self, steps: Sequence[Step]) -> Program:
        """The program that was drawn, with these steps."""
        apart, options = self.chance(0.2, "apart"), tuple(self.options.items())
        if apart and self.chance(KILLED, "kill"):
            at = self.rng.randrange(len(steps))
            if (one := steps[at].session) != ALL:
                steps = [*steps[: at + 1], Step(one, "kill"), *steps[at + 1 :]]
        made = Program(tuple(self.schema), tuple(steps), apart=apart, options=options)
        if not (self.grammar.shares and self.chance(SHARED, "shared") and len(made.sessions) > 1):
            return made
        if any(step.verb == "kill" and step.session != ALL for step in steps):
            return made
        pair = tuple(sorted(self.rng.sample(made.sessions, 2)))
        threads = self.grammar.shares == "threads" and self.rng.random() < 0.5
        return replace(made, apart=False, shared=pair, threads=threads)

    def _table(self, name: str) -> None:
        kind = self.rng.choice(("id", "id", "auto", "text", "pair"))
        keys = {"id": "INTEGER"}
        if kind == "text" and self.grammar.has("text key"):
            keys = {"k": "TEXT"}
        elif kind == "pair" and self.grammar.has("pair key"):
            keys = {"a": "INTEGER", "b": "INTEGER"}
        auto = kind == "auto" and self.grammar.has("autoincrement")
        table = Table(name, keys, {"v": "INTEGER", "w": "TEXT"}, chosen="id" in keys)
        checked = " CHECK (v < 9)" if self.chance(0.15, "check") else ""
        columns = [f"v INTEGER{checked}", "w TEXT"]
        if self.chance(0.4, "unique"):
            table.columns["u"] = "INTEGER"
            by_index = self.chance(0.3, "unique index")
            columns.append("u INTEGER" if by_index else "u INTEGER UNIQUE")
            if by_index and self.rng.random() < 0.5:
                table.unique += " WHERE u > 24"
            unique = f"CREATE UNIQUE INDEX {name}_u ON {name}{table.unique}" if by_index else ""
        else:
            unique = ""
        if self.chance(0.1, "generated"):
            table.generated = True
            columns.append("g INTEGER AS (v * 2)")
        parents = [one for one in self.tables if "id" in one.keys]
        if parents and self.chance(0.3, "foreign"):
            table.parent = self.rng.choice(parents)
            table.columns["p"] = "INTEGER"
            action = self.rng.choice(("", " ON DELETE CASCADE", " ON DELETE SET NULL"))
            columns.append(f"p INTEGER REFERENCES {table.parent.name}(id){action}")
        if "id" in keys:
            keyed = ["id INTEGER PRIMARY KEY" + (" AUTOINCREMENT" if auto else "")]
            end = ""
        else:
            keyed = [f"{key} {of} NOT NULL" for key, of in keys.items()]
            columns.append(f"PRIMARY KEY ({', '.join(keys)})")
            end = " WITHOUT ROWID" if self.chance(0.4, "without rowid") else ""
        self.schema.append(f"CREATE TABLE {name}({', '.join(keyed + columns)}){end}")
        self.schema += [unique] if unique else []
        self.tables.append(table)

    def _indexes(self, table: Table) -> None:
        forms = [("v", "index", ""), ("w, v", "index", ""), ("v", "partial", " WHERE v > 3")]
        forms += [("v % 3", "expression", ""), ("v DESC", "descending", "")]
        for columns, feature, where in forms:
            if self.chance(0.22, feature):
                name = f"{table.name}_i{len(table.indexes)}"
                self.schema.append(f"CREATE INDEX {name} ON {table.name}({columns}){where}")
                table.indexes.append((name, columns, where))

    def _rows(self, table: Table) -> None:
        keys: set[tuple[str, ...]] = {self.key(table) for _ in range(self.rng.randrange(2, 6))}
        for number, key in enumerate(sorted(keys)):
            values = [str(self.rng.randrange(9)), repr(self.rng.choice(LETTERS))]
            if "u" in table.columns:
                values.append(str(20 + number))
            if table.parent:
                values.append(self.rng.choice([*table.parent.rows, "NULL"]))
            table.rows.append(key[0])
            table.all_keys.append(key)
            names = ", ".join((*table.keys, *table.columns))
            self.schema.append(
                f"INSERT INTO {table.name}({names}) VALUES ({', '.join((*key, *values))})"
            )

    def _trigger(self, table: Table) -> None:
        when, row = self.rng.choice((("INSERT", "new"), ("UPDATE", "new"), ("DELETE", "old")))
        what = self.rng.choice(("log", "log", "update", "delete"))
        if what == "log":
            log = f"log{len(self.schema)}"
            auto = " AUTOINCREMENT" if self.chance(0.5, "autoincrement") else ""
            self.schema.append(
                f"CREATE TABLE {log}(id INTEGER PRIMARY KEY{auto}, what TEXT, v INTEGER)"
            )
            body = f"INSERT INTO {log}(what, v) VALUES ('{when.lower()}', {row}.v)"
        else:
            others = [one for one in self.tables if one is not table]
            if not others:
                return
            other = self.rng.choice(others)
            body = (
                f"UPDATE {other.name} SET v = 0 WHERE v = {row}.v"
                if what == "update"
                else f"DELETE FROM {other.name} WHERE v = {row}.v AND w = 'e'"
            )
        self.schema.append(
            f"CREATE TRIGGER r{len(self.schema)} AFTER {when} ON {table.name} BEGIN {body}; END"
        )

    # --- statements -----------------------------------------------------------------------------

    def statement(self, session: str) -> Step:
        """One statement: a read, a write, or now and then something rarer."""
        forms: list[tuple[int, Callable[[Table], Step | str], str]] = [
            (18, self._read, ""),
            (12, self._update, ""),
            (10, lambda table: self.insert(table, end=self.returning(table)), ""),
            (6, self._delete, ""),
            (5, self.chosen_key, "returning"),
            (3, self._upsert, "upsert"),
            (3, self._replace, "replace"),
            (3, self._ddl, "ddl"),
            (2, lambda table: f"PRAGMA wal_checkpoint({self.checkpoint()})", "checkpoint"),
            (1, lambda table: "ANALYZE", "analyze"),
            (1, lambda table: "VACUUM", "vacuum"),
        ]
        usable = [(weight, form) for weight, form, need in forms if self.grammar.has(need)]
        [form] = self.rng.choices([f for _, f in usable], [w for w, _ in usable])
        made = form(self.table())
        return (
            Step(session, "sql", made) if isinstance(made, str) else made._replace(session=session)
        )

    def checkpoint(self) -> str:
        return self.rng.choice(("PASSIVE", "FULL", "RESTART", "TRUNCATE"))

    def condition(self, table: Table) -> str:
        """A condition over several rows: by a range, an index's column, a predicate."""
        low = self.rng.randrange(9)
        forms = [f"v > {low}", f"v BETWEEN {low} AND {low + 3}", f"v = {low}"]
        forms += [f"w = {self.rng.choice(LETTERS)!r}", f"v % 3 = {low % 3}", "v IS NOT NULL"]
        if "id" in table.keys:
            forms += [f"id > {low}", f"id BETWEEN {low} AND {low + 2}"]
        if "u" in table.columns:
            forms.append(f"u >= {15 + low}")
        return self.rng.choice(forms)

    def select(self) -> str:
        """A read whose rows are the same whatever their order."""
        table = self.table()
        forms = ["key", "key", "where", "where", "all", "all", "count", "order"]
        forms += ["index"] if self.grammar.has("indexed by") else []
        forms += ["join"] if self.grammar.has("join") else []
        forms += ["schema"] if self.grammar.has("schema read") else []
        form = self.rng.choice(forms)
        if form == "key":
            return f"SELECT {table.visible} FROM {table.name} WHERE {self.at(table)}"
        if form == "where":
            return f"SELECT {table.visible} FROM {table.name} WHERE {self.condition(table)}"
        if form == "index":
            return self._by_index(table)
        if form == "order":
            return (
                f"SELECT {table.visible} FROM {table.name} WHERE {self.condition(table)} "
                f"ORDER BY {self.rng.choice(('v', 'w, v', 'v DESC', *table.keys))}"
            )
        if form == "count":
            return (
                f"SELECT COUNT(*), SUM(v), MIN(w) FROM {table.name} WHERE {self.condition(table)}"
            )
        if form == "join":
            other = self.table()
            return (
                f"SELECT x.v, y.w FROM {table.name} x JOIN {other.name} y ON x.v = y.v "
                f"WHERE x.{self.condition(table)}"
            )
        if form == "schema":
            # Names that begin with two underscores are an engine's own.
            return (
                "SELECT type, name FROM sqlite_schema WHERE name NOT LIKE 'sqlite_%' "
                "AND substr(name, 1, 2) <> '__' AND name NOT LIKE 'race%'"
            )
        return f"SELECT {table.visible} FROM {table.name}"

    def _by_index(self, table: Table) -> str:
        """All rows of a table by one of its indexes, or by none."""
        name, _, where = self.rng.choice([*table.indexes, ("", "", "")])
        by = f"INDEXED BY {name}" if name else "NOT INDEXED"
        return f"SELECT {table.visible} FROM {table.name} {by}{where}"

    def _read(self, table: Table) -> str:
        return self.select()

    def _update(self, table: Table) -> str:
        sets = [f"v = {self.number()}", "v = v + 1", f"w = {self.rng.choice(LETTERS)!r}", "v = v"]
        where = self.at(table) if self.chance(0.6) else self.condition(table)
        change = self.rng.choice(sets)
        if "u" in table.columns and self.chance(0.25):
            change, where = f"u = {self.rng.randrange(20, 30)}", self.at(table)
        elif table.parent and self.chance(0.3):
            change = f"p = {self.rng.randrange(1, 7)}"
        return f"UPDATE {table.name} SET {change} WHERE {where}" + self.returning(table)

    def returning(self, table: Table) -> str:
        # Rows of a RETURNING are compared; a trigger that changes them later shows in none.
        return f" RETURNING {table.visible}" if self.chance(0.15, "returning") else ""

    def _row(self, table: Table) -> tuple[list[str], list[str]]:
        """Columns and values of a new row, without its key."""
        names, values = ["v", "w"], [self.value("INTEGER"), self.value("TEXT")]
        if "u" in table.columns:
            names.append("u")
            values.append(self.given.get("u") or str(self.rng.randrange(20, 32)))
        if table.parent:
            names.append("p")
            drawn = str(self.rng.randrange(1, 7)) if self.chance(0.8) else "NULL"
            values.append(self.given.get("p") or drawn)
        return names, values

    def insert(self, table: Table, word: str = "INSERT", end: str = "") -> str:
        names, values = self._row(table)
        rows = [", ".join((*self.key(table), *values))]
        if self.chance(0.15) and "u" not in table.columns:
            rows.append(", ".join((*self.key(table), *self._row(table)[1])))
        all_names = ", ".join((*table.keys, *names))
        made = f"{word} INTO {table.name}({all_names}) VALUES "
        return made + ", ".join(f"({row})" for row in rows) + end

    def chosen_key(self, table: Table) -> Step | str:
        if not table.chosen:
            return self.insert(table)
        names, values = self._row(table)
        sql = f"INSERT INTO {table.name}({', '.join(names)}) VALUES ({', '.join(values)})"
        return Step("", "auto", f"{sql} RETURNING id")

    def _upsert(self, table: Table) -> str:
        change = self.rng.choice(("v = v + 1", "v = excluded.v", "w = excluded.w"))
        target, do = f"({', '.join(table.keys)})", f"UPDATE SET {change}"
        if "u" in table.columns and self.chance(0.5):
            target = table.unique
        if self.chance(0.2):
            target, do = self.rng.choice((target, "")), "NOTHING"
        return self.insert(table, end=f" ON CONFLICT{target} DO {do}{self.returning(table)}")

    def _replace(self, table: Table) -> str:
        word = self.rng.choice(("INSERT OR REPLACE", "INSERT OR IGNORE"))
        return self.insert(table, word, self.returning(table))

    def failing(self) -> str:
        """An INSERT of a key that is there at first, by itself or after a row that is new."""
        table = self.table()
        if not table.all_keys:
            return self.insert(table)
        names, values = self._row(table)
        keys = [self.key(table)] if self.chance(0.4) and "u" not in table.columns else []
        rows = (", ".join((*key, *values)) for key in [*keys, self.rng.choice(table.all_keys)])
        all_names = ", ".join((*table.keys, *names))
        return f"INSERT INTO {table.name}({all_names}) VALUES " + ", ".join(
            f"({row})" for row in rows
        )

    def _delete(self, table: Table) -> str:
        where = self.at(table) if self.chance(0.7) else self.condition(table)
        return f"DELETE FROM {table.name} WHERE {where}" + self.returning(table)

    def _ddl(self, table: Table) -> str:
        self.made += 1
        name, number = table.name, self.made
        index = table.indexes[0][0] if table.indexes else f"{name}_n1"
        forms = [
            f"CREATE TABLE n{number}(id INTEGER PRIMARY KEY, v INTEGER)",
            f"INSERT INTO n{max(1, number - 1)}(id, v) VALUES ({number}, 1)",
            f"DROP TABLE IF EXISTS n{max(1, number - 1)}",
            f"CREATE INDEX {name}_n{number} ON {name}(w)",
            f"CREATE INDEX IF NOT EXISTS {name}_n1 ON {name}(v)",
            f"DROP INDEX IF EXISTS {index}",
            f"ALTER TABLE {name} RENAME TO {name}r",
            f"ALTER TABLE {name}r RENAME TO {name}",
        ]
        if self.grammar.has("add column"):
            forms += [
                f"ALTER TABLE {name} ADD COLUMN x{number} INTEGER DEFAULT 7",
                f"ALTER TABLE {name} DROP COLUMN x{max(1, number - 1)}",
            ]
        return self.rng.choice(forms)

    # --- sessions -------------------------------------------------------------------------------

    def block(self, session: str) -> list[Step]:
        """What a session does in one go: a transaction, a statement of its own, a cursor."""
        if self.chance(0.3, "autocommit"):
            return [self.statement(session)]
        if self.chance(0.12, "half-read"):
            return [Step(session, "half", self.select()), self.statement(session),
                    Step(session, "fetch")]  # fmt: skip
        if self.chance(0.02, "attach"):
            return self._beside_another_file(session)
        mode = self.rng.choice(self.grammar.modes)
        steps = [Step(session, "begin", mode)]
        if self.rng.random() < 0.04 and any(table.parent for table in self.tables):
            steps += [Step(session, "sql", DEFER)] if self.grammar.has("deferred keys") else []
        for _ in range(self.rng.randrange(1, 5)):
            if self.chance(0.05):
                steps.append(Step(session, "sql", self.failing()))
            elif self.chance(0.04, "savepoint"):
                steps += self._nested(session)
            elif self.chance(0.12, "savepoint"):
                steps.append(Step(session, "sql", self.savepoint()))
            elif self.chance(0.07, "half-read"):
                steps.append(Step(session, "half", self.select()))
            else:
                steps.append(self.statement(session))
        if any(step.verb == "half" for step in steps) and self.chance(0.7):
            steps.append(Step(session, "fetch"))
        ends = "rollback" if self.chance(0.15, "rollback") else "commit"
        if not self.chance(0.04, "close"):
            steps.append(Step(session, ends))
        else:
            steps.append(Step(session, "close"))
        return steps

    def _nested(self, session: str) -> list[Step]:
        """A savepoint within a savepoint, and their ends."""
        inner = self.rng.choice(("RELEASE t", "ROLLBACK TO t", "ROLLBACK TO s", "RELEASE s"))
        outer = self.rng.choice(("RELEASE s", "ROLLBACK TO s", ""))
        texts = ["SAVEPOINT s", "", "SAVEPOINT t", "", inner, "", *([outer] if outer else [])]
        return [Step(session, "sql", text) if text else self.statement(session) for text in texts]

    def _beside_another_file(self, session: str) -> list[Step]:
        """A transaction that writes into an attached database, too. No judge looks into that."""
        table, (attach, *within, detach) = self.table(), SIDE
        steps = [Step(session, "sql", attach), Step(session, "sql", within[0])]
        steps.append(Step(session, "begin", self.rng.choice(self.grammar.modes)))
        steps.append(self.statement(session))
        steps.append(Step(session, "sql", self.rng.choice(within[1:]).format(table=table.name)))
        steps.append(self.statement(session))
        ends = "rollback" if self.chance(0.3, "rollback") else "commit"
        return [*steps, Step(session, ends), Step(session, "sql", detach)]

    def savepoint(self) -> str:
        name = self.rng.choice("st")
        return self.rng.choice((f"SAVEPOINT {name}", f"SAVEPOINT {name}",
                                f"ROLLBACK TO {name}", f"RELEASE {name}"))  # fmt: skip

    def draw_steps(self) -> list[Step]:
        count = self.rng.choice((2, 2, 3))
        lines: list[list[Step]] = [[] for _ in range(count)]
        while sum(map(len, lines)) < self.grammar.steps:
            number = self.rng.randrange(count)
            lines[number] += self.block("ABC"[number])
        steps: list[Step] = []
        waiting = [list(reversed(line)) for line in lines]
        before = self.rng.random()
        while any(waiting):
            # Runs of steps of one session, of a length that differs from program to program.
            number = self.rng.choice([at for at, line in enumerate(waiting) if line])
            while waiting[number]:
                steps.append(waiting[number].pop())
                if self.rng.random() < before:
                    break
            if self.chance(0.03, "reopen"):
                steps.append(Step(ALL, "reopen"))
            elif self.chance(0.006, "kill"):
                steps.append(Step(ALL, "kill"))
        if self.chance(0.12, "checkpoint"):
            text = f"PRAGMA wal_checkpoint({self.checkpoint()})"
            steps.insert(0, Step("A", "sql", text))
        if self.chance(RACES, "race"):
            modes = [*self.grammar.modes]
            modes += ["autocommit"] if self.grammar.has("race autocommit") else []
            mode = "+".join(self.rng.sample(modes, self.rng.randrange(1, len(modes) + 1)))
            seed = self.rng.randrange(10_000)
            text = f"{mode} {self.rng.choice((2, 3, 4))} 0.3 {seed}"
            steps.insert(0 if self.chance(0.5) else len(steps), Step(ALL, "race", text))
        return steps


def draw(rng: Random, grammar: Grammar) -> Program:
    """A program, drawn freely."""
    return draw_on(rng, grammar, rng)


def draw_on(rng: Random, grammar: Grammar, schema_of: Random) -> Program:
    """A program on a schema that others share: the schema comes from `schema_of`."""
    drawing = Drawing(schema_of, grammar)
    drawing.draw_schema()
    drawing.rng = rng
    return drawing.program(drawing.draw_steps())
