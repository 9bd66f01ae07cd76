r"""A transaction script in pgbench's language, checked and made ready to run.

The language is that of https://www.postgresql.org/docs/15/pgbench.html ("Custom Scripts"). Where
it differs: variables begin anew in each transaction; a variable that stands as a value is bound and
not written into the statement; the columns of \gset have PostgreSQL's names on every engine; and
what comes from elsewhere is never run, so that \shell and \setshell are refused.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from workloads.errors import nearest, shortened
from workloads.scenarios.script_expression import (
    Compiled,
    Value,
    WrongExpression,
    WrongValue,
    expression,
    shown,
    typed,
)
from workloads.scenarios.script_text import (
    BEGIN,
    COMMIT,
    IN_QUOTES,
    NO_SPACE,
    Piece,
    ScriptMistake,
    Token,
    mistake,
    pieces,
)

AUTOMATIC = ("client_id", "scale", "random_seed", "default_seed")
"""Variables that every script has."""

NAME = re.compile(r"[\w\x80-\U0010ffff]+")
SLEEP = re.compile(r"(-?\d+|:\w+)\s*(us|ms|s)?")
UNITS: dict[str | None, float] = {"us": 1e-6, "ms": 1e-3, "s": 1.0, None: 1.0}

REFUSED = {
    "shell": "a program that a script names is never run",
    "setshell": "a program that a script names is never run",
    "startpipeline": "few engines have a pipeline. Leave it out: the statements then follow each "
    "other",
    "endpipeline": "few engines have a pipeline. Leave it out: the statements then follow each "
    "other",
    "setrandom": "pgbench has it no more. Write \\set NAME random(FROM, TO)",
}
"""Command -> why it is refused."""

COMMANDS = ("set", "sleep", "if", "elif", "else", "endif", "gset", "aset")
PARAMETERS = ("?", "@", "$")
"""With these begin the parameters of drivers."""

TABLE_FOLLOWS = ("FROM", "JOIN", "INTO", "UPDATE", "TABLE", "INDEX", "ON")
"""Words behind which a name stands: a variable there is written into the statement."""


class Statement(NamedTuple):
    r"""One statement. parts : text, or a name: those in `bound` have a ? in the text.

    sql : its whole text where no variable is written into it; None else. store : the names that
    its row gives values to; exactly : \gset, which needs one row; \aset takes the last, if any.
    """

    sql: str | None
    bound: tuple[str, ...]
    parts: tuple[tuple[str, str], ...]
    changes: bool
    store: tuple[str, ...] = ()
    exactly: bool = True
    stores: bool = False

    def made(self, variables: Mapping[str, Value]) -> tuple[str, tuple[Value, ...]]:
        """Its text, and the values to bind. Raises KeyError for a variable that has no value."""
        values = tuple([variables[name] for name in self.bound])
        if True not in map(_is_boolean, values):
            return self.sql if self.sql is not None else self.text(variables), values
        # A boolean is written: bound, it would be a number on most engines.
        left = tuple(value for value in values if not isinstance(value, bool))
        return self.text(variables, booleans=True), left

    def text(self, variables: Mapping[str, Value], *, booleans: bool = False) -> str:
        return "".join(
            shown(variables[part])
            if kind == "bound" and booleans and isinstance(variables[part], bool)
            else _written(kind, part, variables)
            for kind, part in self.parts
        )


def _is_boolean(value: Value) -> bool:
    return value is True or value is False


def _written(kind: str, part: str, variables: Mapping[str, Value]) -> str:
    if kind == "text":
        return part
    if kind == "bound":
        return "?"
    text = shown(variables[part])
    return text.replace("'", "''") if kind == "quoted" else text


class Step(NamedTuple):
    """One step of a script. what : "set", "sql", "sleep", "begin", "commit", "rollback", "unless"
    (go on at `target` where the condition is false) or "go" (at `target`).
    """

    what: str
    line: int
    name: str = ""
    value: Compiled | None = None
    statement: Statement | None = None
    target: int = 0
    seconds: float = 1.0


@dataclass(frozen=True)
class Script:
    """A script. whole : it is one transaction, from BEGIN to COMMIT, so that the run's loop begins
    and commits it; the steps then have neither. transactions : BEGINs in it.
    """

    file: str
    steps: tuple[Step, ...]
    whole: bool
    transactions: int

    @property
    def statements(self) -> int:
        return sum(step.what == "sql" for step in self.steps)


def unset_variable(name: str) -> str:
    """Of one that no branch that was taken has set."""
    return f"the variable :{name} has no value here: no branch that was taken has set it"


def script(file: str, text: str, defined: Mapping[str, str]) -> Script:
    """Read a script. defined : the variables given with --define. Raises ScriptMistake."""
    return _Reader(file, text, defined).script()


class _Branch(NamedTuple):
    r"""An \if that is open: its line, its last condition's step, and the jumps behind it all."""

    line: int
    unless: int | None
    exits: tuple[int, ...]


