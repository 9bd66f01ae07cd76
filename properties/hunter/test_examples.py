"""The findings in examples/findings/: each script shows its bug on the version that has it, and not
on an engine that has not.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from properties.hunter.folder import PROGRAM, REPRO, read_finding, tried
from properties.hunter.known import KNOWN
from properties.hunter.replaying import replay
from workloads.engines import find_engine
from workloads.files import ROOT

FINDINGS = sorted(path for path in (ROOT / "examples" / "findings").iterdir() if path.is_dir())
SOUND = {
    "begin-concurrent-leaks-a-page": "sqlite-latest",
    "drop-column-by-an-old-schema": "turso",
}
"""Finding -> an engine without it. None is known without the third: all are SQLite's children."""


@pytest.mark.parametrize("finding", FINDINGS, ids=lambda path: path.name)
def test_the_script_shows_the_bug_on_the_version_that_has_it(finding: Path) -> None:
    kept, _ = read_finding(finding)
    engine = find_engine(kept.engine)
    if why := engine.missing():
        pytest.skip(why)
    if (have := engine.identity().version) != kept.version:
        pytest.skip(f"{kept.engine} is {have} here, and it was found in {kept.version}")
    assert tried(finding / REPRO, engine.script(), 1) == 1  # type: ignore[attr-defined]


def test_what_is_known_has_its_script() -> None:
    assert {one.script for one in KNOWN} == {path.name for path in FINDINGS}


@pytest.mark.parametrize("name", SOUND)
def test_it_does_not_show_on_an_engine_without_it(name: str) -> None:
    finding, sound = ROOT / "examples" / "findings" / name, SOUND[name]
    if why := find_engine(sound).missing():
        pytest.skip(why)
    (replayed,) = replay(finding, sound, ("immediate",))
    assert replayed.state == "not there", replayed
    if "begin concurrent" not in (finding / PROGRAM).read_text():
        return
    assert tried(finding / REPRO, find_engine(sound).script(), 1) == 0  # type: ignore[attr-defined]
