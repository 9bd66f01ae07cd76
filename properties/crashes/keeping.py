"""A state that keeps less than is promised, in a folder of its own: its files, what is wrong with
it, which sectors matter, and a script that needs nothing but the driver.
"""

from __future__ import annotations

import json
import pprint
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from properties.crashes.campaign import Judged
from properties.crashes.judging import Told
from properties.crashes.opening import DATABASE, write_state
from properties.crashes.reducing import Reduced
from properties.crashes.states import SECTOR, CrashState
from workloads.engines import Script, find_engine
from workloads.errors import RunError
from workloads.files import json_text
from workloads.runs import Plan

STATE, FILES, REPRO = "state.json", "files", "repro.py"

HEAD = '''"""{title}

The files beside this script, in {files}/, are what a crash left: {crash}.
Wrong: {wrong}
Seen with {version}.

Found by cwkit crash. Exits 1 where it is still so, 0 where it is not, and 2 where it cannot tell.
"""

import os
import shutil
import sys
import tempfile

{driver}

# What the writers had been told when the crash came: (writer, number) of the last transactions
# that were acknowledged, and how many there were.
ACKED = {acked}
KINDS = {kinds}

HERE = os.path.join(os.path.dirname(os.path.abspath(__file__)), {files!r})
FOLDER = tempfile.mkdtemp()
PATH = os.path.join(FOLDER, {database!r})
'''

BODY = '''

def rows(connection, sql):
    return [tuple(row) for row in connection.execute(sql).fetchall() or []]


def leave(status, said):
    print(said)
    sys.stdout.flush()
    shutil.rmtree(FOLDER, ignore_errors=True)
    os._exit(status)


def looked():
    """What is wrong with the database, [] where nothing is."""
    wrong = []
    connection = connect(PATH)
    for sql in FIRST:
        rows(connection, sql)
    integrity = [row[0] for row in rows(connection, "PRAGMA integrity_check")]
    if integrity != ["ok"]:
        wrong.append("integrity: " + "; ".join(map(str, integrity[:3])))
    def numbers(sql):
        for row in rows(connection, sql):
            if all(isinstance(value, int) for value in row):
                yield row
            else:
                wrong.append(f"torn: a row that holds no numbers: {row}")

    entries = {(w, n): (parts, amount) for w, n, parts, amount in numbers(
        "SELECT writer, number, parts, amount FROM entry")}
    found = {}
    for w, n, position, amount in numbers("SELECT writer, number, position, amount FROM part"):
        found.setdefault((w, n), []).append((position, amount))
    whole = {key for key, (parts, amount) in entries.items()
             if sorted(p for p, _ in found.get(key, [])) == list(range(parts))
             and sum(a for _, a in found.get(key, [])) == amount}
    if torn := sorted((entries.keys() | found.keys()) - whole):
        wrong.append(f"torn: transactions {torn[:5]}")
    if lost := sorted(set(ACKED) - whole):
        wrong.append(f"lost: acknowledged transactions {lost[:5]}")
    changes = rows(connection, "SELECT sum(changes) FROM account")[0][0] or 0
    if changes != sum(map(len, found.values())):
        wrong.append(f"torn: {changes} changes of accounts, {sum(map(len, found.values()))} rows")
    return wrong


def main():
    for name in os.listdir(HERE):
        shutil.copy(os.path.join(HERE, name), os.path.join(FOLDER, name))
    try:
        wrong = looked()
    except BaseException as error:
        wrong = [f"does not open: {type(error).__name__}: {error}"]
    for one in wrong:
        print(one)
    kinds = {one.partition(":")[0] for one in wrong}
    if set(KINDS) & kinds:
        leave(1, "STILL SO")
    leave(0, "it is not so")


main()
'''

TOLD_BY_SCRIPT = ("integrity", "torn", "lost", "does not open")
"""Kinds of faults that the script looks for itself. Others need cwkit."""


@dataclass(frozen=True, slots=True)
class KeptState:
    """A kept state, read. told : all of its state.json."""

    folder: Path
    files: dict[str, bytes]
    told: dict[str, Any]


