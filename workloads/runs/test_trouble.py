"""Runs that are not well say so, and runs that are well do not: by their rows, and by real runs."""

import numpy as np
import pytest

from workloads.engines import find_engine, trust
from workloads.engines.test_registry import written
from workloads.records import Manifest, RecordedPlan, TroubleEntry, Window, WorkerEntry
from workloads.records import attempts as rec
from workloads.runs.conduct import run
from workloads.runs.plan import make_plan
from workloads.runs.trouble import MANY_AT_LEAST, MANY_SHARE, disk_trouble, many, troubles, why_not


def worker(counts, role="writer", number=0, state="finished"):
    """A worker's record: `counts` attempts of each (outcome, conflict or cause, phase, words)."""
    messages = tuple(dict.fromkeys(message for *_, message in counts if message))
    rows = []
    for (outcome, conflict, phase, message), times in counts.items():
        one = np.zeros(times, rec.ATTEMPT)
        one["start_ns"] = one["begun_ns"] = one["end_ns"] = 1
        one["worked_ns"] = outcome == rec.COMMITTED or phase == rec.COMMIT
        one["outcome"], one["conflict"], one["phase"] = outcome, conflict, phase
        one["message"] = messages.index(message) + 1 if message else 0
        rows.append(one)
    entry = WorkerEntry(worker=number, role=role, number=number, engine="e", begin="", state=state)
    return rec.WorkerRecord(
        number, role, number, "e", "", rec.Rows(np.concatenate(rows)), messages, entry
    )


DONE = (rec.COMMITTED, 0, 0, "")
BUSY = (rec.CONFLICT, rec.BUSY, rec.BEGIN, "database is locked")
OPEN = (rec.UNKNOWN, 0, 0, "")  # a killed worker's last one
FULL = (rec.FAILED, rec.FULL, rec.STATEMENT, "database or disk is full")
IO = (rec.UNKNOWN, rec.IO, rec.COMMIT, "disk I/O error")
LIMIT = (rec.FAILED, rec.LIMIT, rec.STATEMENT, "string or blob too big")
UNIQUE = (rec.FAILED, 0, rec.STATEMENT, "UNIQUE constraint failed")
BROKEN = (rec.FAILED, 0, rec.STATEMENT, "")  # an invariant broke in it
PROGRESS = (rec.FAILED, 0, rec.COMMIT, "SQL statements in progress")

WELL = {
    "all committed": {DONE: 100},
    "half of them conflicts": {DONE: 50, BUSY: 50},
    "nothing but conflicts": {BUSY: 1_000},
    "a killed worker": {DONE: 5, OPEN: 1},
    "an invariant that broke": {DONE: 1, BROKEN: 1},
    "few failures of many": {DONE: 10_000, UNIQUE: 100},
    "an accident": {DONE: 95, UNIQUE: 5},
    "no attempt at all": {},
}


@pytest.mark.parametrize("case", WELL)
def test_a_run_that_is_well_is_in_no_trouble(case):
    counts = WELL[case] or {DONE: 0}
    assert troubles([worker(counts)]) == []


TROUBLE = {
    "one full disk of many": ({DONE: 1_000_000, FULL: 1}, ["full"]),
    "one I/O error at COMMIT": ({DONE: 1_000, IO: 1}, ["io"]),
    "one limit": ({DONE: 1_000, LIMIT: 1}, ["limit"]),
    "more than one in a hundred failed": ({DONE: 10_000, UNIQUE: 102}, ["failed"]),
    "three of twelve failed": ({DONE: 9, UNIQUE: 3}, ["failed"]),
    "all failed": ({UNIQUE: 1}, ["failed"]),
    "refused COMMITs": ({DONE: 85, PROGRESS: 174}, ["commits"]),
    # They are few among the attempts, because nearly all are refused at BEGIN.
    "refused COMMITs behind many conflicts": ({DONE: 85, PROGRESS: 174, BUSY: 10**6}, ["commits"]),
    "few of each, many together": ({DONE: 1_000, UNIQUE: 8, PROGRESS: 8}, ["failed"]),
    "everything": (
        {DONE: 9, UNIQUE: 99, PROGRESS: 99, LIMIT: 1, IO: 1, FULL: 1},
        ["full", "io", "limit", "commits", "failed"],
    ),
}


@pytest.mark.parametrize("case", TROUBLE)
def test_trouble_is_named_the_gravest_first(case):
    counts, kinds = TROUBLE[case]
    assert [one.kind for one in troubles([worker(counts)])] == kinds


def test_the_bounds_of_many_are_those_that_are_documented():
    some = round(MANY_SHARE * 10_000)
    assert not many(some, 10_000)
    assert many(some + 1, 10_000)
    assert not many(MANY_AT_LEAST - 1, 500)
    assert many(MANY_AT_LEAST, 500)
    assert not many(0, 0)


def test_roles_are_told_apart_and_checkpointers_count():
    passive = (rec.FAILED, 0, rec.STATEMENT, "PASSIVE checkpoint requires a flag")
    found = troubles(
        [
            worker({DONE: 1_000}),
            worker({DONE: 1_000, UNIQUE: 20}, "reader", 1),
            worker({passive: 9_671}, "checkpointer", 2),
        ]
    )
    why = "failed, and not for a conflict"
    assert [one.sentence for one in found] == [
        f"20 of 1,020 attempts of the readers {why}: UNIQUE constraint failed.",
        f"9,671 of 9,671 checkpoints {why}: PASSIVE checkpoint requires a flag.",
    ]


