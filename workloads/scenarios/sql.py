"""Sql: the user's own transactions, as scripts in pgbench's language.

A plain BEGIN in a script stands for the mode under study. A script with one transaction is begun
and committed by the run's loop, as the kit's own scenarios are; one without BEGIN runs each
statement in autocommit; one with several is still one attempt. A retry runs the whole script again,
with the same variables and the same random numbers, as pgbench's does.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
from pydantic import Field, model_validator

from workloads.engines import Refusal, Session, classifier
from workloads.errors import PlanError, nearest, shortened
from workloads.records import BEGIN, CAUSES, COMMIT, STATEMENT
from workloads.scenarios import own_database, pgbench
from workloads.scenarios.scenario import (
    Draw,
    Finding,
    RunLog,
    ScenarioFailed,
    Shape,
    WorkerContext,
)
from workloads.scenarios.script import UNITS, Script, Step, script, unset_variable
from workloads.scenarios.script_expression import Value, WrongValue, shown, typed
from workloads.scenarios.script_random import Random, signed
from workloads.scenarios.script_text import Piece, mistake, statements, with_variables

REFERENCE = re.compile(r"(?P<name>[^\n]+?)(?:@(?P<weight>\d+))?(?::(?P<role>\w+))?")
DEFINED = re.compile(r"(?P<name>[A-Za-z_]\w*)=(?P<value>[^\n]*)")
SLEEPS = re.compile(r"\\sleep\s+(\d{1,6})\s*(us|ms|s)?", re.IGNORECASE)
ROLES = ("writer", "reader")
PGBENCH = "pgbench"
"""As a schema: pgbench's tables, filled at the scale."""

NOT_OURS = ("rows", "record_bytes", "operations", "keys")
EXPLAINED = re.compile(r"\s*(SELECT|INSERT|UPDATE|DELETE|REPLACE|WITH|VALUES)\b", re.IGNORECASE)
UNKNOWN_NAME = re.compile(
    "no such|syntax error|(column|relation) .* does not exist|has no column", re.IGNORECASE
)
"""What engines say of a text that cannot run. Anything else may come of its values being NULL."""

ASKING = ("FOREIGN_KEY_CHECK", "FOREIGN_KEY_LIST", "INDEX_INFO", "INDEX_LIST", "INDEX_XINFO",
          "TABLE_INFO", "TABLE_LIST", "TABLE_XINFO")  # fmt: skip
"""PRAGMAs of a check: they change nothing, and can answer no row."""

MOST_WEIGHT = 1_000_000
MOST_ROWS_SHOWN = 20
SLICE_S = 0.01
"""A long \\sleep asks so often whether the run is over."""


class SqlShape(Shape):
    """Parameters of `sql`. A file is given as its name and weight, a line end, and its text."""

    rows: int = Field(0, ge=0, le=0, description="not used: the schema says what is loaded")
    tx: tuple[str, ...] = Field(
        ("tpcb-like", "select-only:reader"),
        min_length=1,
        max_length=100,
        description="scripts as FILE@WEIGHT:ROLE; tpcb-like, simple-update, select-only are there",
    )
    schema_sql: str = Field("", description="file whose statements make and fill the tables")
    from_db: str = Field("", description="database of SQLite's format of which a copy is used")
    check_sql: str = Field("", description="file of queries that must answer no row afterwards")
    define: tuple[str, ...] = Field((), description="variables as NAME=VALUE")
    scale: int = Field(1, ge=1, le=10_000, description="of pgbench's tables, and a variable")

    @model_validator(mode="before")
    @classmethod
    def _none_of_the_others(cls, given: Any) -> Any:
        for name in NOT_OURS if isinstance(given, dict) else ():
            if given.get(name) not in (None, cls.model_fields[name].default):
                raise ValueError(
                    f"{name} says nothing to scripts of SQL: give --define NAME=VALUE, and :NAME "
                    "in the schema and the scripts"
                )
        return given

    def longest_s(self, wait_s: float) -> float:
        each = [
            text for given in self.tx if (text := _file(given)[1] or pgbench.SCRIPTS.get(given))
        ]
        think_s = max(self.think_of("writer"), self.think_of("reader")) / 1e6
        statements = max((text.count(";") + 1 for text in each), default=10)
        sleeps_s = max((sum(map(_seconds, SLEEPS.findall(text))) for text in each), default=0.0)
        return statements * (wait_s + think_s) + sleeps_s

    def recorded(self) -> dict[str, Any]:
        return {name: v for name, v in self.model_dump().items() if name not in NOT_OURS}


