"""Killed runs: found, counted as far as all their workers lived, checked, and cleared."""

import contextlib
import itertools
import json
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from workloads.engines import POSTGRES_URL, find_engine, serving, trust
from workloads.engines.postgres_server import read_address
from workloads.errors import RunError
from workloads.experiments import recover_all
from workloads.experiments.leftovers import interrupted
from workloads.files import made, temporary
from workloads.processes import Process, children, forking, python, start
from workloads.processes.accounts import leave, read_account
from workloads.records import HISTORY_FILE, WAL_TRACK, Manifest, read_manifest, write_manifest
from workloads.records import attempts as rec
from workloads.records.columns import load
from workloads.runs import conduct, making
from workloads.runs.conduct import run
from workloads.runs.plan import make_plan
from workloads.runs.recovery import is_going_on, must_be_over, recover

ROOT = Path(__file__).resolve().parents[2]
LIMIT_S = 90.0
POSTGRES, SQLD = find_engine("postgres"), find_engine("libsql-remote")
LONG = {"database": "sqlite", "duration_s": 60, "warmup_s": 0, "deadline_s": 20}

CONDUCTOR = """
import json, time
from pathlib import Path
from workloads.engines import trust
from workloads.runs import make_plan, run

def main(argv):
    plan, runs, homes, stays = json.loads(argv[0]), *map(Path, argv[1:3]), argv[3]

    def tell(progress):
        print(progress.phase, progress.committed, flush=True)
        while progress.phase == stays:
            time.sleep(1)

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
    def begun(self, stays: str = "", **plan: Any) -> Iterator[Process]:
        """The process of a run. stays : a phase that it does not leave: it may be a short one."""
        folders = str(self.runs), str(self.homes)
        process = start(
            "conductor",
            python("conductor", json.dumps(LONG | plan), *folders, stays),
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
        stays = phase if phase in ("loading", "starting", "checking") else ""
        with self.begun(stays, **plan) as process:
            family = wait_for(process, phase, committed)
        psutil.wait_procs(family, timeout=LIMIT_S)
        (folder,) = self.runs.iterdir()
        return folder

    @property
    def left(self) -> list[str]:
        return sorted(path.name for path in self.homes.iterdir())


def wait_for(process: Process, phase: str, committed: int) -> list[psutil.Process]:
    """Read what it tells until it is there; gives the processes that it has then.

    While workers work, the line after that one: between a look at them and the next one the moment
    is kept at which they were seen.
    """
    assert process.stdout is not None
    for line in process.stdout:
        there, number = line.decode().split()
        if there == phase and int(number) >= committed:
            if phase in ("warm-up", "measuring"):
                process.stdout.readline()
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

    for module in (conduct, making):
        monkeypatch.setattr(module, "write_manifest", looked)
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


@pytest.mark.skipif(SQLD.missing() is not None, reason=f"{SQLD.missing()}")
def test_a_killed_run_on_libsqls_server_is_checked_and_leaves_neither_server_nor_replica(
    place: Place,
) -> None:
    asked = {"scenario": "acked", "writers": 2, "readers": 1, "database": "libsql-remote"}
    folder = place.killed("measuring", 50, **asked, read_engine="libsql-replica")
    manifest = recover(folder).run.manifest  # type: ignore[union-attr]
    assert all(finding.ok for finding in manifest.findings) and len(manifest.findings) > 1
    assert manifest.under_way is None and place.left == []


@pytest.mark.skipif(POSTGRES.missing() is not None, reason=f"{POSTGRES.missing()}")
def test_a_killed_run_on_a_server_is_checked_on_the_servers_own_data(place: Place) -> None:
    level = {"begin": "serializable", "read_begin": "serializable"}
    asked = {"scenario": "counter", "writers": 2, "database": "postgres", **level}
    folder = place.killed("measuring", 50, **asked)
    (home,) = (path for path in place.homes.iterdir() if path.name.startswith("cwkit-run"))
    served = Path(read_address(home / "database.db").data).parent
    manifest = recover(folder).run.manifest  # type: ignore[union-attr]
    assert all(finding.ok for finding in manifest.findings) and len(manifest.findings) > 1
    assert manifest.under_way is None and place.left == []
    shutil.rmtree(served, ignore_errors=True)  # the next command's, in a place of its own


@pytest.mark.slow
@pytest.mark.skipif(POSTGRES.missing() is not None, reason=f"{POSTGRES.missing()}")
@pytest.mark.parametrize("phase", ["loading", "measuring"])
def test_what_a_killed_run_has_at_somebody_elses_server_is_checked_and_dropped(
    place: Place, monkeypatch: pytest.MonkeyPatch, phase: str
) -> None:
    level = {"begin": "serializable", "read_begin": "serializable"}
    asked = {"scenario": "counter", "writers": 2, "database": "postgres", **level}
    ours = "SELECT 1 FROM pg_namespace WHERE nspname LIKE 'cwkit%'"
    with made("test", within=Path("/tmp")) as folder, serving(POSTGRES, folder / "lent.db"):
        there = read_address(folder / "lent.db")
        url = f"postgresql://cwkit:{there.password}@127.0.0.1:{there.port}/cwkit"
        lender = POSTGRES.connect(str(folder / "lent.db"), begin="read-committed")
        monkeypatch.setenv(POSTGRES_URL, url)
        killed = place.killed(phase, 50 if phase == "measuring" else 0, **asked)
        monkeypatch.delenv(POSTGRES_URL)  # its address is in the run's temporary folder
        assert lender.rows(ours) == [(1,)]
        found = recover(killed)
        assert lender.rows(ours) == [] and place.left == []
        lender.close()
    assert found.what == ("removed" if phase == "loading" else "finished")
    if found.run is not None:
        assert found.run.manifest.findings and not found.run.manifest.unmade
        assert not found.run.manifest.broken


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
from workloads.runs import make_plan, recovery, run

CHANGES = ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "subprocess.Popen")
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT

def main(argv):
    # Work, and be killed before so many changes of files have been made.
    left, transactions, runs, homes = *map(int, argv[:2]), *map(Path, argv[2:])
    tempfile.gettempdir()  # tries whether it can write there: that file is Python's and not ours
    whole = make_plan(
        scenario="acked", database="sqlite", writers=2, duration_s=60,
        transactions=max(transactions, 0),
    )

    def hook(event, args):
        nonlocal left
        if event in CHANGES or (event == "open" and args[2] and args[2] & WRITING):
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)
    if transactions >= 0:
        run(whole, runs, databases=homes)
    else:
        recovery.recover(*runs.iterdir())
    return 0
"""
RECOVERY = -1
"""In place of a number of transactions: no run, but the recovery of the one that is there."""


