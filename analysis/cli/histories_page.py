"""What `cwkit check --html` shows: the verdicts as they come, with their counterexamples drawn."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from properties import checker
from workloads.files import visible

if TYPE_CHECKING:
    from analysis.charts import Counterexample, Judged
    from properties.checker import Verdict


class HistoriesPage:
    """One page for several histories. A history is drawn at once, and need not be kept."""

    def __init__(self, level: str) -> None:
        from analysis.charts import Room  # here: who asks for no page needs no templates

        self.level, self.room = level, Room()
        self.histories: list[Judged] = []

    def add_error(self, path: Path, error: Exception) -> None:
        """A history that could not be read, with the reason."""
        from analysis.charts import Judged

        self.histories.append(Judged(visible(path), error=visible(error)))

    def add(self, path: Path, verdict: Verdict, many: str, data: Mapping[str, Any]) -> None:
        """A history that was judged. many : its size in words. data : as --json has it."""
        from analysis.charts import Judged

        self.histories.append(
            Judged(
                visible(path),
                many,
                checker.headline(verdict, self.level),
                verdict.levels[self.level],
                verdict.levels,
                checker.caveats(verdict),
                list(self._counterexamples(verdict, data)),
            )
        )

    def _counterexamples(
        self, verdict: Verdict, data: Mapping[str, Any]
    ) -> Iterator[Counterexample]:
        from analysis.charts import Counterexample

        for name, witnesses in verdict.anomalies.items():
            for witness, told in zip(witnesses, data["anomalies"][name], strict=True):
                title = told["why"].partition("\n")[0]
                drawing = checker.lanes_svg(verdict.history, witness) if self.room.take() else ""
                yield Counterexample(title, told, drawing, witness.why)

    def html(self) -> str:
        """The page."""
        from analysis.charts import verdict_page

        return verdict_page(self.level, self.histories, self.room)
