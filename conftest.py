"""Every test run shares these: Hypothesis profiles, the seed, `slow`, a header with engines."""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import gc
import io
import os
import platform
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable, Generator, Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from _pytest.doctest import DoctestModule
from hypothesis import HealthCheck, Phase, settings
from hypothesis.database import DirectoryBasedExampleDatabase

from workloads.engines import registry
from workloads.experiments import pytest_items as sweep_items
from workloads.files import temporary

Command = Callable[..., subprocess.CompletedProcess[str]]

# Real engines on shared machines: a deadline or a health check on time would fail for the
# machine's sake, not for the engine's.
_PATIENT = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

# The same examples everywhere and every time: a red CI is red here too.
settings.register_profile("quick", _PATIENT, max_examples=30, derandomize=True, database=None)
settings.register_profile("thorough", _PATIENT, max_examples=1000, derandomize=True, database=None)
# For tests of the tests: whether a property fails, not of what.
settings.register_profile(
    "handful",
    _PATIENT,
    max_examples=5,
    derandomize=True,
    database=None,
    phases=[Phase.explicit, Phase.generate],
)
# New examples each night; what failed once is kept and tried first.
settings.register_profile(
    "nightly",
    _PATIENT,
    max_examples=5000,
    derandomize=False,
    database=DirectoryBasedExampleDatabase(".hypothesis/examples"),
    print_blob=True,
)
settings.load_profile("quick")  # --hypothesis-profile=NAME chooses another

USERS = pytest.StashKey[str]()
"""The user's temporary folder: the tests have one of their own."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slow", action="store_true", help="run the tests marked slow, too")
    parser.addoption("--seed", type=int, default=1, help="seed of every run that a test starts")
    # Here and not beside the tests that use them: given without a path, `--engine libsql` would
    # make pytest look for a file called libsql before it has read any other conftest.
    group = parser.getgroup("cwkit properties")
    group.addoption("--engine", default="", help="engines: NAME[,NAME] or FILE:CLASS")
    group.addoption("--begin", default="", help="only this BEGIN mode (default: all promised)")
    group.addoption(
        "--limit", type=_seconds, help="a step may take so long, s, before its process is ended"
    )
    sweep_items.add_options(parser)


def _seconds(text: str) -> float:
    if not 0 < (value := float(text)) <= 86_400:
        raise argparse.ArgumentTypeError(f"{text} is no time between 0 and 86,400 s")
    return value


def pytest_configure(config: pytest.Config) -> None:
    # Started behind an `&` of a script, pytest and all that it starts would ignore Ctrl-C, and so
    # would the runs that tests interrupt.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if not config.getoption("--sweep"):
        _temporary_folder_of_its_own(config)
    sweep_items.configure(config)


def _temporary_folder_of_its_own(config: pytest.Config) -> None:
    """Tests get a temporary folder of their own: no user's command names what they leave there."""
    before = config.stash[USERS] = tempfile.gettempdir()
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", before)  # tmp_path stays where it is looked for
    home = temporary.make("tests")
    os.environ["TMPDIR"] = tempfile.tempdir = str(home.path)

    def end() -> None:
        tempfile.tempdir = os.environ["TMPDIR"] = before
        home.remove()

    config.add_cleanup(end)


@pytest.fixture(autouse=True)
def _nothing_left_over() -> Iterator[None]:
    """A test that kills processes gives them a temporary folder of their own, or clears it."""
    yield
    left = temporary.left_over(Path(tempfile.gettempdir()))
    for one in left:
        temporary.clear(one)
    assert not left, f"left in the temporary folder: {left}"


@pytest.fixture(autouse=True)
def _trusted_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trust that a test gives to a user's file ends with the test."""
    monkeypatch.setenv(registry.HANDED_ON, os.environ.get(registry.HANDED_ON, "[]"))


@pytest.fixture(scope="session")
def cwkit() -> Command:
    """The command line in this process: the start of another takes longer than most commands.

    `cwkit("show", folder)`; a keyword `cwd` is the folder to be in, and `env` what to change in
    the environment. Its behaviour as a process (its end by a signal, its files, its
    memory) does not show here.
    """
    return _command


