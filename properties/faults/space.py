"""Stories of a disk that fills in earnest, and has space again: a small file system, a limit.

The small file system is mounted in a namespace of the process that makes the run: whatever becomes
of that process, the mount ends with it.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from properties.faults.story import Case, StoryResult
from workloads.engines import trust
from workloads.files import made
from workloads.processes import end, end_with_parent, python, start
from workloads.records import COMMITTED, Run, read_run
from workloads.runs import RunUnderWay, make_plan, run

CLONE_NEWNS = 0x00020000
MS_REMOUNT, MS_REC, MS_PRIVATE = 32, 0x4000, 0x40000
LIMIT_S = 90.0
SMALL_KIB = 768
RATE = 200.0
"""Transactions a second: a worker gives up after a thousand failures in a row."""


def _plan_values(case: Case) -> dict[str, object]:
    return {
        "transactions": None, "rate": RATE, "duration_s": 1.2 if case.quick else 3.0, "anew": True,
        "params": {"record_bytes": 8000}, "busy_timeout_ms": 500,
    }  # fmt: skip


def full_disk(case: Case, result: StoryResult) -> None:
    """A tmpfs of SMALL_KIB, which is made larger in the middle of the run."""
    plan = case.plan(**_plan_values(case))
    job = {
        "plan": plan.model_dump(mode="json"), "runs": str(case.place),
        "trusted": list(plan.files()), "name": "full-disk",
    }  # fmt: skip
    with made("space") as mount:
        job["mount"] = str(mount)
        with (case.place / "full-disk.json").open("wb") as file:
            child = start(
                "full disk",
                python("properties.faults.space", json.dumps(job)),
                stdout=file,
                last_words=case.place / "full-disk.txt",
                conducts=True,
            )
        until = time.monotonic() + LIMIT_S
        try:
            while child.process.poll() is None and time.monotonic() < until:
                time.sleep(0.01)
        finally:
            if child.process.poll() is None:
                child.process.send_signal(signal.SIGTERM)
                time.sleep(0.5)
            end(child.process)
    told = (case.place / "full-disk.json").read_text(encoding="utf-8").splitlines()
    answer = json.loads(told[-1]) if told else {}
    if "folder" not in answer:
        result.untold.append(answer.get("why") or f"it ended: {child.stderr_text()[-200:]}")
        return
    _count(result, read_run(Path(answer["folder"])), float(answer["again_ns"]))
    result.command = _command(case, "full-disk")


def file_limit(case: Case, result: StoryResult) -> None:
    """RLIMIT_FSIZE of the workers for a while: a write beyond it fails with EFBIG."""
    again: list[int] = []

    def beside(under_way: RunUnderWay) -> None:
        pids = set(under_way.pids.values())
        before = {pid: resource.prlimit(pid, resource.RLIMIT_FSIZE) for pid in pids}
        small = SMALL_KIB * 1024 // 2
        for pid, (_, most) in before.items():
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (small, most))
        under_way.wait_until(0.5)
        for pid, limits in before.items():
            if Path(f"/proc/{pid}").exists():
                resource.prlimit(pid, resource.RLIMIT_FSIZE, limits)
        again.append(time.monotonic_ns())

    made_run = case.run(case.plan(**_plan_values(case)), beside=beside)
    _count(result, made_run, float(again[0]) if again else 0.0)
    result.command = _command(case, "file-limit")


def _command(case: Case, story: str) -> str:
    quick = " --quick" if case.quick else ""
    return (
        f"cwkit faults --engine {case.engine} --begin {case.begin} --story {story} "
        f"--seed {case.seed}{quick}"
    )


def _count(result: StoryResult, made_run: Run, again_ns: float) -> None:
    """A full disk is what was asked for: what must be is that it goes on with space again."""
    failed = after = 0
    for worker in made_run.workers:
        if worker.role == "writer":
            rows = worker.attempts
            failed += int(((rows["outcome"] == 3) | (rows["outcome"] == 4)).sum())
            committed = rows["end_ns"][rows["outcome"] == COMMITTED]
            # Not later: where a worker keeps a lock, it gives it up as it ends.
            after += int(((committed > again_ns) & (committed < made_run.window_ns[1])).sum())
    made_run.manifest.troubles = []
    result.add(made_run, fired=failed)
    result.told.append(
        f"{failed:,} attempts met the end of the space, {after:,} committed once there was more"
    )
    if failed and not after:
        result.find("nothing was committed when there was space again")


def main(argv: Sequence[str]) -> int:
    """Mount, run, and say where the run is."""
    end_with_parent(5.0)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(3))
    job = json.loads(argv[0])
    trust(*job["trusted"])
    libc = ctypes.CDLL(None, use_errno=True)
    size = f"size={SMALL_KIB}k"
    if libc.unshare(CLONE_NEWNS) != 0:
        print(json.dumps({"why": "no tmpfs can be mounted here: it needs root"}), flush=True)
        return 0
    where, private = job["mount"].encode(), MS_REC | MS_PRIVATE
    mounted = not libc.mount(b"none", b"/", None, private, None) and not libc.mount(
        b"cwkit", where, b"tmpfs", 0, size.encode()
    )
    if not mounted:
        print(json.dumps({"why": "no tmpfs can be mounted here"}), flush=True)
        return 0
    again: list[int] = []

    def beside(under_way: RunUnderWay) -> None:
        under_way.wait_until(0.5)
        libc.mount(b"cwkit", where, b"tmpfs", MS_REMOUNT, b"size=256m")
        again.append(time.monotonic_ns())

    plan = make_plan(**{k: v for k, v in job["plan"].items() if v not in (None, "", [], {})})
    done = run(
        plan, Path(job["runs"]), name=job["name"], databases=Path(job["mount"]), beside=beside
    )
    print(
        json.dumps({"folder": str(done.folder), "again_ns": again[0] if again else 0}), flush=True
    )
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
