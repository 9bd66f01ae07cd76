"""Runs of real processes on real databases: what they keep, and how they end when they must."""

import contextlib
import os
import resource
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from workloads.engines import find_engine, trust
from workloads.errors import EngineMissing, FolderUnwritable, ModeRefused, PlanError, RunFailed
from workloads.records import Manifest
from workloads.records import attempts as rec
from workloads.runs import making, putting_away, recover
from workloads.runs.conduct import run
from workloads.runs.job import context_of
from workloads.runs.plan import make_plan

SHORT = {"duration_s": 0.4, "warmup_s": 0.1, "deadline_s": 20}
LIMIT = {"duration_s": 60, "warmup_s": 0}
# Transactions that sleep with the row read: however busy the machine is, they overlap.
OVERLAPPING = {
    "params": {"rows": 1, "think_us": 1000, "think": "sleep"},
    "transactions": 60,
    "busy_timeout_ms": 0,
} | LIMIT
needs_branch = pytest.mark.skipif(
    find_engine("sqlite-concurrent").missing() is not None,
    reason=f"{find_engine('sqlite-concurrent').missing()}",
)


def outcomes(made):
    return sum(
        (np.bincount(w.attempts["outcome"], minlength=5) for w in made.workers), np.zeros(5, int)
    )


def why(made):
    """A failed run's own reasons, for the assertion's message."""
    manifest = made.manifest
    states = [(w.state, w.account) for w in manifest.workers]
    return manifest.ended, states, [f.sentence for f in manifest.findings]


def processes_of(folder):
    """Processes still alive that name a folder in their command line."""
    alive = []
    for process in psutil.process_iter(["cmdline"]):
        if any(str(folder) in word for word in process.info["cmdline"] or ()):
            alive.append(process)
    return alive


def child_with(argv):
    """The id of this process's child whose command ends so."""
    for child in psutil.Process().children():
        with contextlib.suppress(psutil.Error):  # another child may be just ending
            if child.cmdline()[-len(argv) :] == argv:
                return child.pid
    raise AssertionError(f"no child ends with {argv}")


def own_scenario(tmp_path, body):
    """A user's own scenario: a counter whose increment does `body`."""
    path = tmp_path / "mine.py"
    trust(path)
    path.write_text(
        textwrap.dedent(
            """
            import os, time
            from workloads.scenarios.counter import Counter

            class Mine(Counter):
                name = "mine"
                def bodies(self, context):
                    def increment(args):
                        %s
                    return (increment,) * len(self.kinds)
                def check(self, session, log):
                    return []
            """
        )
        % body,
        encoding="utf-8",
    )
    return f"{path}:Mine"


@needs_branch
def test_concurrent_writers_and_libsql_readers_share_one_libsql_database(tmp_path):
    plan = make_plan(
        scenario="bank",
        database="libsql",
        writers=2,
        write_engine="sqlite-concurrent",
        begin="concurrent",
        readers=2,
        read_engine="libsql",
        params={"rows": 200},
        transactions=50,
        **LIMIT,
    )
    made = run(plan, tmp_path)
    assert made.manifest.ok, why(made)
    assert {f.check for f in made.manifest.findings} >= {"integrity", "total"}
    for worker in made.workers:
        assert (worker.attempts["outcome"] == rec.COMMITTED).any()
    assert made.workers[0].entry.pragmas["journal_mode"] == "wal"
    assert set(made.manifest.engines) == {"libsql", "sqlite-concurrent"}


@pytest.mark.parametrize("engine", ["libsql", "sqlite", "turso", "null"])
def test_a_run_by_number_of_transactions_makes_just_those(tmp_path, engine):
    if (reason := find_engine(engine).missing()) is not None:
        pytest.skip(reason)
    plan = make_plan(
        scenario="counter", database=engine, writers=2, transactions=50, duration_s=60, warmup_s=0
    )
    made = run(plan, tmp_path)
    assert made.manifest.ended == "transactions"
    assert made.manifest.ok, why(made)
    assert outcomes(made)[rec.COMMITTED] == 100


