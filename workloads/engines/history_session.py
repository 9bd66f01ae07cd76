"""A session that writes down what its transactions did, for the isolation checker.

Only the sessions of a scenario that is `logged` are wrapped: no other run pays for it. The line of
a transaction's beginning is written before BEGIN, with the writes that it is about to make. So a
transaction that dies inside COMMIT is known to have been under way.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from workloads.engines.engine import Refusal, Session, classifier
from workloads.errors import HistoryError
from workloads.records import HISTORY_FILE, OUTCOMES, History, HistoryRecorder, merge

Ops = list[tuple[str, int, Any]]


def log_path(folder: Path, worker: int) -> Path:
    """worker-003.history.jsonl"""
    return Path(folder) / f"worker-{worker:03d}.history.jsonl"


def logs_of(folder: Path) -> list[Path]:
    """The files with the histories of a run's workers; [] where they wrote none."""
    return sorted(Path(folder).glob("worker-*.history.jsonl"))


def history_of(folder: Path) -> History:
    """The history of a run of a logged scenario, all workers together. Raises HistoryError."""
    return merge(logs_of(folder))


def save_history(folder: Path) -> dict[str, Any]:
    """Leave the run's history where `cwkit check` looks for it. Returns a finding about it."""
    finding: dict[str, Any] = {"check": "history", "ok": True, "sentence": "", "evidence": {}}
    where = ""
    try:
        history = history_of(folder)
        history.save(Path(folder) / HISTORY_FILE)
    except HistoryError as error:
        return finding | {"ok": False, "sentence": str(error)}
    except OSError as error:  # nothing is lost: it would be a copy of what the workers wrote
        (Path(folder) / HISTORY_FILE).unlink(missing_ok=True)
        where = f" in the workers' own files, and could not be copied into one ({error.strerror})"
    count = f"{len(history):,} transactions are recorded{where}; judge them with: cwkit check"
    return finding | {"sentence": f"{count} {folder}"}


class NotRecorded(OSError):
    """Raised by BEGIN where the history can't be written any more: nothing was begun."""


class LoggedSession:
    """Passes everything through to a real session and records each attempt.

    plan : set by the scenario: called before each BEGIN, returns the attempt's operations as
        (f, key, value). An attempt writes other values than the one before it: two that write the
        same could not be told apart, and a refused one would seem to have been read.
    ops  : the attempt's operations; the body puts what its reads saw in their place.
    """

    plan: Callable[[], Ops]
    begin: Callable[[], Any]
    commit: Callable[[], Any]

    def __init__(self, real: Session, path: Path, model: str, worker: int, engine: str) -> None:
        self.real = real
        self.run, self.rows = real.run, real.rows
        self.begin, self.commit = self._begin, self._commit
        self._classify = classifier(real)
        self.pragmas: Mapping[str, Any] = real.pragmas
        self.ops: Ops = []
        self._recorder = HistoryRecorder(path, model, session=worker, database=engine)

    def _begin(self) -> None:
        self.ops = self.plan()
        try:
            self._recorder.begin(time.monotonic_ns(), self.ops)
        except OSError as error:
            raise NotRecorded(*error.args) from error
        self.real.begin()

    def _commit(self) -> None:
        self.real.commit()
        self._end("committed")

    def _end(self, outcome: str) -> None:
        # Where the disk is full the next BEGIN says so. This attempt is over, its outcome is known
        # and has its row; to the history alone it is one that never ended.
        with contextlib.suppress(OSError):
            self._recorder.end(time.monotonic_ns(), outcome, self.ops)

    def refusal(self, error: BaseException, phase: int, within_ns: int | None = None) -> Refusal:
        refusal = self._classify(error, phase, within_ns)
        self._end(OUTCOMES[refusal.outcome])
        return refusal

    def rollback(self) -> None:
        self.real.rollback()

    def in_transaction(self) -> bool:
        return self.real.in_transaction()

    def close(self) -> None:
        self.real.close()
