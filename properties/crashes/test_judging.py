"""Each kind of fault of a crash state on answers that are made up, and silence on a sound one."""

from __future__ import annotations

from typing import Any

import pytest

from properties.crashes.judging import Told, judge
from workloads.runs import AFTER_CRASH

TOLD = Told(
    worked={(0, 0): 10, (0, 1): 30, (1, 0): 35, (1, 1): 50},
    acked={(0, 0): 20, (0, 1): 40, (1, 0): 45},
)
"""Writer 1 had come to its second COMMIT and was not told of it."""

WHOLE = [[0, 0], [0, 1], [1, 0]]


def answer(whole: list[list[int]] = WHOLE, **other: Any) -> dict[str, Any]:
    """What an engine says of a state that holds these postings, as a sound one would."""
    read = {"integrity": [], "wrong": [], "whole": whole}
    third = read | {"whole": sorted([*whole, list(AFTER_CRASH)])}
    return {"first": read, "second": read, "third": third} | other


def kinds(
    told: dict[str, Any], *, synchronous: str = "full", power: bool = True, journal: str = "wal"
) -> dict[str, bool]:
    """Kind -> whether the level promises that it is not so."""
    found = judge(told, TOLD, synchronous=synchronous, power=power, journal=journal)
    return {fault.kind: fault.promised for fault in found}


@pytest.mark.parametrize("whole", [WHOLE, [*WHOLE, [1, 1]]])
def test_what_was_acknowledged_and_perhaps_what_was_under_way_is_sound(
    whole: list[list[int]],
) -> None:
    assert kinds(answer(whole)) == {}


@pytest.mark.parametrize(
    ("told", "kind"),
    [
        ({"died": "signal 11"}, "takes its process down"),
        ({"hung": 30.0}, "hangs"),
        ({"failed": ["first", "malformed"]}, "does not open"),
        (answer(first={"integrity": ["row 3 missing"], "wrong": [], "whole": WHOLE},
                second={"integrity": ["row 3 missing"], "wrong": [], "whole": WHOLE}), "integrity"),
        (answer(first={"integrity": [], "wrong": ["torn"], "whole": WHOLE},
                second={"integrity": [], "wrong": ["torn"], "whole": WHOLE}), "torn"),
        (answer([*WHOLE, [2, 7]]), "from nowhere"),
        (answer(second={"integrity": [], "wrong": [], "whole": WHOLE[:2]}), "second opening"),
        (answer() | {"failed": ["second", "locked"]}, "second opening"),
        (answer() | {"failed": ["writing", "locked"]}, "writing on"),
        (answer(third={"integrity": [], "wrong": [], "whole": WHOLE}), "writing on"),
    ],
)  # fmt: skip
def test_each_kind_is_told_by_name_and_promised_but_at_off(told: dict[str, Any], kind: str) -> None:
    assert kinds(told) == {kind: True}
    assert kinds(told, synchronous="off") == {kind: False}
    assert kinds(told, synchronous="off", power=False) == {kind: True}


def test_a_lost_one_is_promised_by_full_and_after_a_kill_by_every_level() -> None:
    last = answer([[0, 0], [0, 1]])
    assert kinds(last) == {"lost": True}
    assert kinds(last, synchronous="normal") == {"lost": False}
    assert kinds(last, synchronous="normal", power=False) == {"lost": True}


@pytest.mark.parametrize(
    ("journal", "level", "lost", "torn"),
    [
        ("delete", "extra", True, True),
        ("delete", "full", False, True),  # the folder is not synced after the journal is removed
        ("delete", "normal", False, False),
        ("truncate", "full", True, True),
        ("persist", "full", True, True),
        ("persist", "normal", False, False),
        ("wal", "normal", False, True),
        ("truncate", "off", False, False),
    ],
)
def test_what_a_rollback_journal_promises_after_a_power_cut(
    journal: str, level: str, lost: bool, torn: bool
) -> None:
    half = {"integrity": [], "wrong": ["torn"], "whole": WHOLE}
    assert kinds(answer([[0, 0], [0, 1]]), synchronous=level, journal=journal) == {"lost": lost}
    assert kinds(answer(first=half, second=half), synchronous=level, journal=journal) == {
        "torn": torn
    }
    last = answer([[0, 0], [0, 1]])
    assert kinds(last, synchronous=level, journal=journal, power=False) == {"lost": True}


def test_a_later_one_without_an_earlier_one_is_no_prefix_also_at_normal() -> None:
    # (0, 0) was acknowledged before writer 1 came to the COMMIT of (1, 0).
    gap = answer([[0, 1], [1, 0]])
    assert kinds(gap, synchronous="normal") == {"lost": False, "no prefix": True}
