"""A run whose changes to its files were logged: read, and held against what the files became."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from properties.crashes.change_log import Change, LogError, read_changes
from properties.crashes.states import Replay
from workloads.records import Run, read_run
from workloads.runs import BASE, BASE_FILES, CHANGES


@dataclass(frozen=True, slots=True)
class Recording:
    """run : the run. base : name -> (inode, content) when its log began. ended : name -> SHA-256 of
    what each file was when it ended. changes : the log. unlogged : records that could not be kept.
    """

    run: Run
    base: dict[str, tuple[int, bytes]]
    ended: dict[str, str]
    changes: list[Change]
    unlogged: int

    def replay(self) -> Replay:
        """From the beginning."""
        return Replay(self.base, self.changes)

    def unexplained(self) -> list[str]:
        """Sentences about files whose bytes at the end are not what the records make them.

        An engine that maps its files for writing, or that writes past libc, is not seen whole.
        """
        if self.unlogged:
            return [f"{self.unlogged:,} records could not be written to the log"]
        replay = self.replay()
        replay.advance(len(self.changes))
        now = replay.files(replay.all_there())
        found = [
            f"{name} has bytes that no record explains"
            for name, content in now.items()
            if name in self.ended and hashlib.sha256(content).hexdigest() != self.ended[name]
        ]
        found += [f"{name} was made without a record" for name in self.ended if name not in now]
        found += [f"{name} is gone without a record" for name in now if name not in self.ended]
        return found


def read_recording(folder: Path) -> Recording:
    """Raises LogError for a folder that has no whole recording, RunError for one that is no run."""
    run = read_run(folder)
    if run.manifest.plan.write_engine not in run.manifest.engines:
        raise LogError(
            f"{folder}: its plan names an engine that its manifest does not tell of. It was cut or "
            "edited. Make one with cwkit crash."
        )
    try:
        told = json.loads((folder / BASE_FILES).read_text(encoding="utf-8"))
        base = {
            name: (int(one["inode"]), (folder / BASE / name).read_bytes())
            for name, one in told["base"].items()
            if _is_plain(name)
        }
        ended = {str(name): str(digest) for name, digest in told["ended"].items()}
        unlogged = int(told["lost"])
        changes = read_changes(folder / CHANGES)
    except (
        OSError,
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        OverflowError,
        RecursionError,
    ) as error:
        if isinstance(error, LogError):
            raise
        raise LogError(
            f"{folder}: no whole recording of a run's changes ({error}). Make one with cwkit crash."
        ) from error
    return Recording(run, base, ended, changes, unlogged)


def _is_plain(name: str) -> bool:
    if "/" in name or name in ("", ".", ".."):
        raise ValueError(f"{name!r} is no name of a file")
    return True
