"""Each invariant of register, ingest and queue holds after a sound run and breaks when harmed.

A short real run is made once for each shape. Then its database or a worker's record is harmed in
one place, and the check must name it. A check that stays silent then could find no fault with an
engine either.
"""

import shutil
import sqlite3
from dataclasses import replace

import pytest

from workloads.engines import find_engine
from workloads.records import attempts as rec
from workloads.runs import context_of, make_plan, run
from workloads.scenarios.scenario import RunLog, find_scenario

SHAPES = {
    "register mixed": {
        "scenario": "register",
        "params": {
            "rows": 60,
            "mix": "update=40,insert=20,read-modify-write=40",
            "record_bytes": 10,
        },
    },
    "register long": {
        "scenario": "register",
        "params": {"rows": 60, "mix": "F", "operations": 4, "record_bytes": 10},
    },
    "ingest": {"scenario": "ingest", "params": {"rows": 20, "operations": 3, "record_bytes": 10}},
    "ingest random": {
        "scenario": "ingest",
        "params": {"rows": 20, "ids": "random", "index": True, "record_bytes": 10},
    },
    "queue": {"scenario": "queue", "params": {"rows": 30, "record_bytes": 10}},
}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Plan and run of each shape, made once for this module."""
    runs = {}

    def of(shape):
        if shape not in runs:
            plan = make_plan(
                database="sqlite",
                writers=2,
                transactions=80,
                duration_s=60,
                warmup_s=0,
                seed=3,
                **SHAPES[shape],
            )
            folder = tmp_path_factory.mktemp("runs")
            runs[shape] = plan, run(plan, folder, keep_database=True)
        return runs[shape]

    return of


def findings(plan, workers, database):
    scenario = find_scenario(plan.scenario)(plan.shape())
    session = find_engine("sqlite").connect(str(database))
    try:
        log = RunLog(scenario, workers, lambda worker: context_of(plan, worker.worker))
        return {finding.check: finding for finding in scenario.check(session, log)}
    finally:
        session.close()


@pytest.mark.parametrize("shape", list(SHAPES))
def test_a_sound_run_holds_every_invariant(made, shape):
    _plan, recorded = made(shape)
    assert recorded.manifest.ok, recorded.manifest.findings
    assert len(recorded.manifest.findings) >= 2


HARM = {
    "a row lost": ("register mixed", "DELETE FROM register WHERE id = 7", "rows", "[7]"),
    "an insert lost": (
        "register mixed",
        "DELETE FROM register WHERE id = (SELECT max(id) FROM register)",
        "rows",
        "lost",
    ),
    "a row nobody wrote": (
        "register mixed",
        "INSERT INTO register VALUES (100000, 0, '0.1|x')",
        "rows",
        "100000",
    ),
    "an update undone": (
        "register mixed",
        (
            "UPDATE register SET value = 'load|x' WHERE id IN (SELECT id FROM register "
            "WHERE value NOT LIKE 'load%' AND id < 60 LIMIT 1)"
        ),
        "values",
        "the loaded value",
    ),
    "an older value": (
        "register long",
        "UPDATE register SET value = '0.0|x' WHERE version > 5",
        "values",
        "worker 0's transaction 0",
    ),
    "a value nobody wrote": (
        "register long",
        "UPDATE register SET value = '9.9|x' WHERE id = 3",
        "values",
        "was not acknowledged",
    ),
    "a lost increment": (
        "register mixed",
        (
            "UPDATE register SET version = version - 1 WHERE id = "
            "(SELECT id FROM register WHERE version > 0 LIMIT 1)"
        ),
        "lost updates",
        "is at version",
    ),
    "an event lost": ("ingest", "DELETE FROM event WHERE worker = 1 AND n = 5", "events", "lost"),
    "a loaded event lost": (
        "ingest",
        "DELETE FROM event WHERE worker = -1 AND n = 2",
        "events",
        "loaded event 2",
    ),
    "an event twice": (
        "ingest random",
        "INSERT INTO event SELECT 5, worker, n, tag, body FROM event WHERE worker = 0 AND n = 1",
        "events",
        "twice",
    ),
    "an event nobody wrote": (
        "ingest random",
        "INSERT INTO event VALUES (5, 1, 99999, 0, '')",
        "events",
        "not acknowledged",
    ),
    "a claim lost": (
        "queue",
        "UPDATE job SET state = 0, worker = -1, claims = 0 WHERE id = 1",
        "acknowledged changes",
        "job 1",
    ),
    "a claim by another": (
        "queue",
        "UPDATE job SET worker = 7 WHERE id = 2",
        "acknowledged changes",
        "shows worker 7",
    ),
    "a finish undone": (
        "queue",
        "UPDATE job SET state = 1 WHERE id = 1",
        "acknowledged changes",
        "job 1 was finished and is not",
    ),
    "a job claimed twice": (
        "queue",
        "UPDATE job SET claims = 2 WHERE id = 3",
        "claimed once",
        "job 3 counts 2",
    ),
    "a new job lost": (
        "queue",
        "DELETE FROM job WHERE id = (SELECT max(id) FROM job)",
        "counts",
        "were put",
    ),
}


@pytest.mark.parametrize("harm", list(HARM))
def test_harm_to_the_database_is_named(made, tmp_path, harm):
    shape, statement, check, pattern = HARM[harm]
    plan, recorded = made(shape)
    database = tmp_path / "harmed.db"
    for path in recorded.folder.glob("database.db*"):
        shutil.copyfile(path, tmp_path / path.name.replace("database.db", "harmed.db"))
    assert all(finding.ok for finding in findings(plan, recorded.workers, database).values())
    connection = sqlite3.connect(database)
    assert connection.execute(statement).rowcount > 0
    connection.commit()
    connection.close()
    found = findings(plan, recorded.workers, database)[check]
    assert not found.ok
    assert pattern in found.sentence


def changed(worker, kind, outcome, count=1):
    """The worker's record with another outcome for its last `count` commits of a kind."""
    attempts = worker.attempts.copy()
    hits = (attempts["kind"] == kind) & (attempts["outcome"] == rec.COMMITTED)
    chosen = hits.nonzero()[0][-count:]
    assert len(chosen) == count
    attempts["outcome"][chosen] = outcome
    return replace(worker, rows=rec.Rows(attempts))


