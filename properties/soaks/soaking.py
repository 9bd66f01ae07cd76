"""A soak: one round after the other, until the time is over; each a folder of its own.

A round is whole once its line is written. One that was interrupted is set aside when the soak goes
on, and done again. Of sound rounds the newest stay, within MOST_SOUND_BYTES; those with findings
stay all, but of those that show what is known alone the first MOST_KNOWN of each.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import os
import shutil
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from properties.crashes import Asked, calls_in, crash
from properties.soaks.draws import (
    Chain,
    Drawn,
    Facts,
    draw_round,
    engines_here,
    kind_of,
    target_of,
)
from properties.soaks.folder import (
    ASIDE,
    KEPT,
    ROUNDS,
    SOAK,
    Design,
    Found,
    Round,
    Soak,
    add_line,
    read_soak,
    write_design,
)
from properties.soaks.judging import findings_of, named, once
from properties.soaks.watch import Watch
from workloads.errors import EngineMissing, ModeRefused, PlanError, RunError, RunFailed
from workloads.files import LOCK_FILE, alone, write_json
from workloads.processes import fault_library
from workloads.records import COMMITTED, MANIFEST, Run
from workloads.runs import Progress, describe, recover, run

MOST_SOUND_BYTES, MOST_SOUND = 200 << 20, 50
"""Of the folders of sound rounds: the newest stay, and no more than so many of them."""

MOST_KNOWN = 3
"""Rounds of each known deviation whose folders stay, whatever becomes of the sound ones."""

MOST_USED_BYTES = 16 << 20
"""Of a database that is used on, one an engine and mode. A larger one is left for a new one."""

LINE_EACH_S = 60.0
DATABASE, LOADED, CHAIN = "database.db", "load.json", "chain.json"
CRASH_LIMIT_S = 60.0
"""How long one crash state may take to open."""


@dataclass(slots=True)
class Soaking:
    """How a soak goes. At most once a minute, and as each round begins where it is the first."""

    elapsed_s: float = 0.0
    round: str = ""
    rounds: int = 0
    acknowledged: int = 0
    findings: dict[str, int] = field(default_factory=dict)
    known: dict[str, int] = field(default_factory=dict)
    phase: str = ""


OnLine = Callable[[Soaking], None]


class _Interrupted(Exception):
    """Ctrl-C came while a round went on."""


def begin_soak(
    folder: Path,
    *,
    asked_s: float,
    engines: Sequence[str] = (),
    seed: int = 0,
    seconds: float = 3.0,
    rounds: int = 0,
    command: str = "",
    only: int | None = None,
    rules: Sequence[str] = (),
    on_line: OnLine = lambda soaking: None,
) -> Soak:
    """Soak into a new folder. engines : () for all that are here. seconds : measured in a usual
    round. rounds : end after so many, 0: by the time alone. only : this round alone, on a new
    database. rules : its --fault, if it is of that kind.

    Ctrl-C ends it with what it has. Raises PlanError, UnknownName, EngineMissing, FolderUnwritable.
    """
    facts, missing = engines_here(engines)
    if only is not None:
        _must_be_drawn(seed, only, facts, rules)
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / SOAK).exists() and any(one.name != LOCK_FILE for one in folder.iterdir()):
        raise PlanError(f"{folder}: holds something else. Give another folder with --into.")
    design = Design(
        version=importlib.metadata.version("cwkit"),
        started=datetime.now(UTC).isoformat(timespec="seconds"),
        command=command,
        machine=describe(folder),
        seed=seed,
        engines=[one.name for one in facts],
        asked_s=asked_s,
        seconds=seconds,
        rounds=rounds,
        missing=missing,
        only=only,
        rules=list(rules),
    )
    with alone(folder, "soak"):
        if (folder / SOAK).exists():
            raise PlanError(f"{folder}: holds a soak already. --into goes on with it.")
        write_design(folder, design)
        return _go_on(read_soak(folder), facts, on_line)


def _must_be_drawn(seed: int, number: int, facts: Sequence[Facts], rules: Sequence[str]) -> None:
    """Raises PlanError where a round alone would not be the one of the soak, EngineMissing where
    there is no library: other kinds are drawn then.
    """
    fault_library()
    one, _, visit = target_of(seed, number, facts)
    kind = kind_of(f"{seed}-{one.name}", visit, library=True)
    if kind == "fault" and not rules:
        raise PlanError(
            f"--only-round {number}: its faults are drawn among calls that earlier rounds saw. "
            "Give each of them with --fault, as the soak told it."
        )
    if kind != "fault" and rules:
        raise PlanError(f"--only-round {number}: is a round of the kind {kind}, without --fault.")


def resume_soak(
    folder: Path, *, asked_s: float | None = None, on_line: OnLine = lambda soaking: None
) -> Soak:
    """Go on with a soak that was interrupted or killed. asked_s : another length, in all.

    Raises RunError where the folder is no soak's, or another process works on it.
    """
    with alone(folder, "soak"):
        soak = read_soak(folder)
        facts, missing = engines_here(soak.design.engines)
        length = soak.design.asked_s if asked_s is None else asked_s
        limit = soak.design.rounds if asked_s is None else 0
        design = msgspec.structs.replace(
            soak.design, ended="", asked_s=length, rounds=limit, missing=missing
        )
        write_design(folder, design)
        _set_aside(folder, soak.design.first + len(soak.rounds))
        return _go_on(read_soak(folder), facts, on_line)


def _set_aside(folder: Path, whole: int) -> None:
    """The rounds that have no line: what a killed process left of them is put out of the way."""
    for path in sorted((folder / ROUNDS).glob("*")):
        number = path.name.partition("-")[0]
        if path.is_dir() and number.isdecimal() and int(number) >= whole:
            for part in (path, path / "recording"):
                if (part / MANIFEST).exists():
                    with contextlib.suppress(RunError, PlanError, OSError):
                        recover(part)  # its temporary folder is cleared, too
            if path.exists():
                _move_aside(folder, path)


def _move_aside(folder: Path, path: Path) -> None:
    (folder / ASIDE).mkdir(exist_ok=True)
    number = sum(1 for _ in (folder / ASIDE).iterdir())
    os.rename(path, folder / ASIDE / f"{path.name}.{number}")


def _go_on(soak: Soak, facts: Sequence[Facts], on_line: OnLine) -> Soak:
    going = _Going(soak, facts, on_line)
    ended = "interrupted"
    try:
        going.all_rounds()
        ended = "done"
    except (_Interrupted, KeyboardInterrupt):
        _set_aside(soak.folder, soak.design.first + len(going.rounds))
    finally:
        now = read_soak(soak.folder)
        write_design(soak.folder, msgspec.structs.replace(now.design, ended=ended))
    return read_soak(soak.folder)


class _Going:
    """A soak in one process, from the rounds that it has."""

    def __init__(self, soak: Soak, facts: Sequence[Facts], on_line: OnLine) -> None:
        self.folder, self.design, self.facts = soak.folder, soak.design, facts
        self.rounds = list(soak.rounds)
        self.before_s, self.begun = soak.elapsed_s, time.monotonic()
        self.on_line, self.told_s = on_line, -LINE_EACH_S
        self.library = _has_library()
        self.name = ""
        (self.folder / ROUNDS).mkdir(exist_ok=True)

    @property
    def elapsed_s(self) -> float:
        return self.before_s + time.monotonic() - self.begun

    def all_rounds(self) -> None:
        design = self.design
        while self.elapsed_s < design.asked_s:
            most = 1 if design.only is not None else design.rounds
            if most and len(self.rounds) >= most:
                return
            begun = time.monotonic()
            one = self._round(design.first + len(self.rounds))
            made = msgspec.structs.replace(
                one, seconds=round(time.monotonic() - begun, 2), at_s=round(self.elapsed_s, 2)
            )
            add_line(self.folder, made)
            self.rounds.append(made)
            self._make_room()

    def tell(self, phase: str = "") -> None:
        """A line for who waits, a minute after the last one."""
        if self.elapsed_s - self.told_s < LINE_EACH_S:
            return
        self.told_s = self.elapsed_s
        findings = Counter(found.kind for one in self.rounds for found in one.new)
        known = Counter(name for one in self.rounds for name in one.known)
        self.on_line(
            Soaking(
                self.elapsed_s, self.name, len(self.rounds),
                sum(one.acknowledged for one in self.rounds), findings, known, phase,
            )
        )  # fmt: skip

    # -- one round -----------------------------------------------------------------------------

    def _round(self, number: int) -> Round:
        drawn = draw_round(
            self.design.seed, number, self.facts, seconds=self.design.seconds,
            library=self.library, calls=self._calls(), chains=self._chains(),
            rules=self.design.rules,
        )  # fmt: skip
        self.name = drawn.name
        self.tell()
        plan = drawn.plan
        head = Round(
            number=number, kind=drawn.kind, engine=plan.database.rpartition("/")[2],
            mode=plan.begin, scenario=plan.scenario, seed=plan.seed,
            rules=[rule for rule in plan.fault.split(",") if rule],
        )  # fmt: skip
        try:
            return self._crash(head, drawn) if drawn.kind == "crash" else self._run(head, drawn)
        except (PlanError, ModeRefused, EngineMissing) as why:
            return self._without(head, drawn, str(why), [])
        except RunFailed as why:
            return self._without(head, drawn, str(why), [Found("not run", str(why)[:1000])])

    def _without(self, head: Round, drawn: Drawn, note: str, found: list[Found]) -> Round:
        """A round that could not be: whatever there is of its folder is put aside."""
        if (path := self.folder / ROUNDS / drawn.name).exists():
            _move_aside(self.folder, path)
        return msgspec.structs.replace(head, note=note[:1000], findings=found)

    def _crash(self, head: Round, drawn: Drawn) -> Round:
        folder, plan = self.folder / ROUNDS / drawn.name, drawn.plan
        watch = Watch(folder / "recording", plan)
        try:
            crashed = crash(
                plan, folder,
                Asked(many=drawn.states, seed=drawn.number, limit_s=CRASH_LIMIT_S),
                command=self._command(drawn), on_progress=self._watching(watch),
                on_judged=lambda one, many: self.tell("judging"),
            )  # fmt: skip
        finally:
            watch.close()
        recorded = crashed.recording.run
        if crashed.campaign.interrupted or recorded.manifest.ended == "interrupted":
            raise _Interrupted
        broken = sorted(
            {(one.kind, one.sentence) for state in crashed.campaign.broken()
             for one in state.promised}
        )  # fmt: skip
        found = once(
            named(Found(kind, text[:1000]), recorded.manifest, plan, ended=True)
            for kind, text in broken
        )
        found += [Found("not seen", text[:1000]) for text in crashed.unexplained]
        found = once([*found, *findings_of(recorded.manifest, plan)])
        return msgspec.structs.replace(
            self._seen(head, drawn, recorded, watch),
            states=len(crashed.campaign.judged),
            findings=found,
            calls=calls_in(crashed.recording.changes),
        )

    def _run(self, head: Round, drawn: Drawn) -> Round:
        folder, plan = self.folder / ROUNDS / drawn.name, drawn.plan
        used_on = drawn.kind == "reopen"
        place = self._chain_folder(plan.database, plan.begin)
        watch = Watch(folder, plan, drawn.kill)
        try:
            made = run(
                plan, self.folder / ROUNDS, name=drawn.name, command=self._command(drawn),
                on_progress=self._watching(watch), keep_database=used_on,
                template=place if used_on and (place / CHAIN).exists() else None,
            )  # fmt: skip
        finally:
            watch.close()
        if made.manifest.ended == "interrupted":
            raise _Interrupted
        found = findings_of(made.manifest, plan, watch.killed)
        if per := watch.memory_per_commit():
            found.append(Found("leaks memory", f"a process grew by {per:,.0f} bytes a commit"))
        if per := watch.descriptors_per_commit():
            found.append(
                Found("leaks descriptors", f"a process opened {per:.3f} more descriptors a commit")
            )
        if used_on:
            self._use_on(place, made, well=not found)
        return msgspec.structs.replace(self._seen(head, drawn, made, watch), findings=found)

    def _watching(self, watch: Watch) -> Callable[[Progress], None]:
        def watching(progress: Progress) -> None:
            watch(progress)
            self.tell(progress.phase)

        return watching

    def _command(self, drawn: Drawn) -> str:
        """How the soak was called, and which of its rounds this is."""
        return f"{self.design.command or 'cwkit soak'} (round {drawn.number})"

    def _seen(self, head: Round, drawn: Drawn, made: Run, watch: Watch) -> Round:
        manifest = made.manifest
        acknowledged = sum(
            int((rows["outcome"] == COMMITTED).sum())
            for worker in made.workers
            if worker.role == "writer"
            for rows in worker.rows.pieces()
        )
        entry = manifest.engines.get(drawn.plan.database)
        return msgspec.structs.replace(
            head,
            folder=drawn.name,
            version=entry.version if entry else "",
            acknowledged=acknowledged,
            faults=sum(one.fired for one in manifest.faults),
            killed=len(watch.killed),
            rss_bytes=watch.rss_bytes,
            rss_per_commit=round(watch.memory_per_commit(), 1),
            descriptors=watch.descriptors,
            descriptors_per_commit=round(watch.descriptors_per_commit(), 4),
            wal_bytes=manifest.wal_bytes_max,
        )

    # -- what earlier rounds left --------------------------------------------------------------

    def _calls(self) -> dict[tuple[str, str], dict[str, int]]:
        """What is known of the calls of each engine in each mode: the newest recording's."""
        names = {one.name.rpartition("/")[2]: one.name for one in self.facts}
        return {
            (names.get(one.engine, ""), one.mode): one.calls for one in self.rounds if one.calls
        }

    def _chain_folder(self, engine: str, mode: str) -> Path:
        name = f"{engine.rpartition('/')[2].replace(':', '-')}-{mode}"
        return self.folder / KEPT / name

    def _chains(self) -> dict[tuple[str, str], Chain]:
        found = {}
        for facts in self.facts:
            for mode in facts.modes:
                with contextlib.suppress(OSError, ValueError, TypeError):
                    path = self._chain_folder(facts.name, mode) / CHAIN
                    told = json.loads(path.read_text(encoding="utf-8"))
                    found[facts.name, mode] = Chain(**told["chain"])
        return found

    def _use_on(self, place: Path, made: Run, *, well: bool) -> None:
        """Put a run's database where the next one takes it from; with a finding it stays with the
        run, and the next one begins a new one.

        The new place is whole before the old one goes: a kill meanwhile costs the database alone.
        """
        new = place.with_name(f"{place.name}.new")
        shutil.rmtree(new, ignore_errors=True)
        whole = next((one.evidence.get("whole") for one in made.manifest.findings
                      if one.check == "postings"), None)  # fmt: skip
        if not well or whole is None:
            shutil.rmtree(place, ignore_errors=True)
            return
        new.mkdir(parents=True)
        chain = self._chains().get((made.manifest.plan.database, made.manifest.plan.begin), Chain())
        files = sorted(made.folder.glob(f"{DATABASE}*"))
        if sum(path.stat().st_size for path in files) > MOST_USED_BYTES:
            for path in files:
                path.unlink()
            shutil.rmtree(place, ignore_errors=True)
            shutil.rmtree(new)
            return
        for path in files:
            shutil.move(path, new / path.name)
        entry = made.manifest.engines[made.manifest.plan.database]
        write_json(new / LOADED, {"identity": entry.data(), "layout": {}})
        now = {"rounds": chain.rounds + 1, "earlier": int(whole)}
        write_json(new / CHAIN, {"cwkit": 1, "chain": now})
        shutil.rmtree(place, ignore_errors=True)
        os.rename(new, place)

    def _make_room(self) -> None:
        """Remove the oldest folders of sound rounds; of what is known the first ones stay."""
        kept, many = 0, 0
        examples: Counter[str] = Counter()
        stay = set[int]()
        for one in self.rounds:
            if one.new or any(examples[name] < MOST_KNOWN for name in one.known):
                stay.add(one.number)
                examples.update(one.known)
        for one in reversed(self.rounds):
            if one.number in stay or not one.folder:
                continue
            path = self.folder / ROUNDS / one.folder
            if not path.is_dir():
                continue
            many += 1
            kept += _size(path)
            if many > 1 and (kept > MOST_SOUND_BYTES or many > MOST_SOUND):
                shutil.rmtree(path, ignore_errors=True)


def _size(folder: Path) -> int:
    return sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file())


def _has_library() -> bool:
    try:
        fault_library()
    except EngineMissing:
        return False
    return True


__all__ = ["MOST_SOUND_BYTES", "Soaking", "begin_soak", "resume_soak"]
