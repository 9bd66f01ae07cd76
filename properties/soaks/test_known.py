"""A soak counts by name what is known, and hides nothing behind it."""

from __future__ import annotations

from pathlib import Path

import pytest

from properties.known_faults import KNOWN
from properties.soaks import Found, Round, Soak, rows_of
from properties.soaks import soaking as going
from properties.soaks.folder import Design
from properties.soaks.judging import findings_of, named, once
from workloads.engines import find_engine
from workloads.errors import EngineMissing
from workloads.processes import fault_library
from workloads.records import FindingEntry
from workloads.runs import make_plan, run

NAME = "a refused COMMIT that is kept"


def in_round(number: int, *findings: Found) -> Round:
    return Round(
        number=number, kind="fault", engine="turso", mode="immediate", scenario="ledger", seed=1,
        folder=f"{number:05d}-fault-turso-immediate", findings=list(findings),
    )  # fmt: skip


def soak(*rounds: Round, folder: Path = Path("x")) -> Soak:
    return Soak(folder, Design(seed=1, engines=["turso"], asked_s=1, seconds=1), list(rounds))


KEPT, LOST = Found("doubled", "it is there", NAME), Found("lost", "one is gone")


def test_what_is_known_is_counted_apart_by_its_name() -> None:
    one = soak(in_round(0), in_round(1, KEPT), in_round(2, KEPT, LOST))
    assert [each.number for each in one.broken] == [2]
    assert {name: len(each) for name, each in one.known.items()} == {NAME: 2}
    (row,) = rows_of(one.rounds)
    assert (row.findings, row.known) == ({"lost": 1}, {NAME: 2})
    (told,) = one.data()["known"]
    assert (told["rounds"], told["first"], told["engines"]) == (2, 1, ["turso, immediate"])
    assert told["command"].startswith("cwkit run") and told["sentence"]


def test_one_that_another_cwkit_knew_is_told_by_its_name_alone() -> None:
    (told,) = soak(in_round(0, Found("doubled", "x", "gone since"))).data()["known"]
    assert (told["name"], told["sentence"]) == ("gone since", "")


def test_a_known_one_does_not_hide_a_new_one_of_its_kind() -> None:
    new = Found("doubled", "for another reason")
    assert once([KEPT, new, KEPT]) == [KEPT, new]


def test_the_first_folders_of_what_is_known_stay_and_every_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(going, "MOST_SOUND", 2)
    rounds = [in_round(number, KEPT) for number in range(8)]
    rounds += [in_round(8, LOST), in_round(9, KEPT, LOST), in_round(10), in_round(11)]
    for one in rounds:
        (tmp_path / "rounds" / one.folder).mkdir(parents=True)
    made = going._Going(soak(*rounds, folder=tmp_path), (), lambda line: None)
    made._make_room()
    left = sorted(int(path.name[:5]) for path in (tmp_path / "rounds").iterdir())
    assert left == [0, 1, 2, 8, 9, 10, 11]


@pytest.mark.parametrize(
    ("engine", "fault", "known"),
    [
        ("turso", "sync:*-log:4:EIO", NAME),
        ("faulty-refuses-and-keeps", "", ""),
    ],
)
def test_what_a_run_shows_is_known_in_the_versions_that_do_it(
    engine: str, fault: str, known: str, tmp_path: Path
) -> None:
    try:
        fault_library()
    except EngineMissing as reason:
        pytest.skip(str(reason))
    if why := find_engine(engine).missing():
        pytest.skip(why)
    plan = make_plan(
        scenario="ledger", database=engine, begin="immediate", synchronous="full", writers=1,
        transactions=6, duration_s=20, warmup_s=0, **{"fault": fault} if fault else {},
    )  # fmt: skip
    made = run(plan, tmp_path)
    found = findings_of(made.manifest, plan)
    assert ("doubled", known) in {(one.kind, one.known) for one in found}, found
    assert {one.known for one in found} == {known}, found
    if not known:
        return
    assert known in {one.name for one in KNOWN}
    gone = FindingEntry(
        check="acknowledged postings", ok=False, sentence="1 is gone", evidence={"lost": [[0, 1]]}
    )
    more = made.manifest.model_copy(update={"findings": (*made.manifest.findings, gone)})
    both = {(one.kind, one.known) for one in findings_of(more, plan)}
    assert both == {("doubled", known), ("lost", "")}


def test_a_state_that_does_not_open_is_named_by_what_the_engine_says(tmp_path: Path) -> None:
    plan = make_plan(
        scenario="ledger", database="sqlite", writers=1, transactions=2, duration_s=20, warmup_s=0
    )
    manifest = run(plan, tmp_path).manifest
    entry = manifest.engines["sqlite"]
    turso = entry.model_copy(update={"binding": "pyturso 0.8.3", "version": "3.50.4"})
    of_turso = manifest.model_copy(update={"engines": {"sqlite": turso}})
    said = "DatabaseError: WAL has committed frames but logical log header is missing"
    for told, text, ended, name in (
        (of_turso, said, True, "a checkpoint cut short"),
        (of_turso, said, False, ""),
        (of_turso, "DatabaseError: file is not a database", True, ""),
        (manifest, said, True, ""),
    ):
        assert named(Found("does not open", text), told, plan, ended=ended).known == name
