"""One cell on one machine of a dask cluster: its task there, and its run brought back here."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, BinaryIO, Literal

import msgspec

from workloads import records as rec
from workloads.cluster import agent
from workloads.cluster.machines import ASK_LIMIT_S, RESOURCE, Machine, Machines, Unreachable
from workloads.errors import FolderUnwritable
from workloads.experiments import ERRORS, Cell, cell_name, longest_s, unwritable
from workloads.files import converted, inside, remove, visible, within
from workloads.runs import Progress

QUEUE_LIMIT_S = 3600.0
"""How long a cell may wait for its machine while another conductor uses that, s."""

BEAT_S = 2.0
POLL_S = 0.5
PIECE_BYTES = 8 << 20
ARRIVING = ".arriving"


class Lost(Exception):
    """The worker that was to run a cell is gone; the text is the rest of a sentence."""


# -- a cell on its machine ----------------------------------------------------------------


async def made_there(
    machines: Machines, machine: Machine, job: Mapping[str, Any], watch: Callable[[Progress], None]
) -> Mapping[str, Any]:
    """Have a machine run one cell, and return the answer of `agent.cell` to this job.

    The task is this machine's alone and is run once. Raises Lost, or what the user could mend.
    """
    task = machines.client.submit(
        agent.cell,
        job,
        key=f"{cell_name(job['block'], job['arm'])}-{uuid.uuid4().hex[:12]}",
        pure=False,
        workers=[machine.address],
        allow_other_workers=False,
        resources={RESOURCE: 1},
        retries=0,
    )
    try:
        await _ended(task, machines, machine, job, watch)
        if task.status == "error":
            error = await task.exception()
            if type(error).__name__ == "KilledWorker":
                raise Lost("dask says that the cell killed it.")
            raise error
        if task.status != "finished":
            raise Lost("dask gave its task up.")
        try:
            answer: Mapping[str, Any] = await asyncio.wait_for(task, ASK_LIMIT_S)
        except (OSError, TimeoutError) as error:
            raise Lost(f"what came of its cell could not be fetched ({error}).") from error
    finally:
        with contextlib.suppress(OSError, TimeoutError):
            await asyncio.wait_for(machines.client.cancel([task], force=True), ASK_LIMIT_S)
    if answer.get("moved") or answer.get("stopped"):
        raise Lost("it was started again, or heard nothing from here.")
    if "error" in answer:
        message = f"Worker {machine.name}: {answer['message']}"
        if answer["error"] == FolderUnwritable.__name__:
            message += " (`dask worker --local-directory` chooses where it keeps a cell's run.)"
        raise ERRORS.get(answer["error"], rec.RunError)(message)
    return answer


async def _ended(
    task: Any,
    machines: Machines,
    machine: Machine,
    job: Mapping[str, Any],
    watch: Callable[[Progress], None],
) -> None:
    """Wait for a cell's task, and report its progress. Raises Lost."""
    loop, ended = asyncio.get_running_loop(), asyncio.Event()

    def wake(future: Any) -> None:  # in a thread of dask's
        with contextlib.suppress(RuntimeError):  # nobody waits any more
            loop.call_soon_threadsafe(ended.set)

    task.add_done_callback(wake)
    begun = last_answer = time.monotonic()
    most_s = longest_s(job["design"]["arms"][job["arm"]])
    until = 0.0  # counted from when it runs
    beat: asyncio.Task[Any] | None = None
    try:
        while not ended.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(ended.wait(), POLL_S)
            now = time.monotonic()
            # Asked beside this loop: dask tries a dead worker for half a minute.
            if beat is None and now - last_answer >= BEAT_S:
                beat = asyncio.create_task(machines.ask(machine.address, agent.beat, machine.token))
            elif beat is not None and beat.done():
                with contextlib.suppress(Unreachable):
                    answer, last_answer = beat.result(), now
                    if answer["running"] and not until:
                        until = now + most_s
                    if answer["progress"]:
                        watch(Progress(**answer["progress"]))
                beat = None
            if ended.is_set():
                return
            if machine.address not in machines.registered:
                raise Lost("its process has ended, or its network has.")
            if now - last_answer > agent.LAPSE_S:
                raise Lost(f"it gave no answer for {agent.LAPSE_S:.0f} s.")
            if until and now > until:
                raise Lost("its cell took longer than any cell can.")
            if not until and now - begun > QUEUE_LIMIT_S:
                raise rec.RunError(
                    f"Worker {machine.name} has been busy with other work for "
                    f"{QUEUE_LIMIT_S / 60:.0f} minutes. Go on with the same command when it is "
                    "free."
                )
    finally:
        if beat is not None:
            beat.cancel()
            await asyncio.gather(beat, return_exceptions=True)


class _Answer(msgspec.Struct, frozen=True):
    """A worker's answer about its cell, as it is checked."""

    state: Literal["done", "failed", "refused", "missing"]
    reason: str
    took_s: Annotated[float, msgspec.Meta(ge=0, le=1e9)]
    files: list[tuple[str, Annotated[int, msgspec.Meta(ge=0)]]]
    run: str = ""


async def brought(
    machines: Machines,
    machine: Machine,
    job: Mapping[str, Any],
    answer: Mapping[str, Any],
    to: Path,
) -> Cell:
    """The cell, its run folder fetched in pieces and put whole into the folder `to`. Raises Lost.

    answer : as `made_there` returned it. Names that are not ours, and a file's path that leads out
    of the folder, are a RunError.
    """
    name = cell_name(job["block"], job["arm"])
    checked: _Answer = converted(Path(f"worker {machine.name}"), dict(answer), _Answer)
    cell = Cell(job["block"], job["arm"], checked.state, checked.reason, None, checked.took_s)
    if not checked.files:
        return cell
    arriving, place = inside(to, f"{name}{ARRIVING}"), inside(to, name)
    try:
        remove(to, arriving.name)
        for file, size in checked.files:
            with opened(arriving, file) as out:
                while (at := out.tell()) < size:
                    wanted = min(PIECE_BYTES, size - at)
                    arguments = (machine.token, checked.run, file, at, wanted)
                    try:
                        data = await machines.ask(machine.address, agent.piece, *arguments)
                    except Unreachable as error:
                        raise Lost(f"its run could not be fetched ({error}).") from error
                    if not data or len(data) > wanted:
                        raise Lost(f"its run's file {file} could not be read.")
                    out.write(data)
        os.replace(arriving, place)
    except OSError as error:
        raise unwritable(to, error) from error
    finally:
        remove(to, arriving.name)
    return dataclasses.replace(cell, folder=place)


@contextlib.contextmanager
def opened(folder: Path, file: str) -> Iterator[BinaryIO]:
    """A new file within a folder, by the path that a worker gave: never one outside of it."""
    try:
        target = within(folder, file)
    except rec.RunError as error:
        raise rec.RunError(
            f"A worker named {visible(repr(file))} as a file of its run, which lies outside it."
        ) from error
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("xb") as out:
        yield out
