"""Reference by execution: what each statement should have answered, by the same SQL on a SQLite
that is sound, newest and in memory.

A committed state is a version, kept as bytes. A transaction is run again on each version that its
snapshot may have been taken from, with its own writes; what answers otherwise than the engine is
no longer a candidate, and without a candidate there is a finding. At COMMIT the rows that it
changed are put onto the newest version, or, where serializable isolation is promised, its
statements are run again there. https://sqlite.org/isolation.html has what SQLite promises.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache, lru_cache
from itertools import islice
from typing import Any, NamedTuple

from workloads.engines import reference_library
from workloads.schedules import Program, Result, Step, first_word

PLAIN = ("savepoint", "release", "rollback")
"""Statements that are run as they are: a savepoint around them would change what they mean."""

SKIPPED_BY_REFERENCE = ("pragma", "vacuum", "analyze", "attach", "detach", "reindex")
"""Statements that change no row and tell nothing that two engines must tell alike."""

DEFER = "PRAGMA defer_foreign_keys = ON"

ATTACHED = " side."
"""In statements about a database that is attached (drawing.SIDE): there is none of it here."""

KEYS_CHECK = "PRAGMA foreign_key_check"

Rows = list[tuple[Any, ...]]


class Wrong(NamedTuple):
    """What is wrong, by which judge. expected, seen : in words. asked : the statement that shows
    it, where it is none of the steps. rows : those that are right, where rows are wrong.
    """

    judge: str
    sentence: str
    expected: str = ""
    seen: str = ""
    asked: str = ""
    rows: Rows | None = None


class TooMuch(RuntimeError):
    """A program takes more time or memory than the reference gives it, or has a schema that it
    refuses: it cannot be judged.
    """


class Budget:
    """Of the reference, for one program: so many times EACH instructions of SQLite's machine."""

    EACH, MOST = 1_000_000, 20

    def __init__(self) -> None:
        self.left = self.MOST

    def renew(self) -> None:
        self.left = self.MOST

    def spent(self) -> bool:
        """Called at each EACH: whether the statement is to be given up."""
        self.left -= 1
        return self.left < 0


BUDGET = Budget()
MOST_ROWS, MOST_LENGTH, MOST_HEAP = 100_000, 1 << 20, 1 << 29
"""Rows of a statement, bytes of a value, bytes of all of the reference. Nothing that is drawn comes
near."""


def limited(connection: Any) -> Any:
    """A connection of the reference, which runs SQL that may come from anybody: it reaches no file,
    and ends.
    """
    library = reference_library()
    library.hard_heap_limit(MOST_HEAP)
    connection.limit(library.SQLITE_LIMIT_ATTACHED, 0)
    connection.limit(library.SQLITE_LIMIT_LENGTH, MOST_LENGTH)
    connection.set_progress_handler(BUDGET.spent, Budget.EACH)
    connection.execute("PRAGMA temp_store=2")
    return connection


@lru_cache(maxsize=64)
def first_version(schema: tuple[str, ...]) -> bytes:
    """The bytes of a database with this schema."""
    connection = limited(reference_library().Connection(":memory:"))
    connection.execute("PRAGMA page_size=512")
    connection.execute("PRAGMA foreign_keys=ON")
    BUDGET.renew()
    for sql in schema:
        if first_word(sql) not in SKIPPED_BY_REFERENCE and isinstance(
            made := _read(connection, sql), Exception
        ):
            raise TooMuch(f"the reference refuses {sql}: {made}")
    content = bytes(connection.serialize("main"))
    connection.close()
    return content


APPLIED = ("recursive_triggers",)
"""Options that change what a statement answers, and so are set here, too."""

STANDS: dict[Any, bytes] = {}
"""Connection of a pool -> the version that it stands at, where that is known."""


