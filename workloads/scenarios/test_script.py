r"""Scripts: how they are cut, what they become, and what is said of a mistake."""

from __future__ import annotations

import pytest

from workloads.scenarios.script import Script, script
from workloads.scenarios.script_text import ScriptMistake, statements

TRANSFER = r"""
-- money moves; nothing else does
\set source random(1, 100 * :scale)
\set amount random(1, \
   50)
BEGIN;
UPDATE account SET n = n - :amount WHERE id = :source;  /* a; comment /* in one */ */
SELECT n AS left, count(*), account.id, max(n) m, 'it''s; :amount' FROM account \gset of_
\if :of_left < 0 and :of_count > 0
INSERT INTO log_:client_id VALUES (:of_id, :of_m::text);
\elif :of_left = 0
SELECT 1;
\else
SELECT 2
\endif
\sleep 10 us
END;
"""


def read(text: str, **defined: str) -> Script:
    return script("transfer.sql", text, defined)


def shape(made: Script) -> list[str]:
    return [step.what for step in made.steps]


def sql_of(made: Script) -> list[str]:
    return [step.statement.text({}) for step in made.steps if step.statement is not None]


def test_a_script_becomes_steps_and_its_transaction_is_the_loops() -> None:
    made = read(TRANSFER)
    assert made.whole
    assert made.transactions == 1
    assert shape(made) == ["set", "set", "sql", "sql", "unless", "sql", "go", "unless", "sql",
                           "go", "sql", "sleep"]  # fmt: skip
    first, asked, written = (s.statement for s in made.steps if s.statement and s.line < 11)
    assert first is not None and asked is not None and written is not None
    assert first.sql == "UPDATE account SET n = n - ? WHERE id = ?"
    assert first.bound == ("amount", "source")
    assert first.changes
    assert not asked.changes
    assert asked.store == ("of_left", "of_count", "of_id", "of_m", "of_?column?")
    assert asked.text({"amount": 5}).endswith("'it''s; 5' FROM account")
    assert written.bound == ("of_id", "of_m")
    assert written.text({"client_id": 3}) == "INSERT INTO log_3 VALUES (?, ?::text)"


def test_jumps_lead_to_the_branch_behind() -> None:
    steps = read(TRANSFER).steps
    first, second = [at for at, step in enumerate(steps) if step.what == "unless"]
    assert steps[first].target == second
    assert steps[steps[second].target].line == 14
    assert {step.target for step in steps if step.what == "go"} == {11}


@pytest.mark.parametrize(
    ("text", "whole", "what"),
    [
        ("SELECT 1; SELECT 2;", False, ["sql", "sql"]),
        ("BEGIN; SELECT 1; COMMIT;", True, ["sql"]),
        ("start transaction; SELECT 1; end work", True, ["sql"]),
        ("begin; SELECT 1; ROLLBACK;", False, ["begin", "sql", "rollback"]),
        ("SELECT 1; BEGIN; SELECT 2; END;", False, ["sql", "begin", "sql", "commit"]),
        ("BEGIN; SELECT 2; END; \\sleep 1ms", False, ["begin", "sql", "commit", "sleep"]),
        (
            "BEGIN; SELECT 1; END; BEGIN; SELECT 2; END;",
            False,
            ["begin", "sql", "commit", "begin", "sql", "commit"],
        ),
        ("BEGIN; SAVEPOINT a; ROLLBACK TO a; COMMIT;", True, ["sql", "sql"]),
        ("\\if 1\nBEGIN;\n\\endif\nSELECT 1; COMMIT;", False, ["unless", "begin", "sql", "commit"]),
    ],
)
def test_a_plain_begin_stands_for_the_mode_and_the_rest_is_in_autocommit(
    text: str, whole: bool, what: list[str]
) -> None:
    made = read(text)
    assert made.whole == whole
    assert shape(made) == what


def test_a_variable_is_bound_but_where_no_value_can_stand() -> None:
    made = read(
        "SELECT :n, ':n', 'at 12:30 :no', x::int FROM t_:n, :t ORDER BY :column;", n="5", t="5",
        column="id",
    )  # fmt: skip
    statement = made.steps[0].statement
    assert statement is not None
    assert statement.bound == ("n", "t")
    text = statement.text({"n": 5, "t": 5, "column": "id"})
    assert text == "SELECT ?, '5', 'at 12:30 :no', x::int FROM t_5, ? ORDER BY id"
    quoted = read("SELECT 'a :n' FROM t", n="it's")
    assert quoted.steps[0].statement.text({"n": "it's"}) == "SELECT 'a it''s' FROM t"  # type: ignore[union-attr]


def test_what_is_within_quotes_parentheses_or_a_trigger_ends_no_statement() -> None:
    trigger = (
        "CREATE TRIGGER t AFTER INSERT ON a BEGIN\n"
        "UPDATE b SET n = CASE WHEN n > 1 THEN 2 ELSE 3 END; DELETE FROM c; END"
    )
    texts = [trigger, "INSERT INTO a VALUES ('x;y', \"z;\", $$ ; $$)", "SELECT 1 -- ; not here"]
    found = statements("schema.sql", ";\n".join(texts) + "\n;;\n")
    assert [piece.sql for piece in found] == [*texts[:2], "SELECT 1"]
    assert [piece.line for piece in found] == [1, 3, 4]