class _Reader:
    def __init__(self, file: str, text: str, defined: Mapping[str, str]) -> None:
        self.file, self.defined = file, defined
        self.pieces = list(pieces(file, text))
        self.steps: list[Step] = []
        self.open: list[_Branch] = []
        self.known = {*AUTOMATIC, *defined}

    def script(self) -> Script:
        for piece in self.pieces:
            (self.command if piece.command else self.sql)(piece)
        if self.open:
            raise mistake(self.file, self.open[-1].line, "\\if has no \\endif.")
        self._transactions_end()
        if not any(step.what == "sql" for step in self.steps):
            raise ScriptMistake(f"{self.file}: there is no statement in it.")
        self._savepoints_are_inside()
        controls = [step.what for step in self.steps if step.what in (BEGIN, COMMIT, "rollback")]
        done = [step.what for step in self.steps if step.what in ("sql", "sleep", *controls)]
        whole = controls == [BEGIN, COMMIT] and done[0] == BEGIN and done[-1] == COMMIT
        branches = any(step.what in ("go", "unless") for step in self.steps)
        steps = tuple(self.steps)
        if whole and branches:
            whole = self._outside_of_branches()
        if whole:
            steps = _without(steps, (BEGIN, COMMIT))
        return Script(self.file, steps, whole, controls.count(BEGIN))

    def _outside_of_branches(self) -> bool:
        """Whether BEGIN and COMMIT are in no branch."""
        depth = 0
        for piece in self.pieces:
            depth += (piece.command == "if") - (piece.command == "endif")
            if piece.control and depth:
                return False
        return True

    def _transactions_end(self) -> None:
        """Of those that are in no branch, one is open at a time, and none at the end."""
        depth, begun = 0, 0
        for piece in self.pieces:
            depth += (piece.command == "if") - (piece.command == "endif")
            if not piece.control:
                continue
            if depth:
                return  # whoever branches is followed when it runs
            if piece.control == BEGIN:
                if begun:
                    raise mistake(
                        self.file,
                        piece.line,
                        f"BEGIN, but the transaction of line {begun} has not ended.",
                    )
                begun = piece.line
            elif not begun:
                raise mistake(
                    self.file, piece.line, f"{piece.words[0]} ends a transaction that none began."
                )
            else:
                begun = 0
        if begun:
            raise mistake(self.file, begun, "BEGIN opens a transaction that nothing ends.")

    def _savepoints_are_inside(self) -> None:
        """Of SQLite's family a savepoint alone begins a transaction: in no mode under study, and
        without a COMMIT none of it would be there after the run.
        """
        inside = False
        for piece in self.pieces:
            if piece.control:
                inside = piece.control == BEGIN
            elif not inside and piece.words[:1] in (("SAVEPOINT",), ("RELEASE",), ("ROLLBACK",)):
                raise mistake(
                    self.file,
                    piece.line,
                    f"{shortened(piece.sql)} stands in no transaction: put BEGIN; before it, and "
                    "COMMIT; behind.",
                )

    # -- backslash commands -----------------------------------------------------------------------

    def command(self, piece: Piece) -> None:
        name = piece.command
        if why := REFUSED.get(name):
            raise mistake(self.file, piece.line, f"\\{name} is refused: {why}.")
        if name not in COMMANDS:
            near = nearest(name, COMMANDS, 0.5)
            hint = f" Did you mean \\{near}?" if near else ""
            have = ", ".join(f"\\{one}" for one in COMMANDS)
            raise mistake(
                self.file,
                piece.line,
                f"there is no command \\{shortened(name).strip(chr(39))}.{hint} There are: {have}.",
            )
        if name in ("else", "endif") and piece.argument.strip():
            self.extra(piece, piece.argument.strip())
        getattr(self, f"_{name}")(piece)

    def extra(self, piece: Piece, text: str) -> None:
        raise mistake(
            self.file, piece.line, f"\\{piece.command} is followed by {shortened(text)}, which is "
            "too much."
        )  # fmt: skip

    def compiled(self, piece: Piece, text: str, begins: int) -> Compiled:
        """An expression. begins : its place in the argument, for the line of a mistake."""
        try:
            made = expression(text)
        except WrongExpression as wrong:
            line = piece.line + piece.argument.count("\n", 0, begins + wrong.at)
            raise mistake(self.file, line, f"\\{piece.command}: {wrong}.") from None
        for name, at in made.variables:
            line = piece.line + piece.argument.count("\n", 0, begins + at)
            self.is_set(name, line)
        return made.value

    def is_set(self, name: str, line: int) -> None:
        if name in self.known:
            return
        near = nearest(name, self.known, 0.6)
        hint = f" Did you mean :{near}?" if near else ""
        raise mistake(
            self.file,
            line,
            f"the variable :{name} is never set before.{hint} Set it with \\set, or with "
            f"--define {name}=VALUE.",
        )

    def _set(self, piece: Piece) -> None:
        found = NAME.match(piece.argument.lstrip())
        if found is None:
            raise mistake(self.file, piece.line, "\\set needs a name and an expression.")
        begins = len(piece.argument) - len(piece.argument.lstrip()) + found.end()
        text = piece.argument[begins:]
        if text and not text[0].isspace():
            raise mistake(
                self.file, piece.line, f"\\set: {shortened(piece.argument.split()[0])} is no name."
            )
        if not text.strip():
            raise mistake(self.file, piece.line, f"\\set {found.group()} needs an expression.")
        value = self.compiled(piece, text, begins)
        self.known.add(found.group())
        self.steps.append(Step("set", piece.line, name=found.group(), value=value))

    def _sleep(self, piece: Piece) -> None:
        found = SLEEP.fullmatch(piece.argument.strip())
        if found is None:
            raise mistake(
                self.file,
                piece.line,
                f"\\sleep takes a number or a variable, and us, ms or s, not "
                f"{shortened(piece.argument.strip())}.",
            )
        value = self.compiled(piece, found.group(1), 0)
        self.steps.append(Step("sleep", piece.line, value=value, seconds=UNITS[found.group(2)]))

    def _if(self, piece: Piece) -> None:
        self.open.append(_Branch(piece.line, self.condition(piece), ()))

    def condition(self, piece: Piece) -> int:
        value = self.compiled(piece, piece.argument, 0)
        self.steps.append(Step("unless", piece.line, value=value))
        return len(self.steps) - 1

    def branch(self, piece: Piece) -> _Branch:
        r"""The \if that is open, with its current branch left: a jump behind all of it."""
        if not self.open:
            raise mistake(self.file, piece.line, f"\\{piece.command} has no \\if before it.")
        branch = self.open.pop()
        if branch.unless is None and piece.command != "endif":
            raise mistake(self.file, piece.line, f"\\{piece.command} follows \\else.")
        if piece.command == "endif":
            return branch
        self.steps.append(Step("go", piece.line))
        return branch._replace(exits=(*branch.exits, len(self.steps) - 1))

    def land(self, step: int | None) -> None:
        if step is not None:
            self.steps[step] = self.steps[step]._replace(target=len(self.steps))

    def _elif(self, piece: Piece) -> None:
        branch = self.branch(piece)
        self.land(branch.unless)
        self.open.append(branch._replace(unless=self.condition(piece)))

    def _else(self, piece: Piece) -> None:
        branch = self.branch(piece)
        self.land(branch.unless)
        self.open.append(branch._replace(unless=None))

    def _endif(self, piece: Piece) -> None:
        branch = self.branch(piece)
        for step in (branch.unless, *branch.exits):
            self.land(step)

    def _gset(self, piece: Piece) -> None:
        prefix = piece.argument.strip()
        if len(prefix.split()) > 1:
            self.extra(piece, prefix.split(None, 1)[1])
        last = self.steps[-1] if self.steps else None
        if last is None or last.statement is None or last.statement.stores:
            raise mistake(self.file, piece.line, f"\\{piece.command} must follow a statement.")
        names = tuple(prefix + name for name in columns(self.file, last.line, self.last))
        self.known.update(names)
        stored = last.statement._replace(store=names, exactly=piece.command == "gset", stores=True)
        self.steps[-1] = last._replace(statement=stored)

    _aset = _gset

    # -- SQL --------------------------------------------------------------------------------------

    def sql(self, piece: Piece) -> None:
        if piece.control:
            self.steps.append(Step(piece.control, piece.line))
            return
        self.last = piece
        self.steps.append(Step("sql", piece.line, statement=self.statement(piece)))

    def statement(self, piece: Piece) -> Statement:
        parts: list[tuple[str, str]] = []
        before = ""
        glued = False
        following = [*piece.tokens[1:], Token("end", "", 0)]
        for token, after in zip(piece.tokens, following, strict=True):
            if token.kind == "variable":
                name = token.text[1:]
                self.is_set(name, token.line)
                as_text = (
                    glued
                    or after.kind in ("word", "variable")
                    or before in TABLE_FOLLOWS
                    or not _has_value(self.defined.get(name, "0"))
                )
                parts.append(("text_of" if as_text else "bound", name))
            elif token.kind == "quoted":
                parts += _quoted(token.text, self.known)
            elif token.text in PARAMETERS:
                raise mistake(
                    self.file,
                    token.line,
                    f"{token.text} is a parameter, and has no value here. Name a variable, as "
                    ":name.",
                )
            else:
                parts.append(("text", token.text))
            if token.kind not in NO_SPACE:
                before = token.text.upper() if token.kind == "word" else ""
            glued = token.kind in ("word", "variable")
        bound = tuple(name for kind, name in parts if kind == "bound")
        fixed = all(kind in ("text", "bound") for kind, _ in parts)
        sql = "".join(_written(kind, part, {}) for kind, part in parts) if fixed else None
        return Statement(sql, bound, tuple(parts), changes=piece.changes)


