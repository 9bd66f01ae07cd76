"""A sweep's cells as pytest items: `pytest workloads --sweep SWEEP -n auto`.

pytest-xdist distributes them, each of its workers with CPUs of its own; -k selects, --lf runs the
failed ones again. The results lie in the same folder as those of `cwkit sweep`. pytest cannot keep
the order within a block: xdist hands cells out as its workers become free, so the cells of a block
may lie further apart in time. The manifests say `"way": "pytest"`.
"""

from __future__ import annotations

import contextlib
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from workloads.errors import PlanError, RunError, RunFailed, UnknownName
from workloads.experiments.blocks import only_ours
from workloads.experiments.cell import run_cell
from workloads.experiments.conduct import holding
from workloads.experiments.cpus import slots
from workloads.experiments.experiment import (
    DONE,
    FAILED,
    Cell,
    begin,
    cell_name,
    read_cell,
    read_experiment,
    set_aside,
)
from workloads.experiments.shipped_sweeps import sweep_path
from workloads.experiments.sweep import Sweep, read_sweep
from workloads.experiments.sweep_folder import choose_folder, note_sweep
from workloads.files import resolved, visible

RUNS = Path("runs")
MENDABLE = (PlanError, UnknownName, RunError, RunFailed)


class CellFailed(Exception):
    """A cell that has no result; the text is the reason."""


def add_options(parser: pytest.Parser) -> None:
    """For the root conftest: pytest must know the options before it looks for paths."""
    group = parser.getgroup("cwkit sweeps")
    group.addoption(
        "--sweep",
        metavar="SWEEP",
        help="run this sweep's cells (a name, or FILE.toml), nothing else",
    )
    group.addoption(
        "--into",
        metavar="FOLDER",
        help="the sweep's folder (default: the newest unfinished one, else a new one in runs/)",
    )
    group.addoption(
        "--oversubscribe",
        action="store_true",
        help="more workers than CPUs; every result says so",
    )
    group.addoption(
        "--again", action="store_true", help="run the selected cells again, finished or not"
    )


def configure(config: pytest.Config) -> None:
    """For the root conftest: become a sweep where --sweep is given."""
    if config.getoption("--sweep"):
        config.pluginmanager.register(SweepItems(config), "cwkit-sweep")


