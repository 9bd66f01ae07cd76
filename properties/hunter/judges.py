"""The judges: what of a program's results no engine may show, whatever it refuses.

Each takes the steps in their order with their results. The reference (reference.py) says what a
statement should have answered; the others need no reference: a panic, an abort, a hang, a refusal
with nobody to blame, a file that is not sound, rows that an index has and its table has not.
"""

from __future__ import annotations

import re
import signal
from dataclasses import dataclass, field
from typing import NamedTuple

from properties.conformance import NO_CLASS_OF_A_DRIVER
from properties.hunter.by_checker import judge_history
from properties.hunter.races import QUESTIONS, judge_race
from properties.hunter.reference import Reference, Transaction, Wrong, shown
from workloads.processes import describe_status
from workloads.schedules import ALL, CannotPlay, Death, Played, Result, Stage, Step, first_word

UNSUPPORTED = re.compile(
    r"not (yet |currently )?(supported|implemented|allowed)|unsupported|unimplemented|syntax error|"
    r"parse error|no such function|experimental|near \"|require an exclusive",
    re.IGNORECASE,
)
"""Words by which an engine says that it has not got something."""

CORRUPT = re.compile(r"malformed|corrupt|not a database|short read", re.IGNORECASE)

CURSOR_IN_THE_WAY = re.compile(r"in progress|is locked|statements? (is|are) active", re.IGNORECASE)

ALONE = (("locking_mode", "exclusive"),)
"""Options with which one connection has the file to itself."""

INTEGRITY = "PRAGMA integrity_check"


class Found(NamedTuple):
    """A finding: what is wrong, and the place of the step at which it showed; the number of steps
    where it showed after the last one.
    """

    wrong: Wrong
    at: int
    when: str = ""


