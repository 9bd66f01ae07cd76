"""What faults did to a run: told as what was asked, and never taken for the machine's trouble."""

import numpy as np
import pytest

from workloads.engines import find_engine
from workloads.errors import EngineMissing, PlanError
from workloads.processes import Hit, fault_library, parse_rule
from workloads.records import attempts as rec
from workloads.runs.conduct import run
from workloads.runs.fault_effects import KILLED, entries, fault_sentence, killed, went_on
from workloads.runs.plan import make_plan
from workloads.runs.test_trouble import DONE, IO, worker
from workloads.runs.trouble import beyond_faults, troubles

MS = 1_000_000
GROUPS = [(0,), (1,)]
RULES = [parse_rule("sync:*-wal:5:EIO")]


def writer(number, *attempts):
    """Each attempt: (start, begun, worked, end, outcome, words), ms; 0: it did not come so far."""
    messages = tuple(dict.fromkeys(words for *_, words in attempts if words))
    rows = np.zeros(len(attempts), rec.ATTEMPT)
    for row, (start, begun, worked, end, outcome, words) in zip(rows, attempts, strict=True):
        row["start_ns"], row["begun_ns"], row["worked_ns"] = start * MS, begun * MS, worked * MS
        row["end_ns"], row["outcome"] = end * MS, outcome
        row["message"] = messages.index(words) + 1 if words else 0
    made = worker({DONE: 0}, number=number)
    return rec.WorkerRecord(number, "writer", number, "e", "", rec.Rows(rows), messages, made.entry)


def test_a_fault_is_told_with_the_attempt_that_it_struck_and_how_long_others_waited():
    struck = writer(
        0, (1, 2, 3, 9, rec.UNKNOWN, "disk I/O error"), (10, 11, 12, 13, rec.COMMITTED, "")
    )
    other = writer(1, (4, 30, 31, 32, rec.COMMITTED, ""))
    hits = [Hit(0, 5 * MS, 0, 77)]
    (entry,) = entries(RULES, [9], [1], hits, [struck, other], GROUPS)
    assert fault_sentence(entry) == (
        'fault sync:*-wal:5:EIO: fired 1 time, at writer 0\'s COMMIT; it got "disk I/O error"'
    )
    assert entry.longest_block_ns == 27 * MS


@pytest.mark.parametrize(
    ("at_ms", "said"),
    [(1.5, "writer 0's BEGIN"), (2.5, "writer 0's statement"), (20, "between attempts")],
)
def test_where_a_fault_struck_is_told_by_the_times_of_the_attempt(at_ms, said):
    struck = writer(0, (1, 2, 3, 9, rec.FAILED, "no"))
    (entry,) = entries(RULES, [9], [1], [Hit(0, int(at_ms * MS), 0, 77)], [struck], GROUPS)
    assert said in fault_sentence(entry)


def test_threads_of_one_process_die_together_and_the_one_that_did_not_commit_was_struck():
    rules = [parse_rule("sync:*:1:kill-after")]
    hits = [Hit(0, 5 * MS, 0, 77)]
    threads = [
        writer(0, (1, 2, 3, 9, rec.COMMITTED, "")), writer(1, (1, 2, 3, 0, rec.UNKNOWN, "")),
    ]  # fmt: skip
    assert killed(rules, hits, [(0, 1)]) == {0, 1} and killed(RULES, hits, [(0, 1)]) == set()
    (entry,) = entries(rules, [1], [1], hits, threads, [(0, 1)])
    assert fault_sentence(entry).endswith("at writer 1's transaction, which never ended")


def test_those_who_are_left_must_go_on_within_the_busy_timeout():
    hits = [Hit(0, 5 * MS, 0, 77)]
    limits = {"stop_ns": 30_000 * MS, "patience_ns": 1_000 * MS}
    soon = [writer(0), writer(1, (1, 2, 3, 400, rec.COMMITTED, ""))]
    late = [writer(0), writer(1, (1, 2, 3, 20_000, rec.COMMITTED, ""))]
    for writers, well in ((soon, True), (late, False), ([writer(0), writer(1)], False)):
        found = went_on(RULES, hits, writers, GROUPS, **limits)
        assert found is not None and found.ok == well
    limits["stop_ns"] = 900 * MS
    assert went_on(RULES, hits, [writer(0), writer(1)], GROUPS, **limits) is None


