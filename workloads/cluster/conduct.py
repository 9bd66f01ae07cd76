"""An experiment's cells on several machines: a dask cluster, one cell a machine at a time.

Each block is run whole on one machine, so that cells are compared only with cells of the same
machine. A block whose machine is gone is run again, whole, on another; its cells so far are kept
beside. Runs are brought back into the one folder as soon as their cells end.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import dataclasses
import functools
import signal
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

from workloads import records as rec
from workloads.cluster import agent
from workloads.cluster.fetch import ARRIVING, Lost, brought, made_there
from workloads.cluster.machines import (
    RESOURCE,
    START_A_WORKER,
    Machine,
    Machines,
    MachinesGone,
    Unreachable,
    checked_address,
    connected,
)
from workloads.errors import PlanError
from workloads.experiments import (
    END_LIMIT_S,
    FAILED,
    ORPHANS_END_S,
    Cell,
    Design,
    Experiment,
    OnCell,
    Place,
    Watch,
    begin,
    byte_of,
    finish_and_set_aside,
    holding,
    home_of,
    only_by_this_code,
    read_cell,
    read_experiment,
    set_aside,
    start_over,
    write_cell,
)
from workloads.files import Held, locked, remove, resolved

__all__ = ["MachinesGone", "find_machines", "run_on_cluster"]

T = TypeVar("T")

CONNECT_LIMIT_S = 10.0
"""How long the scheduler, and then a first worker, is waited for, s."""

BACK_LIMIT_S = 10.0
"""How long a machine that was lost may take to be back before its block goes to another, s."""

LOOK_S = 1.0

MOST_LOSSES = 3
"""A cell whose worker was lost so often while it ran is a failure: the cell may kill them."""


def find_machines(
    design: Design,
    address: str,
    *,
    oversubscribe: bool = False,
    limit_s: float = CONNECT_LIMIT_S,
) -> int:
    """How many machines a cluster has for this design now. Runs and writes nothing.

    Arguments and errors are those of `conduct_on`.
    """

    async def asking() -> int:
        async with _machines(
            design, address, oversubscribe, limit_s, lambda sentence: None
        ) as machines:
            return len(machines.there)

    return _run_interruptibly(asking)


def run_on_cluster(
    design: Design,
    folder: Path,
    address: str,
    *,
    oversubscribe: bool = False,
    databases: Path | None = None,
    command: str = "",
    limit_s: float = CONNECT_LIMIT_S,
    back_s: float = BACK_LIMIT_S,
    again: Callable[[Cell], bool] = lambda cell: False,
    on_cell: OnCell = lambda experiment, block, arm, state: None,
    watch: Watch = lambda block, arm, progress: None,
    notify: Callable[[str], None] = lambda sentence: None,
) -> Experiment:
    """Run what is still missing of an experiment on the machines of a dask cluster.

    address : of the scheduler. A machine is a worker that offers the resource cwkit=1; one that
    joins later is used from then on. databases : a folder of each machine.
    limit_s : for the scheduler to answer, and for a first machine to be there. back_s : how long a
    machine that is lost may take to be back before its block is run whole on another.
    again, watch, on_cell : as for `run_experiment`; on_cell also gets "lost" for a cell whose
    worker is gone. notify : called with a sentence for the user.
    Each manifest's `conduct` has way "dask", `jobs` (cells at a time on that machine) and the CPUs.
    Raises PlanError for a text that is no address, RunError where no scheduler or no machine is
    there, or one has another cwkit or shares its CPUs with another, MachinesGone where all are lost
    on the way, FolderUnwritable, and KeyboardInterrupt. Finished cells are kept in each case.
    """
    folder = Path(folder)

    async def conducting() -> Experiment:
        async with _machines(design, address, oversubscribe, limit_s, notify) as machines:
            with holding(folder):
                begin(design, folder)
                experiment = read_experiment(folder)
                for key, cell in list(experiment.cells.items()):
                    if again(cell):
                        set_aside(folder, cell)
                        del experiment.cells[key]
                for block in only_by_this_code(experiment):
                    notify(_again(block, "by another checkout"))
                for path in folder.glob(f"*{ARRIVING}"):
                    remove(folder, path.name)
                made = _Conducting(machines, design, experiment, back_s)
                made.databases = str(resolved(databases)) if databases else ""
                made.command, made.on_cell, made.watch, made.notify = (
                    command,
                    on_cell,
                    watch,
                    notify,
                )
                await made.run()
                return experiment

    return _run_interruptibly(conducting)


def _again(block: int, begun: str) -> str:
    return (
        f"Block {block + 1} was begun {begun} and is run again whole; what it had is kept in the "
        "folder `earlier`."
    )


@contextlib.asynccontextmanager
async def _machines(
    design: Design,
    address: str,
    oversubscribe: bool,
    limit_s: float,
    notify: Callable[[str], None],
) -> AsyncIterator[Machines]:
    """The cluster's machines, at least one."""
    address = checked_address(address)
    for arm, values in design.arms.items():
        if values.get("cpus"):
            raise PlanError(
                f"Arm {arm!r} says on which CPUs it runs (cpus); on several machines those are the "
                "workers' own. Leave cpus out, or run it without --dask."
            )
    async with connected(address, limit_s) as client:
        machines = Machines(client, design, oversubscribe=oversubscribe, notify=notify)
        try:
            await _first(machines, limit_s)
            yield machines
        finally:
            await machines.close()