def _command(
    *argv: object, cwd: Path | None = None, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    from analysis.cli import main  # here: most tests need no command line

    line = ["cwkit", *map(str, argv)]
    out, err, status = io.StringIO(), io.StringIO(), 0
    terminated = signal.getsignal(signal.SIGTERM)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", line)
        for name, value in (env or {}).items():
            patch.setenv(name, value)
        if "TMPDIR" in (env or {}):
            patch.setattr(tempfile, "tempdir", None)  # as it was looked for before
        if cwd is not None:
            patch.chdir(cwd)
        try:
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                main()
        except SystemExit as left:
            status = int(left.code or 0)
        finally:
            signal.signal(signal.SIGTERM, terminated)
    return subprocess.CompletedProcess(line, status, out.getvalue(), err.getvalue())


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """Collect without the garbage collector: what is collected stays to the end.

    To look through it again and again would take two fifths of the time of collecting.
    """
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


@pytest.hookimpl(wrapper=True)
def pytest_collect_file(file_path: Path) -> Generator[None, list[Any], list[Any]]:
    """A module without a prompt has no doctest: to see that took half the time of collecting."""
    found = yield
    if file_path.suffix == ".py" and b">>> " not in file_path.read_bytes():
        return [one for one in found if not isinstance(one, DoctestModule)]
    return found


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--slow"):
        return
    asked = bool(config.getoption("--engine"))
    slow = [item for item in items if any(not (asked and mark.kwargs.get("unless_asked"))
            for mark in item.iter_markers("slow"))]  # fmt: skip
    if slow:
        config.hook.pytest_deselected(items=slow)
        items[:] = [item for item in items if item not in slow]


def pytest_report_header(config: pytest.Config) -> list[str]:
    profile = settings.get_current_profile_name()
    slow = "" if config.getoption("--slow") else ", without slow tests (--slow)"
    users = config.stash.get(USERS, tempfile.gettempdir())
    left = [str(one.path) for one in temporary.left_over(Path(users))]
    return [
        *(
            [f"left by killed processes: {', '.join(left)}; see cwkit recover --all"]
            if left
            else []
        ),
        f"engines: {', '.join(_engines())}",
        f"seed: {config.getoption('--seed')} (--seed N), hypothesis profile {profile}{slow}",
        f"python {platform.python_version()} on {platform.platform()}",
    ]


@pytest.fixture(scope="session")
def made_once(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """A folder that the first test to need it makes, for the tests of all of xdist's workers.

    `made_once("name", make)` calls `make(folder)` where nobody has, and gives the folder; the
    others wait for it meanwhile. No test changes what is in it.
    """
    home = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        home = home.parent  # the session's; each worker's is beside it

    def made(name: str, make: Callable[[Path], object]) -> Path:
        folder, done = home / f"once-{name}", home / f"once-{name}.done"
        with (home / f"once-{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # given up with the process that has it
            if not done.exists():
                shutil.rmtree(folder, ignore_errors=True)  # of one that was ended in the middle
                folder.mkdir()
                make(folder)
                done.touch()
        return folder

    return made


@pytest.fixture(scope="session")
def seed(pytestconfig: pytest.Config) -> int:
    """Seed for a test's own generators; printed at the start of the session."""
    return pytestconfig.getoption("--seed")


def _engines() -> list[str]:
    """Each engine's version, asked of its library; in memory, so that no file is shared."""
    # Here, not above: xdist's workers print no header and need no engine for it.
    import libsql_experimental

    from workloads.engines import sqlite_latest
    from workloads.engines.concurrent_build import MissingBuild, load

    libsql = libsql_experimental.connect(":memory:")
    sqlite = libsql.execute("SELECT sqlite_version()").fetchone()[0]
    engines = [
        f"libsql-experimental {version('libsql-experimental')} (SQLite {sqlite})",
        f"sqlite3 {sqlite3.sqlite_version}",
    ]
    try:
        engines.append(f"begin-concurrent {load().sqlite_lib_version()}")
    except MissingBuild as reason:
        engines.append(f"no begin-concurrent ({reason})")
    try:
        engines.append(f"sqlite-latest {sqlite_latest.load().sqlite_lib_version()}")
    except MissingBuild as reason:
        engines.append(f"no sqlite-latest ({reason})")
    return [*engines, f"pyturso {version('pyturso')}"]