def test_errors_beyond_those_that_were_asked_for_stay_a_trouble():
    found = troubles([worker({DONE: 50, IO: 3})])
    assert not beyond_faults(found, 4)
    (left,) = beyond_faults(found, 2)
    assert (
        left.sentence.endswith("it did not get over them.") and "system's log" not in left.sentence
    )
    assert beyond_faults(found, 0) == found  # a fault that only stops or kills explains none


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"database": "null"}, "null writes no file"),
        ({"database": "postgres"}, "postgres has its files in a server"),
        ({"database": "turso", "fault": "sync:*:1:EIO@0"}, "are threads of one process here"),
        ({"database": "sqlite", "fault": "sync:*:1:EIO@9"}, "there is no worker 9"),
        ({"database": "sqlite", "fault": "sync:a\nb:1:EIO"}, "FILE is a pattern"),
    ],
)
def test_a_fault_that_cannot_be_is_one_sentence(given, why):
    plan = {"fault": "sync:*:1:EIO", "scenario": "ledger", "writers": 2} | given
    if missing := find_engine(plan["database"]).missing():
        pytest.skip(missing)
    with pytest.raises(PlanError, match=why):
        make_plan(**plan)


# --- real runs --------------------------------------------------------------------------------


def faulted(folder, **given):
    try:
        fault_library()
    except EngineMissing as reason:
        pytest.skip(str(reason))
    values = {
        "scenario": "ledger", "database": "sqlite", "synchronous": "full", "writers": 2,
        "readers": 0, "transactions": 20, "duration_s": 60,
    }  # fmt: skip
    try:
        return run(make_plan(**values | given), folder)
    except EngineMissing as missing:
        pytest.skip(str(missing))


def broken(made):
    return {finding.check for finding in made.manifest.findings if not finding.ok}


def test_a_worker_that_a_fault_kills_is_no_trouble_and_the_others_end_their_work(tmp_path):
    made = faulted(tmp_path, fault="sync:*-wal:5:kill@1")
    assert made.manifest.ok and made.manifest.ended == "transactions", made.manifest
    assert [w.entry.state for w in made.workers] == ["finished", KILLED]
    assert made.manifest.faults[0].hits[0].number == 1
    assert int((made.workers[0].attempts["outcome"] == rec.COMMITTED).sum()) == 20


@pytest.mark.slow
def test_an_injected_error_is_no_trouble_of_the_disk(tmp_path):
    made = faulted(tmp_path, fault="sync:*-wal:5:EIO")
    assert made.manifest.ok and not made.manifest.troubles
    assert made.manifest.faults[0].hits[0].message == "disk I/O error"
    assert {f.check for f in made.manifest.findings} >= {"going on", "refused postings"}


@pytest.mark.slow
def test_all_workers_may_be_killed(tmp_path):
    made = faulted(tmp_path, fault="write:*-wal:20+:kill")
    assert made.manifest.ok and made.manifest.ended == "killed by faults"


@pytest.mark.slow
def test_turso_keeps_what_it_refused(tmp_path):
    """As pyturso 0.8.3 does; noticed when a version mends it."""
    made = faulted(tmp_path, database="turso", fault="sync:*-log:5:EIO")
    assert broken(made) == {"refused postings"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("engine", "given", "check"),
    [
        ("faulty-refuses-and-keeps", {"fault": None}, "refused postings"),
        (
            "faulty-keeps-its-lock",
            {"fault": "sync:*-wal:5:EIO", "busy_timeout_ms": 100, "duration_s": 4,
             "transactions": None, "warmup_s": 0},
            "going on",
        ),
        ("faulty-early-ack", {"fault": "write:*-wal:20:kill"}, "acknowledged postings"),
    ],
)  # fmt: skip
def test_a_broken_engine_is_caught_by_name(tmp_path, engine, given, check):
    assert check in broken(faulted(tmp_path, database=engine, **given))


@pytest.mark.slow
def test_a_bridges_program_inherits_its_workers_faults(tmp_path):
    from workloads.engines import trust

    name = "examples/bridges/engines.py:Python"
    trust(name)
    made = faulted(tmp_path, database=name, fault="sync:*-wal:5:kill@1")
    assert made.manifest.ok and made.workers[1].entry.state == KILLED, made.manifest
