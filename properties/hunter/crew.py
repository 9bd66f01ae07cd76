"""A crew of hunting processes: started, listened to, added up, and ended however the hunt ends."""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import os
import selectors
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from properties.hunter.contract import hold_to_contract
from properties.hunter.drawing import FEATURES, WAYS
from properties.hunter.folder import findings_in, write_hunt
from workloads.engines import Script, find_engine, modes_of
from workloads.errors import EngineMissing, PlanError, RunFailed, nearest
from workloads.processes import ChildProcess, describe_end, end, python, start
from workloads.runs import describe
from workloads.schedules import CannotPlay, Death, Stage

GRACE_S = 120.0
"""How much longer than asked a process may take: its last finding is still shrunk and tried."""

END_S = 5.0
"""How long a process may take to end when it has closed its pipe."""

MOST_BYTES = 1 << 22
"""Of one line of a process. What it tells is counts: nothing of ours is longer."""


@dataclass
class Progress:
    """What the whole crew did so far."""

    programs: int = 0
    drawn: int = 0
    steps: int = 0
    played_s: float = 0.0
    judged_s: float = 0.0
    unsupported: int = 0
    unsure: int = 0
    refused_schemas: int = 0
    seen: int = 0
    statuses: Counter[str] = field(default_factory=Counter)
    known: Counter[str] = field(default_factory=Counter)
    not_raced: Counter[str] = field(default_factory=Counter)
    races: int = 0
    pairs: Counter[tuple[str, str]] = field(default_factory=Counter)
    refused: dict[str, str] = field(default_factory=dict)
    findings: list[str] = field(default_factory=list)
    elapsed_s: float = 0.0

    def add(self, said: dict[str, Any]) -> None:
        """Add what one process did in all."""
        for name in ("programs", "drawn", "steps", "races", "played_s", "judged_s",
                     "unsupported", "unsure", "refused_schemas", "seen"):  # fmt: skip
            setattr(self, name, getattr(self, name) + said[name])
        self.statuses.update(said["statuses"])
        self.known.update(said["known"])
        self.not_raced.update(said["not_raced"])
        self.refused |= said["refused"]
        for one, other, times in said["pairs"]:
            self.pairs[one, other] += times


@dataclass(frozen=True)
class Hunted:
    """A hunt that is over. ended : "done" or "interrupted". died : processes that failed."""

    folder: Path
    progress: Progress
    ended: str
    died: tuple[str, ...] = ()


def checked_modes(engine: str, asked: tuple[str, ...]) -> tuple[str, ...]:
    """The modes to hunt in: those asked for, or all that the engine promises something for.

    Raises PlanError for one that it has not, EngineMissing where the engine is not here.
    """
    found = find_engine(engine)
    if why := its_own(engine, found.missing):
        raise EngineMissing(f"Engine {engine!r} is not to be had here: {why}")
    if hasattr(found, "serve") or found.file_format == "none":
        raise PlanError(f"{engine} cannot be hunted: the programs are SQL of SQLite's family.")
    modes = [mode for mode in modes_of(found) if mode in found.promises]
    for mode in asked:
        if mode not in modes:
            near = nearest(mode, modes)
            hint = f" Did you mean {near!r}?" if near else ""
            raise PlanError(
                f"{engine} has no mode {mode!r} for which it promises anything.{hint} "
                f"Modes: {', '.join(modes)}."
            )
    return asked or tuple(modes)


def its_own(engine: str, method: Callable[[], Any]) -> Any:
    """What a method of an engine's class answers. Raises PlanError where it raises."""
    try:
        return method()
    except Exception as error:
        raise PlanError(
            f"{engine}: its `{method.__name__}` raised {type(error).__name__}: {error}. "
            "Mend its class."
        ) from error


def check_script(engine: str) -> None:
    """Raises PlanError where an engine's `script` gives no Script, which findings need."""
    method = getattr(find_engine(engine), "script", None)
    if method is not None and not isinstance(its_own(engine, method), Script):
        raise PlanError(
            f"{engine}: its `script` must return a workloads.engines.Script (lines, argv, "
            "environment)."
        )


def opened(engine: str) -> None:
    """Open and close a connection in a process of its own.

    Raises PlanError where that raises, or never comes back: there is nothing to hunt.
    """
    stage = Stage(engine)
    try:
        stage.renew(())
    except (CannotPlay, Death) as why:
        raise PlanError(f"{engine} opens no connection, so it cannot be hunted: {why}.") from why
    finally:
        stage.end()


def checked_features(asked: tuple[str, ...]) -> tuple[str, ...]:
    """Features that are not to be drawn. Raises PlanError for one that there is none of."""
    for feature in asked:
        if feature not in (*FEATURES, *WAYS):
            near = nearest(feature, (*FEATURES, *WAYS))
            hint = f" Did you mean {near!r}?" if near else ""
            raise PlanError(
                f"--without: there is no feature {feature!r}.{hint} "
                f"Features: {', '.join((*FEATURES, *WAYS))}."
            )
    return asked


