"""The last output of a process that died is kept whole: an engine's panic is the finding."""

import pytest

from workloads.engines.test_registry import written
from workloads.errors import RunFailed
from workloads.experiments import Design, run_experiment
from workloads.processes import last_words
from workloads.processes.last_words import KEPT_BYTES, gist
from workloads.runs import make_plan, run

# As a Rust library panics whose handler aborts: several lines, and the last says least.
PANIC = r"""thread 'main' panicked at core/storage/pager.rs:1234:56:
called `Option::unwrap()` on a `None` value: page 77
stack backtrace:
   0: rust_begin_unwind
   1: core::panicking::panic_fmt
note: run with `RUST_BACKTRACE=1` environment variable to display a backtrace
"""

ENGINE = """
    import os
    from workloads.engines.sqlite import Sqlite

    PANIC = {panic!r}

    def die():
        os.write(2, PANIC.encode())
        os.abort()

    class AtCommit(Sqlite):
        def connect(self, path, **how):
            session = super().connect(path, **how)
            real, times = session.commit, [0]

            def commit():
                times[0] += 1
                if times[0] == 5:
                    die()
                return real()

            session.commit = commit
            return session

    class AtConnect(Sqlite):
        def connect(self, path, **how):
            die()

    class Threaded(AtCommit):
        hosting = "thread"

    class Talking(Sqlite):
        def connect(self, path, **how):
            os.write(2, b"a warning that nobody needs\\n")
            return super().connect(path, **how)
"""

SCENARIO = """
    import os
    from workloads.scenarios.counter import Counter

    class Unchecked(Counter):
        name = "unchecked"

        def check(self, session, told):
            os.write(2, {panic!r}.encode())
            os.abort()
"""


@pytest.fixture
def panicking(tmp_path):
    path = written(tmp_path / "engine.py", ENGINE.format(panic=PANIC))
    return lambda name: f"{path}:{name}"


def shown(text):
    """As `show` prints it, under a process's name."""
    return "\n".join(f"  | {line}" for line in text.splitlines())


def test_a_workers_panic_is_kept_whole_and_shown(tmp_path, panicking, cwkit):
    plan = make_plan(scenario="counter", database="sqlite", write_engine=panicking("AtCommit"),
                     writers=2, duration_s=60, warmup_s=0)  # fmt: skip
    made = run(plan, tmp_path / "runs")
    assert made.manifest.ended == "worker died"
    kept = dict(last_words.all_of(made.folder, 2))
    assert PANIC.strip() in kept.values()
    (died,) = [w.entry for w in made.workers if w.entry.state == "died"][:1]
    assert died.account.startswith(
        "signal 6 (SIGABRT): thread 'main' panicked at core/storage/pager.rs"
    )
    assert "page 77" in died.account
    text = cwkit("show", made.folder).stdout
    assert shown(PANIC) in text
    assert f"worker-{died.worker:03d} wrote to its standard error" in text


def test_a_process_of_several_workers_has_one_file(tmp_path, panicking):
    plan = make_plan(scenario="counter", database=panicking("Threaded"), writers=3,
                     duration_s=60, warmup_s=0)  # fmt: skip
    made = run(plan, tmp_path / "runs")
    assert {w.entry.state for w in made.workers} == {"died"}
    assert list(last_words.all_of(made.folder, 3)) == [("worker-000", PANIC.strip())]


def test_the_loaders_panic_is_told_whole_with_the_sentence(tmp_path, panicking, cwkit):
    plan = make_plan(scenario="counter", database=panicking("AtConnect"), writers=1)
    with pytest.raises(RunFailed, match=r"signal 6 \(SIGABRT\): thread 'main' panicked") as failed:
        run(plan, tmp_path / "runs")
    assert "\n" not in str(failed.value)
    assert failed.value.stderr_text == PANIC
    argv = ["--scenario", "counter", "--database", panicking("AtConnect")]
    done = cwkit("run", *argv, "--runs", tmp_path / "runs")
    assert done.returncode == 2
    assert done.stderr.endswith(shown(PANIC) + "\n")
    assert list((tmp_path / "runs").iterdir()) == []