def _has_value(text: str) -> bool:
    """Whether a variable given as text is a number, a boolean or NULL, which can be bound."""
    try:
        typed(text)
    except WrongValue:
        return False
    return True


def _quoted(text: str, known: Collection[str]) -> Iterator[tuple[str, str]]:
    """The parts of a quoted text: pgbench writes variables into it; what is none stays."""
    at = 0
    for found in IN_QUOTES.finditer(text):
        if found.group()[1:] in known and not text[: found.start()].endswith(":"):
            yield "text", text[at : found.start()]
            yield "quoted", found.group()[1:]
            at = found.end()
    yield "text", text[at:]


def _without(steps: Sequence[Step], what: Collection[str]) -> tuple[Step, ...]:
    """The steps but those of a kind, with the jumps' targets moved."""
    places, kept = [], 0
    for step in steps:
        places.append(kept)
        kept += step.what not in what
    places.append(kept)
    return tuple(
        step._replace(target=places[step.target]) for step in steps if step.what not in what
    )


# --- the names of columns ------------------------------------------------------------------------


def columns(file: str, line: int, piece: Piece) -> list[str]:
    """The names of the columns that a statement answers, by PostgreSQL's rules.

    Its own word (AS), a column's name, a function's name; else "?column?", which no script can say.
    Raises ScriptMistake for a star: the names then are only known when it has run.
    """
    tokens = [token for token in piece.tokens if token.kind not in NO_SPACE]
    items = _list_of(tokens)
    if not items:
        raise mistake(file, line, "\\gset needs a statement that answers rows.")
    found = []
    for item in items:
        if item[-1].text == "*":
            raise mistake(file, line, "\\gset needs the names of the columns: write them for *.")
        found.append(_name_of(item))
    return found


