"""Killed runs: found, counted as far as all their workers lived, checked, and cleared."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from workloads.engines import trust
from workloads.errors import RunError
from workloads.experiments import recover_all
from workloads.experiments.leftovers import interrupted
from workloads.files import temporary
from workloads.processes import Process, children, forking, python, start
from workloads.processes.accounts import leave, read_account
from workloads.records import HISTORY_FILE, Manifest, read_manifest, write_manifest
from workloads.records import attempts as rec
from workloads.records.columns import load
from workloads.runs import conduct
from workloads.runs.conduct import run
from workloads.runs.plan import make_plan
from workloads.runs.recovery import is_going_on, must_be_over, recover

ROOT = Path(__file__).resolve().parents[2]
LIMIT_S = 90.0
LONG = {"database": "sqlite", "duration_s": 60, "warmup_s": 0, "deadline_s": 20}

CONDUCTOR = """
import json
from pathlib import Path
from workloads.engines import trust
from workloads.runs import make_plan, run

def tell(progress):
    print(progress.phase, progress.committed, flush=True)

def main(argv):
    plan, runs, homes = json.loads(argv[0]), *map(Path, argv[1:])
    trust(plan["scenario"])
    run(make_plan(**plan), runs, databases=homes, on_progress=tell)
    return 0
"""


class Place:
    """Where a killed run's folders lie, and how one is made.

    Its process is forked, and so is what forks its workers: the start of Python takes longer than
    most of these runs.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.runs, self.homes = folder, folder / "runs", folder / "homes"
        self.homes.mkdir()
        (folder / "conductor.py").write_text(CONDUCTOR)

    @contextlib.contextmanager
    def begun(self, **plan: Any) -> Iterator[Process]:
        process = start(
            "conductor",
            python("conductor", json.dumps(LONG | plan), str(self.runs), str(self.homes)),
            search_path=[str(self.folder)],
            stdout=subprocess.PIPE,
            method="fork",
            conducts=True,
        ).process
        assert process.stdout is not None
        try:
            yield process
        finally:
            process.kill()
            process.wait()
            process.stdout.close()

    def killed(self, phase: str, committed: int = 0, **plan: Any) -> Path:
        """The folder of a run whose process was killed in a phase."""
        with self.begun(**plan) as process:
            family = wait_for(process, phase, committed)
        psutil.wait_procs(family, timeout=LIMIT_S)
        (folder,) = self.runs.iterdir()
        return folder

    @property
    def left(self) -> list[str]:
        return sorted(path.name for path in self.homes.iterdir())


def wait_for(process: Process, phase: str, committed: int) -> list[psutil.Process]:
    """Read what it tells until it is there; gives the processes that it has then."""
    assert process.stdout is not None
    for line in process.stdout:
        there, number = line.decode().split()
        if there == phase and int(number) >= committed:
            return psutil.Process(process.pid).children(recursive=True)
    raise AssertionError(f"it never came to {phase}")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    monkeypatch.setattr(children, "PROGRAMS", (*forking.PROGRAMS, "conductor"))
    made = Place(tmp_path)
    yield made
    assert not [p for p in temporary.left_over(made.homes) if p.owner and p.owner.kind != "run"]


def sentences(made: rec.Run) -> str:
    return "; ".join(finding.sentence for finding in made.manifest.findings)


def counted(made: rec.Run) -> int:
    return sum(int((w.attempts["outcome"] == rec.COMMITTED).sum()) for w in made.workers)


def test_a_run_killed_while_it_measured_is_counted_checked_and_cleared(place: Place) -> None:
    folder = place.killed("measuring", 300, scenario="acked", writers=2, readers=1)
    seen = rec.last_seen(folder)
    assert place.left != []
    made = recover(folder).run
    assert made is not None
    manifest = made.manifest
    assert (manifest.ended, manifest.ok, manifest.recovered) == (
        "parent killed",
        False,
        "measuring",
    )
    assert manifest.window.measure_ns < manifest.window.stop_ns == seen
    assert counted(made) > 300
    assert all(finding.ok for finding in manifest.findings), sentences(made)
    assert f"{counted_writers(made):,} of" in sentences(made)
    assert {w.entry.state for w in made.workers} == {"interrupted"}
    assert all(w.entry.pragmas for w in made.workers)
    assert place.left == []
    left = {path.name for path in folder.iterdir()} - {f"worker-{n:03d}.npy" for n in range(3)}
    assert {name for name in left if not name.startswith("worker-")} == {"manifest.json"}


