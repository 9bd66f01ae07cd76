"""A released SQLite of 3.51.3 or later, through apsw's wheel: the fixed version beside older ones.

Until 3.51.2 SQLite may lose an acknowledged commit where several connections checkpoint
(https://sqlite.org/wal.html#walresetbug, scenario `acked`). libSQL and most systems' SQLite are
older. This engine is what an application gets by a newer library, with nothing else changed.

`make setup` puts the wheel's one module into .build/sqlite-latest. It is loaded from there by a
name of its own, so that it is neither `import apsw` nor the apsw that was built on the
begin-concurrent branch (concurrent_build.py): each has a SQLite library inside, and no process may
open one file with two of them. Unlike that build, the wheel waits for some locks of the WAL by
SETLK_TIMEOUT; throughput may differ from other builds for that reason, too.
"""

from __future__ import annotations

import sysconfig
from collections.abc import Mapping
from functools import cache
from types import ModuleType
from typing import Any

from workloads.engines import concurrent_build, versions
from workloads.engines.concurrent_build import MissingBuild
from workloads.engines.engine import Identity, Promise, Script, Settings
from workloads.engines.pragmas import OPTIONS
from workloads.engines.sqlite_concurrent import SERIALIZABLE, ApswSession, apsw_script, identity_of
from workloads.errors import EngineMissing
from workloads.files import ROOT

BUILD = ROOT / ".build" / "sqlite-latest"
WHY_MISSING = BUILD / "why-missing.txt"
MODULE_NAME = "cwkit_sqlite_latest.apsw"


class SqliteLatest:
    name, version = "sqlite-latest", ""
    file_format = "sqlite"
    hosting = "process"
    shares = "threads"
    options: Mapping[str, tuple[str, ...]] = OPTIONS
    promises: Mapping[str, Promise] = dict.fromkeys(
        ("deferred", "immediate", "exclusive"), SERIALIZABLE
    )

    def missing(self) -> str | None:
        try:
            load(self.name, self.version)
        except MissingBuild as error:
            return str(error)
        return None

    def identity(self) -> Identity:
        driver = self._driver()
        return identity_of(driver, f"apsw {driver.apsw_version()}, its wheel")

    def script(self) -> Script:
        driver = self._driver()
        what = f"apsw {driver.apsw_version()}: pip install apsw=={driver.apsw_version()}"
        return apsw_script(what, str(driver.__file__))

    def connect(
        self, path: str, *, begin: str = "deferred", settings: Settings | None = None
    ) -> ApswSession:
        connection = self._driver().Connection(str(path))
        try:
            return ApswSession(connection, begin, settings or Settings())
        except BaseException:
            connection.close()
            raise

    def bare(self, path: str) -> Any:
        """The driver's own connection, as an application opens it."""
        return self._driver().Connection(path)

    def _driver(self) -> ModuleType:
        try:
            return load(self.name, self.version)
        except MissingBuild as error:
            raise EngineMissing(str(error)) from error


@cache
def load(name: str = "sqlite-latest", version: str = "") -> ModuleType:
    """Return a wheel's apsw, imported once a process. Raises MissingBuild where there is none."""
    suffix = sysconfig.get_config_var("EXT_SUFFIX")
    if version:
        place = versions.folder_of("apsw", version)
        path, module = place / "apsw" / f"__init__{suffix}", f"cwkit_sqlite_{version}.apsw"
        if not place.is_dir():
            raise MissingBuild(
                f"apsw {version} is not installed. Get it with: make engine ENGINE={name}"
            )
        if not path.is_file():
            raise MissingBuild(f"apsw {version} has no {path.name}: this Python cannot load it.")
        return concurrent_build.imported(module.replace(".", "_", module.count(".") - 1), path)
    path = BUILD / f"apsw{suffix}"
    if not path.is_file():
        why = concurrent_build.why_missing(WHY_MISSING, "it was never fetched for this Python")
        raise MissingBuild(
            f"SQLite 3.51.3 or later, from the wheel of apsw, is missing: {why}. "
            "Get it with: make setup"
        )
    return concurrent_build.imported(MODULE_NAME, path)


def reference_library() -> ModuleType:
    """The library by which statements are run for comparison, always in memory. MissingBuild."""
    return load()
