"""A search asks few rates, keeps every run, goes on where it was, and finds a planted answer."""

import dataclasses
import json
import math
import shutil
import sys

import numpy as np
import pytest
from rich.console import Console

from analysis.cli import entry as cli
from analysis.cli.listing import list_runs
from analysis.search import search
from analysis.search.folder import Search, begin, read_search
from analysis.search.objective import load_of
from analysis.search.search import Undecided, run_search
from analysis.synthetic import edit, made_run, made_worker, write_folder
from workloads.errors import PlanError, RunError
from workloads.files import locked
from workloads.records import ATTEMPT, COMMITTED, read_run, write_manifest
from workloads.runs import Plan, context_of, due_before, make_plan

SERVICE = 1000.0  # of a single server, exponential: M/M/1 as in test_slo
TRUTH = SERVICE - math.log(100) / 0.020
PLAN = Plan(scenario="counter", database="null", writers=1, duration_s=12, warmup_s=1, seed=3)
LOOKED_FOR = Search(PLAN, "p99 < 20ms", repeats=3)


def queue_run(plan, folder, *, name, **how):
    """A run as one worker on a queue would have recorded it; with rate 0 a closed loop."""
    start = 1_000_000_000
    stop = start + int((plan.warmup_s + plan.duration_s) * 1e9)
    context = context_of(plan, 0)
    service = np.random.default_rng([plan.seed, 99])
    if plan.rate:
        intended = due_before(stop, plan.rate, start, context.rng(7))
    else:  # due when the server is free; more than it can serve
        intended = np.full(int((stop - start) / 1e9 * 2 * SERVICE), start)
    took = service.exponential(1e9 / SERVICE, len(intended)).astype(np.int64)
    before = np.cumsum(took) - took
    begun = before + np.maximum.accumulate(intended - before)
    intended = intended if plan.rate else begun
    served = begun < stop
    out = np.zeros(np.count_nonzero(served), ATTEMPT)
    out["intended_ns"], out["start_ns"] = intended[served], begun[served]
    out["end_ns"] = (begun + took)[served]
    out["begun_ns"] = out["worked_ns"] = out["start_ns"]
    out["txn"], out["attempt"], out["outcome"] = np.arange(len(out)), 1, COMMITTED
    made = made_run(
        [made_worker(0, out, engine="null")], name=name, seconds=plan.duration_s,
        warmup_s=plan.warmup_s, plan=plan.model_dump(mode="json"),
    )  # fmt: skip
    return read_run(write_folder(made, folder / name))


@pytest.fixture
def on_a_queue(monkeypatch):
    made = []

    def run(plan, folder, **how):
        made.append(how["name"])
        return queue_run(plan, folder, **how)

    monkeypatch.setattr(search, "run", run)
    # Made-up runs are of a made-up machine.
    monkeypatch.setattr(search, "as_here", lambda manifest, databases: manifest)
    return made


def test_the_search_finds_the_queues_answer_from_its_runs(tmp_path, on_a_queue):
    longer = PLAN.model_copy(update={"duration_s": 36})  # enough beyond p99 for its interval
    begin(dataclasses.replace(LOOKED_FOR, plan=longer), tmp_path)
    lines: list[str] = []
    found = run_search(tmp_path, notify=lines.append)
    assert found.capacity == pytest.approx(SERVICE, rel=0.03)
    assert found.answer.rate is not None
    assert abs(found.answer.rate / TRUTH - 1) < 0.1
    above = min(rate for rate in found.probes if rate > found.answer.rate)
    assert not found.probes[above].met
    assert above / found.answer.rate < 1.06
    assert len(on_a_queue) == len(set(on_a_queue)) == len(lines)
    low, value, high = found.probes[found.answer.rate].statistic("p99")
    assert low < value < high
    assert value == pytest.approx(1e9 * math.log(100) / (SERVICE - found.answer.rate), rel=0.25)


