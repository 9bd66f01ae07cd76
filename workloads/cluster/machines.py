"""Machines: the workers of a dask cluster that may run cells, as their conductor sees them.

A machine is a worker that offers the resource `cwkit=1`. Each is asked who it is before it gets a
cell: one whose cwkit, Python or engines differ would measure something else.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import uuid
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pydantic import ValidationError

from workloads.cluster import agent
from workloads.errors import PlanError, RunError
from workloads.experiments import Design, Place
from workloads.runs import Plan, complaint_of, digest, field_of

RESOURCE = "cwkit"

ASK_LIMIT_S = 30.0
"""How long an answer of a worker or of the scheduler is waited for, s."""

SCHEMES = ("tcp", "tls", "ws", "wss")

START_A_WORKER = (
    "Start one in a checkout on each machine: dask worker ADDRESS --nthreads 1 --resources cwkit=1"
)


class MachinesGone(RunError):
    """A cluster that was there and is not any more. Finished cells are kept."""


class Unreachable(Exception):
    """A worker that gives no answer."""


@dataclass(eq=False)
class Machine:
    """A worker that was asked and accepted. token : of this conductor's stay with it."""

    address: str
    name: str
    place: Place
    pid: int
    token: str = field(default_factory=lambda: uuid.uuid4().hex[:12])


def checked_address(address: str) -> str:
    """A scheduler's address with its scheme. Raises PlanError for anything else.

    >>> checked_address("10.0.0.5:8786")
    'tcp://10.0.0.5:8786'
    """
    scheme, separator, rest = address.strip().partition("://")
    full = f"{scheme}://{rest}" if separator else f"tcp://{scheme}"
    try:
        parts = urlsplit(full)
        well = parts.scheme in SCHEMES and parts.hostname and parts.port
        well = well and full == f"{parts.scheme}://{parts.netloc}" and "@" not in parts.netloc
    except ValueError:  # the port is no number
        well = False
    if not well:
        raise PlanError(
            f"--dask {address}: no address. Give HOST:PORT as `dask scheduler` prints it, "
            "such as tcp://10.0.0.5:8786."
        )
    return full


@contextlib.asynccontextmanager
async def connected(address: str, limit_s: float) -> AsyncIterator[Any]:
    """A dask client of the scheduler at this address. Raises RunError where none answers in time.

    distributed logs on our terminal, and warns of versions, although we report both ourselves
    (`Machines`). So it is kept quiet meanwhile.
    """
    from distributed import Client
    from distributed.versions import VersionMismatchWarning

    encrypted = _encrypted(address)
    with _silenced(), warnings.catch_warnings():
        warnings.simplefilter("ignore", VersionMismatchWarning)
        client = Client(address, asynchronous=True, timeout=limit_s, set_as_default=False)
        try:
            try:
                await asyncio.wait_for(_started(client), limit_s + 1)
            except (OSError, TimeoutError, ValueError) as error:
                way_out = "and give the address that it prints."
                if encrypted:
                    way_out += f" Both must accept each other's certificates: {_first_cause(error)}"
                raise RunError(
                    f"{address}: no dask scheduler answered within {limit_s:g} s. Start one with "
                    f"`dask scheduler`, {way_out}"
                ) from error
            yield client
        finally:
            with contextlib.suppress(OSError, TimeoutError):
                await asyncio.wait_for(client.close(), ASK_LIMIT_S)


def _encrypted(address: str) -> bool:
    """Whether it is spoken with by TLS. Raises PlanError where dask's settings can't do that."""
    from distributed.security import Security

    if urlsplit(address).scheme not in ("tls", "wss"):
        return False
    hint = (
        "Name the files in dask's settings, DASK_DISTRIBUTED__COMM__TLS__CA_FILE, "
        "…__TLS__CLIENT__CERT and …__TLS__CLIENT__KEY in the environment or a file of DASK_CONFIG."
    )
    try:
        context = Security().get_connection_args("client")["ssl_context"]
    except OSError as error:  # ssl.SSLError, too
        raise PlanError(
            f"--dask {address}: the certificate can't be used: {error}. {hint}"
        ) from None
    if context is None:
        raise PlanError(f"--dask {address}: TLS needs a certificate, and there is none. {hint}")
    return True


def _first_cause(error: BaseException) -> str:
    while error.__cause__ is not None:
        error = error.__cause__
    return str(error)


async def _started(client: Any) -> None:
    await client


@contextlib.contextmanager
def _silenced() -> Iterator[None]:
    loggers = [logging.getLogger(name) for name in ("distributed", "distributed.client")]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)


