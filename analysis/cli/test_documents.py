"""Every document of `--json` is what docs/json.md says: its kind, its version, each of its keys."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from analysis.cli.documents import NUMBERS, plain
from analysis.cli.test_streams import RUN, SWEEP, Command
from analysis.cli.test_streams import cwkit as cwkit
from analysis.counting import count
from analysis.statistics import batch_means
from analysis.synthetic import drawn_run, write_folder
from workloads.records import read_run

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "json.md").read_text(encoding="utf-8")
NAMED = set(re.findall(r"`([a-z0-9_.]+)`", PAGE))
NOT_OURS = {"plan", "params", "point", "axes", "identity", "pragmas", "modes", "under_study"}
NOT_OURS |= {"refused"}
"""Keys whose content has names of the plan's, of an engine's, or of the user's."""


def keys_of(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield key
            if key not in NOT_OURS or isinstance(inner, list):
                yield from keys_of(inner)
    elif isinstance(value, list):
        for each in value:
            yield from keys_of(each)


def documented(text: str, kind: str) -> dict[str, Any]:
    """A document, held against the page."""
    found: dict[str, Any] = json.loads(text)
    assert list(found)[:2] == ["cwkit", "document"]
    assert found["cwkit"] == 1 and found["document"] == kind and f"`{kind}`" in PAGE
    assert not set(keys_of(found)) - NAMED
    return found


def test_a_key_that_the_page_lacks_is_found() -> None:
    with pytest.raises(AssertionError):
        documented('{"cwkit": 1, "document": "run", "roles": [{"nowhere": 1}]}', "run")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two runs, made up: two writers and a reader."""
    folder = tmp_path_factory.mktemp("made") / "runs"
    for seed, name in ((412, "one"), (413, "two")):
        run = drawn_run(seed, per_s=2000, writers=2, readers=1, abort=0.2)
        write_folder(run, folder / name)
    return folder


def test_a_run_is_one_document_that_is_kept_beside_its_manifest(
    cwkit: Command, tmp_path: Path
) -> None:
    status, text, err = cwkit("run", *RUN, "--json", "--writers", 2, "--save", "main")
    assert status == 0 and err.endswith("saved as main\n")
    found = documented(text, "run")
    folder = tmp_path / found["folder"]
    assert json.loads((folder / NUMBERS).read_text()) == found
    for name in ("counter", "main", "last"):
        assert documented(cwkit("show", name, "--json")[1], "run") == found
    assert [one["result"] for one in found["checks"]] == ["ok"] * len(found["checks"])
    (listed,) = documented(cwkit("list", "--json")[1], "list")["runs"]
    assert listed["kind"] == "run" and listed["name"] == found["run"]
    assert listed["saved"] == ["main"] and "-s0 (main)" in cwkit("list")[1]
    status, text, err = cwkit("compare", "main", "last")
    assert status == 2 and err.startswith(f"cwkit: main and last are the same run, {found['run']}:")
    for name in ("last", ""):
        status, text, err = cwkit("run", "--save", name)
        assert status == 2 and err.startswith(f"cwkit: --save {name}: ")


def test_a_run_is_archived_and_put_elsewhere(made: Path, cwkit: Command, tmp_path: Path) -> None:
    status, text, _ = cwkit("archive", "one", "--runs", made)
    assert status == 0 and text.startswith("one.tar.gz: ")
    status, text, _ = cwkit("archive", "--unpack", "one.tar.gz")
    assert status == 0 and text.startswith("runs/one: ")
    assert cwkit("show", "last")[1] == cwkit("show", "one", "--runs", made)[1]
    for wrong in ((), ("one", "--unpack", "x"), ("--unpack", "one.tar.gz"), ("nothing",)):
        status, text, err = cwkit("archive", *wrong)
        assert status == 2 and not text and err.startswith("cwkit: ")


def test_the_numbers_of_a_run_are_those_that_are_counted(made: Path, cwkit: Command) -> None:
    found = documented(cwkit("show", "one", "--runs", made, "--json")[1], "run")
    counted = count(read_run(made / "one"))
    assert [one["role"] for one in found["roles"]] == ["writer", "reader"]
    for one in found["roles"]:
        tally = counted.roles[one["role"]]
        assert one["attempts"]["committed"] == tally.committed
        for key, value in (
            ("throughput_per_s", tally.per_s), ("abort_rate", tally.abort_rate[1])
        ):  # fmt: skip
            assert one[key]["low"] <= one[key]["value"] <= one[key]["high"]
            assert one[key]["value"] == pytest.approx(value)
        assert one["latency_ns"]["whole"]["p50"]["value"] == tally.whole()[0, 0]
        assert one["latency_ns"]["whole"]["p50"]["low"] is not None
        assert len(one["each_worker"]) == tally.workers
        assert one["fairness"]["jain"] == pytest.approx(tally.fairness)


def test_a_sweep_is_one_document(cwkit: Command, tmp_path: Path) -> None:
    (tmp_path / "tiny.toml").write_text(SWEEP, encoding="utf-8")
    found = documented(cwkit("sweep", "tiny.toml", "--json")[1], "experiment")
    assert [arm["arm"] for arm in found["arms"]] == ["writers 1", "writers 2", "writers 1 again"]
    assert len(found["cells"]) == 3 and {cell["state"] for cell in found["cells"]} == {"done"}
    assert found["arms"][0]["ratio"] is None and found["arms"][1]["ratio"] is not None
    assert documented(cwkit("show", "tiny", "--json")[1], "experiment") == found
    status, text, err = cwkit("sweep", "tiny.toml", "--json", "--dry-run")
    assert status == 2 and not text and "a dry run has no numbers" in err


LISTS: dict[str, tuple[str, ...]] = {
    "claims": ("claims",),
    "engines": ("engines", "null"),
    "scenarios": ("list", "--scenarios"),
    "sweeps": ("list", "--sweeps"),
}


@pytest.mark.parametrize("kind", LISTS)
def test_a_list_is_one_document(kind: str, cwkit: Command) -> None:
    found = documented(cwkit(*LISTS[kind], "--json")[1], kind)
    assert found[kind]


def test_a_comparison_is_one_document(made: Path, cwkit: Command) -> None:
    argv = ("compare", made / "one", made / "two", "--vary", "seed", "--json")
    documented(cwkit(*argv, "--fail-if", "throughput < 0.5")[1], "compare")


def test_gates_go_into_a_file_too(made: Path, cwkit: Command, tmp_path: Path) -> None:
    argv = ("compare", made / "one", made / "two", "--vary", "seed", "--junit", "g.xml")
    cwkit(*argv, "--fail-if", "throughput < 0.5")
    assert '<testcase classname="cwkit.gate"' in (tmp_path / "g.xml").read_text()
    status, text, err = cwkit(*argv)
    assert status == 2 and not text and "Give --fail-if" in err


@pytest.mark.parametrize(("format_", "name"), [("trace", "one.trace.json"), ("hdr", "one.hlog"),
                                               ("openmetrics", "one.prom")])  # fmt: skip
def test_a_run_is_exported_for_other_tools(
    format_: str, name: str, made: Path, cwkit: Command, tmp_path: Path
) -> None:
    argv = ("export", "one", "--runs", made, "--format", format_)
    status, text, err = cwkit(*argv)
    if format_ == "hdr" and "make setup" in err:
        pytest.skip("the package hdrhistogram is not here: make setup")
    assert status == 0 and text.startswith(f"{name}: ") and (tmp_path / name).stat().st_size
    status, text, err = cwkit(*argv, "--what", "cells")
    assert status == 2 and not text and "is of a whole run" in err


def test_numbers_that_json_lacks_are_words_or_null() -> None:
    assert plain({"a": [math.nan, math.inf, 1.5], "b": Path("x")}) == {
        "a": [None, "infinite", 1.5], "b": "x"
    }  # fmt: skip


def test_a_disk_that_takes_no_numbers_does_not_change_a_run(
    made: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from analysis.cli import documents

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(documents, "write_json", full)
    documents.keep_numbers(read_run(made / "one"))
    assert "numbers.json: not written (No space left on device)." in capsys.readouterr().err


def test_the_interval_of_a_rate_holds_the_truth_about_as_often_as_it_says() -> None:
    import numpy as np

    rng = np.random.default_rng(1)
    held = 0
    for _ in range(400):
        low, high = batch_means(rng.poisson(50, 20), 0.5)
        held += low <= 100 <= high
    assert 0.92 <= held / 400 <= 0.98