ENDS = ("FROM", "WHERE", "GROUP", "HAVING", "ORDER", "LIMIT", "OFFSET", "UNION", "EXCEPT", "FOR",
        "INTERSECT", "WINDOW", "FETCH")  # fmt: skip


def _list_of(tokens: Sequence[Token]) -> list[list[Token]]:
    """The items of the SELECT list, or of RETURNING's."""
    items: list[list[Token]] = []
    depth, begun = 0, False
    starts = "SELECT" if tokens[0].text.upper() in ("SELECT", "WITH", "(") else "RETURNING"
    if tokens[0].text.upper() == "WITH" and any(t.text.upper() == "RETURNING" for t in tokens):
        starts = "RETURNING"
    for token in tokens:
        word = token.text.upper() if token.kind == "word" else ""
        if not begun:
            begun = depth == 0 and word == starts
            items = [[]] if begun else []
        elif depth == 0 and word in ENDS:
            break
        elif depth == 0 and token.text == ",":
            items.append([])
        elif not (depth == 0 and word in ("DISTINCT", "ALL")):
            items[-1].append(token)
        depth += (token.text == "(") - (token.text == ")")
    return [item for item in items if item]


def _name_of(item: Sequence[Token]) -> str:
    last = item[-1]
    if last.kind == "word" and last.text.upper() == "END" and item[0].text.upper() == "CASE":
        return "case"
    if last.kind == "quoted" and last.text[0] == '"':
        return last.text[1:-1]
    named = last.kind == "word" and not last.text[0].isdigit()
    if named and last.text.upper() not in ("NULL", "TRUE", "FALSE"):
        before = item[-2].text if len(item) > 1 else "."
        if before in (".", ")") or before.upper() == "AS" or item[-2].kind != "other":
            return last.text.lower()
        return "?column?"
    if last.text == ")" and item[0].kind == "word" and len(item) > 2 and item[1].text == "(":
        return item[0].text.lower()
    return "?column?"
