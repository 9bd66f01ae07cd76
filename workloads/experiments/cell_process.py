"""A cell that runs in a process of its own: started, listened to, ended, and its state read.

It serves the two that run several cells at a time: `workloads.experiments.conduct` on this
machine, and `workloads.cluster.agent` on each machine of a cluster.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import msgspec

from workloads.errors import FolderUnwritable, PlanError, RunError, UnknownName
from workloads.experiments import half_done
from workloads.experiments.experiment import (
    FAILED,
    Cell,
    cell_name,
    read_cell,
    write_cell,
    write_last_words,
)
from workloads.files import inside, resolved
from workloads.processes import gist, python, read_open, start
from workloads.runs import START_LIMIT_S, Progress, make_plan

END_LIMIT_S = 15.0
"""How long an interrupted cell may take to end in order before it is killed, s."""

ERRORS: dict[str, type[Exception]] = {
    error.__name__: error for error in (FolderUnwritable, PlanError, UnknownName, RunError)
}
"""Errors that `run_cell` raises and a cell's process reports: the user can mend them."""


class _Line(msgspec.Struct, frozen=True):
    """A line from a cell's process: its progress, a notice, or an error that the user can mend."""

    progress: Progress | None = None
    error: str = ""
    message: str = ""
    notice: str = ""


class CellProcess:
    """The process of one cell. At `until` it has had more time than any cell can need.

    notices : sentences for the user; whoever shows one takes it out.
    """

    def __init__(
        self,
        folder: Path,
        block: int,
        arm: str,
        values: Mapping[str, Any],
        *,
        cpus: Sequence[int],
        databases: Path | None,
        how: Mapping[str, Any],
        inherit: Sequence[int] = (),
        within: Path | None = None,
    ) -> None:
        """Start it. The arguments are those of `run_cell`.

        inherit : open files that it keeps open. within : the folder it runs in.
        """
        self.folder, self.block, self.arm = folder, block, arm
        self.unread, self.error = b"", dict[str, str]()
        self.notices = list[str]()
        job = {
            "folder": str(folder),
            "block": block,
            "arm": arm,
            "cpus": list(cpus),
            "databases": str(resolved(databases)) if databases else "",
            "how": dict(how),
            "conductor": os.getpid(),
        }
        self.errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115, closed by `forget`
        self.process = start(
            f"block-{block:02d}-{arm}",
            python("workloads.experiments.cell", json.dumps(job)),
            last_words=self.errors,
            stdout=subprocess.PIPE,
            inherit=inherit,
            within=within,
            conducts=True,
        ).process
        self.until = time.monotonic() + longest_s(values)

    def fileno(self) -> int:
        """Readable when it reports something, or has ended: for `selectors`."""
        assert self.process.stdout is not None
        return self.process.stdout.fileno()

    def hear(self, data: bytes) -> Iterator[Progress]:
        """Read its reports, line by line: progress is returned, the rest is kept."""
        *lines, self.unread = (self.unread + data).split(b"\n")
        for line in lines:
            with contextlib.suppress(msgspec.DecodeError, UnicodeError, RecursionError):
                # else a library's print in a scenario
                report = msgspec.json.decode(line, type=_Line)
                if report.progress is not None:
                    yield report.progress
                elif report.notice:
                    self.notices.append(report.notice)
                elif report.error:
                    self.error = {"error": report.error, "message": report.message}

    @property
    def late(self) -> bool:
        return time.monotonic() > self.until

    def outcome(self) -> Cell:
        """Its cell, once it has closed its output; a failed one where it left no state.

        Raises the error that it reported, for the user to mend.
        """
        try:
            status = self.process.wait(END_LIMIT_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            status = self.process.wait()
        text, late = read_open(self.errors), self.late
        self.forget()
        if self.error:
            raise ERRORS.get(self.error["error"], RunError)(self.error["message"])
        cell = read_cell(self.folder, self.block, self.arm)
        if cell is None:
            how = f"signal {-status}" if status < 0 else f"exit status {status}"
            ended = "it took too long and was ended, " if late else ""
            sentence = f"the cell's process left no result: {ended}{how}: {gist(text)}"
            write_last_words(self.folder, self.block, self.arm, text)
            made = inside(self.folder, cell_name(self.block, self.arm))
            half_done.finished(made)
            run = made if (made / "manifest.json").exists() else None
            cell = Cell(self.block, self.arm, FAILED, sentence.rstrip(": "), run)
            write_cell(self.folder, cell)
        return cell

    def forget(self) -> None:
        """Close what is open of a process that has ended."""
        assert self.process.stdout is not None
        self.process.stdout.close()
        self.errors.close()


def end_all(running: Sequence[CellProcess]) -> None:
    """End cells in order, each with its own processes: asked first, then made to."""
    for job in running:
        job.process.terminate()
    until = time.monotonic() + END_LIMIT_S
    try:
        for job in running:
            with contextlib.suppress(subprocess.TimeoutExpired):
                job.process.wait(max(until - time.monotonic(), 0.01))
    finally:  # also after a second Ctrl-C
        for job in running:
            job.process.kill()
            job.process.wait()
            job.forget()


def longest_s(values: Mapping[str, Any]) -> float:
    """More than a cell can take that still does something: the sum of all its own limits, s."""
    try:
        plan = make_plan(**values)
    except Exception:  # it will say so itself
        return START_LIMIT_S
    waits = 2 * plan.load_limit_s + START_LIMIT_S + plan.check_limit_s + 60
    return waits + plan.warmup_s + plan.duration_s + plan.patience_s()