class Transaction(NamedTuple):
    """A script with its weight among those of its role. text : as its file has it."""

    name: str
    role: str
    weight: int
    script: Script
    lead: int
    text: str


class Sql:
    r"""Scripts of the user's own. result of a transaction: how many rows its \gsets answered."""

    name: ClassVar[str] = "sql"
    story: ClassVar[str] = (
        "Your own transactions: scripts in pgbench's language, on your own schema or a copy of "
        "your database, and queries that must answer no row afterwards. pgbench's own scripts are "
        "there, too."
    )
    kinds: Sequence[str] = ("tpcb-like", "select-only")
    Params: ClassVar[type[Shape]] = SqlShape
    needs: tuple[str, ...] = ()

    def __init__(self, params: SqlShape) -> None:
        self.params = params
        self.defined = _defined(params.define)
        self.transactions = [_transaction(one, self.defined) for one in params.tx]
        self.kinds = _told_apart([one.name for one in self.transactions])
        self.autocommit = not any(one.script.transactions for one in self.transactions)
        self.keeps_its_connection = not all(one.script.whole for one in self.transactions)
        self.built_in = [one.name in pgbench.SCRIPTS for one in self.transactions]
        self.file, text = _file(params.schema_sql)
        built_in = any(self.built_in) and not (params.from_db or self.file)
        self.pgbench = text is None and (self.file == PGBENCH or built_in)
        if text is None and self.file not in ("", PGBENCH):
            raise PlanError(
                f"Scenario 'sql': schema_sql: {shortened(self.file)} is no text. Give a file with "
                f"`cwkit run --schema FILE`, or {PGBENCH}."
            )
        known = {name: shown(value) for name, value in self.base(0, 0).items()}
        self.tables = [with_variables(self.file, piece, known) for piece in statements(
            self.file, text or "", transactions=True)]  # fmt: skip
        self.checks = self._checks()

    def _checks(self) -> list[tuple[str, Piece]]:
        """The queries of the check, each with the file that it is in."""
        found = []
        file, text = _file(self.params.check_sql)
        if text is None and file:
            raise PlanError(
                f"Scenario 'sql': check_sql: {shortened(file)} is no text. Give a file with "
                "`cwkit run --check FILE`."
            )
        for piece in statements(file, text or ""):
            if piece.changes:
                raise mistake(file, piece.line, f"{piece.words[0]} is no query: a check only asks.")
            if piece.words[:1] == ("PRAGMA",) and not _only_asks(piece):
                raise mistake(
                    file,
                    piece.line,
                    f"{_brief(piece.sql)} is no query for a check. Of PRAGMAs it may ask "
                    f"{', '.join(ASKING).lower()}; every run has an integrity_check of its own.",
                )
            found.append((file, piece))
        if text is not None and not found:
            raise PlanError(f"{file}: there is no query in it. Leave out the check, or write one.")
        if all(self.built_in) and not self.tables:
            texts = [pgbench.BALANCES]
            if not any(one.name == "simple-update" for one in self.transactions):
                texts.append(pgbench.TPCB_ALONE)
            found += [(PGBENCH, p) for text in texts for p in statements(PGBENCH, text)]
        known = dict.fromkeys((*self.base(0, 0), *self._counts(None)), "0")
        for file, piece in found:
            with_variables(file, piece, known)
        return found

    @classmethod
    def suggests_for(cls, params: Mapping[str, Any]) -> Mapping[str, Any]:
        """A reader, where there is a script for readers."""
        scripts = params.get("tx") or SqlShape.model_fields["tx"].default
        return {"readers": 1} if asked_for(scripts, "reader") else {}

    def unsuited(self, roles: Sequence[str]) -> str:
        """Why these roles cannot be had, "" where each has a script."""
        for role in ROLES:
            if role in roles and not any(one.role == role for one in self.transactions):
                mark = "one without :reader" if role == "writer" else "one with :reader behind it"
                return f"has no script for {role}s: give --{role}s 0, or {mark}."
        return ""

    def base(self, worker: int, seed: int) -> dict[str, Value]:
        """The variables with which each transaction of a worker begins."""
        automatic: dict[str, Value] = {
            "client_id": worker,
            "scale": self.params.scale,
            "random_seed": seed,
            "default_seed": signed(Random(seed).bits()),
        }
        return automatic | {name: _valued(text) for name, text in self.defined.items()}

    @property
    def holds_no_snapshot(self) -> str:
        """Why its readers cannot keep a snapshot (--reader-holds), "" where they can."""
        for one in (one for one in self.transactions if one.role == "reader"):
            if not one.script.whole:
                return (
                    f"has a script, {one.name}, that is not one transaction from BEGIN to COMMIT."
                )
            if any(step.statement and step.statement.changes for step in one.script.steps):
                return f"has a reader's script, {one.name}, that changes something."
        return ""

    @property
    def cold_start(self) -> bool:
        """A schema of one's own may be made by whoever comes first; a copied database is there."""
        return not self.params.from_db

    # -- loading ----------------------------------------------------------------------------------

    @property
    def own_database(self) -> str:
        """The user's own, of which the run has a copy; "" for a new one."""
        return self.params.from_db

    def copy_into(self, database: str) -> None:
        """Before the database is opened: copy the user's own there."""
        if self.params.from_db:
            try:
                own_database.copy(Path(self.params.from_db), Path(database))
            except own_database.NotCopied as error:
                raise ScenarioFailed(str(error)) from error

    def schema(self) -> Sequence[str]:
        return pgbench.SCHEMA if self.pgbench else ()

    def load(self, session: Session, rng: np.random.Generator) -> None:
        if self.pgbench:
            pgbench.load(session, self.params.scale)
        for sql, piece in self.tables:
            try:
                if piece.control:
                    getattr(session, piece.control)()
                else:
                    session.run(sql)
            except Exception as error:
                if session.refusal(error, STATEMENT).conflict in CAUSES:
                    raise
                where = f"{self.file}, line {piece.line}"
                raise ScenarioFailed(f"{where}: {error} ({_brief(sql)})") from error
        if session.in_transaction():
            raise ScenarioFailed(f"{self.file}: BEGIN opens a transaction that nothing ends.")
        self._rehearse(session)

    def _rehearse(self, session: Session) -> None:
        """Have the engine read every statement of the scripts and the check by EXPLAIN, which runs
        none: a wrong column is told with its file and line, before anything is measured.
        """
        try:
            session.rows("EXPLAIN SELECT 1")
        except Exception:
            return  # an engine without it
        whole = True
        for one in self.transactions:
            steps = [step for step in one.script.steps if step.statement is not None]
            texts = [(step, step.statement.sql) for step in steps if step.statement is not None]
            if any(sql is None or not EXPLAINED.match(sql) for _, sql in texts):
                whole = False
                continue  # what its own statements make is not there yet
            for step, sql in texts:
                try:
                    nothing = (None,) * len(step.statement.bound if step.statement else ())
                    session.rows(f"EXPLAIN {sql}", nothing)
                except Exception as error:
                    if UNKNOWN_NAME.search(str(error)):
                        why = f"{error} ({_brief(str(sql))})"
                        raise _failed(one.script, step, why) from error
        for file, text, line in self._check_texts() if whole else ():
            try:
                session.rows(f"EXPLAIN {text}")
            except Exception as error:
                if UNKNOWN_NAME.search(str(error)):
                    raise ScenarioFailed(
                        f"{file}, line {line}: {error} ({_brief(text)})."
                    ) from error

    def _check_texts(self) -> Iterator[tuple[str, str, int]]:
        """The queries of the check that can be explained, with nothing counted yet."""
        known = {
            name: shown(value) for name, value in (self.base(0, 0) | self._counts(None)).items()
        }
        for file, piece in self.checks:
            text, _ = with_variables(file, piece, known)
            if EXPLAINED.match(text):
                yield file, text, piece.line

    # -- transactions -----------------------------------------------------------------------------

    def session(self, session: Session) -> Any:
        """The session of a worker: its transactions begin where their scripts say so."""
        return ScriptSession(session)

    def draw(self, context: WorkerContext) -> Callable[[], Draw]:
        """The variables that a script sets before its first statement are drawn with it."""
        seeds = Random(int(context.rng().integers(0, 2**63)))
        among = [kind for kind, one in enumerate(self.transactions) if one.role == context.role]
        ends = np.cumsum([self.transactions[kind].weight for kind in among]).tolist()
        base = self.base(context.worker, context.seed[0])
        random = Random(0)
        session: Any = context.session
        following = getattr(session, "follow", lambda whole: None)

        def draw() -> Draw:
            kind = among[0]
            if len(among) > 1:
                at = seeds.within(1, ends[-1])
                kind = among[next(place for place, end in enumerate(ends) if at <= end)]
            one = self.transactions[kind]
            following(one.script.whole)
            random.seed(seeds.bits())
            variables = dict(base)
            try:
                for step in one.script.steps[: one.lead]:
                    variables[step.name] = step.value(variables, random)  # type: ignore[misc]
            except WrongValue as wrong:
                return Draw(kind, _failed(one.script, step, wrong))
            return Draw(kind, (variables, random.s0, random.s1))

        return draw

    def bodies(self, context: WorkerContext) -> Sequence[Callable[[Any], int | None]]:
        return [_Body(one, context).run for one in self.transactions]

    def acknowledged(self, context: WorkerContext) -> None:
        return None

    def checkpointed(self, context: WorkerContext) -> None:
        return None

    # -- afterwards -------------------------------------------------------------------------------

    def check(self, session: Session, log: RunLog) -> list[Finding]:
        variables = self.base(0, 0) | self._counts(log)
        known = {name: shown(value) for name, value in variables.items()}
        return [_asked(session, file, piece, known) for file, piece in self.checks]

    def holds(self, session: Session) -> list[str]:
        """The queries of the check that count no transactions, where each script is one."""
        if self.keeps_its_connection:
            return []
        counts = self._counts(None)
        known = {name: shown(value) for name, value in (self.base(0, 0) | counts).items()}
        found = [
            _asked(session, file, piece, known)
            for file, piece in self.checks
            if not any(f":{name}" in piece.sql for name in counts)
        ]
        return [f"{one.check}: {one.sentence}" for one in found if not one.ok]

    def _counts(self, log: RunLog | None) -> dict[str, int]:
        """Variables of a check: how many transactions committed, and of how many nobody knows."""
        found = dict.fromkeys(("committed", "unknown", "changed", "unknown_changes"), 0)
        for kind, one in enumerate(self.transactions):
            changes = any(step.statement and step.statement.changes for step in one.script.steps)
            for name, changed in (("committed", "changed"), ("unknown", "unknown_changes")):
                count = 0 if log is None else getattr(log, name)(one.role, kind)
                found[name] += count
                found[changed] += count * bool(changes)
        return found


