"""Disks that fill, limits that are met: said first, with exit status 1, and what there is is kept.

The disks are real file systems of a few megabytes, one for each command.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from workloads.engines import find_engine
from workloads.engines.test_registry import written
from workloads.experiments import DONE, FAILED, Design, run_experiment
from workloads.files.testing import SmallDisks
from workloads.records import attempts as rec
from workloads.runs.conduct import run
from workloads.runs.plan import make_plan

MIB = 1 << 20
CWKIT = str(Path(sys.executable).parent / "cwkit")


def first(out):
    """The text before the run's own heading, in one line; the heading where there is none."""
    before, _, after = out.partition("Run ")
    return " ".join(before.split()) or "Run " + after.partition("\n")[0]


class Done:
    """A command that has ended, and the one run that it left."""

    def __init__(self, process, runs):
        self.process = process
        self.out = self.process.stdout
        self.first = first(self.out)
        self.why = f"{self.process.returncode}\n{self.out}\n{self.process.stderr}"
        folders = [path for path in runs.iterdir() if path.is_dir()] if runs.exists() else []
        self.folder: Path | None = folders[0] if folders else None

    @property
    def made(self):
        assert self.folder is not None, self.why
        return rec.read_run(self.folder)


@pytest.fixture(scope="module")
def disks():
    made = SmallDisks()
    yield made
    made.close()


@pytest.fixture
def ran(tmp_path, cwkit, request):
    """`cwkit run` with this argv; small : "runs" or "databases", which lies on a disk of `size`."""
    runs, databases, kept = (tmp_path / name for name in ("runs", "databases", "kept"))
    databases.mkdir()

    def run_it(*argv, small=None, size=0):
        command = ["run", *argv, "--runs", str(runs), "--databases", str(databases)]
        if small is None:
            return Done(cwkit(*command), runs)
        disks = request.getfixturevalue("disks")
        done = disks.run(size, {"runs": runs, "databases": databases}[small], kept, command)
        return Done(done, kept if small == "runs" else runs)

    return run_it


# Counted, not timed: how much they write in a time is chance. It is 5 MB, each writer half.
GROWING = ["--scenario", "ingest", "--record-bytes", "4000", "--rows", "10", "--writers", "2"]
GROWING += ["--transactions", "600", "--duration", "60", "--warmup", "0"]


@pytest.mark.parametrize("engine", ["libsql", "sqlite", "sqlite-concurrent", "turso"])
def test_a_disk_that_fills_under_the_database_is_said_first(ran, engine, cwkit):
    if why := find_engine(engine).missing():
        pytest.skip(why)
    argv = [*GROWING, "--database", engine]
    done = ran(*argv, small="databases", size=3 * MIB)
    assert done.process.returncode == 1, done.why
    assert done.first.startswith("NOT WELL "), done.why
    assert "attempts of the writers met a full disk or a full database: " in done.first
    assert "--databases" in done.first
    manifest = done.made.manifest
    assert not manifest.ok
    assert manifest.troubles[0].kind == "full"
    # Nothing is wrong with what is there: the checks say so, and no check cries.
    assert all(finding.ok for finding in manifest.findings), manifest.findings
    shown = cwkit("show", done.folder)
    assert first(shown.stdout) == done.first
    listed = cwkit("list", "--runs", done.folder.parent)
    assert "NOT ok: full disk" in listed.stdout


def test_the_same_run_on_a_disk_with_room_is_well(ran):
    argv = [*GROWING, "--database", "sqlite"]
    done = ran(*argv)
    assert done.process.returncode == 0, done.why
    assert done.first.startswith("Run "), done.why
    assert done.made.manifest.troubles == []


FULL_ENGINE = """
    from workloads.engines.{module} import {base}

    class Small({base}):
        def connect(self, path, *, begin="deferred", settings=None):
            session = super().connect(path, begin=begin, settings=settings)
            session.rows("PRAGMA max_page_count = 200")
            return session
"""


