"""What is known of engines under faults: each is seen still, and nothing else is taken for it.

Where a test fails that says `mended`, the engine has mended it: tell that, and delete it here.
"""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from properties.hunter.folder import tried
from properties.known_faults import CUT_SHORT, KNOWN, Seen, known_fault, recognised
from workloads.engines import find_engine
from workloads.errors import EngineMissing
from workloads.files import ROOT
from workloads.processes import fault_library
from workloads.runs import Plan, make_plan, run

FOLDER = ROOT / "examples" / "findings"
SCRIPTS = sorted(FOLDER.glob("*.py"))


def plan(database: str = "turso", **given: object) -> Plan:
    values = {"scenario": "ledger", "begin": "deferred", "transactions": 60, "duration_s": 30}
    return make_plan(database=database, warmup_s=0, **values | given)


TURSO = ("pyturso 0.8.3", "3.50.4")
LIBSQL = ("libsql-experimental 0.0.55", "3.45.1")
PLAN = plan("sqlite", checkpointers=1)
KEPT = Seen("doubled", "x", *TURSO, PLAN, fired=("sync:*-log:4:EIO",), words=("sync: no",))
SHORT = Seen("not checked", f"turso: {CUT_SHORT}", *TURSO, PLAN, ended=True)
FLIP = Seen("death", "bit 7 of byte 53 of the database: took its process down (6)", *TURSO,
            PLAN)  # fmt: skip
RACE = Seen("lost", "1 is gone", *LIBSQL, PLAN)
NAMES = {
    "a refused COMMIT that is kept": KEPT,
    "a checkpoint cut short": SHORT,
    "an abort by a bit of the header": FLIP,
    "SQLite's WAL-reset race": RACE,
}
NEARLY: dict[str, Seen] = {
    "a write of the log failed, no sync": KEPT._replace(fired=("write:*-log:4:EIO",)),
    "the sync did not fail, it was slow": KEPT._replace(fired=("sync:*-log:4+:slow=5ms",)),
    "COMMIT said something else of another one": KEPT._replace(words=("sync: no", "pwrite: no")),
    "nobody knows what COMMIT said": KEPT._replace(words=()),
    "a commit that is gone": KEPT._replace(kind="lost"),
    "another engine that keeps it": KEPT._replace(binding="sqlite3 of Python 3.11.7"),
    "another version of Turso": KEPT._replace(binding="pyturso 0.8.30"),
    "no process ended, and it does not open": SHORT._replace(ended=False),
    "it does not open for another reason": SHORT._replace(sentence="turso: file is not a database"),
    "a bit of a page": FLIP._replace(sentence=FLIP.sentence.replace("byte 53", "byte 5,353")),
    "nobody checkpoints": RACE._replace(plan=plan("sqlite")),
    "a fault struck": RACE._replace(fired=("write:*-wal:4:EIO",)),
    "a process was killed": RACE._replace(ended=True),
    "a refused transaction that is there": RACE._replace(kind="doubled"),
    "errors of another kind": RACE._replace(kind="trouble", sentence="disk I/O error"),
    "a version without the race": RACE._replace(binding="apsw 3.54.1.0, its wheel",
                                                version="3.54.1"),
    "the first version without it": RACE._replace(binding="apsw 3.51.3.0", version="3.51.3"),
    "Turso, which has a version of SQLite's": RACE._replace(binding=TURSO[0], version=TURSO[1]),
    "a faulty engine": RACE._replace(binding="faulty-lost-commit over sqlite3 of Python 3.11.7"),
}  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_what_is_known_has_its_name(name: str) -> None:
    assert recognised(NAMES[name]) == name
    bug = known_fault(name)
    assert bug is not None and {one.name for one in KNOWN} == NAMES.keys()
    assert shlex.split(bug.command)[0] == "cwkit"


@pytest.mark.parametrize(
    ("kind", "sentence"),
    [("lost", "1"), ("torn", "1"), ("integrity", "1"),
     ("trouble", "9 attempts: database disk image is malformed")],
)  # fmt: skip
def test_the_race_shows_in_many_ways(kind: str, sentence: str) -> None:
    assert recognised(RACE._replace(kind=kind, sentence=sentence)) == "SQLite's WAL-reset race"


@pytest.mark.parametrize("name", NEARLY)
def test_what_only_looks_like_it_is_new(name: str) -> None:
    assert recognised(NEARLY[name]) == ""


@pytest.mark.parametrize(
    ("version", "has"),
    [("3.7.0", True), ("3.40.1", True), ("3.50.4", True), ("3.51.2", True), ("3.51", False),
     ("3.51.3", False), ("3.51.20", False), ("3.52.0", False), ("3.6.23", False)],
)  # fmt: skip
def test_the_race_is_in_the_versions_that_sqlite_names(version: str, has: bool) -> None:
    for binding in ("sqlite3 of Python 3.11.7", "apsw 3.51.2.0", "libsql 0.1.11"):
        assert bool(recognised(RACE._replace(binding=binding, version=version))) is has


def test_each_script_is_one_of_a_known_deviation_and_is_listed() -> None:
    assert {one.script for one in KNOWN if one.script} == {path.name for path in SCRIPTS}
    listed = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert all(f"`{path.name}`" in listed for path in SCRIPTS)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_a_script_shows_it_on_turso_and_not_on_sqlite(script: Path) -> None:
    engine = find_engine("turso")
    if why := engine.missing():
        pytest.skip(why)
    have = f"{engine.identity().binding}, {engine.identity().version}"
    bug = next(one for one in KNOWN if one.script == script.name)
    if not re.search(bug.versions, have):
        pytest.skip(f"it was seen in {bug.versions}, and {have} is here")
    made = engine.script()  # type: ignore[attr-defined]
    if tried(script, made, 1, status=2):
        pytest.skip(f"{script.name} cannot tell it here")
    assert tried(script, made, 1), f"mended: {bug.name}"
    assert tried(script, made._replace(argv=["sqlite3"]), 1, status=0)


@pytest.mark.parametrize("engine", ["turso", "sqlite"])
def test_a_checkpoint_that_a_crash_cuts_short_is_turso_s_alone(tmp_path: Path, engine: str) -> None:
    try:
        fault_library()
    except EngineMissing as reason:
        pytest.skip(str(reason))
    if why := find_engine(engine).missing():
        pytest.skip(why)
    made = run(
        plan(engine, writers=2, checkpointers=1, checkpoint="truncate", checkpoint_pause_ms=5,
             synchronous="full", fault="truncate:*-wal:1:kill"),
        tmp_path,
    )  # fmt: skip
    assert [one.fired for one in made.manifest.faults] == [1]
    said = [one.sentence for one in made.manifest.findings if not one.ok]
    assert any(CUT_SHORT in text for text in said) is (engine == "turso"), f"mended? {said}"
    # What does not open is broken: it is not only that nobody could look.
    assert all(one.checked for one in made.manifest.findings)
    assert engine == "turso" or made.manifest.ok
