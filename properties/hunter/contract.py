"""The contract before the hunt: what of the adapter contract an engine breaks, kept as findings.

Their judge is "contract". A finding has the calls of the check's sessions as its timeline, and as
its script where the driver alone shows it by plain calls; else the check itself is its method.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from properties.conformance import CHECKS, Check, Outcome, held_to, known_breach, named
from properties.hunter.folder import (
    FINDING,
    PROGRAM,
    REPRO,
    TIMELINE,
    TRIES,
    Kept,
    in_making,
    tried,
)
from properties.hunter.script import NOT_TOLD
from workloads.engines import Identity, Script, find_engine
from workloads.files import write_json

JUDGE, METHOD = "contract", "the check"

BY_THE_ADAPTER = ("conflict", "after-a-conflict", "ordinary-errors", "failed-commit", "no-waiting",
                  "waiting", "path", "opening-errors")  # fmt: skip
"""Checks of what an adapter makes of an error, or of how it opens: plain calls do not tell it."""

HEAD = '''"""{title}

Right: {right}
Seen with {version}: {seen}

Found by cwkit. Exits 1 where the bug is there, 0 where it is not, and 2 where it cannot tell.
"""

import os
import sys
import tempfile


{not_told}
{driver}

PATH = os.path.join(tempfile.mkdtemp(), "a.db")
OPEN, CURSORS, KEPT = {{}}, {{}}, []
KEEP_ERRORS = {keep}  # as an application does that tells of them later


def take(name, verb, sql, params):
    if verb == "open":
        OPEN[name] = connect(PATH)
        OPEN[name].execute("PRAGMA busy_timeout = 0").fetchall()
        return None
    connection = OPEN[name]
    if verb == "in_transaction":
        return bool(connection.in_transaction)
    if verb == "close":
        return connection.close()
    if verb == "rollback" and not connection.in_transaction:
        return None
    sql = {{"begin": "BEGIN {mode}", "commit": "COMMIT", "rollback": "ROLLBACK"}}.get(verb, sql)
    cursor = connection.execute(sql, params)
    if verb == "cursor":
        CURSORS[name] = cursor
        return cursor.fetchone()
    got = [tuple(row) for row in cursor.fetchall() or []]
    return got if verb == "rows" else None


def step(name, verb, sql="", params=()):
    got = error = None
    try:
        got = take(name, verb, sql, params)
    except BaseException as raised:
        error = type(raised).__name__
        print(f"{{name}}: {{sql or verb}} {{params or ''}} !! {{error}}: {{raised}}")
        KEPT.append(raised) if KEEP_ERRORS else None
    else:
        print(f"{{name}}: {{sql or verb}} {{params or ''}} {{got if got is not None else ''}}")
    return got, error


'''


def hold_to_contract(
    folder: Path,
    name: str,
    modes: tuple[str, ...],
    identity: Identity,
    on_outcome: Callable[[], None] = lambda: None,
    checks: Sequence[Check] = (),
) -> Counter[str]:
    """Ask an engine every check in each mode, and keep what it breaks in the hunt's folder.

    Returns how often what is known was seen, by its sentence.
    """
    broken: dict[str, list[tuple[str, Outcome]]] = {}
    known: Counter[str] = Counter()
    for mode, outcome in held_to(name, modes, checks or CHECKS):
        on_outcome()
        if outcome.state != "broken":
            continue
        if breach := known_breach(identity, outcome):
            known[breach.sentence] += 1
        else:
            broken.setdefault(outcome.check, []).append((mode, outcome))
    for found in broken.values():
        _keep(folder, name, identity, found)
        on_outcome()
    return known


def _keep(folder: Path, name: str, identity: Identity, found: list[tuple[str, Outcome]]) -> None:
    """A folder for a broken check, whole or not at all. found : the modes that break it."""
    mode, outcome = found[0]
    with in_making(folder) as making:
        check, calls = named(outcome.check), outcome.calls
        (making / PROGRAM).write_text("---\n", encoding="utf-8")
        lines = [f"{JUDGE}: {check.sentence}", f"right: {outcome.right}", f"seen:  {outcome.seen}"]
        text = "\n".join([*lines, "", *map(str, calls)])
        (making / TIMELINE).write_text(f"{text}\n", encoding="utf-8")
        again, method = _again(making, name, mode, outcome, identity)
        kept = Kept(
            f"{JUDGE}: {check.name}", JUDGE, check.sentence, outcome.right, outcome.seen, "", name,
            *identity[:3], [one for one, _ in found], 0, 0, len(calls), len(calls),
            (again, TRIES), method, check=check.name,
        )  # fmt: skip
        write_json(making / FINDING, msgspec.to_builtins(kept))
        os.rename(making, folder / "findings" / f"{JUDGE}-{check.name}")


def _again(
    making: Path, name: str, mode: str, outcome: Outcome, identity: Identity
) -> tuple[int, str]:
    """How often it shows once more, and by what that was tried."""
    engine = find_engine(name)
    plain = outcome.check not in BY_THE_ADAPTER and not named(outcome.check).slow
    if hasattr(engine, "script") and outcome.calls and plain:
        made: Script = engine.script()
        for keep in (False, True):
            text = script(outcome, mode, made.lines, identity, keep=keep)
            (making / REPRO).write_text(text, encoding="utf-8")
            if tried(making / REPRO, made, 1):
                return tried(making / REPRO, made), REPRO
        (making / REPRO).unlink()
    return sum(again(name, mode, outcome.check, TRIES)), METHOD


def again(name: str, mode: str, check: str, times: int) -> list[bool]:
    """Whether a check is broken, asked some times."""
    found = held_to(name, [mode], [named(check)] * times)
    return [outcome.state == "broken" for _, outcome in found]


def script(outcome: Outcome, mode: str, driver: str, identity: Identity, *, keep: bool) -> str:
    """The calls of a check as a script: the bug is there where the last one answers as it did."""

    def quoted(text: str) -> str:
        return json.dumps(text, ensure_ascii=False)[1:-1].replace('\\"', "'")

    sentence = named(outcome.check).sentence
    lines = [
        f"got, error = step({call.session!r}, {call.verb!r}, {call.sql!r}, {call.params!r})"
        for call in outcome.calls
    ]
    last = outcome.calls[-1]
    head = HEAD.format(
        title=quoted(f"Not so: {sentence}."), right=quoted(outcome.right),
        seen=quoted(outcome.seen), version=" ".join(filter(None, identity[:2])),
        not_told=NOT_TOLD, driver=driver.strip(), keep=keep, mode=mode.upper(),
    )  # fmt: skip
    end = (
        f"bug = (repr(got), error) == ({repr(last.got)!r}, {last.error or None!r})\n"
        'print("THE BUG IS THERE" if bug else "the bug is not there")\n'
        "sys.stdout.flush()\n"
        "os._exit(1 if bug else 0)\n"
    )
    return head + "\n".join(lines) + "\n" + end
