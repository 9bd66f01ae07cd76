"""The reads in C are built, or a sentence says why not and the rest of set-up goes on."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from workloads.files import ROOT


@pytest.fixture
def builder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """tools/setup/build_nanoseconds.py with its folder moved to an empty place."""
    script = ROOT / "tools" / "setup" / "build_nanoseconds.py"
    spec = importlib.util.spec_from_file_location("build_nanoseconds", script)
    assert spec and spec.loader
    monkeypatch.syspath_prepend(script.parent)  # it imports the modules beside it
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "TARGET", tmp_path / "nanoseconds")
    monkeypatch.setattr(module, "WHY_MISSING", tmp_path / "nanoseconds" / "why-missing.txt")
    return module


def test_without_a_compiler_both_are_missing_and_one_sentence_says_why(
    builder: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CC", "no-such-compiler")
    assert builder.main() == 1
    text = builder.WHY_MISSING.read_text()
    assert text.startswith("there is no C compiler on the PATH") and text.count("\n") == 1


def test_without_the_machines_library_the_branchs_is_there_all_the_same(
    builder: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    def built(command: list[str], folder: Path, program: Path) -> None:
        program.write_text("a program")

    def refused(command: list[str], folder: Path, program: Path) -> None:
        raise builder.CannotBuild("there is no libsqlite3")

    monkeypatch.setattr(builder, "branch", built)
    monkeypatch.setattr(builder, "system", refused)
    monkeypatch.setattr(builder, "compiler", lambda: ["cc"])
    assert builder.main() == 0
    assert (builder.TARGET / "branch").read_text() == "a program"
    assert (builder.TARGET / "system.why").read_text() == "there is no libsqlite3.\n"
    assert not builder.WHY_MISSING.exists() and not (builder.TARGET / "system").exists()