def test_the_same_seed_draws_the_same_transactions(tmp_path):
    plan = make_plan(scenario="counter", database="sqlite", writers=2, seed=5)
    scenario = __import__("workloads.scenarios", fromlist=["x"]).find_scenario("counter")
    first, second, other = (
        [draw() for _ in range(200)]
        for draw in (
            scenario(plan.shape()).draw(context_of(plan, 0)),
            scenario(plan.shape()).draw(context_of(plan, 0)),
            scenario(plan.shape()).draw(context_of(plan, 1)),
        )
    )
    assert first == second != other


def test_an_open_loop_counts_latency_from_the_intended_start(tmp_path):
    plan = make_plan(
        scenario="counter",
        database="sqlite",
        writers=2,
        rate=400,
        transactions=100,
        duration_s=60,
        synchronous="off",
    )
    made = run(plan, tmp_path)
    rows = np.concatenate([w.attempts for w in made.workers])
    # Poisson with mean 400 a second: these bounds are over five deviations away.
    drawn_s = [np.ptp(w.attempts["intended_ns"]) / 1e9 for w in made.workers]
    assert all(0.2 < seconds < 1 for seconds in drawn_s), drawn_s
    firsts = rows[rows["attempt"] == 1]
    assert (firsts["intended_ns"] <= firsts["start_ns"]).all()
    assert (firsts["intended_ns"] < firsts["start_ns"]).any()


def test_a_killed_writer_ends_the_run_and_the_others_keep_their_rows(tmp_path):
    killed: list[int] = []

    def kill_one(progress):
        if progress.phase == "measuring" and progress.committed > 100 and not killed:
            victim = child_with(["work", "1"])
            killed.append(victim)
            os.kill(victim, signal.SIGKILL)

    plan = make_plan(scenario="counter", database="sqlite", writers=3, duration_s=60, warmup_s=0)
    begun = time.monotonic()
    made = run(plan, tmp_path, on_progress=kill_one)
    assert time.monotonic() - begun < 40
    assert made.manifest.ended == "worker died"
    assert not made.manifest.ok
    assert [w.entry.state for w in made.workers] == ["finished", "died", "finished"]
    assert "signal 9" in made.workers[1].entry.account
    assert outcomes(made)[rec.COMMITTED] > 100
    # Its answers are known up to its last attempt, and the invariant allows for that one. (It
    # may have waited for the lock all the time: then that one is all it has.)
    assert len(made.workers[1].attempts)
    assert not (made.workers[1].attempts["outcome"][:-1] == rec.UNKNOWN).any()
    assert all(f.ok for f in made.manifest.findings), made.manifest.findings


def test_a_writer_that_hangs_is_ended_and_its_attempt_is_unknown(tmp_path):
    scenario = own_scenario(tmp_path, "time.sleep(600)")
    plan = make_plan(
        scenario=scenario,
        database="sqlite",
        writers=1,
        duration_s=60,
        warmup_s=0,
        deadline_s=0.5,
        busy_timeout_ms=100,
    )
    begun = time.monotonic()
    made = run(plan, tmp_path / "runs")
    assert time.monotonic() - begun < 30
    assert made.manifest.ended == "worker hung"
    assert made.workers[0].entry.state == "hung"
    assert made.workers[0].attempts["outcome"].tolist() == [rec.UNKNOWN]


def test_a_worker_that_exits_by_itself_is_a_dead_one(tmp_path):
    scenario = own_scenario(tmp_path, "os._exit(7)")
    plan = make_plan(scenario=scenario, database="sqlite", writers=2, duration_s=60, warmup_s=0)
    made = run(plan, tmp_path / "runs")
    assert made.manifest.ended == "worker died"
    assert "exit status 7" in made.workers[0].entry.account


def test_an_error_in_a_body_is_failed_and_not_hidden(tmp_path):
    scenario = own_scenario(tmp_path, 'raise LookupError("not today")')
    plan = make_plan(scenario=scenario, database="sqlite", writers=1, duration_s=60, warmup_s=0)
    made = run(plan, tmp_path / "runs")
    assert made.workers[0].entry.state == "gave up"
    assert "not today" in made.workers[0].entry.account
    assert set(made.workers[0].attempts["outcome"]) == {rec.FAILED}
    assert not made.manifest.ok