def keep_state(
    folder: Path, judged: Judged, reduced: Reduced, files: Mapping[str, bytes], told: Told,
    plan: Plan,
) -> Path:  # fmt: skip
    """Write it into a new folder, which is returned."""
    folder.mkdir(parents=True)
    (folder / FILES).mkdir()
    write_state(files, folder / FILES)
    engine = find_engine(plan.write_engine)
    version = engine.identity().version
    data = {
        "cwkit": 1,
        "document": "crash state",
        "plan": plan.model_dump(mode="json"),
        "version": version,
        "faults": [
            {"kind": one.kind, "sentence": one.sentence, "promised": one.promised}
            for one in judged.faults
        ],
        "state": state_data(reduced.state),
        "drawn_as": state_data(judged.state),
        "missing": reduced.missing,
        "there": reduced.there,
        "opened": reduced.opened,
        "acked": [[*posting, at] for posting, at in sorted(told.acked.items())],
        "worked": [[*posting, at] for posting, at in sorted(told.worked.items())],
    }
    (folder / STATE).write_text(json_text(data) + "\n", encoding="utf-8")
    if (made := getattr(engine, "script", None)) is not None and plan.scenario == "ledger":
        kinds = sorted({f.kind for f in judged.promised} & set(TOLD_BY_SCRIPT))
        if kinds:
            text = _script(made(), judged, reduced, told, plan, kinds, version)
            (folder / REPRO).write_text(text, encoding="utf-8")
    return folder


def state_data(state: CrashState) -> dict[str, Any]:
    """As plain data: every sector that is there by its write's record."""
    return {
        "point": state.point,
        "model": state.model,
        "names": state.names,
        "sector_bytes": SECTOR,
        "pieces": sorted(state.pieces),
    }


def sentence_of(kept: KeptState) -> str:
    """What is wrong with a kept state, and which sectors matter, in one line."""
    told = kept.told
    first = next((one for one in told["faults"] if one["promised"]), {"kind": "", "sentence": ""})
    few = f"{told['missing']} sectors missing and {told['there']} there of what no sync covered"
    return f"{first['kind']}: {first['sentence']} ({few})"


def told_of(kept: KeptState) -> Told:
    """What the writers had done when the crash came, by the numbers of their notes."""
    acked, worked = (
        {(int(writer), int(number)): int(at) for writer, number, at in kept.told[name]}
        for name in ("acked", "worked")
    )
    return Told(worked, acked)


def _script(
    made: Script, judged: Judged, reduced: Reduced, told: Told, plan: Plan, kinds: list[str],
    version: str,
) -> str:  # fmt: skip
    title = f"{plan.write_engine}: {judged.promised[0].kind} after a crash"
    crash = (
        f"after record {reduced.state.point} of its log, {reduced.missing} sectors of those that "
        f"no sync covered are missing and {reduced.there} are there"
    )
    head = HEAD.format(
        title=title, files=FILES, crash=crash, wrong=judged.promised[0].sentence.replace('"', "'"),
        version=version, driver=made.lines.strip(), acked=pprint.pformat(sorted(told.acked)),
        kinds=kinds, database=DATABASE,
    )  # fmt: skip
    return f"{head}FIRST = {_first(plan)!r}\n{BODY}"


def _first(plan: Plan) -> list[str]:
    """The statements that a connection runs first: the journal mode, where the run gave one."""
    return [f"PRAGMA journal_mode = {plan.journal_mode}"] if plan.journal_mode else []


def read_state(folder: Path) -> KeptState:
    """A kept state from its folder. Raises RunError. It is data: nothing of it is run."""
    try:
        told = json.loads((folder / STATE).read_text(encoding="utf-8"))
        if told["document"] != "crash state":
            raise ValueError("another kind of document")
        files = {
            str(path.relative_to(folder / FILES)): path.read_bytes()
            for path in sorted((folder / FILES).rglob("*"))
            if path.is_file() and not path.is_symlink()
        }
        for part in ("plan", "acked", "worked", "state"):
            told[part]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(
            f"{folder}: no kept crash state ({error}). Give a folder of a campaign's states/."
        ) from error
    return KeptState(folder, files, told)
