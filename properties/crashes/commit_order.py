"""The engine's own commit order: what the database held, one content after the other, in the log.

Each moment of the log, with all there that was written, is a database that the engine can open. It
is opened after the last record of each acknowledged commit and, wherever what it holds has changed
meanwhile, at records between by bisection, until each change is between two records that follow
each other. A crash may leave one of these contents, and nothing else. Two changes that undo each
other between two such moments are not seen.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Any

import msgspec

from properties.crashes.change_log import NOTE, Change
from properties.crashes.opening import DATABASE

NEVER = 1 << 62

_Count = Annotated[int, msgspec.Meta(ge=0, le=NEVER)]

Content = Mapping[str, Sequence[Any]]
"""Name of a table -> [rows, digest], as workloads.runs.content has it."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What an engine found at one moment. wrong : the scenario's sentences; foreign : on keys."""

    content: Content
    wrong: tuple[str, ...] = ()
    foreign: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Attempt:
    """A transaction that came to its COMMIT. begun, ended : between which numbers of the log.

    acked : whether its writer was told so. One that was refused ends with its writer's next.
    """

    begun: int
    ended: int
    acked: bool
    pid: int
    worker: int | None


@dataclass(frozen=True, slots=True)
class Expected:
    """What a crash at one point may leave.

    contents : in commit order, the first from before the run. records : at which each became
    visible. visible : the index of the last that was when all was there. claims : of each
    acknowledged transaction whose content is known, its index. least : the index that has to be
    there however they are told apart. torn_from : from this index on there are more contents than
    transactions that had come to their COMMIT.
    """

    contents: Sequence[Seen]
    records: Sequence[int]
    visible: int
    claims: Sequence[int]
    least: int
    torn_from: int = NEVER

    def found(self, content: Content) -> int | None:
        """The index that explains it best, None where none does: the last that was visible."""
        same = [at for at, one in enumerate(self.contents) if one.content == content]
        seen = [at for at in same if at <= self.visible]
        return max(seen) if seen else min(same, default=None)

    def lost(self, at: int) -> int:
        """The least number of acknowledged transactions that are not there with this content."""
        return max(sum(one > at for one in self.claims), self.least - at, 0)

    def data(self) -> dict[str, Any]:
        """As plain data, and back with `expected_of`."""
        contents = [[one.content, one.wrong, one.foreign] for one in self.contents]
        return {
            "contents": contents, "records": list(self.records), "visible": self.visible,
            "claims": list(self.claims), "least": self.least, "torn_from": self.torn_from,
        }  # fmt: skip


class ContentLine(msgspec.Struct, frozen=True):
    """What a moment held, as `contents.jsonl` and `workloads.runs.after_crash` have it."""

    content: dict[str, tuple[_Count, str]]
    wrong: tuple[str, ...]
    foreign: tuple[str, ...] = ()

    def seen(self) -> Seen:
        """The same, with contents that compare with an engine's."""
        return Seen(_as_told(self.content), self.wrong, self.foreign)


class _Expected(msgspec.Struct):
    contents: Annotated[
        list[tuple[dict[str, tuple[_Count, str]], tuple[str, ...], tuple[str, ...]]],
        msgspec.Meta(min_length=1),
    ]
    records: list[_Count]
    visible: _Count
    claims: list[_Count]
    least: _Count
    torn_from: _Count


def _as_told(content: Mapping[str, tuple[int, str]]) -> Content:
    return {name: list(one) for name, one in content.items()}


def expected_of(data: Mapping[str, Any]) -> Expected:
    """Raises KeyError, TypeError or ValueError for data that is none."""
    told = msgspec.convert(data, _Expected)
    many = len(told.contents)
    if len(told.records) != many or max(told.visible, told.least, *told.claims, 0) >= many:
        raise ValueError("a number in it is of no content")
    contents = [Seen(_as_told(content), wrong, keys) for content, wrong, keys in told.contents]
    return Expected(contents, told.records, told.visible, told.claims, told.least, told.torn_from)


@dataclass(slots=True)
class CommitOrder:
    """contents : in their order. records : each one's, 0 for the first.

    single : each transaction makes at most one content. alone : a process is one writer.
    """

    contents: list[Seen]
    records: list[int]
    attempts: list[Attempt]
    single: bool
    alone: bool = True
    _claims: list[tuple[int, int]] = field(default_factory=list)
    _torn_from: int = NEVER

    def at(self, point: int) -> Expected:
        """What a crash after this record may leave."""
        # More contents than transactions are parts of some: they stand for none of their own.
        made = min(len(self.contents) - 1, sum(a.acked or a.ended == NEVER for a in self.attempts))
        later = sum(one.ended > point for one in self.attempts)
        return Expected(
            self.contents,
            self.records,
            bisect_right(self.records, point) - 1,
            [index for ended, index in self._claims if ended <= point],
            max(made - later, 0) if self.single else 0,
            self._torn_from,
        )

    def notes(self) -> list[str]:
        """Sentences on what the recording shows beside its commits."""
        acked = sum(one.acked for one in self.attempts)
        changes = len(self.contents) - 1
        said = []
        if changes < acked:
            said.append(
                f"{acked:,} transactions were acknowledged and the content changed {changes:,} "
                "times: the others changed nothing, or were not there when all was"
            )
        elif changes > acked:
            said.append(
                f"the content changed {changes:,} times, and {acked:,} transactions were "
                "acknowledged: the others were not, or have several parts"
            )
        if not self.single:
            how = (
                "what an acknowledged one brought is taken to be the last change before it"
                if self.alone
                else "what was lost of acknowledged ones cannot be told: its writers are threads"
            )
            said.append(f"its transactions begin and commit by themselves: {how}")
        if many := sum(bool(one.wrong) for one in self.contents[1:]):
            said.append(
                f"{many:,} contents of the recorded run break what its scenario says is always "
                f"true ({next(o.wrong[0] for o in self.contents[1:] if o.wrong)[:200]}): a crash "
                "that leaves one of them is not counted for that"
            )
        return said


