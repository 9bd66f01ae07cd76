"""The hunt: programs drawn, played, judged and shrunk until the time is over; findings kept.

`hunt` is the door. Each of its processes takes every n-th index, so that a hunt of the same seed
and the same number of programs finds the same, however many processes make it.
"""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from random import Random

from properties.hunter.asking import KEYS, asked_for, deadly, options_for
from properties.hunter.drawing import Grammar, draw_on
from properties.hunter.judges import Found, by_others, judge
from properties.hunter.known import of_engine, recognised
from properties.hunter.patterns import changed, draw_pattern
from properties.hunter.reference import TooMuch
from properties.hunter.shrinking import shrunk, signature, words
from workloads.engines import Identity, find_engine
from workloads.schedules import CannotPlay, Death, Played, Program, Stage, met

ON_ONE_SCHEMA = 8
"""Programs on one schema: to make the tables costs more than to play a program."""

LED_ON = 60
"""Programs that are kept to be changed: the newest that found something, or in which a pair of
operations met for the first time."""

KNOWN_EACH = 4
"""One program of so many has the features that known findings need."""


@dataclass(frozen=True)
class Finding:
    """A finding that was shrunk. index : of the program that it was first seen in. known : the name
    of the known deviation that it is.
    """

    signature: str
    index: int
    found: Found
    played: Played
    original: Program


@dataclass
class Tally:
    """What a hunt did so far.

    programs : that were played. drawn : of them, those that were drawn; the others were tried to
    make one smaller.
    unsupported : statements that the engine says it has not got. unsure : programs that the
    reference did not judge to their end. pairs : kinds of operation that were under way at once.
    races : that were run. not_raced : the engine's words for those that were not.
    """

    programs: int = 0
    drawn: int = 0
    steps: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    statuses: Counter[str] = field(default_factory=Counter)
    pairs: Counter[tuple[str, str]] = field(default_factory=Counter)
    seen: Counter[str] = field(default_factory=Counter)
    known: Counter[str] = field(default_factory=Counter)
    not_raced: Counter[str] = field(default_factory=Counter)
    races: int = 0
    unsupported: int = 0
    unsure: int = 0
    played_s: float = 0.0
    judged_s: float = 0.0


