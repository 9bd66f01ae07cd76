"""One round alone is the round that the soak drew: the same plan, by the command that it told."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import pytest

from properties.soaks import KINDS, Soak, begin_soak, read_soak
from properties.soaks import draws as drawing
from properties.soaks.folder import repeat_command
from workloads.errors import EngineMissing, PlanError, RunError
from workloads.processes import fault_library

try:
    fault_library()
except EngineMissing as reason:
    pytestmark = pytest.mark.skip(reason=str(reason))

SEED, SECONDS = 3, 0.2
CHAINED = ("first", "earlier")


def plan_of(soak: Soak, number: int) -> dict[str, Any]:
    """The plan of a round's run, as its folder has it, and the rest of what was drawn."""
    one = next(each for each in soak.rounds if each.number == number)
    folder = soak.folder / "rounds" / one.folder
    crash = one.kind == "crash"
    manifest = (folder / "recording" if crash else folder) / "manifest.json"
    plan: dict[str, Any] = json.loads(manifest.read_text(encoding="utf-8"))["plan"]
    plan["params"] = {k: v for k, v in plan["params"].items() if k not in CHAINED}
    asked = json.loads((folder / "crash.json").read_text(encoding="utf-8"))["asked"] if crash else 0
    return {"kind": one.kind, "plan": plan, "asked": asked, "name": one.folder}


@pytest.mark.slow
def test_the_command_of_each_round_repeats_it(tmp_path: Path) -> None:
    whole = begin_soak(
        tmp_path / "whole", asked_s=240, engines=("sqlite-latest", "sqlite"), seed=SEED,
        seconds=SECONDS, rounds=10,
    )  # fmt: skip
    assert {one.kind for one in whole.rounds} == set(KINDS)
    for one in whole.rounds:
        words = shlex.split(whole.design.repeat(one))
        given = dict(zip(words[2::2], words[3::2], strict=True))
        rules = [words[at + 1] for at, word in enumerate(words) if word == "--fault"]
        alone = begin_soak(
            tmp_path / f"alone-{one.number}", asked_s=120,
            engines=given["--engines"].split(","), seed=int(given["--seed"]),
            seconds=float(given["--seconds"]), only=int(given["--only-round"]), rules=rules,
        )  # fmt: skip
        assert plan_of(alone, one.number) == plan_of(whole, one.number)
        assert (alone.design.ended, len(alone.rounds)) == ("done", 1)


def test_one_round_alone_is_read_back_and_goes_on(tmp_path: Path) -> None:
    facts, _ = drawing.engines_here(("sqlite",))
    rest: Any = {"seconds": SECONDS, "library": True, "calls": {}, "chains": {}}
    drawn = [drawing.draw_round(SEED, number, facts, **rest) for number in range(40)]
    number = next(each.number for each in drawn if each.kind == "run" and each.number > 6)
    alone = begin_soak(
        tmp_path / "x", asked_s=60, engines=("sqlite",), seed=SEED, seconds=SECONDS, only=number
    )
    assert [one.number for one in read_soak(alone.folder).rounds] == [number]
    path = alone.folder / "rounds.jsonl"
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace(f'"number":{number}', '"number":0'), encoding="utf-8")
    with pytest.raises(RunError, match=f"round 0 where {number} belongs"):
        read_soak(alone.folder)


def test_faults_are_given_and_nothing_else_of_a_round_depends_on_calls() -> None:
    facts, _ = drawing.engines_here(("sqlite",))
    rest: Any = {"seconds": SECONDS, "library": True, "chains": {}}
    seen = {("sqlite", mode): {"write *-wal": 90, "sync *-wal": 30} for mode in facts[0].modes}
    for number in range(30):
        whole = drawing.draw_round(SEED, number, facts, calls=seen, **rest)
        rules = [str(rule) for rule in whole.plan.rules()]
        alone = drawing.draw_round(SEED, number, facts, calls={}, rules=rules, **rest)
        assert alone == whole
        assert bool(rules) is (whole.kind == "fault")


def test_a_round_that_would_be_another_one_is_refused(tmp_path: Path) -> None:
    facts, _ = drawing.engines_here(("sqlite",))
    kinds = [drawing.kind_of(f"{SEED}-sqlite", visit, library=True) for visit in range(20)]
    assert len(facts) == 1
    for number, rules, why in (
        (kinds.index("fault"), (), "Give each of them with --fault"),
        (kinds.index("kill"), ("sync:*:1:EIO",), "of the kind kill, without --fault"),
    ):
        with pytest.raises(PlanError, match=why):
            begin_soak(tmp_path / "x", asked_s=1, engines=("sqlite",), seed=SEED, only=number,
                       rules=rules)  # fmt: skip
    assert not (tmp_path / "x").exists()


def test_a_command_is_one_that_a_shell_takes() -> None:
    words = shlex.split(repeat_command(1, ["a b.py:E", "sqlite"], 0.2, 5, ["sync:*:1:EIO"]))
    assert words == ["cwkit", "soak", "--seed", "1", "--engines", "a b.py:E,sqlite", "--seconds",
                     "0.2", "--only-round", "5", "--fault", "sync:*:1:EIO"]  # fmt: skip
