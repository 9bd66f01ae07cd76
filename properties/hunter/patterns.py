"""Guided drawing: programs around a pattern of the catalogue, and changes of programs that led on.

A pattern is the order of reads, writes and ends of an anomaly (Adya 1999, Berenson 1995, Fekete
2004). Its reads and writes are made of any kinds of operation that touch the row; steps of other
kinds are strewn between. APTrans (2026) and Fucci (PVLDB 2025) draw around patterns likewise.
"""

from __future__ import annotations

from dataclasses import replace
from random import Random

from properties.hunter.drawing import Drawing, Grammar, Table
from workloads.schedules import Program, Step

PATTERNS = {
    "G0": "A w x; B w x; A w y; B w y; A c; B c",
    "G1a": "A w x; B r x; A a; B r x; B c",
    "G1b": "A w x; B r x; A w x; A c; B r x; B c",
    "G1c": "A w x; B w y; A r y; B r x; A c; B c",
    "lost update": "A r x; B r x; A w x; B w x; A c; B c",
    "fuzzy read": "A r x; B w x; B c; A r x; A c",
    "read skew": "A r x; B r x; B w x; B w y; B c; A r y; A c",
    "write skew": "A r x; A r y; B r x; B r y; A w x; B w y; A c; B c",
    "phantom": "A p; B i; B c; A p; A c",
    "predicate skew": "A p; B p; A i; B i; A c; B c",
    "read-only": "A r x; A r y; B r y; B w y; B c; C r x; C r y; C c; A w x; A c",
    "late commit": "A w x; B r x; B w y; A c; B r x; B c",
    "deleted and made again": "A d x; B r x; A i; A c; B w x; B c",
    "parent and child": "A r x; B d x; A k; B c; A c",
    "child and parent": "A k; B d x; A c; B c; B r x",
    "unique twice": "A u; B u; A c; B c",
    "unique twice, one given up": "A u; B u; A a; B c; C u; C c",
}
"""Name -> the steps: r and w, a read and a write of a row; p, a read by a predicate; i, an insert;
k, a child of the row; u, an insert with a UNIQUE value that is the same each time; d, a delete;
c, COMMIT; a, ROLLBACK."""


PLAIN = 0.4
"""The share of patterns of reads and writes in which each write is of one row by its key, with a
value of its own: the checker judges those, too (properties.hunter.by_checker)."""


def draw_pattern(rng: Random, grammar: Grammar, schema_of: Random) -> Program:
    """A program around one of the patterns."""
    drawing = Drawing(schema_of, grammar)
    drawing.draw_schema()
    drawing.rng = rng
    pattern = PATTERNS[rng.choice(list(PATTERNS))]
    guided = _Guided(drawing, pattern)
    guided.plain = rng.random() < PLAIN and guided.may_be_plain(pattern)
    return drawing.program(guided.steps(pattern))