def test_an_interrupted_search_goes_on_and_repeats_no_run(tmp_path, on_a_queue):
    begin(LOOKED_FOR, tmp_path)
    whole = tmp_path / "whole"
    begin(LOOKED_FOR, whole)
    expected = run_search(whole).answer
    on_a_queue.clear()
    seen = []

    def stop_at_sixth(line):
        seen.append(line)
        if len(seen) == 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_search(tmp_path, notify=stop_at_sixth)
    assert len(on_a_queue) == 6
    # A run that was killed leaves a manifest that says it is still running.
    cut = tmp_path / on_a_queue[-1]
    manifest = json.loads((cut / "manifest.json").read_text())
    (cut / "manifest.json").write_text(json.dumps(manifest | {"ended": "running"}))
    begin(read_search(tmp_path), tmp_path)
    assert run_search(tmp_path).answer == expected
    assert on_a_queue.count(cut.name) == 2
    assert len(on_a_queue) == len(set(on_a_queue)) + 1
    assert (tmp_path / "earlier" / f"{cut.name}.1" / "manifest.json").is_file()
    on_a_queue.clear()
    assert run_search(tmp_path).answer == expected
    assert on_a_queue == []


REAL = Search(
    make_plan(
        scenario="counter", database="null", writers=1, duration_s=0.3, warmup_s=0,
        params={"think_us": 2000, "think": "sleep"},
    ),
    "p50 < 40ms", repeats=1, step=2.0, longest_s=60, foreign_limit=1.0,
)  # fmt: skip


def stop(line):
    raise KeyboardInterrupt


def of_another(where, changes):
    """Have a run's manifest say that it was made elsewhere."""
    path = where / "manifest.json"
    manifest = json.loads(path.read_text())
    for part, values in changes.items():
        for name in manifest[part] if part == "engines" else [""]:
            (manifest[part][name] if name else manifest[part]).update(values)
    path.write_text(json.dumps(manifest))


ELSEWHERE = {
    "machine": ({"machine": {"id": "0123456789ab"}}, "machine (0123456789ab against "),
    "checkout": ({"machine": {"cwkit_commit": "0ld"}}, "commit (0ld against "),
    "engine": ({"engines": {"version": "0.1"}}, "writer.version (0.1 against "),
}


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    """A search that was stopped after its first run."""
    folder = tmp_path_factory.mktemp("stopped")
    begin(REAL, folder)
    with pytest.raises(KeyboardInterrupt):
        run_search(folder, notify=stop)
    assert [path.name for path in folder.glob("*-*/")] == ["capacity-1"]
    return folder


@pytest.mark.parametrize("what", list(ELSEWHERE))
def test_a_search_that_was_begun_elsewhere_does_not_go_on_here(
    stopped, tmp_path, monkeypatch, what
):
    changes, message = ELSEWHERE[what]
    shutil.copytree(stopped, tmp_path, dirs_exist_ok=True)
    of_another(tmp_path / "capacity-1", changes)
    with monkeypatch.context() as patched:
        patched.setattr(search, "run", lambda *a, **k: pytest.fail("ran it elsewhere"))
        with pytest.raises(RunError, match="Go on with it where") as caught:
            run_search(tmp_path)
    assert message in str(caught.value) and "\n" not in str(caught.value)
    assert (tmp_path / "capacity-1" / "manifest.json").is_file()


def test_a_search_goes_on_where_nothing_differs_and_a_mixed_one_is_not_told(stopped, tmp_path):
    shutil.copytree(stopped, tmp_path, dirs_exist_ok=True)
    found = run_search(tmp_path)
    assert found.capacity_runs == ("capacity-1",)
    name = next(iter(found.probes.values())).runs[0]
    of_another(tmp_path / name, ELSEWHERE["machine"][0])
    with pytest.raises(RunError, match=f"capacity-1 and {name} differ in machine"):
        run_search(tmp_path)


