"""A child process is started in one way: what it gets, and that nothing else starts one."""

import ast
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from workloads.files import ROOT
from workloads.processes import describe_end, start, wait

LIMIT_S = 60.0
STARTERS = {
    "workloads/processes/children.py": "subprocess.Popen",
    "workloads/processes/copying.py": "os.fork",
    "workloads/processes/forking.py": "subprocess.Popen",
    "workloads/processes/handles.py": "subprocess.TimeoutExpired",
    "workloads/processes/preloaded.py": "os.fork",
}
BY_RUN = {
    "workloads/runs/machine.py": "git, asked for the commit",
}
"""Who else may call subprocess.run: programs that answer at once and open no database."""

SHOWS = """
import json, os, sys
said = {name: os.environ.get(name) for name in (
    "PYTHONPATH", "OPENBLAS_NUM_THREADS", "CWKIT_PARENT", "SQLD_X", "MORE")}
print(json.dumps(said | {"group": os.getpgrp() == os.getpid(), "stdin": sys.stdin.read()}))
"""


def shown(path: Path, **how: Any) -> dict[str, Any]:
    child = start("shows", [sys.executable, "-c", SHOWS], last_words=path, **how)
    assert wait(child, LIMIT_S) == 0, child.stderr_text()
    return json.loads(child.stderr_text())


def test_a_child_gets_our_code_first_one_thread_its_parent_and_a_group_of_its_own(
    tmp_path, monkeypatch
):
    monkeypatch.setenv("PYTHONPATH", "/there")
    assert shown(tmp_path / "said") == {
        "PYTHONPATH": f"{ROOT}:/there",
        "OPENBLAS_NUM_THREADS": "1",
        "CWKIT_PARENT": str(os.getpid()),
        "SQLD_X": None,
        "MORE": None,
        "group": True,
        "stdin": "",
    }


def test_a_foreign_program_is_told_what_the_caller_says_and_no_parent(tmp_path, monkeypatch):
    monkeypatch.setenv("SQLD_X", "1")
    seen = shown(
        tmp_path / "said",
        foreign=True,
        without="SQLD_",
        environment={"MORE": "more"},
        search_path=["/here"],
        own_group=False,
    )
    assert (seen["SQLD_X"], seen["MORE"], seen["CWKIT_PARENT"]) == (None, "more", None)
    assert (seen["PYTHONPATH"], seen["group"]) == (f"{ROOT}:/here", False)


def test_its_last_words_are_kept_and_told(tmp_path):
    child = start("dies", [sys.executable, "-c", "raise OSError('no')"], last_words=tmp_path / "x")
    assert wait(child, LIMIT_S) == 1
    assert describe_end(child) == "exit status 1: OSError: no"


def test_who_takes_too_long_is_ended(tmp_path):
    child = start("hangs", ["sleep", "600"], last_words=tmp_path / "x")
    assert wait(child, 0.0) is None
    assert not psutil.pid_exists(child.process.pid)


PARENT = """
import sys, time
from workloads.processes import start
child = start("child", {argv!r}, foreign={foreign})
print(child.process.pid, flush=True)
time.sleep(600)
"""


def ours(call: str) -> list[str]:
    code = f"import time; from workloads import processes; processes.{call}; time.sleep(600)"
    return [sys.executable, "-c", code]


@pytest.mark.parametrize(
    ("argv", "foreign"),
    [
        (ours("die_with_parent()"), False),
        (ours("end_with_parent(9)"), False),
        (["sleep", "600"], True),
    ],
    ids=["at once", "in order", "a foreign program"],
)
def test_it_is_gone_with_its_parent(argv, foreign):
    command = [sys.executable, "-c", PARENT.format(argv=argv, foreign=foreign)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT) as parent:
        assert parent.stdout is not None
        child = psutil.Process(int(parent.stdout.readline()))
        parent.kill()
    child.wait(LIMIT_S)


def test_a_child_whose_parent_is_not_known_lives_on():
    argv = [sys.executable, "-c", "import workloads.processes as p; p.die_with_parent(); print(1)"]
    done = subprocess.run(argv, capture_output=True, text=True, cwd=ROOT, timeout=LIMIT_S)
    assert done.stdout == "1\n"


STARTS = (
    *("os.fork", "os.spawn", "os.posix_spawn", "os.popen", "os.system", "subprocess."),
    *("multiprocessing.", "asyncio.create_sub"),
)


def calls(path: Path) -> set[str]:
    """The calls of a module that start a process: "subprocess.run", "os.fork" and their like."""
    text = path.read_text(encoding="utf-8")
    # What is written otherwise than the formatter writes it is found by no test, and by lint.
    if not any(start in text for start in (*STARTS, "from subprocess", "from multiprocessing")):
        return set()
    found = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ImportFrom) and node.module in ("subprocess", "multiprocessing"):
            found |= {f"{node.module}.{one.name}" for one in node.names}
        if isinstance(node, ast.Call) and (called := ast.unparse(node.func)).startswith(STARTS):
            found.add(called)
    return found


def test_no_other_module_starts_a_process():
    seen = set()
    for package in ("workloads", "properties", "analysis"):
        for path in (ROOT / package).rglob("*.py"):
            name = path.relative_to(ROOT).as_posix()
            if path.name.startswith("test_") or path.name == "testing.py":
                continue
            allowed = {"subprocess.run"} if name in BY_RUN else set[str]()
            allowed |= {STARTERS[name]} if name in STARTERS else set[str]()
            called = calls(path)
            assert called <= allowed, f"{name} starts a process: {called - allowed}"
            seen |= {name} if called else set()
    assert seen == STARTERS.keys() | BY_RUN.keys()