class _Guided:
    """One pattern while it is filled in: its rows x and y lie in the same table or in two."""

    def __init__(self, drawing: Drawing, pattern: str) -> None:
        self.drawing, self.rng = drawing, drawing.rng
        self.tables = {"x": drawing.table(), "y": drawing.table()}
        self.child = self.unique = self.tables["x"]
        children = [table for table in drawing.tables if table.parent]
        if " k" in pattern and children:
            self.child = self.rng.choice(children)
            self.tables["x"] = self.child.parent or self.child
        if " u" in pattern:
            holding = [table for table in drawing.tables if "u" in table.columns]
            self.unique = self.rng.choice(holding or drawing.tables)
        self.value = str(self.rng.randrange(25, 32))
        self.plain, self.next = False, 100
        self.at = {name: self._existing(table) for name, table in self.tables.items()}

    def _existing(self, table: Table) -> str:
        """The condition of a row that is there at first, or of one that may be."""
        rows = [key for key in table.all_keys if self.rng.random() < 0.8]
        key = self.rng.choice(rows) if rows else self.drawing.key(table)
        return " AND ".join(
            f"{name} = {value}" for name, value in zip(table.keys, key, strict=True)
        )

    def may_be_plain(self, pattern: str) -> bool:
        """Whether nothing but reads and writes is in it, and nothing else writes their rows."""
        schema = " ".join(self.drawing.schema)
        alone = not {"p", "i", "k", "u", "d"} & {step.split()[1] for step in pattern.split("; ")}
        rows = all(table.all_keys for table in self.tables.values())
        return alone and rows and "TRIGGER" not in schema and "CHECK" not in schema

    def steps(self, pattern: str) -> list[Step]:
        steps, begun = [], set[str]()
        alone = self.rng.random() < 0.15  # one session's statements stand alone
        single = self.rng.choice("AB") if alone and self.drawing.grammar.has("autocommit") else ""
        for text in pattern.split("; "):
            session, what, *where = text.split()
            if session not in begun and session != single:
                begun.add(session)
                mode = self.rng.choice(self.drawing.grammar.modes)
                steps.append(Step(session, "begin", mode))
            if what in "ca":
                if session != single:
                    ends = "commit" if what == "c" else "rollback"
                    steps.append(Step(session, ends))
                continue
            steps.append(self._step(session, what, where[0] if where else "x"))
            if self.rng.random() < 0.15 and not self.plain:
                steps.append(self._beside(session, begun - {single}))
        if self.rng.random() < 0.1 and self.drawing.grammar.has("reopen"):
            steps.append(Step("*", "reopen"))
            steps.append(self._step("A", "r", "x"))
        return steps

    def _beside(self, session: str, begun: set[str]) -> Step:
        """A step that is none of the pattern's."""
        if self.drawing.chance(0.3, "savepoint") and session in begun:
            return Step(session, "sql", self.drawing.savepoint())
        if self.drawing.chance(0.3, "half-read"):
            return Step(session, "half", self.drawing.select())
        if self.drawing.chance(0.3, "checkpoint"):
            mode = self.drawing.checkpoint()
            return Step(session, "sql", f"PRAGMA wal_checkpoint({mode})")
        return self.drawing.statement(self.rng.choice(sorted({session, "C"})))

    def _step(self, session: str, what: str, name: str) -> Step:
        table, at = self.tables[name], self.at[name]
        if what == "r":
            return Step(session, "sql", self._read(table, at))
        if what == "p":
            where = self.drawing.condition(self.tables["x"])
            shown = self.tables["x"].visible if self.rng.random() < 0.7 else "COUNT(*)"
            return Step(
                session, "sql", f"SELECT {shown} FROM {self.tables['x'].name} WHERE {where}"
            )
        if what in "iku":
            return self._insert(session, what)
        if what == "d" or (self.rng.random() < 0.12 and not self.plain):
            return Step(session, "sql", f"DELETE FROM {table.name} WHERE {at}")
        return Step(session, "sql", self._write(table, at))

    def _insert(self, session: str, what: str) -> Step:
        """A new row: any, a child of x, or one with the value that others insert, too."""
        table, drawing = (
            {"i": self.tables["x"], "k": self.child, "u": self.unique}[what],
            self.drawing,
        )
        parent = self.at["x"].rpartition(" = ")[2]
        drawing.given = {"k": {"p": parent}, "u": {"u": self.value}}.get(what, {})
        try:
            if what == "k" and table.parent and self.rng.random() < 0.25:
                sql = f"UPDATE {table.name} SET p = {parent} WHERE {drawing.at(table)}"
                return Step(session, "sql", sql)
            chosen = self.rng.random() < 0.3 and drawing.grammar.has("returning")
            made = drawing.chosen_key(table) if chosen else drawing.insert(table)
        finally:
            drawing.given = {}
        return (
            Step(session, "sql", made) if isinstance(made, str) else made._replace(session=session)
        )

    def _read(self, table: Table, at: str) -> str:
        forms = [f"SELECT {table.visible} FROM {table.name} WHERE {at}"] * 3
        if self.plain:
            return self.rng.choice([*forms, f"SELECT {table.visible} FROM {table.name}"])
        forms += [f"SELECT {table.visible} FROM {table.name}",
                  f"SELECT SUM(v), COUNT(*) FROM {table.name}",
                  f"SELECT {table.visible} FROM {table.name} WHERE v IS NOT NULL"]  # fmt: skip
        if table.indexes:
            column = self.rng.choice(table.indexes)[1].split(",")[0].split(" ")[0]
            forms.append(
                f"SELECT {table.visible} FROM {table.name} WHERE {column} IS NOT NULL "
                f"ORDER BY {column}"
            )
        return self.rng.choice(forms)

    def _write(self, table: Table, at: str) -> str:
        if self.plain:
            self.next += 1
            return f"UPDATE {table.name} SET v = {self.next} WHERE {at}"
        sets = ["v = v + 1", f"v = {self.drawing.number()}", "v = v",
                f"w = '{self.rng.choice('abcde')}'"]  # fmt: skip
        made = f"UPDATE {table.name} SET {self.rng.choice(sets)} WHERE {at}"
        return made + self.drawing.returning(table)


