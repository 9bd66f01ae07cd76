"""Small disks for tests: a command finds a folder to be a disk of its own, of a few megabytes.

The disk is a real file system that fills up. It needs no rights, because everybody may mount a
tmpfs in a user namespace. It is there for a process of that namespace alone, so its files are
copied out when the command has ended.
"""

from __future__ import annotations

import json
import select
import subprocess
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest

UNSHARE = ("unshare", "--user", "--map-root-user", "--mount")
LIMIT_S = 240
SERVER = """
import contextlib, io, json, signal, subprocess, sys
from analysis.cli import main

for line in sys.stdin:
    size_bytes, folder, keep, sys.argv = json.loads(line)
    disk = ["mount", "-t", "tmpfs", "-o", f"size={size_bytes}", "none", folder]
    subprocess.run(disk, check=True)
    out, errors, status = io.StringIO(), io.StringIO(), 0
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(errors):
            main()
    except SystemExit as left:
        status = int(left.code or 0)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    subprocess.run(["cp", "-a", f"{folder}/.", keep], check=True)
    print(json.dumps([status, out.getvalue(), errors.getvalue()]), flush=True)
"""


class SmallDisks:
    """A process in which disks are mounted, and which runs cwkit's commands on them.

    One process for many commands: its start takes longer than most of them.
    """

    def __init__(self) -> None:
        """Skips the test where such a disk cannot be made."""
        if not _to_be_had():
            pytest.skip("no tmpfs can be mounted here, not even in a user namespace")
        self._process = subprocess.Popen(
            [*UNSHARE, sys.executable, "-c", SERVER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(
        self, size_bytes: int, folder: Path, keep: Path, argv: Sequence[str]
    ) -> subprocess.CompletedProcess[str]:
        """Run `cwkit` with these arguments, with a disk of that size in `folder`.

        keep : where the disk's files are copied to afterwards.
        """
        for one in (folder, keep):
            one.mkdir(parents=True, exist_ok=True)
        order: list[Any] = [size_bytes, str(folder), str(keep), ["cwkit", *argv]]
        assert self._process.stdin is not None and self._process.stdout is not None
        print(json.dumps(order), file=self._process.stdin, flush=True)
        assert select.select([self._process.stdout], [], [], LIMIT_S)[0], f"no end of {argv}"
        line = self._process.stdout.readline()
        assert line, f"the process with the disks ended at {argv}"
        return subprocess.CompletedProcess(order[-1], *json.loads(line))

    def close(self) -> None:
        """End it, and with it the disks."""
        self._process.communicate(timeout=LIMIT_S)


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
