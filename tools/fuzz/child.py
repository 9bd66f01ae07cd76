"""The process that plays inputs: number after number, until its standard orders end.

It is started by harness.py and by nobody else. It cannot harm the
machine: its address space and its files are limited, and its network is watched. An input that
ends it ends this process alone.
"""

from __future__ import annotations

import ctypes
import faulthandler
import json
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil

from tools.fuzz import EVIL, PRECIOUS, Call, Fuzzer, find
from workloads.files import temporary

ADDRESS_SPACE = 1 << 30
"""Bytes that the inputs of one process may have beyond what the imports took."""

FILE_BYTES = 1 << 28
MOST_TEXT = 1 << 20

_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_CHANGING = {"os.remove": (0,), "os.rmdir": (0,), "os.mkdir": (0,), "os.truncate": (0,),
             "os.rename": (0, 1), "os.link": (1,), "os.symlink": (1,)}  # fmt: skip
_FOLLOWING = ("os.truncate",)
"""The others act on a link itself."""
_LOOKING = ("os.listdir", "os.scandir")
DEVICES = ("/dev/null", "/dev/full", "/dev/tty", "/proc/self")
"""Devices that an input may have written to: nothing written there stays."""
_LOOPBACK = ("127.", "::1", "localhost")


class Watch:
    """An audit hook that notes code, files and connections out of place while a call is made."""

    def __init__(self, work: Path) -> None:
        self.work, self.precious = str(work), str(work / PRECIOUS)
        self.seen: list[str] = []
        self.on = False
        sys.addaudithook(self._hook)

    def _hook(self, event: str, args: tuple[Any, ...]) -> None:
        if not self.on:
            return
        self.on = False  # what this method itself does is nobody's fault
        try:
            self._look(event, args)
        finally:
            self.on = True

    def _look(self, event: str, args: tuple[Any, ...]) -> None:
        if event == "open":
            path, _, flags = args
            if isinstance(path, (str, bytes)):
                follows = not (flags and flags & os.O_NOFOLLOW)
                self._file(path, bool(flags and flags & _WRITING), follows)
        elif event in _CHANGING:
            for place in _CHANGING[event]:
                if isinstance(args[place], (str, bytes, os.PathLike)):
                    self._file(args[place], True, event in _FOLLOWING)
        elif event in _LOOKING and isinstance(args[0], (str, bytes)):
            self._file(args[0], False)
        elif event == "exec":
            name = str(getattr(args[0], "co_filename", "<"))
            inside = not name.startswith("<") and os.path.realpath(name).startswith(self.work)
            if inside:
                self.seen.append(f"ran code of the input: {name}")
        elif event == "socket.connect" and isinstance(args[1], tuple):
            if not str(args[1][0]).startswith(_LOOPBACK):
                self.seen.append(f"connected to {args[1]}")
                raise ConnectionRefusedError("no input reaches the network")
        elif event == "socket.getaddrinfo" and not str(args[0]).startswith(_LOOPBACK):
            self.seen.append(f"looked up {args[0]!r}")
            raise ConnectionRefusedError("no input reaches the network")

    def _file(self, path: Any, writing: bool, follows: bool = True) -> None:
        """Follows : whether the call acts on what a link leads to, and not on the link."""
        try:
            name = os.fsdecode(path)
            folder, last = os.path.split(os.path.abspath(name))
            whole = os.path.realpath(name if follows else folder)
            whole = whole if follows else os.path.join(whole, last)
        except (ValueError, OSError):
            return  # no path at all: the call itself will say so
        if whole.startswith(self.precious):
            self.seen.append(f"touched {PRECIOUS}/, outside its folder: {whole}")
        elif writing and not whole.startswith((self.work, *DEVICES)):
            self.seen.append(f"wrote outside its folder: {whole}")