class Pool:
    """Connections in memory, used again and again. options : that each is opened with.

    Each is known by the version that it stands at, so that most of them need not be filled, and
    their schema not be parsed, once more.
    """

    MOST = 12

    def __init__(self, options: tuple[tuple[str, str], ...] = ()) -> None:
        self.options, self._free = options, list[Any]()  # the longest unused first

    def at(self, version: bytes) -> Any:
        """A connection whose database is this version."""
        for place in reversed(range(len(self._free))):
            if STANDS.get(self._free[place]) == version:
                return self._free.pop(place)
        connection = self._free.pop(0) if len(self._free) >= self.MOST else self._new()
        connection.deserialize("main", version)
        STANDS[connection] = version
        return connection

    def _new(self) -> Any:
        connection = limited(reference_library().Connection(":memory:"))
        connection.execute("PRAGMA foreign_keys=ON")
        for name, value in self.options:
            connection.execute(f"PRAGMA {name} = {value}")
        return connection

    def give_back(self, connection: Any) -> None:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        self._free.append(connection)


@cache
def pool_of(options: tuple[tuple[str, str], ...]) -> Pool:
    """The connections that are opened with what changes an answer."""
    return Pool(options)


def compared(rows: Rows | None) -> Counter[tuple[Any, ...]]:
    """Rows whatever their order. 1 and 1.0, and 1 and True, are not the same."""
    return Counter(tuple((type(value).__name__, value) for value in row) for row in rows or [])


def same(rows: Rows, others: Rows | None) -> bool:
    """Whether these are the same rows, whatever their order."""
    # Most are in the same order, and their texts tell 1 from 1.0 and from True.
    return repr(rows) == repr(others) or compared(rows) == compared(others)


def shown(rows: Rows | None) -> str:
    """Rows for people, in an order of their own."""
    if not rows:
        return "no row"
    text = ", ".join(str(row) for row in sorted(rows, key=repr))
    return text if len(text) <= 300 else f"{text[:300]}…"


KEYED = re.compile(r"INSERT INTO (\w+)\((.*?)\) VALUES \((.*)\) RETURNING id$")


def with_key(sql: str, key: Any) -> str:
    """An INSERT whose key the engine chose, with that key.

    >>> with_key("INSERT INTO t0(v) VALUES (1) RETURNING id", 7)
    'INSERT INTO t0(id, v) VALUES (7, 1) RETURNING id'
    """
    return KEYED.sub(rf"INSERT INTO \1(id, \2) VALUES ({key!r}, \3) RETURNING id", sql)


def run(connection: Any, step: Step, result: Result) -> Wrong | None:
    """Run a statement as the engine did, and compare what came of it.

    A statement that failed on the engine is undone here.
    """
    sql, word = step.text, first_word(step.text)
    if sql == DEFER and result.status == "ok":
        connection.execute(sql)
    if word in SKIPPED_BY_REFERENCE or ATTACHED in sql:
        return None
    if step.verb == "auto" and result.status == "ok" and result.rows:
        sql = with_key(sql, result.rows[0][0])
    good = result.status == "ok"
    errors = reference_library().Error
    if word in PLAIN:
        try:
            connection.execute(sql)
        except errors as error:
            return _succeeded(step, error) if good else None
        if not connection.in_transaction:
            STANDS.pop(connection, None)  # what comes next is committed by itself
        return None if good else _raised(step, result)
    made = _read(connection, sql) if word == "select" else _undone(connection, sql, good)
    if isinstance(made, Exception):
        return _succeeded(step, made) if good else None
    if not good:
        return _raised(step, result)
    rows = made
    if step.verb == "half":
        if (not rows) != (not result.rows) or not compared(result.rows) <= compared(rows):
            return _otherwise(step, rows, result, "a first row of ")
        return None
    tells = word in ("select", "with") or " RETURNING " in sql
    if tells and not same(rows, result.rows):
        return _otherwise(step, rows, result)
    return None


def _read(connection: Any, sql: str) -> Rows | Exception:
    """Rows of a SELECT, or its error. Raises TooMuch."""
    library = reference_library()
    try:
        rows = [tuple(row) for row in islice(connection.execute(sql), MOST_ROWS)]
    except (library.InterruptError, library.NoMemError, library.TooBigError, MemoryError) as error:
        raise TooMuch(f"the reference gave up on {sql}: {error}") from None
    except library.Error as error:
        return error
    if len(rows) == MOST_ROWS:
        raise TooMuch(f"{sql} has {MOST_ROWS:,} rows")
    return rows


