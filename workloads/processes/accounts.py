"""Accounts: each process of a run reports to its parent at its end, even when the disk is full.

An account is a small JSON file in the run's folder. Its place on the disk is reserved before the
run begins, because a worker whose disk has filled has most to tell. A reader that comes before an
account is written, or while it is written, finds none.
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
"""Characters of each text in an account that has to fit its place."""


RESERVE = "reserve.bin"
RESERVE_BYTES = 1 << 20
"""Room for the manifest, which is written once more when the disk may be full: the largest has 256
workers of each role and the pages of its b-trees."""


def hold_back(folder: Path) -> None:
    """Have room in a run's folder for what is written last. Raises OSError where there is none."""
    with (Path(folder) / RESERVE).open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, RESERVE_BYTES)


def give_back(folder: Path) -> None:
    """Remove the reserve, so that others can write. Nothing happens where it is gone already."""
    (Path(folder) / RESERVE).unlink(missing_ok=True)


def account_path(folder: Path, who: str) -> Path:
    """Where the account of "load", "check" or "worker-003" lies."""
    return Path(folder) / f"{who}.account.json"


def reserve(folder: Path, who: str) -> None:
    """Make the place for an account. Raises OSError where the disk has none."""
    with account_path(folder, who).open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, RESERVED_BYTES)


def leave(folder: Path, who: str, account: Mapping[str, Any]) -> None:
    """Leave an account. Where the disk has no room for a long one, its evidence is left out.

    Raises OSError where not even that can be written.
    """
    number = os.open(account_path(folder, who), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        try:
            _write(number, json.dumps(account).encode())
        except OSError:
            os.ftruncate(number, RESERVED_BYTES)
            _write(number, json.dumps(_brief(account)).encode())
    finally:
        os.close(number)


def read_account(folder: Path, who: str) -> dict[str, Any]:
    """The account; {} where there is none yet, or none any more."""
    try:
        account = json.loads(read_bytes(account_path(folder, who)))
    except (OSError, RunError, ValueError, RecursionError):
        return {}
    return account if isinstance(account, dict) else {}


def _write(number: int, data: bytes) -> None:
    # The file is written up to its former end, with white space, which JSON ignores. A shorter file
    # would give blocks back, and the next account might find them taken.
    whole = data.ljust(max(os.fstat(number).st_size, RESERVED_BYTES))
    at = 0
    while at < len(whole):
        at += os.pwrite(number, whole[at:], at)


def _brief(account: Mapping[str, Any]) -> dict[str, Any]:
    """An account cut to its short values and the sentence of each finding."""
    kept = {name: value for name, value in account.items() if not isinstance(value, (dict, list))}
    kept |= {name: value[:BRIEF_CHARS] for name, value in kept.items() if isinstance(value, str)}
    findings = account.get("findings")
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
