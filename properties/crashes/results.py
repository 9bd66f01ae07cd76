"""What a crash campaign found, read back from its folder without a number or an engine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import msgspec

from workloads.errors import RunError
from workloads.files import read_versioned

DESIGN, RESULT = "crash.json", "result.json"
"""What was asked, as soon as there is a recording; what was found, when all of it was judged."""

_Count = Annotated[int, msgspec.Meta(ge=0, lt=1 << 53)]
_Word = Annotated[str, msgspec.Meta(max_length=4000)]


class ModelRow(msgspec.Struct, frozen=True):
    """One model of a crash: states, and in how many of them which kind of fault was."""

    model: _Word
    states: _Count
    broken: dict[_Word, _Count]
    allowed: dict[_Word, _Count]
    lost_in: _Count
    most_lost: _Count


class CrashResult(msgspec.Struct, frozen=True):
    """`result.json`: the document of `cwkit crash --json`, as docs/json.md has it."""

    engine: _Word
    version: _Word
    begin: _Word
    synchronous: _Word
    scenario: _Word
    writers: _Count
    checkpointers: _Count
    seed: int
    asked: _Count
    records: _Count
    acknowledged: _Count
    unexplained: list[_Word]
    interrupted: bool
    judged: _Count
    same: _Count
    models: list[ModelRow]
    kept: list[_Word]
    notes: list[_Word] = []
    contents: _Count = 0
    journal_mode: _Word = "wal"
    binding: _Word = ""

    @property
    def broken(self) -> int:
        """Kinds of what is promised and was not kept, over all models: 0 where all was kept."""
        return len({kind for row in self.models for kind in row.broken})

    def data(self, folder: Path) -> dict[str, Any]:
        """The document again. folder : where it lies now."""
        head = {"cwkit": 1, "document": "crash", "folder": str(folder)}
        return {**head, **msgspec.to_builtins(self)}


def read_result(folder: Path) -> CrashResult:
    """Raises RunError where a campaign has none, because it is not over, or a wrong one."""
    way_out = f"It goes on with: cwkit crash --into {folder}"
    try:
        found: CrashResult = read_versioned(folder / RESULT, CrashResult, way_out)
    except FileNotFoundError:
        raise RunError(f"{folder}: this crash campaign is not over. {way_out}") from None
    return found
