"""The fixed SQLite is new enough, kept apart from the other apsw, and may be missing."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from workloads.engines import sqlite_latest
from workloads.engines.concurrent_build import MissingBuild
from workloads.engines.engine import find_engine
from workloads.engines.testing import LIMIT_S, usable

ROOT = Path(sqlite_latest.__file__).resolve().parents[2]
SETUP = ROOT / "tools" / "setup"


def test_its_sqlite_is_one_that_has_no_wal_reset_race() -> None:
    version = usable("sqlite-latest").identity().version
    assert tuple(map(int, version.split("."))) >= (3, 51, 3)


def test_two_apsws_and_two_sqlites_stay_apart_in_one_process() -> None:
    """In memory only, and in a process of its own: another test may have loaded them here."""
    usable("sqlite-latest"), usable("sqlite-concurrent")
    text = """
import sys
from workloads.engines import find_engine
branch, latest = (find_engine(name).identity() for name in ("sqlite-concurrent", "sqlite-latest"))
assert branch.source_id != latest.source_id and branch.binding != latest.binding, (branch, latest)
assert "apsw" not in sys.modules
print(sorted(name for name in sys.modules if name.endswith(".apsw")))
"""
    done = subprocess.run(
        [sys.executable, "-c", text], capture_output=True, text=True, timeout=LIMIT_S, check=False
    )
    assert done.stdout == "['cwkit_begin_concurrent.apsw', 'cwkit_sqlite_latest.apsw']\n", done


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder in the place of .build/sqlite-latest, and nothing loaded before."""
    monkeypatch.setattr(sqlite_latest, "BUILD", tmp_path)
    monkeypatch.setattr(sqlite_latest, "WHY_MISSING", tmp_path / "why-missing.txt")
    monkeypatch.setattr(sqlite_latest, "load", sqlite_latest.load.__wrapped__)
    return tmp_path


@pytest.mark.usefixtures("elsewhere")
def test_where_it_was_never_fetched_one_sentence_says_how_to_get_it() -> None:
    assert find_engine("sqlite-latest").missing() == (
        "SQLite 3.51.3 or later, from the wheel of apsw, is missing: it was never fetched for this "
        "Python. Get it with: make setup"
    )


def test_where_fetching_it_failed_it_says_why(elsewhere: Path) -> None:
    (elsewhere / "why-missing.txt").write_text("the registry is not in reach.\n")
    with pytest.raises(MissingBuild, match=r"missing: the registry is not in reach. Get it"):
        sqlite_latest.load()


@pytest.fixture
def fetcher(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """tools/setup/fetch_sqlite_latest.py with its folder moved to an empty place."""
    path = SETUP / "fetch_sqlite_latest.py"
    spec = importlib.util.spec_from_file_location("fetch_sqlite_latest", path)
    assert spec and spec.loader
    monkeypatch.syspath_prepend(path.parent)  # it imports the module beside it
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "TARGET", tmp_path)
    monkeypatch.setattr(module, "WHY_MISSING", tmp_path / "why-missing.txt")
    return module


def test_a_wheel_with_an_older_sqlite_is_refused_in_one_sentence(
    fetcher: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The wheel at hand, measured against a version that does not exist yet."""
    usable("sqlite-latest")
    (module,) = sqlite_latest.BUILD.glob("apsw*.so")
    whole = fetcher.run

    def installed(command: list[str], *rest: Any) -> Any:
        if "install" in command:
            package = Path(command[command.index("--target") + 1], "apsw")
            package.mkdir()
            name = module.name.replace("apsw", "__init__", 1)
            return (package / name).write_bytes(module.read_bytes())
        return whole(command, *rest)

    monkeypatch.setattr(fetcher, "run", installed)
    assert fetcher.main() == 0 and not fetcher.WHY_MISSING.exists()
    assert [path.name for path in fetcher.TARGET.iterdir()] == [module.name]
    monkeypatch.setattr(fetcher, "FIXED", "99.0.0")
    assert fetcher.main() == 1
    why = fetcher.WHY_MISSING.read_text()
    assert re.search(r"it carries SQLite 3\.\d+\.\d+, which is older than 99.0.0\.$", why), why
    assert why.count("\n") == 1
    assert [path.name for path in fetcher.TARGET.iterdir()] == ["why-missing.txt"]


def test_the_lock_names_a_version_and_its_hashes_and_no_address() -> None:
    text = (SETUP / "sqlite-latest.lock").read_text(encoding="utf-8")
    assert re.match(r"apsw==3\.\d+\.\d+\.\d+ \\\n", text) and "--hash=sha256:" in text
    assert "http" not in text