class ScriptSession:
    """A session whose transactions begin and end where a script says so.

    Where a script is one transaction, `begin` and `commit` are the real session's. Else they do
    nothing, and the script begins and commits in its body: `phase` then says what it was doing.
    """

    begin: Callable[[], Any]
    commit: Callable[[], Any]

    def __init__(self, real: Session) -> None:
        self.real, self.whole, self.phase = real, True, STATEMENT
        self.run, self.rows, self.pragmas = real.run, real.rows, real.pragmas
        self.begin, self.commit = self._begin, self._commit
        self._classify = classifier(real)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)

    def follow(self, whole: bool) -> None:
        """Before each transaction: whether its script is one."""
        self.whole = whole

    def _begin(self) -> None:
        if self.whole:
            self.real.begin()

    def _commit(self) -> None:
        if self.whole:
            self.real.commit()

    def refusal(self, error: BaseException, phase: int, within_ns: int | None = None) -> Refusal:
        return self._classify(error, self.phase if phase == STATEMENT else phase, within_ns)


class _Unchecked(dict[str, Value]):
    """Variables on an engine that answers nothing: those that an answer would have set are 0."""

    def __missing__(self, name: str) -> Value:
        return 0


class _Body:
    """One script, run for one worker."""

    def __init__(self, one: Transaction, context: WorkerContext) -> None:
        session: Any = context.session
        self.script, self.lead = one.script, one.lead
        self.session = session
        self.real = getattr(session, "real", session)
        self.context = context
        self.random = Random(0)
        self.variables = dict if context.checked else _Unchecked

    def run(self, args: Any) -> int:
        """The script from its first statement on. Returns how many rows it was given to keep."""
        if isinstance(args, Exception):
            raise args
        variables, random = self.variables(args[0]), self.random
        random.s0, random.s1 = args[1], args[2]
        steps, at, end = self.script.steps, self.lead, len(self.script.steps)
        inside, thought, answered = self.script.whole, False, 0
        session = self.session
        session.phase = STATEMENT
        step = steps[at - 1]
        try:
            while at < end:
                step = steps[at]
                at += 1
                what = step.what
                if what == "sql":
                    answered += self._statement(step, variables, inside)
                    if not thought:
                        thought = True
                        self.context.think()
                elif what == "set":
                    variables[step.name] = step.value(variables, random)  # type: ignore[misc]
                elif what == "unless":
                    if not step.value(variables, random):  # type: ignore[misc]
                        at = step.target
                elif what == "go":
                    at = step.target
                elif what == "sleep":
                    self._sleep(step.value(variables, random), step.seconds)  # type: ignore[misc]
                else:
                    inside = self._control(what)
                    thought = False
        except WrongValue as wrong:
            raise _failed(self.script, step, wrong) from None
        except KeyError as error:
            raise _failed(self.script, step, unset_variable(error.args[0])) from None
        if inside and not self.script.whole:
            raise _failed(self.script, step, "the script ends within a transaction")
        return answered

    def _statement(self, step: Step, variables: Mapping[str, Value], inside: bool) -> int:
        statement = step.statement
        assert statement is not None
        sql, values = statement.made(variables)
        # Alone, a statement that changes something is its own COMMIT.
        self.session.phase = STATEMENT if inside or not statement.changes else COMMIT
        if not statement.stores:
            self.real.run(sql, values)
            return 0
        rows = self.real.rows(sql, values)
        self.session.phase = STATEMENT
        if statement.exactly and len(rows) != 1 and self.context.checked:
            raise _failed(self.script, step, f"\\gset needs one row, and there are {len(rows)}")
        for row in rows[-1:]:
            if len(row) != len(statement.store):
                names = ", ".join(statement.store)
                why = f"\\gset reads {len(statement.store)} columns ({names}) and was given"
                raise _failed(self.script, step, f"{why} {len(row)}")
            variables.update(zip(statement.store, row, strict=True))  # type: ignore[attr-defined]
        return len(rows)

    def _control(self, what: str) -> bool:
        """BEGIN, COMMIT or ROLLBACK; returns whether a transaction is open then."""
        self.session.phase = {"begin": BEGIN, "commit": COMMIT}.get(what, STATEMENT)
        getattr(self.real, what)()
        self.session.phase = STATEMENT
        return what == "begin"

    def _sleep(self, value: Value, unit_s: float) -> None:
        until = time.monotonic() + float(value or 0) * unit_s
        while (left := until - time.monotonic()) > 0 and not self.context.stopping():
            time.sleep(min(left, SLICE_S))