def order_of(
    changes: Sequence[Change], moments: Sequence[tuple[int, Seen]], *, single: bool, alone: bool
) -> CommitOrder:
    """The order, where each change is known. moments : (record, what is there), ascending.

    single : each transaction is one between its BEGIN and its COMMIT. alone : what a process writes
    is one writer's; else only its COMMIT's time tells which content a transaction brought.
    """
    contents, records = [moments[0][1]], [0]
    for record, seen in moments[1:]:
        if seen.content != contents[-1].content:
            contents.append(seen)
            records.append(record)
    attempts = attempts_of(changes, single=single)
    order = CommitOrder(contents, records, attempts, single, alone)
    begun = sorted(one.begun for one in attempts)
    if single:
        order._torn_from = next(
            (at for at in range(1, len(records)) if at > bisect_right(begun, records[at])), NEVER
        )
    by_time = single and len(records) - 1 == sum(one.acked for one in attempts)
    order._claims = [
        (one.ended, index)
        for one in attempts
        if one.acked and (index := _claim(one, changes, records, alone, by_time))
    ]
    return order


def _claim(
    one: Attempt, changes: Sequence[Change], records: Sequence[int], alone: bool, by_time: bool
) -> int:
    """The index of what an acknowledged transaction brought, 0 where that is not known.

    Of another writer's content, visible and not synced yet, it must not be taken for.
    """
    first, end = bisect_right(records, one.begun), bisect_right(records, one.ended)
    if not alone:
        return first if by_time and first < end else 0
    for index in range(end - 1, max(first, 1) - 1, -1):
        change = changes[records[index] - 1]
        if (change.pid, change.worker) == (one.pid, one.worker) and writes_log(change):
            return index
    return 0


def attempts_of(changes: Sequence[Change], *, single: bool) -> list[Attempt]:
    """Those that the writers noted, in the order of the notes before their COMMIT."""
    found: list[Attempt] = []
    open_at: dict[int, int] = {}
    since: dict[int, int] = {}
    for change in changes:
        what, _, rest = change.note.partition(" ") if change.call == NOTE else ("", "", "")
        writer = rest.partition(" ")[0]
        if not writer.isdecimal():
            continue
        number = int(writer)
        if what in ("work", "acked") and number in open_at:
            at = open_at.pop(number)
            acked = what == "acked"
            found[at] = replace(found[at], ended=change.number, acked=acked)
            if acked:
                since[number] = change.number
        if what == "work":
            open_at[number] = len(found)
            begun = change.number if single else since.get(number, 0)
            found.append(Attempt(begun, NEVER, False, change.pid, change.worker))
    return found


def writes_log(change: Change) -> bool:
    """Whether a record changes a file that is not the database itself, so that it may commit."""
    return changes_files(change) and change.name.partition("\n")[0] != DATABASE


def changes_files(change: Change) -> bool:
    """Whether a record makes the files others."""
    return change.what in ("open", "write", "truncate", "rename", "unlink")


def moments_to_open(changes: Sequence[Change], *, alone: bool) -> list[int]:
    """Records after which to open at first: before all, the last of each commit, the end.

    Where a process is one writer, the last that it did to its log before it was told; else every
    record of a log, because several writers' come in turn.
    """
    found = {0, len(changes)}
    last: dict[tuple[int, int | None], int] = {}
    for change in changes:
        who = (change.pid, change.worker)
        if writes_log(change):
            if alone:
                last[who] = change.number
            else:
                found.add(change.number)
        elif change.call == NOTE and change.note.startswith("acked ") and who in last:
            found.add(last[who])
    return sorted(found)


def difference(content: Content, expected: Expected) -> str:
    """How a content that none explains differs, in one line."""
    contents = [one.content for one in expected.contents]
    whose: dict[str, int | None] = {}
    for name in sorted({*content, *contents[-1]}):
        same = [at for at, one in enumerate(contents) if one.get(name) == content.get(name)]
        seen = [at for at in same if at <= expected.visible]
        whose[name] = max(seen) if seen else min(same, default=None)
    near = min(range(len(contents)), key=lambda at: _far(content, contents[at]))
    odd = [name for name in whose if contents[near].get(name) != content.get(name)]
    parts = []
    for name in odd[:3]:
        was, now = contents[near].get(name), content.get(name)
        more = (now[0] if now else 0) - (was[0] if was else 0)
        rows = f"{_rows(abs(more))} {'more' if more > 0 else 'fewer'}" if more else "other values"
        at = whose[name]
        of = f", as after record {expected.records[at]}" if at is not None else ""
        parts.append(f"{name or 'the schema'} has {rows}{of}")
    text = "; ".join(parts)
    return (
        f"no beginning of the commit order explains it: beside what was there after record "
        f"{expected.records[near]}, {text}"
    )


def _rows(many: int) -> str:
    return "1 row" if many == 1 else f"{many:,} rows"


def _far(content: Content, other: Content) -> tuple[int, int]:
    names = {*content, *other}
    odd = [name for name in names if content.get(name) != other.get(name)]
    rows = (abs((content.get(n) or [0])[0] - (other.get(n) or [0])[0]) for n in odd)
    return len(odd), sum(rows)