def test_a_finished_search_of_another_machine_is_told_there_and_here(tmp_path, monkeypatch):
    begin(REAL, tmp_path)
    answer = run_search(tmp_path).answer
    for manifest in tmp_path.glob("*/manifest.json"):
        of_another(manifest.parent, ELSEWHERE["machine"][0])
    monkeypatch.setattr(search, "run", lambda *a, **k: pytest.fail("ran a finished probe"))
    assert run_search(tmp_path).answer == answer


def test_a_run_that_proves_unlike_when_it_was_made_is_set_aside(tmp_path, on_a_queue, monkeypatch):
    begin(LOOKED_FOR, tmp_path)

    def run(plan, folder, *, name, **how):
        queue_run(plan, folder, name=name)
        if name == "capacity-2":
            of_another(folder / name, {"machine": {"kernel": "Linux 9"}})
        return read_run(folder / name)

    monkeypatch.setattr(search, "run", run)
    with pytest.raises(RunError, match=r"capacity-2 differ in kernel \(Linux 6.1 against Linux 9"):
        run_search(tmp_path)
    assert (tmp_path / "earlier" / "capacity-2.1" / "manifest.json").is_file()
    assert not (tmp_path / "capacity-2").exists()


def test_two_processes_are_never_at_one_search(tmp_path, on_a_queue):
    begin(LOOKED_FOR, tmp_path)
    with locked(tmp_path), pytest.raises(RunError, match="another process is at this search"):
        run_search(tmp_path)
    assert on_a_queue == []


def test_another_search_in_the_folder_is_refused(tmp_path):
    begin(LOOKED_FOR, tmp_path)
    begin(LOOKED_FOR, tmp_path)
    with pytest.raises(RunError, match=r"differs in search"):
        begin(Search(PLAN, "p99 < 30ms"), tmp_path)
    with pytest.raises(RunError, match=r"differs in writers"):
        begin(Search(PLAN.model_copy(update={"writers": 2}), "p99 < 20ms"), tmp_path)
    (tmp_path / "search.json").write_text("{")
    with pytest.raises(RunError, match="cut or edited"):
        read_search(tmp_path)


def test_runs_that_others_disturbed_are_kept_told_and_not_counted(tmp_path, monkeypatch):
    disturbed = {"capacity-2", "rate-700-1"}

    def run(plan, folder, *, name, **how):
        made = queue_run(plan, folder, name=name)
        if name in disturbed or disturbed == {"all"}:
            write_manifest(folder / name, edit(made.manifest, foreign={"cpu_share": 0.5}))
        return read_run(folder / name)

    monkeypatch.setattr(search, "run", run)
    begin(LOOKED_FOR, tmp_path / "a")
    lines: list[str] = []
    found = run_search(tmp_path / "a", notify=lines.append)
    assert found.capacity_runs == ("capacity-1", "capacity-3", "capacity-4")
    assert any("capacity-2: not counted, other programs used 50 %" in line for line in lines)
    assert (tmp_path / "a" / "capacity-2" / "manifest.json").is_file()
    disturbed.clear()
    disturbed.add("all")
    begin(LOOKED_FOR, tmp_path / "b")
    with pytest.raises(Undecided, match="foreign-limit"):
        run_search(tmp_path / "b")


def test_windows_are_as_long_as_the_objective_needs_and_refused_beyond_the_longest():
    one = Search(PLAN.model_copy(update={"duration_s": 2.0}), "p99 < 20ms", longest_s=30)
    assert one.window_s(1000) == 2
    assert one.window_s(100) == pytest.approx(13.02)
    assert one.floor() == pytest.approx(1.01 * 1300 / 29.98)
    with pytest.raises(PlanError, match="--longest is 30 s"):
        one.window_s(10)
    with pytest.raises(PlanError, match="needs windows of 50 s"):
        begin(Search(PLAN, "p50 < 10s", longest_s=30), None)  # type: ignore[arg-type]