def test_the_checkers_panic_is_kept_and_shown(tmp_path, cwkit):
    path = written(tmp_path / "scenario.py", SCENARIO.format(panic=PANIC))
    plan = make_plan(scenario=f"{path}:Unchecked", database="sqlite", writers=1, transactions=5)
    made = run(plan, tmp_path / "runs")
    assert not made.manifest.ok
    assert list(last_words.all_of(made.folder, 1)) == [("check", PANIC.strip())]
    assert shown(PANIC) in cwkit("show", made.folder).stdout


def test_the_panic_of_a_cells_loader_is_kept_beside_its_state(tmp_path, panicking):
    arms = {"good": {"database": "null"}, "bad": {"database": panicking("AtConnect")}}
    plan = {"scenario": "counter", "writers": 1, "transactions": 5}
    design = Design(
        name="panics", question="?", seed=1, blocks=1, baseline="",
        arms={arm: plan | values for arm, values in arms.items()},
    )  # fmt: skip
    made = run_experiment(design, tmp_path / "e")
    bad = made.cells[0, "bad"]
    assert "panicked at core/storage/pager.rs" in bad.reason
    assert last_words.read_last_words(tmp_path / "e" / "b00-bad.stderr") == PANIC
    assert not (tmp_path / "e" / "b00-good.stderr").exists()


def test_what_a_well_run_wrote_is_kept_and_not_shown(tmp_path, panicking, cwkit):
    plan = make_plan(scenario="counter", database=panicking("Talking"), writers=1, transactions=5)
    made = run(plan, tmp_path / "runs")
    assert made.manifest.ok
    assert {who for who, _ in last_words.all_of(made.folder, 1)} == {"load", "worker-000", "check"}
    assert "a warning" not in cwkit("show", made.folder).stdout


def test_a_process_that_wrote_nothing_leaves_no_file(tmp_path):
    plan = make_plan(scenario="counter", database="sqlite", writers=1, transactions=5)
    made = run(plan, tmp_path / "runs")
    assert not list(made.folder.glob("*.stderr"))


def test_a_long_text_keeps_both_its_ends_and_says_so(tmp_path):
    path = tmp_path / "worker-000.stderr"
    path.write_bytes(b"first\n" + b"x" * (3 * KEPT_BYTES) + b"\nlast")
    before = last_words.read_last_words(path)
    last_words.keep(path)
    assert last_words.read_last_words(path) == path.read_text(encoding="utf-8") == before
    assert path.stat().st_size < 2 * KEPT_BYTES + 100
    assert before.startswith("first\n") and before.endswith("\nlast")
    assert f"{KEPT_BYTES + 11:,} bytes are left out" in before


def test_what_acts_on_a_terminal_is_shown_as_its_escape(tmp_path, cwkit):
    plan = make_plan(scenario="counter", database="null", writers=1, transactions=5)
    made = run(plan, tmp_path / "runs")
    manifest = made.folder / "manifest.json"
    text = manifest.read_text(encoding="utf-8").replace('"ok": true', '"ok": false')
    manifest.write_text(text, encoding="utf-8")
    (made.folder / "worker-000.stderr").write_bytes(b"a\x1b[2Jb\xff\rc")
    assert "  | a\\x1b[2Jb" in cwkit("show", made.folder).stdout
    (made.folder / "worker-000.stderr").unlink()
    (tmp_path / "secret").write_text("a secret of somebody's", encoding="utf-8")
    (made.folder / "worker-000.stderr").symlink_to(tmp_path / "secret")
    assert "secret" not in cwkit("show", made.folder).stdout


def test_the_gist_is_one_line(tmp_path):
    traceback = "Traceback (most recent call last):\n  File 'x', line 1, in f\nValueError: no\n"
    assert gist(traceback) == "ValueError: no"
    assert gist("") == gist("\n \n") == ""
    assert "\n" not in gist(PANIC)
    assert len(gist("x" * 10_000)) < 500
