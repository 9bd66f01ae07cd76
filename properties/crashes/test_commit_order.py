"""The commit order on logs that are made up: what is found, what is promised, what differs."""

from __future__ import annotations

from typing import Any

import pytest

from properties.crashes.change_log import NOTE, WRITE, Change
from properties.crashes.commit_order import (
    NEVER,
    CommitOrder,
    Expected,
    Seen,
    attempts_of,
    difference,
    expected_of,
    moments_to_open,
    order_of,
)
from properties.crashes.judging import Told, judge

LOG, NOTHING = "database.db-wal", ""


def records(*told: tuple[int, str]) -> list[Change]:
    """A log. told : (pid, a file's name or a note) of each record."""
    made = []
    for number, (pid, text) in enumerate(told, 1):
        is_note = " " in text
        call, name = (NOTE, NOTHING) if is_note else (WRITE, text)
        data = memoryview(text.encode() if is_note else b"x")
        made.append(Change(number, 0, pid, 0, call, 0, 0, 1, 0, 1, name, 0, len(data), data))
    return made


def seen(many: int, **other: Any) -> Seen:
    return Seen({"": [1, "s"], "account": [2, "a"], "part": [many, f"p{many}"]}, **other)


TWO = records(
    (1, "work 0 0"), (1, LOG), (1, LOG), (1, "acked 0 0"),
    (2, "work 1 0"), (2, LOG), (1, "work 0 1"), (2, LOG), (2, "acked 1 0"), (1, LOG), (1, LOG),
    (1, "acked 0 1"),
)  # fmt: skip
"""Commits at the records 3, 8 and 11, acknowledged at 4, 9 and 12."""


def order(moments: dict[int, int], changes: list[Change] = TWO, **how: bool) -> CommitOrder:
    """Moments : record -> rows of `part` after it."""
    told = [(record, seen(many)) for record, many in moments.items()]
    return order_of(changes, told, **{"single": True, "alone": True} | how)


SOUND = {0: 0, 3: 1, 8: 2, 11: 3}


@pytest.mark.parametrize("alone", [True, False])
def test_what_was_acknowledged_is_promised_from_then_on_and_not_what_was_only_visible(
    alone: bool,
) -> None:
    found = order(SOUND, alone=alone)
    promised = {at: max([*found.at(at).claims, found.at(at).least]) for at in range(13)}
    # At 8 writer 1's is visible, and only writer 0's was acknowledged.
    assert promised == {**dict.fromkeys(range(4), 0), **dict.fromkeys(range(4, 9), 1),
                        **dict.fromkeys(range(9, 12), 2), 12: 3}  # fmt: skip
    assert [found.at(at).lost(0) for at in (3, 4, 9, 12)] == [0, 1, 2, 3]
    assert not found.notes()


def test_a_content_that_comes_after_its_acknowledgement_was_lost_before() -> None:
    late = order({0: 0, 6: 1, 10: 2, 13: 3})  # each visible with the next one's first record
    assert [late.at(at).lost(late.at(at).visible) for at in (4, 9, 12)] == [1, 1, 1]


def test_one_that_changed_nothing_is_not_missed_and_one_that_undoes_another_is_its_own() -> None:
    nothing = order({0: 0, 3: 1, 11: 2})
    assert [nothing.at(at).lost(nothing.at(at).visible) for at in range(13)] == [0] * 13
    assert "the others changed nothing" in nothing.notes()[0]
    back = order({0: 0, 3: 1, 8: 0, 11: 1})
    assert back.at(12).found(seen(0).content) == 2 and back.at(12).lost(2) == 1
    assert back.at(4).found(seen(0).content) == 0 and back.at(4).lost(0) == 1


def test_more_contents_than_transactions_are_parts_of_them() -> None:
    torn = order({0: 0, 2: 1, 3: 2, 6: 3, 8: 4, 10: 5, 11: 6})
    assert torn.at(12).torn_from == 2 and torn.at(12).lost(torn.at(12).visible) == 0
    assert order(SOUND).at(12).torn_from == NEVER


