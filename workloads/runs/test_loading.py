"""Before the run: refused modes are said before anything is loaded; loading and checking say what
they do, and have a limit.
"""

from typing import Any

import pytest

from workloads.engines import Settings, find_engine
from workloads.engines.test_registry import written
from workloads.errors import ModeRefused, TooLong
from workloads.experiments import REFUSED, Design, run_experiment
from workloads.runs.conduct import prepare, run
from workloads.runs.errands import refusal_of
from workloads.runs.plan import make_plan
from workloads.runs.worker_process import Progress

SCENARIO = """
    import time
    from pathlib import Path
    from workloads.scenarios.counter import Counter
    from workloads.scenarios.loading import fill

    HERE = Path({folder!r})

    def wait_for(name):
        # For who follows the progress; where nobody does, not without an end.
        until = time.monotonic() + 60
        while not (HERE / name).exists() and time.monotonic() < until:
            time.sleep(0.01)

    class Telling(Counter):
        name = "telling"

        def load(self, session, rng):
            (HERE / "loaded").touch()
            super().load(session, rng)
            wait_for("load was seen")

        def check(self, session, log):
            for worker in log.workers:
                for _ in log.replay(worker):
                    pass
            wait_for("check was seen")
            return super().check(session, log)

    class OneByOne(Telling):
        def load(self, session, rng):
            for n in range(self.params.rows):
                session.run("INSERT INTO counter(id, n, pad) VALUES (?, 0, '')", (n,))
            wait_for("load was seen")

    class Endless(Counter):
        def load(self, session, rng):
            super().load(session, rng)
            time.sleep(600)

    class EndlessCheck(Counter):
        def check(self, session, log):
            time.sleep(600)
"""


@pytest.fixture
def scenario(tmp_path):
    path = written(tmp_path / "scenario.py", SCENARIO.format(folder=str(tmp_path)))
    return lambda name: f"{path}:{name}"


def branch():
    if why := find_engine("sqlite-concurrent").missing():
        pytest.skip(why)
    return "sqlite-concurrent"


# --- modes ------------------------------------------------------------------------------------

