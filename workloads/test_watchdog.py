"""A driver that never comes back: its process ends, and says at what."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

# In C, once with the interpreter's lock held, as a binding may wait, and once without.
HANGS = """
import ctypes, faulthandler, sys
from workloads import watchdog
from workloads.engines.sqlite import Sqlite
from workloads.interleave import Stage
from workloads.schedule import Schedule

class Hangs(Sqlite):
    def connect(self, path, **options):
        session = super().connect(path, **options)
        session.commit = ctypes.{library}(None).pause
        return session

faulthandler.enable()
watchdog.LIMIT_S = 0.5
with Stage("{file}:Hangs", ("immediate",)) as stage:
    print(len(stage.play(Schedule(("r 0",))).events), flush=True)
    stage.play(Schedule(("begin; append 0 7; commit",)))
"""


@pytest.mark.parametrize("library", ["PyDLL", "CDLL"])
def test_a_call_that_never_returns_ends_its_process_and_says_where(
    tmp_path: Path, library: str
) -> None:
    file = tmp_path / "hangs.py"
    text = HANGS.format(library=library, file=file)
    file.write_text(text.split("faulthandler.enable()")[0])
    done = subprocess.run(
        [sys.executable, "-c", text],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == -signal.SIGABRT, done.stderr
    assert done.stdout == "1\n"  # what returned in time was left alone
    assert "has not returned in 0.5 s" in done.stderr
    assert "begin; append 0 7; commit" in done.stderr
    assert "in call" in done.stderr  # where it stood, by faulthandler


def test_the_watching_process_ends_with_the_watched_one() -> None:
    text = (
        "from workloads.watchdog import watched\n"
        "import os, psutil\n"
        "with watched('x'): print(psutil.Process().children()[0].pid, flush=True)\n"
        "os._exit(0)\n"  # as if killed: nothing is tidied up
    )
    done = subprocess.run(
        [sys.executable, "-c", text],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    watching = int(done.stdout)
    limit = time.monotonic() + 30
    while Path(f"/proc/{watching}").exists() and time.monotonic() < limit:
        time.sleep(0.05)
    status = Path(f"/proc/{watching}/status")
    assert not status.exists() or "zombie" in status.read_text()
