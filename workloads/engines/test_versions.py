"""One version of an engine's package beside another: found by name, and one to a process."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from workloads.engines import find_engine, versions
from workloads.errors import EngineMissing, UnknownName

PACKAGE, MODULE = "cwkit-made-up", "cwkit_made_up"


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of versions with two of a made-up package."""
    monkeypatch.setattr(versions, "PLACE", tmp_path)
    for version in ("1.0", "1.1"):
        folder = tmp_path / f"{PACKAGE}-{version}"
        folder.mkdir()
        (folder / f"{MODULE}.py").write_text(f"VERSION = {version!r}\n")
        info = folder / f"{MODULE}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Name: {PACKAGE}\nVersion: {version}\n")
    monkeypatch.delitem(sys.modules, MODULE, raising=False)
    return tmp_path


def test_a_version_is_loaded_from_its_folder_and_no_other_one_beside_it(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = list(sys.path)
    loaded = versions.driver("made-up@1.1", PACKAGE, MODULE, "1.1")
    monkeypatch.setitem(sys.modules, MODULE, loaded)  # and out again afterwards
    assert loaded.VERSION == versions.installed(PACKAGE, "1.1") == "1.1"
    assert sys.path == path
    assert versions.driver("made-up@1.1", PACKAGE, MODULE, "1.1") is loaded
    for other in ("1.0", ""):
        with pytest.raises(EngineMissing, match=r"has cwkit-made-up 1\.1 in use"):
            versions.driver("made-up", PACKAGE, MODULE, other)


def test_a_version_that_is_not_there_is_a_sentence_with_the_way_out() -> None:
    for name, package in (
        ("turso@0.0.1", "pyturso 0.0.1"),
        ("libsql@0.0.1", "libsql-experimental 0.0.1"),
        ("libsql-0.1@0.0.1", "libsql 0.0.1"),
        ("sqlite-latest@0.0.1", "apsw 0.0.1"),
    ):
        assert find_engine(name).missing() == (
            f"{package} is not installed. Get it with: make engine ENGINE={name}"
        )
        assert find_engine(name).name == name


def test_the_version_in_use_is_the_locked_one_where_none_is_named() -> None:
    for name in ("turso", "libsql", "libsql-0.1", "sqlite-latest"):
        assert find_engine(name).missing() is None


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("turso@", "has the form turso@0.7.2"),
        ("turso@../../x", "has the form turso@0.7.2"),
        ("turso@1.0/../..", "has the form turso@0.7.2"),
        ("turso@1." + "0" * 50, "has the form turso@0.7.2"),
        ("sqlite@3.50", "sqlite comes in one version: name it without @3.50"),
        ("nothing@1.0", "There is no engine 'nothing'"),
    ],
)
def test_what_is_no_version_is_refused(name: str, why: str) -> None:
    with pytest.raises(UnknownName) as refused:
        find_engine(name)
    assert why in str(refused.value)