def _run_interruptibly(coroutine: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run it to its end. SIGINT and SIGTERM cancel it, so that it ends its cells in order.

    A KeyboardInterrupt, which would be raised wherever the loop happens to be, is raised only then.
    """

    async def main() -> T:
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        assert task is not None
        for number in signals:
            loop.add_signal_handler(number, task.cancel)
        try:
            return await coroutine()
        finally:
            for number in signals:
                loop.remove_signal_handler(number)

    in_main = threading.current_thread() is threading.main_thread()
    signals = (signal.SIGINT, signal.SIGTERM) if in_main else ()
    before = {number: signal.getsignal(number) for number in signals}
    try:
        with asyncio.Runner() as runner:
            return runner.run(main())
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


async def _first(machines: Machines, limit_s: float) -> None:
    """Wait until there is a machine and all machines there have answered. More may join later.

    Raises RunError where there is none, or where one that is there can't be used.
    """
    await machines.agree()
    until = time.monotonic() + limit_s
    while True:
        if refused := await machines.look():
            raise rec.RunError(" ".join(refused))
        if machines.there and not machines.asking:
            return
        if time.monotonic() > until and not machines.there:
            raise rec.RunError(
                f"No worker of the cluster offers {RESOURCE}=1, waited {limit_s:g} s. "
                f"{START_A_WORKER}"
            )
        if time.monotonic() > until:
            return
        await asyncio.sleep(min(LOOK_S, limit_s) / 10)


class _Conducting:
    """The blocks of one experiment, each handed to one machine, and its cells one by one."""

    command = databases = ""
    on_cell: OnCell
    watch: Watch
    notify: Callable[[str], None]

    def __init__(
        self, machines: Machines, design: Design, experiment: Experiment, back_s: float
    ) -> None:
        self.machines, self.client = machines, machines.client
        self.design, self.experiment, self.back_s = design, experiment, back_s
        self.folder = experiment.folder
        self.running: dict[asyncio.Task[None], tuple[Machine, int]] = {}
        self.seen: dict[Place, float] = {}  # when each was last there
        self.begun = time.monotonic()
        self.losses: collections.Counter[tuple[int, str]] = collections.Counter()

    async def run(self) -> None:
        """Run cells until none is left. Cells that still run when this ends are ended in order."""
        try:
            while self.experiment.left():
                self.machines.turned_away(await self.machines.look())
                self._hand_out()
                if self.running:
                    await asyncio.wait(
                        self.running, timeout=LOOK_S, return_when=asyncio.FIRST_COMPLETED
                    )
                    self._collect()
                else:
                    await asyncio.sleep(min(LOOK_S, self.back_s / 4))
        finally:
            for task in self.running:
                task.cancel()
            await asyncio.gather(*self.running, return_exceptions=True)
            parting = map(self._part_from, self.machines.there.values())
            await asyncio.gather(*parting, return_exceptions=True)

    def _hand_out(self) -> None:
        now = time.monotonic()
        busy = {machine.address for machine, _ in self.running.values()}
        for machine in self.machines.there.values():
            self.seen[machine.place] = now
            if machine.address in busy or (block := self._next_block(machine, now)) is None:
                continue
            task = asyncio.create_task(self._run_block(machine, block))
            self.running[task] = (machine, block)
        if not self.running and not self._expected(now):
            raise MachinesGone(
                f"All machines are gone; {len(self.experiment.cells)} of "
                f"{self.experiment.design.cells} cells are done and kept. "
                "Start the workers again, and go on with the same command."
            )

    def _expected(self, now: float) -> bool:
        """A machine that is there will get a block, or one that was may still be back."""
        return now - max(self.seen.values(), default=self.begun) <= self.back_s

    def _next_block(self, machine: Machine, now: float) -> int | None:
        """The block that a machine runs next: one that it has begun, then one that nobody has, then
        one whose machine is gone, from its beginning.
        """
        taken = {block for _, block in self.running.values()}
        left = dict.fromkeys(block for block, _ in self.experiment.left() if block not in taken)
        homes = {block: home_of(self.experiment, block) for block in left}
        for wanted in ({machine.place}, set()):
            for block, home in homes.items():
                if home == wanted:
                    return block
        for block, home in homes.items():
            if all(now - self._last_seen(place) > self.back_s for place in home) or len(home) > 1:
                start_over(self.experiment, block)
                self.notify(_again(block, "elsewhere"))
                return block
        return None

    def _last_seen(self, place: Place) -> float:
        """When a place was last there. One that never was may still be starting."""
        return self.seen.get(place, self.begun if place.cpus else float("-inf"))

    def _collect(self) -> None:
        for task in [task for task in self.running if task.done()]:
            machine, block = self.running.pop(task)
            try:
                task.result()
            except Lost as lost:
                self.machines.there.pop(machine.address, None)
                self.notify(f"Worker {machine.name} is lost in block b{block:02d}: {lost}")

    async def _run_block(self, machine: Machine, block: int) -> None:
        for arm in self.experiment.order[block]:
            if (block, arm) not in self.experiment.cells:
                self.on_cell(self.experiment, block, arm, "running")
                cell = await self._cell(machine, block, arm)
                self.experiment.cells[block, arm] = cell
                self.on_cell(self.experiment, block, arm, cell.state)

    async def _cell(self, machine: Machine, block: int, arm: str) -> Cell:
        async with self._held(block, arm):
            if there := read_cell(self.folder, block, arm):
                return there
            sentence = await asyncio.to_thread(finish_and_set_aside, self.folder, block, arm)
            if sentence:  # begun here, by a command without a cluster
                self.notify(sentence)
            try:
                job = self._job(machine, block, arm)
                on_progress = functools.partial(self.watch, block, arm)
                answer = await made_there(self.machines, machine, job, on_progress)
                cell = await brought(self.machines, machine, job, answer, self.folder)
            except Lost as lost:
                self.losses[block, arm] += 1
                if self.losses[block, arm] < MOST_LOSSES:
                    self.on_cell(self.experiment, block, arm, "lost")
                    raise
                sentence = f"its worker was lost {MOST_LOSSES} times while it ran: {lost}"
                cell = Cell(block, arm, FAILED, sentence, None)
            write_cell(self.folder, cell)
            return cell

    def _job(self, machine: Machine, block: int, arm: str) -> dict[str, Any]:
        """As `agent.cell` takes it."""
        jobs, over = self.machines.beside(machine)
        return {
            "token": machine.token,
            "pid": machine.pid,
            "cpus": machine.place.cpus,
            "design": {f.name: getattr(self.design, f.name) for f in dataclasses.fields(Design)},
            "block": block,
            "arm": arm,
            "how": {"way": "dask", "jobs": jobs, "oversubscribed": over, "command": self.command},
            "databases": self.databases,
        }

    @contextlib.asynccontextmanager
    async def _held(self, block: int, arm: str) -> AsyncIterator[None]:
        """Hold a cell against whoever else runs cells of this folder."""
        byte, until = byte_of(self.experiment, block, arm), time.monotonic() + ORPHANS_END_S
        while True:
            with contextlib.ExitStack() as stack:
                try:
                    stack.enter_context(locked(self.folder, byte))
                except Held:
                    if time.monotonic() > until:
                        raise rec.RunError(
                            f"{self.folder}: another process runs block {block}, arm {arm!r}. "
                            "Wait until it has ended, then go on with the same command."
                        ) from None
                else:
                    yield
                    return
            await asyncio.sleep(0.1)

    async def _part_from(self, machine: Machine) -> None:
        """End what a machine still runs for us, and leave nothing of ours there."""
        with contextlib.suppress(Unreachable):
            await self.machines.ask(machine.address, agent.stop, machine.token)
            until = time.monotonic() + END_LIMIT_S + 5
            while time.monotonic() < until:
                sentence = await self.machines.ask(machine.address, agent.beat, machine.token)
                if not sentence["running"]:
                    break
                await asyncio.sleep(0.1)
            await self.machines.ask(machine.address, agent.forget, machine.token)
