"""Writers of several modes are counted apart, and together."""

from __future__ import annotations

from pathlib import Path

import pytest

from analysis.cli.run_summary import summary_lines
from analysis.compare.one_run import resampled
from analysis.counting.cells_table import cells_table
from analysis.counting.measured import gather
from analysis.counting.tally import count
from analysis.models.windows import unit_of
from analysis.report.sweep_summary import arms_table
from analysis.synthetic import attempts, made_experiment, made_run, made_worker
from workloads.experiments import read_experiment
from workloads.records import CONFLICT, STALE, Run


def mixed(refused: int = 3) -> Run:
    """Two writers in one mode, and one in another of whose attempts so many are refused."""
    times = [{"start": 100 * i, "end": 100 * i + 50} for i in range(10)]
    stale = {"outcome": CONFLICT, "conflict": STALE, "phase": 3}
    done = attempts(*times)
    other = attempts(*(one | (stale if i < refused else {}) for i, one in enumerate(times)))
    workers = [made_worker(n, done) for n in range(2)]
    workers.append(made_worker(2, other, begin="concurrent"))
    return made_run(workers, plan={"begin": "2:immediate,1:concurrent"})


def test_each_mode_of_a_mix_has_its_own_numbers_and_all_are_in_the_roles() -> None:
    counted = count(mixed())
    assert counted.roles["writer"].attempts == 30
    assert {m: counted.roles[m].attempts for m in counted.modes("writer")} == {
        "writer:immediate": 20,
        "writer:concurrent": 10,
    }
    assert counted.roles["writer:concurrent"].conflicted == 3
    assert counted.roles["writer:immediate"].conflicted == 0
    assert list(counted.roles) == ["writer"], "whoever goes over the roles counts nobody twice"
    with pytest.raises(KeyError):
        counted.roles["writer:exclusive"]


def test_a_run_of_one_mode_has_no_modes_apart() -> None:
    counted = count(made_run([made_worker(0, mixed().workers[0].attempts)]))
    assert counted.modes("writer") == () and "writer:immediate" not in counted.roles


def test_show_tells_a_mix_mode_by_mode() -> None:
    text = " ".join(" ".join(summary_lines(mixed(), 400)).split())
    assert "3 writers, libsql 2 BEGIN IMMEDIATE + 1 BEGIN CONCURRENT: 27 tx/s" in text
    assert "of these 2 by libsql BEGIN IMMEDIATE: 20 tx/s committed, abort rate 0 %" in text
    assert "of these 1 by libsql BEGIN CONCURRENT: 7 tx/s committed, abort rate 30 %" in text


def test_a_mix_is_no_run_of_the_model_of_concurrent_writers() -> None:
    with pytest.raises(Exception, match="several modes"):
        unit_of(mixed())


def test_a_sweep_shows_a_mix_mode_by_mode(tmp_path: Path) -> None:
    arms = {"mixed": {"database": "libsql", "writers": 3, "begin": "2:immediate,1:concurrent"}}
    folder = made_experiment(tmp_path / "sweep", arms, lambda arm, block: mixed(), blocks=2)
    measured = gather(read_experiment(folder))
    table = cells_table(measured)
    cell = dict(zip(table.head, table.rows[0], strict=True))
    assert cell["committed_per_s"] == "27"
    assert cell["committed_per_s_immediate"] == "20" and cell["committed_per_s_concurrent"] == "7"
    assert cell["abort_rate_concurrent"] == "0.3" and cell["abort_rate_immediate"] == "0"
    rows = [" ".join(row).split() for row in arms_table(measured).rows]
    assert [row[:1] for row in rows] == [["mixed"], ["·"], ["·"]]
    assert rows[2][1:4] == ["1", "BEGIN", "CONCURRENT"] and "7" in rows[2]
    one = measured.arms["mixed"].cells[0]
    assert resampled(one, "throughput", "writer:concurrent") is not None
    assert resampled(one, "throughput", "writer:exclusive") is None
