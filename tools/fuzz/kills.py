"""Kills at random moments: of a command, its workers, its checker and its loader.

    python -m tools.fuzz.kills --kills 100 --seed 1

After each kill, whatever was killed and in whichever stage: nothing is left running, the next
command names what is left, `cwkit recover --all` clears it, every run can be read, every commit
that was acknowledged is in its database, and the same command again comes to its end. A kill at
which that is not so is a fault; it is printed with the line that plays it again.

The scenario is `acked` on SQLite, whose check finds a single lost commit; nothing there
checkpoints beside the writers, so that a sound engine loses none.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import psutil
import typer

from analysis.cli.run_summary import summary_lines
from analysis.wording import times
from workloads.engines import find_engine
from workloads.errors import RunError
from workloads.experiments import DONE, TEMPLATES, read_experiment
from workloads.files import temporary
from workloads.records import MANIFEST, Manifest, read_manifest
from workloads.records import attempts as rec

ROOT = Path(__file__).resolve().parents[2]
MARK = "CWKIT_KILLS"
"""In the environment of every process of a kill: so they are found, and never by a name."""

END_LIMIT_S = 60.0
"""How long what is left running may take to end, s. A cell without conductor ends in order."""

COMMAND_LIMIT_S, STOP_LIMIT_S = 600.0, 5.0
TRIES = 8
"""To hit a victim that lives for a moment, before the kill counts as missed."""

SHORT_LIVED_S = {"loader": 0.03, "checker": 0.05}
"""Victim -> about how long it lives: it is looked for from the start, and not waited with."""

SWEEP = """
question = "Is every acknowledged commit there, whatever is killed?"
blocks = 2
control = false

[plan]
scenario = "acked"
database = "sqlite"
readers = 1
duration_s = 0.6
warmup_s = 0.1
deadline_s = 20

[grid]
writers = [1, 2]
"""

# The report's own set takes minutes: this is as many parts of it, and each is as short as may be.
REPORT = """
import analysis.report.measurements as measurements
from workloads.experiments import Design

PLAN = {"scenario": "acked", "database": "sqlite", "writers": 2, "readers": 1,
        "duration_s": 0.5, "warmup_s": 0.1, "deadline_s": 20}
