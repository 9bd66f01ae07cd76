"""A finding of a race as a script that needs nothing but the driver.

The racers and their judge are the hunter's own source, put into the script as it is; around it is
the little that they need of a session. Each group of racers has a process of its own, so that one
that dies or hangs is told as well.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence

from properties.conformance import NO_CLASS_OF_A_DRIVER
from properties.hunter import races, reference
from properties.hunter.judges import CORRUPT, INTEGRITY, Found
from workloads.schedules import Played, in_processes, parse_race, race_source

ROUNDS = 5
"""How many races, each on a new database, a script runs before it says that nothing showed."""

END_S = 10.0
"""How long after a race's end its processes may still take."""

PARTS = (
    reference.Wrong, reference.shown, races.judge_race, races._rows, races._counters,
)  # fmt: skip

CONSTANTS = {"OWN": races.OWN, "COUNTERS": races.COUNTERS, "INTEGRITY": INTEGRITY,
             "NO_CLASS_OF_A_DRIVER": NO_CLASS_OF_A_DRIVER}  # fmt: skip

HEAD = '''"""{title}

Right: {expected}
Seen with {version}: {seen}

Sessions that race: each writes as fast as it can and keeps an account of what it was told; then
the database is held against the accounts. A race is chance: {rounds} of them are run, and one may
show nothing. Found by cwkit. Exits 1 where the bug is there, and 0 where it did not show.
"""

from __future__ import annotations

import os
import pickle
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from random import Random
from typing import NamedTuple

{driver}

MODE, SESSIONS, SECONDS, SEED, APART = {mode!r}, {sessions}, {seconds}, {seed}, {apart}
ROUNDS, END_S, NOT_OPENED = {rounds}, {end_s}, 3
SCHEMA = {schema}
FIRST = {first}
{constants}
CORRUPT = re.compile({corrupt!r}, re.IGNORECASE)
REFUSED = re.compile(r"locked|busy|conflict|snapshot|dependency aborted", re.IGNORECASE)
PATH = os.environ.get("RACE_PATH", "")


class Refusal(NamedTuple):
    outcome: str
    over: bool


class Session:
    """A connection, as the racers use it."""

    def __init__(self):
        self.connection = connect(PATH{arguments})
        for sql in FIRST:
            self.rows(sql)

    def rows(self, sql):
        return [tuple(row) for row in self.connection.execute(sql).fetchall() or []]

    run = rows

    def commit(self):
        self.rows("COMMIT")

    def rollback(self):
        if self.connection.in_transaction:
            self.rows("ROLLBACK")

    def refusal(self, error, phase):
        """What is refused because of others has no effect. Of all else nobody knows."""
        outcome = CONFLICT if REFUSED.search(str(error)) else UNKNOWN
        return Refusal(outcome, not self.connection.in_transaction)

    def close(self):
        self.connection.close()


class Opening:
    def connect(self):
        return Session()


'''

MAIN = '''def part(numbers):
    """The process of some racers: it begins when it is told until when."""
    print("ready", flush=True)
    try:
        until = float(sys.stdin.readline())
        signal.alarm(int(SECONDS + END_S) + 2)  # whatever it hangs at, it ends
        accounts = race(Opening(), numbers, SEED, MODE, until)
    except BaseException as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
        os._exit(NOT_OPENED)
    with open(f"{PATH}-account-{numbers[0]}", "wb") as file:
        pickle.dump(accounts, file)


def raced(groups):
    """A race of processes: their accounts, or what became of one."""
    racing = [
        subprocess.Popen(
            [sys.executable, os.path.abspath(__file__), *sys.argv[1:]],
            env={**os.environ, "RACE_PATH": PATH, "RACE_NUMBERS": ",".join(map(str, group))},
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )
        for group in groups
    ]
    try:
        for process in racing:
            process.stdout.readline()
        until = time.monotonic() + SECONDS
        for process in racing:
            process.stdin.write(f"{until}\\n")
            process.stdin.flush()
        for process in racing:
            try:
                process.communicate(timeout=SECONDS + END_S)
            except subprocess.TimeoutExpired:
                return None, "a session of the race never came back"
            if process.returncode < 0:
                return None, f"a process of the race was ended by signal {-process.returncode}"
            if process.returncode == NOT_OPENED:
                return None, "a connection of the race could not be opened or closed"
            if process.returncode:
                sys.exit(2)
    finally:
        for process in racing:
            process.kill()
            process.wait()
    accounts = []
    for group in groups:
        with open(f"{PATH}-account-{group[0]}", "rb") as file:
            accounts += pickle.load(file)
    return accounts, ""


def wrong():
    """A race on a new database: what is wrong after it, or ""."""
    session = Session()
    for sql in (*SCHEMA, *TABLES):
        session.rows(sql)
    session.close()
    numbers = list(range(SESSIONS))
    accounts, end = raced([[one] for one in numbers] if APART else [numbers])
    if accounts is None:
        return end
    done = sum(one["acknowledged"] for one in accounts)
    print(f"{done} transactions acknowledged, {sum(one['refused'] for one in accounts)} refused")
    for text in (text for one in accounts for text in one["errors"]):
        if CORRUPT.search(text) or any(name in text for name in NO_CLASS_OF_A_DRIVER):
            return text
    session = Session()
    sound = session.rows(INTEGRITY)
    if sound != [("ok",)]:
        return f"{INTEGRITY}: {sound[:5]}"
    found = judge_race(accounts, session.rows(OWN), session.rows(COUNTERS))
    session.close()
    return f"{found.sentence}. Right: {found.expected}. There: {found.seen}" if found else ""


if __name__ == "__main__":
    if PATH:
        part([int(one) for one in os.environ["RACE_NUMBERS"].split(",")])
        sys.exit(0)
    for _ in range(ROUNDS):
        PATH = os.path.join(tempfile.mkdtemp(), "a.db")
        if found := wrong():
            print("THE BUG IS THERE:", found)
            sys.exit(1)
    print("the bug did not show")
'''


def tells_a_race(found: Found, played: Played) -> bool:
    """Whether a finding is one of a race, in which the other steps are chance."""
    steps = played.program.steps
    at_race = found.at >= len(steps) or steps[found.at].verb == "race"
    return at_race and any(step.verb == "race" for step in steps)


def race_script(
    found: Found, played: Played, *, head: dict[str, str], first: Sequence[str], apart: bool
) -> str:
    """The text of the script. It has the race alone, and none of the steps beside it.

    head : title, expected, seen, version, driver, and the arguments of `connect`. first :
    statements that each connection runs first. apart : racers may have processes of their own.
    """
    [text, *_] = [step.text for step in played.program.steps if step.verb == "race"]
    mode, sessions, seconds, seed = parse_race(text)
    constants = "\n".join(f"{name} = {value!r}" for name, value in CONSTANTS.items())
    begun = HEAD.format(
        mode=mode, sessions=sessions, seconds=seconds, seed=seed, rounds=ROUNDS, end_s=END_S,
        apart=in_processes(seed) and apart, schema=list(played.program.schema),
        first=list(first), constants=constants, corrupt=CORRUPT.pattern, **head,
    )  # fmt: skip
    judge = (f"\n\n{inspect.getsource(part)}" for part in PARTS)
    return begun + race_source() + "".join(judge) + "\n\n" + MAIN