REFUSALS: dict[str, tuple[dict[str, Any], str, str]] = {
    "a writer's": ({"database": "libsql", "begin": "concurrent"}, "libsql", "syntax error"),
    "a reader's": (
        {"database": "sqlite", "readers": 1, "read_begin": "concurrent"},
        "sqlite",
        "syntax error",
    ),
    "another engine's than the database's": (
        {"database": "libsql", "write_engine": "sqlite", "begin": "concurrent"},
        "sqlite",
        "syntax error",
    ),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_a_refused_mode_is_said_before_anything_is_loaded(tmp_path, scenario, case):
    values, engine, pattern = REFUSALS[case]
    plan = make_plan(scenario=scenario("Telling"), writers=1, **values)
    with pytest.raises(ModeRefused, match=pattern) as refused:
        run(plan, tmp_path / "runs")
    assert (refused.value.engine, refused.value.mode) == (engine, "concurrent")
    assert not (tmp_path / "loaded").exists()
    assert list((tmp_path / "runs").iterdir()) == []


def test_a_mode_that_a_journal_has_not_is_refused_before_anything_is_loaded(tmp_path, scenario):
    plan = make_plan(
        scenario=scenario("Telling"),
        database=branch(),
        begin="concurrent",
        journal_mode="delete",
        writers=1,
    )
    with pytest.raises(ModeRefused, match="journal mode 'delete'"):
        run(plan, tmp_path / "runs")
    assert not (tmp_path / "loaded").exists()


def test_the_sentence_on_the_command_line_is_that_of_the_engine(tmp_path, cwkit):
    argv = ["--scenario", "counter", "--begin", "concurrent", "--rows", "5000000"]
    done = cwkit("run", *argv, "--runs", tmp_path / "runs")
    assert done.returncode == 2
    assert "cwkit: libsql refuses BEGIN CONCURRENT: near" in done.stderr
    assert "loading rows" not in done.stderr


@pytest.mark.parametrize("engine", ["libsql", "sqlite", "sqlite-concurrent", "turso"])
def test_an_engine_is_asked_on_a_database_of_its_own_and_accepts_what_it_promises(tmp_path, engine):
    asked = find_engine(engine)
    if why := asked.missing():
        pytest.skip(why)
    for mode in asked.promises:
        (tmp_path / mode).mkdir()
        path = str(tmp_path / mode / "asked.db")
        assert refusal_of(asked, mode, path, Settings(busy_timeout_ms=0)) is None


def test_an_engine_that_opens_nothing_says_nothing_of_a_mode(tmp_path):
    assert refusal_of(find_engine("sqlite"), "concurrent", str(tmp_path / "no" / "a.db"),
                      Settings()) is None  # fmt: skip


def test_a_cell_of_a_refused_mode_is_refused_without_a_load_and_the_others_are_run(
    tmp_path, scenario
):
    for name in ("load was seen", "check was seen"):
        (tmp_path / name).touch()
    plan = {"scenario": scenario("Telling"), "database": "sqlite", "writers": 1, "transactions": 5}
    arms = {"refused": plan | {"begin": "concurrent"}}
    made = run_experiment(Design("modes", "?", arms, 2, 1), tmp_path / "one")
    assert {cell.state for cell in made.cells.values()} == {REFUSED}
    assert not (tmp_path / "loaded").exists()
    made = run_experiment(Design("modes", "?", arms | {"good": plan}, 1, 1), tmp_path / "two")
    assert {arm: cell.state for (_, arm), cell in made.cells.items()} == {
        "refused": "refused",
        "good": "done",
    }


# --- progress ---------------------------------------------------------------------------------


def followed(tmp_path, plan, phase, wanted):
    """The first progress of a phase that is wanted; the run goes on once it was seen."""
    seen: list[Progress] = []

    def follow(progress):
        if progress.phase == phase and wanted(progress) and not seen:
            seen.append(progress)
            (tmp_path / f"{phase.removesuffix('ing')} was seen").touch()

    (tmp_path / f"{'check' if phase == 'loading' else 'load'} was seen").touch()
    made = run(plan, tmp_path / "runs", on_progress=follow)
    assert made.manifest.ok
    assert seen
    return seen[0]


def test_loading_tells_how_many_rows_of_how_many(tmp_path, scenario):
    plan = make_plan(scenario=scenario("Telling"), database="sqlite", writers=1, transactions=5,
                     params={"rows": 1_234})  # fmt: skip
    seen = followed(tmp_path, plan, "loading", lambda progress: progress.done == 1_234)
    assert (seen.step, seen.done, seen.of) == ("loading rows", 1_234, 1_234)


def test_a_scenario_that_loads_row_by_row_tells_its_statements(tmp_path, scenario):
    plan = make_plan(scenario=scenario("OneByOne"), database="sqlite", writers=1, transactions=5,
                     params={"rows": 77})  # fmt: skip
    seen = followed(tmp_path, plan, "loading", lambda progress: progress.done >= 77)
    assert seen.step == "running statements"
    assert seen.of == 0


def test_checking_tells_what_it_does_and_how_many_transactions_of_how_many(tmp_path, scenario):
    plan = make_plan(scenario=scenario("Telling"), database="sqlite", writers=2,
                     transactions=5_000, synchronous="off")  # fmt: skip
    seen = followed(tmp_path, plan, "checking", lambda progress: progress.done > 0)
    assert seen.step == "checking the invariant"
    assert 0 < seen.done <= 10_000 <= seen.of


# --- limits -----------------------------------------------------------------------------------


def test_a_load_beyond_its_limit_is_one_sentence_with_the_way_out(tmp_path, scenario):
    plan = make_plan(scenario=scenario("Endless"), database="sqlite", writers=1,
                     params={"rows": 5}, load_limit_s=1.5)  # fmt: skip
    with pytest.raises(TooLong) as late:
        run(plan, tmp_path / "runs")
    sentence, _, way_out = str(late.value).partition(". ")
    assert sentence.startswith(
        "Loading the database with sqlite took longer than the limit of 1.5 s"
    )
    assert way_out == (
        "Give it longer with --load-limit (load_limit_s of a sweep's file), or load fewer rows "
        "with --rows."
    )
    assert list((tmp_path / "runs").iterdir()) == []


def test_a_template_keeps_to_the_limit_too(tmp_path, scenario):
    plan = make_plan(scenario=scenario("Endless"), database="sqlite", writers=1, load_limit_s=0.5)
    with pytest.raises(TooLong, match="--load-limit"):
        prepare(plan, tmp_path / "templates")


def test_a_check_beyond_its_limit_is_no_broken_invariant(tmp_path, scenario, cwkit):
    plan = make_plan(scenario=scenario("EndlessCheck"), database="sqlite", writers=1,
                     transactions=5, check_limit_s=2)  # fmt: skip
    made = run(plan, tmp_path / "runs")
    assert not made.manifest.ok
    assert made.manifest.ended == "not checked"
    assert not made.manifest.broken
    assert "--check-limit" in made.manifest.unchecked
    shown = cwkit("show", made.folder)
    assert "UNKNOWN database: not checked: Checking the database with sqlite took" in shown.stdout


def test_the_limits_are_options(tmp_path, scenario, cwkit):
    argv = ["--scenario", scenario("Endless"), "--database", "sqlite", "--load-limit", "0.5"]
    done = cwkit("run", *argv, "--runs", tmp_path / "runs")
    assert done.returncode == 2
    assert "took longer than the limit of 0.5 s" in done.stderr
    bad = cwkit("run", "--check-limit", "0")
    assert bad.returncode == 2
    assert bad.stderr.startswith("cwkit: --check-limit: ")
