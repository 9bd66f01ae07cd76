"""Cells on several machines: real dask workers on CPUs of their own, one of them killed."""

import asyncio
import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import dask
import pytest
from distributed.versions import get_versions

from workloads.cluster import agent
from workloads.cluster import fetch as cell_there
from workloads.cluster.conduct import find_machines, run_on_cluster
from workloads.cluster.fetch import brought, opened
from workloads.cluster.local import LIMIT_S, LocalCluster, until
from workloads.cluster.machines import Machines, MachinesGone, checked_address, python_differs
from workloads.engines import trust
from workloads.errors import PlanError, RunError
from workloads.experiments import Design, read_experiment, run_experiment
from workloads.runs import digest

ROOT = Path(__file__).resolve().parents[2]
ALLOWED = sorted(os.sched_getaffinity(0))
FAST = {"scenario": "counter", "writers": 1, "duration_s": 0.1, "warmup_s": 0, "database": "null",
        "params": {"think_us": 1000, "think": "sleep"}}  # fmt: skip

two_cpus = pytest.mark.skipif(len(ALLOWED) < 2, reason="two machines need a CPU each")


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[LocalCluster]:
    with LocalCluster(tmp_path / "cluster") as made:
        yield made


def design(arms: dict[str, Any], **changes: Any) -> Design:
    values: dict[str, Any] = {"name": "t", "question": "?", "arms": arms, "blocks": 1, "seed": 4}
    return Design(**values | changes)


KILLER = """
import os, signal, psutil
from workloads.scenarios.counter import Counter

class Killer(Counter):
    '''The first of its transactions kills the dask worker, in the middle of the cell.'''

    def bodies(self, context):
        def deadly(body):
            def first(args):
                try:
                    os.close(os.open({flag!r}, os.O_CREAT | os.O_EXCL))
                except FileExistsError:
                    return body(args)
                os.kill(psutil.Process(os.getppid()).ppid(), {signal})
                return body(args)
            return first
        return tuple(map(deadly, super().bodies(context)))
"""


def killer(folder: Path) -> str:
    """A scenario's name. Its worker is the child of the cell's process, dask's the grandparent."""
    script = KILLER.format(flag=str(folder / "killed"), signal=int(signal.SIGKILL))
    (folder / "killer.py").write_text(script)
    trust(folder / "killer.py")
    return f"{folder}/killer.py:Killer"


def deadly_last(scenario: str, blocks: int) -> Design:
    """Two arms and then the one that kills, in this order in each block."""
    slow = {**FAST, "scenario": scenario, "duration_s": 0.3, "database": "sqlite"}
    arms = {"one": FAST, "two": FAST, "deadly": slow}
    found = (design(arms, blocks=blocks, seed=seed) for seed in itertools.count())
    return next(d for d in found if all(arms[-1] == "deadly" for arms in d.order()))


@two_cpus
def test_a_killed_worker_costs_its_block_and_nothing_else(cluster, tmp_path):
    cluster.worker("a", ALLOWED[:1])
    cluster.worker("b", ALLOWED[1:2])
    cluster.registered("a", "b")
    asked = deadly_last(killer(tmp_path), 2)
    notices: list[str] = []
    states: list[str] = []
    folder = tmp_path / "e"
    made = run_on_cluster(
        asked,
        folder,
        cluster.address,
        back_s=0.5,
        command="cwkit sweep t",
        notify=notices.append,
        on_cell=lambda experiment, block, arm, state: states.append(state),
    )
    assert made.complete, notices
    assert states.count("lost") == 1
    assert (tmp_path / "killed").exists()
    # It reads as any other experiment, and each block was made at one place.
    assert made.cells == read_experiment(folder).cells
    places: dict[int, set[Any]] = {}
    for cell in made.cells.values():
        manifest = cell.read().manifest
        assert cell.state == "done" and manifest.ok, cell
        conducted = manifest.conduct
        assert conducted.started_by == "dask" and not conducted.oversubscribed
        assert manifest.command == "cwkit sweep t"
        assert all(worker.cpus == conducted.cpus for worker in manifest.workers)
        assert os.uname().nodename not in manifest.model_dump_json()
        assert cluster.address not in manifest.model_dump_json()
        places.setdefault(cell.block, set()).add((manifest.machine.id, *conducted.cpus))
    assert [len(at) for at in places.values()] == [1, 1], places
    # The killed worker's cells of the block are kept: they were measured on the CPU that is gone.
    aside = sorted(path.name for path in (folder / "earlier").glob("*.cell.json"))
    lost = next(
        block for block in range(2) if f"Block {block + 1} was begun elsewhere" in notices[-1]
    )
    assert aside == [f"b0{lost}-{arm}.1.cell.json" for arm in ("one", "two")]
    before = [
        json.loads(path.read_text())["conduct"]["cpus"]
        for path in (folder / "earlier").glob("*/manifest.json")
    ]
    assert len(before) == 2
    assert made.cells[lost, "one"].read().manifest.conduct.cpus not in map(tuple, before)
    until(lambda: not cluster.cells_running())
    assert not list(folder.glob("*.arriving"))
    assert not list((cluster.folder / "tmp").glob("cwkit-*/database.db")), "a database was left"
    # And where no machine is left, what is done is kept.
    (tmp_path / "killed").unlink()
    with pytest.raises(MachinesGone, match=r"2 of 3 cells are done and kept\. .*same command"):
        run_on_cluster(
            deadly_last(killer(tmp_path), 1), tmp_path / "g", cluster.address, back_s=0.5
        )
    assert len(read_experiment(tmp_path / "g").cells) == 2
    until(lambda: not cluster.cells_running())