@pytest.mark.parametrize(("module", "base"), [("sqlite", "Sqlite"), ("libsql", "Libsql")])
def test_a_database_that_may_not_grow_is_said_first(ran, tmp_path, module, base):
    path = written(tmp_path / "engine.py", FULL_ENGINE.format(module=module, base=base))
    argv = [*GROWING, "--database", f"{path}:Small"]
    done = ran(*argv)
    assert done.process.returncode == 1, done.why
    assert done.first.endswith(
        "database or disk is full. This run measured a disk that fills: free some space, or "
        "give another folder with --databases."
    ), done.why
    rows = done.made.workers[0].attempts
    assert set(rows["conflict"][rows["outcome"] == rec.FAILED]) == {rec.FULL}


# --- the kit's own records --------------------------------------------------------------------


def recorded(cwkit, done):
    """Assert what holds for each run whose records' disk was full; returns its first text."""
    assert done.process.returncode == 1, done.why
    assert done.first.startswith("NOT WELL What writer 0 did could not be recorded"), done.why
    assert "--runs" in done.first
    made = done.made
    assert made.manifest.ended == "disk full"
    assert not made.manifest.ok
    assert made.workers[0].entry.state == "could not record"
    assert made.workers[0].entry.pragmas != {} or made.workers[0].engine == "null"
    assert (made.workers[0].attempts["outcome"] == rec.COMMITTED).any()
    shown = cwkit("show", done.folder)
    assert first(shown.stdout) == done.first
    return done


def test_a_full_disk_under_the_attempts_keeps_all_that_were_made(ran, cwkit):
    argv = ["--scenario", "counter", "--database", "null", "--writers", "1", "--warmup", "0"]
    done = recorded(cwkit, ran(*argv, "--duration", "60", small="runs", size=8 * MIB))
    # As many whole files of attempts as there was room for.
    attempts = done.made.workers[0].attempts
    assert len(attempts) % rec.SEGMENT_ROWS == 0 < len(attempts)
    assert not (attempts["outcome"] == rec.UNKNOWN).any()


def test_a_full_disk_under_the_history_loses_no_attempt_and_breaks_no_check(ran, cwkit):
    argv = ["--scenario", "append", "--database", "sqlite", "--synchronous", "off"]
    argv += ["--writers", "1", "--warmup", "0", "--duration", "60", "--operations", "50"]
    done = recorded(cwkit, ran(*argv, small="runs", size=5 * MIB))
    findings = {f.check: f for f in done.made.manifest.findings}
    assert findings["elements"].ok, findings


UNHEARD_OF = """
    from itertools import count
    from workloads.scenarios.counter import Counter

    class Loud(Counter):
        name = "loud"

        def bodies(self, context):
            increment, look = super().bodies(context)
            numbers = count()

            def body(args):
                number = next(numbers)
                if number % 2:
                    raise LookupError(str(number) + "." * 20_000)
                return increment(args)

            return body, look
"""


def test_a_full_disk_under_the_engines_words_keeps_the_attempt_that_met_them(ran, tmp_path, cwkit):
    path = written(tmp_path / "loud.py", UNHEARD_OF)
    argv = ["--scenario", f"{path}:Loud", "--database", "sqlite", "--synchronous", "off"]
    argv += ["--writers", "1", "--warmup", "0", "--duration", "60"]
    done = recorded(cwkit, ran(*argv, small="runs", size=5 * MIB))
    rows = done.made.workers[0].attempts
    assert (rows["outcome"][-1], rows["message"][-1]) == (rec.FAILED, rec.NOT_KEPT)
    assert not (rows["outcome"] == rec.UNKNOWN).any()
    findings = {f.check: f for f in done.made.manifest.findings}
    assert findings["integrity"].ok, findings


