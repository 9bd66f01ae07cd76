r"""What a script of SQL does to the tables, and whether it may be run twice, without running it.

Each statement is prepared on an empty copy of the schema, whose authorizer tells the tables and
columns that it reads and writes, through triggers too. The rest is read from its words. A second
run is what an application does that lost the answer of a COMMIT: it gives the same variables, and
finds the tables as the first run left them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, NamedTuple

from workloads.files import made as temporary
from workloads.scenarios import own_database
from workloads.scenarios.script import Step
from workloads.scenarios.script_text import NO_SPACE, Piece, Token, pieces, with_variables


class Twice(StrEnum):
    """What a second run does: it leaves what the first left; it is refused by a key, and the
    transaction with it; it does more; nobody can see it.
    """

    SAME = "same"
    REFUSED = "refused"
    AGAIN = "again"
    UNKNOWN = "unknown"


class Access(StrEnum):
    """The order in which a script reads and writes; NOT_SEEN where a statement cannot be read."""

    READS = "only reads"
    WRITES_FIRST = "writes first"
    READS_THEN_WRITES = "reads, then writes"
    NOT_SEEN = "cannot be read"


MAKES = ("CREATE", "ALTER", "DROP")
VARIABLE = re.compile(r":([A-Za-z_\x80-\U0010ffff][\w\x80-\U0010ffff]*)")
NOT_TWICE = {
    *("RANDOM", "RANDOMBLOB", "CURRENT_TIMESTAMP", "CURRENT_TIME", "CURRENT_DATE", "DATETIME"),
    *("STRFTIME", "JULIANDAY", "UNIXEPOCH", "LAST_INSERT_ROWID", "NOW", "NEXTVAL", "LASTVAL"),
    *("GEN_RANDOM_UUID", "CHANGES", "TOTAL_CHANGES"),
}
"""Words whose value is another the second time."""

KEEPING = ("MAX", "MIN", "COALESCE", "IFNULL", "GREATEST", "LEAST")
"""Functions that give the same of their own result."""

SET_ENDS = ("WHERE", "FROM", "RETURNING", "ORDER", "LIMIT")
Column = tuple[str, str]


class Effect(NamedTuple):
    """One statement that reads or writes a table. reads, writes : tables. triggers : that it sets
    off. twice, and why, as the end of a sentence. always : it is
    in no branch.
    """

    line: int
    reads: tuple[str, ...]
    writes: tuple[str, ...]
    triggers: tuple[str, ...]
    twice: Twice
    why: str
    always: bool


@dataclass(frozen=True)
class ScriptEffects:
    """A script. whole : it is one transaction. transactions : its BEGINs; 0: each statement alone.

    shape : in which order it reads and writes. twice : SAME also where it writes nothing.
    why : with the lines.
    """

    name: str
    role: str
    whole: bool
    transactions: int
    shape: Access
    effects: tuple[Effect, ...]
    twice: Twice
    why: str

    @property
    def reads(self) -> tuple[str, ...]:
        return _once(table for effect in self.effects for table in effect.reads)

    @property
    def writes(self) -> tuple[str, ...]:
        return _once(table for effect in self.effects for table in effect.writes)


def _once(names: Iterator[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(names))


class _Prepared(NamedTuple):
    """What the authorizer told of a statement: columns read and updated; tables into which or from
    which rows go; the triggers that it sets off. why : it could not be prepared.
    """

    read: frozenset[Column] = frozenset()
    updated: frozenset[Column] = frozenset()
    rows: frozenset[str] = frozenset()
    triggers: tuple[str, ...] = ()
    why: str = ""

    @property
    def tables(self) -> set[str]:
        return {table for table, _ in self.updated} | self.rows


def effects_of(scenario: Any) -> list[ScriptEffects]:
    """Each script of a scenario `sql`. A schema that Python's SQLite does not take, or a database
    that is gone, makes its statements unknown and is no error.
    """
    import sqlite3  # here: the process that forks workers is to have no engine's library

    with closing(sqlite3.connect(":memory:", isolation_level=None)) as empty:
        for sql in _schema(scenario):
            try:
                empty.execute(sql)
            except sqlite3.Error:
                continue  # what misses it is told by its own statement
        book = _Book(empty)
        return [_of_script(one, scenario, kind, book) for kind, one in _named(scenario)]


def _named(scenario: Any) -> Iterator[tuple[str, Any]]:
    yield from zip(scenario.kinds, scenario.transactions, strict=True)


def _schema(scenario: Any) -> Iterator[str]:
    """The statements that make the tables, without any that fills them."""
    if scenario.own_database:
        yield from _of_database(scenario.own_database)
    yield from scenario.schema()
    yield from (sql for sql, piece in scenario.tables if piece.words and piece.words[0] in MAKES)


def _of_database(path: str) -> list[str]:
    import sqlite3

    with temporary("schema") as folder:
        try:
            own_database.copy(Path(path), Path(folder) / "copy.db")
        except (own_database.NotCopied, OSError):
            return []
        with closing(sqlite3.connect(Path(folder) / "copy.db")) as copied:
            rows = copied.execute("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL")
            return [sql for name, sql in rows if not name.startswith("sqlite_")]


class _Book:
    """The empty copy of the schema, asked about statements and keys."""

    def __init__(self, empty: Any) -> None:
        self.empty = empty
        named = empty.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'")
        self.triggers = {row[0] for row in named}

    def prepared(self, sql: str, values: int) -> _Prepared:
        """What a statement would do; it is not run."""
        import sqlite3

        read: set[Column] = set()
        updated: set[Column] = set()
        rows: set[str] = set()
        triggers: dict[str, None] = {}

        def told(action: int, one: str | None, other: str | None, *more: str | None) -> int:
            table = str(one or "").lower()
            if table.startswith("sqlite_"):
                return 0
            if more[-1] in self.triggers:  # or it is the view or the WITH that it stands in
                triggers[str(more[-1])] = None
            if action == sqlite3.SQLITE_READ:
                read.add((table, str(other or "").lower()))
            elif action == sqlite3.SQLITE_UPDATE:
                updated.add((table, str(other or "").lower()))
            elif action in (sqlite3.SQLITE_INSERT, sqlite3.SQLITE_DELETE):
                rows.add(table)
            return 0

        self.empty.set_authorizer(told)
        try:
            self.empty.execute(f"EXPLAIN {sql}", (None,) * values).fetchall()
        except sqlite3.Error as error:
            return _Prepared(why=str(error))
        finally:
            self.empty.set_authorizer(None)
        return _Prepared(frozenset(read), frozenset(updated), frozenset(rows), tuple(triggers))

    def columns(self, table: str) -> list[str]:
        return [row[1].lower() for row in self._pragma("table_info", table)]

    def keys(self, table: str) -> list[tuple[str, ...]]:
        """The columns of each unique key of a table, its primary key first."""
        primary = sorted((row[5], row[1].lower()) for row in self._pragma("table_info", table)
                         if row[5])  # fmt: skip
        found = [tuple(name for _, name in primary)] if primary else []
        for row in self._pragma("index_list", table):
            partial = row[4]
            columns = [each[2] for each in self._pragma("index_info", row[1])]
            if row[2] and not partial and None not in columns:
                found.append(tuple(each.lower() for each in columns))
        return list(dict.fromkeys(found))

    def _pragma(self, name: str, of: str) -> list[tuple[Any, ...]]:
        quoted = of.replace('"', '""')
        rows: list[tuple[Any, ...]] = self.empty.execute(f'PRAGMA {name}("{quoted}")').fetchall()
        return rows


# --- a script -----------------------------------------------------------------------------------


class _Line(NamedTuple):
    """A statement of a script with what is known of it. always : it is in no branch."""

    piece: Piece
    step: Step
    prepared: _Prepared
    always: bool


def _of_script(one: Any, scenario: Any, name: str, book: _Book) -> ScriptEffects:
    made = one.script
    cut = list(pieces(made.file, one.text))
    lines = _lines(cut, made.steps, scenario, book)
    changed = _Changed(lines)
    tainted = _tainted(cut, lines, changed)
    effects = []
    for line in lines:
        done = line.prepared
        if line.piece.words[:1] in (("SAVEPOINT",), ("RELEASE",)):
            continue
        if not (done.read or done.tables or done.why or line.piece.changes):
            continue
        twice, why = _statement(line, tainted, book)
        reads = () if done.tables else tuple(sorted({table for table, _ in done.read}))
        writes = tuple(sorted(done.tables))
        effects.append(
            Effect(line.piece.line, reads, writes, done.triggers, twice, why, line.always)
        )
    twice, why = _verdict(effects, made.whole)
    return ScriptEffects(name, one.role, made.whole, made.transactions, _shape(effects),
                         tuple(effects), twice, why)  # fmt: skip


def _lines(cut: Sequence[Piece], steps: Sequence[Step], scenario: Any, book: _Book) -> list[_Line]:
    known = {name: str(value) for name, value in scenario.base(0, 0).items()}
    ours = iter([step for step in steps if step.statement is not None])
    depth, found = 0, []
    for piece in cut:
        depth += (piece.command == "if") - (piece.command == "endif")
        if piece.command or piece.control:
            continue
        step = next(ours)
        statement = step.statement
        assert statement is not None
        sql, values = statement.sql, len(statement.bound)
        if sql is None:
            sql, values = with_variables("", piece, _Anything(known))[0], 0
        found.append(_Line(piece, step, book.prepared(sql, values), depth == 0))
    return found


class _Anything(dict[str, str]):
    """Texts of variables; one that no --define gives is NULL."""

    def __contains__(self, name: object) -> bool:
        return True

    def __missing__(self, name: str) -> str:
        return "NULL"


class _Changed:
    """What a script changes, whichever of its statements does."""

    def __init__(self, lines: Sequence[_Line]) -> None:
        self.columns = {column for line in lines for column in line.prepared.updated}
        self.tables = {table for line in lines for table in line.prepared.rows}

    def seen_by(self, prepared: _Prepared) -> bool:
        """Whether a statement reads anything of it."""
        return any(column in self.columns or column[0] in self.tables for column in prepared.read)


def _tainted(cut: Sequence[Piece], lines: Sequence[_Line], changed: _Changed) -> set[str]:
    """Variables that have another value the second time: read from what the script changes."""
    by_piece = {id(line.piece): line for line in lines}
    found: set[str] = set()
    last: _Line | None = None
    for piece in cut:
        if line := by_piece.get(id(piece)):
            last = line
            statement = line.step.statement
            if statement is not None and statement.stores and (
                changed.seen_by(line.prepared) or line.prepared.why
                or found & set(_variables(piece.tokens))
            ):  # fmt: skip
                found.update(statement.store)
        elif piece.command == "set" and last is not None:
            name, _, expression = piece.argument.strip().partition(" ")
            if found & set(VARIABLE.findall(expression)):
                found.add(name)
    return found


def _variables(tokens: Sequence[Token]) -> Iterator[str]:
    for token in tokens:
        if token.kind == "variable":
            yield token.text[1:]
        elif token.kind == "quoted":
            yield from VARIABLE.findall(token.text)


def _shape(effects: Sequence[Effect]) -> Access:
    if any(effect.twice == Twice.UNKNOWN and not effect.writes for effect in effects):
        return Access.NOT_SEEN
    if not any(effect.writes for effect in effects):
        return Access.READS
    first = next(at for at, effect in enumerate(effects) if effect.writes)
    return Access.READS_THEN_WRITES if first else Access.WRITES_FIRST


def _verdict(effects: Sequence[Effect], whole: bool) -> tuple[Twice, str]:
    """Of a script, from its statements."""
    writing = [effect for effect in effects if effect.writes or effect.twice == Twice.UNKNOWN]
    if not writing:
        return Twice.SAME, "it writes nothing"
    guards = [effect for effect in writing if effect.twice == Twice.REFUSED]
    always = [effect for effect in guards if effect.always]
    if whole and always:
        return Twice.REFUSED, _with_lines(always[:1])
    again = [effect for effect in writing if effect.twice == Twice.AGAIN]
    if again:
        return Twice.AGAIN, _with_lines(again)
    unknown = [effect for effect in writing if effect.twice == Twice.UNKNOWN]
    if unknown:
        return Twice.UNKNOWN, _with_lines(unknown)
    if guards and not whole:
        return Twice.REFUSED, _with_lines(guards)
    return Twice.SAME, _with_lines(writing)


def _with_lines(effects: Sequence[Effect], most: int = 3) -> str:
    each = [f"line {effect.line} {effect.why}" for effect in effects[:most]]
    more = f"; and {len(effects) - most} more" if len(effects) > most else ""
    return "; ".join(each) + more


# --- a statement --------------------------------------------------------------------------------


def _statement(line: _Line, tainted: set[str], book: _Book) -> tuple[Twice, str]:
    """What a second run of a statement does, and why."""
    piece, done = line.piece, line.prepared
    if done.why:
        return Twice.UNKNOWN, f"could not be read ({done.why})"
    if not done.tables:
        return (
            (Twice.UNKNOWN, "changes no table's rows")
            if piece.changes
            else (Twice.SAME, "only reads")
        )
    if done.triggers:
        names = ", ".join(done.triggers[:3])
        return Twice.UNKNOWN, f"sets off the trigger {names}, into which nobody looked"
    tokens = [token for token in piece.tokens if token.kind not in NO_SPACE]
    words = [token.text.upper() if token.kind == "word" else "" for token in tokens]
    judge = {"INSERT": _insert, "REPLACE": _insert, "UPDATE": _update, "DELETE": _delete}
    if words[0] not in judge:
        return Twice.UNKNOWN, f"begins with {words[0]}, which is not looked into"
    return judge[words[0]](_Words(tokens, words), done, tainted, book)


class _Words:
    """The tokens of a statement, and at each its word in upper case, "" where it is none."""

    def __init__(self, tokens: Sequence[Token], words: Sequence[str]) -> None:
        self.tokens, self.words = list(tokens), list(words)

    def __len__(self) -> int:
        return len(self.tokens)

    def part(self, begin: int, end: int | None = None) -> _Words:
        return _Words(self.tokens[begin:end], self.words[begin:end])

    def at(self, *wanted: str, begin: int = 0) -> int:
        """Where the first of these words stands outside of brackets; the end where none does."""
        depth = 0
        for place, token in enumerate(self.tokens):
            if place >= begin and depth == 0 and self.words[place] in wanted:
                return place
            depth += (token.text == "(") - (token.text == ")")
        return len(self)

    def parted(self) -> list[_Words]:
        """Parted at the commas outside of brackets."""
        found, depth, begun = [], 0, 0
        for place, token in enumerate(self.tokens):
            depth += (token.text == "(") - (token.text == ")")
            if token.text == "," and depth == 0:
                found.append(self.part(begun, place))
                begun = place + 1
        return [*found, self.part(begun)]

    def names(self, columns: set[str]) -> set[str]:
        """Which of these columns it names; those of another table too, since nobody resolves it."""
        found = set()
        for place, token in enumerate(self.tokens):
            name = _name(token)
            excluded = place > 1 and self.words[place - 2] == "EXCLUDED"
            if name in columns and not excluded:
                found.add(name)
        return found

    def varies(self, tainted: set[str], table: str = "") -> tuple[Twice, str]:
        """Whether its value is another the second time, and what makes it so; SAME where nothing
        does. table : a query of it is another, for the script changes it.
        """
        if read := [name for name in _variables(self.tokens) if name in tainted]:
            return Twice.AGAIN, f":{read[0]}, which it has read from what it changes"
        if "SELECT" in self.words:
            own = table and any(_name(token) == table for token in self.tokens)
            return (Twice.AGAIN if own else Twice.UNKNOWN), "a query"
        if odd := next((word for word in self.words if word in NOT_TWICE), ""):
            return Twice.UNKNOWN, odd
        return Twice.SAME, ""


def _name(token: Token) -> str:
    if token.kind == "word":
        return token.text.lower()
    return token.text[1:-1].lower() if token.kind == "quoted" and token.text[0] in '"`' else ""


def _insert(given: _Words, done: _Prepared, tainted: set[str], book: _Book) -> tuple[Twice, str]:
    words = given.words
    table, begin = _table_at(given, given.at("INTO") + 1)
    columns = book.columns(table)
    if given.tokens[begin].text == "(":
        end = given.at("VALUES", "SELECT", "WITH", "DEFAULT", begin=begin)
        columns = [_name(each.tokens[0]) for each in given.part(begin + 1, end - 1).parted()]
        begin = end
    key, key_why = _stable_key(given, begin, columns, tainted, book.keys(table))
    conflict = given.at("ON", begin=begin)
    clause = words[conflict:]
    ignores = words[:3] == ["INSERT", "OR", "IGNORE"] or "NOTHING" in clause
    replaces = words[0] == "REPLACE" or words[:3] == ["INSERT", "OR", "REPLACE"]
    if not key:
        return Twice.AGAIN, f"inserts another row into {table} ({key_why})"
    named = f"{table}({', '.join(key)})"
    if "UPDATE" in clause:
        sets = given.part(given.at("SET", begin=conflict) + 1)
        twice, why = _sets(sets, done, tainted, table)
        return twice, f"finds {named} the second time, and then {why}"
    if ignores or replaces:
        return Twice.SAME, f"{'replaces' if replaces else 'passes over'} the row of {named}"
    return Twice.REFUSED, f"inserts {named} itself, which the second time is there"


def _table_at(given: _Words, at: int) -> tuple[str, int]:
    """The table that is named there, [DATABASE.]TABLE [AS NAME], and where the rest begins."""
    if given.tokens[at + 1].text == ".":
        at += 2
    table, after = _name(given.tokens[at]), at + 1
    return table, after + 2 if given.words[after] == "AS" else after


def _stable_key(
    given: _Words,
    begin: int,
    columns: Sequence[str],
    tainted: set[str],
    keys: Sequence[tuple[str, ...]],
) -> tuple[tuple[str, ...], str]:
    """A unique key whose values the statement gives and gives again; else why there is none."""
    if not keys:
        return (), "it has no unique key"
    if given.words[begin] != "VALUES":
        return (), "its rows come from a query or are defaults"
    end = given.at("ON", "RETURNING", begin=begin)
    values = [row.part(1, -1).parted() for row in given.part(begin + 1, end).parted()]
    whys = []
    for key in keys:
        if lacking := [name for name in key if name not in columns]:
            whys.append(f"its {', '.join(lacking)} is not given")
            continue
        each = [row[columns.index(name)] for row in values for name in key]
        odd = [why for value in each if (why := value.varies(tainted)[1])]
        if not odd and not any("NULL" in value.words for value in each):
            return key, ""
        whys.append(f"its {', '.join(key)} comes from {odd[0] if odd else 'NULL'}")
    return (), whys[0]


def _update(given: _Words, done: _Prepared, tainted: set[str], book: _Book) -> tuple[Twice, str]:
    set_at = given.at("SET")
    table = next(iter(sorted(done.tables)))
    twice, why = _sets(given.part(set_at + 1), done, tainted, table)
    where = given.part(given.at("WHERE", begin=set_at) + 1)
    changed = {column for name, column in done.updated if name == table}
    picked, by = where.varies(tainted, table)
    if picked != Twice.SAME:
        return picked, f"changes rows of {table} that are picked by {by}"
    if given.at("LIMIT", begin=set_at) < len(given):
        return Twice.AGAIN, f"changes the next rows of {table} (LIMIT)"
    if given.at("FROM", begin=set_at) < len(given):
        return Twice.UNKNOWN, f"changes {table} by what another table has"
    if twice == Twice.AGAIN and (guard := _guarded(where, changed)):
        why = f"finds no row of {table} the second time (it asks for {guard} as it was)"
        return Twice.SAME, why
    return twice, why


def _guarded(where: _Words, changed: set[str]) -> str:
    """A column that the statement changes and of which it demands an old value, "" for none."""
    for place, token in enumerate(where.tokens[:-1] if "OR" not in where.words else []):
        if _name(token) in changed and where.tokens[place + 1].text == "=":
            double = where.tokens[place - 1].text if place else ""
            if double not in ("<", ">", "!"):
                return _name(token)
    return ""


def _sets(sets: _Words, done: _Prepared, tainted: set[str], table: str) -> tuple[Twice, str]:
    """What assignments do the second time."""
    sets = sets.part(0, sets.at(*SET_ENDS))
    changed = {column for name, column in done.updated if name == table}
    for one in sets.parted():
        equals = next((at for at, token in enumerate(one.tokens) if token.text == "="), None)
        if equals is None:
            return Twice.UNKNOWN, f"sets something of {table} that cannot be read"
        target = ", ".join(filter(None, map(_name, one.tokens[:equals])))
        value = one.part(equals + 1)
        own = value.names(changed)
        if own and not (value.words[0] in KEEPING and _is_one_call(value)):
            source = ", ".join(sorted(own))
            if source == target:
                return Twice.AGAIN, f"computes {table}.{target} from its own old value"
            return Twice.AGAIN, f"computes {table}.{target} from {source}, which it changes"
        varies, by = value.varies(tainted, table)
        if varies != Twice.SAME:
            return varies, f"sets {table}.{target} from {by}"
    return Twice.SAME, f"sets {table} to what it is then"


def _is_one_call(value: _Words) -> bool:
    """Whether a value is one call of a function, and its arguments make nothing new."""
    texts = [token.text for token in value.tokens]
    return texts[-1] == ")" and not {"+", "-", "*", "/", "|"} & set(texts)


def _delete(given: _Words, done: _Prepared, tainted: set[str], book: _Book) -> tuple[Twice, str]:
    table = next(iter(sorted(done.rows or done.tables)))
    where = given.part(given.at("WHERE") + 1)
    picked, by = where.varies(tainted, table)
    if picked != Twice.SAME:
        return picked, f"deletes rows of {table} that are picked by {by}"
    if given.at("LIMIT") < len(given):
        return Twice.AGAIN, f"deletes the next rows of {table} (LIMIT)"
    return Twice.SAME, f"finds nothing left to delete in {table}"