def test_a_run_is_held_before_it_can_be_read(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[bool] = []

    def looked(folder: Path, manifest: Manifest) -> None:
        write_manifest(folder, manifest)
        if manifest.under_way is not None:
            seen.append(is_going_on(folder, manifest))

    monkeypatch.setattr(conduct, "write_manifest", looked)
    run(make_plan(scenario="counter", database="null", writers=1, transactions=5), place.runs)
    assert seen and all(seen)


def test_what_a_worker_died_of_is_kept_when_its_run_is_killed_later(place: Place) -> None:
    folder = place.killed("measuring", 300, scenario="counter", writers=2)
    account = read_account(folder, "worker-001")
    leave(
        folder,
        "worker-001",
        account | {"state": "died", "account": "PanicException: out of bounds"},
    )
    made = recover(folder).run
    assert made is not None
    states = [(worker.entry.state, worker.entry.account) for worker in made.workers]
    assert states[0][0] == "interrupted"
    assert states[1] == ("died", "PanicException: out of bounds")


def counted_writers(made: rec.Run) -> int:
    return sum(
        int((w.attempts["outcome"] == rec.COMMITTED).sum())
        for w in made.workers
        if w.role == "writer"
    )


def test_a_run_that_loses_what_it_acknowledged_is_broken_also_when_it_was_killed(
    place: Place,
) -> None:
    folder = place.killed(
        "measuring", 300, scenario="counter", database="faulty-lost-commit", writers=2
    )
    made = recover(folder).run
    assert made is not None
    assert made.manifest.broken
    assert (folder / "database.db").exists()  # the evidence is kept
    assert place.left == []


def test_the_histories_of_a_killed_run_are_put_together(place: Place) -> None:
    folder = place.killed("measuring", 50, scenario="append", writers=2)
    assert not (folder / HISTORY_FILE).exists()
    recover(folder)
    assert len(load(folder / HISTORY_FILE)) > 50


@pytest.mark.parametrize("phase", ["loading", "starting"])
def test_a_run_killed_before_anything_was_measured_leaves_nothing(place: Place, phase: str) -> None:
    folder = place.killed(phase, scenario="bank", writers=2, params={"rows": 20_000})
    assert read_manifest(folder).under_way is not None
    assert place.left != []
    assert recover(folder).what == "removed"
    assert not folder.exists()
    assert place.left == []


def test_a_file_of_the_users_in_a_run_that_never_measured_is_not_removed(place: Place) -> None:
    folder = place.killed("starting", scenario="bank", writers=2)
    (folder / "notes.txt").write_text("mine")
    before = sorted(folder.iterdir())
    with pytest.raises(RunError, match=r"'notes\.txt' in it is none of ours"):
        recover(folder)
    assert sorted(folder.iterdir()) == before


def test_a_run_killed_in_its_warm_up_measured_nothing_but_keeps_its_attempts(place: Place) -> None:
    folder = place.killed("warm-up", 50, scenario="counter", writers=2, warmup_s=30)
    made = recover(folder).run
    assert made is not None
    assert made.window_ns[0] == made.window_ns[1]
    assert counted(made) >= 50
    assert all(finding.ok for finding in made.manifest.findings)


def test_a_run_killed_while_it_was_checked_keeps_its_window(place: Place) -> None:
    folder = place.killed("checking", scenario="counter", writers=2, transactions=100)
    made = recover(folder).run
    assert made is not None
    assert made.manifest.recovered == "checking"
    assert made.window_ns[1] == 1 + max(int(w.attempts["end_ns"].max()) for w in made.workers)
    assert {w.entry.state for w in made.workers} == {"finished"}
    assert all(finding.ok for finding in made.manifest.findings)


def test_a_run_that_is_going_on_is_not_recovered(place: Place) -> None:
    with place.begun(scenario="counter", writers=1) as process:
        wait_for(process, "measuring", 10)
        (folder,) = place.runs.iterdir()
        manifest = read_manifest(folder)
        assert is_going_on(folder, manifest)
        with pytest.raises(RunError, match=f"is still running .process {process.pid}."):
            recover(folder)
        with pytest.raises(RunError, match="is still running"):
            must_be_over(folder, manifest)
        assert list(interrupted(place.runs)) == []
        assert recover_all([place.runs], [place.homes]).failed == []
        assert (Path(manifest.under_way.home) / "database.db").exists()  # type: ignore[union-attr]
        process.send_signal(signal.SIGINT)
        process.wait(LIMIT_S)
    assert read_manifest(folder).ended == "interrupted"


def test_workers_that_outlive_their_parent_for_a_moment_are_waited_for(place: Place) -> None:
    folder = place.killed("measuring", 20, scenario="counter", writers=1)
    script = (
        "import sys, time; from pathlib import Path; from workloads.files import temporary\n"
        "held = temporary.hold(Path(sys.argv[1])); print(flush=True); time.sleep(1)"
    )
    argv = [sys.executable, "-c", script, str(folder)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, cwd=ROOT) as lingering:
        assert lingering.stdout is not None
        lingering.stdout.readline()
        assert recover(folder).what == "finished"
        assert lingering.poll() == 0


def test_a_database_that_is_gone_is_said_and_never_ok(place: Place) -> None:
    folder = place.killed("measuring", 50, scenario="append", writers=2)
    shutil.rmtree(place.homes)
    made = recover(folder).run
    assert made is not None
    (finding,) = made.manifest.unmade
    assert "the database is gone, with the temporary folder" in finding.sentence
    assert not finding.ok
    assert made.manifest.broken == []
    assert len(load(folder / HISTORY_FILE)) > 50
    assert counted(made) > 50


def test_after_the_machine_was_started_anew_nothing_is_held_against_the_engine(
    place: Place,
) -> None:
    folder = place.killed("measuring", 50, scenario="acked", writers=2)
    manifest = read_manifest(folder)
    assert manifest.under_way is not None
    manifest.under_way.boot_id = "another"
    write_manifest(folder, manifest)
    made = recover(folder).run
    assert made is not None
    (finding,) = made.manifest.unmade
    assert "the machine was started anew" in finding.sentence
    assert (folder / "database.db").exists()
    assert place.left == []


def test_a_user_s_file_is_run_only_where_it_is_given(place: Place, tmp_path: Path) -> None:
    mine, mark = tmp_path / "mine.py", tmp_path / "mark"
    mine.write_text(
        textwrap.dedent(
            f"""
            from workloads.scenarios.counter import Counter
            open({str(mark)!r}, "a").close()
            class Mine(Counter):
                name = "mine"
            """
        ),
        encoding="utf-8",
    )
    folder = place.killed("measuring", 50, scenario=f"{mine}:Mine", writers=2)
    mark.unlink()
    done = recover_all([place.runs], [place.homes])
    assert done.failed == [] and place.left == []
    manifest = read_manifest(folder)
    (finding,) = manifest.unmade
    assert f"cwkit recover {folder} --load {mine}" in finding.sentence
    assert not mark.exists()
    with pytest.raises(RunError, match="a file is loaded only where the command line names it"):
        recover(folder)
    assert not mark.exists()
    trust(mine)
    made = recover(folder).run
    assert made is not None
    assert mark.exists()
    assert made.manifest.unmade == [] and made.manifest.findings
    assert all(finding.ok for finding in made.manifest.findings)
    assert {w.entry.state for w in made.workers} == {"interrupted"}


def test_a_user_s_file_that_was_changed_since_is_not_run(place: Place, tmp_path: Path) -> None:
    mine = tmp_path / "mine.py"
    text = "from workloads.scenarios.counter import Counter\nclass Mine(Counter):\n    pass\n"
    mine.write_text(text)
    folder = place.killed("measuring", 50, scenario=f"{mine}:Mine", writers=1)
    mine.write_text(text + "# changed\n")
    trust(mine)
    made = recover(folder).run
    assert made is not None
    assert "was changed since the run was made" in made.manifest.unmade[0].sentence


def test_an_older_kit_s_run_is_counted_by_its_rows(place: Place) -> None:
    folder = place.killed("measuring", 300, scenario="counter", writers=2)
    manifest = json.loads((folder / "manifest.json").read_text())
    for key in ("under_way", "id"):
        del manifest[key]
    manifest["window"] = {"start_ns": 0, "measure_ns": 0, "stop_ns": 0}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    (folder / rec.LAST_SEEN).unlink()
    made = recover(folder).run
    assert made is not None
    ends = [
        int(max(w.attempts["end_ns"].max(), w.attempts["start_ns"].max())) for w in made.workers
    ]
    assert made.window_ns[1] == min(ends)
    assert made.window_ns[0] == min(int(w.attempts["start_ns"].min()) for w in made.workers)
    assert "did not say where its database was" in made.manifest.unmade[0].sentence
    assert recover(folder).what == "whole"


# --- what is forged -----------------------------------------------------------------------------


@pytest.fixture
def precious(tmp_path: Path) -> Path:
    folder = tmp_path / "cwkit-run-precious"
    folder.mkdir()
    for name in ("database.db", "file"):
        (folder / name).write_text("of the user")
    return folder


def forged_home(folder: Path, home: Path) -> None:
    manifest = read_manifest(folder)
    assert manifest.under_way is not None
    manifest.under_way.home = str(home)
    write_manifest(folder, manifest)


def test_a_folder_that_is_not_the_run_s_is_never_emptied(place: Place, precious: Path) -> None:
    folder = place.killed("measuring", 20, scenario="counter", writers=1)
    forged_home(folder, precious)
    made = recover(folder).run
    assert made is not None
    assert "the database is gone" in made.manifest.unmade[0].sentence
    assert sorted(path.name for path in precious.iterdir()) == ["database.db", "file"]


def test_a_link_in_place_of_the_database_is_not_followed(place: Place, precious: Path) -> None:
    folder = place.killed("measuring", 20, scenario="counter", writers=1)
    (home,) = place.homes.iterdir()
    (home / "database.db").unlink()
    (home / "database.db").symlink_to(precious / "database.db")
    made = recover(folder).run
    assert made is not None
    assert "the database is gone" in made.manifest.unmade[0].sentence
    assert (precious / "database.db").read_text() == "of the user"
    assert not (folder / "database.db").exists()
    assert place.left == []


def test_a_copy_of_a_run_takes_no_database_and_a_moved_run_does(place: Place) -> None:
    folder = place.killed("measuring", 20, scenario="counter", writers=1)
    copy = place.runs / "copy"
    shutil.copytree(folder, copy)
    made = recover(copy).run
    assert made is not None
    assert made.manifest.unmade
    assert place.left != []
    moved = folder.rename(place.runs / "moved")
    made = recover(moved).run
    assert made is not None
    assert made.manifest.unmade == [] and all(f.ok for f in made.manifest.findings)
    assert place.left == []


def test_an_owner_file_that_names_another_run_s_folder_changes_nothing_there(
    place: Place, tmp_path: Path
) -> None:
    plan = make_plan(scenario="counter", database="sqlite", writers=1, transactions=5)
    whole = run(plan, tmp_path / "others").folder
    before = {path: path.read_bytes() for path in whole.iterdir()}
    home = temporary.make("run", within=place.homes, run=whole, run_id="forged")
    home.release()
    done = recover_all([], [place.homes])
    assert done.folders == [home.path] and done.runs == []
    assert {path: path.read_bytes() for path in whole.iterdir()} == before


def test_a_damaged_manifest_keeps_its_database_where_it_is(place: Place) -> None:
    folder = place.killed("measuring", 20, scenario="counter", writers=1)
    (folder / "manifest.json").write_text("{")
    before = place.left
    done = recover_all([place.runs], [place.homes])
    assert done.runs == [] and done.folders == []
    assert place.left == before


@pytest.mark.parametrize("text", ['{"state": 7}', '{"cpu_s": -1}', '{"pragmas": 3}'])
def test_an_account_that_was_edited_is_one_sentence(place: Place, text: str) -> None:
    folder = place.killed("measuring", 20, scenario="counter", writers=1)
    (folder / "worker-000.account.json").write_text(text)
    with pytest.raises(RunError, match=r"^.*: an account .* cannot be read .*edited[.]$"):
        recover(folder)


# --- killed at every step ------------------------------------------------------------------------

STEPPED = """
import os, signal, sys, tempfile
from pathlib import Path
from workloads.files import temporary
from workloads.runs import recovery
from workloads.experiments import recover_all
from workloads.records import WAL_TRACK, read_manifest
from workloads.runs import make_plan
from workloads.runs import run

tempfile.gettempdir()  # tries whether it can write there: that file is Python's and not ours
CHANGES = ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "subprocess.Popen")
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT
first, step, here = int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
runs, homes = here / "runs", here / "homes"
plan = make_plan(scenario="acked", database="sqlite", writers=2, transactions=20)
whole = plan.model_copy(update={"duration_s": 60.0})

def killed_at(number, work):
    '''Have a child work, and be killed before its number-th change of a file. Its status.'''
    pid = os.fork()
    if pid:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    left = number
    def hook(event, args):
        nonlocal left
        if event in CHANGES or (event == "open" and args[2] and args[2] & WRITING):
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
    sys.addaudithook(hook)
    try:
        work()
    except BaseException as error:
        print(f"{type(error).__name__}: {error}", flush=True)
        os._exit(1)
    os._exit(0)
"""

KILLED_RUNS = """
number = first
while True:
    status = killed_at(number, lambda: run(whole, runs, databases=homes))
    assert status in (0, -9), status
    places = [homes, temporary.usual_places()[0]]
    done = recover_all([runs], places)
    assert done.failed == [], done.failed
    left = sorted(homes.iterdir()) + temporary.left_over(*places)
    assert left == [], left
    there = [path for path in runs.iterdir() if any(path.iterdir())] if runs.exists() else []
    for folder in there:
        manifest = read_manifest(folder)
        assert manifest.under_way is None, manifest
        assert all(f.ok for f in manifest.findings) and len(manifest.findings) == 3, manifest
        extra = {path.name for path in folder.iterdir()} - {"manifest.json", WAL_TRACK}
        assert all(name.endswith(".npy") for name in extra), extra
    print(number, len(there), [m.what for m in done.runs], flush=True)
    for folder in there:
        for path in folder.iterdir():
            path.unlink()
    if status == 0:
        break
    number += step
"""

KILLED_RECOVERIES = """
endless = whole.model_copy(update={"transactions": 0})
status = killed_at(60, lambda: run(endless, runs, databases=homes))
assert status == -9, status
(folder,) = runs.iterdir()
number = first
while True:
    status = killed_at(number, lambda: recovery.recover(folder))
    assert status in (0, -9), status
    print(number, status, flush=True)
    if status == 0:
        break
    number += step
recover_all([], [homes, temporary.usual_places()[0]])
assert list(homes.iterdir()) == []
manifest = read_manifest(folder)
assert manifest.under_way is None
assert all(f.ok for f in manifest.findings) and len(manifest.findings) == 3, manifest
assert (manifest.ended, manifest.recovered) == ("parent killed", "measuring"), manifest
assert {path.name.rpartition(".")[2] for path in folder.iterdir()} == {"json", "npy"}
"""


def stepped(tmp_path: Path, code: str, *argv: object) -> list[str]:
    (tmp_path / "homes").mkdir()
    (tmp_path / "tmp").mkdir()
    made = subprocess.run(
        [sys.executable, "-c", STEPPED + code, *map(str, argv)],
        cwd=ROOT,
        env=os.environ | {"TMPDIR": str(tmp_path / "tmp")},
        capture_output=True,
        text=True,
        timeout=580,
    )
    assert made.returncode == 0, made.stdout[-2000:] + made.stderr[-4000:]
    assert list((tmp_path / "tmp").iterdir()) == []
    print(made.stdout)
    return made.stdout.splitlines()


@pytest.mark.parametrize(
    "step", [pytest.param(1, marks=pytest.mark.slow), 23], ids=["every change", "some"]
)
def test_a_run_may_be_killed_before_any_change_that_it_makes(tmp_path: Path, step: int) -> None:
    lines = stepped(tmp_path, KILLED_RUNS, 1 if step == 1 else 7, step, tmp_path)
    assert len(lines) > 2


@pytest.mark.parametrize(
    "step", [pytest.param(1, marks=pytest.mark.slow), 11], ids=["every change", "some"]
)
def test_a_recovery_may_be_killed_before_any_change_that_it_makes(
    tmp_path: Path, step: int
) -> None:
    lines = stepped(tmp_path, KILLED_RECOVERIES, 1 if step == 1 else 5, step, tmp_path)
    assert len(lines) > 2