def test_a_run_that_broke_an_invariant_is_not_met_and_said(tmp_path, monkeypatch):
    def run(plan, folder, *, name, **how):
        made = queue_run(plan, folder, name=name)
        if plan.rate > 300:
            broken = {"check": "total", "ok": False, "sentence": "99 for 100", "evidence": {}}
            write_manifest(folder / name, edit(made.manifest, ok=False, findings=[broken]))
        return read_run(folder / name)

    monkeypatch.setattr(search, "run", run)
    begin(LOOKED_FOR, tmp_path)
    found = run_search(tmp_path)
    assert found.answer.rate is not None and found.answer.rate <= 300
    assert any("total: 99 for 100" in line for line in found.broken)


def with_nobody_due(monkeypatch, names):
    """Have these runs judged as if too few transactions had been due to say anything."""

    def of(made, role):
        load = load_of(made, role)
        few = load.due < load.first  # none that counts
        if not names(made.name):
            return load
        return dataclasses.replace(load, pieces=lambda: iter([(load.due[few], load.done[few])]))

    monkeypatch.setattr(search, "load_of", of)


def test_a_run_of_which_nothing_can_be_told_is_no_run_that_did_not_meet_it(
    tmp_path, on_a_queue, monkeypatch
):
    begin(LOOKED_FOR, tmp_path / "whole")
    whole = run_search(tmp_path / "whole")
    with_nobody_due(monkeypatch, lambda name: name.startswith("rate-") and name.endswith("-1"))
    begin(LOOKED_FOR, tmp_path / "e")
    lines: list[str] = []
    found = run_search(tmp_path / "e", notify=lines.append)
    assert found.answer.rate is not None and whole.answer.rate is not None
    assert abs(found.answer.rate / whole.answer.rate - 1) < 0.11
    short = [line for line in lines if "0 transactions are too few to tell" in line]
    assert len(short) == len(found.probes) and all("not counted" in line for line in short)
    assert not any(name.endswith("-1") for p in found.probes.values() for name in p.runs)


def test_a_rate_of_which_nothing_can_be_told_is_undecided(tmp_path, on_a_queue, monkeypatch):
    with_nobody_due(monkeypatch, lambda name: name.startswith("rate-"))
    begin(LOOKED_FOR, tmp_path)
    with pytest.raises(Undecided, match=r"only 0 runs of rate-.*too few to tell.*--duration"):
        run_search(tmp_path)


# --- the command, on real processes -------------------------------------------------------------


def command(monkeypatch, capsys, *argv):
    monkeypatch.setattr(sys, "argv", ["cwkit", "search", *map(str, argv)])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    output = capsys.readouterr()
    return ended.value.code or 0, output.out, output.err


def test_a_real_search_keeps_its_runs_its_curve_and_its_answer(tmp_path, monkeypatch, capsys):
    folder = tmp_path / "found"
    # Some thousand a second, so that also on a busy machine enough are due to tell of them.
    argv = (
        "--slo", "p50 < 40ms", "--scenario", "counter", "--database", "null", "--writers", 1,
        "--think-us", 200, "--think", "sleep", "--duration", 0.3, "--warmup", 0, "--repeats", 1,
        "--step", 2, "--longest", 1, "--foreign-limit", 1,
    )  # fmt: skip
    status, out, err = command(monkeypatch, capsys, *argv, "--into", folder)
    document = json.loads((folder / "answer.json").read_text())
    assert status == document["status"] == (1 if document["rate_per_s"] is None else 0)
    assert "closed loop, capacity-1:" in err and "capacity-1" not in out
    names = [name for probe in document["probes"] for name in probe["runs"]]
    assert names
    for name in names:
        run = read_run(folder / name)
        assert run.manifest.conduct.started_by == "search"
        assert run.manifest.plan.rate > 0
    assert (folder / "latency-against-rate.svg").read_bytes().startswith(b"<?xml")
    monkeypatch.setattr(search, "run", lambda *a, **k: pytest.fail("ran a finished probe"))
    status, out, _ = command(monkeypatch, capsys, "--into", folder, "--json")
    again = json.loads(out)
    assert {**again, "command": ""} == {**document, "command": ""}
    status, _, err = command(monkeypatch, capsys, *argv, "--into", folder, "--seed", 9)
    assert status == 2
    assert "differs in seed" in err


