"""Bridges and the kit's checks: the sound one keeps the contract, and each broken one is caught by
a check that knew nothing of bridges.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from properties.conformance.classics import CLASSICS
from properties.conformance.contract import CHECKS, asked, named
from properties.conformance.judge import judge, promised, run_schedule
from properties.conformance.known_deviations import known_breach, known_breaches
from workloads.engines import Identity, find_engine, trust
from workloads.files import ROOT

SOUND = ROOT / "examples" / "bridges" / "sqlite3_bridge.py"
QUICK = [one.name for one in CHECKS if not one.slow]

RUN = "def run(sql, params=()):\n"
BEGIN = """        run(f"BEGIN {request['mode'].upper()}")\n"""
EXECUTE = "    cursor = database.execute(sql, [value(one) for one in params])\n"

READS_STALE = f"""def run(sql, params=()):
    if sql.startswith("SELECT") and (sql, *map(str, params)) in seen:
        return seen[(sql, *map(str, params))]
    found = really_run(sql, params)
    if sql.startswith("SELECT"):
        seen[(sql, *map(str, params))] = found
    return found


seen = {{}}


{RUN.replace("run", "really_run")}"""

COMMITS_EARLY = f"""def run(sql, params=()):
    found = really_run(sql, params)
    if sql.startswith("UPDATE") and database.in_transaction:
        really_run("COMMIT")
        really_run("BEGIN")
    return found


{RUN.replace("run", "really_run")}"""

WAITS_FOR_EVER = """    import time
    while True:
        try:
            cursor = database.execute(sql, [value(one) for one in params])
            break
        except sqlite3.OperationalError as error:
            if "locked" not in str(error):
                raise
            time.sleep(0.01)
"""

BEGINS_ANEW = """    try:
        cursor = database.execute(sql, [value(one) for one in params])
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode != sqlite3.SQLITE_BUSY_SNAPSHOT:
            raise
        database.execute("ROLLBACK")
        database.execute("BEGIN")
        cursor = database.execute(sql, [value(one) for one in params])
"""


def bridge(folder: Path, old: str = "", new: str = "", more: str = "") -> str:
    """The name of an engine by the reference's program with a change."""
    text = SOUND.read_text(encoding="utf-8")
    assert not old or text.count(old) == 1
    (folder / "program.py").write_text(text.replace(old, new) if old else text, encoding="utf-8")
    (folder / "mine.py").write_text(
        "from workloads.engines import Bridge, BridgeLimits\n\n\nclass Mine(Bridge):\n"
        f"    command = ({sys.executable!r}, '-S', '-E', 'program.py')\n    {more}\n"
    )
    trust(folder / "mine.py")
    return f"{folder / 'mine.py'}:Mine"


def states(name: str, folder: Path, checks: list[str]) -> dict[str, str]:
    """What the checks of the contract come to, by their names."""
    engine, found = find_engine(name), {}
    for check in checks:
        (place := folder / check).mkdir()
        outcome = asked(named(check), name, engine, "immediate", place / "a.db")
        found[check] = f"{outcome.state} {outcome.seen}".strip()
    return found


def test_a_sound_bridge_keeps_the_contract(tmp_path: Path) -> None:
    found = states(bridge(tmp_path), tmp_path, QUICK)
    assert {check for check, state in found.items() if state != "kept"} == {
        "named-parameters", "returning-half-read", "cursor-dropped",
    }, found  # fmt: skip
    assert not [state for state in found.values() if not state.startswith(("kept", "not asked"))]


@pytest.mark.slow
def test_node_s_package_breaks_of_the_contract_what_is_known_and_no_more(tmp_path: Path) -> None:
    trust(name := f"{SOUND.parent / 'engines.py'}:Node")
    engine = find_engine(name)
    if (why := engine.missing()) is not None:
        pytest.skip(why)
    for check in QUICK:
        (place := tmp_path / check).mkdir()
        outcome = asked(named(check), name, engine, "deferred", place / "a.db")
        breach = known_breach(engine.identity(), outcome)
        assert (outcome.state == "broken") == (breach is not None), outcome


def test_node_s_package_is_not_taken_for_python_s_of_the_same_name() -> None:
    for binding, first in {
        "libsql 0.1.11": "error-classes",
        "libsql-experimental 0.0.55, over HTTP": "error-classes",
        "libsql 0.5.29 of Node v20.20.2, by node x.mjs": "text-with-nul",
    }.items():
        assert known_breaches(Identity(binding, "3.45.1", "", ()))[0].check == first


CAUGHT = {
    "seen-at-once": (RUN, READS_STALE, ""),
    "isolated-until-commit": (RUN, COMMITS_EARLY, ""),
    "no-waiting": (EXECUTE, WAITS_FOR_EVER, "limits = BridgeLimits(answer_s=0.5)"),
}


@pytest.mark.parametrize("check", list(CAUGHT))
def test_a_broken_bridge_breaks_the_contract(check: str, tmp_path: Path) -> None:
    state = states(bridge(tmp_path, *CAUGHT[check]), tmp_path, [check])[check]
    assert state.startswith("broken"), state


def test_a_bridge_that_hides_a_conflict_by_beginning_anew_loses_an_update(tmp_path: Path) -> None:
    lost = CLASSICS["P4"].schedule
    for change in ((), (EXECUTE, BEGINS_ANEW)):
        (folder := tmp_path / f"{len(change)}").mkdir()
        name = bridge(folder, *change)
        found = judge(run_schedule(name, "deferred", lost), promised(find_engine(name), "deferred"))
        assert bool(found.wrong) == bool(change), found.wrong
        assert ("lost-update" in found.anomalies) == bool(change)