def test_the_most_frequent_words_are_told_with_their_numbers():
    counts = {(rec.FAILED, 0, rec.STATEMENT, f"no {n}"): n for n in range(1, 6)}
    (found,) = troubles([worker(counts)])
    assert found.sentence.endswith("no 5 (5); no 4 (4); no 3 (3); ….")


def test_what_could_not_be_recorded_comes_first():
    found = troubles([worker({FULL: 1}), worker({DONE: 1}, "writer", 1, state="could not record")])
    assert [one.kind for one in found] == ["recording", "full"]
    assert "writer 1" in found[0].sentence and "--runs" in found[0].sentence


def test_what_is_the_disks_says_nothing_of_the_engine():
    def manifest_with(*kinds):
        return Manifest(
            run="r",
            plan=RecordedPlan(scenario="counter", database="null"),
            workers=[],
            window=Window(measure_ns=0, stop_ns=0),
            troubles=[TroubleEntry(kind=kind, sentence="so it was") for kind in kinds],
        )

    assert disk_trouble(manifest_with()) == ""
    assert why_not(manifest_with()) == ["duration"]
    for kind, nothing in (("full", True), ("io", True), ("recording", True), ("commits", False)):
        assert bool(disk_trouble(manifest_with(kind))) is nothing
        assert why_not(manifest_with(kind)) == ["so it was"]


# --- real runs --------------------------------------------------------------------------------

CARELESS = """
    from workloads.engines import find_engine

    class Careless(type(find_engine("sqlite-concurrent"))):
        '''Leaves a cursor open at every COMMIT but the first few, as careless programs do.'''

        def connect(self, path, **how):
            session = super().connect(path, **how)
            real, left, times = session.commit, [], [0]

            def commit():
                times[0] += 1
                if times[0] > 5:
                    left.append(session._connection.execute("SELECT * FROM counter"))
                    next(left[-1])
                try:
                    return real()
                finally:
                    left.clear()

            session.commit = commit
            return session
"""


def test_commits_refused_for_no_conflict_are_said_first_and_end_with_status_1(tmp_path, cwkit):
    if why := find_engine("sqlite-concurrent").missing():
        pytest.skip(why)
    path = written(tmp_path / "careless.py", CARELESS)
    argv = ["--scenario", "counter", "--database", "sqlite-concurrent", "--writers", "1"]
    argv += ["--write-engine", f"{path}:Careless", "--begin", "concurrent"]
    done = cwkit("run", *argv, "--transactions", "50", "--runs", tmp_path / "runs")
    assert done.returncode == 1, done.stdout + done.stderr
    out = " ".join(done.stdout.split())
    assert out.startswith("NOT WELL 45 of 50 COMMITs of the writers were refused for a reason")
    assert "SQL statements in progress" in out.partition("Run ")[0]


UNANSWERED = """
    import sqlite3
    from workloads.engines import find_engine

    class Unanswered(type(find_engine("sqlite"))):
        def connect(self, path, **how):
            session = super().connect(path, **how)
            real = session.rows

            def rows(statement, *given):
                if "integrity_check" in statement:
                    raise self.error()
                return real(statement, *given)

            session.rows = rows
            return session

        def error(self):
            return RuntimeError("no such thing here")

    class Broken(Unanswered):
        def error(self):
            return RuntimeError("database disk image is malformed")

    class Unread(Unanswered):
        def error(self):
            error = sqlite3.OperationalError("disk I/O error")
            error.sqlite_errorcode, error.sqlite_errorname = 10, "SQLITE_IOERR"
            return error
"""


@pytest.mark.parametrize(
    ("name", "broken", "unmade"),
    [
        ("Unanswered", [], ["integrity"]),
        ("Broken", ["integrity"], []),
        ("Unread", [], ["database"]),
    ],
)
def test_an_integrity_check_that_was_not_made_is_neither_ok_nor_broken(
    tmp_path, name, broken, unmade
):
    engine = f"{written(tmp_path / 'unanswered.py', UNANSWERED)}:{name}"
    trust(engine)
    plan = make_plan(scenario="counter", database=engine, writers=1, transactions=20)
    manifest = run(plan, tmp_path / "runs").manifest
    assert not manifest.ok
    assert [finding.check for finding in manifest.broken] == broken
    assert [finding.check for finding in manifest.unmade] == unmade


def test_checkpoints_that_all_fail_are_said(tmp_path):
    if why := find_engine("turso").missing():
        pytest.skip(why)
    plan = make_plan(
        scenario="counter", database="turso", writers=1, checkpointers=1, transactions=50
    )
    manifest = run(plan, tmp_path).manifest
    assert not manifest.ok
    sentences = [one.sentence for one in manifest.troubles or ()]
    assert len(sentences) == 1
    assert "checkpoints failed, and not for a conflict: PASSIVE" in sentences[0]


def test_contention_is_no_trouble(tmp_path):
    plan = make_plan(
        scenario="counter",
        database="sqlite",
        writers=3,
        begin="deferred",
        busy_timeout_ms=0,
        params={"rows": 1, "think_us": 500, "think": "sleep"},
        transactions=30,
    )
    made = run(plan, tmp_path)
    rows = np.concatenate([w.attempts for w in made.workers])
    assert (rows["outcome"] == rec.CONFLICT).sum() > 10
    assert made.manifest.troubles == []
    assert made.manifest.ok
