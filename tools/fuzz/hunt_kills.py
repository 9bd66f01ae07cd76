"""Kills and signals at random moments of a hunt: of `cwkit fuzz`, and of each of its processes.

    python -m tools.fuzz.hunt_kills --kills 60 --seed 1

After each one: nothing of the hunt is left running, every finding's folder is whole, hunt.json is
whole, the exit status is the documented one, where a part was killed the others went on, no finding
blames the engine for our kill, and `cwkit recover --all` clears all that is left.
"""

from __future__ import annotations

import contextlib
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, NamedTuple

import psutil
import typer

from analysis.wording import times
from properties.hunter.folder import HUNT, REPRO, TIMELINE, findings_in, read_finding
from tools.fuzz.kills import ROOT, Kill, Killing, _line, _lives, _started_by, cwkit
from workloads.engines import find_engine
from workloads.errors import RunError
from workloads.files import read_json, temporary

BROKEN = ROOT / "properties" / "hunter" / "broken.py"


class Hunt(NamedTuple):
    """A hunt that is killed. begin : its modes, "" for all."""

    engine: str
    begin: str = ""
    programs: int = 48


HUNTS = (
    Hunt(f"{BROKEN}:RefusesForNobody", "immediate"),
    Hunt(f"{BROKEN}:Aborts"),
    Hunt(f"{BROKEN}:ForgetsCommits"),
    Hunt(f"{BROKEN}:Sound", programs=400),
    Hunt("turso", "concurrent,immediate"),
)
SCRIPTED = Hunt(f"{ROOT / 'tools' / 'fuzz' / 'hunted.py'}:Refuses", "immediate")
"""Whose findings have scripts, to be killed while they are tried."""

VICTIMS = {
    "command": 6, "command by SIGTERM": 4, "command by SIGINT": 4, "hunting": 6, "original": 4,
    "playing": 6, "racing": 4, "contract": 4, "repro": 6,
}  # fmt: skip
"""Victim -> how often of so many rounds as they add up to."""

SIGNALS = {"command by SIGTERM": signal.SIGTERM, "command by SIGINT": signal.SIGINT}
LOOKS_S, LONGEST_S = 0.002, 90.0
BLAME = "SIGKILL"


def planned(kills: int, seed: int) -> list[tuple[str, Hunt, int]]:
    """Victim, hunt and number of processes of each round, by seed."""
    rng, found = random.Random(f"hunts {seed}"), list[tuple[str, Hunt, int]]()
    here = [hunt for hunt in HUNTS if _is_here(hunt.engine)]
    while len(found) < kills:
        victims = [victim for victim, often in VICTIMS.items() for _ in range(often)]
        rng.shuffle(victims)
        for victim in victims:
            hunts = [SCRIPTED] if victim == "repro" else [*here, SCRIPTED]
            found.append((victim, rng.choice(hunts), rng.choice((1, 2))))
    return found[:kills]


def _is_here(engine: str) -> bool:
    return ":" in engine or find_engine(engine).missing() is None


