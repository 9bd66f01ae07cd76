"""The stage: an engine's processes, a new database for each program, and the program played.

A process plays program after program. Where it dies, hangs or is killed by a step, the next
one goes on; what it was at is known from its journal.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import select
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from typing import Any

from workloads.engines import OPTIONS, Settings, find_engine
from workloads.errors import EngineMissing
from workloads.processes import Original, OriginalGone, describe_status, read_last_words
from workloads.schedules.opening import Opening
from workloads.schedules.playing import LOOKING, OK, Looked, Result
from workloads.schedules.program import ALL, Program, Step, parse_race
from workloads.schedules.racing import TABLES, in_processes
from workloads.schedules.sessions import room

LIMIT_S = 8.0
"""How long a step may take: nothing waits for a lock here, so this is a hang."""

MOST_S = 60.0
"""How long all steps together may take: a program that may come from anybody has a thousand."""

START_LIMIT_S = 60.0
END_S = 2.0
RACE_END_S = 10.0
OF_PROCESSES = ("kill", "race")
"""Steps of all sessions that a process of sessions cannot take by itself. Where each session has
one of its own, it cannot reopen them all either."""

FAST = Settings(busy_timeout_ms=0, synchronous="off", cache_size=-2000)
TEMPLATES_KEPT = 32


class CannotPlay(RuntimeError):
    """The engine refuses the program's schema, or to open or close a connection, in its words."""


class Death(RuntimeError):
    """A process of sessions died or hung. how : "signal 6 (SIGABRT)". at : the place of the step
    that it was at, -1 for none. stderr : its standard error.
    """

    def __init__(self, how: str, at: int, stderr: str, *, hung: bool) -> None:
        super().__init__(how)
        self.how, self.at, self.stderr, self.hung = how, at, stderr, hung

    @property
    def by_others(self) -> bool:
        """Whether it was killed, by the system in want of memory, say: no engine does that."""
        return self.how == describe_status(-signal.SIGKILL)


class Process:
    """The parent's end of a process that plays (workloads.schedules.playing).

    past : the results of the last request that are known though it was never answered.
    """

    past: Sequence[Result] = ()

    def __init__(self, original: Original, number: int, folder: Path) -> None:
        self.journal, self.words = folder / f"journal-{number}", folder / f"stderr-{number}"
        self.journal.write_bytes(b"")
        self.words.write_bytes(b"")
        ours, theirs = Pipe()
        with theirs:
            self.popen = original.copy(theirs.fileno(), str(self.journal), str(self.words))
        self.pipe: Connection = ours
        self._poll = select.poll()
        self._poll.register(ours.fileno(), select.POLLIN)
        self._ready = False

    def ask(self, *request: Any, limit_s: float | None = None) -> Any:
        """One request and its answer. Raises Death, and RuntimeError for an error of ours."""
        self.send(*request)
        return self.answer(limit_s)

    def send(self, *request: Any) -> None:
        """A request, to be followed by `answer`. Raises Death."""
        self.past = ()
        try:
            if not self._ready and self._answers(START_LIMIT_S):
                self._ready = self.pipe.recv()
            os.truncate(self.journal, 0)
            self.pipe.send(request)
        except (EOFError, BrokenPipeError, ConnectionResetError):
            raise self._died(hung=False) from None

    def answer(self, limit_s: float | None = None) -> Any:
        """The answer to the last request."""
        try:
            if not self._answers(limit_s or LIMIT_S):
                raise self._died(hung=True)
            good, answer = self.pipe.recv()
        except (EOFError, BrokenPipeError, ConnectionResetError):
            raise self._died(hung=False) from None
        if not good:
            self.past = [Result(*one) for one in self.noted() if isinstance(one, tuple)]
            raise CannotPlay(": ".join(filter(None, answer)))
        return answer

    def _answers(self, limit_s: float) -> bool:
        """Whether an answer, or the end, comes within the limit after the last step's end, and
        within that for all steps.
        """
        waited, seen, begun = 0.0, 0, time.monotonic()
        while not self._poll.poll(250):
            size = self.journal.stat().st_size
            waited, seen = (0.0, size) if size != seen else (waited + 0.25, seen)
            if waited >= limit_s or time.monotonic() - begun >= limit_s + MOST_S:
                return False
        return True

    def _died(self, *, hung: bool) -> Death:
        if hung:
            with contextlib.suppress(TimeoutError):
                self.popen.send_signal(signal.SIGABRT)  # faulthandler tells where it stands
                self.popen.wait(END_S)
            how = f"no answer in {LIMIT_S:g} s"
        else:
            try:
                how = describe_status(self.popen.wait(END_S))
            except TimeoutError:
                how = "it closed its pipe and lived on"
        noted = self.noted()
        at = noted[-1] if noted and isinstance(noted[-1], int) else -1
        death = Death(how, at, read_last_words(self.words), hung=hung)
        self.past = [Result(*one) for one in noted if isinstance(one, tuple)]
        self.kill()
        return death

    def noted(self) -> list[Any]:
        """The journal: a place before each step, a Result's fields after it."""
        found: list[Any] = []
        with self.journal.open("rb") as file, contextlib.suppress(EOFError, pickle.PickleError):
            while True:
                found.append(pickle.load(file))
        return found

    def kill(self) -> None:
        """SIGKILL, and reap it."""
        self.popen.kill()
        self.popen.wait()
        self.pipe.close()
        self._forget()

    def end(self) -> None:
        """Close the pipe, which ends it; by force where it does not go."""
        self.pipe.close()
        try:
            self.popen.wait(END_S)
        except TimeoutError:
            self.popen.kill()
            self.popen.wait()
        self._forget()

    def _forget(self) -> None:
        self.journal.unlink(missing_ok=True)
        self.words.unlink(missing_ok=True)