def test_scripts_that_commit_by_themselves_promise_the_last_change_before_they_were_told() -> None:
    several = order({0: 0, 2: 1, 3: 2, 8: 3, 10: 4, 11: 5}, single=False)
    assert several.at(12).torn_from == NEVER
    assert [list(several.at(at).claims) for at in (3, 4, 9, 12)] == [[], [2], [2, 3], [2, 3, 5]]


def test_a_refused_one_ends_with_its_writers_next_and_the_last_of_a_killed_one_never() -> None:
    refused = records((1, "work 0 0"), (1, "work 0 0"), (1, "acked 0 0"), (1, "work 0 1"))
    told = [(one.ended, one.acked) for one in attempts_of(refused, single=True)]
    assert told == [(2, False), (3, True), (NEVER, False)]


def test_it_is_opened_after_the_last_record_of_each_commit_or_after_each_of_a_shared_log() -> None:
    assert moments_to_open(TWO, alone=True) == [0, 3, 8, 11, 12]
    assert moments_to_open(TWO, alone=False) == [0, 2, 3, 6, 8, 10, 11, 12]


def kinds(first: dict[str, Any], expected: Expected, **how: Any) -> dict[str, bool]:
    same = {"integrity": [], "wrong": [], "foreign": []} | first
    third = same | {"written": 1}
    answer = {"first": same, "second": same, "third": third} | how.pop("answer", {})
    values: dict[str, Any] = {"synchronous": "full", "power": True} | how
    found = judge(answer, Told(), expected=expected, **values)
    return {fault.kind: fault.promised for fault in found}


def test_each_kind_of_a_content_is_told_by_name() -> None:
    expected = order(SOUND).at(12)
    sound = {"content": seen(3).content}
    assert kinds(sound, expected) == {}
    assert kinds({"content": seen(2).content}, expected) == {"lost": True}
    assert kinds({"content": seen(2).content}, expected, synchronous="normal") == {"lost": False}
    kill = kinds({"content": seen(2).content}, expected, synchronous="normal", power=False)
    assert kill == {"lost": True}
    assert kinds({"content": seen(7).content}, expected) == {"torn": True}
    assert kinds({"content": seen(7).content}, expected, synchronous="off") == {"torn": False}
    assert kinds(sound | {"wrong": ["not so"]}, expected) == {"invariant": True}
    assert kinds(sound | {"foreign": ["row 1"]}, expected) == {"foreign keys": True}
    other = {"second": {"content": seen(2).content}}
    assert kinds(sound, expected, answer=other) == {"second opening": True}
    gone = {"third": sound | {"integrity": [], "written": 0}}
    assert kinds(sound, expected, answer=gone) == {"writing on": True}
    nonsense = {"failed": ["first", "mine.py:3: KeyError: 'x'"], "by": "scenario"}
    assert kinds(sound, expected, answer=nonsense) == {"nonsense read": True}


def test_what_the_recorded_run_says_itself_is_no_fault_of_a_crash() -> None:
    broken = seen(1, wrong=("not so",), foreign=("row 1",))
    expected = order_of(TWO, [(0, seen(0)), (3, broken)], single=True, alone=True).at(3)
    told = {"content": broken.content, "wrong": ["not so"], "foreign": ["row 1"]}
    assert kinds(told, expected) == {}
    # An engine that keeps its keys has no such row after any commit.
    assert kinds(told | {"enforced": True}, expected) == {"foreign keys": True}


def test_a_difference_names_the_tables_and_when_they_were_so() -> None:
    expected = order(SOUND).at(12)
    odd = {"": [1, "s"], "account": [2, "other"], "part": [1, "p1"]}
    words = difference(odd, expected)
    assert "beside what was there after record 3, account has other values" in words
    both = order_of(
        TWO, [(0, Seen({"a": [0, "0"], "b": [0, "0"]})), (3, Seen({"a": [1, "1"], "b": [1, "1"]}))],
        single=True, alone=True,
    ).at(4)  # fmt: skip
    assert "a has 1 row more, as after record 3" in difference({"a": [1, "1"], "b": [0, "0"]}, both)


def test_what_is_expected_is_kept_and_read_back() -> None:
    expected = order(SOUND).at(9)
    assert expected_of(expected.data()) == Expected(
        list(expected.contents), list(expected.records), expected.visible, list(expected.claims),
        expected.least, expected.torn_from,
    )  # fmt: skip