class Machines:
    """The workers of a cluster that may run a design's cells. `there` : by address.

    notify : called with a sentence for each worker that isn't used.
    """

    def __init__(
        self, client: Any, design: Design, *, oversubscribe: bool, notify: Callable[[str], None]
    ) -> None:
        self.client, self.oversubscribe, self.notify = client, oversubscribe, notify
        self.there: dict[str, Machine] = {}
        self.registered: set[str] = set()
        self._notified: set[str] = set()
        self._asked: set[str] = set()  # addresses of workers that aren't used
        self._asking: dict[str, asyncio.Task[str]] = {}
        self._overlapping: dict[str, Machine] = {}
        self._most: dict[str, int] = {}  # by a machine's id
        self._engines, self._files = _needs(design)
        self._here = agent.who(self._engines, [])
        self._here["files"] = {name: digest(Path(name)) for name in self._files}

    async def ask(self, address: str, function: Callable[..., Any], *arguments: Any) -> Any:
        """Have a worker answer, even while it runs a cell. Raises Unreachable."""
        try:
            answers = await asyncio.wait_for(
                self.client.run(function, *arguments, workers=[address], on_error="return"),
                ASK_LIMIT_S,
            )
        except (OSError, TimeoutError) as error:
            raise Unreachable(f"{address}: {error}") from error
        answer = answers.get(address, OSError("it is not registered"))
        if isinstance(answer, OSError | TimeoutError):
            raise Unreachable(f"{address}: {answer}")
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def look(self) -> list[str]:
        """See which workers are there now. Returns a sentence for each new one that is refused.

        Raises MachinesGone where the scheduler gives no answer.
        """
        answer = await self._answer_of(self.client.scheduler.identity(n_workers=-1))
        workers: Mapping[str, Any] = answer["workers"]
        self.registered = set(workers)
        for known in (self.there, self._overlapping):
            for address in known.keys() - self.registered:
                del known[address]
        self._asked &= self.registered
        refused = [self._admit(machine) for machine in list(self._overlapping.values())]
        for address, task in list(self._asking.items()):
            if task.done():
                refused.append(task.result())
                del self._asking[address]
        known_already = self._asked | self.there.keys() | self._overlapping.keys()
        for address in self.registered - known_already - self._asking.keys():
            if workers[address].get("status") == "running":
                self._asking[address] = asyncio.create_task(
                    self._examine(address, workers[address])
                )
        return list(filter(None, refused))

    async def _answer_of(self, asked: Awaitable[Any]) -> Any:
        """The scheduler's answer. Raises MachinesGone where there is none."""
        try:
            return await asyncio.wait_for(asked, ASK_LIMIT_S)
        except (OSError, TimeoutError) as error:
            raise MachinesGone(
                f"{self.client.scheduler.address}: the dask scheduler is gone. Finished cells are "
                "kept: start it and its workers again, and go on with the same command."
            ) from error

    @property
    def asking(self) -> bool:
        """A worker has been asked who it is, and has not answered yet."""
        return bool(self._asking)

    async def close(self) -> None:
        """Wait for no more answers."""
        for task in self._asking.values():
            task.cancel()
        await asyncio.gather(*self._asking.values(), return_exceptions=True)

    async def agree(self) -> None:
        """See that the scheduler's dask is ours. Raises RunError where it is not."""
        answer = await self._answer_of(self.client.scheduler.versions(packages=[]))
        if differs := python_differs(answer["packages"]):
            raise RunError(
                f"The scheduler has {differs}. Start it with the .venv/bin/dask of a checkout "
                "where `make setup` was run, as here."
            )

    async def _versions(self, address: str) -> dict[str, str | None]:
        """The versions of a worker's Python and packages, asked as client.get_versions() does."""
        request = {"msg": {"op": "versions", "packages": []}, "workers": [address]}
        answer = await asyncio.wait_for(self.client.scheduler.broadcast(**request), ASK_LIMIT_S)
        return dict(answer[address]["packages"])

    async def _examine(self, address: str, worker: Mapping[str, Any]) -> str:
        """Take a new worker among the machines, or return why not ("" where it only isn't ours).

        One that does not answer is asked again at a later look.
        """
        name = str(worker.get("name") or address)
        if not (offered := worker.get("resources", {}).get(RESOURCE, 0)):
            self._asked.add(address)
            self._notify_once(f"Worker {name} offers no cwkit=1, so it is not used.")
            return ""
        if offered != 1:
            self._asked.add(address)
            return (
                f"Worker {name} offers cwkit={offered:g}, and would run several cells at a time "
                "on the same CPUs. Start it with --resources cwkit=1."
            )
        try:
            if differs := python_differs(await self._versions(address)):
                self._asked.add(address)
                return f"Worker {name} has {differs}. Give all machines the same by `make setup`."
            there = await self.ask(address, agent.who, self._engines, self._files)
        except (Unreachable, OSError, TimeoutError):
            return ""
        except Exception as error:
            self._asked.add(address)
            return (
                f"Worker {name} cannot load this cwkit ({error}). Start it with the .venv/bin/dask "
                "of a checkout at the same commit."
            )
        if differs := self.differs(there):
            self._asked.add(address)
            return f"Worker {name} has {differs}"
        if there["profiled"]:
            self._notify_once(
                f"Worker {name} profiles itself, which takes 3 % of a CPU from the cells. Start it "
                "with DASK_CONFIG=workloads/cluster/dask.yaml."
            )
        made = Machine(address, name, Place(there["id"], tuple(there["cpus"])), there["pid"])
        return self._admit(made)

    def _admit(self, made: Machine) -> str:
        for other in self.there.values():
            if (both := made.place.shares(other.place)) and not self.oversubscribe:
                self._overlapping[made.address] = made  # until the other is gone
                return (
                    f"Workers {other.name} and {made.name} are on one machine and share its CPUs "
                    f"{', '.join(map(str, both))}: two cells would run on the same CPUs. Start "
                    "each on CPUs of its own (taskset -c), or give --oversubscribe: every result "
                    "is then marked so."
                )
        self._overlapping.pop(made.address, None)
        self.there[made.address] = made
        return ""

    def _notify_once(self, sentence: str) -> None:
        if sentence not in self._notified:
            self._notified.add(sentence)
            self.notify(sentence)

    def turned_away(self, refused: list[str]) -> None:
        """Notify, once each, why workers that joined later are not used."""
        for sentence in refused:
            self._notify_once(f"Not used: {sentence}")

    def differs(self, there: Mapping[str, Any]) -> str:
        """The first difference to here, as the rest of a sentence; "" where there is none."""
        here = self._here
        for what in ("format", "commit", "source"):
            if there.get(what) != here[what]:
                return (
                    f"cwkit {_version(there)}, and here is {_version(here)}. Bring both checkouts "
                    "to one commit without changes, run `make setup`, and start the worker again."
                )
        if there["loaded"] != there["source"]:
            return "a checkout that was changed since it was started. Start it again."
        for name, found in there["engines"].items():
            if found != here["engines"][name]:
                return (
                    f"another {name} ({found}) than here ({here['engines'][name]}). Run "
                    "`make setup` on both."
                )
        for name, found in there["files"].items():
            if found != here["files"][name]:
                other = "another file" if found else "no file"
                return f"{other} {name} in its checkout. Copy it there from here."
        return ""

    def beside(self, machine: Machine) -> tuple[int, bool]:
        """Cells at a time on that machine (the most there were so far), and whether one of the
        others shares its CPUs.
        """
        place = machine.place
        now = 1 + sum(m.place.id == place.id for m in self.there.values() if m is not machine)
        self._most[place.id] = max(now, self._most.get(place.id, 0))
        over = any(place.shares(m.place) for m in self.there.values() if m is not machine)
        return self._most[place.id], over


def _version(who: Mapping[str, Any]) -> str:
    return f"{who.get('commit')} (source {who.get('source')}, format {who.get('format')})"


def python_differs(packages: Mapping[str, str | None]) -> str:
    """The first differing package, by dask's own answer: another Python's pickles may not be
    readable at all.
    """
    from distributed.versions import get_versions

    here = get_versions()["packages"]
    for package in ("python", "distributed", "dask"):
        if packages[package] != here[package]:
            return f"{package} {packages[package]}, and here is {here[package]}"
    return ""


def _needs(design: Design) -> tuple[list[str], list[str]]:
    """Engines by name and the user's own files that a design needs on each machine."""
    engines: dict[str, None] = {}
    files: dict[str, None] = {}
    for values in design.arms.values():
        try:
            plan = Plan(**values)
        except ValidationError as error:
            raise PlanError(complaint_of(error), field_of(error)) from error
        files |= dict.fromkeys(plan.files())
        engines |= dict.fromkeys(name for name in plan.engines() if ".py:" not in name)
    return list(engines), list(files)