def test_a_search_is_listed_with_its_answer_or_how_to_go_on(tmp_path, on_a_queue, capsys):
    begin(LOOKED_FOR, tmp_path / "mine")
    console = Console(width=200)
    list_runs(tmp_path, console)
    assert "unfinished: cwkit search --into" in capsys.readouterr().out
    (tmp_path / "mine" / "answer.json").write_text('{"cwkit": 1, "rate_per_s": 717.0}')
    list_runs(tmp_path, console)
    lines = capsys.readouterr().out
    assert "search: counter on null, p99 < 20ms" in lines
    assert "met up to 717 tx/s" in lines


@pytest.mark.parametrize(
    ("argv", "part"),
    [
        ((), "Search for what?"),
        (("--slo", "p98 < 1ms"), "there is no 'p98'"),
        (("--slo", "p99 < 1ms", "--repeats", "2"), "odd number"),
        (("--slo", "p99 < 1ms", "--step", "1"), "from 1.01"),
        (("--slo", "p99 < 20s"), "needs windows"),
        (("--slo", "p99 < 1ms", "--scenario", "bnk"), "Did you mean 'bank'"),
    ],
)
def test_bad_input_is_one_sentence_and_leaves_nothing(tmp_path, monkeypatch, capsys, argv, part):
    runs = tmp_path / "runs"
    status, out, err = command(monkeypatch, capsys, *argv, "--runs", runs)
    assert (status, out) == (2, "")
    assert part in err
    assert err.count("\n") == 1
    assert not runs.exists()


def test_a_mode_that_is_refused_leaves_no_search(tmp_path, monkeypatch, capsys):
    argv = ("--slo", "p99 < 1s", "--database", "sqlite", "--begin", "concurrent")
    status, _, err = command(monkeypatch, capsys, *argv, "--rows", 2, "--runs", tmp_path)
    assert status == 2
    assert "refuses BEGIN CONCURRENT" in err
    assert list(tmp_path.iterdir()) == []


def test_a_folder_of_the_users_is_no_place_for_a_search(tmp_path, monkeypatch, capsys):
    refused = ("--slo", "p99 < 1s", "--database", "sqlite", "--begin", "concurrent", "--rows", 2)
    mine, empty = tmp_path / "mine", tmp_path / "empty"
    mine.mkdir()
    empty.mkdir()
    (mine / "thesis.tex").write_text("years of work")
    status, _, err = command(monkeypatch, capsys, *refused, "--into", mine)
    assert status == 2 and "is not empty (it holds 'thesis.tex')" in err and err.count("\n") == 1
    assert [path.name for path in mine.iterdir()] == ["thesis.tex"]
    # One that was there and empty is there and empty again.
    status, _, err = command(monkeypatch, capsys, *refused, "--into", empty)
    assert status == 2 and "refuses BEGIN CONCURRENT" in err
    assert list(empty.iterdir()) == []


def test_a_refused_run_takes_back_only_what_this_call_made(tmp_path, monkeypatch, capsys):
    plan = make_plan(scenario="bank", database="sqlite", begin="concurrent", params={"rows": 2})
    begin(Search(plan, "p99 < 1s"), tmp_path)  # by an earlier call, which was killed
    (tmp_path / "notes.txt").write_text("put there later")
    (tmp_path / "templates").write_text("this, too")
    status, _, err = command(monkeypatch, capsys, "--into", tmp_path)
    assert status == 2 and "refuses BEGIN CONCURRENT" in err
    assert {p.name for p in tmp_path.iterdir()} - {".lock"} == {
        "search.json", "notes.txt", "templates"
    }  # fmt: skip
