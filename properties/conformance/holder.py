"""One that holds a row's lock until it is told to let go: a process, or a thread where the engine
locks its file to one process. `python -m properties.conformance.holder JOB` is the process.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from workloads.engines import Engine, find_engine
from workloads.errors import RunFailed
from workloads.processes import describe_end, die_with_parent, end, python, start

LATER_S = 0.2
"""Between the word to let go and COMMIT, so that another waits by then. It is right without."""

WRITE = "UPDATE t SET v = v + 1"


@contextlib.contextmanager
def holding(name: str, engine: Engine, mode: str, path: Path) -> Iterator[Callable[[], None]]:
    """Have a transaction that wrote to t open meanwhile. Yields the word that ends it a moment
    later by COMMIT. Raises RunFailed where it did not come to hold it.
    """
    if engine.hosting == "thread":
        with _thread(engine, mode, path) as let_go:
            yield let_go
        return
    job = json.dumps([name, mode, str(path)])
    words = path.parent / "holder.stderr"
    child = start("holder", python("properties.conformance.holder", job), last_words=words,
                  stdin=subprocess.PIPE, stdout=subprocess.PIPE)  # fmt: skip
    stdin, stdout = child.process.stdin, child.process.stdout
    assert stdin is not None and stdout is not None
    try:
        if stdout.read(1) != b"+":
            child.process.wait(10)
            raise RunFailed(f"nobody could hold the lock: {describe_end(child)}")
        yield lambda: _told(stdin)
        child.process.wait(30)
    finally:
        stdin.close()
        stdout.close()
        end(child.process)


def _told(stdin: Any) -> None:
    stdin.write(b".")


@contextlib.contextmanager
def _thread(engine: Engine, mode: str, path: Path) -> Iterator[Callable[[], None]]:
    held, go = threading.Event(), threading.Event()
    thread = threading.Thread(target=_hold, args=(engine, mode, path, held.set, go.wait))
    thread.start()
    try:
        if not held.wait(30):
            raise RunFailed("nobody could hold the lock")
        yield go.set
    finally:
        go.set()
        thread.join(30)


def _hold(
    engine: Engine, mode: str, path: Path, held: Callable[[], Any], wait: Callable[[], Any]
) -> None:
    session = engine.connect(str(path), begin=mode)
    session.begin()
    session.run(WRITE)
    held()
    wait()
    time.sleep(LATER_S)
    session.commit()
    session.close()


def main(argv: list[str]) -> int:
    """JOB: [engine, mode, path] in JSON."""
    die_with_parent()
    name, mode, path = json.loads(argv[0])

    _hold(find_engine(name), mode, Path(path), lambda: os.write(1, b"+"), lambda: os.read(0, 1))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