class SweepItems:
    """The plugin. The controller (or the only process) chooses the folder and holds it."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        try:
            self.file = sweep_path(config.getoption("--sweep"))
            self.sweep: Sweep = read_sweep(self.file)
        except MENDABLE as error:
            raise pytest.UsageError(visible(error, keep="\n")) from error
        path = resolved(self.file)
        named = [arg for arg in config.args if resolved(arg.partition("::")[0]) == path]
        config.args = named or [str(self.file)]
        self.worker: dict[str, Any] = getattr(config, "workerinput", {})
        self.again = bool(config.getoption("--again"))
        self.failed_again = self.again or bool(config.getoption("lf", False))
        self.jobs, self.over = 1, False
        self.cpus: tuple[int, ...] = ()
        self.parted: list[tuple[int, ...]] = []
        self.taken: dict[str, int] = {}  # xdist's worker -> its slot
        self.held = contextlib.ExitStack()
        self.notices: list[str] = []
        self.folder = Path()
        if self.worker:
            self.folder = Path(self.worker["sweep_folder"])
            self.jobs, self.over = self.worker["sweep_jobs"], self.worker["sweep_over"]
            self.cpus = tuple(self.worker["sweep_cpus"])
        elif not config.option.collectonly:
            self._choose()

    def _choose(self) -> None:
        into = self.config.getoption("--into")
        finished = self.failed_again
        self.folder = Path(into) if into else choose_folder(self.sweep, RUNS, finished=finished)

    # -- the controller, or the only process ----------------------------------------------------

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionstart(self) -> None:
        alone = not self.config.pluginmanager.hasplugin("dsession")
        if alone and not self.worker and not self.config.option.collectonly:
            self._open()

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_setupnodes(self, config: pytest.Config, specs: list[Any]) -> None:
        """As many workers as cells at a time: refused where there are too few CPUs."""
        self.jobs = len(specs)
        over = bool(config.getoption("--oversubscribe"))
        try:
            self.parted, self.over = slots(self.jobs, oversubscribe=over)
        except PlanError as error:
            raise pytest.UsageError(visible(error).replace("cells", "workers (-n)", 1)) from error
        self._open()

    def _open(self) -> None:
        """Hold the folder and write the design down, before any cell runs."""
        try:
            self.held.enter_context(holding(self.folder))
            begin(self.sweep.design, self.folder)
            note_sweep(self.folder, self.sweep)
            cpus = len(self.parted[0]) if self.parted else 0  # alone it uses all of them
            only_ours(read_experiment(self.folder), jobs=self.jobs, cpus=cpus, started_by="pytest")
        except MENDABLE as error:
            self.held.close()
            raise pytest.UsageError(visible(error, keep="\n")) from error

    def pytest_unconfigure(self) -> None:
        self.held.close()

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        """Give each worker the folder and its CPUs; one that replaces a dead one gets the same."""
        name = node.gateway.id
        slot = min(set(range(self.jobs)) - set(self.taken.values()), default=0)
        self.taken[name] = slot
        node.workerinput |= {
            "sweep_folder": str(resolved(self.folder)),
            "sweep_jobs": self.jobs,
            "sweep_over": self.over,
            # Alone it may use the whole machine, as a cell of the command's.
            "sweep_cpus": list(self.parted[slot]) if self.jobs > 1 else [],
        }

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any, error: object) -> None:
        self.taken.pop(node.gateway.id, None)

    def pytest_report_header(self) -> list[str]:
        if self.worker or self.config.option.collectonly:
            return []
        return [f"sweep: {self.sweep.design.name}, {self.sweep.cells} cells, in {self.folder}"]

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call" and not self.worker:
            self.notices += [
                str(notice) for name, notice in report.user_properties if name == "notice"
            ]

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        if not self.config.option.collectonly:
            for notice in self.notices:
                terminalreporter.write_line(visible(notice))
            terminalreporter.write_line(f"The sweep's table: cwkit show {self.folder}")

    def pytest_report_teststatus(self, report: pytest.TestReport) -> tuple[str, str, str] | None:
        before = ("cell", "done before") in report.user_properties
        if report.when == "call" and report.passed and before:
            return "passed", ".", "DONE BEFORE"
        return None

    # -- items ----------------------------------------------------------------------------------

    def pytest_collect_file(
        self, file_path: Path, parent: pytest.Collector
    ) -> pytest.Collector | None:
        if resolved(file_path) != resolved(self.file):
            return None
        inside = file_path.is_relative_to(self.config.rootpath)
        # Outside, pytest would call every file "", and --lf would mix them up.
        nodeid = None if inside else file_path.as_posix()
        return SweepFile.from_parent(parent, path=file_path, nodeid=nodeid, items=self)


class SweepFile(pytest.File):
    """The sweep's file: an item for each cell, in the order of the blocks."""

    def __init__(self, *, items: SweepItems, **named: Any) -> None:
        super().__init__(**named)
        self.items = items

    def collect(self) -> Iterator[pytest.Item]:
        for block, arms in enumerate(self.items.sweep.design.order()):
            for arm in arms:
                # Without blanks, so that -k can name it.
                name = cell_name(block, arm).replace("-", "/", 1)
                yield CellItem.from_parent(self, name=name, items=self.items, block=block, arm=arm)


class CellItem(pytest.Item):
    """A cell. It passes where the cell is done, and fails with the cell's reason."""

    def __init__(self, *, items: SweepItems, block: int, arm: str, **named: Any) -> None:
        super().__init__(**named)
        self.items, self.block, self.arm = items, block, arm

    def runtest(self) -> None:
        items = self.items
        there = read_cell(items.folder, self.block, self.arm)
        if there is not None and (items.again or (items.failed_again and there.state != DONE)):
            set_aside(items.folder, there)
            there = None
        if there is not None:
            self.user_properties.append(("cell", "done before"))
        self._judge(there or self._run())

    def _run(self) -> Cell:
        items = self.items
        command = shlex.join(["pytest", *map(str, items.config.invocation_params.args)])
        if items.worker:
            command = shlex.join(["pytest", *items.worker.get("mainargv", sys.argv)[1:]])
        return run_cell(
            items.folder,
            self.block,
            self.arm,
            cpus=items.cpus,
            how={
                "way": "pytest",
                "jobs": items.jobs,
                "oversubscribed": items.over,
                "command": command,
            },
            notify=lambda notice: self.user_properties.append(("notice", notice)),
        )

    def _judge(self, cell: Cell) -> None:
        if cell.state == FAILED:
            where = f"\nIts run: {cell.folder}" if cell.folder else ""
            raise CellFailed(f"block {cell.block}, {visible(f'{cell.arm}: {cell.reason}')}{where}")
        if cell.state != DONE:
            pytest.skip(visible(f"{cell.state}: {cell.reason}"))

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        if isinstance(excinfo.value, (CellFailed, *MENDABLE)):
            return visible(excinfo.value, keep="\n")
        return super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[Path, int | None, str]:
        return self.path, None, f"block {self.block}, {self.arm}"
