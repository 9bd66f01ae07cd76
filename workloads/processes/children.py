"""Child processes: started in one way, waited for with a limit, ended by their id, gone with their
parent.

`start` gives every child the same things: the code it imports, the number of threads that numpy may
make, its standard streams, its process group, the file for its last words, and its parent's id.
A program of ours then calls `die_with_parent`, or `end_with_parent` where it has children itself.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from workloads.files import ROOT
from workloads.processes import forking
from workloads.processes.forking import LIMITS, PROGRAMS, StartMethod, start_method
from workloads.processes.handles import Process
from workloads.processes.last_words import gist, read_last_words

POLL_S = 0.1

PARENT = "CWKIT_PARENT"
"""Environment variable with the parent's id. A child takes it out, so that it is handed no
further."""

_PR_SET_PDEATHSIG = 1


_prctl = ctypes.CDLL(None, use_errno=True).prctl  # looked up before any fork, not after


@dataclass
class ChildProcess:
    """A process we started, the workers it carries, and the file for its last words.

    last_words : the file with its standard error; None where they go to ours, or to an open file.
    """

    name: str
    process: Process
    last_words: Path | None = None
    workers: tuple[int, ...] = ()

    def stderr_text(self) -> str:
        """The text of its file of last words, "" where it has none."""
        return read_last_words(self.last_words) if self.last_words else ""


def python(module: str, *argv: str) -> list[str]:
    """The command that runs a module of ours, and not one of that name in the current folder.

    >>> python("workloads.runs.worker", "job.json", "load")[1:]
    ['-P', '-m', 'workloads.runs.worker', 'job.json', 'load']
    """
    return [sys.executable, "-P", "-m", module, *argv]


def start(
    name: str,
    argv: Sequence[str],
    *,
    last_words: Path | IO[bytes] | None = None,
    environment: Mapping[str, str] | None = None,
    without: str | None = None,
    search_path: Sequence[str] | None = None,
    stdin: int = subprocess.DEVNULL,
    stdout: int | IO[bytes] | None = None,
    inherit: Sequence[int] = (),
    within: Path | None = None,
    own_group: bool = True,
    foreign: bool = False,
    death: int = signal.SIGKILL,
    user: tuple[int, int] | None = None,
    workers: tuple[int, ...] = (),
    method: StartMethod | None = None,
    conducts: bool = False,
) -> ChildProcess:
    """Start a child process. It gets our environment, with our code first on its search path.

    A program of ours is forked from the preloaded process (workloads.processes.forking), or
    started by exec, which is how every other program starts.

    last_words : where its standard error goes; None: to ours. A path is written anew.
    environment : variables that it gets besides ours. without : variables whose names begin so are
        left out.
    search_path : where it looks for modules after our code; None: in the folders of PYTHONPATH.
    stdin, stdout : as for subprocess.Popen. Without `stdout` its output goes where its errors go.
        A pipe is not buffered on our side.
    inherit : descriptors that it keeps open. within : the folder it runs in.
    own_group : Ctrl-C and Ctrl-Z reach us alone, and we end it in order. Otherwise they reach both.
    foreign : a program that cannot call `die_with_parent`. It is ended with the thread that calls
        this, so call it from the main thread. death : the signal by which it is ended then.
    user : user and group that a foreign program runs as, None for ours.
    workers : the numbers of the workers that it carries.
    method : None for `start_method()`. conducts : it starts such children itself.
    Raises OSError where it cannot be started, and NotForked where it cannot be forked.
    """
    parent = os.getpid()
    forked = not foreign and _is_ours(argv) and (method or start_method()) == "fork"
    path = last_words if isinstance(last_words, Path) else None
    with contextlib.ExitStack() as stack:
        errors: IO[bytes] | None
        if isinstance(last_words, Path):
            errors = stack.enter_context(last_words.open("wb"))
        else:
            errors = last_words
        given = _environment(search_path, without, {} if foreign else {PARENT: str(parent)})
        given |= dict(environment or {})
        stdout = errors if stdout is None else stdout
        process: Process
        if forked:
            process = forking.fork(
                argv[3],
                argv[4:],
                environment=given,
                search_path=given["PYTHONPATH"].split(os.pathsep),
                stdin=stdin,
                stdout=stdout,
                stderr=errors,
                inherit=inherit,
                within=within,
                own_group=own_group,
                conducts=conducts,
            )
        else:
            process = subprocess.Popen(
                list(argv),
                stdin=stdin,
                stdout=stdout,
                stderr=errors,
                bufsize=0,
                env=given,
                process_group=0 if own_group else None,
                pass_fds=tuple(inherit),
                cwd=within,
                # Safe beside threads: it calls into the kernel, and takes no lock. Another user's
                # process forgets what it was told before it became that user's.
                preexec_fn=(lambda: die_with(parent, death)) if foreign else None,  # noqa: PLW1509
                user=user and user[0],
                group=user and user[1],
                extra_groups=() if user else None,
            )
    return ChildProcess(name, process, path, workers)


def _is_ours(argv: Sequence[str]) -> bool:
    return list(argv[:3]) == python("")[:3] and argv[3] in PROGRAMS


def _environment(
    search_path: Sequence[str] | None, without: str | None, more: dict[str, str]
) -> dict[str, str]:
    kept = {
        name: text
        for name, text in os.environ.items()
        if without is None or not name.startswith(without)
    }
    if search_path is None:
        search_path = kept.get("PYTHONPATH", "").split(os.pathsep)
    paths = os.pathsep.join(filter(None, [str(ROOT), *search_path]))
    return kept | LIMITS | {"PYTHONPATH": paths} | more


def die_with_parent() -> None:
    """Have the kernel kill this process when the parent that started it by `start` is gone.

    Ends it at once where that has happened already. It holds whatever this process is busy with,
    which a watching thread would not: the libSQL binding keeps the interpreter while it waits. The
    kernel takes the end of the thread that started this process for the end of its parent. A
    process that was started otherwise, by hand, lives on.
    """
    if (parent := _parent()) is not None:
        die_with(parent)


def end_with_parent(grace_s: float) -> None:
    """Ask this process to end (SIGTERM) when the parent that started it by `start` is gone.

    For a process that has children of its own to end in order. It is ended after `grace_s` more.
    """
    parent = _parent()
    if parent is None:
        return

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(5 * POLL_S)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(grace_s)
        os._exit(3)

    threading.Thread(target=watch, daemon=True).start()


def _parent() -> int | None:
    text = os.environ.pop(PARENT, "")
    return int(text) if text else None


def die_with(parent: int, death: int = signal.SIGKILL) -> None:
    """Have the kernel send this process a signal when the one that made it is gone."""
    _prctl(_PR_SET_PDEATHSIG, death)
    if os.getppid() != parent:
        os._exit(3)


def wait(
    child: ChildProcess, limit_s: float, on_wait: Callable[[float], None] = lambda elapsed_s: None
) -> int | None:
    """Wait for a process and return its status, None where it had to be ended at the limit.

    on_wait : called meanwhile with the seconds waited.
    """
    begun = time.monotonic()
    while child.process.poll() is None:
        elapsed = time.monotonic() - begun
        if elapsed > limit_s:
            end(child.process)
            return None
        on_wait(elapsed)
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.process.wait(POLL_S)
    return child.process.returncode


def end(process: Process) -> None:
    """End a process that we started: asked first, then made to. One that has ended is reaped."""
    process.terminate()
    try:
        process.wait(2)
    except subprocess.TimeoutExpired:
        pass
    finally:  # also where it is interrupted
        if process.poll() is None:
            process.kill()
            process.wait(10)


def describe_status(code: int) -> str:
    """How a process ended, for people.

    >>> describe_status(-11), describe_status(3)
    ('signal 11 (SIGSEGV)', 'exit status 3')
    """
    if code >= 0:
        return f"exit status {code}"
    known = -code in {number.value for number in signal.Signals}
    return f"signal {-code} ({signal.Signals(-code).name})" if known else f"signal {-code}"


def describe_end(child: ChildProcess) -> str:
    """How a process ended, with the gist of its last words."""
    return f"{describe_status(child.process.returncode or 0)}: {gist(child.stderr_text())}".rstrip(
        ": "
    )