def _undone(connection: Any, sql: str, good: bool) -> Rows | Exception:
    """Rows of a statement that may write, or its error; it is undone where it is not to be good."""
    connection.execute("SAVEPOINT cwkit")
    made = _read(connection, sql)
    if isinstance(made, Exception) and not connection.in_transaction:
        STANDS.pop(connection, None)  # a rollback of its own: ON CONFLICT ROLLBACK
        connection.execute("SAVEPOINT cwkit")
    if isinstance(made, Exception) or not good:
        connection.execute("ROLLBACK TO cwkit")
    if connection.in_transaction:
        connection.execute("RELEASE cwkit")
    if not connection.in_transaction:
        STANDS.pop(connection, None)  # what it made is committed by itself
    return made


def _succeeded(step: Step, error: Exception) -> Wrong:
    return Wrong("error", f"`{step.text}` succeeded", f"an error: {error}", "no error")


def _raised(step: Step, result: Result) -> Wrong:
    return Wrong("error", f"`{step.text}` raised", "no error", f"{result.error}: {result.message}")


def _otherwise(step: Step, rows: Rows, result: Result, of: str = "") -> Wrong:
    wrong = Wrong("rows", f"`{step.text}`", of + shown(rows), shown(result.rows))
    return wrong._replace(rows=rows)


@dataclass
class Candidate:
    """A version that a transaction's snapshot may be, and a connection with its own writes."""

    version: int
    connection: Any


@dataclass
class Transaction:
    """A transaction while it is open. begun : the version that was the newest at its BEGIN.
    fixed : its snapshot was taken, so that later versions are no candidates.
    """

    begun: int
    log: list[tuple[Step, Result]] = field(default_factory=list)
    candidates: list[Candidate] = field(default_factory=list)
    newest: int = -1
    fixed: bool = False

    @property
    def did_ddl(self) -> bool:
        return any(is_ddl(step) and result.status == "ok" for step, result in self.log)


class State(NamedTuple):
    """A committed state. ddl : whether the tables may be others."""

    content: bytes
    ddl: bool


def is_ddl(step: Step) -> bool:
    return first_word(step.text) in ("create", "drop", "alter") and ATTACHED not in step.text