def test_a_refused_mode_is_said_in_the_engines_words_and_leaves_nothing(tmp_path):
    plan = make_plan(scenario="counter", database="libsql", begin="concurrent", writers=2)
    with pytest.raises(ModeRefused, match="syntax error") as caught:
        run(plan, tmp_path / "runs")
    assert caught.value.engine == "libsql"
    assert list((tmp_path / "runs").iterdir()) == []


def test_conflicts_are_recorded_each_and_given_up_after_most_tries(tmp_path):
    plan = make_plan(
        scenario="counter",
        database="sqlite",
        writers=3,
        begin="deferred",
        retry={"policy": "immediate", "most_tries": 3},
        **OVERLAPPING,
    )
    made = run(plan, tmp_path)
    rows = np.concatenate([w.attempts for w in made.workers])
    conflicts = rows[rows["outcome"] == rec.CONFLICT]
    assert len(conflicts)
    assert set(conflicts["conflict"]) <= {rec.BUSY, rec.STALE, rec.UNCLASSIFIED}  # no timeout
    assert rows["attempt"].max() <= 3
    assert made.manifest.ok, why(made)


def test_no_retry_means_one_attempt_for_each_transaction(tmp_path):
    plan = make_plan(
        scenario="counter",
        database="sqlite",
        writers=3,
        begin="deferred",
        retry={"policy": "none"},
        **OVERLAPPING,
    )
    made = run(plan, tmp_path)
    assert outcomes(made)[rec.CONFLICT] > 0
    for worker in made.workers:
        assert worker.attempts["txn"].tolist() == list(range(len(worker.attempts)))


CAUGHT = {
    "faulty-lost-commit": {"scenario": "counter", "transactions": 500},
    "faulty-torn-read": {
        "scenario": "bank",
        "readers": 2,
        "params": {"think_us": 1000, "think": "sleep", "rows": 100},
    },  # until the first torn read, which ends it: how soon one comes is chance
    "faulty-lost-update": {"scenario": "counter"} | OVERLAPPING,
    "faulty-silent-conflict": {"scenario": "counter", "begin": "deferred"} | OVERLAPPING,
}


@pytest.mark.parametrize("engine", list(CAUGHT))
def test_a_faulty_engine_is_caught_by_a_run(tmp_path, engine):
    plan = make_plan(**{"database": engine, "writers": 3, **LIMIT, **CAUGHT[engine]})
    made = run(plan, tmp_path)
    broken = [f for f in made.manifest.findings if not f.ok]
    assert broken
    assert not made.manifest.ok
    assert (made.folder / "database.db").exists()  # the evidence is kept


# Two of the four are slow: sound runs of the counter are in other tests, too.
@pytest.mark.parametrize(
    "engine",
    [
        pytest.param(
            name, marks=[pytest.mark.slow] * (name in ("faulty-lost-commit", "faulty-lost-update"))
        )
        for name in CAUGHT
    ],
)
def test_the_sound_engine_passes_where_the_faulty_one_is_caught(tmp_path, engine):
    limit = LIMIT | {"transactions": 200}
    plan = make_plan(**{"database": "sqlite", "writers": 3, **limit, **CAUGHT[engine]})
    made = run(plan, tmp_path)
    assert made.manifest.ok, why(made)


def started(*argv, **options):
    return subprocess.Popen(
        [sys.executable, "-m", "analysis.cli", *argv],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).resolve().parents[2],
        **options,
    )


def has_committed(rows):
    return (np.load(rows, mmap_mode="r")["outcome"] == rec.COMMITTED).any()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_keeps_everything_and_leaves_no_process(tmp_path, number):
    argv = ["--scenario", "counter", "--database", "sqlite", "--duration", "100"]
    argv += ["--warmup", "0"]
    with started("run", *argv, "--writers", "2", "--runs", str(tmp_path)) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith("measuring"):
                break
        while not any(map(has_committed, tmp_path.glob("*/worker-*.npy"))):
            assert process.poll() is None
        process.send_signal(number)
        process.communicate(timeout=60)
        assert process.wait(60) == 130
    (folder,) = tmp_path.iterdir()
    made = rec.read_run(folder)
    assert made.manifest.ended == "interrupted"
    assert outcomes(made)[rec.COMMITTED] > 0
    assert [f.ok for f in made.manifest.findings]
    assert processes_of(folder) == []