@pytest.mark.slow
def test_a_worker_that_its_nanny_starts_again_goes_on_with_its_block(cluster, tmp_path):
    cluster.worker("a", ALLOWED[:1], nanny=True)
    cluster.registered("a")
    asked = deadly_last(killer(tmp_path), 1)
    kept: list[tuple[str, str]] = []

    def on_cell(experiment, block, arm, state):
        if state == "lost":
            kept.extend((path.name, path.read_text()) for path in (tmp_path / "e").glob("*.json"))

    made = run_on_cluster(asked, tmp_path / "e", cluster.address, back_s=LIMIT_S, on_cell=on_cell)
    assert [cell.state for cell in made.cells.values()] == ["done"] * 3
    assert not (tmp_path / "e" / "earlier").exists()
    assert len(kept) == 3  # two cells and the experiment
    assert all((tmp_path / "e" / name).read_text() == text for name, text in kept)


CONDUCT = """
import json, sys
from pathlib import Path
from workloads.cluster import run_on_cluster
from workloads.experiments import Design

try:
    run_on_cluster(Design(**json.loads(sys.argv[3])), Path(sys.argv[1]), sys.argv[2], limit_s=60)
except KeyboardInterrupt:
    sys.exit(130)
"""


def test_who_cannot_take_part_is_told_and_ctrl_c_ends_the_cells_there(
    cluster, tmp_path, monkeypatch
):
    asked = design({"only": FAST})
    # Nobody offers the resource.
    plain = cluster.worker("plain", ALLOWED[:1], "")
    cluster.registered("plain")
    notices: list[str] = []
    with pytest.raises(RunError, match="No worker of the cluster offers cwkit=1"):
        run_on_cluster(asked, tmp_path / "e", cluster.address, limit_s=0.2, notify=notices.append)
    assert notices == ["Worker plain offers no cwkit=1, so it is not used."]
    # Another cwkit: one line more.
    other = tmp_path / "other"
    shutil.copytree(ROOT / "workloads", other / "workloads")
    pacing = other / "workloads" / "runs" / "pacing.py"
    pacing.write_text(pacing.read_text() + "# changed\n")
    stranger = cluster.worker("stranger", ALLOWED[:1], path=other)
    cluster.worker("twin", ALLOWED[:1])
    cluster.registered("plain", "stranger", "twin")
    with pytest.raises(RunError, match=r"Worker stranger has cwkit .*, and here is ") as caught:
        find_machines(asked, cluster.address, limit_s=LIMIT_S)
    assert "\n" not in str(caught.value) and "twin" not in str(caught.value)
    assert not (tmp_path / "e").exists()
    for process in (plain, stranger):
        process.terminate()
    # Two on the same CPU.
    cluster.worker("double", ALLOWED[:1])
    cluster.registered("twin", "double")
    with pytest.raises(RunError, match=r"share its CPUs .*--oversubscribe"):
        find_machines(asked, cluster.address, limit_s=LIMIT_S)
    assert find_machines(asked, cluster.address, oversubscribe=True, limit_s=LIMIT_S) == 2
    monkeypatch.setattr(cell_there, "PIECE_BYTES", 1000)  # a run comes in many pieces
    counted = design({"only": {**FAST, "transactions": 500, "duration_s": LIMIT_S}})
    made = run_on_cluster(
        counted, tmp_path / "o", cluster.address, oversubscribe=True, limit_s=LIMIT_S
    )
    run = made.cells[0, "only"].read()
    assert run.manifest.conduct.oversubscribed and run.manifest.conduct.jobs == 2
    assert run.workers[0].attempts["txn"].tolist() == list(range(500))
    # A mistake in a cell's plan is reported with its worker; no run is made of it.
    wrong = design({"only": {**FAST, "scenario": "nonsense"}})
    with pytest.raises(Exception, match=r"Worker .*nonsense"):
        run_on_cluster(wrong, tmp_path / "w", cluster.address, oversubscribe=True, limit_s=LIMIT_S)
    cluster.processes[-1].terminate()
    cluster.registered("twin")
    # Ctrl-C in the middle of a cell that would take longer than this test has.
    arms = {"short": FAST, "long": {**FAST, "duration_s": 3 * LIMIT_S}}
    seed = next(s for s in range(99) if design(arms, seed=s).order()[0][0] == "short")
    fields: dict[str, Any] = {"name": "t", "question": "?", "arms": arms, "blocks": 1, "seed": seed}
    folder = tmp_path / "e"
    argv = [sys.executable, "-c", CONDUCT, str(folder), cluster.address, json.dumps(fields)]
    conductor = subprocess.Popen(argv, env=os.environ | {"PYTHONPATH": str(ROOT)})
    try:
        until((folder / "b00-short.cell.json").exists)
        until(lambda: list((cluster.folder / "tmp").rglob("b00-long/worker-000.npy")))
        assert cluster.cells_running()
        conductor.send_signal(signal.SIGINT)
        assert conductor.wait(LIMIT_S) == 130
    finally:
        conductor.kill()
        conductor.wait()
    until(lambda: not cluster.cells_running())
    assert not list((cluster.folder / "tmp").rglob("cwkit-*/database*"))
    assert not list((cluster.folder / "tmp").rglob("b00-*"))  # nothing of ours is left there
    # It goes on at the same place; resumed without the cluster, the block is run whole.
    arms["long"] = FAST
    described = json.loads((folder / "experiment.json").read_text()) | {"arms": arms}
    (folder / "experiment.json").write_text(json.dumps(described))
    made = run_experiment(Design(**fields), folder)
    assert made.complete and (folder / "earlier" / "b00-short.1.cell.json").exists()


