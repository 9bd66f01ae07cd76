"""A user's file is loaded once in a process, from any folder, with its neighbours beside it."""

import os
import pickle
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import pytest

from workloads.engines.engine import find_engine
from workloads.engines.probing import probe
from workloads.engines.registry import from_file, trust
from workloads.errors import UnknownName
from workloads.records import attempts as rec
from workloads.runs import make_plan, run
from workloads.scenarios import find_scenario

ROOT = Path(__file__).resolve().parents[2]

ENGINE = """
    from workloads.engines.sqlite import Sqlite

    EXECUTED = []
    EXECUTED.append(1)

    class Mine(Sqlite):
        name = "mine"
        opened = []

        def connect(self, path, **how):
            self.opened.append(path)
            return super().connect(path, **how)
"""


def written(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(textwrap.dedent(text), encoding="utf-8")
    trust(path)
    return path


def test_a_file_is_executed_once_and_its_class_stays_the_same(tmp_path):
    path = written(tmp_path / "engine.py", ENGINE)
    first, second = find_engine(f"{path}:Mine"), from_file(f"{path}:Mine", "engine")()
    first.connect(str(tmp_path / "a.db")).close()
    assert second.opened == [str(tmp_path / "a.db")]
    assert type(first) is type(second)
    assert sys.modules[type(first).__module__].EXECUTED == [1]


def test_a_file_is_one_file_by_whichever_path(tmp_path, monkeypatch):
    path = written(tmp_path / "mine" / "engine.py", ENGINE)
    (tmp_path / "link.py").symlink_to(path)
    monkeypatch.chdir(tmp_path)
    names = (f"{path}:Mine", "mine/engine.py:Mine", "mine/../mine/engine.py:Mine", "link.py:Mine")
    assert len({from_file(name, "engine") for name in names}) == 1


def test_a_file_that_was_changed_is_executed_anew(tmp_path):
    path = written(tmp_path / "engine.py", "class A: value = 1\n")
    before = from_file(f"{path}:A", "engine")
    stamp = path.stat().st_mtime_ns
    written(path, "class A: value = 2\n")
    os.utime(path, ns=(stamp, stamp))  # as where both were written within one tick of the clock
    assert from_file(f"{path}:A", "engine").value == 2
    assert before.value == 1


def test_two_files_of_one_name_are_two(tmp_path):
    one = written(tmp_path / "one" / "engine.py", "class A: where = 1\n")
    two = written(tmp_path / "two" / "engine.py", "class A: where = 2\n")
    found = [from_file(f"{path}:A", "engine") for path in (one, two, one)]
    assert [cls.where for cls in found] == [1, 2, 1]
    assert len({cls.__module__ for cls in found}) == 2


def test_threads_that_ask_at_the_same_time_get_the_same_class(tmp_path):
    path = written(tmp_path / "slow.py", "import time\ntime.sleep(0.05)\nclass A: pass\n")
    found = []
    threads = [
        threading.Thread(target=lambda: found.append(from_file(f"{path}:A", "engine")))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    assert len(set(found)) == 1


def test_neighbours_are_imported_relatively_and_never_mixed_up(tmp_path):
    for folder in ("one", "two"):
        written(tmp_path / folder / "helper.py", f"where = {folder!r}\n")
        text = "from . import helper\nfrom .helper import where\nclass A: found = helper.where\n"
        written(tmp_path / folder / "engine.py", text)
    found = [from_file(f"{tmp_path / folder}/engine.py:A", "engine") for folder in ("one", "two")]
    assert [cls.found for cls in found] == ["one", "two"]


def test_a_neighbour_imported_as_if_it_were_installed_is_told_the_way(tmp_path):
    written(tmp_path / "my_helper_beside.py", "")
    path = written(tmp_path / "engine.py", "import my_helper_beside\n")
    with pytest.raises(UnknownName, match=r"relatively: from \. import my_helper_beside"):
        from_file(f"{path}:A", "engine")
    path = written(tmp_path / "other.py", "import not_there_at_all\n")
    with pytest.raises(UnknownName, match=r"not_there_at_all'\.$"):
        from_file(f"{path}:A", "engine")


def test_what_a_file_of_an_odd_name_defines_can_be_pickled(tmp_path):
    path = written(tmp_path / "my engine.v2.py", "class A: pass\n")
    made = from_file(f"{path}:A", "engine")
    assert type(pickle.loads(pickle.dumps(made()))) is made


def test_a_file_that_failed_is_tried_again_and_leaves_nothing(tmp_path):
    path = written(tmp_path / "engine.py", "class A: pass\nraise ValueError('not yet')\n")
    before = set(sys.modules)
    for _ in range(2):
        with pytest.raises(UnknownName, match="not yet"):
            from_file(f"{path}:A", "engine")
    assert not [name for name in set(sys.modules) - before if name.endswith(".engine")]
    written(path, "class A: pass\n")
    assert from_file(f"{path}:A", "engine")


def test_an_engine_of_a_file_is_asked_in_a_process_of_its_own(tmp_path):
    # Its identity is an object of its own class, which has to come back through a pipe.
    path = written(
        tmp_path / "far" / "engine.py",
        """
        from workloads.engines import Identity
        from workloads.engines.sqlite import Sqlite

        class Who(Identity):
            pass

        class Mine(Sqlite):
            def identity(self):
                return Who(*super().identity())
        """,
    )
    found = probe(f"{path}:Mine")
    assert found.missing is None
    assert type(found.identity).__name__ == "Who"
    assert found.modes["immediate"].accepted


THREADED = """
    from workloads.engines.{module} import {base}
    from .counting import opened

    class Mine({base}):
        name = "mine"
        hosting = "thread"

        def connect(self, path, **how):
            opened.append(path)
            with open({opened_paths!r}, "a") as file:
                print(len(opened), file=file)
            return super().connect(path, **how)
"""


@pytest.mark.parametrize(("module", "base"), [("sqlite", "Sqlite"), ("turso", "Turso")])
def test_a_thread_hosted_engine_of_another_folder_runs_and_shares_its_module(
    tmp_path, module, base
):
    if why := find_engine(module).missing():
        pytest.skip(why)
    written(tmp_path / "far away" / "counting.py", "opened = []\n")
    opened_paths = tmp_path / "told"
    text = THREADED.format(module=module, base=base, opened_paths=str(opened_paths))
    path = written(tmp_path / "far away" / "engine.py", text)
    plan = make_plan(scenario="counter", database=f"{path}:Mine", writers=3, transactions=5)
    made = run(plan, tmp_path / "runs")
    assert made.manifest.ok, made.manifest
    assert len({worker.entry.pid for worker in made.workers}) == 1
    # Three of the workers are of one process, and of one module.
    opened = opened_paths.read_text().split()
    assert max(opened) == "3"


def test_a_file_called_as_a_library_is_does_not_take_its_place(tmp_path):
    # `python -m` would look into the current folder first: random.py there was the library's.
    written(
        tmp_path / "random.py",
        """
        from workloads.scenarios.counter import Counter

        class Mine(Counter):
            name = "mine"
        """,
    )
    argv = ["run", "--scenario", "random.py:Mine", "--database", "sqlite", "--transactions", "5"]
    done = subprocess.run(
        [Path(sys.executable).parent / "cwkit", *argv, "--writers", "2"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    (folder,) = (tmp_path / "runs").iterdir()
    assert sum(len(worker.attempts) for worker in rec.read_run(folder).workers) == 10


def test_the_examples_are_found_from_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    trust(*(ROOT / "examples").glob("*.py"))
    assert find_scenario(f"{ROOT / 'examples' / 'scenario_wallet.py'}:Wallet").name == "wallet"
    assert find_engine(f"{ROOT / 'examples' / 'engine_slower.py'}:Slower").name == "slower"