def _failed(of: Script, step: Step, why: object) -> ScenarioFailed:
    return ScenarioFailed(f"{of.file}, line {step.line}: {why}.")


def _only_asks(pragma: Piece) -> bool:
    """Whether a PRAGMA is one that a check may have. Its name may stand behind a schema's."""
    signs = {token.text for token in pragma.tokens if token.kind == "other"}
    name = pragma.words[2:3] if "." in signs else pragma.words[1:2]
    return "=" not in signs and set(name) <= set(ASKING) and bool(name)


def _asked(session: Session, file: str, piece: Piece, known: Mapping[str, str]) -> Finding:
    """The rows of one query, which are the evidence: there must be none."""
    name = f"{file}, line {piece.line}"
    sql, _ = with_variables(file, piece, known)
    try:
        rows = session.rows(sql)
    except Exception as error:
        if session.refusal(error, STATEMENT).conflict in CAUSES:
            raise
        return Finding(name, False, f"could not be asked: {error} ({_brief(sql)})", {"sql": sql})
    if not rows:
        return Finding(name, True, f"no row: {_brief(sql)}", {})
    few = "; ".join(str(row) for row in rows[:3])
    more = f" and {len(rows) - 3:,} more" if len(rows) > 3 else ""
    count = "1 row" if len(rows) == 1 else f"{len(rows):,} rows"
    kept = [[_plain(value) for value in row] for row in rows[:MOST_ROWS_SHOWN]]
    return Finding(
        name,
        False,
        f"{count} where none may be: {few}{more} ({_brief(sql)})",
        {"sql": sql, "rows": kept},
    )