def changed(rng: Random, program: Program, grammar: Grammar) -> Program:
    """A program with one to three changes: steps moved, left out, doubled, put in."""
    steps = list(program.steps)
    drawing = Drawing(rng, grammar)
    drawing.tables = tables_of(program)
    for _ in range(rng.choice((1, 1, 2, 3))):
        if not steps:
            break
        at = rng.randrange(len(steps))
        what = rng.choice(("move", "move", "drop", "double", "insert", "insert", "mode", "replace"))
        if what == "move":
            step = steps.pop(at)
            steps.insert(rng.randrange(len(steps) + 1), step)
        elif what == "drop":
            steps.pop(at)
        elif what == "double":
            steps.insert(rng.randrange(len(steps) + 1), steps[at])
        elif what == "insert" and drawing.tables:
            session = rng.choice(program.sessions or ["A"])
            steps.insert(at, _fresh(drawing, session))
        elif what == "mode" and steps[at].verb == "begin":
            steps[at] = steps[at]._replace(text=rng.choice(grammar.modes))
        elif what == "replace" and steps[at].verb == "sql" and drawing.tables:
            steps[at] = drawing.statement(steps[at].session)
    return replace(program, steps=tuple(steps))


def _fresh(drawing: Drawing, session: str) -> Step:
    for chance, feature, step in (
        (0.08, "reopen", Step("*", "reopen")),
        (0.05, "kill", Step("*", "kill")),
        (0.05, "close", Step(session, "close")),
        (0.08, "checkpoint", Step(session, "sql", "PRAGMA wal_checkpoint(TRUNCATE)")),
    ):
        if drawing.chance(chance, feature):
            return step
    return drawing.statement(session)


def tables_of(program: Program) -> list[Table]:
    """The tables of a program, as far as statements on them can be drawn from its text."""
    found = []
    for sql in program.schema:
        if not sql.startswith("CREATE TABLE t"):
            continue
        name, _, rest = sql.removeprefix("CREATE TABLE ").partition("(")
        keys = {"id": "INTEGER"}
        if rest.startswith("k TEXT"):
            keys = {"k": "TEXT"}
        elif rest.startswith("a INTEGER"):
            keys = {"a": "INTEGER", "b": "INTEGER"}
        table = Table(name, keys, {"v": "INTEGER", "w": "TEXT"}, chosen="id" in keys)
        if "u INTEGER" in rest:
            table.columns["u"] = "INTEGER"
        if "p INTEGER" in rest:
            table.columns["p"] = "INTEGER"
            table.parent = table
        found.append(table)
    return found
