"""A small disk for tests: a command finds a folder to be a disk of its own, of a few megabytes.

The disk is a real file system that fills up. It needs no rights, because everybody may mount a
tmpfs in a user namespace. It is there for that command alone, so its files are copied out before
the command ends.
"""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import pytest

UNSHARE = ("unshare", "--user", "--map-root-user", "--mount")
SCRIPT = """
mount -t tmpfs -o size="$1" none "$2" || exit 99
where=$2 keep=$3
shift 3
"$@"
status=$?
cp -a "$where/." "$keep"
exit $status
"""


def on_a_small_disk(size_bytes: int, folder: Path, keep: Path, argv: Sequence[str]) -> list[str]:
    """The command line that runs `argv` with a disk of that size in `folder`, copied to `keep`.

    Skips the test where such a disk cannot be made.
    """
    if not _to_be_had():
        pytest.skip("no tmpfs can be mounted here, not even in a user namespace")
    for one in (folder, keep):
        one.mkdir(parents=True, exist_ok=True)
    return [*UNSHARE, "sh", "-c", SCRIPT, "sh", str(size_bytes), str(folder), str(keep), *argv]


@cache
def _to_be_had() -> bool:
    try:
        done = subprocess.run(
            [*UNSHARE, "sh", "-c", "mount -t tmpfs -o size=65536 none /tmp"],
            capture_output=True,
            check=False,
            timeout=30,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0