MISTAKES = {
    "SELEC 1;": "line 1: no statement begins with 'SELEC'. Did you mean SELECT?",
    "SELECT 1;\n\n42;": "line 3: no statement begins with '42'.",
    "\\sett x 1": "line 1: there is no command \\sett. Did you mean \\set?",
    "\nBEGIN IMMEDIATE; SELECT 1; COMMIT;": "line 2: 'BEGIN IMMEDIATE' says more than a plain",
    "\\set x foo(1)\nSELECT 1": "line 1: \\set: there is no function of this name at 'foo'.",
    "\\set x 1 +\nSELECT 1": "line 1: \\set: the expression ends where a value was expected.",
    "\\set x \\\n 1 + \\\n 2 + rnd(3)\nSELECT 1;": "line 3: \\set: there is no function",
    "\\set x \\\n 1 + \\\n :y\nSELECT 1;": "line 3: the variable :y is never set before.",
    "\\set amount 1\nSELECT 1 +\n:amuont": "line 3: the variable :amuont is never set before. Did "
    "you mean :amount?",
    "SELECT :x;\n\\set x 1": "line 1: the variable :x is never set before.",
    "\\set": "line 1: \\set needs a name and an expression.",
    "\\set x": "line 1: \\set x needs an expression.",
    "\\set x-y 1": "line 1: \\set: 'x-y' is no name.",
    "SELECT 1;\nBEGIN; SELECT 1;": "line 2: BEGIN opens a transaction that nothing ends.",
    "BEGIN; SELECT 1;\nBEGIN;": "line 2: BEGIN, but the transaction of line 1 has not ended.",
    "SELECT 1;\nCOMMIT;": "line 2: COMMIT ends a transaction that none began.",
    "\\if 1\nSELECT 1;": "line 1: \\if has no \\endif.",
    "SELECT 1;\n\\endif": "line 2: \\endif has no \\if before it.",
    "\\if 1\n\\else\n\\elif 1\n\\endif": "line 3: \\elif follows \\else.",
    "\\if 1\n\\else x\n\\endif": "line 2: \\else is followed by 'x', which is too much.",
    "SELECT 'abc": "line 1: ' opens a text that nothing closes.",
    "SELECT 1 /* abc": "line 1: /* opens a comment that nothing closes.",
    "\\gset": "line 1: \\gset must follow a statement.",
    "SELECT 1 AS a \\gset\n\\gset": "line 2: \\gset must follow a statement.",
    "SELECT * FROM t \\gset": "line 1: \\gset needs the names of the columns: write them for *.",
    "UPDATE t SET a = 1 \\gset": "line 1: \\gset needs a statement that answers rows.",
    "SELECT ?": "line 1: ? is a parameter, and has no value here.",
    "\\sleep 1 h": "line 1: \\sleep takes a number or a variable, and us, ms or s, not '1 h'.",
    "\\shell rm x": "line 1: \\shell is refused: a program that a script names is never run.",
    "\\setshell x date": "line 1: \\setshell is refused",
    "\\setrandom x 1 2": "line 1: \\setrandom is refused: pgbench has it no more.",
    "\\startpipeline": "line 1: \\startpipeline is refused: few engines have a pipeline.",
    "SELECT 1 \\; SELECT 2;": "line 1: \\; sends several statements at once",
    "ATTACH 'x' AS y;": "line 1: ATTACH is refused: it opens another file.",
    "VACUUM INTO 'x';": "line 1: VACUUM INTO is refused",
    "COPY t FROM PROGRAM 'x';": "line 1: COPY is refused",
    "CREATE OR REPLACE FUNCTION f() AS 'x'": "line 1: CREATE FUNCTION is refused",
    "SELECT\nload_extension('x')": "line 2: load_extension is refused",
    "COMMIT;": "line 1: COMMIT ends a transaction that none began.",
    "BEGIN;\nBEGIN;\nEND;": "line 2: BEGIN, but the transaction of line 1 has not ended.",
    "SAVEPOINT a;\nUPDATE t SET n = 1;": "line 1: 'SAVEPOINT a' stands in no transaction",
    "BEGIN;\nCOMMIT;\nRELEASE a;": "line 3: 'RELEASE a' stands in no transaction",
    "-- nothing": "there is no statement in it.",
}


@pytest.mark.parametrize("text", MISTAKES)
def test_a_mistake_is_named_with_its_file_line_and_word(text: str) -> None:
    with pytest.raises(ScriptMistake) as told:
        read(text)
    assert str(told.value).startswith("transfer.sql")
    assert MISTAKES[text] in str(told.value)


def test_a_schema_has_no_commands_and_no_transactions() -> None:
    with pytest.raises(ScriptMistake, match=r"schema.sql, line 2: \\set is a command of scripts"):
        statements("schema.sql", "SELECT 1;\n\\set x 1")
    with pytest.raises(ScriptMistake, match=r"schema.sql, line 1: BEGIN has no place here"):
        statements("schema.sql", "BEGIN;")


@pytest.mark.parametrize(
    ("sql", "names"),
    [
        ("SELECT a, b.c, d AS e, f g FROM t", ["a", "c", "e", "g"]),
        ('SELECT sum(n), count(DISTINCT x) AS "Many" FROM t', ["sum", "Many"]),
        ("SELECT 1 + 1, CASE WHEN a THEN 1 END, DISTINCT_ FROM t",
         ["?column?", "case", "distinct_"]),
        ("WITH x AS (SELECT 1 AS z) SELECT z FROM x", ["z"]),
        ("INSERT INTO t(a) VALUES (1) RETURNING id, a", ["id", "a"]),
        ("SELECT (SELECT max(n) FROM t) AS top, a + b FROM t", ["top", "?column?"]),
    ],
)  # fmt: skip
def test_columns_have_the_names_that_postgresql_gives_them(sql: str, names: list[str]) -> None:
    statement = read(f"{sql} \\gset").steps[0].statement
    assert statement is not None
    assert list(statement.store) == names
