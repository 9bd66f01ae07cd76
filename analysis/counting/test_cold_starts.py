"""The start of all workers is told: who made the schema, what was refused, what is doubtful."""

from __future__ import annotations

import pytest

from analysis.cli.documents import run_document
from analysis.cli.run_summary import summary_lines
from analysis.counting.cold_starts import cold_start_lines
from workloads.records import ColdStart, Run, StartRefusal, WorkerEntry
from workloads.runs import make_plan, run


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Run:
    plan = make_plan(
        scenario="counter", database="sqlite", writers=1, readers=1, transactions=5, cold_start=True
    )
    return run(plan, tmp_path_factory.mktemp("cold"))


def changed(made: Run, *workers: WorkerEntry) -> Run:
    manifest = made.manifest.model_copy(update={"workers": list(workers)})
    return Run(made.folder, manifest, made.workers)


def test_the_start_is_shown_and_in_the_document(made: Run) -> None:
    text = " ".join(" ".join(summary_lines(made)).split())
    assert "2 workers opened a file that did not exist, at once; the schema was made by" in text
    assert "open, cold" in text and "2 were ready after" in text
    found = run_document(made)["cold_start"]
    assert found["workers"] == found["ready"] == 2 and len(found["ready_ns"]) == 2
    assert cold_start_lines(made)[1] == []


def test_what_was_refused_is_told_in_the_engines_words(made: Run) -> None:
    first, other = made.manifest.workers
    refused = StartRefusal(
        at="PRAGMA journal_mode", message="database is locked", outcome="conflict", times=3
    )
    start = ColdStart(tries=4, refused=(refused,))
    # What the other one really met on this machine is not asked here.
    other = other.model_copy(update={"start": ColdStart(tries=1)})
    run = changed(made, first.model_copy(update={"start": start}), other)
    lines, _ = cold_start_lines(run)
    assert "PRAGMA journal_mode: 3 times conflict at 1 worker: database is locked" in lines
    told = run_document(run)["cold_start"]["refused"]
    assert (told[0]["worker"], told[0]["times"]) == (0, 3)


def test_two_that_made_the_schema_are_a_doubt(made: Run) -> None:
    both = [
        entry.model_copy(update={"start": ColdStart(created=True, ready_ns=9)})
        for entry in made.manifest.workers
    ]
    (doubt,) = cold_start_lines(changed(made, *both))[1]
    assert doubt.startswith("2 workers found no schema and committed one")


def test_a_journal_mode_that_was_refused_and_not_told_is_a_doubt(made: Run) -> None:
    first, other = made.manifest.workers
    told = first.model_copy(update={"pragmas": first.pragmas | {"journal_mode": "delete"}})
    plan = made.manifest.plan.model_copy(update={"journal_mode": "wal"})
    run = changed(made, told, other)
    run.manifest.plan = plan
    (doubt,) = cold_start_lines(run)[1]
    assert doubt.startswith("Not all workers have journal mode wal: 1 in delete.")