def _plain(value: Any) -> Any:
    return value if value is None or isinstance(value, (bool, int, float, str)) else repr(value)


def _brief(sql: str) -> str:
    return shortened(" ".join(sql.split()), 100).strip("'\"")


# --- what the user gave --------------------------------------------------------------------------


def _file(given: str) -> tuple[str, str | None]:
    """The name and the text of a file as it is given; None for a name alone."""
    name, line_end, text = given.partition("\n")
    return name, text if line_end else None


def asked_for(scripts: Any, role: str) -> bool:
    """Whether some of the scripts, as they are given, are for a role."""
    if not isinstance(scripts, (list, tuple)):
        return False
    found = (REFERENCE.fullmatch(str(one).partition("\n")[0]) for one in scripts)
    return any(match is not None and (match["role"] or "writer") == role for match in found)


def _transaction(given: str, defined: Mapping[str, str]) -> Transaction:
    head, text = _file(given)
    found = REFERENCE.fullmatch(head)
    if found is None:
        raise PlanError(f"Scenario 'sql': tx: {shortened(head)} is no name of a script.")
    file, role = found["name"], found["role"] or "writer"
    weight = int((found["weight"] or "1")[:10])
    if role not in ROLES:
        near = nearest(role, ROLES, 0.5)
        hint = f" Did you mean :{near}?" if near else ""
        raise PlanError(f"--tx {head}: a script is for writers or for :reader, not :{role}.{hint}")
    if not 1 <= weight <= MOST_WEIGHT:
        raise PlanError(
            f"--tx {head}: a weight is a whole number from 1 to {MOST_WEIGHT:,}. Leave out a "
            "script that is not to run."
        )
    if text is None:
        text = pgbench.SCRIPTS.get(file)
    if text is None:
        near = nearest(file, pgbench.SCRIPTS, 0.5)
        hint = f" Did you mean {near!r}?" if near else ""
        raise PlanError(
            f"--tx {head}: there is no such script.{hint} Give a file, or one of "
            f"{', '.join(pgbench.SCRIPTS)}."
        )
    made = script(file, text, defined)
    lead = next((at for at, step in enumerate(made.steps) if step.what != "set"), 0)
    name = file.rpartition("/")[2].removesuffix(".sql")
    return Transaction(name, role, weight, made, lead, text)


def _seconds(found: tuple[str, str]) -> float:
    return int(found[0]) * UNITS[found[1] or None]


def _told_apart(names: Sequence[str]) -> tuple[str, ...]:
    """The names, with a number behind those that were there before.

    >>> _told_apart(["a", "b", "a"])
    ('a', 'b', 'a 2')
    """
    return tuple(
        name if name not in names[:at] else f"{name} {names[: at + 1].count(name)}"
        for at, name in enumerate(names)
    )


def _defined(pairs: Sequence[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for pair in pairs:
        given = DEFINED.fullmatch(pair)
        if given is None:
            raise PlanError(f"--define {shortened(pair)}: give NAME=VALUE.")
        if given["name"] in found:
            raise PlanError(f"--define {given['name']}: it is given twice.")
        found[given["name"]] = given["value"]
    return found


def _valued(text: str) -> Value:
    """A number, a boolean or NULL where the text is one, else the text."""
    try:
        return typed(text)
    except WrongValue:
        return text