class Reference:
    """The versions of a database while a program is judged."""

    def __init__(
        self, program: Program, *, serializable: bool, choices: Sequence[int] = ()
    ) -> None:
        """Choices : which of its possible states each COMMIT led to, for those with several."""
        self.serializable = serializable
        self.pool = pool_of(tuple(one for one in program.options if one[0] in APPLIED))
        self.choices, self.several = list(choices), list[int]()
        BUDGET.renew()
        self.versions = [first_version(program.schema)]
        self.ddl = [0]  # the versions that DDL made
        self._reader: tuple[int, Any] | None = None

    @property
    def newest(self) -> int:
        return len(self.versions) - 1

    def close(self) -> None:
        if self._reader:
            self.pool.give_back(self._reader[1])
            self._reader = None

    # --- statements of their own ------------------------------------------------------------------

    def alone(self, step: Step, result: Result, oldest: int | None = None) -> Wrong | None:
        """A statement outside a transaction. oldest : where a cursor keeps an older snapshot."""
        wrong = self._alone(step, result, self.newest)
        for version in range(self.newest - 1, (self.newest if oldest is None else oldest) - 1, -1):
            if wrong is None or self._alone(step, result, version) is None:
                return None
        return wrong

    def _alone(self, step: Step, result: Result, version: int) -> Wrong | None:
        reads = step.verb == "half" or first_word(step.text) == "select"
        if reads:
            return run(self._reading(version), step, result)
        if version != self.newest:
            return Wrong("rows", f"`{step.text}` wrote to an older state")
        connection = self.pool.at(self.versions[version])
        try:
            connection.execute("BEGIN")
            if wrong := run(connection, step, result):
                return wrong
            if result.status != "ok":
                return None
            made = self._committed(connection, is_ddl(step))
            if isinstance(made, Wrong):
                return made
            self._taken(made)
            return None
        finally:
            self.pool.give_back(connection)

    def _reading(self, version: int) -> Any:
        if self._reader is None or self._reader[0] != version:
            self.close()
            self._reader = version, self.pool.at(self.versions[version])
        return self._reader[1]

    def _taken(self, made: State) -> None:
        """A state is the newest version from now on."""
        if made.content != self.versions[-1]:
            self.versions.append(made.content)
            if made.ddl:
                self.ddl.append(self.newest)

    def _committed(self, connection: Any, ddl: bool) -> Wrong | State:
        """Commit on a connection that stood at the newest version: its state is the next one."""
        try:
            connection.execute("COMMIT")
        except reference_library().Error as error:
            return Wrong("error", "COMMIT succeeded", f"an error: {error}", "no error")
        content = bytes(connection.serialize("main"))
        STANDS[connection] = content
        return State(content, ddl)

    # --- transactions -----------------------------------------------------------------------------

    def begin(self, oldest: int | None = None) -> Transaction:
        """A transaction that begins now. oldest : where a cursor keeps an older snapshot."""
        return Transaction(self.newest if oldest is None else oldest)

    def within(self, txn: Transaction, step: Step, result: Result) -> Wrong | None:
        """A statement of a transaction."""
        if not txn.fixed:
            self._more_candidates(txn)
        wrong = None
        for candidate in list(txn.candidates):
            if said := run(candidate.connection, step, result):
                wrong = said
                txn.candidates.remove(candidate)
                self.pool.give_back(candidate.connection)
        txn.log.append((step, result))
        counts = first_word(step.text) not in (*PLAIN, *SKIPPED_BY_REFERENCE)
        if result.status == "ok" and counts and ATTACHED not in step.text:
            # Neither a savepoint, a PRAGMA nor another file's table takes a snapshot of these rows.
            txn.fixed = True
        return None if txn.candidates else wrong

    def _more_candidates(self, txn: Transaction) -> None:
        """The versions since, each with the transaction's steps so far run on it."""
        for version in range(max(txn.begun, txn.newest + 1), self.newest + 1):
            connection = self.pool.at(self.versions[version])
            connection.execute("BEGIN")
            if any(run(connection, step, result) for step, result in txn.log):
                self.pool.give_back(connection)
            else:
                # The newest first: most snapshots are that.
                txn.candidates.insert(0, Candidate(version, connection))
        txn.newest = self.newest

    def give_up(self, txn: Transaction) -> None:
        """A transaction that was rolled back, or refused."""
        for candidate in txn.candidates:
            self.pool.give_back(candidate.connection)
        txn.candidates.clear()

    def commit(self, txn: Transaction) -> Wrong | None:
        """A transaction whose COMMIT was acknowledged.

        Snapshots that explain what it read may lead to several states: one is chosen, and how many
        there were is kept.
        """
        try:
            if not txn.candidates:
                return None  # it did nothing
            states, wrong = list[State](), list[Wrong]()
            for candidate in txn.candidates:
                made = self._commit(txn, candidate)
                if isinstance(made, Wrong):
                    wrong.append(made)
                elif made not in states:
                    states.append(made)
            if not states:
                return wrong[0]
            self._taken(states[self._choice(len(states))])
            return None
        finally:
            self.give_up(txn)

    def _choice(self, count: int) -> int:
        if count == 1:
            return 0
        place = len(self.several)
        self.several.append(count)
        return self.choices[place] if place < len(self.choices) else 0

    def _commit(self, txn: Transaction, candidate: Candidate) -> Wrong | State:
        if candidate.version == self.newest:
            return self._committed(candidate.connection, txn.did_ddl)
        before = self.pool.at(self.versions[candidate.version])
        try:
            if not any(_changes(before, candidate.connection)):
                return State(self.versions[-1], False)  # it only read, from a snapshot
        finally:
            self.pool.give_back(before)
        overlapped = any(made > candidate.version for made in self.ddl)
        if txn.did_ddl or (self.serializable and not overlapped):
            return self._again(txn, compare=self.serializable and not txn.did_ddl)
        return self._by_rows(candidate)

    def _again(self, txn: Transaction, *, compare: bool) -> Wrong | State:
        """Run the statements again on the newest version, as if it had been there alone."""
        connection = self.pool.at(self.versions[-1])
        try:
            connection.execute("BEGIN")
            for step, result in txn.log:
                wrong = run(connection, step, result)
                if wrong and compare:
                    return wrong._replace(
                        judge="serializable",
                        sentence=f"after the commits before its own, {wrong.sentence}",
                    )
                if wrong and result.status == "ok" and "constraint failed" in wrong.expected:
                    judge = "foreign key" if "FOREIGN" in wrong.expected else "constraint"
                    sentence = f"a COMMIT kept `{step.text}`, which breaks a constraint by then"
                    return Wrong(judge, sentence, "a refusal", wrong.expected)
            return self._committed(connection, txn.did_ddl)
        finally:
            self.pool.give_back(connection)

    def _by_rows(self, candidate: Candidate) -> Wrong | State:
        """Put the rows that it changed onto the newest version, where they are as they were."""
        before, after = self.pool.at(self.versions[candidate.version]), candidate.connection
        tip = self.pool.at(self.versions[-1])
        library = reference_library()
        try:
            tip.config(library.SQLITE_DBCONFIG_ENABLE_TRIGGER, 0)
            tip.execute("PRAGMA foreign_keys=OFF")
            tip.execute("BEGIN")
            for table in _tables(before):
                if table.columns and (wrong := _merged(table, before, after, tip)):
                    return wrong
            broken = tip.execute("PRAGMA foreign_key_check").fetchall()
            if broken:
                rows = shown([tuple(row) for row in broken])
                return Wrong("foreign key", "a COMMIT broke a FOREIGN KEY", "a refusal", rows)
            return self._committed(tip, False)
        finally:
            self.pool.give_back(before)
            if tip.in_transaction:
                tip.execute("ROLLBACK")
            tip.config(library.SQLITE_DBCONFIG_ENABLE_TRIGGER, 1)
            tip.execute("PRAGMA foreign_keys=ON")
            self.pool.give_back(tip)

    # --- the end ----------------------------------------------------------------------------------

    def questions(self) -> list[str]:
        """Statements whose answers the newest version knows: each table, and it by each index."""
        reader = self._reading(self.newest)
        asked = []
        for table in _tables(reader):
            rows = f"SELECT {', '.join(table.visible)} FROM {table.name}"
            asked.append(rows)
            asked += [f"{rows} INDEXED BY {name}{where}" for name, where in table.indexes]
        return [*asked, KEYS_CHECK]

    def answers(self, asked: Sequence[str], got: Sequence[Result]) -> Wrong | None:
        """Compare an engine's answers with ours."""
        reader = self._reading(self.newest)
        whole, all_rows = "", Rows()  # the last table's
        for sql, result in zip(asked, got, strict=True):
            if result.status != "ok":
                if "no such index" in result.message or not _may_refuse(sql):
                    return _raised(Step("", "sql", sql), result)._replace(asked=sql)
                continue
            table, by_index, rest = sql.partition(" INDEXED BY ")
            if by_index and " WHERE " not in rest and table == whole:
                rows = all_rows  # an index holds exactly its table's rows
            else:
                rows = [tuple(row) for row in reader.execute(sql)]
            if not by_index:
                whole, all_rows = sql, rows
            if sql == KEYS_CHECK and result.rows:
                return Wrong("foreign key", "a FOREIGN KEY does not hold", "no row",
                             shown(result.rows), asked=sql, rows=[])  # fmt: skip
            if not same(rows, result.rows):
                text = shown(rows), shown(result.rows)
                return Wrong("rows kept", f"`{sql}`", *text, asked=sql, rows=rows)
        return None


