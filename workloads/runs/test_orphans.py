"""A killed process takes with it all that it started, even what hangs in a driver's call."""

import contextlib
import os
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import psutil
import pytest

from workloads.engines import trust

ROOT = Path(__file__).resolve().parents[2]
LIMIT_S = 60.0

HANGING = """
import ctypes
from workloads.engines.sqlite import Sqlite
from workloads.scenarios.counter import Counter

def hang():
    # This call keeps the interpreter's lock, as a binding does: no thread here runs any more.
    ctypes.PyDLL(None).sleep(600)

class Hanging(Sqlite):
    def connect(self, path, *, begin="deferred", settings=None):
        if path.endswith("asked.db"):  # the loader asks for the mode of each role first
            return super().connect(path, begin=begin, settings=settings)
        hang()

class Checked(Counter):
    def check(self, session, log):
        hang()
"""

RUN = """
from pathlib import Path
from workloads.runs import make_plan
from workloads.runs import run
here = Path({here!r})
plan = {{"scenario": "counter", "database": "sqlite", "writers": 1, "transactions": 5}}
run(make_plan(**plan | {changes}), here / "runs", databases=here)
"""

PARENTS = {
    "a loader": ("job.json load", RUN, {"database": "{here}/hanging.py:Hanging"}),
    "a worker": ("job.json work", RUN, {"write_engine": "{here}/hanging.py:Hanging"}),
    "a checker": ("job.json check", RUN, {"scenario": "{here}/hanging.py:Checked"}),
    "an engine that is asked": (
        "engines.probing",
        'from workloads.engines.probing import probe; probe("{here}/hanging.py:Hanging")',
        {},
    ),
}


def children(pid, argv):
    """Processes below `pid` whose command line has this text."""
    found = []
    with contextlib.suppress(psutil.Error):
        for child in psutil.Process(pid).children(recursive=True):
            if argv in " ".join(child.cmdline()):
                found.append(child)
    return found


@pytest.mark.parametrize("what", list(PARENTS))
def test_what_hangs_is_gone_once_its_parent_was_killed(tmp_path, what):
    part, script, changes = PARENTS[what]
    (tmp_path / "hanging.py").write_text(textwrap.dedent(HANGING), encoding="utf-8")
    trust(tmp_path / "hanging.py")
    changes = {name: text.format(here=tmp_path) for name, text in changes.items()}
    code = script.format(here=str(tmp_path), changes=changes)
    own = os.environ | {"TMPDIR": str(tmp_path)}
    argv = [sys.executable, "-c", code]
    parent = subprocess.Popen(argv, cwd=ROOT, env=own, stderr=subprocess.PIPE)
    until = time.monotonic() + LIMIT_S
    try:
        while not (started := children(parent.pid, part)):
            assert time.monotonic() < until and parent.poll() is None, what
            time.sleep(0.05)
        hung(started[0])
    finally:
        parent.kill()
        parent.communicate()
    assert psutil.wait_procs(started, timeout=20)[1] == []


def hung(process):
    """Wait until it stands still, as one does that has come to its call."""
    until = time.monotonic() + LIMIT_S
    spent, still = -1.0, 0
    while still < 10:
        assert time.monotonic() < until
        times = process.cpu_times()
        still = still + 1 if times.user + times.system == spent else 0
        spent = times.user + times.system
        time.sleep(0.1)
