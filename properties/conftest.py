"""Fixtures of the property tests: which engines they run on, their sessions, each test's book."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import is_hypothesis_test

from properties.conformance import accounts
from properties.conformance.targets import DEFAULT_ENGINES, Runners, Target, targets
from workloads.engines import find_engine, modes_of, trust
from workloads.errors import UnknownName
from workloads.schedules import sessions


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "modes(*names): only in these modes, or in every mode of engines without them"
    )
    config.addinivalue_line("markers", "drawn: not where each lock is waited for some seconds")
    config.addinivalue_line("markers", "processes: not on engines that lock their file to one")
    _chosen(config)  # a name that there is not ends the session before anything is collected
    if limit_s := config.getoption("--limit"):
        sessions.LIMIT_S = limit_s
    config.pluginmanager.register(accounts.Accounts(config), "cwkit-accounts")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "target" in metafunc.fixturenames:
        chosen = _chosen(metafunc.config)
        only = metafunc.definition.get_closest_marker("modes")
        if only is not None:
            chosen = [target for target in chosen if _is_meant(target, only.args)]
        if metafunc.definition.get_closest_marker("processes"):
            chosen = [t for t in chosen if find_engine(t.engine).hosting == "process"]
        drawn = metafunc.definition.get_closest_marker("drawn") is not None
        alike = drawn or is_hypothesis_test(metafunc.function)
        alike = alike and not metafunc.config.getoption("--engine")
        metafunc.parametrize("target", [_param(target, drawn, alike) for target in chosen])


def _is_meant(target: Target, modes: tuple[str, ...]) -> bool:
    """Whether a target is in one of these modes, or of an engine that has others altogether."""
    return target.mode in modes or not set(modes) & set(modes_of(find_engine(target.engine)))


def _chosen(config: pytest.Config) -> list[Target]:
    names = tuple(name for name in config.getoption("--engine").split(",") if name)
    trust(*names)
    try:
        return targets(names or DEFAULT_ENGINES, config.getoption("--begin"))
    except (UnknownName, ValueError) as error:
        raise pytest.UsageError(str(error)) from None


def _param(target: Target, drawn: bool, alike: bool) -> object:
    """A target as a parameter. drawn : schedules come by the hundred, and many wait for a lock.

    alike : it is drawn for by Hypothesis, on engines that nobody chose. With a write-ahead log
    EXCLUSIVE is IMMEDIATE (https://sqlite.org/lang_transaction.html): fixed schedules hold it to
    that each time, drawn ones with --slow, or where --engine asks for them.
    """
    engine = find_engine(target.engine)
    why = engine.missing()
    if drawn and why is None and (waits_s := getattr(engine, "waits_s", 0)):
        why = (
            f"{target.engine} waits {waits_s:g} s for each lock, whatever its busy timeout, and "
            "then takes it from its holder: the classics and the free running are asked instead"
        )
    marks = [pytest.mark.skip(reason=why)] if why else []
    if alike and target.mode == "exclusive":
        marks.append(pytest.mark.slow())
    return pytest.param(target, id=str(target), marks=marks)


@pytest.fixture(scope="session")
def runners() -> Iterator[Runners]:
    """Databases with open sessions, shared by the tests of one process."""
    kept = Runners()
    yield kept
    kept.close()