class HuntKilling(Killing):
    """One kill of a hunt."""

    def __init__(
        self, number: int, victim: str, hunt: Hunt, processes: int, seed: int, folder: Path
    ) -> None:
        super().__init__(number, f"fuzz {hunt.engine.rpartition('/')[2]}", victim, seed, folder)
        self.hunt, self.processes, self.seed = hunt, processes, self.rng.randrange(1000)

    def _killed(self, longest_s: float) -> bool:
        shutil.rmtree(self.folder, ignore_errors=True)
        self.temporary.mkdir(parents=True)
        more = ["--begin", self.hunt.begin] if self.hunt.begin else []
        process = self._start(
            cwkit("fuzz", "--engine", self.hunt.engine, *more, "-j", str(self.processes),
                  "--seed", str(self.seed), "--minutes", "1",
                  "--programs", str(self.hunt.programs))
        )  # fmt: skip
        victim = self._met(process)
        if victim is None:
            self._ended(process)
            return False
        self.kill.stage = self._how_far()
        self.family = [one for pid in _started_by(process.pid) if (one := _process(pid))]
        try:
            victim.send_signal(SIGNALS.get(self.kill.victim, signal.SIGKILL))
        except psutil.NoSuchProcess:
            self._ended(process)
            return False
        of_command = victim.pid == process.pid
        self.kill.status = self._ended(process)
        self._status(of_command)
        return True

    def _met(self, process: subprocess.Popen[bytes]) -> psutil.Process | None:
        """The process to be killed, a random moment after it is there; None where none is."""
        kind, until = self.kill.victim, time.monotonic() + LONGEST_S
        while kind in SIGNALS and not self._hunts() and process.poll() is None:
            time.sleep(LOOKS_S)  # before that nobody has said what a signal does
        if kind.startswith("command"):
            time.sleep(self.rng.uniform(0, 6))
            return psutil.Process(process.pid) if process.poll() is None else None
        skipped = self.rng.randrange(4) if kind in ("hunting", "playing") else 0
        delay_s = self.rng.uniform(0, {"hunting": 3, "playing": 1, "original": 1}.get(kind, 0.2))
        while process.poll() is None and time.monotonic() < until:
            there = list(_of_kind(process.pid, kind))
            if there and not skipped:
                victim = self.rng.choice(there)
                time.sleep(delay_s)
                if _lives(victim):
                    return victim
                delay_s /= 2
            elif there:
                skipped -= 1
                time.sleep(0.2)
            time.sleep(LOOKS_S)
        return None

    def _how_far(self) -> str:
        folders = self._hunts()
        found = sum(len(findings_in(folder)) for folder in folders)
        return f"{times(found, 'finding')}" if folders else "before its folder"

    def _hunts(self) -> list[Path]:
        return sorted((self.folder / "runs").glob("*-fuzz-*"))

    def _status(self, of_command: bool) -> None:
        status, said = self.kill.status, self._output()
        if self.kill.victim in SIGNALS:
            if status != 130:
                self._fault(f"ended with status {status}, not 130: {said}")
        elif of_command:
            if status != -signal.SIGKILL:
                self._fault(f"ended with status {status} though it was killed")
        elif status not in (0, 1) and not (self.kill.victim == "hunting" and self.processes == 1):
            self._fault(f"ended with status {status}: {said}")
        elif self.kill.victim == "hunting" and "signal 9" not in said:
            self._fault(f"does not say that a process of it was killed: {said}")

    # -- afterwards ---------------------------------------------------------------------------

    def _afterwards(self) -> None:
        if left := self._left_running():
            self._fault(f"left running: {'; '.join(left)}")
        before = self._whole()
        done = self._call(cwkit("recover", "--all"), {0})
        self.kill.removed = done.stdout.count(": cleared")
        self._nothing_left()
        left = [str(path) for path in (self.folder / "runs").rglob("*")
                if path.name.startswith((".", temporary.PREFIX))]  # fmt: skip
        if left:
            self._fault(f"left in the hunt's folder: {', '.join(left)}")
        if self._whole() != before:
            self._fault("recover --all changed the findings")

    def _whole(self) -> list[str]:
        """The names of the findings; a fault for each that is not whole."""
        names = []
        for folder in self._hunts():
            if (folder / HUNT).exists():
                ended = read_json(folder / HUNT).get("ended")
                expected = {"running"} if self.kill.victim == "command" else {"done"}
                expected = {"interrupted"} if self.kill.victim in SIGNALS else expected
                if ended not in expected:
                    self._fault(f"{HUNT} says {ended!r}")
            elif any(folder.iterdir()) and self.kill.victim != "command":
                self._fault(f"has no {HUNT}: {sorted(folder.iterdir())}")
            for path in self._folders(folder):
                names.append(path.name)
                try:
                    kept, _ = read_finding(path)
                except RunError as error:
                    self._fault(f"a finding is not whole: {error}")
                    continue
                parts = [TIMELINE, *([REPRO] if kept.method == REPRO else [])]
                if missing := [part for part in parts if not (path / part).is_file()]:
                    self._fault(f"{path.name} lacks {missing}")
                if BLAME in kept.seen:
                    self._fault(f"{path.name} blames the engine for our kill: {kept.seen}")
        return names

    def _folders(self, folder: Path) -> Iterator[Path]:
        """Whatever has the name of a finding."""
        with contextlib.suppress(FileNotFoundError):
            for path in sorted((folder / "findings").iterdir()):
                if not path.name.startswith((".", temporary.PREFIX)):
                    yield path