def _may_refuse(sql: str) -> bool:
    """Whether an engine of the family may lack what a question of ours needs."""
    return " INDEXED BY " in sql or sql.startswith("PRAGMA")


# --- rows -----------------------------------------------------------------------------------------


class TableOf(NamedTuple):
    """A table as the reference has it. key : its columns, () for a log, whose key nobody chose."""

    name: str
    key: tuple[str, ...]
    columns: tuple[str, ...]  # that can be written
    visible: tuple[str, ...]
    indexes: tuple[tuple[str, str], ...]  # name, its WHERE


SCHEMA = "SELECT type, name, tbl_name, sql FROM sqlite_schema WHERE name NOT LIKE 'sqlite_%'"

_known_tables: dict[tuple[tuple[Any, ...], ...], list[TableOf]] = {}


def _tables(connection: Any) -> list[TableOf]:
    objects = tuple(connection.execute(SCHEMA))
    if (found := _known_tables.get(objects)) is None:
        if len(_known_tables) >= MOST_SCHEMAS:
            _known_tables.clear()
        found = _known_tables[objects] = [
            _table_of(connection, name, objects) for kind, name, *_ in objects if kind == "table"
        ]
    return found


MOST_SCHEMAS = 200


def _table_of(connection: Any, name: str, objects: Sequence[tuple[Any, ...]]) -> TableOf:
    info = connection.execute(f"PRAGMA table_xinfo({name})").fetchall()
    log = name.startswith("log")
    key = tuple(row[1] for row in sorted(info, key=lambda row: row[5]) if row[5])
    written = tuple(row[1] for row in info if not row[6])
    visible = tuple(row[1] for row in info if not (log and row[1] in key))
    wheres = tuple(
        (one, " WHERE" + sql.partition(" WHERE")[2] if " WHERE" in sql else "")
        for kind, one, of, sql in objects
        if kind == "index" and of == name and sql is not None
    )
    return TableOf(name, () if log else key, written, visible, wheres)


