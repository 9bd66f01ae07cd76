"""Each property's account in pytest's output: its schedules, and what was found before Ctrl-C.

Counts go with a test's report, from xdist's workers too: into a table at the end, the sections of
`-rA`, and the JUnit XML. A failure that Hypothesis still makes smaller lies in a file, so that it
is printed whatever becomes of the process that found it.
"""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import is_hypothesis_test, settings

from properties.conformance.book import Book, book, count, noting, turn_to
from properties.conformance.targets import Target
from workloads.engines import find_engine
from workloads.errors import mode_label
from workloads.files import STAGE, Temporary, clear_stages, make
from workloads.schedules import ScheduleRunner

HERE = Path(__file__).resolve().parents[1]
NAMES = ("schedules", "begun", "committed")


class Accounts:
    """The plugin. In xdist's workers it counts, in the controller it prints; alone it does both."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        folder = getattr(config, "workerinput", {}).get("cwkit_found", "")
        self.ours: Temporary | None = None
        if not folder:
            clear_stages()
            # After a session that was killed nobody reads it: it goes as a runner's folder does.
            self.ours = make(STAGE)
        self.found = self.ours.path if self.ours else Path(folder)
        ScheduleRunner.listeners[:] = [count]

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        node.workerinput["cwkit_found"] = str(self.found)

    def pytest_unconfigure(self) -> None:
        if self.ours is not None:
            self.ours.remove()

    # --- a test ---------------------------------------------------------------------------------

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        for item in items:
            test = getattr(item, "obj", None)
            if HERE in item.path.parents and test is not None and is_hypothesis_test(test):
                inner = test.hypothesis.inner_test
                if not hasattr(inner, "__wrapped__"):
                    test.hypothesis.inner_test = noting(inner)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None]:
        if HERE not in item.path.parents:
            yield
            return
        turn_to(Book(item.nodeid, self.found))
        ended = True
        try:
            book().fixtures = frozenset(getattr(item, "funcargs", ()))
            yield
            _insist(item)
        except KeyboardInterrupt:
            ended = False  # what was found until now is all there is
            raise
        finally:
            if ended:
                book().close()
            if book().counts.schedules:
                item.user_properties.append(("engine", _who(item)))
                item.user_properties += book().counts.as_properties()
                item.add_report_section("call", "schedules", str(book().counts))
            turn_to(Book())

    # --- the end --------------------------------------------------------------------------------

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        self._print_counts(terminalreporter)
        self._print_found(terminalreporter)

    def _print_counts(self, reporter: Any) -> None:
        reports = [
            report
            for reports in reporter.stats.values()
            for report in reports
            if isinstance(report, pytest.TestReport) and report.when == "call"
        ]
        verbose = self.config.get_verbosity() > 0
        rows: dict[str, list[int]] = {}
        for report in reports:
            values: dict[str, Any] = dict(report.user_properties)
            if "schedules" in values:
                row = rows.setdefault(report.nodeid if verbose else values["engine"], [0] * 4)
                for at, value in enumerate([1, *(values[name] for name in NAMES)]):
                    row[at] += value
        if not rows:
            return
        reporter.section("schedules played, transactions begun and committed", bold=True)
        width = max(map(len, rows))
        reporter.write_line(f"{'':{width}}  tests  schedules     begun  committed")
        for name, (tests, schedules, begun, committed) in rows.items():
            reporter.write_line(
                f"{name:{width}}  {tests:>5}  {schedules:>9,}  {begun:>8,}  {committed:>9,}"
            )

    def _print_found(self, reporter: Any) -> None:
        """Failures of tests that did not end: they were interrupted, or their worker is gone."""
        for path in sorted(self.found.glob("*.txt")):
            test, _, text = path.read_text(encoding="utf-8").partition("\n")
            reporter.section(f"found before the end of {test}", sep="_", red=True)
            reporter.write_line(text)
            seed, profile = self.config.getoption("--seed"), settings.get_current_profile_name()
            reporter.write_line(
                "This is the smallest failure that was found until then. "
                f"seed: {seed} (--seed {seed}), hypothesis profile {profile}"
            )


def _target(item: pytest.Item) -> Target | None:
    called = getattr(item, "callspec", None)
    target = called.params.get("target") if called else None
    return target if isinstance(target, Target) else None


def _who(item: pytest.Item) -> str:
    """The engine and mode that a test is of, or its name: the table has a row for each."""
    return str(_target(item) or item.name.partition("[")[0])


def _insist(item: pytest.Item) -> None:
    """A property in which a promised mode did nothing says nothing, so it fails.

    Properties are tests of a target, and those that Hypothesis draws for and that play something.
    """
    target = _target(item)
    drawn = is_hypothesis_test(getattr(item, "obj", None)) and book().counts.schedules
    if target is not None:
        promise = find_engine(target.engine).promises[target.mode]
        book().insist(
            f"{target.engine}, {mode_label(target.mode)}",
            f"It promises {promise.level} for this mode: {promise.source}",
        )
    elif drawn:
        book().insist(item.name, "")