measurements.designs = lambda quick, seed: [
    Design(name, "?", {"a": PLAN, "b": PLAN | {"writers": 1}}, 1, seed, "a")
    for name in ("headline", "mission")
]
measurements.engine_names = lambda: ["sqlite", "libsql"]
from analysis.cli import main
main()
"""

OFTEN: dict[str, dict[str, int]] = {
    "run": {"parent": 10, "preloaded": 3, "worker": 6, "checker": 5, "loader": 5},
    "run on sqld": {"parent": 3, "server": 4},
    "run on postgres": {"parent": 1, "server": 2},
    "sweep": {"parent": 6, "preloaded": 1, "worker": 4, "checker": 3, "loader": 2},
    "sweep --jobs 2": {"parent": 5, "preloaded": 1, "cell": 4, "worker": 2},
    "search": {"parent": 6, "worker": 2, "checker": 2, "loader": 1},
    "pytest": {
        "parent": 4,
        "preloaded": 1,
        "xdist's worker": 3,
        "worker": 2,
        "checker": 1,
        "loader": 1,
    },
    "report": {"parent": 3, "preloaded": 1, "worker": 2, "checker": 2, "loader": 2},
}
PLAN = tuple((command, *kill) for command, kills in OFTEN.items() for kill in kills.items())
"""(command, victim, how often of a hundred)."""


SERVED: dict[str, tuple[str, ...]] = {
    "run on sqld": ("--database", "libsql-remote", "--read-engine", "libsql-replica"),
    "run on postgres": ("--database", "postgres", "--synchronous", "full"),
}
"""Command -> its engines. A PostgreSQL server of lesser durability may forget what it answered."""

STATUSES = {
    ("run", "preloaded"): {0},
    ("run", "worker"): {0, 1},
    ("run", "checker"): {1},
    ("run", "loader"): {2},
}
"""Exit statuses of a command of which only a part was killed. A worker may just have finished."""


def planned(kills: int, seed: int) -> list[tuple[str, str]]:
    """(command, victim) of each kill, in an order by seed. Every hundred has the same ones."""
    found: list[tuple[str, str]] = []
    rng = random.Random(f"plan {seed}")
    while len(found) < kills:
        hundred = [(command, victim) for command, victim, often in PLAN for _ in range(often)]
        rng.shuffle(hundred)
        found += hundred
    return found[:kills]


def why_not(command: str) -> str | None:
    """Why a command cannot be had here, for want of its server; None where it can."""
    engines = SERVED.get(command)
    return find_engine(engines[1]).missing() if engines else None


# --- the commands -------------------------------------------------------------------------------


def cwkit(*argv: str) -> list[str]:
    return [sys.executable, "-m", "analysis.cli", *argv]


def commands(again: bool, folder: Path) -> dict[str, list[str]]:
    """The commands by name. again : as they go on with what is there."""
    asked = ["--scenario", "acked", "--writers", "2", "--readers", "1"]
    asked += ["--duration", "0.8", "--warmup", "0.2"]
    sweep = ["sweep", "sweep.toml", "--into", "runs/sweep", "--oversubscribe"]
    search = ["search", "--slo", "p50 < 1s", "--scenario", "acked", "--database", "sqlite"]
    search += ["--writers", "2", "--duration", "0.5", "--warmup", "0.1", "--repeats", "1"]
    search += ["--step", "2", "--foreign-limit", "1", "--into", "runs/search"]
    items = [sys.executable, "-m", "pytest", str(ROOT / "workloads"), "--rootdir", str(ROOT)]
    items += ["-c", str(ROOT / "pyproject.toml"), "-p", "no:cacheprovider", "-q", "-n", "2"]
    items += ["--sweep", "sweep.toml", "--into", "runs/sweep", "--oversubscribe"]
    report = [sys.executable, "-c", REPORT, "report", "--quick", "--out", "REPORT.md"]
    report += ["--figures", "figures", "--foreign-limit", "1"]
    begun = [path.parent for path in sorted(folder.glob("runs/*/campaign.json"))] if again else []
    return {
        "run": cwkit("run", *asked, "--database", "sqlite"),
        **{name: cwkit("run", *asked, *engines) for name, engines in SERVED.items()},
        "sweep": cwkit(*sweep),
        "sweep --jobs 2": cwkit(*sweep, "--jobs", "2"),
        "search": cwkit(*search),
        "pytest": items,
        "report": report + (["--into", str(begun[-1])] if begun else []),
    }


@dataclass
class Kill:
    """One kill and what came of it. stage : of the run that it met, "" of none."""

    number: int
    command: str
    victim: str
    stage: str = ""
    missed: bool = False
    status: int | None = None
    commits: int = 0
    lost: int = 0
    finished: int = 0
    removed: int = 0
    faults: list[str] = field(default_factory=list)


class Killing:
    """One kill, made in a folder of its own with a temporary folder of its own."""

    def __init__(self, number: int, command: str, victim: str, seed: int, folder: Path) -> None:
        self.kill = Kill(number, command, victim)
        self.rng = random.Random(f"kill {seed} {number}")
        self.folder, self.token = folder, uuid.uuid4().hex
        self.temporary = folder / "tmp"
        self.family: list[psutil.Process] = []
        self.shared = self._shared()

    def run(self, longest_s: float) -> Kill:
        """longest_s : what the command takes that nobody kills."""
        try:
            for _ in range(TRIES):
                if self._killed(longest_s):
                    break
                longest_s *= 0.7
            else:
                self.kill.missed = True
                return self.kill
            self._afterwards()
        except subprocess.TimeoutExpired as error:
            self._fault(f"did not end within {error.timeout:.0f} s: {_short(error.cmd)}")
        finally:
            self._end_all()
        return self.kill

    # -- killing ----------------------------------------------------------------------------

    def _killed(self, longest_s: float) -> bool:
        """Start the command anew and kill; False where it ended before."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.temporary.mkdir(parents=True)
        (self.folder / "sweep.toml").write_text(SWEEP, encoding="utf-8")
        process = self._start(commands(False, self.folder)[self.kill.command])
        if self.kill.victim not in SHORT_LIVED_S:
            time.sleep(self.rng.uniform(0, longest_s))
        victim = self._victim(process)
        if victim is None:
            self._ended(process)
            return False
        self.kill.stage = self._stage()
        try:
            victim.suspend()  # so that it starts nothing more
            if not _stopped(victim):  # it was ending by itself: nothing would be killed
                victim.resume()
                self._ended(process)
                return False
            self.family = [victim, *victim.children(recursive=True)]
            victim.kill()
        except psutil.NoSuchProcess:  # it came to its end since it was looked at
            self._ended(process)
            return False
        if victim.pid == process.pid:
            process.wait()
        else:
            self.kill.status = self._ended(process)
            expected = STATUSES.get((self.kill.command, self.kill.victim), {0, 1, 2})
            if self.kill.status not in expected:
                self._fault(f"ended with status {self.kill.status}: {self._output()[-1000:]}")
        return True

    def _victim(self, process: subprocess.Popen[bytes]) -> psutil.Process | None:
        """The process to be killed, a random moment after it is there; None where none is."""
        kind = self.kill.victim
        delay_s = self.rng.uniform(0, SHORT_LIVED_S.get(kind, 0.4))
        until = time.monotonic() + COMMAND_LIMIT_S
        while process.poll() is None and time.monotonic() < until:
            if kind == "parent":
                return psutil.Process(process.pid)
            there = list(_family(process.pid, kind))
            if there:
                victim = self.rng.choice(there)
                time.sleep(delay_s)
                if _lives(victim):
                    return victim
                delay_s /= 2
            time.sleep(0.001 if kind in SHORT_LIVED_S else 0.005)
        return None

    def _stage(self) -> str:
        for folder in self._runs():
            try:
                left = read_manifest(folder).under_way
            except RunError:
                continue
            if left is not None:
                return left.stage
        return "between runs"

    # -- afterwards ---------------------------------------------------------------------------

    def _afterwards(self) -> None:
        kill = self.kill
        if left := self._left_running():
            self._fault(f"left running: {'; '.join(left)}")
        before = list(temporary.left_over(self.temporary))
        listed = self._call(cwkit("list"), {0, 2})
        if bool(before) != ("left by processes that were killed" in listed.stderr):
            self._fault(f"the next command said {listed.stderr!r} of {before}")
        if kill.command.startswith("run") and before:
            for folder in self._runs():
                self._call(cwkit("show", str(folder)), {0})
        done = self._call(cwkit("recover", "--all"), {0, 3} if kill.victim == "checker" else {0})
        kill.finished = done.stdout.count(": finished")
        kill.removed = done.stdout.count(": removed")
        self._nothing_left()
        self._readable()
        if not kill.command.startswith("run"):
            self._goes_on()
        self._accounted_for()

    def _nothing_left(self) -> None:
        left = [path.name for path in self.temporary.iterdir()]
        left += [str(path) for path in self._shared() - self.shared]
        left += [str(path) for path in self.folder.rglob(TEMPLATES)]
        if left:
            self._fault(f"left in temporary folders: {', '.join(sorted(left))}")

    def _shared(self) -> set[Path]:
        return {one.path for one in temporary.left_over(temporary.SHARED_MEMORY)}

    def _readable(self) -> None:
        """Every folder: by list, and each run by show."""
        listed = self._call(cwkit("list"), {0, 2})
        if "unreadable" in listed.stdout or "interrupted:" in listed.stdout:
            self._fault(f"list says: {listed.stdout}")
        folders = self._runs()
        if folders:
            self._call(cwkit("show", str(self.rng.choice(folders))), {0})
        for folder in folders:  # as show does it, in this process: a start takes a second
            try:
                summary_lines(rec.read_run(folder))
            except Exception as error:  # whatever it is, it is a fault
                self._fault(f"{folder} cannot be shown: {type(error).__name__}: {error}")

    def _goes_on(self) -> None:
        """The same command again comes to its end, and leaves nothing but its runs."""
        argv = commands(True, self.folder)[self.kill.command]
        # A cell of which a part was killed is a failure, and stays one until it is asked for again.
        failed = self.kill.victim != "parent"
        self._call(argv, {0, 1} if failed else {0})
        if failed and "sweep.toml" in argv and not self._complete():
            self._call(cwkit("sweep", "sweep.toml", "--into", "runs/sweep", "--retry-failed"), {0})
        if not self._complete():
            self._fault("not complete after the same command again")
        if left := self._left_running():
            self._fault(f"left running in the end: {'; '.join(left)}")
        self._nothing_left()
        self._readable()

    def _complete(self) -> bool:
        found = [read_experiment(p.parent) for p in self.folder.rglob("experiment.json")]
        return all(
            experiment.complete
            and (
                self.kill.command == "report"  # which has no way to ask for a failed cell again
                or all(cell.state == DONE for cell in experiment.cells.values())
            )
            for experiment in found
        )

    def _accounted_for(self) -> None:
        """See that acknowledged commits are in the database, by each run's own check."""
        for folder in self._runs():
            manifest = read_manifest(folder)
            if manifest.unmade:  # the checker was killed: its database is kept, and checked now
                self._call(cwkit("recover", str(folder)), {0})
                manifest = read_manifest(folder)
            for why in self._unaccounted(folder, manifest):
                self._fault(f"{folder.name}: {why}")

    def _unaccounted(self, folder: Path, manifest: Manifest) -> Iterator[str]:
        if manifest.under_way is not None:
            yield "is still under way"
        for finding in [*manifest.broken, *manifest.unmade]:
            self.kill.lost += len(finding.evidence.get("lost", ()))
            yield f"{finding.check}: {finding.sentence}"
        acknowledged = sum(
            int((worker.attempts["outcome"] == rec.COMMITTED).sum())
            for worker in rec.read_run(folder).role("writer")
        )
        checked = [f.evidence.get("acknowledged") for f in manifest.findings]
        if acknowledged not in checked:
            yield f"{acknowledged} commits were acknowledged, and the check knows of {checked}"
        self.kill.commits += acknowledged

    # -- processes ----------------------------------------------------------------------------

    def _start(self, argv: Sequence[str]) -> subprocess.Popen[bytes]:
        with (self.folder / "output").open("ab") as file:
            return subprocess.Popen(
                argv,
                cwd=self.folder,
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                process_group=0,
            )

    def _ended(self, process: subprocess.Popen[bytes]) -> int:
        try:
            return process.wait(COMMAND_LIMIT_S)
        finally:
            # What xdist says of a worker of its own that was killed while it began is its own.
            lines = self._output().splitlines(keepends=True)
            text = "".join(line for line in lines if not line.startswith("INTERNALERROR>"))
            if "Traceback" in text:
                self._fault(f"traceback: {text[-3000:]}")

    def _output(self) -> str:
        return (self.folder / "output").read_text(errors="replace")

    def _call(self, argv: Sequence[str], statuses: set[int]) -> subprocess.CompletedProcess[str]:
        made = subprocess.run(  # noqa: PLW1510, its status is looked at
            argv,
            cwd=self.folder,
            env=self._environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=COMMAND_LIMIT_S,
        )
        if made.returncode not in statuses or "Traceback" in made.stderr:
            output = f"{made.stdout[-1500:]}\n{made.stderr[-3000:]}"
            self._fault(f"{_short(argv)} ended with status {made.returncode}:\n{output}")
        return made

    def _environment(self) -> dict[str, str]:
        return os.environ | {
            MARK: self.token,
            "TMPDIR": str(self.temporary),
            "PYTEST_DEBUG_TEMPROOT": str(self.folder),
            "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])),
            "PYTHONDONTWRITEBYTECODE": "1",
            "COLUMNS": "250",
        }

    def _left_running(self) -> list[str]:
        """Processes of this kill that are there and stay."""
        until = time.monotonic() + END_LIMIT_S
        while (left := self._marked() or self._ending()) and time.monotonic() < until:
            time.sleep(0.05)
        return [f"{one.pid} {_command_of(one)}" for one in left]

    def _ending(self) -> list[psutil.Process]:
        """Those of the family that was killed which have not ended yet.

        A process that ends loses its environment, and so its mark, before it gives up its locks.
        """
        return [one for one in self.family if _lives(one)]

    def _marked(self) -> list[psutil.Process]:
        """Those with our mark in their environment, or our folder as their own.

        Of a forked process the environment cannot be read from outside: its title is there.
        """
        here, found = os.path.realpath(self.folder), []
        for process in psutil.process_iter():
            try:
                marked = process.environ().get(MARK) == self.token or process.cwd() == here
                if marked and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
            except (psutil.Error, OSError):
                continue
        return found

    def _end_all(self) -> None:
        for process in self._marked():
            process.kill()

    def _runs(self) -> list[Path]:
        """Folders of runs, also of those that were set aside."""
        found = (self.folder / "runs").rglob(MANIFEST)
        return sorted(path.parent for path in found if path.parent.name != "served")

    def _fault(self, sentence: str) -> None:
        self.kill.faults.append(sentence)