def hunt_all(
    folder: Path,
    engine: str,
    modes: tuple[str, ...],
    *,
    seed: int,
    minutes: float,
    programs: int | None,
    processes: int,
    without: tuple[str, ...] = (),
    contract: bool = True,
    on_progress: Callable[[Progress], None] = lambda progress: None,
) -> Hunted:
    """Hunt with several processes into a folder, until the time or the programs are over.

    contract : first, hold the engine to the adapter contract, whose time is not the hunt's.
    Ctrl-C ends it in order. What was found by then is in the folder. Raises RunFailed where no
    process could hunt at all.
    """
    identity = its_own(engine, find_engine(engine).identity)
    check_script(engine)
    opened(engine)
    folder.mkdir(parents=True, exist_ok=True)
    job = {"engine": engine, "modes": modes, "seed": seed, "minutes": minutes,
           "programs": programs, "processes": processes, "folder": str(folder),
           "without": without}  # fmt: skip
    head = {
        **job,
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "version": importlib.metadata.version("cwkit"),
        "machine": describe(folder),
        "identity": list(identity)[:3],
        "ended": "running",
    }
    del head["folder"]
    write_hunt(folder, head)
    try:
        known = hold_to_contract(folder, engine, modes, identity) if contract else Counter()
    except KeyboardInterrupt:
        write_hunt(folder, head | {"ended": "interrupted"})
        return Hunted(folder, Progress(findings=_findings(folder)), "interrupted")
    begun, ended = time.monotonic(), "done"
    crew = _Crew(folder, job, processes, known)
    try:
        crew.listen(begun + minutes * 60 + GRACE_S, begun, on_progress)
    except KeyboardInterrupt:
        ended = "interrupted"
    finally:
        died = crew.close()
    progress = crew.progress(begun)
    progress.elapsed_s = round(progress.elapsed_s, 1)  # as it is read back
    write_hunt(folder, head | {"ended": ended, "died": died, **_counted(progress)})
    if died and not progress.programs:
        raise RunFailed("No process could hunt: " + "; ".join(died))
    return Hunted(folder, progress, ended, tuple(died))


def _counted(progress: Progress) -> dict[str, Any]:
    return {
        "elapsed_s": progress.elapsed_s,
        "programs": progress.programs,
        "drawn": progress.drawn,
        "steps": progress.steps,
        "played_s": round(progress.played_s, 1),
        "judged_s": round(progress.judged_s, 1),
        "unsupported": progress.unsupported,
        "unsure": progress.unsure,
        "statuses": dict(progress.statuses),
        "known": dict(progress.known),
        "races": progress.races,
        "not_raced": dict(progress.not_raced),
        "refused": progress.refused,
        "pairs": [[*pair, times] for pair, times in sorted(progress.pairs.items())],
    }


def _findings(folder: Path) -> list[str]:
    return [path.name for path in findings_in(folder)]


class _Crew:
    """The processes of a hunt, and what each of them said last."""

    def __init__(
        self, folder: Path, job: dict[str, Any], processes: int, known: Counter[str]
    ) -> None:
        self.known = known
        self.folder, self.said = folder, dict[int, dict[str, Any]]()
        self.children: list[ChildProcess] = []
        self.selector = selectors.DefaultSelector()
        self.rest: dict[int, bytes] = {}
        try:
            for number in range(processes):
                child = start(
                    f"hunt {number}",
                    python("properties.hunter.hunting", json.dumps({**job, "process": number})),
                    last_words=folder / f"process-{number}.stderr",
                    stdout=subprocess.PIPE,
                )
                self.children.append(child)
                assert child.process.stdout is not None
                self.selector.register(child.process.stdout, selectors.EVENT_READ, number)
        except BaseException:
            self.close()
            raise

    def listen(self, until: float, begun: float, on_progress: Callable[[Progress], None]) -> None:
        """Read what the processes say until all have ended, or the time is over."""
        while self.selector.get_map() and time.monotonic() < until:
            for key, _ in self.selector.select(0.5):
                self._read(key.fd, key.data, key.fileobj)
            on_progress(self.progress(begun))

    def _read(self, descriptor: int, number: int, pipe: Any) -> None:
        content = os.read(descriptor, 1 << 16)
        if not content:
            self.selector.unregister(pipe)
            return
        *lines, rest = (self.rest.get(number, b"") + content).split(b"\n")
        self.rest[number] = rest[:MOST_BYTES]
        for line in lines:
            with contextlib.suppress(ValueError):  # a driver that prints
                said = json.loads(line)
                if isinstance(said, dict) and "tally" in said:
                    self.said[number] = said["tally"]

    def progress(self, begun: float) -> Progress:
        made = Progress(elapsed_s=time.monotonic() - begun)
        for said in self.said.values():
            made.add(said)
        made.known.update(self.known)
        made.findings = _findings(self.folder)
        return made

    def close(self) -> list[str]:
        """End and reap the processes. Returns how those that failed ended."""
        died, goes_on = [], {key.data for key in self.selector.get_map().values()}
        for number, child in enumerate(self.children):
            if number not in goes_on:  # its pipe has ended, and it ends
                with contextlib.suppress(subprocess.TimeoutExpired):
                    child.process.wait(END_S)
            if child.process.poll() is None:
                end(child.process)
            elif child.process.returncode:
                died.append(describe_end(child))
            if child.process.stdout is not None:
                child.process.stdout.close()
            if child.last_words is not None and not child.stderr_text().strip():
                child.last_words.unlink(missing_ok=True)
        self.selector.close()
        return died
