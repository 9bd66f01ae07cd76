"""The findings in examples/findings/: each script shows its bug on the version that has it, and not
on an engine that has not.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
from pathlib import Path

import pytest

from properties.conformance.known_deviations import BREACHES
from properties.hunter.folder import PROGRAM, REPRO, read_finding, tried
from properties.hunter.hunt import Hunter
from properties.hunter.known import KNOWN
from properties.hunter.replaying import replay
from workloads.engines import find_engine, modes_of
from workloads.files import ROOT

FINDINGS = sorted(path for path in (ROOT / "examples" / "findings").iterdir() if path.is_dir())
SOUND = {
    "begin-concurrent-at-the-largest-page-size": "sqlite-latest",
    "begin-concurrent-leaks-a-page": "sqlite-latest",
    "begin-concurrent-write-skew-under-mmap": "sqlite-latest",
    "drop-column-by-an-old-schema": "turso",
    "turso-autoincrement-abort": "sqlite-latest",
    "turso-cursor-ends-the-transaction": "sqlite-latest",
    "turso-foreign-key-of-two-transactions": "sqlite-latest",
    "turso-indexes-change-places": "sqlite-latest",
    "turso-kept-error-loses-a-write": "sqlite-latest",
    "turso-refused-write-is-done": "sqlite-latest",
    "turso-write-beside-a-cursor": "sqlite-latest",
}
"""Finding -> an engine without it. For one none is known: all that can play it are SQLite's
children."""

GOOD = {
    "turso-autoincrement-abort": "turso@0.5.0",
    "turso-kept-error-loses-a-write": "turso@0.6.1",
    "turso-refused-write-is-done": "turso@0.6.1",
    "turso-write-beside-a-cursor": "turso@0.5.0",
}
"""Finding -> a version on which its very script says that the bug is not there."""

WITHOUT_IT = {
    "begin-concurrent-leaks-a-page": "sqlite-latest",
    "begin-concurrent-write-skew-under-mmap": "sqlite-latest",
}
"""Finding -> a version without the mode, on which its script says that it cannot tell."""


@pytest.mark.parametrize("finding", FINDINGS, ids=lambda path: path.name)
def test_the_script_shows_the_bug_on_the_version_that_has_it(finding: Path) -> None:
    kept, _ = read_finding(finding)
    engine = find_engine(kept.engine)
    if why := engine.missing():
        pytest.skip(why)
    if (have := engine.identity().version) != kept.version:
        pytest.skip(f"{kept.engine} is {have} here, and it was found in {kept.version}")
    times = 3 if " race " in (finding / PROGRAM).read_text() else 1  # by chance, if mostly
    script = engine.script()  # type: ignore[attr-defined]
    assert any(tried(finding / REPRO, script, 1) for _ in range(times))


@pytest.mark.parametrize("engine", sorted({read_finding(path)[0].engine for path in FINDINGS}))
def test_each_is_there_when_it_is_played_again_where_it_was_found(engine: str) -> None:
    found = find_engine(engine)
    if why := found.missing():
        pytest.skip(why)
    have = found.identity().version
    kept = [(path, *read_finding(path)) for path in FINDINGS]
    mine = [one for one in kept if one[1].engine == engine and one[1].version == have]
    modes = tuple(mode for mode in modes_of(found) if mode in found.promises)
    with contextlib.closing(Hunter(engine, modes, 0)) as hunter:
        for path, one, program in mine:
            if one.check:  # of the contract, which tests of its own ask
                continue
            tries = 5 if "race" in str(program) else 1
            made = [hunter.judged(program) for _ in range(tries)]
            assert one.judge in {found.wrong.judge for found, _ in filter(None, made)}, path.name


def test_a_script_without_its_driver_says_that_it_cannot_tell() -> None:
    def status(path: Path) -> int:
        command = [sys.executable, "-I", "-S", str(path / REPRO)]
        return subprocess.run(command, capture_output=True, timeout=60, check=False).returncode

    assert {path.name: status(path) for path in FINDINGS} == {path.name: 2 for path in FINDINGS}


def test_what_is_known_has_its_script() -> None:
    breaches = {one.script for one in BREACHES if one.script}
    assert {one.script for one in KNOWN} | breaches == {path.name for path in FINDINGS}


@pytest.mark.parametrize("name", SOUND)
def test_it_does_not_show_on_an_engine_without_it(name: str) -> None:
    finding, sound = ROOT / "examples" / "findings" / name, SOUND[name]
    if why := find_engine(sound).missing():
        pytest.skip(why)
    (replayed,) = replay(finding, sound, ("immediate",))
    assert replayed.state == "not there", replayed


@pytest.mark.parametrize("name", WITHOUT_IT)
def test_the_script_cannot_tell_on_a_version_without_the_mode(name: str) -> None:
    engine = find_engine(WITHOUT_IT[name])
    if why := engine.missing():
        pytest.skip(why)
    script = ROOT / "examples" / "findings" / name / REPRO
    assert tried(script, engine.script(), 1, status=2) == 1  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", GOOD)
def test_the_script_says_so_on_a_version_without_the_bug(name: str) -> None:
    engine = find_engine(GOOD[name])
    why = engine.missing()
    if why and "has one version of a package" not in why:  # the script has a process of its own
        pytest.skip(why)
    script = ROOT / "examples" / "findings" / name / REPRO
    assert tried(script, engine.script(), 1, status=0) == 1  # type: ignore[attr-defined]
