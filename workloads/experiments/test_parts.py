"""A part of the set-up that the kit can do without fails once, says why, and waits to be asked."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from workloads.files import ROOT

GOOD = "open({done!r}, 'a').write('x')\n"
BROKEN = GOOD + "raise SystemExit('no such package')\n"


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """tools/setup/install.py with its folders moved to an empty place."""
    spec = importlib.util.spec_from_file_location(
        "install", ROOT / "tools" / "setup" / "install.py"
    )
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    places = {"ROOT": tmp_path, "SETUP": tmp_path, "BUILD": tmp_path, "LOGS": tmp_path}
    for name, place in places.items():
        monkeypatch.setattr(module, name, place)
    monkeypatch.setattr(module, "VENV_PYTHON", Path(sys.executable))
    monkeypatch.setattr(module, "_base", lambda: Path("python"))
    for name in ("fetching.py", "node.lock"):
        (tmp_path / name).write_text("")
    return module


def part(install: ModuleType, script: str, folder: Path) -> Any:
    (folder / "script.py").write_text(script.format(done=str(folder / "done")))
    (folder / "part").mkdir(exist_ok=True)
    return install.Part("part", "Doing it", "the part", "script.py", "Something is lost.")


def tried(folder: Path) -> int:
    done = folder / "done"
    return len(done.read_text()) if done.exists() else 0


def test_what_is_there_is_not_made_again(install: ModuleType, tmp_path: Path) -> None:
    one = part(install, GOOD, tmp_path)
    assert install.make_part(one, retry=False)
    assert not install.make_part(one, retry=False)
    assert not install.make_part(one, retry=True)
    assert tried(tmp_path) == 1


def test_what_failed_says_why_and_is_tried_again_only_when_asked(
    install: ModuleType, tmp_path: Path
) -> None:
    one = part(install, BROKEN, tmp_path)
    assert install.make_part(one, retry=False)
    assert "Doing it failed: no such package. " in one.why_missing.read_text()
    assert not install.make_part(one, retry=False)
    assert tried(tmp_path) == 1
    assert install.make_part(one, retry=True)
    assert tried(tmp_path) == 2


def test_another_script_is_another_part(install: ModuleType, tmp_path: Path) -> None:
    assert install.make_part(part(install, GOOD, tmp_path), retry=False)
    assert install.make_part(part(install, GOOD + "# another pin\n", tmp_path), retry=False)
    assert tried(tmp_path) == 2


def test_set_up_without_its_parts_ends_well_and_says_what_is_lost(
    install: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setattr(install, "PARTS", (part(install, BROKEN, tmp_path),))
    monkeypatch.setattr(install, "make_venv", lambda: False)
    monkeypatch.setattr(sys, "argv", ["install.py", "--retry"])
    assert install.main() == 0
    out = capsys.readouterr().out
    assert "Without the part: Doing it failed: no such package." in out
    assert "Something is lost.\nTo try again: make setup" in out
