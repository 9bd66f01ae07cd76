"""Installs one version of an engine's package into .build/versions: `make engine
ENGINE=turso@0.7.2`.

It lies beside the locked packages and not among them: nothing but the engine of that name finds it
(workloads/engines/versions.py). The wheel is installed without its dependencies and without
building anything, into a folder that gets its name only once it loads.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile

from fetching import PIP, CannotBuild, run

from workloads.engines import versions
from workloads.errors import UnknownName

PACKAGES = {
    "turso": ("pyturso", "turso"),
    "libsql": ("libsql-experimental", "libsql_experimental"),
    "libsql-0.1": ("libsql", "libsql"),
    "sqlite-latest": ("apsw", "apsw"),
}
"""Engine -> its package and the module that must load."""

USAGE = "Name an engine and a version, as in: make engine ENGINE=turso@0.7.2. Engines: {}."


def main(argv: list[str]) -> int:
    """Return the exit status: 2 where the version cannot be had; one sentence then says why."""
    try:
        engine, version = versions.parted(argv[0] if argv else "")
        if engine not in PACKAGES or not version:
            raise UnknownName(USAGE.format(", ".join(PACKAGES)))
        fetch(*PACKAGES[engine], version)
    except (UnknownName, CannotBuild) as reason:
        sentence = str(reason).partition(" (from versions")[0].rstrip(".")
        print(f"{sentence}.", file=sys.stderr)
        return 2
    print(f"{argv[0]} is here. Try: cwkit engines {argv[0]}")
    return 0


def fetch(package: str, module: str, version: str) -> None:
    """Install it, prove that it loads, and only then give its folder the name."""
    target = versions.folder_of(package, version)
    if target.is_dir():
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".") as temporary:
        run(
            [*PIP, "install", "--quiet", "--no-deps", "--only-binary", ":all:"]
            + ["--target", temporary, f"{package}=={version}"],
            f"pip could not install {package} {version}",
        )
        done = subprocess.run(
            [sys.executable, "-c", f"import sys; sys.path.insert(0, sys.argv[1]); import {module}"]
            + [temporary],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        if done.returncode:
            said = (done.stderr.strip().splitlines() or [f"status {done.returncode}"])[-1]
            raise CannotBuild(f"{package} {version} does not load here: {said}")
        kept = f"{temporary}/kept"
        os.mkdir(kept)
        for name in os.listdir(temporary):
            if name != "kept":
                shutil.move(f"{temporary}/{name}", kept)
        os.replace(kept, target)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
