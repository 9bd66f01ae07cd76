"""The probe: what an engine answers when it is asked, also when it hangs, dies or is not there."""

from __future__ import annotations

import json
import time
from functools import cache
from pathlib import Path

import psutil
import pytest

from workloads.engines.engine import MODES, Probe, find_engine
from workloads.engines.probing import AT_ONCE, GRANTED, WAITED, from_dict, main, probe, to_dict
from workloads.engines.registry import trust
from workloads.errors import UnknownName

SINGLE_WRITER = ["libsql", "sqlite"]
OVERLAPPING = ["sqlite-concurrent", "turso"]


@cache
def asked(name: str) -> Probe:
    """An engine's answers, asked once for all tests of this process."""
    if why := find_engine(name).missing():
        pytest.skip(why)
    return probe(name)


@pytest.mark.parametrize("name", SINGLE_WRITER)
def test_an_engine_without_begin_concurrent_refuses_it_in_its_own_words(name: str) -> None:
    found = asked(name)
    refused = found.modes["concurrent"]
    assert not refused.accepted
    assert "CONCURRENT" in refused.message
    for mode in ("deferred", "immediate", "exclusive"):
        assert found.modes[mode].accepted
        assert found.modes[mode].overlaps is False
    assert found.several_processes is True
    assert found.pragmas["journal_mode"] == "wal"
    assert from_dict(json.loads(json.dumps(to_dict(found)))) == found


@pytest.mark.slow  # libSQL's server gives a lock away after 5 s, whatever the busy timeout
@pytest.mark.parametrize("name", ["libsql-remote", "libsql-replica"])
def test_libsqls_server_is_asked_by_its_clients_and_replicas_as_every_engine(name: str) -> None:
    found = asked(name)
    replica = name == "libsql-replica"
    locks = {"deferred": False, "immediate": False, "exclusive": False}
    # Nobody writes in a mode that only reads, and that is no want of overlap.
    others = {"readonly": None} if replica else {"concurrent": None}
    assert {mode: answer.overlaps for mode, answer in found.modes.items()} == locks | others
    assert [mode for mode, answer in found.modes.items() if not answer.accepted] == (
        [] if replica else ["concurrent"]
    )
    assert found.modes["deferred"].upgrade == GRANTED
    assert found.several_processes is True
    assert found.pragmas["synchronous"] == "normal"


@pytest.mark.parametrize("name", OVERLAPPING)
def test_begin_concurrent_overlaps_and_the_other_modes_do_not(name: str) -> None:
    found = asked(name)
    assert {mode: answer.overlaps for mode, answer in found.modes.items()} == {
        "deferred": False,
        "immediate": False,
        "exclusive": False,
        "concurrent": True,
    }
    assert found.identity == find_engine(name).identity()
    if found.several_processes is False:
        assert found.processes_message
        assert "/" not in found.processes_message  # no folder of this machine
    else:
        assert name == "sqlite-concurrent"


@pytest.mark.parametrize("name", SINGLE_WRITER + OVERLAPPING)
def test_an_upgrade_beside_a_writer_is_tried_with_a_timeout(name: str) -> None:
    found = asked(name)
    assert found.modes["deferred"].upgrade == (WAITED if name == "turso" else AT_ONCE)
    assert {found.modes[mode].upgrade for mode in MODES[1:]} == {""}


def test_null_accepts_everything_and_overlaps_nothing() -> None:
    found = probe("null")
    assert [found.modes[mode].accepted for mode in MODES] == [True] * 4
    assert {answer.overlaps for answer in found.modes.values()} == {None}
    assert found.several_processes is None


BAD_ENGINES = """
import os, threading, time
from workloads.engines.null import Null

class Hangs(Null):
    name = "hangs"
    file_format = "none"
    def connect(self, path, *, begin="deferred", settings=None):
        if begin == "immediate":
            time.sleep(600)
        return super().connect(path, begin=begin)

class Dies(Null):
    name = "dies"
    def connect(self, path, *, begin="deferred", settings=None):
        if begin == "exclusive":
            os.abort()
        return super().connect(path, begin=begin)

class DiesBeside(Null):
    name = "dies-beside"
    file_format = "sqlite"
    def connect(self, path, *, begin="deferred", settings=None):
        if path.endswith("together/probe.db"):
            try:
                os.mkdir(path + ".first")
            except FileExistsError:
                os.abort()
        return super().connect(path, begin=begin)

class Absent(Null):
    name = "absent"
    def missing(self):
        return "absent is not installed. Get it with: make absent"
"""


@pytest.fixture
def bad_engines(tmp_path: Path) -> Path:
    file = tmp_path / "bad_engines.py"
    file.write_text(BAD_ENGINES)
    trust(file)
    return file


def test_a_hang_ends_as_an_answer_and_the_other_modes_are_asked(bad_engines: Path) -> None:
    before = psutil.Process().children()  # of other tests
    begun = time.monotonic()
    found = probe(f"{bad_engines}:Hangs", limit_s=5)
    assert time.monotonic() - begun < 120
    assert "no answer within 5 s" in found.modes["immediate"].message
    assert [found.modes[mode].accepted for mode in MODES] == [True, False, True, True]
    assert set(psutil.Process().children()) <= set(before)


def test_a_crash_ends_as_an_answer_and_the_other_modes_are_asked(bad_engines: Path) -> None:
    found = probe(f"{bad_engines}:Dies")
    assert "SIGABRT" in found.modes["exclusive"].message
    assert [found.modes[mode].accepted for mode in MODES] == [True, True, False, True]


def test_a_crash_beside_another_process_is_an_answer(bad_engines: Path) -> None:
    found = probe(f"{bad_engines}:DiesBeside")
    assert found.several_processes is False
    assert "SIGABRT" in found.processes_message


def test_a_missing_engine_is_shown_with_the_way_to_get_it(bad_engines: Path) -> None:
    found = probe(f"{bad_engines}:Absent")
    assert found.missing == "absent is not installed. Get it with: make absent"
    assert found.identity is None
    assert from_dict(to_dict(found)) == found


def test_an_unknown_engine_is_no_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UnknownName):
        probe("libsqll")
    assert main(["libsqll"]) == 2
    assert "Did you mean 'libsql'" in capsys.readouterr().err


def test_the_command_prints_what_the_engine_answered(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sqlite"]) == 0
    printed = capsys.readouterr().out
    assert 'BEGIN CONCURRENT refused: near "CONCURRENT": syntax error' in printed
    assert "several processes yes" in printed
