"""Trial `nanoseconds`: what a read needs in the library alone, and what a binding adds to it.

The library alone is a C program (nanoseconds.c): a prepared statement that is stepped. The same
read then goes through each binding from Python. What is left of a Python loop when the read is
taken out of it is measured too, by two calls of C functions that do nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from time import perf_counter_ns as clock
from typing import Any

import numpy as np

from workloads.engines import Engine, find_engine
from workloads.errors import EngineMissing, RunFailed
from workloads.files import ROOT
from workloads.processes import describe_end, end, start, wait
from workloads.trials.items import READ, ROWS, libraries, made_file
from workloads.trials.trial import Check, Row

BUILD = ROOT / ".build" / "nanoseconds"
PROGRAMS = ("branch", "system")
KINDS = ("first", "memory", "transaction", "autocommit", "anew")
"""Reads of the C program, as its own comment tells them."""

BINDINGS = ("sqlite", "sqlite-latest", "sqlite-concurrent", "libsql", "libsql-0.1")
BATCHES, CALLS, C_CALLS = 20, 100, 200
EMPTY = "python/empty"
LIMIT_S = 20.0


class Nanoseconds:
    """The trial."""

    story = "How long does a read take in the library alone, and what do a binding and Python add?"
    blocks = (10, 7)
    enough_s = 8.0
    timed = True
    limit_s = 60.0

    def begin(self, home: Path, stack: ExitStack, *, quick: bool) -> Client:
        return Client(home, stack)


class Client:
    """The programs and the bindings that are there."""

    def __init__(self, home: Path, stack: ExitStack) -> None:
        self.home, self.pids = home, list[int]()
        self.programs = {name: BUILD / name for name in PROGRAMS if (BUILD / name).is_file()}
        if not self.programs:
            raise EngineMissing(_why_missing())
        engines = {name: find_engine(name) for name in BINDINGS}
        missing = {name: why for name, engine in engines.items() if (why := engine.missing())}
        missing |= {
            f"c/{name}": _why_missing(name) for name in PROGRAMS if name not in self.programs
        }
        engines = {name: engine for name, engine in engines.items() if name not in missing}
        self._drivers = {
            name: self._opened(name, engine, stack) for name, engine in engines.items()
        }
        made_file(find_engine("sqlite"), home / "c.db").close()
        self.arms = {EMPTY: (BATCHES, 1)}
        self.arms |= {f"c/{name}/{kind}": (BATCHES, 1) for name in self.programs for kind in KINDS}
        for name in engines:
            self.arms |= {f"{name}/{kind}": (BATCHES, 1) for kind in ("transaction", "autocommit")}
        versions = libraries(engines) | {f"c/{name}": self._version(name) for name in self.programs}
        self.facts = {
            "settings": {"rows": ROWS, "batches": BATCHES, "calls": CALLS, "c_calls": C_CALLS},
            "versions": versions,
            "libraries": {name: engine.identity().version for name, engine in engines.items()},
            "missing": missing,
        }

    def _opened(self, name: str, engine: Engine, stack: ExitStack) -> Any:
        """The driver's own connection. Each has a file of its own: no two libraries share one."""
        path = self.home / f"{name}.db"
        made_file(engine, path).close()
        driver = engine.bare(str(path))  # type: ignore[attr-defined]
        stack.callback(driver.close)
        return driver

    def block(self, ns: Mapping[str, np.ndarray], rng: np.random.Generator) -> Sequence[Row]:
        keys = rng.integers(0, ROWS, CALLS).tolist()
        seed = int(rng.integers(1, 2**31))
        works: list[Callable[[], None]] = [partial(_empty, keys, ns[EMPTY])]
        works += [partial(self._c, program, seed, ns) for program in self.programs]
        for name, driver in self._drivers.items():
            works.append(partial(_autocommit, driver, keys, ns[f"{name}/autocommit"]))
            works.append(partial(_transaction, driver, keys, ns[f"{name}/transaction"]))
        for at in rng.permutation(len(works)):
            works[at]()
        return ()

    def _c(self, program: str, seed: int, ns: Mapping[str, np.ndarray]) -> None:
        lines = self._said(program, BATCHES, C_CALLS, seed).splitlines()[1:]
        for kind in KINDS:
            each = [int(line.split()[1]) for line in lines if line.split()[0] == kind]
            ns[f"c/{program}/{kind}"][:, 0] = each

    def _version(self, program: str) -> str:
        return self._said(program, 1, 1, 1).splitlines()[0]

    def _said(self, program: str, batches: int, calls: int, seed: int) -> str:
        """What the C program prints. Raises RunFailed where it ends otherwise."""
        argv = [str(self.programs[program]), str(self.home / "c.db")]
        argv += [str(batches), str(calls), str(seed)]
        with (self.home / f"{program}.out").open("w+b") as out:
            words = self.home / f"{program}.err"
            child = start(program, argv, stdout=out, last_words=words, foreign=True)
            try:
                status = wait(child, LIMIT_S)
            finally:
                end(child.process)
            if status:
                raise RunFailed(f"{program}: {describe_end(child)}")
            if status is None:
                raise RunFailed(f"{program}: not done after {LIMIT_S:g} s")
            out.seek(0)
            return out.read().decode()

    def checks(self) -> Sequence[Check]:
        return ()


def _why_missing(name: str = "") -> str:
    file = BUILD / (f"{name}.why" if name else "why-missing.txt")
    why = "it was never built"
    if file.is_file():
        why = file.read_text(encoding="utf-8").strip().rstrip(".")
    what = f"the reads in C ({name})" if name else "the reads in C"
    return f"{what[0].upper()}{what[1:]} are missing: {why}. Get them with: make setup"


def _time(loop: Callable[[], None], out: np.ndarray) -> None:
    """Time batches of CALLS calls; ns a call."""
    loop()  # what comes first finds caches cold
    for n in range(len(out)):
        begun = clock()
        loop()
        out[n, 0] = max((clock() - begun) // CALLS, 1)


def _empty(keys: list[int], out: np.ndarray) -> None:
    """The loop, its arguments and two calls of C functions that do nothing."""
    get = {}.get  # type: ignore[var-annotated]

    def loop() -> None:
        for key in keys:
            get(READ, (key,)).__len__()

    _time(loop, out)


def _loop(driver: Any, keys: list[int]) -> Callable[[], None]:
    execute = driver.execute

    def loop() -> None:
        for key in keys:
            execute(READ, (key,)).fetchall()

    return loop


def _autocommit(driver: Any, keys: list[int], out: np.ndarray) -> None:
    _time(_loop(driver, keys), out)


def _transaction(driver: Any, keys: list[int], out: np.ndarray) -> None:
    driver.execute("BEGIN").fetchall()
    try:
        _time(_loop(driver, keys), out)
    finally:
        driver.execute("COMMIT").fetchall()