def _rows_of(connection: Any, table: TableOf) -> dict[tuple[Any, ...], tuple[Any, ...]]:
    places = [table.columns.index(name) for name in table.key]
    try:
        rows = connection.execute(f"SELECT {', '.join(table.columns)} FROM {table.name}").fetchall()
    except reference_library().Error:
        return {}  # DDL of its own took it away
    return {tuple(row[at] for at in places): tuple(row) for row in rows}


def _changes(before: Any, after: Any) -> Iterator[bool]:
    old, new = _tables(before), _tables(after)
    yield old != new
    for table in old:
        yield _all_rows(before, table) != _all_rows(after, table)


def _all_rows(connection: Any, table: TableOf) -> Counter[tuple[Any, ...]]:
    sql = f"SELECT {', '.join(table.columns)} FROM {table.name}"
    try:
        return Counter(tuple(row) for row in connection.execute(sql))
    except reference_library().Error:
        return Counter()


def _merged(table: TableOf, before: Any, after: Any, tip: Any) -> Wrong | None:
    """Put one table's changes onto the tip."""
    marks = ", ".join("?" * len(table.columns))
    insert = f"INSERT INTO {table.name}({', '.join(table.columns)}) VALUES ({marks})"
    error = reference_library().Error
    if not table.key:
        columns = ", ".join(table.visible)
        of = TableOf(table.name, (), table.visible, table.visible, ())
        for row in (_all_rows(after, of) - _all_rows(before, of)).elements():
            at = ", ".join("?" * len(row))
            tip.execute(f"INSERT INTO {table.name}({columns}) VALUES ({at})", row)
        return None
    old, new, now = (_rows_of(one, table) for one in (before, after, tip))
    where = " AND ".join(f"{name} IS ?" for name in table.key)
    for key in old.keys() | new.keys():
        if old.get(key) == new.get(key):
            continue
        if now.get(key) != old.get(key):
            both = f"two transactions changed the row {key} of {table.name}, and both committed"
            return Wrong("lost update", both, "a refusal of the later one", "two commits")
        if key in old:
            tip.execute(f"DELETE FROM {table.name} WHERE {where}", key)
    for key in new:
        if old.get(key) != new[key]:
            try:
                tip.execute(insert, new[key])
            except error as failed:
                return Wrong("constraint", f"a COMMIT broke a constraint: {failed}", "a refusal",
                             "a commit")  # fmt: skip
    return None