DIFFERENT: dict[str, tuple[dict[str, Any], str]] = {
    "nothing": ({}, ""),
    "commit": ({"commit": "0" * 12}, "cwkit 000000000000"),
    "changed files": ({"source": "f" * 12}, r"cwkit .*source ffffffffffff"),
    "changed later": ({"loaded": "f" * 12}, "changed since it was started"),
    "format": ({"format": 99}, "format 99"),
    "engine": ({"engines": {"sqlite": "sqlite3 1.0"}}, r"another sqlite \(sqlite3 1\.0\)"),
    "scenario": ({"files": {"mine.py": "f" * 12}}, "another file mine.py"),
    "no scenario": ({"files": {"mine.py": ""}}, "no file mine.py"),
}


@pytest.mark.parametrize("what", list(DIFFERENT))
def test_a_machine_that_would_measure_something_else_is_refused(what, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    trust(tmp_path / "mine.py")
    (tmp_path / "mine.py").write_text("from workloads.scenarios.counter import Counter as Mine\n")
    arms = {"only": {**FAST, "database": "sqlite", "scenario": "mine.py:Mine"}}
    machines = Machines(None, design(arms), oversubscribe=False, notify=print)
    same = agent.who(["sqlite"], []) | {"files": {"mine.py": digest(Path("mine.py"))}}
    changes, pattern = DIFFERENT[what]
    found = machines.differs(same | changes)
    assert re.search(pattern, found) if pattern else found == ""
    assert "\n" not in found


def test_another_python_or_another_dask_is_refused():
    same = get_versions()["packages"]
    assert python_differs(same) == ""
    assert python_differs(same | {"python": "3.9.1.final.0"}).startswith(
        "python 3.9.1.final.0, and"
    )
    assert python_differs(same | {"distributed": None}).startswith("distributed None, and here is")


@pytest.mark.parametrize("where", ["here", "elsewhere", "unknown"])
def test_a_block_that_another_machine_began_is_run_whole(where, tmp_path):
    asked = design({"one": FAST, "two": FAST})
    run_experiment(asked, tmp_path)
    (tmp_path / "b00-two.cell.json").unlink()
    path = tmp_path / "b00-one" / "manifest.json"
    manifest = json.loads(path.read_text())
    if where == "elsewhere":
        manifest["machine"]["id"] = "0" * 12
    elif where == "unknown":  # a run of before
        del manifest["machine"]["id"]
    path.write_text(json.dumps(manifest))
    made = run_experiment(asked, tmp_path)
    assert made.complete
    aside = [path.name for path in (tmp_path / "earlier").glob("*.json")]
    assert aside == (["b00-one.1.cell.json"] if where == "elsewhere" else [])


@pytest.mark.parametrize(
    "address",
    ["", "nonsense", "host:", ":8786", "tcp://host", "foo://host:1", "host:99999", "a:1/b", "h:x"],
)
def test_what_is_no_address_is_told(address, tmp_path):
    with pytest.raises(PlanError, match="Give HOST:PORT"):
        run_on_cluster(design({"only": FAST}), tmp_path / "e", address)
    assert not (tmp_path / "e").exists()


def test_a_scheduler_that_is_not_there_is_told_within_the_limit(tmp_path):
    begun = time.monotonic()
    with pytest.raises(RunError, match=r"no dask scheduler answered within 0\.3 s"):
        run_on_cluster(design({"only": FAST}), tmp_path / "e", "127.0.0.1:1", limit_s=0.3)
    assert time.monotonic() - begun < 30
    assert not (tmp_path / "e").exists()


@pytest.mark.parametrize(
    ("file", "pattern"),
    [
        (None, "TLS needs a certificate, and there is none. Name the files"),
        ("/nonexistent.pem", "the certificate can't be used: .*No such file"),
        (__file__, "the certificate can't be used: "),
    ],
    ids=["none", "missing", "no certificate"],
)
def test_an_address_that_wants_a_certificate_is_told(file, pattern, tmp_path):
    names = ("ca-file", "client.cert", "client.key")
    with (
        dask.config.set({f"distributed.comm.tls.{name}": file for name in names}),
        pytest.raises(PlanError, match=pattern),
    ):
        run_on_cluster(design({"only": FAST}), tmp_path / "e", "tls://127.0.0.1:1", limit_s=0.3)
    assert not (tmp_path / "e").exists()


def test_a_file_that_a_worker_names_never_lies_outside(tmp_path):
    for path in ("../x", "/etc/x", "a/../../x", ""):
        with pytest.raises(RunError, match="outside"):
            opened(tmp_path / "run", path).__enter__()
    with opened(tmp_path / "run", "a/b.npy") as out:
        out.write(b"x")
    assert (tmp_path / "run" / "a" / "b.npy").read_bytes() == b"x"
    assert checked_address("tls://h:1") == "tls://h:1"


ANSWER = {"state": "done", "reason": "", "took_s": 1.0, "run": "b00-a", "files": [("a.npy", 3)]}
FORGED: dict[str, tuple[dict[str, Any], str]] = {
    "a file outside": ({"files": [("../../precious/a", 3)]}, "lies outside it"),
    "a file by its path": ({"files": [("/etc/passwd", 3)]}, "lies outside it"),
    "a name that acts": ({"files": [("\x1b[2J", 3)]}, "lies outside it"),
    "a size below 0": ({"files": [("a.npy", -1)]}, "`files"),
    "no list": ({"files": "all"}, "`files`"),
    "a state that is none": ({"state": "well"}, "`state`"),
    "a reason that is none": ({"reason": 7}, "`reason`"),
    "years": ({"took_s": 1e300}, "`took_s`"),
}


@pytest.mark.parametrize("forged", list(FORGED))
def test_what_a_worker_says_is_checked_before_anything_is_written(
    tmp_path: Path, forged: str
) -> None:
    class Answering:
        """Machines whose worker gives three bytes for every piece that it is asked for."""

        async def ask(self, *pattern: object) -> bytes:
            return b"abc"

    machine = SimpleNamespace(name="w", address="tcp://1", token="t")
    job = {"block": 0, "arm": "a"}
    to = tmp_path / "sweep"
    to.mkdir()
    changes, pattern = FORGED[forged]

    def fetched(answer: dict[str, Any]) -> Any:
        machines: Any = Answering()
        return asyncio.run(brought(machines, cast(Any, machine), job, answer, to))

    with pytest.raises(RunError, match=pattern) as error:
        fetched(ANSWER | changes)
    assert str(error.value).isprintable()
    assert list(tmp_path.iterdir()) == [to] and list(to.iterdir()) == []
    assert fetched(ANSWER).folder == to / "b00-a"
    assert (to / "b00-a" / "a.npy").read_bytes() == b"abc"
