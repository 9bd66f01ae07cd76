"""Programs from anybody: none reaches another file, goes on for ever, or has its script run."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from properties.hunter import hunt, reference
from properties.hunter.folder import FINDING, PROGRAM, REPRO, findings_in
from properties.hunter.hunt import Hunter
from properties.hunter.reference import BUDGET, TooMuch, first_version, limited
from properties.hunter.replaying import replay
from workloads.engines import reference_library
from workloads.files import ROOT
from workloads.schedules import Program, Step, parse_program

Cwkit = Callable[..., "subprocess.CompletedProcess[str]"]
TABLE = "CREATE TABLE t0(id INTEGER PRIMARY KEY, v INTEGER)"
FOREVER = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c)"
FINDINGS = ROOT / "examples" / "findings"

REFUSED = {
    "another file": "A sql ATTACH '/tmp/x' AS y",
    "a file above": "A sql ATTACH '../x' AS y",
    "an address of a file": "A sql ATTACH DATABASE 'file:/tmp/x?mode=rwc' AS y",
    "a file that is computed": "A sql ATTACH ':mem' || '/tmp/x' AS y",
    "behind a comment": "A sql /**/ ATTACH '/tmp/x' AS y",
    "behind another statement": "A sql SELECT 1; ATTACH '/tmp/x' AS y",
    "behind a trigger": "A sql CREATE TRIGGER r AFTER INSERT ON t0 BEGIN SELECT 1; END; "
    "ATTACH '/tmp/x' AS y; SELECT 1 AS end",
    "behind BEGIN": "A begin ; ATTACH '/tmp/x' AS y",
    "in a race": "* race immediate;attach 2 0.1 1",
    "a copy": "A sql VACUUM INTO '/tmp/x'",
    "a copy of main": "A sql VACUUM main INTO '/tmp/x'",
    "a folder": "A sql PRAGMA temp_store_directory = '/tmp'",
    "another folder": "A sql pragma Data_Store_Directory('/tmp')",
    "a PRAGMA that nobody knows": "A sql PRAGMA unstable_thing = 1",
    "a path of a PRAGMA": "A sql PRAGMA optimize('/tmp/x')",
    "a table that is a PRAGMA": "A sql SELECT * FROM pragma_temp_store_directory",
    "code": "A sql SELECT load_extension('/tmp/x')",
    "code in quotes": 'A half SELECT "Load_Extension"(\'/tmp/x\')',
    "a file that is written": "A auto INSERT INTO t0(v) VALUES (writefile('x', 1)) RETURNING id",
    "a virtual table": "A sql CREATE VIRTUAL TABLE y USING csv(filename='/tmp/x')",
    "a function of libSQL": "A sql CREATE FUNCTION f LANGUAGE wasm AS 'x'",
    "a statement in a name": 'A sql CREATE TABLE "x; ATTACH \'/tmp/x\' AS y"(v)',
    "a statement in a text": "A sql CREATE TABLE 'x; ATTACH y AS z'(v)",
    "the schema itself": "A sql PRAGMA writable_schema = 1",
    "a quote without end": "A sql SELECT 'x",
    "a long statement": f"A sql SELECT {'1 + ' * 9000} 1",
    "a long race": "* race immediate 32 60 1",
    "two races": "* race immediate 2 0.1 1\n* race immediate 2 0.1 1",
    "thousands of steps": "A sql SELECT 1\n" * 5_000,
    "a thousand sessions": "\n".join(f"A{number} sql SELECT 1" for number in range(900)),
}  # fmt: skip


@pytest.mark.parametrize("steps", REFUSED.values(), ids=REFUSED)
def test_what_reaches_out_of_the_database_is_refused_in_a_sentence(steps: str) -> None:
    for text in (f"{TABLE}\n---\n{steps}", f"{steps.partition(' sql ')[2] or TABLE}\n---\n{steps}"):
        with pytest.raises(ValueError, match=r"\.$") as raised:
            parse_program(text)
        assert len(str(raised.value)) < 500


@pytest.mark.parametrize("text", [
    "VACUUM", "ATTACH ':memory:' AS side", "PRAGMA wal_checkpoint(TRUNCATE)", "ANALYZE;",
    "CREATE TEMP TRIGGER r AFTER UPDATE ON t0 BEGIN INSERT INTO y(v) VALUES (new.v); END",
    "CREATE UNIQUE INDEX i ON t0(v) WHERE v > 2", "INSERT INTO side.s VALUES ('attach a; '' b')",
    "SELECT * FROM pragma_table_info('t0')",
])  # fmt: skip
def test_what_stays_in_the_database_is_taken(text: str) -> None:
    text = text.replace(";", "", 1) if "''" in text else text
    assert parse_program(f"{TABLE}\n---\nA sql {text}").steps[0].text == text


def test_what_is_drawn_is_taken(hunter: Hunter) -> None:
    for index in range(300):
        program = hunter.program(index)
        assert parse_program(str(program)) == program


@pytest.fixture(scope="module")
def hunter() -> Iterator[Hunter]:
    made = Hunter("sqlite-latest", ("deferred",), 0)
    yield made
    made.close()


def played(hunter: Hunter, *steps: str, schema: str = TABLE, option: str = "") -> str:
    """What comes of steps that no text is asked whether they are harmless."""
    hunter.tally = hunt.Tally()
    options = ((option, "1"),) if option else ()
    made = hunter.judged(
        Program((schema,), tuple(Step("A", "sql", sql) for sql in steps), options=options)
    )
    return " ".join([made[0].wrong.judge if made else "", *hunter.tally.refused,
                     "unsure" * hunter.tally.unsure]).strip()  # fmt: skip


def test_gigabytes_are_refused_by_the_process_that_plays(hunter: Hunter) -> None:
    assert played(hunter, "SELECT length(zeroblob(20000000))") == "unsure"
    assert played(hunter, "SELECT zeroblob(20000000)", "SELECT 1") == ""
    assert hunter.last is not None
    assert hunter.last.results[0].message.startswith("its answer has 20,000,")
    assert hunter.last.results[0].rows is None


def test_an_option_that_no_engine_declares_opens_nothing(hunter: Hunter) -> None:
    said = played(hunter, "SELECT 1", option="temp_store_directory")
    assert said == "sqlite-latest declares no option temp_store_directory"


@pytest.mark.slow
def test_what_never_ends_is_ended(hunter: Hunter) -> None:
    assert played(hunter, f"{FOREVER} SELECT count(*) FROM c") == "hang"
    endless = f"CREATE TABLE t0 AS {FOREVER} SELECT x FROM c"
    assert "I/O error" in played(hunter, "SELECT 1", schema=endless)


def test_the_reference_ends_and_reaches_no_file(tmp_path: Path) -> None:
    with pytest.raises(TooMuch, match="gave up"):
        first_version((f"CREATE TABLE t0 AS {FOREVER} SELECT max(x) FROM c",))
    BUDGET.renew()
    connection = limited(reference_library().Connection(":memory:"))
    for sql in (f"ATTACH '{tmp_path}/x' AS y", f"VACUUM INTO '{tmp_path}/x'",
                f"SELECT load_extension('{tmp_path}/x')"):  # fmt: skip
        made = reference._read(connection, sql)
        assert isinstance(made, Exception), sql
    assert list(tmp_path.iterdir()) == []


def test_nothing_that_lies_in_a_finding_is_run(tmp_path: Path, cwkit: Cwkit) -> None:
    """Neither by --replay nor by --publish: its script, and whatever its texts say."""
    copy = tmp_path / "20261126-060248-fuzz-x"
    finding = copy / "findings" / "rows-12345678"
    shutil.copytree(next(path for path in findings_in(FINDINGS)), finding)
    trap = f"open({str(tmp_path / 'run')!r}, 'w')\nraise SystemExit(1)\n"
    for name in (REPRO, "engine.py", "sitecustomize.py", "sqlite3.py"):
        (finding / name).write_text(trap)
        (copy / name).write_text(trap)
    kept = json.loads((finding / FINDING).read_text())
    kept |= {"engine": f"{finding}/engine.py:X", "method": REPRO, "modes": ["deferred", "x; y"]}
    (finding / FINDING).write_text(json.dumps(kept))
    (finding / PROGRAM).write_text(f"{TABLE}\n---\nA sql SELECT 1\n")
    (copy / "hunt.json").write_text(json.dumps({"cwkit": 1, "engine": kept["engine"]}))
    assert [one.state for one in replay(copy, "sqlite")] == ["not there"]
    (finding / PROGRAM).write_text(f"{TABLE}\n---\nA sql ATTACH '{tmp_path}/run' AS x\n")
    for way in (["--replay", copy], ["--publish", copy, "--published", tmp_path / "published"]):
        done = cwkit("fuzz", *way, cwd=copy)
        assert done.returncode == 2
        assert "ATTACH takes ':memory:' AS NAME" in done.stderr
    assert not (tmp_path / "run").exists()
