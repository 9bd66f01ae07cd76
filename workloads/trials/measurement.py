"""One trial measured, in a process of its own, which ends with its parent and takes with it all
that it started. `measure` is the door.

Each block holds every arm once, in an order drawn from the seed, and all arms of a block draw the
same rows. A block is kept when it is done.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from workloads.errors import EngineMissing
from workloads.files import FORMAT_VERSION, made, resolved
from workloads.processes import (
    describe_end,
    die_with_parent,
    end,
    keep,
    path_of,
    python,
    read_last_words,
    start,
    wait,
)
from workloads.runs import CpuMeter, describe
from workloads.trials.files import Written, read_manifest, set_aside
from workloads.trials.trial import Client, Trial, find_trial

WORDS = "trial"
"""The file of the measuring process's last words, without its ending."""


def measure(
    name: str,
    folder: Path,
    *,
    quick: bool = False,
    seed: int = 0,
    blocks: int | None = None,
    limit_s: float | None = None,
) -> dict[str, Any]:
    """Measure a trial into `folder` and return the manifest; what is measured there already stays.

    blocks : how many at most (default: the trial's own; an interval needs 6).
    Its `ended` is "done", "failed" (with `failure`) or "missing" (something is not there; with
    `failure`). An earlier attempt that was cut is moved aside, to FOLDER.1 and so on.
    Raises UnknownName; RunError where an earlier manifest can't be read; OSError where nothing can
    be written.
    """
    trial = find_trial(name)
    manifest = read_manifest(folder) if folder.is_dir() else {}
    if manifest.get("ended") == "done":
        return manifest
    if manifest.get("ended", "missing") != "missing":
        set_aside(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with made("trial") as home:
        job: dict[str, Any] = {"trial": name, "folder": str(resolved(folder)), "home": str(home)}
        job |= {"quick": quick, "seed": seed, "blocks": blocks or trial.blocks[quick]}
        failure = _apart(job, folder, trial.limit_s if limit_s is None else limit_s)
        if failure:
            _keep_logs(home, folder)
    manifest = read_manifest(folder)
    if failure and manifest.get("ended") != "missing":
        head = manifest or {"cwkit": FORMAT_VERSION, "trial": name, "seed": seed, "quick": quick}
        manifest = Written(folder, head | {"ended": "failed", "failure": failure}).manifest
    return manifest


def _apart(job: dict[str, Any], folder: Path, limit_s: float) -> str:
    """Run `main` in a process of its own. Returns why it failed, "" where it did not.

    Its standard error is kept in `folder`.
    """
    child = start(
        WORDS,
        python("workloads.trials.measurement", json.dumps(job)),
        last_words=path_of(folder, WORDS),
        # The binding writes a line to its error stream for each sync, and we would time it.
        environment={"RUST_LOG": "off"},
    )
    try:
        status = wait(child, limit_s)
    finally:
        end(child.process)
        keep(path_of(folder, WORDS))
    if status is None:
        return f"not done after {limit_s:g} s"
    return describe_end(child) if status else ""


def _keep_logs(home: Path, folder: Path) -> None:
    """Keep what the servers said of a trial that failed."""
    for log in sorted(home.rglob("*.log")):
        if text := read_last_words(log):
            path_of(folder, log.stem).write_text(text, encoding="utf-8")


def main(argv: Sequence[str]) -> int:
    """JOB as JSON: the measuring process. Status 0 also where something is missing; the manifest
    says so.
    """
    job = json.loads(argv[0])
    die_with_parent()
    folder, home = Path(job["folder"]), Path(job["home"])
    trial = find_trial(job["trial"])
    head = {"cwkit": FORMAT_VERSION, "trial": job["trial"], "ended": "running"}
    head |= {name: job[name] for name in ("seed", "quick", "blocks")}
    started = datetime.now(UTC).isoformat(timespec="seconds")
    with ExitStack() as stack:
        try:
            client = trial.begin(home, stack, quick=job["quick"])
        except EngineMissing as missing:
            Written(folder, head | {"ended": "missing", "failure": str(missing)})
            return 0
        facts = {"started": started, "machine": describe(home), "checks": []} | dict(client.facts)
        written = Written(folder, head | facts | {"arms": dict(client.arms), "timed": trial.timed})
        _blocks(trial, client, written, job["seed"], job["blocks"])
        written.note(checks=list(client.checks()), ended="done")
    return 0


def _blocks(trial: Trial, client: Client, written: Written, seed: int, blocks: int) -> None:
    begun = time.monotonic()
    for block in range(blocks):
        if block >= trial.blocks[True] and time.monotonic() - begun > trial.enough_s:
            break
        ns = {arm: np.zeros(shape, np.int64) for arm, shape in client.arms.items()}
        meter, reaped_s = CpuMeter(list(client.pids)), _reaped_s(client.pids)
        rows = client.block(ns, np.random.default_rng([seed, block]))
        read = meter.read()
        ours = (_reaped_s(client.pids) - reaped_s) / (read["total_cpu_s"] or math.inf)
        read["cpu_share"] = max(0.0, read["cpu_share"] - ours)
        written.keep(ns, rows, read)


def _reaped_s(pids: Sequence[int]) -> float:
    """CPU time of the ended children of these processes, s: a server has one for a connection."""
    ticks = 0
    for pid in pids:
        with contextlib.suppress(OSError, ValueError, IndexError):
            text = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
            ticks += sum(map(int, text.rpartition(")")[2].split()[13:15]))
    return ticks / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