RECORDED = {"register mixed": (1, 4), "ingest": (0,), "queue": (0, 1)}


@pytest.mark.parametrize("shape", list(RECORDED))
def test_a_commit_of_unknown_outcome_is_allowed_for_and_a_failed_one_is_not(made, shape):
    """A write recorded as unknown may be there; recorded as failed it must not be."""
    plan, recorded = made(shape)
    database = recorded.folder / "database.db"
    for kind in RECORDED[shape]:
        unknown = [changed(recorded.workers[0], kind, rec.UNKNOWN), *recorded.workers[1:]]
        held = findings(plan, unknown, database)
        assert all(f.ok for f in held.values()), [f.sentence for f in held.values() if not f.ok]
        # All of them: a single blind update may have been overwritten since, and prove nothing.
        attempts = recorded.workers[0].attempts
        count = int(((attempts["kind"] == kind) & (attempts["outcome"] == rec.COMMITTED)).sum())
        failed = [changed(recorded.workers[0], kind, rec.FAILED, count), *recorded.workers[1:]]
        assert not all(f.ok for f in findings(plan, failed, database).values())


@pytest.mark.parametrize("mix", ["G", "reed=5", "read=x", "read=-1", "read=0", ""])
def test_a_mix_that_is_none_is_one_sentence(mix):
    with pytest.raises(ValueError, match="mix") as caught:
        make_plan(scenario="register", params={"mix": mix})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("mix", "keys"), [("A", "zipfian:0.99"), ("d", "latest"), ("C", None)])
def test_ycsb_brings_its_own_keys_unless_told(mix, keys):
    given = {"mix": mix} if keys else {"mix": mix, "keys": "uniform"}
    shape = make_plan(scenario="register", params=given).shape()
    assert shape.keys == (keys or "uniform")


def test_the_latest_keys_are_the_newest_rows():
    plan = make_plan(scenario="register", params={"mix": "D", "rows": 1000})
    draw = find_scenario("register")(plan.shape()).draw(context_of(plan, 0))
    steps = [draw().args for _ in range(4000)]
    inserted = [key for operation, key, *_ in steps if operation == 2]
    assert inserted == sorted(set(inserted))
    reads = [key for operation, key, *_ in steps if operation == 0]
    assert sum(key in set(inserted) or key >= 900 for key in reads) > 0.5 * len(reads)
    assert max(reads) <= max(inserted)