class Stepped:
    """A run, or a recovery, that is killed at a step; it has a temporary folder of its own."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self.runs, self.homes, self.tmp = (folder / name for name in ("runs", "homes", "tmp"))
        self.homes.mkdir()
        self.tmp.mkdir()
        (folder / "stepped.py").write_text(STEPPED)
        monkeypatch.setattr(children, "PROGRAMS", (*forking.PROGRAMS, "stepped"))
        monkeypatch.setenv("TMPDIR", str(self.tmp))
        monkeypatch.setattr(tempfile, "tempdir", str(self.tmp))

    def killed_at(self, number: int, transactions: int) -> int:
        """Work in a process that is killed before its number-th change of a file. Its status."""
        child = start(
            "stepped",
            python("stepped", str(number), str(transactions), str(self.runs), str(self.homes)),
            last_words=self.folder / "stderr",
            search_path=[str(self.folder)],
            method="fork",
            conducts=True,
        )
        status = child.process.wait(LIMIT_S)
        assert status in (0, -signal.SIGKILL), child.stderr_text()
        return status

    @property
    def places(self) -> list[Path]:
        return [self.homes, temporary.usual_places()[0]]


@pytest.fixture
def stepped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stepped]:
    made = Stepped(tmp_path, monkeypatch)
    assert made.places[1] == made.tmp
    yield made
    assert list(made.tmp.iterdir()) == []


@pytest.mark.parametrize(
    "step", [pytest.param(1, marks=pytest.mark.slow), 23], ids=["every change", "some"]
)
def test_a_run_may_be_killed_before_any_change_that_it_makes(stepped: Stepped, step: int) -> None:
    for number in itertools.count(1 if step == 1 else 7, step):
        status = stepped.killed_at(number, transactions=20)
        done = recover_all([stepped.runs], stepped.places)
        assert done.failed == [], done.failed
        left = sorted(stepped.homes.iterdir()) + temporary.left_over(*stepped.places)
        assert left == [], left
        folders = stepped.runs.iterdir() if stepped.runs.exists() else ()
        there = [path for path in folders if any(path.iterdir())]
        for folder in there:
            manifest = read_manifest(folder)
            assert manifest.under_way is None, manifest
            assert all(f.ok for f in manifest.findings) and len(manifest.findings) == 3, manifest
            extra = {path.name for path in folder.iterdir()} - {"manifest.json", WAL_TRACK}
            assert all(name.endswith(".npy") for name in extra), extra
        print(number, len(there), [made.what for made in done.runs])
        for folder in there:
            shutil.rmtree(folder)
        if status == 0:
            break
    assert number > 2 * step


@pytest.mark.parametrize(
    "step", [pytest.param(1, marks=pytest.mark.slow), 11], ids=["every change", "some"]
)
def test_a_recovery_may_be_killed_before_any_change_that_it_makes(
    stepped: Stepped, step: int
) -> None:
    assert stepped.killed_at(60, transactions=0) == -signal.SIGKILL
    (folder,) = stepped.runs.iterdir()
    for number in itertools.count(1 if step == 1 else 5, step):
        status = stepped.killed_at(number, RECOVERY)
        print(number, status)
        if status == 0:
            break
    assert number > 2 * step
    recover_all([], stepped.places)
    assert list(stepped.homes.iterdir()) == []
    manifest = read_manifest(folder)
    assert manifest.under_way is None
    assert all(f.ok for f in manifest.findings) and len(manifest.findings) == 3, manifest
    assert (manifest.ended, manifest.recovered) == ("parent killed", "measuring"), manifest
    assert {path.name.rpartition(".")[2] for path in folder.iterdir()} == {"json", "npy"}
