"""What a process of a run leaves for its parent, where a full disk cannot take it.

An account is a small JSON file in the run's folder. Its place on the disk is reserved before the
run begins and it is written there: a worker whose disk has filled has most to tell. Whoever reads
in the middle of a writing, or before any, finds no account.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from workloads.errors import RunError
from workloads.files import read_bytes

RESERVED_BYTES = 16_384
BRIEF_CHARS = 500
"""Of each text in an account that has to fit its place."""


RESERVE = "reserve.bin"
RESERVE_BYTES = 1 << 20
"""Room for the manifest, which is written once more when the disk may be full: the largest has 256
workers of each role and the pages of its b-trees."""


def hold_back(folder: Path) -> None:
    """Have room in a run's folder for what is written last. Raises OSError where there is none."""
    with (Path(folder) / RESERVE).open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, RESERVE_BYTES)


def give_back(folder: Path) -> None:
    """Give that room to whoever writes next. Done by then, it is nothing."""
    (Path(folder) / RESERVE).unlink(missing_ok=True)


def account_path(folder: Path, who: str) -> Path:
    """Of "load", "check", or "worker-003"."""
    return Path(folder) / f"{who}.account.json"


def reserve(folder: Path, who: str) -> None:
    """Make the place for an account. Raises OSError where the disk has none."""
    with account_path(folder, who).open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, RESERVED_BYTES)


def leave(folder: Path, who: str, said: Mapping[str, Any]) -> None:
    """Leave an account; where the disk has no room for a long one, without its evidence.

    Raises OSError where not even that can be written.
    """
    number = os.open(account_path(folder, who), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        try:
            _write(number, json.dumps(said).encode())
        except OSError:
            os.ftruncate(number, RESERVED_BYTES)
            _write(number, json.dumps(_brief(said)).encode())
    finally:
        os.close(number)


def read_account(folder: Path, who: str) -> dict[str, Any]:
    """The account; {} where there is none yet, or none any more."""
    try:
        said = json.loads(read_bytes(account_path(folder, who)))
    except (OSError, RunError, ValueError, RecursionError):
        return {}
    return said if isinstance(said, dict) else {}


def _write(number: int, data: bytes) -> None:
    # Up to the end of what was there before. White space after JSON is none of it, while blocks
    # that a shorter file gave back might be somebody else's when the next account comes.
    whole = data.ljust(max(os.fstat(number).st_size, RESERVED_BYTES))
    at = 0
    while at < len(whole):
        at += os.pwrite(number, whole[at:], at)


def _brief(said: Mapping[str, Any]) -> dict[str, Any]:
    """What has to be said: its short values, and of findings what each came to."""
    kept = {name: value for name, value in said.items() if not isinstance(value, (dict, list))}
    kept |= {name: value[:BRIEF_CHARS] for name, value in kept.items() if isinstance(value, str)}
    findings = said.get("findings")
    if isinstance(findings, list):
        kept["findings"] = [
            finding | {"sentence": str(finding["sentence"])[:BRIEF_CHARS], "evidence": {}}
            for finding in findings
        ]
    return kept


__all__ = [
    "RESERVED_BYTES",
    "account_path",
    "give_back",
    "hold_back",
    "leave",
    "read_account",
    "reserve",
]