@dataclass
class Walk:
    """A program's results while they are judged."""

    played: Played
    reference: Reference
    open: dict[str, Transaction] = field(default_factory=dict)
    pinned: dict[str, int] = field(default_factory=dict)
    wrote: set[str] = field(default_factory=set)
    """Sessions that wrote since their cursor was opened: the rest of its rows proves nothing."""
    halves: dict[str, tuple[Step, Result]] = field(default_factory=dict)
    unsure: bool = False
    unsupported: int = 0
    met: dict[str, bool] = field(default_factory=dict)
    """Session -> whether others were active, or committed, since its transaction began."""

    def _of(self, session: str) -> str:
        return self.played.program.owner(session)

    def _all(self, session: str) -> tuple[str, ...]:
        """The sessions of its connection. Each has a cursor."""
        shared = self.played.program.shared
        return shared if session in shared else (session,)

    def _pinned(self, session: str) -> int | None:
        """The oldest snapshot that an open cursor of its connection keeps."""
        return min((self.pinned[one] for one in self._all(session) if one in self.pinned),
                   default=None)  # fmt: skip

    def _half_read(self, session: str) -> bool:
        return any(one in self.halves for one in self._all(session))

    def judge(self) -> Found | None:
        for at, (step, result) in enumerate(
            zip(self.played.program.steps, self.played.results, strict=False)
        ):
            self._notice(step)
            if wrong := self._plain(step, result) or (
                None if self.unsure else self._by_reference(step, result)
            ):
                return Found(wrong, at)
        if death := self.played.death:
            return Found(died(death), len(self.played.results))
        if self.played.raised and not self._locked_out():
            return Found(connection_raised(self.played.raised), len(self.played.results))
        return None

    def _locked_out(self) -> bool:
        """Whether a connection was refused because another one has the file to itself, as it may
        where the locking mode is exclusive, or there is no write-ahead log.
        """
        options = self.played.program.options
        may = any(one in ALONE or one[0] == "journal_mode" for one in options)
        self.unsure |= may
        return may and bool(CURSOR_IN_THE_WAY.search(self.played.raised))

    # --- judges without a reference ---------------------------------------------------------------

    def _plain(self, step: Step, result: Result) -> Wrong | None:
        text, what = f"{result.error}: {result.message}", str(step)
        if any(name in result.error for name in NO_CLASS_OF_A_DRIVER):
            return Wrong("panic", f"`{what}` raised what no driver raises", "an error of its own",
                         text)  # fmt: skip
        if result.status in ("failed", "ended", "conflict", "unknown") and CORRUPT.search(
            result.message
        ):
            return Wrong("corrupt", f"`{what}` says that the file is not sound", "a sound file",
                         text)  # fmt: skip
        if self.unsure:
            return None  # who is inside a transaction is not followed any more
        held = ("locking_mode", "exclusive") in self.played.program.options
        session = self._of(step.session)
        if result.status == "conflict" and not self.met.get(session, True) and not held:
            alone = f"`{what}` was refused because of another session, and none was at anything"
            return Wrong("needless refusal", alone, "success", text)
        if result.status != "ok":
            return None
        begun = session in self.open
        after = {"begin": True, "commit": False, "rollback": False}.get(step.verb, begun)
        if step.verb not in ("close", "kill") and step.session != ALL and result.inside != after:
            is_in = "is" if result.inside else "is not"
            sentence = f"after `{what}` the session {is_in} in a transaction"
            return Wrong("transaction state", sentence, "inside" if after else "outside")
        return None

    def _notice(self, step: Step) -> None:
        """Whether this session is alone, for the refusals that somebody must be to blame for."""
        mine = self._of(step.session)
        others = (self.open.keys() | set(map(self._of, self.pinned))) - {mine}
        if mine not in self.open:
            self.met[mine] = bool(others) or self._pinned(mine) is not None
        for session in self.open:
            if session != mine:
                self.met[session] = True
        if mine in self.open and others:
            self.met[mine] = True

    # --- the reference ----------------------------------------------------------------------------

    def _by_reference(self, step: Step, result: Result) -> Wrong | None:
        verb, session = step.verb, self._of(step.session)
        if result.status in ("skipped", "cannot"):
            return None
        if verb in ("reopen", "kill") and session == ALL:
            for one in list(self.open):
                self._over(one)
            self.pinned.clear()
            self.halves.clear()
            return None
        if verb == "race":
            return None  # judged by its accounts, and no row of the program's is in it
        if verb in ("close", "kill"):
            self._over(session)
            self._no_cursor(session)
            return None
        if verb == "begin":
            if result.status == "ok":
                # A cursor that is open keeps its snapshot, also for a transaction that begins.
                self.open[session] = self.reference.begin(self._pinned(session))
            return None
        if verb in ("commit", "rollback"):
            return self._ended(step, result)
        if verb == "fetch":
            return self._fetched(step.session, result)
        return self._statement(step, result)

    def _over(self, session: str) -> None:
        if txn := self.open.pop(session, None):
            self.reference.give_up(txn)

    def _no_cursor(self, session: str) -> None:
        for one in self._all(session):
            self._closed(one)

    def _closed(self, cursor: str) -> None:
        self.pinned.pop(cursor, None)
        self.halves.pop(cursor, None)
        self.wrote.discard(cursor)

    def _ended(self, step: Step, result: Result) -> Wrong | None:
        session = self._of(step.session)
        if session not in self.open:
            return None
        if result.status == "failed":
            return self._refused_end(step, result)
        if result.status == "unknown":
            self.unsure = True
        txn = self.open.pop(session)
        # A cursor that is left open outlives its transaction, and keeps its snapshot.
        if result.status not in ("ok", "failed"):
            self._no_cursor(session)
        if step.verb == "commit" and result.status == "ok":
            return self.reference.commit(txn)
        self.reference.give_up(txn)
        return None

    def _refused_end(self, step: Step, result: Result) -> Wrong | None:
        if self._half_read(step.session) or CURSOR_IN_THE_WAY.search(result.message):
            return None
        if "FOREIGN KEY" in result.message.upper() or UNSUPPORTED.search(result.message):
            return None
        return Wrong("error", f"`{step}` raised, and nothing is wrong with it", "success",
                     f"{result.error}: {result.message}")  # fmt: skip

    def _statement(self, step: Step, result: Result) -> Wrong | None:
        session, word = self._of(step.session), first_word(step.text)
        if result.status in ("conflict", "ended"):
            if session in self.open:
                self._no_cursor(session)
            self._over(session)
            return None
        if result.status == "failed" and UNSUPPORTED.search(result.message):
            self.unsupported += 1
            return None
        if (
            result.status == "failed"
            and self._half_read(session)
            and CURSOR_IN_THE_WAY.search(result.message)
        ):
            return None
        if word not in ("select", "pragma"):
            self.wrote.update(self._all(session))
        txn = self.open.get(session)
        if txn is None:
            wrong = self.reference.alone(step, result, self._pinned(session))
        else:
            wrong = self.reference.within(txn, step, result)
        if wrong is None and step.verb == "half" and result.status == "ok" and result.rows:
            self._half(step.session, step, result)
        return wrong

    def _half(self, session: str, step: Step, result: Result) -> None:
        """A cursor is left open, on the newest state or on its transaction's snapshot."""
        self.halves[session] = step, result
        self.wrote.discard(session)
        txn, oldest = self.open.get(self._of(session)), self.reference.newest
        if txn is not None:
            oldest = min((one.version for one in txn.candidates), default=oldest)
            if any(first_word(one.text) not in ("select", "pragma") for one, _ in txn.log):
                self.wrote.add(session)  # it sees writes that are no version yet
        self.pinned[session] = min(oldest, self.pinned.get(session, oldest))

    def _fetched(self, session: str, result: Result) -> Wrong | None:
        half = self.halves.get(session)
        wrote, oldest = session in self.wrote, self.pinned.get(session)
        self._closed(session)
        if half is None or wrote or result.status != "ok":
            return None
        step, first = half
        whole = Result("ok", [*(first.rows or []), *(result.rows or [])])
        txn = self.open.get(self._of(session))
        asked = Step(session, "sql", step.text)
        if txn is not None:
            return self.reference.within(txn, asked, whole)
        return self.reference.alone(asked, whole, oldest)