def _family(pid: int, kind: str) -> Iterator[psutil.Process]:
    """Processes of a kind among those that a process has started."""
    is_of_kind: Callable[[list[str]], bool] = {
        "worker": lambda argv: "workloads.runs.worker" in argv and "work" in argv,
        "checker": lambda argv: "workloads.runs.worker" in argv and argv[-1] == "check",
        "loader": lambda argv: "workloads.runs.worker" in argv and argv[-1] == "load",
        "cell": lambda argv: "workloads.experiments.cell" in argv,
        "preloaded": lambda argv: "workloads.processes.preloaded" in argv,
        "server": lambda argv: "--db-path" in argv or "-D" in argv,  # not a connection's process
        "xdist's worker": lambda argv: any("sys.stdin.readline" in argument for argument in argv),
    }[kind]
    for child in _started_by(pid):
        try:
            process = psutil.Process(child)
            if is_of_kind(process.cmdline()):
                yield process
        except psutil.Error:
            continue


def _started_by(pid: int) -> Iterator[int]:
    """All that a process has started, and they in turn.

    By Linux's own lists: psutil's `children` reads every process of the machine each time.
    """
    try:
        tasks = os.listdir(f"/proc/{pid}/task")
    except OSError:  # it is over
        return
    for task in tasks:
        try:
            children = Path(f"/proc/{pid}/task/{task}/children").read_text().split()
        except OSError:  # its thread is over
            continue
        for child in map(int, children):
            yield child
            yield from _started_by(child)


