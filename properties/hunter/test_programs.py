"""The property of the hunter's grammar: whatever SQL a few sessions run, nothing that no engine may
show. Hypothesis draws and shrinks the programs that `cwkit fuzz` draws by itself.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from properties.conformance.book import book
from properties.conformance.judge import how_many
from properties.conformance.targets import Target
from properties.hunter.folder import describe
from properties.hunter.hunt import Hunter
from properties.hunter.known import recognised
from workloads.engines import find_engine


@pytest.fixture(scope="session")
def hunters() -> Iterator[dict[Target, Hunter]]:
    """A hunter for each target, with its processes, shared by the tests of one process."""
    kept: dict[Target, Hunter] = {}
    yield kept
    for hunter in kept.values():
        with contextlib.suppress(OSError):
            hunter.close()


@pytest.mark.slow(unless_asked=True)
@settings(max_examples=how_many(0.5, quick=0.3))
@given(rng=st.randoms(use_true_random=False))
def test_a_program_shows_nothing_that_no_engine_may_show(
    hunters: dict[Target, Hunter], target: Target, rng: Random
) -> None:
    if hasattr(find_engine(target.engine), "serve"):
        pytest.skip("its programs are SQL of SQLite's family")
    if target not in hunters:
        hunters[target] = Hunter(target.engine, (target.mode,), 0)
    hunter = hunters[target]
    program = hunter.drawn(rng, rng, with_known=False, change=False)
    made = hunter.judged(program)
    if hunter.last is not None:
        book().counts.add_played(hunter.last)
    if made is not None and not recognised(made[0], program, hunter.known):
        text = describe(*made)
        book().found(text)
        pytest.fail(text, pytrace=False)
