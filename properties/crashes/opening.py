"""States written to folders and opened there by their engine, each in a process of its own."""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from workloads.engines import find_engine
from workloads.errors import RunFailed
from workloads.processes import (
    ChildProcess,
    describe_end,
    end,
    python,
    start,
)
from workloads.runs import Plan

DATABASE = "database.db"
LIMIT_S = 30.0
"""For an engine to open, check, read and write a database of some hundred kilobytes."""

MOST_ANSWER = 64 << 20


@dataclass(slots=True)
class Opened:
    """A state that is being looked at, in a folder of its own."""

    folder: Path
    child: ChildProcess
    output: IO[bytes]
    until: float
    limit_s: float

    def answer(self) -> dict[str, Any] | None:
        """What the process said, None while it is at it. Its folder stays.

        Raises RunFailed where the process failed by a fault of ours.
        """
        status = self.child.process.poll()
        if status is None:
            if time.monotonic() < self.until:
                return None
            end(self.child.process)
            self.output.close()
            return {"hung": self.limit_s}
        self.output.close()
        said = self._said()
        if status == 0 and said is not None:
            return said
        if status == 1:  # an exception of ours: nothing is known of the state
            raise RunFailed("A crash state could not be looked at.", self.child.stderr_text())
        return {"died": describe_end(self.child)}

    def _said(self) -> dict[str, Any] | None:
        path = self.folder / "answer.json"
        if path.stat().st_size > MOST_ANSWER:
            return None
        for line in reversed(path.read_text(encoding="utf-8", errors="replace").splitlines()):
            if line.startswith("{"):
                try:
                    found: dict[str, Any] = json.loads(line)
                except ValueError:
                    return None
                return found
        return None

    def close(self) -> None:
        """End what is still at it, and remove its folder."""
        if self.child.process.poll() is None:
            end(self.child.process)
        if not self.output.closed:
            self.output.close()
        shutil.rmtree(self.folder, ignore_errors=True)


def open_state(
    files: Mapping[str, bytes],
    folder: Path,
    plan: Plan,
    *,
    limit_s: float = LIMIT_S,
    what: str = "look",
    foreign: bool = True,
) -> Opened:
    """Write the files into a new folder and have the run's engine look at them.

    plan : the run's: its engine, mode and settings, its scenario. limit_s : then it hangs.
    what : "look", "open" to read what it holds alone, or "keys" to ask the engine, of a new
    database, whether it checks foreign keys. foreign : whether it is asked. Raises UnknownName for
    an engine or a scenario in a file that nobody named.
    """
    find_engine(plan.write_engine)  # a plan may be a folder's from elsewhere, and its file is code
    folder.mkdir(parents=True)
    write_state(files, folder)
    shape = plan.shape()
    job = {
        "engine": plan.write_engine,
        "begin": plan.begin,
        "scenario": plan.scenario,
        "params": shape.recorded(),
        "database": str(folder / DATABASE),
        "settings": settings_of(plan),
        "trusted": list(plan.files()),
        "what": what,
        "foreign": foreign,
    }
    (folder / "job.json").write_text(json.dumps(job), encoding="utf-8")
    (folder / "tmp").mkdir()
    output = (folder / "answer.json").open("wb")
    child = start(
        "after a crash",
        python("workloads.runs.after_crash", str(folder / "job.json")),
        last_words=folder / "last-words.txt",
        stdout=output,
        environment={"TMPDIR": str(folder / "tmp")},
    )
    return Opened(folder, child, output, time.monotonic() + limit_s, limit_s)


def write_state(files: Mapping[str, bytes], folder: Path) -> None:
    """The files of a state, which all belong to the database."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def digest_of(files: Mapping[str, bytes]) -> str:
    """What tells the bytes of a state from those of any other."""
    whole = hashlib.sha256()
    for name, content in files.items():
        whole.update(f"{name}\0{len(content)}\0".encode())
        whole.update(content)
    return whole.hexdigest()


def journal_of(plan: Plan) -> str:
    """The journal mode of a run's database; what an engine has instead of a log is one."""
    return plan.journal_mode or "wal"


def settings_of(plan: Plan) -> dict[str, Any]:
    """The settings of a run's connections, as plain data."""
    from dataclasses import asdict

    return asdict(plan.settings())
