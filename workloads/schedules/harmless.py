"""What the SQL of a program may hold: a program may come from anybody, and reaches no other file.

No engine is asked whether it would refuse: SQLite attaches any file, Turso loads extensions by a
function, libSQL makes functions of a text. What a program may hold is on a list, and the rest is
refused when its text is read. How much time and memory it may take has its limits where it is
played (playing.py, stage.py).
"""

from __future__ import annotations

import re

from workloads.engines import OPTIONS

FIRST_WORDS = frozenset({
    "select", "values", "with", "insert", "replace", "update", "delete", "create", "drop", "alter",
    "savepoint", "release", "rollback", "begin", "commit", "end", "vacuum", "analyze", "reindex",
    "attach", "detach", "pragma",
})  # fmt: skip
"""The words that a statement may begin with."""

FIRST_ALONE = frozenset({"attach", "detach", "vacuum", "pragma", "create"})
"""Words that stand at the beginning of a statement or nowhere: some drivers run several at once."""

MADE = frozenset({"table", "index", "trigger", "view"})
HOW = frozenset({"temp", "temporary", "unique", "materialized"})
"""What CREATE may make, with the words before it. A virtual table may be a file, and a function of
libSQL is code."""

PRAGMAS = frozenset({
    *OPTIONS, "application_id", "busy_timeout", "cell_size_check", "data_version",
    "defer_foreign_keys", "encoding", "foreign_key_check", "foreign_key_list", "foreign_keys",
    "freelist_count", "incremental_vacuum", "index_info", "index_list", "index_xinfo",
    "integrity_check", "journal_size_limit", "max_page_count", "optimize", "page_count",
    "query_only", "quick_check", "read_uncommitted", "schema_version", "shrink_memory",
    "table_info", "table_list", "table_xinfo", "user_version", "wal_checkpoint",
})  # fmt: skip
"""The PRAGMAs of a program: none names a folder or a file."""

REACHES_OUT = re.compile(
    r"load_extension|readfile|writefile|\bedit\b|fsdir|lsdir|fts3_tokenizer|zipfile|sqlite_dbpage|"
    r"writable_schema|(?:temp_store|data_store)_directory",
    re.IGNORECASE,
)
"""Names that lead to a file, or to code. They stand nowhere, for a quoted one is a name, too."""

TOKEN = re.compile(
    r"\s+|(?P<string>'(?:[^']|'')*')|(?P<name>\"(?:[^\"]|\"\")*\"|`(?:[^`]|``)*`|\[[^\]]*\])|"
    r"(?P<word>[^\W\d]\w*)|(?P<comment>--|/\*)|(?P<other>[\w.]+|[^'\"`\[])",
)
PLAIN = re.compile(r"\w{1,64}")
MOST_CHARACTERS = 20_000
"""Of one statement."""

IN_MEMORY = re.compile(r"(?:database\s+)?':memory:'\s+as\s+\w+", re.IGNORECASE)
MODE = re.compile(r"(?:[A-Za-z]{1,20}( [A-Za-z]{1,20})?)?")


def why_harmful(sql: str) -> str:
    """Why a statement may be in no program, "" where it may.

    >>> why_harmful("UPDATE t0 SET v = 1 WHERE id = 1"), why_harmful("VACUUM INTO '/tmp/x'")
    ('', 'VACUUM stands alone: it writes to no other file')
    """
    if len(sql) > MOST_CHARACTERS:
        return f"a statement has at most {MOST_CHARACTERS:,} characters"
    if not sql.isprintable():
        return "a statement has no control character"
    if found := REACHES_OUT.search(sql):
        return f"{found[0]} leads out of the database"
    try:
        words, tokens = _words(sql)
    except ValueError as error:
        return str(error)
    if not words or tokens[0].lower() != words[0] or words[0] not in FIRST_WORDS:
        return f"a statement begins with one of {', '.join(sorted(FIRST_WORDS))}"
    for word in words[1:]:
        if word in FIRST_ALONE or word == "virtual":
            return f"{word.upper()} stands nowhere but at the beginning of a statement"
    return _of_kind(sql, words, tokens)


def why_no_mode(mode: str) -> str:
    """Why a text cannot follow BEGIN, "" where it can."""
    return "" if MODE.fullmatch(mode) else "a mode of BEGIN is a word or two"


def _words(sql: str) -> tuple[list[str], list[str]]:
    """The bare words in small letters, and all tokens. Raises ValueError for what is refused."""
    words, tokens, at = [], [], 0
    while at < len(sql):
        found = TOKEN.match(sql, at)
        if found is None:
            raise ValueError("a quote is not closed")
        at, kind, text = found.end(), found.lastgroup, found[0]
        if kind is None:
            continue
        if kind == "comment":
            raise ValueError("a statement has no comment")
        if kind == "name" and not PLAIN.fullmatch(text[1:-1]):
            raise ValueError("a quoted name has letters, digits and _ alone")
        if kind == "string" and ";" in text:
            raise ValueError("a text in quotes has no semicolon")  # it may be used as a name
        if kind == "word":
            words.append(text.lower())
        elif kind == "name":
            words.append(text[1:-1].lower())
        tokens.append(text)
    return words, tokens


def _of_kind(sql: str, words: list[str], tokens: list[str]) -> str:
    first, more = words[0], [word for word in words[1:] if word not in HOW]
    trigger = first == "create" and more[:1] == ["trigger"]
    if ";" in tokens[:-1] and not (trigger and words[-1] == "end"):
        return "a step is one statement"
    if first == "create" and (not more or more[0] not in MADE):
        return f"CREATE makes one of {', '.join(sorted(MADE))}"
    if first == "vacuum" and len(tokens) > 1 + (tokens[-1] == ";"):
        return "VACUUM stands alone: it writes to no other file"
    rest = sql.strip().rstrip(";")[len(first) :].strip()
    if first == "attach" and not IN_MEMORY.fullmatch(rest):
        return "ATTACH takes ':memory:' AS NAME: no other file"
    if first == "pragma":
        return _of_pragma(rest)
    tables = [word.removeprefix("pragma_") for word in words if word.startswith("pragma_")]
    return next(filter(None, map(_of_pragma, tables)), "")


def _of_pragma(rest: str) -> str:
    name = re.match(r"(?:\w+\s*\.\s*)?(\w*)", rest)
    if name is None or name[1].lower() not in PRAGMAS:
        return f"PRAGMA {rest[:40]} is none of those that a program may hold"
    return "" if "/" not in rest and "\\" not in rest else "a PRAGMA names no path"


__all__ = ["why_harmful", "why_no_mode"]
