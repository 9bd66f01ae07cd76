"""The machine a run ran on, and who else used it: the part of a manifest that no engine knows."""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
import resource
import subprocess
import time
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from workloads.files import ROOT, resolved

SOURCES = ROOT / "workloads"


def describe(folder: Path, files: Sequence[str] = ()) -> dict[str, Any]:
    """The machine and the file system that holds `folder`, and the code that ran there. Plain data,
    no path of the machine but what the plan names.

    files : the user's own, as the plan names them (`Plan.files`); not what those import.
    """
    return {
        "id": identity(),
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)),
        "cores_of_machine": psutil.cpu_count(),
        "memory_bytes": psutil.virtual_memory().total,
        "kernel": f"{platform.system()} {platform.release()}",
        "architecture": platform.machine(),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "file_system": file_system(folder),
        "governor": _first_line("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        "cwkit_commit": commit(),
        "cwkit_source": source(),
        "files": {name: digest(Path(name)) for name in files},
    }


@cache
def identity() -> str:
    """12 hex digits that tell this machine from others: a hash, from which no name can be read.

    The hash is made of the machine's id and name (containers of one image share the id), its
    processor, and its memory in whole GiB: what the kernel keeps for itself differs at each start.
    """
    facts = (
        _first_line("/etc/machine-id"),
        platform.node(),
        _cpu_model(),
        psutil.cpu_count(),
        round(psutil.virtual_memory().total / 2**30),
    )
    return hashlib.sha256(repr(facts).encode()).hexdigest()[:12]


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or "unknown"