class Hunter:
    """One process's hunt on one engine in some modes."""

    def __init__(
        self, engine: str, modes: tuple[str, ...], seed: int, without: tuple[str, ...] = ()
    ) -> None:
        self.engine, self.seed = engine, seed
        found = find_engine(engine)
        levels = {found.promises[mode].level for mode in modes if mode in found.promises}
        self.serializable = levels == {"serializable"}
        self.stage = Stage(engine)
        refused = asked_for(self.stage)
        options, not_taken = options_for(self.stage, refused)
        apart = () if self.stage.can_be_apart else ("apart",)
        self.grammar = Grammar(
            modes,
            frozenset((*without, *apart)),
            refused=frozenset(refused),
            options=options,
            shares=getattr(found, "shares", ""),
        )
        self.refused = refused | not_taken
        self.not_together = set[tuple[tuple[str, str], ...]]()
        if "foreign" not in refused:
            self.stage.first = (KEYS,)
        self.tally, self.told = Tally(), set[str]()
        identity = found.identity()
        self.known = of_engine(f"{identity.binding} {identity.version}")
        self.without_known = frozenset(need for one in self.known for need in one.needs)
        self.led_on: list[Program] = []
        self.last: Played | None = None  # what was played last

    def program(self, index: int) -> Program:
        """The program of an index. Indexes that follow one another have the same schema."""
        rng = Random(f"{self.seed}/{index}")
        schema = Random(f"{self.seed}/schema/{index // ON_ONE_SCHEMA}")
        return self.drawn(rng, schema, with_known=not index % KNOWN_EACH)

    def drawn(
        self, rng: Random, schema: Random, *, with_known: bool, change: bool = True
    ) -> Program:
        """A program, drawn in one of three ways: freely, around a pattern, or as a change of one
        that led to something.

        with_known : also with the features that one of the known findings needs. change : also by
        what the hunter has seen, and not by the draws alone.
        """
        way, off = rng.randrange(3), self.without_known
        if with_known and off:
            off -= set(rng.choice([one.needs for one in self.known if one.needs]))
        grammar = replace(self.grammar, off=self.grammar.off | off)
        if way == 2 and change and self.led_on:
            return changed(rng, rng.choice(self.led_on), grammar)
        program = (draw_pattern if way == 1 else draw_on)(rng, grammar, schema)
        if program.options in self.not_together:
            return replace(program, options=())
        return program

    def one(self, index: int) -> Finding | None:
        """Draw, play and judge one program; shrink what it shows where that is new."""
        self.tally.drawn += 1
        return self.looked_at(self.program(index), index)

    def looked_at(self, program: Program, index: int) -> Finding | None:
        """Play and judge a program; shrink what it shows where that is new."""
        made = self.judged(program)
        if made is not None and by_others(made[0]):
            self.stage.begin_anew()
            made = self.judged(program)
        if made is None:
            return None
        found, played = made
        if name := recognised(found, played.program, self.known):
            self.tally.known[name] += 1
            return None
        coarse = (
            f"{found.wrong.judge}: {signature(found, program.without(range(len(program.steps))))}"
        )
        self.tally.seen[coarse] += 1
        if self.tally.seen[coarse] > MOST_ALIKE:
            return None
        smaller, found, played = shrunk(program, found, played, self.judged)
        if name := recognised(found, smaller, self.known):
            self.tally.known[name] += 1
            return None
        name = signature(found, smaller)
        if name in self.told:
            return None
        self.told.add(name)
        return Finding(name, index, found, played, program)

    def judged(self, program: Program) -> tuple[Found, Played] | None:
        """Play and judge a program: what is wrong with it, None without that."""
        begun, self.last = time.perf_counter(), None
        try:
            played = self.last = self.stage.play(program)
        except CannotPlay as refusal:
            self.tally.refused[str(refusal)[:100]] += 1
            if program.options and not self._opens(program):
                self.not_together.add(program.options)
            return None
        middle = time.perf_counter()
        tally = self.tally
        try:
            found, walk = judge(self.stage, played, serializable=self.serializable)
        except TooMuch:
            tally.programs, tally.unsure = tally.programs + 1, tally.unsure + 1
            return None
        tally.played_s += middle - begun
        tally.judged_s += time.perf_counter() - middle
        tally.programs += 1
        tally.steps += len(played.results)
        tally.statuses.update(result.status for result in played.results)
        pairs = met(program.steps[: len(played.results)])
        known = found and recognised(found, program, self.known)
        if (found and not known) or not pairs <= tally.pairs.keys():
            self.led_on.append(program)
            del self.led_on[:-LED_ON]
        tally.pairs.update(pairs)
        tally.races += bool(played.accounts)
        if played.not_raced:
            tally.not_raced[words(played.not_raced)] += 1
        tally.unsupported += walk.unsupported
        tally.unsure += walk.unsure
        return (found, played) if found else None

    def _opens(self, program: Program) -> bool:
        """Whether connections can be opened with a program's options, whatever its tables."""
        try:
            self.stage.renew((), program.options)
        except (CannotPlay, Death):
            return False
        return True

    def shows(self, finding: Finding) -> bool:
        """Whether its program shows the same when it is played once more."""
        made = self.judged(finding.played.program)
        return made is not None and made[0].wrong.judge == finding.found.wrong.judge

    def close(self) -> None:
        self.stage.end()


MOST_ALIKE = 6
"""How many findings with the same judge and words are shrunk: most of them are one bug."""


def identity_of(engine: str) -> Identity:
    """The library's own words on itself, asked in this process."""
    return find_engine(engine).identity()


def hunt(
    engine: str,
    modes: tuple[str, ...],
    *,
    seed: int = 0,
    programs: int | None = None,
    minutes: float = 1.0,
    process: int = 0,
    processes: int = 1,
    without: tuple[str, ...] = (),
    on_step: Callable[[Hunter], None] = lambda hunter: None,
) -> Iterator[Finding]:
    """Findings, each as soon as it is shrunk, until the programs or the minutes are over.

    process, processes : it takes each index that is `process` modulo `processes`.
    without : features that are not drawn.
    Raises EngineMissing, UnknownName.
    """
    hunter = Hunter(engine, modes, seed, without)
    with contextlib.closing(hunter):
        for program in deadly(hunter.refused) if not process else ():
            finding = hunter.looked_at(program, 0)
            on_step(hunter)
            if finding:
                yield finding
        until, index = time.monotonic() + minutes * 60, process
        while time.monotonic() < until and (programs is None or index < programs):
            finding = hunter.one(index)
            on_step(hunter)
            if finding:
                yield finding
            index += processes
