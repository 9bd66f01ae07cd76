"""The book of the running test: how many schedules ran, what killed an engine, the first failure.

A property says nothing about an engine that let no transaction begin, or none commit. So every
schedule of a test is counted, and a property in which a promised mode did nothing fails.
"""

from __future__ import annotations

import contextlib
import functools
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeVar

from hypothesis import reject
from hypothesis.errors import UnsatisfiedAssumption

from workloads import records as rec
from workloads.records import Run
from workloads.schedules import EngineDied, Played, StepResult

MOST_DEATHS = 40
"""Deaths of one test, its search for a smaller schedule included: each costs a process's start."""

MOST_HANGS = 4
"""Hangs of one test, likewise: each costs the whole limit of a step."""

MOST_HANGS_IN_ALL = 8
"""Hangs of all tests of this process. After them a test tells its first and searches no more."""

MOST_MESSAGES = 5
PASTED = "@example("
Answer = TypeVar("Answer")


class NothingSeen(Exception):
    """A property that cannot say anything; no AssertionError, which an xfail might expect."""


@dataclass
class Counts:
    """Transactions are those of BEGIN and COMMIT: a statement alone is none.

    refused : "BEGIN" or "COMMIT" with the engine's words -> how often.
    """

    schedules: int = 0
    begun: int = 0
    committed: int = 0
    refused: Counter[str] = field(default_factory=Counter)

    def add_schedule(self, events: Sequence[StepResult]) -> None:
        """Count a schedule's events."""
        self.schedules += 1
        for event in events:
            name, good = event.op.name, event.status == "ok"
            if name not in ("begin", "commit"):
                continue
            self.begun += good and name == "begin"
            self.committed += good and name == "commit"
            if not good and event.message:
                self.refused[f"{name.upper()}: {event.message}"] += 1

    def add_played(self, played: Played) -> None:
        """Count a program's steps."""
        self.schedules += 1
        for step, result in zip(played.program.steps, played.results, strict=False):
            if step.verb not in ("begin", "commit"):
                continue
            self.begun += result.status == "ok" and step.verb == "begin"
            self.committed += result.status == "ok" and step.verb == "commit"
            if result.message:
                self.refused[f"{step.verb.upper()}: {result.message}"] += 1

    def add_run(self, made: Run) -> None:
        """Count a run of processes, as one schedule; its attempts are the transactions."""
        self.schedules += 1
        for worker in made.workers:
            rows = worker.attempts
            self.begun += int((rows["begun_ns"] > 0).sum())
            self.committed += int((rows["outcome"] == rec.COMMITTED).sum())
            refused = rows[(rows["outcome"] != rec.COMMITTED) & (rows["message"] > 0)]
            messages = rec.read_messages(made.folder, worker.worker)
            for number, phase in zip(refused["message"], refused["phase"], strict=True):
                message = messages[number - 1] if number <= len(messages) else ""
                self.refused[f"{rec.PHASES[phase].upper()}: {message}"] += 1

    def as_properties(self) -> list[tuple[str, int]]:
        """For the test's report: the terminal's table, and the JUnit XML."""
        return [
            ("schedules", self.schedules),
            ("begun", self.begun),
            ("committed", self.committed),
        ]

    def __str__(self) -> str:
        return (
            f"{self.schedules} schedules played, {self.begun} transactions begun, "
            f"{self.committed} committed"
        )


