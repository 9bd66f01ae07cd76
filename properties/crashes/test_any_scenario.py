"""Campaigns of scenarios that do not tell their transactions apart: judged by their contents."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from properties.crashes import MODELS, Asked, Crashed, crash, look_again, read_kept, resume
from properties.crashes.keeping import REPRO
from properties.crashes.recorded_run import CONTENTS
from workloads.engines import trust
from workloads.errors import EngineMissing, PlanError, UnknownName
from workloads.processes import fault_library
from workloads.runs import make_plan
from workloads.scenarios import with_texts

try:
    fault_library()
except EngineMissing as reason:
    pytestmark = pytest.mark.skip(reason=str(reason))

FILES = {
    "schema.sql": "CREATE TABLE customer(id INTEGER PRIMARY KEY, spent INTEGER NOT NULL);\n"
    "CREATE TABLE sale(id INTEGER PRIMARY KEY AUTOINCREMENT, amount REAL,\n"
    "  customer INTEGER NOT NULL REFERENCES customer(id));\n"
    "CREATE TABLE last(word TEXT PRIMARY KEY, n INTEGER) WITHOUT ROWID;\n"
    "INSERT INTO customer VALUES (1, 0), (2, 0), (3, 0);\nINSERT INTO last VALUES ('a', 0);\n",
    "sell.sql": "\\set who random(1, 3)\n\\set amount random(1, 99)\nBEGIN;\n"
    "UPDATE customer SET spent = spent + :amount WHERE id = :who;\n"
    "INSERT INTO sale(customer, amount) VALUES (:who, :amount);\n"
    "UPDATE last SET n = n + 1;\nEND;\n",
    "check.sql": "SELECT id FROM customer c WHERE spent <> "
    "(SELECT coalesce(sum(amount), 0) FROM sale WHERE customer = c.id);\n"
    "SELECT n FROM last WHERE n < :changed;\n",
}


def sql(folder: Path, engine: str = "sqlite") -> dict[str, Any]:
    """The values of a plan of one's own scripts, without what is an experiment in Turso."""
    for name, text in FILES.items():
        if engine == "turso":
            text = text.replace(" WITHOUT ROWID", "").replace(" AUTOINCREMENT", "")
        (folder / name).write_text(text, encoding="utf-8")
    given = {
        "schema_sql": str(folder / "schema.sql"), "tx": [str(folder / "sell.sql")],
        "check_sql": str(folder / "check.sql"),
    }  # fmt: skip
    return {"scenario": "sql", "params": with_texts(given)}


def crashed(
    folder: Path, states: int = 10, models: tuple[str, ...] = MODELS, **asked: Any
) -> Crashed:
    """A small campaign: a writer of 3 transactions."""
    reduce = asked.pop("reduce", False)
    values: dict[str, Any] = {
        "scenario": "bank", "database": "sqlite", "begin": "immediate", "synchronous": "full",
        "writers": 1, "readers": 0, "transactions": 3, "duration_s": 60, "warmup_s": 0,
        "wal_autocheckpoint": 20, "params": {"rows": 50},
    }  # fmt: skip
    return crash(make_plan(**values | asked), folder, Asked(states, reduce=reduce, models=models))


def kinds(found: Crashed) -> set[str]:
    return {fault.kind for one in found.campaign.broken() for fault in one.promised}


def test_a_sound_engine_keeps_each_content_that_it_acknowledged(tmp_path: Path) -> None:
    found = crashed(tmp_path / "c", writers=2)
    assert not found.unexplained and not found.campaign.broken()
    data = found.data()
    assert data["contents"] == data["acknowledged"] + 1 == 7 and not data["notes"]
    assert all(one.lost == 0 for one in found.campaign.judged)


BROKEN = [("faulty-early-ack", "lost"), ("faulty-torn-read", "torn"), ("faulty-forgets", "lost")]


@pytest.mark.parametrize(("engine", "kind"), BROKEN)
def test_a_broken_engine_is_caught_by_name(tmp_path: Path, engine: str, kind: str) -> None:
    found = crashed(tmp_path / "c", 6, ("kill",), database=engine)
    assert kind in kinds(found)