@dataclass
class Played:
    """A program that was played. results : of the steps up to its end, to a death, or to a
    connection that could not be opened or closed (raised : the engine's words). accounts : of its
    race. not_raced : why there was none though it has one, in the engine's words.
    """

    program: Program
    results: list[Result] = field(default_factory=list)
    death: Death | None = None
    raised: str = ""
    accounts: list[dict[str, Any]] = field(default_factory=list)
    not_raced: str = ""

    @property
    def over(self) -> bool:
        """Whether its sessions are gone."""
        return self.death is not None or bool(self.raised)


class Stage:
    """Processes of one engine, and databases in memory for its programs."""

    def __init__(self, engine: str, settings: Settings = FAST, first: Sequence[str] = ()) -> None:
        found = find_engine(engine)
        if why := found.missing():
            raise EngineMissing(why)
        self.engine, self.settings, self.first = engine, settings, tuple(first)
        self.can_be_apart = found.hosting == "process"
        self._known_options = {*OPTIONS, *getattr(found, "options", {})}
        self.folder = Path(tempfile.mkdtemp(prefix="hunt-", dir=room()))
        self._count = self._numbers = 0
        self._free: list[Process] = []
        self._templates: dict[tuple[Any, ...], dict[str, bytes]] = {}
        self.options: tuple[tuple[str, str], ...] = ()
        self.shared: tuple[tuple[str, ...], bool] = (), False
        self._at: dict[str, Process] = {}
        self._original: Original | None = None
        self.path = Path()

    # --- processes --------------------------------------------------------------------------------

    def _process(self) -> Process:
        if self._free:
            return self._free.pop()
        self._numbers += 1
        try:
            return Process(self._there(), self._numbers, self.folder)
        except OriginalGone:  # it was killed, by the system in want of memory, say
            self._original = None
            return Process(self._there(), self._numbers, self.folder)

    def _there(self) -> Original:
        """The process that has loaded the engine, of which all that play are copies."""
        if self._original is None:
            self._original = Original(
                "workloads.schedules.playing", [self.engine], last_words=self.folder / "stderr",
                environment={"TMPDIR": str(self.folder)},
            )  # fmt: skip
        return self._original

    @property
    def _used(self) -> list[Process]:
        return list(dict.fromkeys(self._at.values()))

    def _opening(self) -> Opening:
        path, shared = str(self.path), self.shared
        return Opening(self.engine, path, self.settings, self.first, self.options, *shared)

    def open(self, names: Sequence[str], *, apart: bool) -> None:
        """Open sessions on the database at `path`, in one process or in one each."""
        processes = self._used or [self._process()]
        while apart and len(processes) < len(names):
            processes.append(self._process())
        for at, name in enumerate(names):
            self._at[name] = processes[at if apart else 0]
        for process in processes:
            mine = [name for name in names if self._at.get(name) is process]
            process.ask("open", self._opening(), mine)

    def close(self) -> None:
        """Close every session; the processes play the next program.

        Raises CannotPlay or Death of the last that did not close; it is ended.
        """
        used, self._at = self._used, {}
        failed: CannotPlay | Death | None = None
        for process in used:
            try:
                process.ask("close")
            except (CannotPlay, Death) as error:
                failed = error
                process.kill()
            else:
                self._free.append(process)
        if failed is not None:
            raise failed

    def drop(self) -> None:
        """End the processes in use, whatever they are at."""
        used, self._at = self._used, {}
        for process in used:
            process.kill()

    # --- databases --------------------------------------------------------------------------------

    def renew(self, schema: Sequence[str], options: Sequence[tuple[str, str]] = ()) -> None:
        """A new database with this schema, whose connections are opened with these options.

        Raises CannotPlay with the engine's words, Death.
        """
        if self._count:
            shutil.rmtree(self.path.parent, ignore_errors=True)
        files = self.template(schema, options)
        self._fresh()
        for name, content in files.items():
            (self.path.parent / name).write_bytes(content)

    def template(
        self, schema: Sequence[str], options: Sequence[tuple[str, str]] = ()
    ) -> dict[str, bytes]:
        """The files of such a database, made where they are not known. As `renew`."""
        self.options = tuple(options)
        if unknown := [name for name, _ in options if name not in self._known_options]:
            raise CannotPlay(f"{self.engine} declares no option {unknown[0]}")
        key = self.options, *schema
        if key not in self._templates:
            self._templates[key] = self._made(schema)
            while len(self._templates) > TEMPLATES_KEPT:
                self._templates.pop(next(iter(self._templates)))
        return self._templates[key]

    def _fresh(self) -> None:
        self._count += 1
        self.path = self.folder / f"d{self._count}" / "a.db"
        self.path.parent.mkdir()

    def _made(self, schema: Sequence[str]) -> dict[str, bytes]:
        self._fresh()
        try:
            self.open(["A"], apart=False)
            for result in self._at["A"].ask("ask", "A", list(schema)):
                if result.status != OK:
                    raise CannotPlay(f"{result.error}: {result.message}")
            self.close()
            return {path.name: path.read_bytes() for path in self.path.parent.iterdir()}
        except BaseException:
            self.drop()
            raise
        finally:
            shutil.rmtree(self.path.parent, ignore_errors=True)

    # --- playing ----------------------------------------------------------------------------------

    def play(self, program: Program) -> Played:
        """Play all steps. The sessions stay open, for `ask`; `close` or `drop` ends them.

        Raises CannotPlay where the engine refuses the schema.
        """
        played = Played(program)
        self.shared = program.shared, program.threads
        try:
            self.renew(program.schema, program.options)
        except Death as death:
            played.death = death
            return played
        try:
            names, apart = program.sessions or ["A"], program.apart and self.can_be_apart
            there = False
            for segment in self._segments(program, apart):
                if not isinstance(segment, Step):
                    played.results += self._segment(segment, names, apart=apart, there=there)
                else:
                    self._of_all(played, segment, names, apart=apart, there=there)
                    played.results.append(Result(OK))
                there = True
        except (Death, CannotPlay) as end:
            if isinstance(end, Death):
                played.death = end
            else:
                played.raised = str(end)
            for process in self._used:
                played.results += process.past
            self.drop()
        return played

    def _segment(
        self, steps: Sequence[tuple[int, Step]], names: Sequence[str], *, apart: bool, there: bool
    ) -> list[Result]:
        """Results of steps of one process. there : its sessions are open, else they are opened."""
        opening = None
        if not there and apart:
            self.open(names, apart=apart)
        elif not there:
            [process, *_] = self._used or [self._process()]
            opening, self._at = self._opening(), dict.fromkeys(names, process)
        played: list[Result] = self._at[steps[0][1].session if apart else names[0]].ask(
            "play", steps, opening, names
        )
        return played

    def _of_all(
        self, played: Played, step: Step, names: Sequence[str], *, apart: bool, there: bool
    ) -> None:
        """A step of all sessions. there : they are open, else they are opened before."""
        if not there:
            self.open(names, apart=apart)
        if step.verb != "race":
            self._again(step, names, apart)
        elif not played.accounts:  # one a program: its keys would be there already
            played.accounts, played.not_raced = self._race(step)

    def _segments(self, program: Program, apart: bool) -> Iterator[Step | list[tuple[int, Step]]]:
        """Steps that one process takes one after the other, and steps that none can take."""
        alone = (*OF_PROCESSES, "reopen") if apart else OF_PROCESSES

        def of(numbered: tuple[int, Step]) -> Any:
            at, step = numbered
            if step.verb in alone:
                return at
            return step.session if apart else ""

        for _, group in groupby(enumerate(program.steps), of):
            steps = list(group)
            if steps[0][1].verb in alone:
                yield steps[0][1]
            else:
                yield steps

    def _again(self, step: Step, names: Sequence[str], apart: bool) -> None:
        if step.session != ALL:
            if not apart:
                raise CannotPlay("the sessions are threads of one process, so none is killed alone")
            self._at.pop(step.session).kill()
            names = [step.session]
            self._at[step.session] = self._process()
            self._at[step.session].ask("open", self._opening(), names)
            return
        if step.verb == "kill":
            self.drop()
        else:
            self.close()
        self.open(names, apart=apart)

    def _race(self, step: Step) -> tuple[list[dict[str, Any]], str]:
        """A race; the sessions of before stay as they are.

        Returns the racers' accounts, and why there are none: the engine refuses the tables, or
        somebody holds a lock.
        """
        mode, count, seconds, seed = parse_race(step.text)
        made = self.ask(["SELECT 1 FROM race_own LIMIT 1"])[0].status == OK
        refused = [] if made else [one for one in self.ask(TABLES) if one.status != OK]
        if refused:
            return [], refused[0].message or refused[0].status
        if self.can_be_apart and in_processes(seed):
            groups = [[n] for n in range(count)]
            racing = [self._process() for _ in groups]
        else:  # threads of the process that holds the sessions
            groups, racing = [list(range(count))], self._used[:1]
        until = time.monotonic() + seconds
        try:
            for process, numbers in zip(racing, groups, strict=True):
                process.send("race", self._opening(), numbers, seed, mode, until)
            accounts = [
                account for process in racing for account in process.answer(seconds + RACE_END_S)
            ]
        except BaseException:
            for process in racing:
                process.kill()
            raise
        self._free += [process for process in racing if process not in self._used]
        return accounts, ""

    def ask(self, statements: Sequence[str]) -> list[Result]:
        """Rows of statements, by a new session on the database. Raises Death."""
        if not self._at:
            self._at[LOOKING] = self._process()
        self._at[LOOKING] = process = self._used[0]
        process.ask("open", self._opening(), [LOOKING])
        return process.ask("ask", LOOKING, list(statements))

    def look(self, statements: Sequence[str]) -> Looked:
        """Close every session; rows of statements by a new one on the database, which is closed.

        Raises CannotPlay where a session of before does not close or the new one does not open,
        and Death.
        """
        if len(self._used) != 1:
            self.close()
            self._at = {LOOKING: self._process()}
        [process], self._at = self._used, {}
        try:
            looked: Looked = process.ask("look", self._opening(), list(statements))
        except (CannotPlay, Death):
            process.kill()
            raise
        if looked.raised:
            process.kill()
        else:
            self._free.append(process)
        return looked

    def begin_anew(self) -> None:
        """End every process: where somebody killed the one that others are copies of, all of
        them are dead. The next program gets new ones.
        """
        self.drop()
        for process in self._free:
            process.end()
        self._free.clear()
        if self._original is not None:
            self._original.end()
            self._original = None

    def end(self) -> None:
        """End every process and remove the databases."""
        self.begin_anew()
        shutil.rmtree(self.folder, ignore_errors=True)
