"""A dask cluster on this machine, of real processes, for tests: workers on CPUs of their own."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import psutil

from workloads.cluster.machines import connected
from workloads.files import ROOT
from workloads.processes import Process, start

LIMIT_S = 60.0
"""How long anything is waited for, s."""

# dask's commands, on the CPUs named first. The -c has no file that a nanny would import again.
DASK = """
import os, runpy, sys
cpus, command = sys.argv[1:3]
del sys.argv[1:3]
os.sched_setaffinity(0, [int(cpu) for cpu in cpus.split(",")])
runpy.run_module(f"distributed.cli.dask_{command}", run_name="__main__", alter_sys=True)
"""


class LocalCluster:
    """A scheduler and workers on the loopback, in processes that end with the `with` block.

    folder : of their own, for what they write; `address` : of the scheduler.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.address = folder, ""
        self.processes: list[Process] = []

    def __enter__(self) -> LocalCluster:
        (self.folder / "tmp").mkdir(parents=True)
        file = self.folder / "scheduler.json"
        try:
            allowed = sorted(os.sched_getaffinity(0))
            self._dask(allowed, "scheduler", "--port", "0", "--host", "127.0.0.1")
            self.address = until(lambda: _read(file))["address"]
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        for process in reversed(self.processes):  # the scheduler last, for a nanny asks for it
            if process.poll() is None:
                for worker in psutil.Process(process.pid).children():  # a nanny's
                    worker.kill()
            process.kill()
            process.wait()

    def worker(
        self,
        name: str,
        cpus: Sequence[int],
        resources: str = "cwkit=1",
        *,
        nanny: bool = False,
        path: Path = ROOT,
    ) -> Process:
        """Start a worker on these CPUs. path : the checkout that it takes its code from."""
        argv = ["--nthreads", "1", "--name", name, "--nanny" if nanny else "--no-nanny"]
        argv += ["--resources", resources] if resources else []
        return self._dask(cpus, "worker", *argv, path=path)

    def _dask(self, cpus: Sequence[int], command: str, *argv: str, path: Path = ROOT) -> Process:
        given = ["--no-dashboard", "--scheduler-file", str(self.folder / "scheduler.json"), *argv]
        with (self.folder / "log").open("ab") as log:
            process = start(
                command,
                [sys.executable, "-c", DASK, ",".join(map(str, cpus)), command, *given],
                last_words=log,
                environment={
                    "PYTHONPATH": str(path),
                    "DASK_CONFIG": str(ROOT / "workloads" / "cluster" / "dask.yaml"),
                    "TMPDIR": str(self.folder / "tmp"),
                },
                within=self.folder,
                own_group=False,
                foreign=True,
            ).process
        self.processes.append(process)
        return process

    def registered(self, *names: str) -> None:
        """Wait until the scheduler knows these workers, and no others."""

        async def asking() -> None:
            async with connected(self.address, LIMIT_S) as client:
                end = time.monotonic() + LIMIT_S
                while True:
                    answer = await client.scheduler.identity(n_workers=-1)
                    if {worker["name"] for worker in answer["workers"].values()} == set(names):
                        return
                    assert time.monotonic() < end, (answer["workers"], self.log_text())
                    await asyncio.sleep(0.1)

        asyncio.run(asking())

    def log_text(self) -> str:
        """The end of the log of the scheduler and the workers."""
        return (self.folder / "log").read_text(encoding="utf-8")[-3000:]

    def cells_running(self) -> list[psutil.Process]:
        """Processes of cells that its workers have started, whoever is their parent by now."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                argv = " ".join(process.cmdline())
                if "workloads." in argv and str(self.folder) in argv:
                    found.append(process)
        return found


def _read(path: Path) -> Any:
    """A JSON file, None where it isn't there or isn't whole yet."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def until(true: Callable[[], Any]) -> Any:
    """Wait for something that another process does; fail where it does not come."""
    end = time.monotonic() + LIMIT_S
    while not (found := true()):
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.05)
    return found
