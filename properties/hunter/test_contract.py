"""Each check of the adapter contract catches the engine that breaks its sentence, and no other."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import pytest

from properties.conformance.contract import CHECKS, Check, asked, named
from properties.conformance.contract_process import held_to
from properties.hunter.broken import Sound
from properties.hunter.broken_contract import BREAKS
from properties.hunter.contract import hold_to_contract, script
from properties.hunter.folder import TIMELINE, findings_in, read_finding, tried
from properties.hunter.replaying import replay
from workloads.engines import Engine, find_engine, trust

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


def test_a_hunt_keeps_what_is_broken_and_asks_it_again(tmp_path: Path) -> None:
    panics, sound = f"{BROKEN}:Panics", f"{BROKEN}:Sound"
    trust(panics, sound)
    who = find_engine(panics).identity()
    checks = [named(name) for name in ("rollback", "seen-at-once")]
    assert not hold_to_contract(tmp_path, panics, ("immediate",), who, checks=checks)
    (path,) = findings_in(tmp_path / "findings")
    kept, _ = read_finding(path)
    assert (kept.judge, kept.check, kept.again) == ("contract", "rollback", (10, 10))
    assert "DELETE FROM t WHERE id = 1  !! PanicException" in (path / TIMELINE).read_text()
    for engine, state in ((panics, "there"), (sound, "not there")):
        assert [one.state for one in replay(path, engine)] == [state]


def test_what_is_known_is_counted_and_not_kept(tmp_path: Path) -> None:
    if why := find_engine("libsql").missing():
        pytest.skip(why)
    who, checks = find_engine("libsql").identity(), [named("error-classes")]
    known = hold_to_contract(tmp_path, "libsql", ("immediate",), who, checks=checks)
    assert list(known.values()) == [1]
    assert findings_in(tmp_path) == []


def test_a_script_of_its_calls_shows_it_there_and_not_on_a_sound_driver(tmp_path: Path) -> None:
    if why := find_engine("turso").missing():
        pytest.skip(why)
    check, turso, sqlite = named("error-kept"), find_engine("turso"), find_engine("sqlite")
    ((mode, outcome),) = held_to("turso", ["immediate"], [check])
    assert outcome.state == "broken", "mended: show it by another"
    for engine, times in ((turso, 1), (sqlite, 0)):
        made = engine.script()  # type: ignore[attr-defined]
        text = script(outcome, mode, made.lines, engine.identity(), keep=True)
        (tmp_path / "repro.py").write_text(text)
        assert tried(tmp_path / "repro.py", made, 1) == times
