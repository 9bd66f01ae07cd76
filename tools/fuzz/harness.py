"""A run of a fuzzer: child processes get the inputs, each is watched, failures are kept by number.

A child plays many inputs. One that hangs, dies or leaves something running is ended together with
all that it started, the input that it was at is kept, and another child goes on behind it.
"""

from __future__ import annotations

import json
import os
import re
import select
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from tools.fuzz import find
from workloads.files import temporary, visible

LIMIT_S = 10.0
"""For one call."""

START_S = 120.0
"""For a child's imports, on a machine with much else to do."""

INPUTS_OF_A_CHILD = 250
"""After which it gives way to a new one, so that no leak of many inputs is one input's fault."""

KEPT_OF_A_KIND = 1
MOST_KINDS = 40


@dataclass(frozen=True)
class Fault:
    """One input at which something was not as documented.

    complaint : its first word says which: traceback, status, evil, out of place, left running,
        warning, judged, draw, died, hang, memory.
    alone : it is so too when a fresh process plays nothing else.
    """

    number: int
    argv: tuple[str, ...]
    complaint: str
    alone: bool = True
    kept: Path | None = None

    @property
    def kind(self) -> str:
        """The fault's kind, the same at many inputs: the kind of error and where it was."""
        lines = self.complaint.strip().splitlines()
        error = re.sub(r"'[^']*'|\d+", "", lines[-1])[:40]
        places = [line.strip() for line in lines if _OURS.search(line)]
        return f"{lines[0].partition(':')[0]}|{error}|{places[-1] if places else ''}"


_OURS = re.compile(r'File "\S*/(workloads|properties|analysis)/\S+", line \d+')


@dataclass
class Tally:
    """Counts of a run. `faults` have their inputs' numbers; `statuses` counts how calls ended."""

    name: str
    seed: int
    inputs: int = 0
    statuses: Counter[int] = field(default_factory=Counter)
    faults: list[Fault] = field(default_factory=list)
    seconds: float = 0.0

    def replay(self, number: int) -> str:
        return f"python -m tools.fuzz {shlex.quote(self.name)} --seed {self.seed} --from {number}"

    def lines(self) -> list[str]:
        """The result as text: a paragraph for each kind of fault, then one line of all."""
        lines = []
        for kind, number in Counter(fault.kind for fault in self.faults).most_common():
            first = next(fault for fault in self.faults if fault.kind == kind)
            lines.append(f"{number} input(s), the first is number {first.number}:")
            lines.append(f"  called: {shlex.join(first.argv)}")
            lines += [f"  | {line}" for line in _short(first.complaint)]
            if not first.alone:
                lines.append("  It is not so when this input is played alone.")
            lines.append(f"  again: {self.replay(first.number)} --inputs 1")
            if first.kept:
                lines.append(f"  kept in {first.kept}")
        ended = ", ".join(f"{status}: {n:,}" for status, n in sorted(self.statuses.items()))
        found = f"{len(self.faults)} FAULTS" if self.faults else "nothing found"
        lines.append(
            f"{self.name}: {self.inputs:,} inputs, seed {self.seed}, {self.seconds:.0f} s: {found} "
            f"(exit statuses {ended or 'none'})"
        )
        return [visible(line) for line in lines]


def _short(complaint: str) -> list[str]:
    """The first line, the frames in our code with their text, and the last lines."""
    lines = complaint.strip().splitlines()
    if len(lines) > 12:
        ours = [at for at, line in enumerate(lines[:-4]) if _OURS.search(line)][-4:]
        frames = [line for at in ours for line in lines[at : at + 2]]
        lines = [lines[0], *frames, "…", *lines[-4:]]
    return [line[:300] for line in lines]


