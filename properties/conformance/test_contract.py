"""The adapter contract on real engines: every sentence is kept, or known not to be.

`pytest properties --engine X` asks each check by itself in each mode of X. Without it the default
engines are asked all of them in the mode of a writer, a test for each engine.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import pytest

from properties.conformance.contract import CHECKS, Check, Outcome, named
from properties.conformance.contract_process import held_to
from properties.conformance.known_deviations import known_breach, known_breaches
from properties.conformance.targets import DEFAULT_ENGINES, targets
from workloads.engines import Identity, find_engine, usual_mode

QUICK = tuple(one for one in CHECKS if not one.slow)
ALSO = ("libsql-0.1", "sqlite-latest")
ALIKE = ("libsql-0.1",)
"""The same binding as another one, by another name."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "checks" not in metafunc.fixturenames:
        return
    config = metafunc.config
    chosen = tuple(name for name in config.getoption("--engine").split(",") if name)
    if chosen:
        values = [
            pytest.param(target.engine, target.mode, (one,), id=f"{target}-{one.name}")
            for target in targets(chosen, config.getoption("--begin"))
            for one in CHECKS
        ]
    else:
        values = [
            pytest.param(engine, mode, CHECKS if slow else QUICK, id=f"{engine}-{mode}", marks=mark)
            for engine in (*DEFAULT_ENGINES, *ALSO)
            for mode in find_engine(engine).promises
            for slow in [engine in ALIKE or mode != usual_mode(find_engine(engine), "writer")]
            for mark in [[pytest.mark.slow] * slow]
        ]
    metafunc.parametrize(("engine", "mode", "checks"), values)


@cache
def outcomes(engine: str, mode: str, names: tuple[str, ...]) -> dict[str, Outcome]:
    """What one process answers to all of these checks."""
    found = held_to(engine, [mode], [named(name) for name in names])
    return {outcome.check: outcome for _, outcome in found}


@cache
def identity(engine: str) -> Identity:
    return find_engine(engine).identity()


def test_an_engine_keeps_the_contract(engine: str, mode: str, checks: Sequence[Check]) -> None:
    if why := find_engine(engine).missing():
        pytest.skip(why)
    every = CHECKS if len(checks) == 1 else checks
    found = outcomes(engine, mode, tuple(one.name for one in every))
    asked = [found[one.name] for one in checks]
    wrong = [told(one) for one in asked if one.state == "broken" and not known(engine, one)]
    assert not wrong, "\n\n".join([f"{engine}, {mode}: {identity(engine)[:3]}", *wrong])
    if [one.state for one in asked] == ["not asked"]:
        pytest.skip(asked[0].seen)


def known(engine: str, outcome: Outcome) -> bool:
    return known_breach(identity(engine), outcome) is not None


def told(outcome: Outcome) -> str:
    calls = "\n".join(f"  {call}" for call in outcome.calls)
    return (
        f"{outcome.check}: {named(outcome.check).sentence}\n"
        f"  right: {outcome.right}\n  seen:  {outcome.seen}\n{calls}"
    )


@pytest.mark.parametrize("engine", DEFAULT_ENGINES)
def test_what_is_known_of_an_engine_is_still_so(engine: str) -> None:
    if why := find_engine(engine).missing():
        pytest.skip(why)
    mode = usual_mode(find_engine(engine), "writer")
    found = outcomes(engine, mode, tuple(one.name for one in QUICK))
    for breach in known_breaches(identity(engine)):
        seen = found[breach.check]
        assert known(engine, seen), f"{breach.sentence}: mended, so take it out ({seen})"