# A function that is called in each step after the window, the last ones as the run is put away.
AFTER_THE_WINDOW = {
    "closing": (making.Making, "_end_all"),
    "collecting": (making, "unreadable"),
    "checking": (making.Making, "_errand"),
    "judging": (making.Making, "_nothing_committed"),
    "settling": (Manifest, "over"),
    "tidying": (putting_away, "tidy"),
}


def interrupting(monkeypatch, step, times):
    """Have a step be interrupted as often as that. Returns how often it will still be."""
    place, name = AFTER_THE_WINDOW[step]
    before, left = getattr(place, name), list(range(times))

    def interrupted(*args, **options):
        if left and args[1:2] != ("load",):
            left.pop()
            raise KeyboardInterrupt
        return before(*args, **options)

    monkeypatch.setattr(place, name, interrupted)
    return left


@pytest.mark.parametrize("step", AFTER_THE_WINDOW)
def test_an_interrupt_after_the_window_leaves_nothing_half_done(tmp_path, monkeypatch, step):
    left = interrupting(monkeypatch, step, 1)
    (tmp_path / "databases").mkdir()
    plan = make_plan(scenario="counter", database="sqlite", writers=1, transactions=20, **LIMIT)
    made = run(plan, tmp_path / "runs", databases=tmp_path / "databases")
    assert not left, "the step was never made"
    manifest = made.manifest
    assert (manifest.ended, manifest.ok, manifest.under_way) == ("interrupted", False, None)
    assert outcomes(made)[rec.COMMITTED] == 20
    assert [(f.ok, f.checked) for f in manifest.findings if not f.ok] == (
        [(False, False)] if step == "checking" else []  # the check is not made
    )
    assert list((tmp_path / "databases").iterdir()) == []
    assert not list(made.folder.glob("*.account.json"))
    assert processes_of(tmp_path) == []


def test_a_second_interrupt_in_the_same_step_leaves_the_rest_to_recover(tmp_path, monkeypatch):
    interrupting(monkeypatch, "closing", 2)
    (tmp_path / "databases").mkdir()
    plan = make_plan(scenario="counter", database="sqlite", writers=1, transactions=20, **LIMIT)
    with pytest.raises(KeyboardInterrupt):
        run(plan, tmp_path / "runs", databases=tmp_path / "databases")
    assert processes_of(tmp_path) == []
    (folder,) = (tmp_path / "runs").iterdir()
    recover(folder)
    manifest = rec.read_run(folder).manifest
    assert manifest.under_way is None and all(f.ok for f in manifest.findings)
    assert list((tmp_path / "databases").iterdir()) == []


def test_a_parent_that_is_killed_takes_its_workers_with_it(tmp_path):
    argv = ["--scenario", "counter", "--database", "sqlite", "--duration", "100"]
    argv += ["--warmup", "0"]
    own = os.environ | {"TMPDIR": str(tmp_path)}
    runs = tmp_path / "runs"
    with started("run", *argv, "--writers", "2", "--runs", str(runs), env=own) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith("measuring"):
                break
        children = psutil.Process(process.pid).children()
        process.kill()
    gone, alive = psutil.wait_procs(children, timeout=20)
    assert alive == []
    assert len(gone) == 3  # the workers, and the process that they were forked from
    (folder,) = runs.iterdir()
    assert rec.read_run(folder).manifest.ended == "running"


def test_a_full_disk_is_one_sentence_and_status_2(tmp_path, cwkit):
    argv = ["--scenario", "counter", "--database", "sqlite", "--writers", "1"]
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    # The database fits below it, a segment of rows does not: as a disk that fills up.
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_500_000, before[1]))
    try:
        done = cwkit("run", *argv, "--runs", tmp_path / "runs")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert done.returncode == 2, done.stderr
    (sentence,) = [line for line in done.stderr.splitlines() if line.startswith("cwkit: ")]
    assert done.stderr.strip().endswith(sentence)
    assert "Free some space" in sentence


