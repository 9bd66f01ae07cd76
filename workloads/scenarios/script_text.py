"""The text of a file of SQL, cut into statements and backslash commands as pgbench cuts it.

A statement ends with a semicolon, with a backslash command, or with the text. Quotes, comments,
parentheses and the body of a trigger hold semicolons that end nothing. What SQL says is left to
the engine but for its first word: who begins with another word made a mistake, or reaches out of
the database, which a file from elsewhere must not.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from workloads.errors import PlanError, nearest, shortened

TOKEN = re.compile(
    r"""
      (?P<comment>   --[^\n]* )
    | (?P<block>     /\* )
    | (?P<quoted>    [eE]'(?:[^'\\]|\\.|'')*' | '(?:[^']|'')*' | "(?:[^"]|"")*" | `(?:[^`]|``)*`
                   | \$(?P<tag>[A-Za-z_\x80-\U0010ffff]?\w*)\$.*?\$(?P=tag)\$ )
    | (?P<unclosed>  ['"`] )
    | (?P<cast>      ::+ )
    | (?P<variable>  :[A-Za-z_\x80-\U0010ffff][\w\x80-\U0010ffff]* )
    | (?P<word>      [A-Za-z_\x80-\U0010ffff][\w\x80-\U0010ffff$]* | \d[\w.]* )
    | (?P<end>       ; )
    | (?P<backslash> \\ )
    | (?P<space>     \s+ )
    | (?P<other>     . )
    """,
    re.VERBOSE | re.DOTALL,
)
IN_QUOTES = re.compile(r":[A-Za-z_\x80-\U0010ffff][\w\x80-\U0010ffff]*")
NO_SPACE = ("space", "comment", "block")

BEGIN, COMMIT, ROLLBACK = "begin", "commit", "rollback"
CONTROLS = {
    re.compile(r"(BEGIN|START)(\s+(TRANSACTION|WORK))?", re.IGNORECASE): BEGIN,
    re.compile(r"(COMMIT|END)(\s+(TRANSACTION|WORK))?", re.IGNORECASE): COMMIT,
    re.compile(r"(ROLLBACK|ABORT)(\s+(TRANSACTION|WORK))?", re.IGNORECASE): ROLLBACK,
}
READS = ("SELECT", "VALUES", "EXPLAIN", "PRAGMA", "TABLE")
CHANGES = ("INSERT", "UPDATE", "DELETE", "REPLACE", "WITH", "MERGE", "TRUNCATE", "LOCK", "CREATE",
           "DROP", "ALTER", "ANALYZE", "REINDEX", "VACUUM", "SAVEPOINT", "RELEASE", "ROLLBACK",
           "SET")  # fmt: skip
FIRST = (*READS, *CHANGES)
MODES = ("BEGIN", "START", "COMMIT", "END", "ABORT")

OUTSIDE = {
    "ATTACH": "it opens another file",
    "DETACH": "there is one database",
    "COPY": "it reads and writes files, and runs programs",
    "LOAD": "it loads a library",
    "DO": "it runs a program of the server's",
}
"""First word -> why a file of SQL may not say it: it reaches out of the run's database."""

REACHING = ("load_extension", "lo_import", "lo_export", "pg_read_file", "pg_read_binary_file",
            "pg_ls_dir", "dblink", "writefile", "readfile", "edit")  # fmt: skip
"""Functions that reach out of it."""

OF_A_SERVER = ("FUNCTION", "PROCEDURE", "EXTENSION", "LANGUAGE", "SERVER", "SYSTEM", "DATABASE",
               "ROLE", "USER", "TABLESPACE", "SUBSCRIPTION")  # fmt: skip
"""What CREATE, ALTER and DROP may not be about."""


class ScriptMistake(PlanError):
    """A mistake in a file of SQL: the file, the line, the word."""


def mistake(file: str, line: int, sentence: str) -> ScriptMistake:
    return ScriptMistake(f"{file}, line {line}: {sentence}")


class Token(NamedTuple):
    kind: str
    text: str
    line: int


class Piece(NamedTuple):
    """A statement (its tokens, from the first that says anything on), or a backslash command.

    command : "" of a statement; the command's name in lower case. argument : the rest of its line,
    `at` : the line on which that begins.
    """

    line: int
    tokens: tuple[Token, ...] = ()
    command: str = ""
    argument: str = ""

    @property
    def sql(self) -> str:
        return "".join(token.text for token in self.tokens)

    @property
    def words(self) -> tuple[str, ...]:
        """Its words in upper case, quoted names and values left out."""
        return tuple(token.text.upper() for token in self.tokens if token.kind == "word")

    @property
    def changes(self) -> bool:
        """Whether it may change something, by its words."""
        words = self.words
        if not words or (words[0] in READS and words[0] != "SELECT"):
            return False
        if words[0] == "SELECT":
            return "INTO" in words  # PostgreSQL's, which makes a table
        return words[0] != "WITH" or bool({"INSERT", "UPDATE", "DELETE", "INTO"} & set(words))

    @property
    def control(self) -> str:
        """BEGIN, COMMIT or ROLLBACK; "" of another statement."""
        said = [token.text for token in self.tokens if token.kind not in NO_SPACE]
        text = " ".join(said)
        if text.upper() == "START":
            return ""
        return next((what for form, what in CONTROLS.items() if form.fullmatch(text)), "")


def pieces(file: str, text: str) -> Iterator[Piece]:
    """The statements and the backslash commands of a text. Raises ScriptMistake."""
    cutter = _Cutter(file, text)
    while (piece := cutter.next()) is not None:
        yield piece


def statements(file: str, text: str, *, transactions: bool = False) -> list[Piece]:
    """The statements of a file that has nothing else: a schema, or a check.

    transactions : it may begin and commit them.
    """
    found = list(pieces(file, text))
    for piece in found:
        if piece.command:
            raise mistake(
                file,
                piece.line,
                f"\\{piece.command} is a command of scripts (--tx). Here is SQL alone.",
            )
        if piece.control and not transactions:
            raise mistake(file, piece.line, f"{piece.words[0]} has no place here.")
    return found


def with_variables(file: str, piece: Piece, known: Mapping[str, str]) -> tuple[str, Piece]:
    """The text of a statement with its variables written into it, and the statement.

    known : variable -> its text. Raises ScriptMistake for one that is not there.
    """
    parts = []
    for token in piece.tokens:
        if token.kind == "variable":
            if token.text[1:] not in known:
                raise unknown_variable(file, token.line, token.text[1:], known)
            parts.append(known[token.text[1:]])
        elif token.kind == "quoted":
            parts.append(IN_QUOTES.sub(lambda m: known.get(m.group()[1:], m.group()), token.text))
        else:
            parts.append(token.text)
    return "".join(parts), piece


def unknown_variable(file: str, line: int, name: str, known: Iterable[str]) -> ScriptMistake:
    near = nearest(name, known, 0.6)
    hint = f" Did you mean :{near}?" if near else ""
    return mistake(
        file, line, f"the variable :{name} is never set.{hint} Set it with --define {name}=VALUE."
    )


class _Cutter:
    def __init__(self, file: str, text: str) -> None:
        self.file, self.text = file, text
        self.at, self.line = 0, 1

    def next(self) -> Piece | None:
        while self.at < len(self.text):
            if piece := self._statement():
                checked(self.file, piece)
                return piece
            if self.text.startswith("\\", self.at):
                return self._command()
        return None

    def _statement(self) -> Piece | None:
        """The next statement; None where none stands before the next semicolon or backslash."""
        tokens: list[Token] = []
        depth = 0
        trigger = _Trigger()
        while self.at < len(self.text):
            found = TOKEN.match(self.text, self.at)
            assert found is not None
            kind, text = found.lastgroup or "quoted", found.group()
            kind = "quoted" if kind == "tag" else kind
            if kind == "backslash":
                if self.text.startswith("\\;", self.at):
                    raise mistake(
                        self.file,
                        self.line,
                        "\\; sends several statements at once, which few engines can. End each "
                        "with ; alone.",
                    )
                break
            if kind == "unclosed":
                raise mistake(self.file, self.line, f"{text} opens a text that nothing closes.")
            if kind == "block":
                text = self._block()
            token = Token(kind, text, self.line)
            self.at += len(text)
            self.line += text.count("\n")
            if kind == "end" and depth <= 0 and not trigger.is_open:
                break
            if tokens or kind not in (*NO_SPACE, "end"):
                tokens.append(token)
            depth += (text == "(") - (text == ")")
            if kind == "word":
                trigger.take(text.upper())
        while tokens and tokens[-1].kind in NO_SPACE:
            tokens.pop()
        return Piece(tokens[0].line, tuple(tokens)) if tokens else None

    def _block(self) -> str:
        depth, at = 0, self.at
        for found in re.finditer(r"/\*|\*/", self.text[self.at :]):
            depth += 1 if found.group() == "/*" else -1
            if depth == 0:
                return self.text[at : at + found.end()]
        raise mistake(self.file, self.line, "/* opens a comment that nothing closes.")

    def _command(self) -> Piece:
        """A backslash command: up to the end of its line, where no backslash carries it on."""
        found = re.compile(r"\\(\S*)((?:\\\r?\n|[^\n])*)").match(self.text, self.at)
        assert found is not None
        line = self.line
        self.at = found.end()
        self.line += found.group().count("\n")
        argument = re.sub(r"\\(?=\r?\n)", " ", found.group(2)).rstrip()
        name = found.group(1).lower()
        if not name:
            raise mistake(self.file, line, "a backslash without a command.")
        return Piece(line, command=name, argument=argument)


class _Trigger:
    """Whether a statement is in the body of a trigger, whose semicolons do not end it."""

    def __init__(self) -> None:
        self.words: list[str] = []
        self.depth = 0

    @property
    def is_open(self) -> bool:
        return self.depth > 0

    def take(self, word: str) -> None:
        self.words.append(word)
        if self.words[0] != "CREATE" or "TRIGGER" not in self.words[:3]:
            return
        if word == "BEGIN" or (word == "CASE" and self.depth):
            self.depth += 1
        elif word == "END" and self.depth:
            self.depth -= 1


def checked(file: str, piece: Piece) -> None:
    """Raises ScriptMistake for a statement that begins with no word of SQL, or reaches out of the
    database.
    """
    words = piece.words
    first = piece.tokens[0]
    if first.text == "(":
        return
    if first.kind != "word":
        raise mistake(file, first.line, f"no statement begins with {shortened(first.text)}.")
    if piece.control:
        return
    if words[0] in MODES:
        raise mistake(
            file,
            first.line,
            f"{shortened(piece.sql)} says more than a plain {words[0]}, which stands for the mode "
            "under study. Say the plain word here, and the mode with --begin (--read-begin).",
        )
    if why := OUTSIDE.get(words[0]):
        raise mistake(file, first.line, f"{words[0]} is refused: {why}.")
    if words[0] not in FIRST:
        near = nearest(words[0], (*FIRST, *MODES), 0.6)
        hint = f" Did you mean {near}?" if near else ""
        raise mistake(file, first.line, f"no statement begins with {shortened(words[0])}.{hint}")
    if words[0] == "VACUUM" and "INTO" in words:
        raise mistake(file, first.line, "VACUUM INTO is refused: it writes another file.")
    if words[0] in ("CREATE", "ALTER", "DROP"):
        for word in words[1:4]:
            if word in OF_A_SERVER:
                raise mistake(file, first.line, f"{words[0]} {word} is refused: it is a server's.")
    for token in piece.tokens:
        if token.kind == "word" and token.text.lower() in REACHING:
            raise mistake(
                file, token.line, f"{token.text} is refused: it reaches out of the database."
            )
