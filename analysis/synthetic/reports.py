"""A whole made-up report: every experiment that a finding is told from, each with a planted effect.

The arms ask for what the report's own ask for, so that they are found by it. Windows are short and
runs small: what is planted is in the counts.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from analysis.synthetic.runs import drawn_run, edit, made_experiment, open_loop
from workloads.files import FORMAT_VERSION
from workloads.records import CONFLICT, UPGRADE, FindingEntry, Run, ScenarioEntry, WalEntry

LIBSQL = {"database": "libsql", "write_engine": "libsql", "begin": "immediate"}
BRANCH = {"database": "libsql", "write_engine": "sqlite-concurrent", "begin": "immediate"}
CONCURRENT = BRANCH | {"begin": "concurrent"}
DEFERRED = {"begin": "deferred"}

IMMEDIATE_PER_S = 1000.0
"""What BEGIN IMMEDIATE of the branch commits in the headline."""

VERSIONS = {"libsql": "3.45.1", "sqlite": "3.40.1", "sqlite-concurrent": "3.54.0"}


class Planted:
    """A folder of experiments with planted effects; each is written where its method is called.

    blocks : of what is claimed. noise : of each cell's rate.
    """

    def __init__(self, folder: Path, *, blocks: int = 10, noise: float = 0.01) -> None:
        self.folder, self.blocks, self.noise = folder, blocks, noise
        folder.mkdir(parents=True, exist_ok=True)

    def experiment(
        self,
        name: str,
        arms: Mapping[str, tuple[Mapping[str, Any], Mapping[str, Any]]],
        *,
        blocks: int = 0,
        make: Callable[[str, int], Run] | None = None,
    ) -> None:
        """Arms by name: (plan, what is planted). What is planted goes to `cell`."""

        def usual(arm: str, block: int) -> Run:
            plan, planted = arms[arm]
            return self.cell([len(name), len(arm), block], plan, **planted)

        made_experiment(
            self.folder / name,
            {arm: plan for arm, (plan, _) in arms.items()},
            make or usual,
            name=name,
            blocks=blocks or self.blocks,
            baseline=next(iter(arms)),
        )

    def cell(
        self,
        seed: list[int],
        plan: Mapping[str, Any],
        *,
        factor: float = 1.0,
        abort: float = 0.0,
        upgrades: bool = False,
        cpu_us: float = 20.0,
        used: float = 0.5,
        shares: tuple[float, ...] = (),
        seconds: float = 0.5,
        log: tuple[int, int] = (0, 0),
        broken: str = "",
    ) -> Run:
        """One run. factor : of IMMEDIATE_PER_S. shares : of each writer, even by default.

        log : most bytes of the write-ahead log, and how often it began again; 0 bytes: none.

        cpu_us : of a commit. used : share of the cores' CPU time that the run used.
        broken : the sentence of a check that did not hold.
        """
        rng = np.random.default_rng(seed)
        per_s: Any = IMMEDIATE_PER_S * factor * rng.normal(1, self.noise)
        engine = str(plan.get("write_engine") or plan["database"])
        run = drawn_run(
            seed,
            per_s=[per_s * share for share in shares] if shares else float(per_s),
            writers=plan["writers"],
            seconds=seconds,
            abort=abort,
            engine=engine,
            begin=str(plan["begin"]),
            readers=plan.get("readers", 0),
            plan=plan,
        )
        if not abort:  # nobody was told anything
            run = replace(run, workers=tuple(replace(w, messages=()) for w in run.workers))
        run.manifest.scenario = ScenarioEntry(name=plan["scenario"], params=plan["params"])
        for entry, worker in zip(run.manifest.workers, run.workers, strict=True):
            entry.cpu_s = round(int((worker.attempts["outcome"] == 1).sum()) * cpu_us * 1e-6, 9)
            if upgrades:
                refused = worker.attempts["outcome"] == CONFLICT
                worker.attempts["conflict"][refused] = UPGRADE
                worker.attempts["phase"][refused] = 2
        cores = {"total_cpu_s": 2 * seconds, "own_cpu_s": 2 * seconds * used}
        edit(run.manifest, foreign={"cpu_share": 0.0, "steal_share": 0.0} | cores)
        for name, library in run.manifest.engines.items():
            library.binding, library.version = f"{name} 1.0", VERSIONS.get(name, "3.45.1")
        if log[0]:
            run.manifest.wal = WalEntry(bytes_max=log[0], restarts=log[1], exact=True)
        if broken:
            run.manifest.ok, run.manifest.ended = False, "invariant broken"
            run.manifest.findings = [
                FindingEntry(check="during the run", ok=False, sentence=broken, evidence={})
            ]
        return run

    # --- the experiments ---

    def headline(
        self, *, mode: float = 1.6, library: float = 1.05, cpu: float = 1.1, aa: float = 1.0,
        abort: float = 0.01, without: tuple[str, ...] = (),
    ) -> None:  # fmt: skip
        """Two factors: of the mode on the branch, and of the branch on libSQL's."""
        work = _update(200)
        arms = {
            "libsql immediate": (LIBSQL | work, {"factor": 1 / library}),
            "branch immediate": (BRANCH | work, {}),
            "branch immediate again": (BRANCH | work, {"factor": aa}),
            "branch concurrent": (
                CONCURRENT | work,
                {"factor": mode, "cpu_us": 20 * cpu, "abort": abort},
            ),
        }
        self.experiment("headline", {k: v for k, v in arms.items() if k not in without})

    def no_work(self, *, mode: float = 0.8, blocks: int = 0) -> None:
        work = _update(0)
        arms = {
            "libsql immediate t0": (LIBSQL | work, {}),
            "branch immediate t0": (BRANCH | work, {"factor": 1.1}),
            "branch concurrent t0": (CONCURRENT | work, {"factor": 1.1 * mode, "abort": 0.02}),
        }
        self.experiment("no-work", arms, blocks=blocks)

    def hot(self, *, mode: float = 0.6, blocks: int = 0) -> None:
        work = {"scenario": "counter", "params": {"rows": 10}, "writers": 4}
        arms = {
            "branch immediate": (BRANCH | work, {}),
            "branch concurrent": (CONCURRENT | work, {"factor": mode, "abort": 0.3}),
        }
        self.experiment("hot", arms, blocks=blocks)

    def plain(self, *, refused: float = 0.05, gain: float = 1.1) -> None:
        """LibSQL's plain BEGIN, of whose attempts some are refused at once; gain : IMMEDIATE's."""
        work = _update(0)
        arms = {
            "libsql immediate": (LIBSQL | work, {"factor": gain}),
            "libsql deferred": (LIBSQL | DEFERRED | work, {"abort": refused, "upgrades": True}),
        }
        self.experiment("plain", arms)

    def fairness(
        self, *, immediate: tuple[float, ...] = (0.7, 0.2, 0.1, 0.0),
        concurrent: tuple[float, ...] = (0.25,) * 4, seconds: float = 20.0, blocks: int = 1,
        logs: tuple[int, int] = (4, 600), name: str = "fairness",
    ) -> None:  # fmt: skip
        """Each writer's share. logs : MiB of the log under BEGIN IMMEDIATE and CONCURRENT."""
        work = _update(200) | {"duration_s": seconds}
        long = {"seconds": seconds, "factor": 0.05}
        one = long | {"shares": immediate, "log": (logs[0] << 20, 99)}
        overlapping = long | {"shares": concurrent, "log": (logs[1] << 20, 0)}
        arms = {
            "libsql immediate": (LIBSQL | work, one),
            "branch immediate": (BRANCH | work, one),
            "branch concurrent": (CONCURRENT | work, overlapping),
        }
        self.experiment(name, arms, blocks=blocks)

    def offered(self, *, served: Mapping[float, tuple[float, float]] | None = None) -> None:
        """Share of IMMEDIATE_PER_S offered -> what (BEGIN IMMEDIATE, BEGIN CONCURRENT) could do."""
        levels = served or {0.25: (1000, 1000), 0.5: (1000, 2000), 0.75: (1000, 3000)}
        arms: dict[str, dict[str, Any]] = {}
        can = {}
        for share, both in levels.items():
            for system, values, most in zip(
                ("branch immediate", "branch concurrent"), (BRANCH, CONCURRENT), both, strict=True
            ):
                name = f"{system} {share:g}"
                arms[name] = values | _update(200) | {"rate": IMMEDIATE_PER_S * share}
                can[name] = most

        def make(arm: str, block: int) -> Run:
            plan = arms[arm]
            run = open_loop(
                plan["rate"], can[arm], writers=4, seconds=5.0, seed=block, plan={**plan}
            )
            run.manifest.scenario = ScenarioEntry(name=plan["scenario"], params=plan["params"])
            return run

        self.experiment("offered", {arm: (plan, {}) for arm, plan in arms.items()}, make=make)

    def read_mostly(
        self, *, mode: float = 1.0, library: float = 1.5, cpu: float = 1.0, used: float = 0.5,
        without: tuple[str, ...] = (), blocks: int = 0,
    ) -> None:  # fmt: skip
        """Factors of the mode and the library; cpu : of the mode, of the CPU time a commit."""
        work = {"scenario": "register", "params": {"rows": 1000, "mix": "B"}, "writers": 4}
        arms = {
            "libsql deferred": (LIBSQL | DEFERRED | work, {"used": used}),
            "branch deferred": (BRANCH | DEFERRED | work, {"factor": library, "used": used}),
            "branch concurrent": (
                CONCURRENT | work,
                {"factor": library * mode, "cpu_us": 20 * cpu, "used": used},
            ),
        }
        arms = {k: v for k, v in arms.items() if k not in without}
        self.experiment("read-mostly", arms, blocks=blocks)

    def skew(self, *, first: tuple[float, ...] = (0.02, 0.1, 0.3), blocks: int = 0) -> None:
        """Refused first tries by skew: uniform, 0.99, 1.2."""
        arms = {
            f"branch concurrent {keys}": (
                CONCURRENT | _update(200, keys=keys, operations=4), {"abort": share}
            )
            for keys, share in zip(("uniform", "zipfian:0.99", "zipfian:1.2"), first, strict=True)
        }  # fmt: skip
        self.experiment("skew", arms, blocks=blocks)

    def writers(self, *, immediate: float = 1.0, concurrent: float = 2.0) -> None:
        """Throughput of four writers over that of one."""
        arms = {
            f"{system} w{n}": (values | _update(200) | {"writers": n},
                               {"factor": grown if n == 4 else 1.0})
            for n in (1, 4)
            for system, values, grown in (
                ("libsql immediate", LIBSQL, immediate), ("branch concurrent", CONCURRENT,
                                                          concurrent))
        }  # fmt: skip
        self.experiment("writers", arms)

    def mission(self, *, broken: str = "") -> None:
        plan = CONCURRENT | {"scenario": "bank", "params": {"rows": 1000}, "writers": 4}
        plan |= {"readers": 2, "read_engine": "libsql"}
        self.experiment("mission", {"mission": (plan, {"broken": broken})}, blocks=1)

    def acked(
        self, *, lost: Mapping[str, float] | None = None, control_s: float = 60.0,
        strict: bool = False, ordinary: bool = False, single: bool = False,
        locked_s: float = 20.0, without: tuple[str, ...] = (),
    ) -> None:  # fmt: skip
        """Lost : engine -> seconds until it lost a commit; by default libSQL and sqlite lose some.

        strict, ordinary, single : whether something is lost at synchronous normal and full, under
        an ordinary load, beside one checkpointer.
        """
        lost = {"libsql": 2.0, "sqlite": 0.4} if lost is None else lost
        racing = {"scenario": "acked", "params": {}, "writers": 1, "checkpointers": 3}
        racing |= {"synchronous": "off"}
        said = "worker 1 was told that value 77 is committed, worker 0 read 76."

        def arm(engine: str, took_s: float, gone: bool, **more: Any) -> tuple[Any, Any]:
            plan = {"database": engine, "write_engine": engine, "begin": "immediate"} | racing
            plan |= {"checkpoint_engine": engine} | more
            return plan, {"seconds": took_s, "factor": 0.05, "broken": said if gone else ""}

        arms = {
            name: arm(name, lost.get(name, control_s), name in lost)
            for name in ("libsql", "sqlite", "sqlite-concurrent")
        }
        arms["libsql normal"] = arm("libsql", 10, strict, synchronous="normal")
        arms["libsql full"] = arm("libsql", 10, strict, synchronous="full")
        arms["libsql ordinary"] = arm("libsql", 10, ordinary, checkpointers=0, writers=4)
        arms["libsql single"] = arm("libsql", 20, single, checkpointers=1, wal_autocheckpoint=0)
        arms["libsql locked"] = arm("libsql", locked_s, False, checkpoint="full",
                                    wal_autocheckpoint=0)  # fmt: skip
        arms = {name: both for name, both in arms.items() if name not in without}
        self.experiment("acked", arms, blocks=1)

    def suite(self, *, concurrent: bool = False, upgrade: str = "refused at once") -> None:
        """Concurrent : whether libSQL accepts BEGIN CONCURRENT."""
        answer: dict[str, Any] = {"accepted": concurrent, "overlaps": True if concurrent else None}
        answer |= {"words": "" if concurrent else 'near "CONCURRENT": syntax error'}
        plain = {"accepted": True, "words": "", "overlaps": False, "upgrade": upgrade}
        taken = {"accepted": True, "words": "", "overlaps": True}
        whole: dict[str, Any] = {
            "missing": None,
            "several_processes": True,
            "processes_words": "",
            "pragmas": {},
        }
        identity = {"version": "3.45.1", "source_id": "", "options": []}
        probes = [
            whole | {"engine": engine, "identity": identity | {"binding": f"{engine} 1"}} | modes
            for engine, modes in (
                ("libsql", {"modes": {"concurrent": answer, "deferred": plain}}),
                ("sqlite-concurrent", {"modes": {"concurrent": taken}}),
            )
        ]
        entries = {"cwkit": FORMAT_VERSION, "quick": False, "seed": 412, "probes": probes,
                   "command": "cwkit report", "started": "2026-11-22T12:00:00+00:00",
                   "offered_per_s": IMMEDIATE_PER_S}  # fmt: skip
        (self.folder / "campaign.json").write_text(json.dumps(entries), encoding="utf-8")

    def isolation(self, matrix: list[Any], known: list[Any]) -> None:
        kept = json.dumps({"matrix": matrix, "known": known})
        (self.folder / "isolation.json").write_text(kept, encoding="utf-8")


def _update(think_us: float, **more: Any) -> dict[str, Any]:
    params = {"rows": 1000, "mix": "read-modify-write=100", "think_us": think_us}
    return {
        "scenario": "register",
        "params": params | {"keys": "uniform"} | more,
        "writers": 4,
    }


EXPERIMENTS = {
    "headline": "headline",
    "no_work": "no-work",
    "hot": "hot",
    "plain": "plain",
    "fairness": "fairness",
    "offered": "offered",
    "read_mostly": "read-mostly",
    "skew": "skew",
    "writers": "writers",
    "mission": "mission",
    "acked": "acked",
}
"""What plants an experiment -> the experiment's name."""


def planted_report(folder: Path, **effects: Mapping[str, Any] | None) -> Path:
    """A whole report. effects : experiment -> what is planted in it, None to leave it out.

    >>> planted_report(folder, headline={"mode": 0.7}, offered=None)  # doctest: +SKIP
    """
    made = Planted(folder)
    for name in ("suite", *EXPERIMENTS):
        effect = effects.get(name, {})
        if effect is not None:
            getattr(made, name)(**effect)
    return folder