def _stopped(process: psutil.Process) -> bool:
    """Whether a process that was told to stop has; one that is on its way out never does."""
    until = time.monotonic() + STOP_LIMIT_S
    while time.monotonic() < until:
        if (status := process.status()) == psutil.STATUS_STOPPED:
            return True
        if status in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD):
            return False
        time.sleep(0.001)
    return False


def _lives(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def _command_of(process: psutil.Process) -> str:
    try:
        return _short(process.cmdline())
    except psutil.Error:
        return "that has just ended"


def _short(argv: Sequence[str] | str) -> str:
    text = argv if isinstance(argv, str) else " ".join(argv)
    return text if len(text) <= 200 else f"{text[:90]} … {text[-100:]}"


# --- a run of kills -------------------------------------------------------------------------------


def run_kills(
    kills: Sequence[tuple[int, str, str]],
    seed: int,
    *,
    longest: Mapping[str, float] | None = None,
    keep: Path | None = None,
    notify: Callable[[str], None] = lambda line: None,
) -> list[Kill]:
    """Make kills: (number, command, victim) each. Raises RuntimeError for a command that fails
    although nobody kills it.

    longest : how long commands take that nobody kills, s; those not there are tried first.
    keep : where folders of faults are kept.
    """
    takes = dict(longest or {})
    made = []
    with temporary.made("kills") as base:
        for number, command, victim in kills:
            if why := why_not(command):
                notify(f"{number}: not {command}: {why}")
                continue
            folder = base / str(number)
            killing = Killing(number, command, victim, seed, folder)
            if command not in takes:
                takes[command] = _takes(command, killing)
            made.append(killing.run(takes[command]))
            notify(_line(made[-1]))
            if made[-1].faults and keep is not None:
                shutil.copytree(folder, keep / f"kill-s{seed}-n{number}", symlinks=True)
            shutil.rmtree(folder, ignore_errors=True)
    return made


def _takes(command: str, killing: Killing) -> float:
    """How long a command takes that nobody kills, s. Raises RuntimeError where it fails."""
    killing.temporary.mkdir(parents=True)
    (killing.folder / "sweep.toml").write_text(SWEEP, encoding="utf-8")
    begun = time.monotonic()
    process = killing._start(commands(False, killing.folder)[command])
    status = process.wait(COMMAND_LIMIT_S)
    if status:
        text = (killing.folder / "output").read_text(errors="replace")
        raise RuntimeError(f"{command} ended with {status} although nobody killed it:\n{text}")
    return time.monotonic() - begun


def _line(kill: Kill) -> str:
    what = f"{kill.number}: {kill.victim} of {kill.command}, {kill.stage or 'missed'}"
    return f"{what}: {'FAULT ' + kill.faults[0] if kill.faults else 'well'}"


def table(kills: Sequence[Kill]) -> list[str]:
    """A line for each command and victim: how often killed, in which stage, with what result."""
    rows = [("command", "killed", "times", "in which stage", "status", "runs finished", "removed",
             "commits", "lost", "faults")]  # fmt: skip
    for command, victim in dict.fromkeys((k.command, k.victim) for k in kills):
        these = [k for k in kills if (k.command, k.victim) == (command, victim)]
        hit = [k for k in these if not k.missed]
        stages = Counter(k.stage for k in hit)
        statuses = Counter("killed" if k.status is None else str(k.status) for k in hit)
        rows.append(
            (
                command,
                victim,
                f"{len(hit)}",
                ", ".join(f"{stage} {n}" for stage, n in stages.most_common()),
                ", ".join(f"{status}: {n}" for status, n in sorted(statuses.items())),
                f"{sum(k.finished for k in hit)}",
                f"{sum(k.removed for k in hit)}",
                f"{sum(k.commits for k in hit):,}",
                f"{sum(k.lost for k in hit)}",
                f"{sum(bool(k.faults) for k in hit)}",
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def main(
    kills: Annotated[int, typer.Option(min=1, help="how many")] = 100,
    seed: Annotated[int, typer.Option(min=0, help="of what is killed and when")] = 1,
    first: Annotated[int, typer.Option("--from", min=0, help="number of the first")] = 0,
    keep: Annotated[Path, typer.Option(help="folder for the folders of faults")] = Path(
        "runs/kills"
    ),
) -> None:
    """Kill at random moments; status 0 where nothing was lost and nothing was left behind."""
    plan = planned(first + kills, seed)
    numbered = [(number, *plan[number]) for number in range(first, first + kills)]
    made = run_kills(
        numbered, seed, keep=keep, notify=lambda line: print(line, file=sys.stderr, flush=True)
    )
    faults = [kill for kill in made if kill.faults]
    for kill in faults:
        print(f"\n{_line(kill)}", *kill.faults[1:], sep="\n  ")
        print(f"  again: python -m tools.fuzz.kills --seed {seed} --from {kill.number} --kills 1")
    print("\n".join(table(made)))
    text = f"{times(len(made), 'kill')}, seed {seed}: {len(faults)} with faults"
    print(f"{text}, {sum(kill.missed for kill in made)} missed.")
    raise typer.Exit(1 if faults else 0)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    typer.run(main)