def test_no_room_for_the_first_attempts_is_said_before_the_run(ran):
    argv = ["--scenario", "counter", "--database", "sqlite", "--writers", "1"]
    done = ran(*argv, small="runs", size=MIB)
    assert done.process.returncode == 2, done.why
    assert done.out == ""
    assert done.process.stderr.strip().splitlines()[-1].startswith("cwkit: ")
    assert "Free some space" in done.process.stderr
    assert done.folder is None


def test_no_room_to_load_the_database_is_said_in_one_sentence(ran):
    argv = ["--scenario", "counter", "--database", "libsql", "--rows", "100000"]
    done = ran(*argv, small="databases", size=2 * MIB)
    assert done.process.returncode == 2, done.why
    (lines,) = [line for line in done.process.stderr.splitlines() if line.startswith("cwkit")]
    assert "or the database, is full" in lines and "(ValueError: database or disk is full)" in lines
    assert "--databases" in lines
    assert done.folder is None


@pytest.mark.parametrize("held_back", [True, False], ids=["held back", "at once"])
def test_a_result_that_the_disk_does_not_take_is_one_sentence(held_back):
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONUNBUFFERED"}
    environment |= {} if held_back else {"PYTHONUNBUFFERED": "1"}
    with Path("/dev/full").open("w", encoding="utf-8") as full:
        done = subprocess.run(
            [CWKIT, "list", "--scenarios"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    lines = [line for line in done.stderr.splitlines() if "killed" not in line]  # of other tests
    assert len(lines) == 1 and lines[0].startswith("cwkit: the disk is full (")


# --- more than one run ------------------------------------------------------------------------

ARM = {"scenario": "ingest", "params": {"record_bytes": 4_000, "rows": 10}, "writers": 1}


@pytest.fixture
def small_engine(tmp_path):
    text = FULL_ENGINE.format(module="sqlite", base="Sqlite")
    return f"{written(tmp_path / 'engine.py', text)}:Small"


def test_a_cell_that_met_a_full_disk_has_failed_and_says_why(tmp_path, small_engine, cwkit):
    arms = {
        name: {**ARM, "database": database, "transactions": 300}
        for name, database in (("small", small_engine), ("large", "sqlite"))
    }
    made = run_experiment(Design("disks", "?", arms, 1, 1), tmp_path / "e")
    small, large = made.cells[0, "small"], made.cells[0, "large"]
    assert (small.state, large.state) == (FAILED, DONE)
    assert "attempts of the writers met a full disk or a full database" in small.reason
    shown = cwkit("show", tmp_path / "e")
    assert "met a full disk" in shown.stdout


def test_a_comparison_with_a_run_that_met_a_full_disk_says_so(tmp_path, small_engine, cwkit):
    plans = {
        name: make_plan(**ARM, database=database, transactions=300)
        for name, database in (("small", small_engine), ("large", "sqlite"))
    }
    for name, plan in plans.items():
        run(plan, tmp_path / "runs", name=name)
    done = cwkit("compare", tmp_path / "runs" / "large", tmp_path / "runs" / "small")
    assert "met a full disk" in done.stdout
    assert done.returncode == 3, done.stdout + done.stderr


def test_a_search_whose_disk_fills_cannot_decide_and_goes_on_when_there_is_room(tmp_path, disks):
    argv = ["--slo", "p99 < 10s", "--scenario", "ingest", "--record-bytes", "4000", "--rows", "10"]
    argv += ["--database", "sqlite", "--writers", "1", "--duration", "1", "--repeats", "1"]
    runs, databases, into = tmp_path / "runs", tmp_path / "databases", tmp_path / "runs" / "s"
    databases.mkdir()
    search = ["search", *argv, "--databases", str(databases), "--runs", str(runs)]
    done = disks.run(3 * MIB, databases, tmp_path / "copy", [*search, "--into", str(into)])
    assert done.returncode == 3, done.stdout + done.stderr
    assert "met a full disk" in done.stderr
    assert "--into" in done.stderr
