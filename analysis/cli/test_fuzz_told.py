"""What `cwkit fuzz` says of a hunt beside its findings."""

from __future__ import annotations

from collections import Counter
from io import StringIO
from pathlib import Path

from rich.console import Console

from analysis.cli.fuzz import tell
from properties.hunter import Hunted, Progress


def test_races_that_were_not_run_are_told_with_the_engines_words(tmp_path: Path) -> None:
    progress = Progress(not_raced=Counter({"no such table here": 2}))
    console = Console(file=(words := StringIO()), width=200)
    tell(Hunted(tmp_path, progress, "done"), "it", ("immediate",), console)
    assert "2 races not run, because its tables were refused: no such table here" in (
        words.getvalue()
    )
