"""The contract asked in a process of its own, because a driver may crash or hang at each check.

`held_to` is the door. `python -m properties.conformance.contract_process FD JOB` is the process; it
is started by `held_to` and by nobody else. Where it dies, the next one goes on behind that check.
"""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
from collections.abc import Generator, Iterator, Sequence
from multiprocessing.connection import Connection, Pipe
from pathlib import Path

from properties.conformance.contract import CHECKS, Call, Check, Outcome, asked, named
from workloads.engines import Engine, find_engine, serving
from workloads.errors import EngineMissing
from workloads.files import made
from workloads.processes import (
    ChildProcess,
    describe_end,
    describe_status,
    die_with_parent,
    end,
    python,
    start,
    wait,
)
from workloads.schedules import room

LIMIT_S = 60.0
"""For one check. Nothing waits long here but a server for a lock, 5 s each time."""

END_S = 30.0
"""For a process that has answered all: it ends its server."""

DIED = "its process died: "
KILLED = f"{DIED}{describe_status(-signal.SIGKILL)}"

Asked = tuple[str, str]
"""A BEGIN mode and a check's name."""


def held_to(
    engine: str,
    modes: Sequence[str],
    checks: Sequence[Check] = (),
    *,
    limit_s: float = LIMIT_S,
) -> Iterator[tuple[str, Outcome]]:
    """Hold an engine to the contract (or some checks of it) in each mode: mode and outcome.

    limit_s : for one check. Databases lie where those of schedules do, in memory: what a killed
    process left there, the next one removes. Raises EngineMissing, UnknownName.
    """
    if why := find_engine(engine).missing():
        raise EngineMissing(why)
    left = [
        (mode, one.name)
        for mode in modes
        for one in checks or CHECKS
        if mode == modes[0] or not one.slow  # such a check is of no mode
    ]
    with made("contract", within=room()) as folder:
        number, again = 0, 0
        while left:
            number += 1
            with contextlib.closing(
                _by_one_process(engine, left, folder / str(number), limit_s)
            ) as answers:
                for mode, outcome in answers:
                    if outcome.seen.startswith(KILLED) and again != len(left):
                        again = len(left)  # by others, most likely: it is asked once more
                        break
                    yield mode, outcome
                    left = left[1:]


def _by_one_process(
    engine: str, left: list[Asked], folder: Path, limit_s: float
) -> Generator[tuple[str, Outcome]]:
    """What one process answers, up to the check of which it died."""
    folder.mkdir()
    ours, theirs = Pipe()
    child = start(
        "contract",
        python(
            "properties.conformance.contract_process",
            str(theirs.fileno()),
            json.dumps([engine, str(folder), left]),
        ),
        last_words=folder / "stderr",
        environment={"TMPDIR": str(folder)},
        inherit=[theirs.fileno()],
    )
    theirs.close()  # so that a dead child is an end of file and not a wait
    try:
        for mode, name in left:
            outcome, alive = _answer(child, ours, name, limit_s)
            yield mode, outcome
            if not alive:
                return
        wait(child, END_S)  # it ends what it served
    finally:
        ours.close()
        end(child.process)


def _answer(
    child: ChildProcess, pipe: Connection, name: str, limit_s: float
) -> tuple[Outcome, bool]:
    """A check's outcome, and whether its process lives on: it died, or was silent for too long."""
    with contextlib.suppress(EOFError, OSError):
        if not pipe.poll(limit_s):
            return Outcome(name, "broken", "an answer", f"none within {limit_s:g} s"), False
        check, state, right, seen, calls = pipe.recv()
        return Outcome(check, state, right, seen, tuple(Call(*one) for one in calls)), True
    with contextlib.suppress(subprocess.TimeoutExpired):
        child.process.wait(5)
    return Outcome(name, "broken", "an answer", f"{DIED}{describe_end(child)}"), False


# --- in the process -------------------------------------------------------------------------------


def main(argv: list[str]) -> int:
    """FD, and a JSON list: the engine, a folder, and the modes with their checks."""
    die_with_parent()
    pipe = Connection(int(argv[0]))
    name, place, left = json.loads(argv[1])
    engine, folder = find_engine(name), Path(place)
    with serving(engine, folder / "a.db"):
        for number, (mode, check) in enumerate(left):
            path = _emptied(engine, folder, number)
            answer = asked(named(check), name, engine, mode, path)
            calls = [tuple(_plain(part) for part in call) for call in answer.calls]
            pipe.send((*answer[:-1], calls))
    return 0


def _emptied(engine: Engine, folder: Path, number: int) -> Path:
    """The path of a database without tables: a new one, or a server's without those of before."""
    if not hasattr(engine, "serve"):
        (folder / f"d{number}").mkdir()
        return folder / f"d{number}" / "a.db"
    path = folder / "a.db"
    if number:
        session = engine.connect(str(path))
        statements = getattr(engine, "anew", ())
        if not statements:
            tables = session.rows("SELECT name FROM sqlite_master WHERE type = 'table' "
                                  "AND name NOT LIKE 'sqlite_%'")  # fmt: skip
            statements = [f"DROP TABLE {table}" for (table,) in tables]
        for sql in statements:
            session.run(sql)
        session.close()
    return path


def _plain(value: object) -> object:
    """As it is where a pipe can carry it without the driver, else its text."""
    if value is None or isinstance(value, str | int | float | bytes):
        return value
    if isinstance(value, list | tuple):
        return type(value)(map(_plain, value)) if type(value) in (list, tuple) else repr(value)
    return repr(value)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
