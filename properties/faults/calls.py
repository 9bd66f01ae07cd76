"""The calls of a commit and of a checkpoint, as a recording has them, each with a place of its own.

A place is told by what came before it, not by a number: commits differ in how many pages they
write, and their last sync is the same call all the same.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from properties.crashes import Change, Recording
from properties.faults.story import DATABASE

CALLS = ("write", "sync", "truncate", "rename", "unlink")
BEGUN, ENDED = "checkpoint begun", "checkpoint ended"
"""Notes of a worker that checkpoints (workloads.runs.worker)."""

Kind = tuple[str, str]
"""A call, and what the name of its file ends with."""


@dataclass(frozen=True, slots=True)
class Place:
    """A call within a commit or a checkpoint.

    before : the kinds of calls that came before it, and whether each came more than once in a row.
    nth : how many calls of its own kind came right before it.
    """

    before: tuple[tuple[str, str, bool], ...]
    call: str
    file: str
    nth: int

    @property
    def kind(self) -> Kind:
        return self.call, self.file

    def __str__(self) -> str:
        return f"{self.call} {self.file.lstrip('-') or 'database'}"


@dataclass(frozen=True, slots=True)
class Part:
    """The calls of one commit or checkpoint. numbers : which of its kind each is, as a fault's rule
    counts them, from 1.
    """

    calls: tuple[Change, ...]
    numbers: tuple[int, ...]

    @property
    def copies(self) -> bool:
        """Whether it writes the database's own file."""
        return any(one.name == DATABASE for one in self.calls)

    @property
    def places(self) -> list[Place]:
        """Where each call stands."""
        return places(shape(self.calls))


def shape(calls: Iterable[Change]) -> list[Kind]:
    """The kind of each call."""
    return [(one.what, one.name.removeprefix(DATABASE)) for one in calls]


def places(kinds: Sequence[Kind]) -> list[Place]:
    """Where each call stands.

    >>> log = ("write", "-wal")
    >>> [(one.nth, len(one.before)) for one in places([log, log, ("sync", "-wal")])]
    [(0, 0), (1, 0), (0, 1)]
    """
    found: list[Place] = []
    before: tuple[tuple[str, str, bool], ...] = ()
    nth = 0
    for at, kind in enumerate(kinds):
        if at and kind == kinds[at - 1]:
            nth += 1
        elif at:
            before, nth = (*before, (*kinds[at - 1], nth > 0)), 0
        found.append(Place(before, *kind, nth))
    return found


def armed(recording: Recording) -> Iterator[Change]:
    """The changes after the gate opened: those that faults count. A sync has one, at its begin."""
    start = recording.run.manifest.window.start_ns
    for change in recording.changes:
        if change.at_ns >= start and (change.what != "sync" or change.begun or change.injected):
            yield change


def commit_parts(recording: Recording, *, acknowledged: bool = True) -> list[Part]:
    """The calls of each COMMIT of one writer, in their order.

    acknowledged : False has those too that failed. What such a writer does until it comes to its
    next COMMIT is taken for its last one's.
    """
    changes = list(armed(recording))
    return _between(changes, _numbers(changes), "work ", "acked ", ended=acknowledged)


def checkpoint_parts(recording: Recording, commit: Sequence[Kind]) -> list[Part]:
    """The calls of each checkpoint of a checkpointer, in their order; also one that failed.

    commit : the calls of a COMMIT. Where the workers are threads of one process its calls may come
    between those of a checkpoint, and are left out, each once.
    """
    changes = list(armed(recording))
    own = {change.worker for change in changes if change.note == BEGUN}
    writers = {change.worker for change in changes if change.note.startswith("work ")}
    changes = [one for one in changes if one.worker in own]
    numbers = _numbers(changes)
    if own & writers:
        changes = list(_without(changes, commit))
    return [one for one in _between(changes, numbers, BEGUN, ENDED, ended=False) if one.calls]


def _numbers(changes: Iterable[Change]) -> dict[int, int]:
    """Record -> which of its kind it is."""
    found: dict[int, int] = {}
    counts: Counter[Kind] = Counter()
    for change in changes:
        if change.what in CALLS:
            (kind,) = shape([change])
            counts[kind] += 1
            found[change.number] = counts[kind]
    return found


def _between(
    changes: Iterable[Change], numbers: Mapping[int, int], begin: str, end: str, *, ended: bool
) -> list[Part]:
    """The calls from each such note to the next. ended : only those that came to their end."""
    found: list[Part] = []
    now: list[Change] | None = None

    def close() -> None:
        if now is not None:
            found.append(Part(tuple(now), tuple(numbers[one.number] for one in now)))

    for change in changes:
        if change.note.startswith(end):
            close()
            now = None
        elif change.note.startswith(begin):
            if not ended:
                close()
            now = []
        elif change.what in CALLS and now is not None:
            now.append(change)
    if not ended:
        close()
    return found


def _without(changes: Iterable[Change], commit: Sequence[Kind]) -> Iterator[Change]:
    owed: list[Kind] = []
    for change in changes:
        if change.note.startswith("work "):
            owed = list(commit)
        elif change.note.startswith("acked "):
            owed = []
        elif owed and change.what in CALLS and shape([change])[0] == owed[0]:
            owed.pop(0)
            continue
        yield change
