"""Each check of the adapter contract catches the engine that breaks its sentence, and no other."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import pytest

from properties.conformance.contract import CHECKS, Check, asked, named
from properties.conformance.contract_process import held_to
from properties.hunter.broken import Sound
from properties.hunter.broken_contract import BREAKS
from workloads.engines import Engine, trust

BROKEN = Path(__file__).with_name("broken.py")
EACH = [pytest.param(one, id=one.name, marks=[pytest.mark.slow] * one.slow) for one in CHECKS]


def test_each_check_has_a_sentence_of_its_own_and_an_engine_that_breaks_it() -> None:
    assert {one.name for one in CHECKS} == BREAKS.keys()
    assert len({one.sentence for one in CHECKS}) == len(CHECKS) == len(BREAKS)


@pytest.mark.parametrize("check", EACH)
def test_a_check_catches_what_is_broken_so(check: Check, tmp_path: Path) -> None:
    engine, sound = cast(Engine, BREAKS[check.name]()), cast(Engine, Sound())
    broken = asked(check, "sqlite", engine, "immediate", tmp_path / "a.db")
    assert broken.state == "broken", broken
    (tmp_path / "sound").mkdir()
    kept = asked(check, "sqlite", sound, "immediate", tmp_path / "sound" / "a.db")
    assert kept.state == "kept", kept


def test_a_driver_that_crashes_breaks_one_sentence_and_the_next_is_asked() -> None:
    engine = f"{BROKEN}:Aborts"
    trust(engine)
    checks = [named(name) for name in ("rollback", "seen-at-once")]
    crashed, kept = [outcome for _, outcome in held_to(engine, ["immediate"], checks)]
    assert (crashed.check, crashed.state, kept.state) == ("rollback", "broken", "kept")
    assert "SIGABRT" in crashed.seen


def test_a_driver_that_hangs_breaks_one_sentence() -> None:
    engine = f"{BROKEN}:Hangs"
    trust(engine)
    ((_, hung),) = held_to(engine, ["immediate"], [named("rollback")], limit_s=1)
    assert (hung.state, hung.seen) == ("broken", "none within 1 s")