KILLED = describe_status(-signal.SIGKILL)


def by_others(found: Found) -> bool:
    """Whether a process of sessions was killed, and not by the engine: it is played once more."""
    return found.wrong.judge == "abort" and found.wrong.seen.startswith(KILLED)


def died(death: Death) -> Wrong:
    """An engine that took its process down, or never came back."""
    lines = death.stderr.splitlines()
    last = [
        f"{line} {lines[at + 1]}" if "panicked" in line and at + 1 < len(lines) else line
        for at, line in enumerate(lines)
        if "panicked" in line or "Fatal" in line
    ]
    return Wrong("hang" if death.hung else "abort", "the process of the sessions "
                 + ("never came back" if death.hung else "was taken down"), "an answer",
                 f"{death.how} {' '.join(last[:2])}".strip())  # fmt: skip


def connection_raised(words: str) -> Wrong:
    """An engine that could not open or close a connection, with nothing to hinder it."""
    return Wrong("connection", "a connection could not be opened or closed", "no error", words)


MOST_WORLDS = 24
"""How many of the states that a program may have led to are tried before it is a finding."""


def judge(stage: Stage, played: Played, *, serializable: bool) -> tuple[Found | None, Walk]:
    """Judge a program that was just played on the stage, and its database at the end.

    Where a COMMIT may have led to several states, a finding is one that holds in all of them.
    Closes the sessions. The database is looked at by a new session after all are closed, and after
    it was opened once more.
    """
    end, best = AtTheEnd(stage, played), None
    waiting: list[tuple[int, ...]] = [()]
    try:
        for _ in range(MOST_WORLDS):
            if not waiting:
                break
            choices = waiting.pop(0)
            reference = Reference(played.program, serializable=serializable, choices=choices)
            walk = Walk(played, reference)
            try:
                found = walk.judge()
                if found is None and not played.over:
                    found = end.judge(walk)
            finally:
                for session in list(walk.open):
                    walk._over(session)
                reference.close()
            if found is None:
                return _by_checker(played, end, serializable=serializable), walk
            if best is None or found.at > best[0].at:
                best = found, walk
            waiting += [
                (*choices, *[0] * (place - len(choices)), other)
                for place in range(len(choices), len(reference.several))
                for other in range(1, reference.several[place])
            ]
        assert best is not None
        if waiting:  # too many states to look at each
            best[1].unsure = True
            return None, best[1]
        return best
    finally:
        if not played.over:
            hard = best is not None and best[0].wrong.judge in ("hang", "abort")
            stage.drop() if hard else _close(stage)