def _process(pid: int) -> psutil.Process | None:
    try:
        return psutil.Process(pid)
    except psutil.Error:
        return None


def _of_kind(pid: int, kind: str) -> Iterator[psutil.Process]:
    """Processes of a kind among those that a hunt has started. A copy has its original's words."""
    module = {"hunting": "properties.hunter.hunting", "contract": "contract_process"}.get(
        kind, "repro.py" if kind == "repro" else "workloads.schedules.playing"
    )
    for child in list(_started_by(pid)):
        try:
            process = psutil.Process(child)
            if not any(module in word for word in process.cmdline()):
                continue
            parent = process.parent()
            copy = parent is not None and any(module in word for word in parent.cmdline())
            if kind in ("playing", "racing") and not copy:
                continue
            if kind == "original" and copy:
                continue
            if kind == "racing" and len(process.parent().children()) < 3 > process.num_threads():
                continue  # one process plays a program; several, or threads, race
            yield process
        except (psutil.Error, AttributeError):
            continue


def run_hunt_kills(
    seed: int,
    first: int,
    kills: int,
    *,
    keep: Path | None = None,
    plan: Sequence[tuple[str, Hunt, int]] = (),
) -> list[Kill]:
    """Make kills. keep : where folders of faults are kept."""
    made = []
    with temporary.made("kills") as base:
        for number, (victim, hunt, processes) in list(
            enumerate(plan or planned(first + kills, seed))
        )[first:]:
            folder = base / str(number)
            made.append(HuntKilling(number, victim, hunt, processes, seed, folder).run(0.0))
            print(_line(made[-1]), file=sys.stderr, flush=True)
            if made[-1].faults and keep is not None:
                shutil.copytree(
                    folder, keep / f"hunt-s{seed}-n{number}", symlinks=True, dirs_exist_ok=True
                )
            shutil.rmtree(folder, ignore_errors=True)
    return made


def main(
    kills: Annotated[int, typer.Option(min=1, help="how many")] = 60,
    seed: Annotated[int, typer.Option(min=0, help="of what is killed and when")] = 1,
    first: Annotated[int, typer.Option("--from", min=0, help="number of the first")] = 0,
    keep: Annotated[Path, typer.Option(help="folder for the folders of faults")] = Path(
        "runs/kills"
    ),
) -> None:
    """Kill hunts at random moments; status 0 where nothing was lost and nothing left behind."""
    made = run_hunt_kills(seed, first, kills, keep=keep)
    for kill in (kill for kill in made if kill.faults):
        print(f"\n{_line(kill)}", *kill.faults[1:], sep="\n  ")
        print(
            f"  again: python -m tools.fuzz.hunt_kills --seed {seed} --from {kill.number} --kills 1"
        )
    for victim in VICTIMS:
        these = [kill for kill in made if kill.victim == victim]
        statuses = Counter(str(kill.status) for kill in these if not kill.missed)
        told = ", ".join(f"{status}: {n}" for status, n in sorted(statuses.items()))
        print(f"{victim}: {len(these)}, status {told}, {sum(k.missed for k in these)} missed, "
              f"{sum(bool(k.faults) for k in these)} with faults")  # fmt: skip
    raise typer.Exit(1 if any(kill.faults for kill in made) else 0)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    typer.run(main)