def run_fuzzer(
    name: str,
    inputs: int,
    seed: int,
    first: int = 0,
    *,
    keep: Path | None = None,
    keep_all: bool = False,
    jobs: int | None = None,
    limit_s: float = LIMIT_S,
    notify: Callable[[str], None] = lambda line: None,
) -> Tally:
    """Play inputs `first` to `first + inputs` of a fuzzer.

    name : of the registry, or "module:Class". Raises ValueError for another.
    keep : folder for the inputs at which something was found; None keeps none.
    keep_all : keep every input, whether something was found or not.
    Ends every process that it or an input started, also where it is interrupted.
    """
    fuzzer = find(name)
    tally = Tally(name, seed)
    begun = time.monotonic()
    with temporary.made("fuzz") as folder:
        root = folder.resolve()
        base = root / "base"
        base.mkdir()
        fuzzer.prepare(base, seed)
        jobs = jobs or min(os.cpu_count() or 1, max(1, inputs // 20))
        crew = _Crew(tally, root, base, keep, keep_all, limit_s, notify)
        parts = [range(first + job, first + inputs, jobs) for job in range(jobs)]
        with ThreadPoolExecutor(jobs) as pool:
            try:
                for done in [pool.submit(crew.work, job, part) for job, part in enumerate(parts)]:
                    done.result()
            except BaseException:
                crew.stop.set()
                tally.seconds = time.monotonic() - begun
                for line in tally.lines():
                    notify(line)
                raise
            finally:
                tally.faults.sort(key=lambda fault: fault.number)
                tally.seconds = time.monotonic() - begun
    return tally


class _Crew:
    """The threads of a run: each has one child at a time."""

    def __init__(
        self,
        tally: Tally,
        root: Path,
        base: Path,
        keep: Path | None,
        keep_all: bool,
        limit_s: float,
        notify: Callable[[str], None],
    ) -> None:
        self.tally, self.root, self.base, self.keep = tally, root, base, keep
        self.keep_all, self.limit_s, self.notify = keep_all, limit_s, notify
        self.lock, self.stop = threading.Lock(), threading.Event()
        self.kinds: Counter[str] = Counter()

    def work(self, job: int, numbers: Iterable[int]) -> None:
        child: Child | None = None
        try:
            for number in numbers:
                if self.stop.is_set():
                    return
                if child is None or child.inputs >= INPUTS_OF_A_CHILD or not child.lives():
                    if child:
                        child.end()
                    child = self._child(f"child-{job}")
                self._note(number, child.run(number), child, job)
        finally:
            if child:
                child.end()

    def _child(self, name: str) -> Child:
        return Child(self.tally.name, self.tally.seed, self.base, self.root / name, self)

    def _note(self, number: int, result: Result, child: Child, job: int) -> None:
        fault = None
        if result.complaint:
            fault = self._fault(number, result, child, job)
        elif self.keep_all:
            self._keep(number, result, child)
        with self.lock:
            self.tally.inputs += 1
            self.tally.statuses.update(result.statuses)
            if fault:
                self.tally.faults.append(fault)
            if self.tally.inputs % 500 == 0:
                found = len(self.tally.faults)
                self.notify(f"{self.tally.name}: {self.tally.inputs:,} inputs, {found} faults")

    def _fault(self, number: int, result: Result, child: Child, job: int) -> Fault | None:
        """The fault, kept; its input is given once more to a process that has had no other."""
        fault = Fault(number, tuple(result.argv), result.complaint)
        with self.lock:
            self.kinds[fault.kind] += 1
            seen = self.kinds[fault.kind]
            if len(self.kinds) > MOST_KINDS:
                self.stop.set()
        if seen > KEPT_OF_A_KIND:
            return fault
        kept = self._keep(number, result, child)
        fresh = self._child(f"again-{job}")
        try:
            again = fresh.run(number)
        finally:
            fresh.end()
        if not again.complaint and result.complaint.startswith("hang"):
            self.notify(f"input {number} was slow once, and not when played alone: no fault")
            return None
        return Fault(number, fault.argv, fault.complaint, bool(again.complaint), kept)

    def _keep(self, number: int, result: Result, child: Child) -> Path | None:
        if self.keep is None:
            return None
        name = self.tally.name.rpartition(":")[2]
        folder = self.keep / f"{name}-s{self.tally.seed}-n{number}"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        # By cp, which copies a FIFO or a device as what it is and does not read it.
        subprocess.run(["cp", "-a", child.folder / "input", folder / "input"], check=False)
        (folder / "fault.txt").write_text(
            f"cd {folder / 'input'}\ncwkit {shlex.join(result.argv)}\n\n{result.complaint}\n"
            f"\nagain: {self.tally.replay(number)} --inputs 1\n",
            encoding="utf-8",
            errors="replace",
        )
        return folder


@dataclass(frozen=True)
class Result:
    """A child's answer about one input, or how the child ended."""

    argv: tuple[str, ...]
    statuses: tuple[int, ...]
    complaint: str


class Child:
    """One process that plays inputs (child.py), in a session and a folder of its own."""

    def __init__(self, name: str, seed: int, base: Path, folder: Path, crew: Any) -> None:
        self.folder, self.limit_s, self.inputs = folder, crew.limit_s, 0
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        orders, self.orders = os.pipe()
        self.answers, answers = os.pipe()
        self.rest = b""
        argv = [name, str(seed), str(base), str(folder), str(orders), str(answers)]
        with (folder / "start").open("wb") as start:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tools.fuzz.child", *argv],
                pass_fds=(orders, answers),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=start,
                env=_environment(folder),
                start_new_session=True,
            )
        os.close(orders)
        os.close(answers)
        if self._answer(START_S).get("state") != "ready":
            self.end()
            text = (folder / "start").read_text(errors="replace")
            raise RuntimeError(f"the child of fuzzer {name} did not start: {text}")

    def lives(self) -> bool:
        return self.process.poll() is None

    def run(self, number: int) -> Result:
        self.inputs += 1
        argv: list[str] = []
        os.write(self.orders, b"%d\n" % number)
        while True:
            answer = self._answer(self.limit_s)
            match answer.get("state"):
                case "calling":
                    argv = answer["argv"]
                case "done":
                    complaint = str(answer["complaint"])
                    if "MemoryError" in complaint or "Cannot allocate memory" in complaint:
                        complaint = f"memory: more than 1 GiB: {complaint}"
                    if complaint.startswith(("left running", "memory")):
                        self.end()  # what it holds is not the next input's fault
                    return Result(tuple(argv), tuple(answer["statuses"]), complaint)
                case "silent":
                    where = self._where_it_stands()
                    self.end()
                    return Result(
                        tuple(argv), (), f"hang: no end within {self.limit_s:g} s: {where}"
                    )
                case _:
                    self.process.wait()
                    code = self.process.returncode
                    how = signal.Signals(-code).name if code < 0 else f"exit status {code}"
                    stderr = _last(self.folder / "err")
                    self.end()
                    return Result(tuple(argv), (), f"died: by {how}: {stderr}")

    def _answer(self, limit_s: float) -> dict[str, Any]:
        """The child's next line; {"state": "silent"} after the limit, {} where it has ended."""
        until = time.monotonic() + limit_s
        while b"\n" not in self.rest:
            ready, _, _ = select.select([self.answers], [], [], max(0.0, until - time.monotonic()))
            if not ready:
                return {"state": "silent"}
            more = os.read(self.answers, 1 << 16)
            if not more:
                return {}
            self.rest += more
        line, _, self.rest = self.rest.partition(b"\n")
        found: dict[str, Any] = json.loads(line)
        return found

    def _where_it_stands(self) -> str:
        """The stack of a child that hangs, as faulthandler shows it."""
        try:
            os.truncate(self.folder / "err", 0)
            self.process.send_signal(signal.SIGUSR1)
            until = time.monotonic() + 2
            while time.monotonic() < until and not _last(self.folder / "err"):
                time.sleep(0.05)
        except OSError:
            pass
        return _last(self.folder / "err")

    def end(self) -> None:
        """End the child and all that it started, whatever sessions they are in."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGSTOP)  # so that it starts nothing meanwhile
            try:
                others = psutil.Process(self.process.pid).children(recursive=True)
            except psutil.Error:
                others = []
            self.process.kill()
            self.process.wait()
            for other in others:
                try:
                    other.kill()
                except psutil.Error:
                    pass
        for end in (self.orders, self.answers):
            if end >= 0:
                os.close(end)
        self.orders = self.answers = -1


def _last(path: Path) -> str:
    try:
        return path.read_bytes()[-6000:].decode("utf-8", "replace").strip()
    except OSError:
        return ""


def _environment(folder: Path) -> dict[str, str]:
    root = str(Path(__file__).resolve().parents[2])
    return os.environ | {
        "PYTHONPATH": os.pathsep.join([root, *filter(None, sys.path)]),
        "PYTHONIOENCODING": "utf-8:strict",  # a lone surrogate is refused as on a user's terminal
        "PYTHONDONTWRITEBYTECODE": "1",
        "OPENBLAS_NUM_THREADS": "1",  # its threads' stacks would count as an input's memory
        "MPLBACKEND": "agg",
        "MPLCONFIGDIR": str(folder / "matplotlib"),
        "COLUMNS": "200",
    }