class Book:
    """Everything about one test while it runs. One is open at a time: `book()`.

    test : its name. found : a folder for the failure found so far, None to keep none.
    fixtures : its arguments that no strategy draws.
    """

    def __init__(self, test: str = "", found: Path | None = None) -> None:
        self.test = test
        self.counts = Counts()
        self.fixtures: frozenset[str] = frozenset()
        self._deaths: dict[tuple[Any, ...], _Death] = {}
        self._spent = False
        self._file = found / f"{sha256(test.encode()).hexdigest()[:16]}.txt" if found else None
        self._smallest: int | None = None

    # --- a property that saw nothing -------------------------------------------------------------

    def insist(self, who: str, promise: str) -> None:
        """Raise NothingSeen where no transaction began, or none committed."""
        counts = self.counts
        if not counts.schedules:
            raise NothingSeen(f"{who}: no schedule was played, so this property says nothing.")
        if counts.begun and counts.committed:
            return
        what = "none committed" if counts.begun else "no transaction began"
        messages = counts.refused.most_common(MOST_MESSAGES)
        lines = [f"  {times} × {text}" for text, times in messages] or ["  (it said nothing)"]
        raise NothingSeen(
            f"{who}: {counts}: {what}, so this property says nothing. {promise}\n"
            "The engine's own words:\n" + "\n".join(lines)
        )

    # --- engines that die -------------------------------------------------------------------------

    def once(self, key: tuple[Any, ...], call: Callable[[], Answer]) -> Answer:
        """The answer of a call that plays something, or EngineDied, the same each time for a key.

        Hypothesis has to see the same whenever it runs a schedule again, and an engine need not
        die each time. So a death is kept. The schedule is run once more to see whether it dies
        each time: only then are smaller ones looked for, and only so many.
        key : the schedule; where steps are taken one by one, all steps until now.
        """
        __tracebackhide__ = True
        death = self._deaths.get(key)
        if death is None and self._spent and not any(k[: len(key)] == key for k in self._deaths):
            reject()
        if death is None or (death.again is None and _hangs < MOST_HANGS_IN_ALL):
            try:
                answer = call()
            except EngineDied as error:
                death = self._die(key, death, error)
            else:
                if death is None:
                    return answer
                death.again = False
                self._spent = True  # what does not die each time cannot be made smaller
        self.found(death.describe())
        raise EngineDied(death.describe(), hung=death.hung)

    @property
    def deaths(self) -> int:
        """How often an engine died in this test."""
        return sum(death.times for death in self._deaths.values())

    def _die(self, key: tuple[Any, ...], before: _Death | None, error: EngineDied) -> _Death:
        global _hangs
        _hangs += error.hung
        if before is None:
            before = self._deaths[key] = _Death(str(error), error.hung)
        else:
            before.again = True
        before.times += 1
        hangs = sum(death.times for death in self._deaths.values() if death.hung)
        most_hangs = MOST_HANGS if _hangs < MOST_HANGS_IN_ALL else 1
        self._spent = self._spent or self.deaths >= MOST_DEATHS or hangs >= most_hangs
        return before

    # --- the failure found so far -----------------------------------------------------------------

    def found(self, text: str) -> None:
        """Keep a failure, the shortest of them, where it outlives this process: for Ctrl-C."""
        if self._file is None or (self._smallest is not None and len(text) > self._smallest):
            return
        self._smallest = len(text)
        self._file.parent.mkdir(exist_ok=True)  # whoever tidies up temporary folders may be early
        beside = self._file.with_suffix(".new")
        beside.write_text(f"{self.test}\n{text}\n", encoding="utf-8", errors="backslashreplace")
        os.replace(beside, self._file)

    def close(self) -> None:
        """The test is over, and pytest has printed its failure."""
        if self._file is not None:
            self._file.unlink(missing_ok=True)


@dataclass
class _Death:
    """A schedule on which the engine died. again : whether it did when it was run once more."""

    text: str
    hung: bool
    again: bool | None = None
    times: int = 0

    def describe(self) -> str:
        if self.again is None:
            return self.text
        verb = "came back" if self.hung else "went through"
        more = "did the same" if self.again else f"{verb}, so chance or what was before it decides"
        return f"{self.text}\nPlayed once more, it {more}."


_hangs = 0
_open = Book()


def book() -> Book:
    """The running test's book. Outside tests there is one, too, that nobody reads."""
    return _open


def turn_to(other: Book) -> None:
    """Begin a test's book."""
    global _open
    _open = other


def count(events: Sequence[StepResult]) -> None:
    """For `ScheduleRunner.listeners`."""
    _open.counts.add_schedule(events)


@contextlib.contextmanager
def aside() -> Iterator[None]:
    """Schedules of the body are the kit's own questions and are not counted for the test."""
    before, _open.counts = _open.counts, Counts()
    try:
        yield
    finally:
        _open.counts = before


def asked_once(function: Callable[..., Answer]) -> Callable[..., Answer]:
    """For a question to an engine: the answer is kept, and so is the engine's death."""
    answers: dict[tuple[Any, ...], Answer | EngineDied] = {}

    @functools.wraps(function)
    def ask(*args: Any) -> Answer:
        if args not in answers:
            try:
                with aside():
                    answers[args] = function(*args)
            except EngineDied as died:
                answers[args] = died
        answer = answers[args]
        if isinstance(answer, EngineDied):
            raise EngineDied(str(answer), hung=answer.hung)
        return answer

    return ask


def noting(test: Callable[..., Any]) -> Callable[..., Any]:
    """A property's body whose failures are kept while Hypothesis looks for a smaller one."""

    @functools.wraps(test)
    def body(*args: Any, **named: Any) -> Any:
        try:
            return test(*args, **named)
        except UnsatisfiedAssumption:
            raise
        except Exception as error:
            text = failure_text(error)
            if PASTED not in text:
                drawn = (f"{k}={v!r}" for k, v in named.items() if k not in _open.fixtures)
                text = f"{text}\n{PASTED}{', '.join(drawn)})"
            _open.found(text)
            raise

    return body


def failure_text(error: Exception) -> str:
    """A failure's text, with the notes that were added to it on its way."""
    name = [] if isinstance(error, (AssertionError, EngineDied)) else [type(error).__name__]
    return "\n".join([": ".join([*name, str(error)]), *getattr(error, "__notes__", ())])