def test_a_folder_that_cannot_be_written_is_said_before_anything_starts(tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    plan = make_plan(scenario="counter", database="sqlite")
    for where in (blocked, blocked / "below"):
        with pytest.raises(FolderUnwritable, match="--runs"):
            run(plan, where)
    with pytest.raises(FolderUnwritable, match="--databases"):
        run(plan, tmp_path / "runs", databases=tmp_path / "nowhere")
    assert list((tmp_path / "runs").iterdir()) == []


def test_two_runs_of_one_second_do_not_share_a_folder(tmp_path):
    plan = make_plan(scenario="counter", database="null", writers=1, duration_s=0.05, warmup_s=0)
    names = {run(plan, tmp_path, name="same").folder.name for _ in range(2)}
    assert names == {"same", "same.2"}


def test_an_engine_that_cannot_open_is_told_and_not_waited_for(tmp_path):
    path = tmp_path / "engine.py"
    trust(path)
    path.write_text(
        "from workloads.engines.sqlite import Sqlite\n"
        "class Shut(Sqlite):\n"
        "    def connect(self, path, *, begin='deferred', settings=None):\n"
        "        raise RuntimeError('closed for today')\n",
        encoding="utf-8",
    )
    plan = make_plan(
        scenario="counter", database="sqlite", write_engine=f"{path}:Shut", writers=2, **SHORT
    )
    made = run(plan, tmp_path / "runs")
    assert not made.manifest.ok
    assert made.manifest.ended == "worker could not start"
    assert "closed for today" in made.workers[0].entry.account
    broken_loader = make_plan(scenario="counter", database=f"{path}:Shut", **SHORT)
    with pytest.raises(RunFailed, match="closed for today"):
        run(broken_loader, tmp_path / "runs")


def test_checkpointers_are_recorded_beside_the_writers(tmp_path):
    plan = make_plan(
        scenario="counter",
        database="libsql",
        writers=1,
        checkpointers=1,
        checkpoint="truncate",
        wal_autocheckpoint=0,
        **SHORT,
    )
    made = run(plan, tmp_path)
    (checkpointer,) = made.role("checkpointer")
    assert len(checkpointer.attempts)
    assert made.manifest.ok, why(made)


BAD_PLANS: dict[str, Any] = {
    "no worker": ({"writers": 0}, PlanError, "--writers or --readers"),
    "10,000 writers": ({"writers": 10_000}, PlanError, "256"),
    "checkpointers alone": ({"writers": 0, "checkpointers": 1}, PlanError, "nothing to do"),
    "negative duration": ({"duration_s": -1}, PlanError, "duration_s"),
    "negative rate": ({"rate": -5}, PlanError, "rate"),
    "rate without writers": ({"writers": 0, "readers": 1, "rate": 5}, PlanError, "--read-rate"),
    "unknown checkpoint": ({"checkpoint": "gentle"}, PlanError, "passive"),
    "unknown policy": ({"retry": {"policy": "hope"}}, PlanError, "exponential"),
    "rows 0": ({"params": {"rows": 0}}, PlanError, "rows"),
    "unknown parameter": ({"params": {"row": 5}}, PlanError, "Did you mean 'rows'"),
    "unknown scenario": ({"scenario": "bnak"}, ValueError, "Did you mean 'bank'"),
    "unknown engine": ({"database": "libsq"}, ValueError, "Did you mean 'libsql'"),
    "unknown mode": ({"begin": "concurrently"}, ValueError, "Did you mean 'concurrent'"),
    "a file that nobody named": ({"scenario": "nofile.py:X"}, ValueError, "command line names"),
    "two file formats": (
        {"database": "turso", "read_engine": "libsql"},
        ValueError,
        "share|not to be had",
    ),
    "cpu not there": ({"cpus": (4096,)}, PlanError, "4096"),
}


@pytest.mark.parametrize("bad", list(BAD_PLANS))
def test_a_plan_that_makes_no_sense_is_one_sentence(bad):
    values, kind, pattern = BAD_PLANS[bad]
    if bad == "two file formats":
        values = values | {"readers": 1}
        if find_engine("turso").missing():
            pytest.skip(str(find_engine("turso").missing()))
    with pytest.raises((kind, EngineMissing), match=pattern) as caught:
        make_plan(**values)
    assert "\n" not in str(caught.value)


def test_a_run_by_transactions_is_measured_whole_and_to_its_last_commit(tmp_path):
    plan = make_plan(scenario="counter", database="sqlite", writers=2, transactions=50)
    assert plan.warmup_s == 0
    made = run(plan, tmp_path)
    ends = np.concatenate([w.attempts["end_ns"] for w in made.workers])
    assert made.window_ns[1] == ends.max() + 1


def test_a_sleeping_worker_sees_the_end_of_the_run(tmp_path):
    plan = make_plan(
        scenario="counter",
        database="sqlite",
        writers=1,
        checkpointers=1,
        checkpoint_pause_ms=60_000,
        **SHORT,
    )
    made = run(plan, tmp_path)
    assert made.manifest.ok, why(made)


def test_a_mistake_in_a_scenario_ends_the_run_at_its_line(tmp_path):
    scenario = own_scenario(tmp_path, "return misspelt")
    plan = make_plan(scenario=scenario, database="sqlite", writers=1, duration_s=60, warmup_s=0)
    made = run(plan, tmp_path / "runs")
    assert made.manifest.ended == "scenario failed"
    assert "mine.py:" in made.workers[0].entry.account
    assert "NameError" in made.workers[0].entry.account


def test_a_run_in_which_everything_fails_is_not_well(tmp_path):
    scenario = own_scenario(tmp_path, 'raise LookupError("not today")')
    plan = make_plan(scenario=scenario, database="sqlite", writers=1, transactions=5)
    made = run(plan, tmp_path / "runs")
    assert made.manifest.ended == "nothing was committed"
    assert not made.manifest.ok


def test_the_cpu_time_of_a_run_that_ends_early_is_its_own(tmp_path):
    scenario = own_scenario(
        tmp_path,
        "from workloads.scenarios import InvariantBroken; import time as t; a = t.thread_time();"
        " [None for _ in iter(lambda: t.thread_time() - a < 0.3, False)];"
        " raise InvariantBroken('seen')",
    )
    plan = make_plan(scenario=scenario, database="sqlite", writers=1, warmup_s=0)
    made = run(plan, tmp_path / "runs")
    assert made.manifest.ended == "invariant broken"
    assert made.manifest.foreign.own_cpu_s >= 0.3


NO_SUCH = {
    "no class": ("A = 3", "scenario", "is no scenario"),
    "no scenario": ("class A: pass", "scenario", "lacks Params"),
    "no engine": ("class A: pass", "database", "lacks file_format"),
    "an exit": ("raise SystemExit(5)", "scenario", "SystemExit"),
}


@pytest.mark.parametrize("case", list(NO_SUCH))
def test_a_file_without_what_it_should_hold_is_one_sentence(tmp_path, case):
    text, field, pattern = NO_SUCH[case]
    path = tmp_path / "t.py"
    trust(path)
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=pattern):
        make_plan(**{field: f"{path}:A"})
    with pytest.raises(ValueError, match="name the scenario's class"):
        make_plan(scenario=str(path))


BAD_COMMANDS = [
    ["run", "--journal-mode", "foo"],
    ["run", "--cache-size", "99999999999999999999"],
    ["run", "--read-engine", "nulll"],
    ["report", "--into", "/nonexistent"],
    ["run", "--writers", "0"],
    ["run", "--writers", "10000"],
    ["run", "--writers", "many"],
    ["run", "--duration", "-3"],
    ["run", "--begin", "concurrent", "--database", "libsql", "--scenario", "counter"],
    ["run", "--database", "mysql"],
    ["run", "--scenario", "nothing.py:Here"],
    ["run", "--set", "rows"],
    ["run", "--runs", "/proc/none"],
    ["show", "no-such-run"],
    ["show", "."],
    ["list", "--runs", "/nonexistent"],
    ["engines", "mysql"],
]


@pytest.mark.parametrize("argv", BAD_COMMANDS, ids=" ".join)
def test_bad_input_ends_with_status_2_and_no_traceback(tmp_path, argv, cwkit):
    if argv[0] == "run" and "--runs" not in argv:
        argv = [*argv, "--runs", str(tmp_path / "runs")]
    done = cwkit(*argv)
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.strip()
    assert not list(tmp_path.glob("runs/*"))