class InputRunner:
    """Makes the calls of one fuzzer's inputs in a folder of its own."""

    def __init__(self, fuzzer: Fuzzer, name: str, seed: int, base: Path, work: Path) -> None:
        self.fuzzer, self.name, self.seed, self.base = fuzzer, name, seed, base
        self.work, self.where, self.mark = work, work / "input", work / "evil.ran"
        self.watch = Watch(work)
        evil = f"open({str(self.mark)!r}, 'w').close()\n\n\nclass X:\n    pass\n"
        if (base / PRECIOUS).is_dir():
            shutil.copytree(base / PRECIOUS, work / PRECIOUS)
        (work / PRECIOUS).mkdir(exist_ok=True)
        (work / PRECIOUS / EVIL).write_text(evil)
        self.evil = evil

    def draw(self, number: int) -> Sequence[Sequence[str]]:
        shutil.rmtree(self.where, ignore_errors=True)
        shutil.rmtree(self.work / "tmp", ignore_errors=True)
        self.where.mkdir()
        (self.work / "tmp").mkdir()
        os.chdir(self.where)
        (self.where / EVIL).write_text(self.evil)
        rng = random.Random(f"{self.name} {self.seed} {number}")
        return self.fuzzer.draw(rng, self.base, self.where)

    def run(self, argv: Sequence[str]) -> tuple[int, str]:
        """(status, complaint) of one call; "" where there is none."""
        os.chdir(self.where)
        for stream in (1, 2):
            os.ftruncate(stream, 0)
        self.watch.seen.clear()
        own_argv, complaint, status = sys.argv, "", 0
        _limit_files(FILE_BYTES)
        self.watch.on = True
        try:
            self.fuzzer.call(argv)
        except SystemExit as left:
            status = left.code if isinstance(left.code, int) else 0 if left.code is None else 1
        except BaseException:
            complaint = f"traceback: {traceback.format_exc()}"
        finally:
            self.watch.on = False
            sys.argv = own_argv
            _limit_files(resource.RLIM_INFINITY)
        try:
            sys.stdout.flush()
            sys.stderr.flush()
        except (OSError, ValueError) as error:
            complaint = complaint or f"traceback: its output could not be written: {error}"
        call = Call(argv, status, _text(self.work / "out"), _text(self.work / "err"))
        return status, self._complaint(call, complaint)

    def _complaint(self, call: Call, raised: str) -> str:
        if self.mark.exists():
            self.mark.unlink()
            return f"evil: code named by the input was run ({EVIL} left its mark)"
        if self.watch.seen:
            return f"out of place: {self.watch.seen[0]}"
        if left := _left_running():
            return f"left running: {left}"
        if raised:
            return raised
        if "Traceback (most recent call last)" in call.err:
            return f"traceback: {call.err}"
        if "Warning: " in call.err:
            return f"warning: {call.err}"
        if call.status not in self.fuzzer.statuses:
            return f"status: {call.status} is documented nowhere: {call.err[-300:]}"
        if call.status == 2 and not (call.out + call.err).strip():
            return "status: 2 without a sentence"
        if complaint := self.fuzzer.judge(call):
            return f"judged: {complaint}"
        return ""


def _limit_files(most: int) -> None:
    """For calls; an input may hold a file that is larger and has no byte on the disk."""
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, hard))


def _text(path: Path) -> str:
    with path.open("rb") as file:
        return file.read(MOST_TEXT).decode("utf-8", "replace")


def _left_running() -> str:
    """Processes that a call left behind, ended now. Orphans are handed to this process."""
    try:
        while os.waitpid(-1, os.WNOHANG) != (0, 0):
            pass
    except ChildProcessError:
        return ""
    left = []
    for child in psutil.Process().children(recursive=True):
        try:
            line = " ".join(child.cmdline())
            if "resource_tracker" in line or line.endswith("workloads.processes.preloaded"):
                continue  # these serve the next call, too, and end with us
            child.kill()
            child.wait(5)
        except psutil.Error:
            continue
        if line:
            left.append(line)
    return "; ".join(left)


def main() -> None:
    name, seed, base, work, orders_fd, answers_fd = sys.argv[1:]
    prctl = ctypes.CDLL(None).prctl
    prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    prctl(_PR_SET_CHILD_SUBREAPER, 1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the group; the harness ends us
    for stream, file in ((1, "out"), (2, "err")):
        opened = os.open(Path(work) / file, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(opened, stream)
        os.close(opened)
    faulthandler.enable()
    faulthandler.register(signal.SIGUSR1, all_threads=True)
    tempfile.tempdir = os.environ["TMPDIR"] = str(Path(work) / "tmp")
    # Where `recover --all` looks for what was left over: no input clears the machine's own.
    temporary.SHARED_MEMORY = Path(work) / "tmp"
    fuzzer = find(name)
    runner = InputRunner(fuzzer, name, int(seed), Path(base), Path(work))
    fuzzer.import_all()  # before the limit, so that the limit is the inputs' alone
    used = psutil.Process().memory_info().vms
    resource.setrlimit(resource.RLIMIT_AS, (used + ADDRESS_SPACE, used + ADDRESS_SPACE))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    orders = os.fdopen(int(orders_fd), encoding="ascii")
    answers = os.fdopen(int(answers_fd), "w", buffering=1, encoding="ascii")

    def answer(**what: Any) -> None:
        answers.write(json.dumps(what) + "\n")

    answer(state="ready")
    for line in orders:
        try:
            calls = runner.draw(int(line))
        except Exception:
            answer(state="done", statuses=[], complaint=f"draw: {traceback.format_exc()}", argv=[])
            continue
        statuses, complaint, argv = [], "", []
        for argv in map(list, calls):
            answer(state="calling", argv=argv)
            status, complaint = runner.run(argv)
            statuses.append(status)
            if complaint:
                break
        answer(state="done", statuses=statuses, complaint=complaint, argv=argv)


if __name__ == "__main__":
    main()