def _by_checker(played: Played, end: AtTheEnd, *, serializable: bool) -> Found | None:
    """What the second judge says where the reference has nothing to say."""
    got = end.got[-1] if end.got else {}
    wrong = judge_history(played, got, serializable=serializable)
    return Found(wrong, len(played.program.steps)) if wrong else None


class AtTheEnd:
    """What the database answers at the end: asked once, whatever it is held against."""

    WHEN = ("after all sessions were closed", "after it was opened once more")

    def __init__(self, stage: Stage, played: Played) -> None:
        self.stage, self.played = stage, played
        self.got: list[dict[str, Result]] = []
        self.raced: list[Wrong | None] = []
        self.died: Found | None = None
        self.same = False

    def judge(self, walk: Walk) -> Found | None:
        """What is wrong at the end of this walk."""
        end = len(self.played.program.steps)
        asked = [] if walk.unsure else walk.reference.questions()
        self._ask(asked, end)
        for when, got, raced in zip(self.WHEN, self.got, self.raced, strict=False):
            sound = got[INTEGRITY]
            said = shown(sound.rows) if sound.status == "ok" else sound.message
            if sound.rows != [("ok",)] and not UNSUPPORTED.search(sound.message):
                return Found(Wrong("integrity", INTEGRITY, "ok", said, INTEGRITY), end, when)
            if raced:
                return Found(raced, end, when)
            wrong = walk.reference.answers(asked, [got[sql] for sql in asked])
            if wrong:
                return Found(wrong, end, when)
        return self.died

    def _ask(self, asked: list[str], end: int) -> None:
        if not self.got:
            for when in self.WHEN:
                # Opened once more, the same files would answer the same: nobody asks them.
                if self.died is None and not self.same:
                    self._look(asked, end, when)
        for got in self.got:  # another world may have other tables
            if more := [sql for sql in asked if sql not in got]:
                got |= dict(zip(more, self.stage.ask(more), strict=True))

    def _look(self, asked: list[str], end: int, when: str) -> None:
        try:
            all_asked = [INTEGRITY, *asked]
            looked = self.stage.look(all_asked)
            self.got.append(dict(zip(all_asked, looked.results, strict=True)))
            self.raced.append(_raced(self.stage, self.played) if self.played.accounts else None)
            self.same = looked.same and not self.played.accounts
            if looked.raised:
                self.died = Found(connection_raised(looked.raised), end, when)
        except Death as death:
            self.died = Found(died(death), end, when)
        except CannotPlay as error:
            self.died = Found(connection_raised(str(error)), end, when)


def _raced(stage: Stage, played: Played) -> Wrong | None:
    """What is wrong after a race, by its accounts and by the errors that it met."""
    for account in played.accounts:
        for text in account["errors"]:
            if CORRUPT.search(text):
                return Wrong("corrupt", "a session of the race was told so", "a sound file", text)
            if any(name in text.partition(":")[0] for name in NO_CLASS_OF_A_DRIVER):
                return Wrong("panic", "a session of the race was told so", "no such error", text)
    own, counters = stage.ask(QUESTIONS)
    if own.status != "ok" or counters.status != "ok":
        return Wrong("acknowledged", "the tables of the race cannot be read", "their rows",
                     own.message or counters.message)  # fmt: skip
    return judge_race(played.accounts, own.rows, counters.rows)


def _close(stage: Stage) -> None:
    try:
        stage.close()
    except (Death, CannotPlay):
        stage.drop()
