"""Fetches a SQLite without the WAL-reset race into .build/sqlite-latest, as one file.

It is a released wheel of apsw, which carries a SQLite of its own. The wheel is pinned by
sqlite-latest.lock and installed by pip into a temporary folder, never into .venv: an `import apsw`
finds nothing. workloads/engines/sqlite_latest.py loads the one file that is kept. Run by
tools/setup/install.py with the Python of .venv. A reason why it failed ends as one sentence in
why-missing.txt and on the screen.
"""

from __future__ import annotations

import os
import sys
import sysconfig
import tempfile
from pathlib import Path

from fetching import PIP, CannotBuild, run, show_step

ROOT = Path(__file__).resolve().parents[2]
LOCK = ROOT / "tools" / "setup" / "sqlite-latest.lock"
TARGET = ROOT / ".build" / "sqlite-latest"
WHY_MISSING = TARGET / "why-missing.txt"

FIXED = "3.51.3"
"""The first release without the race: https://sqlite.org/wal.html#walresetbug"""

# Run by a process of its own, so that a wheel that does not load or is too old never gets into its
# place.
PROOF = """
import importlib.util, sys
spec = importlib.util.spec_from_file_location("cwkit_sqlite_latest.apsw", sys.argv[1])
apsw = importlib.util.module_from_spec(spec)
spec.loader.exec_module(apsw)
have = apsw.sqlite_lib_version()
if [int(part) for part in have.split(".")] < [int(part) for part in sys.argv[2].split(".")]:
    sys.exit(f"error: it carries SQLite {have}, which is older than {sys.argv[2]}")
assert apsw.Connection(":memory:").execute("SELECT sqlite_version()").fetchall() == [(have,)]
"""


def main() -> int:
    """Return the exit status: 1 where there is none; why-missing.txt then says why."""
    TARGET.mkdir(parents=True, exist_ok=True)
    WHY_MISSING.unlink(missing_ok=True)
    try:
        fetch()
    except CannotBuild as reason:
        for stale in TARGET.glob("apsw*.so"):
            stale.unlink()
        WHY_MISSING.write_text(f"{reason}.\n", encoding="utf-8")
        print(reason)
        return 1
    return 0


def fetch() -> None:
    """Install the wheel, prove it, and only then put its module in its place."""
    suffix = sysconfig.get_config_var("EXT_SUFFIX")
    with tempfile.TemporaryDirectory(dir=TARGET) as temporary:
        show_step("fetching the wheel of apsw, 3 MB")
        run(
            [*PIP, "install", "--no-deps", "--only-binary", ":all:", "--require-hashes"]
            + ["--target", temporary, "--requirement", str(LOCK)],
            "pip could not install the wheel of apsw that tools/setup/sqlite-latest.lock pins",
        )
        # apsw is a package whose own code is its extension module.
        module = Path(temporary, "apsw", f"__init__{suffix}")
        if not module.is_file():
            raise CannotBuild(f"the wheel of apsw has no apsw/{module.name}")
        show_step("proving that it loads and is new enough")
        run(
            [sys.executable, "-c", PROOF, str(module), FIXED],
            "the module of the wheel is not what is needed",
        )
        for old in TARGET.glob("apsw*.so"):
            old.unlink()
        os.replace(module, TARGET / f"apsw{suffix}")


if __name__ == "__main__":
    sys.exit(main())
