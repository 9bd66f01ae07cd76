"""A state that keeps less than is promised, in a folder of its own: its files, what is wrong with
it, which sectors matter, and a script that needs nothing but the driver.
"""

from __future__ import annotations

import hashlib
import json
import pprint
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from properties.crashes.campaign import Judged, key_of_data
from properties.crashes.commit_order import Content, Expected, expected_of
from properties.crashes.judging import Told
from properties.crashes.opening import DATABASE, write_state
from properties.crashes.reducing import Reduced
from properties.crashes.repro_texts import ACKED, CHECKS, CONTENTS, END, HEAD, ORDER, POSTINGS
from properties.crashes.states import SECTOR, CrashState, Model
from workloads.engines import Script, find_engine
from workloads.errors import RunError
from workloads.files import json_text, visible
from workloads.runs import Plan

STATE, FILES, REPRO = "state.json", "files", "repro.py"

TOLD_BY_SCRIPT = ("integrity", "foreign keys", "torn", "lost", "does not open")
"""Kinds of faults that the script looks for itself. Others need cwkit."""

NAME = re.compile(r"([0-9]{3,})-([a-z-]+)")
"""Of a kept state's folder: its number and its first fault's kind."""

_Count = Annotated[int, msgspec.Meta(ge=0, lt=1 << 53)]


class _Fault(msgspec.Struct):
    kind: str
    sentence: str
    promised: bool


class _Drawn(msgspec.Struct):
    point: _Count
    model: Model
    names: _Count
    pieces: list[tuple[_Count, _Count]]


class _Kept(msgspec.Struct):
    """What has to be in a state.json."""

    document: Literal["crash state"]
    plan: dict[str, Any]
    faults: list[_Fault]
    state: _Drawn
    drawn_as: _Drawn
    missing: _Count
    there: _Count
    acked: list[tuple[_Count, _Count, _Count]]
    worked: list[tuple[_Count, _Count, _Count]]
    foreign_keys: bool = True


@dataclass(frozen=True, slots=True)
class KeptState:
    """A kept state, read. told : all of its state.json."""

    folder: Path
    files: dict[str, bytes]
    told: dict[str, Any]


def keep_state(
    folder: Path, judged: Judged, reduced: Reduced, files: Mapping[str, bytes], told: Told,
    plan: Plan, expected: Expected | None = None, foreign: bool = True,
) -> Path:  # fmt: skip
    """Write it into a new folder, which is returned: whole or not at all.

    expected : what may be there, of a scenario that does not tell its transactions apart. foreign :
    whether its engine can be asked for foreign keys.
    """
    whole, folder = folder, folder.with_name(f".{folder.name}.new")
    shutil.rmtree(folder, ignore_errors=True)  # of one that was interrupted
    (folder / FILES).mkdir(parents=True)
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
    if expected is not None:
        data["expected"] = expected.data()
    data["foreign_keys"] = foreign
    (folder / STATE).write_text(json_text(data) + "\n", encoding="utf-8")
    if (made := getattr(engine, "script", None)) is not None and (
        expected is not None or plan.scenario == "ledger"
    ):
        kinds = sorted({f.kind for f in judged.promised} & set(TOLD_BY_SCRIPT))
        if kinds:
            text = _script(made(), judged, reduced, told, plan, kinds, version, expected, foreign)
            (folder / REPRO).write_text(text, encoding="utf-8")
    return folder.rename(whole)


def kept_in(states: Path) -> list[Path]:
    """The folders of the states that were kept whole, by their numbers."""
    found = [path for path in states.glob("*") if NAME.fullmatch(path.name)]
    return sorted(found, key=lambda path: (number_of(path), path.name))


def number_of(path: Path) -> int:
    """The number of a kept state, by its folder's name."""
    return int(path.name.partition("-")[0])


def drawn_key(kept: KeptState) -> str:
    """What tells the state as it was drawn from any other of its recording."""
    drawn = kept.told["drawn_as"]
    return key_of_data(drawn["point"], drawn["model"], drawn["names"], drawn["pieces"])


def plan_of(kept: KeptState) -> Plan:
    """The plan of the run that it is of. Raises RunError."""
    try:
        return Plan(**kept.told["plan"])
    except (ValueError, TypeError) as error:
        raise RunError(
            f"{kept.folder}: its plan is none. It was cut or edited. `cwkit crash` keeps it anew."
        ) from error


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


def expected_in(kept: KeptState) -> Expected | None:
    """What may be there, None where the scenario tells its transactions apart. Raises RunError."""
    if "expected" not in kept.told:
        return None
    try:
        return expected_of(kept.told["expected"])
    except (KeyError, TypeError, ValueError) as error:
        raise RunError(
            f"{kept.folder}: what may be there is not to be read ({error}). Keep it anew: cwkit "
            "crash makes it."
        ) from error


def _script(
    made: Script, judged: Judged, reduced: Reduced, told: Told, plan: Plan, kinds: list[str],
    version: str, expected: Expected | None, foreign: bool,
) -> str:  # fmt: skip
    title = f"{plan.write_engine}: {judged.promised[0].kind} after a crash"
    crash = (
        f"after record {reduced.state.point} of its log, {reduced.missing} sectors of those that "
        f"no sync covered are missing and {reduced.there} are there"
    )
    head = HEAD.format(
        title=title, crash=crash, wrong=judged.promised[0].sentence.replace('"', "'"),
        version=version, driver=made.lines.strip(), files=FILES, kinds=kinds, database=DATABASE,
    )  # fmt: skip
    head += f"FIRST = {_first(plan)!r}\nFOREIGN = {foreign}\n"
    if expected is None:
        acked = pprint.pformat(sorted(told.acked))
        return f"{head}{ACKED.format(acked=acked)}{CHECKS}{POSTINGS}{END}"
    return f"{head}{_order(expected)}{CHECKS}{CONTENTS}{END}"


def _order(expected: Expected) -> str:
    order = [brief(one.content) for one in expected.contents[: expected.visible + 1]]
    least = min(max([*expected.claims, expected.least]), expected.visible)
    return ORDER.format(order=pprint.pformat(order, width=100), least=least)


def brief(content: Content) -> str:
    """A content in 16 letters, as the script has it too."""
    text = "".join(f"{name}:{rows}:{digest};" for name, (rows, digest) in sorted(content.items()))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _first(plan: Plan) -> list[str]:
    """The statements that a connection runs first: the journal mode, where the run gave one."""
    return [f"PRAGMA journal_mode = {plan.journal_mode}"] if plan.journal_mode else []


def read_state(folder: Path) -> KeptState:
    """A kept state from its folder. Raises RunError. It is data: nothing of it is run."""
    try:
        told = json.loads((folder / STATE).read_text(encoding="utf-8"))
        msgspec.convert(told, _Kept)
        files = {
            str(path.relative_to(folder / FILES)): path.read_bytes()
            for path in sorted((folder / FILES).rglob("*"))
            if path.is_file() and not path.is_symlink()
        }
    except (OSError, ValueError, RecursionError) as error:
        why = error.strerror if isinstance(error, OSError) else visible(error)
        raise RunError(
            f"{folder}: no kept crash state ({why}). Give a folder of a campaign's states/; where "
            "it is one, and was cut or edited, remove it: cwkit crash --into keeps it anew."
        ) from error
    return KeptState(folder, files, told)