@pytest.mark.slow
@pytest.mark.parametrize(("engine", "kind"), BROKEN)
@pytest.mark.parametrize("scenario", ["bank", "sql", "ingest"])
def test_it_is_caught_in_each_scenario_beside_other_writers(
    tmp_path: Path, scenario: str, engine: str, kind: str
) -> None:
    own = sql(tmp_path) if scenario == "sql" else {"scenario": scenario}
    how = {"writers": 4, "transactions": 12, "database": engine} | own
    assert kind in kinds(crashed(tmp_path / "c", 30, ("kill",), **how))


def test_ones_own_scripts_are_judged_and_a_lie_is_shown_by_a_script_and_seen_again(
    tmp_path: Path,
) -> None:
    found = crashed(
        tmp_path / "c", states=4, models=("strict",), fault="sync:*:1+:lie", reduce=True,
        **sql(tmp_path),
    )  # fmt: skip
    assert kinds(found) == {"lost"}
    kept = read_kept(found.kept[0])
    assert any(one.kind == "lost" for one in look_again(kept, tmp_path))
    done = subprocess.run(
        [sys.executable, str(found.kept[0] / REPRO)],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 1 and "STILL SO" in done.stdout, done.stdout + done.stderr
    assert "lost: it holds content 0" in done.stdout


MINE = """
from workloads.engines import Faulty, PassingSession
from workloads.scenarios.bank import Bank
from pathlib import Path
import sqlite3


class Orphans(Faulty):
    '''Forgets a row that others refer to, when it recovers a log.'''

    name = "orphans"
    Session = PassingSession

    def connect(self, path, *, begin="deferred", settings=None):
        log = Path(f"{path}-wal")
        if log.exists() and log.stat().st_size and not Path(f"{path}-shm").exists():
            with sqlite3.connect(path) as connection:
                some = "SELECT customer FROM sale LIMIT 1"
                connection.execute(f"DELETE FROM customer WHERE id = ({some})")
            connection.close()
        return super().connect(path, begin=begin, settings=settings)


class Misnamed(Bank):
    name = "misnamed"

    def holds(self, session):
        return [wrong for wrong in nothing_of_this_name]


class Strict(Bank):
    '''Fails on money that it does not know what to do with.'''

    name = "strict"

    def holds(self, session):
        total = session.rows("SELECT sum(balance) FROM account")[0][0]
        return {self.total: []}[total]


class Asks(Bank):
    '''Asks for a table that is not there.'''

    name = "asks"

    def holds(self, session):
        try:
            return [str(row) for row in session.rows("SELECT * FROM elsewhere")]
        except Exception as error:
            raise RuntimeError("no table of mine") from error
"""


def mine(folder: Path, name: str) -> str:
    (folder / "mine.py").write_text(MINE, encoding="utf-8")
    trust(folder / "mine.py")
    return f"{folder / 'mine.py'}:{name}"


def test_a_row_that_refers_to_none_is_caught_where_the_engine_keeps_its_keys(
    tmp_path: Path,
) -> None:
    how = {"transactions": 2, "pragma": "foreign_keys=on"} | sql(tmp_path)
    found = crashed(tmp_path / "c", 4, ("kill",), database=mine(tmp_path, "Orphans"), **how)
    assert "foreign keys" in kinds(found)
    assert not crashed(tmp_path / "d", 4, ("kill",), **how).campaign.broken()


SILENT = """
from workloads.engines import Faulty, PassingSession


class SilentSession(PassingSession):
    def rows(self, sql, params=()):
        return [] if "foreign_key_check" in sql else self.real.rows(sql, params)


class Silent(Faulty):
    '''Takes PRAGMA foreign_key_check and looks at nothing.'''

    name = "silent"
    Session = SilentSession


class RefusingSession(PassingSession):
    def rows(self, sql, params=()):
        if "foreign_key_check" in sql:
            raise RuntimeError("no such pragma")
        return self.real.rows(sql, params)


class Refusing(Faulty):
    '''Has no PRAGMA foreign_key_check.'''

    name = "refusing"
    Session = RefusingSession
"""


@pytest.mark.parametrize(
    ("name", "words"),
    [("Silent", "finds no row that refers to none"), ("Refusing", "RuntimeError: no such pragma")],
)
def test_an_engine_that_does_not_check_foreign_keys_is_told_and_not_broken(
    tmp_path: Path, name: str, words: str
) -> None:
    (tmp_path / "silent.py").write_text(SILENT, encoding="utf-8")
    trust(tmp_path / "silent.py")
    engine = f"{tmp_path / 'silent.py'}:{name}"
    found = crashed(tmp_path / "c", 2, ("kill",), database=engine, transactions=1)
    (note,) = found.data()["notes"]
    assert note.startswith("foreign keys were not asked for") and words in note
    assert not found.campaign.broken()


def test_a_mistake_in_a_scenario_is_told_before_the_states_and_may_be_mended(
    tmp_path: Path,
) -> None:
    name = mine(tmp_path, "Misnamed")
    words = r"its own code fails .*mine\.py:\d+: NameError: name 'nothing_of_this_name'.*--into"
    with pytest.raises(PlanError, match=words):
        crashed(tmp_path / "c", scenario=name, transactions=2)
    text = MINE.replace("nothing_of_this_name", "[]")
    (tmp_path / "mine.py").write_text(text, encoding="utf-8")
    assert not resume(tmp_path / "c").campaign.broken()


def test_what_a_scenario_makes_of_nonsense_is_not_the_engines_word(tmp_path: Path) -> None:
    name = mine(tmp_path, "Strict")
    # Half a transaction is there between two acknowledgements alone.
    torn = crashed(tmp_path / "c", 100, ("kill",), scenario=name, database="faulty-torn-read",
                   transactions=3)  # fmt: skip
    told = [fault for one in torn.campaign.broken() for fault in one.promised]
    assert {"nonsense read"} <= {fault.kind for fault in told}
    assert any("mine.py" in fault.sentence and "KeyError" in fault.sentence for fault in told)
    with pytest.raises(PlanError, match=r"at no moment .* OperationalError: no such table: else"):
        crashed(tmp_path / "d", 2, ("kill",), scenario=mine(tmp_path, "Asks"), transactions=2)


def test_a_file_that_a_campaign_names_is_not_run_unless_somebody_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = mine(tmp_path, "Orphans")
    crashed(tmp_path / "c", 2, ("kill",), database=engine, transactions=1, scenario="ledger")
    monkeypatch.delenv("CWKIT_USER_FILES")
    with pytest.raises(UnknownName, match=r"mine\.py:Orphans. is a file, and a file is"):
        resume(tmp_path / "c")


def test_a_search_for_the_order_goes_on_where_it_was(tmp_path: Path) -> None:
    whole = crashed(tmp_path / "c", states=4)
    path = tmp_path / "c" / CONTENTS
    lines = path.read_text().splitlines()
    path.write_text("\n".join(lines[:6]) + '\n{"record": 5, "fi')
    again = resume(tmp_path / "c")
    assert again.data()["models"] == whole.data()["models"]
    told = [line for line in path.read_text().splitlines() if line]
    records = [json.loads(line)["record"] for line in told if line.endswith("}")]
    assert len(records) == len(set(records)) and len(records) >= 7


def test_an_interrupt_while_the_order_is_sought_keeps_what_was_found(tmp_path: Path) -> None:
    plan = make_plan(scenario="bank", database="sqlite", writers=1, readers=0, transactions=4,
                     duration_s=60, warmup_s=0)  # fmt: skip

    def interrupt(known: int, asked: int) -> None:
        if known == 3:
            raise KeyboardInterrupt

    found = crash(plan, tmp_path / "c", Asked(4, reduce=False), on_opened=interrupt)
    assert found.campaign.interrupted and not found.campaign.judged
    assert (tmp_path / "c" / CONTENTS).exists()
    again = resume(tmp_path / "c")
    assert not again.campaign.interrupted and again.campaign.judged


EVERYWHERE = [
    ("libsql", "immediate"), ("sqlite-latest", "exclusive"), ("sqlite", "deferred"),
    ("sqlite-concurrent", "concurrent"), ("turso", "immediate"), ("turso", "concurrent"),
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("synchronous", ["full", "normal"])
@pytest.mark.parametrize(("engine", "begin"), EVERYWHERE)
@pytest.mark.parametrize("scenario", ["bank", "sql"])
def test_sound_engines_are_silent(
    tmp_path: Path, scenario: str, engine: str, begin: str, synchronous: str
) -> None:
    own = sql(tmp_path, engine) if scenario == "sql" else {}
    found = crashed(
        tmp_path / "c", states=40, writers=4, transactions=20, database=engine, begin=begin,
        synchronous=synchronous, **own,
    )  # fmt: skip
    assert not found.unexplained
    assert not found.campaign.broken(), [one.promised for one in found.campaign.broken()][:3]
    assert any(one.lost for one in found.campaign.judged) == (synchronous == "normal")


@pytest.mark.slow
@pytest.mark.parametrize("scenario", ["bank", "sql", "ingest"])
def test_off_may_lose_and_a_sync_that_lies_does(tmp_path: Path, scenario: str) -> None:
    own = sql(tmp_path) if scenario == "sql" else {"scenario": scenario}
    off = crashed(tmp_path / "off", synchronous="off", states=20, writers=4, **own)
    assert not off.campaign.broken()
    assert any(one.lost for one in off.campaign.by_model()["strict"])
    assert not any(one.lost for one in off.campaign.by_model()["kill"])
    lie = crashed(tmp_path / "lie", models=("strict",), fault="sync:*:1+:lie", writers=4, **own)
    assert kinds(lie) == {"lost"}


SCRIPTS = {
    "toggle": "BEGIN;\nUPDATE flag SET n = 1 - n WHERE id = 1;\nEND;\n",
    "nothing": "BEGIN;\nUPDATE flag SET n = n WHERE id = 2;\nEND;\n",
    "read": "BEGIN;\nSELECT count(*) FROM flag;\nEND;\n",
    "twice": "BEGIN;\nUPDATE flag SET n = n + 1 WHERE id = 3;\nEND;\n"
    "BEGIN;\nINSERT INTO log(n) VALUES (1);\nEND;\n",
    "alone": "UPDATE flag SET n = n + 1 WHERE id = 4;\nINSERT INTO log(n) VALUES (2);\n",
}
FLAGS = (
    "CREATE TABLE flag(id INTEGER PRIMARY KEY, n INTEGER NOT NULL);\n"
    "CREATE TABLE log(id INTEGER PRIMARY KEY, n INTEGER);\n"
    "INSERT INTO flag VALUES (1, 0), (2, 0), (3, 0), (4, 0);\n"
)


@pytest.mark.slow
@pytest.mark.parametrize("scripts", [("toggle", "nothing", "read"), ("twice",), ("alone",)])
@pytest.mark.parametrize(("engine", "begin"), [("sqlite", "immediate"), ("turso", "concurrent")])
def test_what_changes_nothing_is_undone_or_has_several_parts_breaks_nothing(
    tmp_path: Path, engine: str, begin: str, scripts: tuple[str, ...]
) -> None:
    (tmp_path / "flags.sql").write_text(FLAGS, encoding="utf-8")
    for name in scripts:
        (tmp_path / f"{name}.sql").write_text(SCRIPTS[name], encoding="utf-8")
    tx = [str(tmp_path / f"{name}.sql") for name in scripts]
    found = crashed(
        tmp_path / "c", states=40, writers=4, transactions=12, database=engine, begin=begin,
        scenario="sql", params=with_texts({"schema_sql": str(tmp_path / "flags.sql"), "tx": tx}),
    )  # fmt: skip
    assert not found.campaign.broken(), [one.promised for one in found.campaign.broken()][:3]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("journal", "level", "loses"), [("delete", "full", True), ("delete", "extra", False),
                                    ("truncate", "full", False), ("persist", "full", False)],
)  # fmt: skip
def test_rollback_journals_are_judged_by_their_contents_too(
    tmp_path: Path, journal: str, level: str, loses: bool
) -> None:
    found = crashed(
        tmp_path / "c", states=40, writers=4, transactions=10, journal_mode=journal,
        synchronous=level,
    )  # fmt: skip
    assert not found.campaign.broken()
    assert found.data()["contents"] == 41
    assert any(one.lost for one in found.campaign.judged) == loses