def _first_line(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8").split("\n")[0]
    except OSError:
        return "unknown"


def file_system(folder: Path) -> str:
    """The type of the file system that holds a folder ("ext4", "tmpfs"): the longest mount wins."""
    at = resolved(folder)
    best, kind = -1, "unknown"
    for part in psutil.disk_partitions(all=True):
        mount = Path(part.mountpoint)
        if (at == mount or mount in at.parents) and len(mount.parts) > best:
            best, kind = len(mount.parts), part.fstype
    return kind


@cache
def commit() -> str:
    """Commit of this checkout, "+" behind it where files are changed; "unknown" outside git."""
    try:
        head = _git("rev-parse", "--short=12", "HEAD")
        changed = _git("status", "--porcelain", "--untracked-files=no", "--", "*.py")
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return head + ("+" if changed else "")


def source() -> str:
    """A hash of the code that cells run: a commit does not show later changes.

    Not kept from call to call: each run's processes import the files as they are then.
    """
    digest_ = hashlib.sha256()
    for name in sorted(_sources(), key=lambda name: name.split("/")):
        digest_.update(name.encode())
        with open(SOURCES / name, "rb") as file:
            digest_.update(file.read())
    return digest_.hexdigest()[:12]


def _sources() -> Iterator[str]:
    """The names of the files with that code, below SOURCES."""
    for folder, _, names in os.walk(SOURCES):
        for name in names:
            if name.endswith(".py") and not name.startswith(("test_", "conftest")):
                yield os.path.relpath(os.path.join(folder, name), SOURCES)


def digest(path: Path) -> str:
    """A hash of a file, "" where it can't be read."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()[:12]
    except OSError:
        return ""


def _git(*argv: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(ROOT), *argv], capture_output=True, text=True, timeout=10, check=True
    )
    return done.stdout.strip()


PRESSURE = Path("/proc/pressure")
"""Since Linux 4.20, where the kernel was built with it and not told to do without (psi=0)."""

RESOURCES = ("cpu", "io", "memory")


class PressureMeter:
    """How much work stood still for want of something, since the meter was made.

    It is about the whole machine, others' work included: the kernel says no more.
    """

    def __init__(self, folder: Path = PRESSURE) -> None:
        self.folder = folder
        self.begun = time.monotonic()
        self.before = self._stalled_us()

    def _stalled_us(self) -> dict[str, dict[str, int]]:
        found = {}
        for name in RESOURCES:
            with contextlib.suppress(OSError, ValueError):
                found[name] = stalled_us((self.folder / name).read_text(encoding="ascii"))
        return found

    def read(self) -> dict[str, dict[str, float]] | None:
        """Shares of the time, in [0, 1], by "cpu", "io" and "memory": "some" while at least one
        task waited for it, "full" while all of them did. None where the kernel does not say.
        """
        elapsed_us = max((time.monotonic() - self.begun) * 1e6, 1.0)
        shares = {
            name: {
                kind: min(max(now - self.before[name].get(kind, now), 0) / elapsed_us, 1.0)
                for kind, now in after.items()
            }
            for name, after in self._stalled_us().items()
            if name in self.before
        }
        return shares or None


def stalled_us(text: str) -> dict[str, int]:
    r"""The totals of a file of /proc/pressure: "some" and "full" -> microseconds.

    >>> stalled_us("some avg10=0.00 avg60=0.00 total=77\nfull avg10=0.00 avg60=0.00 total=5\n")
    {'some': 77, 'full': 5}
    """
    lines = (line.split() for line in text.splitlines() if "total=" in line)
    return {kind: int(rest[-1].removeprefix("total=")) for kind, *rest in lines}


class CpuMeter:
    """Whose CPU time it was, between two moments: the run's, others', or stolen by the host.

    Kernel counters only: /proc/stat for the machine (10 ms steps), the CPU clocks of our own
    processes (ns). Both are read at the edges of the measured window, not in it.

    pids : the run's processes. Their own children, a bridge's programs, are the run's as well.
    cpus : the CPUs that the run is confined to, its parent among them; what happens on others is
        not counted, so that a neighbour on CPUs of its own is not foreign. (): the whole machine.
    conductor : process that runs this run beside others, 0 for none. Its work on the run's CPUs is
        foreign; `conductor_cpu_s` is an upper bound of it.
    server : processes of the run's server, the first of them the parent of the others.
    """

    def __init__(
        self,
        pids: list[int],
        cpus: Sequence[int] = (),
        conductor: int = 0,
        server: Sequence[int] = (),
    ) -> None:
        self.pids, self.cpus, self.conductor = [*pids, os.getpid()], tuple(cpus), conductor
        self.reaped_by = {pid: _reaped_by(pid) for pid in pids}
        self.pids[:0] = _children_of(pids)
        self.at = (_machine_ticks(self.cpus), {pid: _own_ns(pid) for pid in self.pids})
        self.conducted_ns = _own_ns(conductor) if conductor else None
        self.reaped_s = _reaped_s()
        self.server = {pid: _own_ns(pid) or 0 for pid in server}
        self.server_reaped_s = _reaped_by(server[0]) if server else 0.0

    def read(self, server: Sequence[int] = ()) -> dict[str, float]:
        """Shares of the CPU time of those CPUs since the meter was made, each in [0, 1].

        server : processes that the run's server has now, () where it is gone.
        foreign : used by processes that are not the run's. steal : taken by the hypervisor.
        own_cpu_s : CPU seconds of the run's processes, its parent and its server among them.
        server_cpu_s : the server's part of it, where it is still there.
        """
        before, own_before = self.at
        after = _machine_ticks(self.cpus)
        own = 0.0
        for pid in self.pids:
            now = _own_ns(pid)
            before_ns = own_before[pid]
            if before_ns is not None:
                # One that has ended and was reaped has its whole life in the children's account.
                own += ((now or 0) - before_ns) / 1e9
        own += sum(_reaped_by(pid) - before_s for pid, before_s in self.reaped_by.items())
        of_server_s = self._of_server_s(server)
        own += _reaped_s() - self.reaped_s + of_server_s
        tick = os.sysconf("SC_CLK_TCK")
        total, busy, steal = ((a - b) / tick for a, b in zip(after, before, strict=True))
        seconds = {"total_cpu_s": max(total, 0.0), "own_cpu_s": own}
        if server:
            seconds["server_cpu_s"] = max(of_server_s, 0.0)
        if self.conducted_ns is not None:
            now_ns = _own_ns(self.conductor)
            seconds["conductor_cpu_s"] = ((now_ns or self.conducted_ns) - self.conducted_ns) / 1e9
        if total <= 0:
            return {"cpu_share": 0.0, "steal_share": 0.0} | seconds
        return {
            "cpu_share": max(0.0, (busy - own) / total),
            "steal_share": max(0.0, steal / total),
        } | seconds

    def _of_server_s(self, now: Sequence[int]) -> float:
        """CPU seconds of the server's processes since the meter was made, of those that have begun
        or ended meanwhile too. What it had used before is taken off where it is gone: its whole
        life is in the children's account.
        """
        used_ns = sum(_own_ns(pid) or 0 for pid in now) - sum(self.server.values())
        return used_ns / 1e9 + (_reaped_by(now[0]) - self.server_reaped_s if now else 0.0)


def _machine_ticks(cpus: Sequence[int]) -> tuple[int, int, int]:
    return ticks(Path("/proc/stat").read_text(encoding="ascii"), cpus)


def ticks(stat: str, cpus: Sequence[int] = ()) -> tuple[int, int, int]:
    r"""(all, busy, stolen) ticks of these CPUs, () for all of them, from the text of /proc/stat.

    iowait counts as idle, guest time is inside user.

    >>> stat = "cpu  9 0 0 90 0 0 0 3 0 0\ncpu0 7 0 0 40 0 0 0 1 0 0\ncpu1 2 0 0 50 0 0 0 2 0 0"
    >>> ticks(stat), ticks(stat, (1,))
    ((102, 9, 3), (54, 2, 2))
    """
    wanted = {f"cpu{cpu}" for cpu in cpus} or {"cpu"}
    sums = [0] * 8
    for line in stat.splitlines():
        name, *fields = line.split()
        if name in wanted:
            sums = [a + int(b) for a, b in zip(sums, fields[:8], strict=True)]
    user, nice, system, idle, iowait, irq, softirq, steal = sums
    busy = user + nice + system + irq + softirq
    return busy + idle + iowait + steal, busy, steal


def _reaped_s() -> float:
    """CPU seconds of all children that this process has waited for."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _children_of(pids: Sequence[int]) -> list[int]:
    """The children of these processes, and theirs; none of a process that is gone."""
    found: list[int] = []
    for pid in pids:
        for path in Path(f"/proc/{pid}/task").glob("*/children"):
            with contextlib.suppress(OSError):
                found += map(int, path.read_text(encoding="ascii").split())
    return [*found, *_children_of(found)] if found else []


def _reaped_by(pid: int) -> float:
    """CPU seconds of all children that another process has waited for; 0 where it is gone."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return 0.0
    fields = stat.rpartition(")")[2].split()  # from the third on: the name may have blanks
    return (int(fields[13]) + int(fields[14])) / os.sysconf("SC_CLK_TCK")


def _own_ns(pid: int) -> int | None:
    """CPU time of a process, ns, threads that have ended included; None where it is gone.

    The kernel's CPU clock of the process, as clock_getcpuclockid(3) names it; the files of its
    threads would forget a thread that ends before they are read.
    """
    try:
        return time.clock_gettime_ns((~pid << 3) | 2)
    except OSError:
        return None
