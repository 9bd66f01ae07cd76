"""Temporary folders of ours: each says whose it is, and is locked for as long as its owner lives.

A killed process removes nothing. So a later one must tell folders that were left behind from those
in use, and ours from those of strangers, with whom the temporary folder is shared. A folder is ours
and left over where its name is of our pattern, it is this user's and no link, its owner file can be
read, and nobody holds its lock.

The lock is an flock on the folder itself. It ends with the last process that holds it, however that
ends. A child that inherits the open folder holds it as well, so a killed run's folder stays locked
until its last worker is gone. The lock also shows processes of another container, which a process
number cannot. Where a file system has no such locks, the owner's process is looked for.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import re
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from workloads.files.access import resolved

PREFIX = "cwkit-"
NAME = re.compile(r"cwkit-[a-z]+-[a-z0-9_]{8}")
MAKING = re.compile(r"cwkit-making-([0-9]{1,18})-([0-9]{1,18})-[a-z0-9_]{8}")
"""The name of a folder without its owner file, while it is made or removed: the number of its
process, and when that began."""

OWNER_FILE = "owner.json"
STAGE = "stage"
"""The kind of a folder with databases on which schedules are run."""

SHARED_MEMORY = Path("/dev/shm")

MOST_OWNER_BYTES = 16_384
POLL_S = 0.05
NO_LOCKS = (errno.ENOLCK, errno.EBADF, errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS)


class InUse(Exception):
    """Somebody else held the folder for the whole time that the caller wanted to wait."""


@dataclass(frozen=True)
class Owner:
    """Who made a temporary folder, as its owner file has it.

    kind : "run", "stage", "probe", … run, run_id : the run folder that it serves (an absolute path)
    and that run's id, "" where it serves none. pid, start_ticks : its process and when that began,
    in the kernel's ticks. boot_id : of the kernel, new at each start of the machine.
    """

    kind: str
    pid: int
    start_ticks: int
    boot_id: str
    run: str = ""
    run_id: str = ""

    @property
    def alive(self) -> bool:
        """Whether its process is there, as far as process numbers show."""
        return self.boot_id == boot_id() and self.start_ticks == start_ticks(self.pid) != 0


@dataclass(frozen=True)
class Temporary:
    """A folder made by `make`. lock : the open folder, for children to inherit."""

    path: Path
    lock: int

    def release(self) -> None:
        """Give up the lock: the folder is somebody else's to remove."""
        os.close(self.lock)

    def remove(self) -> None:
        """Remove it with all that is in it; what cannot be removed stays."""
        empty(self.path)
        self.release()


@dataclass(frozen=True)
class LeftOver:
    """A folder of ours whose owner is gone. owner : None where it was being made or removed.

    held : somebody still holds it, so it is not left over yet.
    """

    path: Path
    owner: Owner | None
    held: bool = False


def make(
    kind: str, *, within: Path | None = None, run: Path | None = None, run_id: str = ""
) -> Temporary:
    """Make a temporary folder that is this process's own.

    kind : letters, for its name. within : the folder that it lies in (default: the temporary one).
    Raises OSError where it can't be made.
    """
    owner = this_process(kind, run=run, run_id=run_id)
    making = resolved(Path(tempfile.mkdtemp(prefix=_making(owner), dir=within)))
    lock = _opened(making)
    path = making.with_name(f"{PREFIX}{kind}-{making.name[-8:]}")
    try:
        with contextlib.suppress(OSError):  # a file system without locks: its process is asked for
            fcntl.flock(lock, fcntl.LOCK_EX)
        (making / OWNER_FILE).write_text(json.dumps(asdict(owner)), encoding="utf-8")
        os.rename(making, path)
    except BaseException:
        os.close(lock)
        shutil.rmtree(making, ignore_errors=True)
        raise
    return Temporary(path, lock)


def _making(owner: Owner) -> str:
    return f"{PREFIX}making-{owner.pid}-{owner.start_ticks}-"


@contextlib.contextmanager
def made(kind: str, *, within: Path | None = None) -> Iterator[Path]:
    """A temporary folder for the body alone. Raises OSError where it can't be made."""
    one = make(kind, within=within)
    try:
        yield one.path
    finally:
        one.remove()


def this_process(kind: str, *, run: Path | None = None, run_id: str = "") -> Owner:
    """This process as an owner."""
    pid = os.getpid()
    where = str(resolved(run)) if run else ""
    return Owner(kind, pid, start_ticks(pid), boot_id(), where, run_id)


def left_over(*places: Path, wait_s: float = 0.0) -> list[LeftOver]:
    """Folders of ours in these places whose owners are gone. Nothing is changed.

    wait_s : how long to wait for children that outlive a killed owner for a moment, s.
    A place that can't be read has none.
    """
    until = time.monotonic() + wait_s
    while True:
        found = [one for place in dict.fromkeys(places) for one in _of(place)]
        dying = any(one.held and one.owner and not one.owner.alive for one in found)
        if not dying or time.monotonic() >= until:
            return [one for one in found if not one.held]
        time.sleep(POLL_S)


def usual_places() -> list[Path]:
    """Where temporary folders of ours lie unless a command says otherwise."""
    return [Path(tempfile.gettempdir()), SHARED_MEMORY]


def clear(left: LeftOver) -> bool:
    """Remove a folder that was left over; False where its owner is back, or it can't be removed."""
    try:
        with holding(left.path):
            if (found := _looked_at(left.path)) is None or found.owner != left.owner:
                return False
            empty(left.path)
    except (InUse, OSError):
        return False
    return not left.path.exists()


def clear_stages() -> None:
    """Remove the folders with schedules' databases that killed processes left.

    They hold nothing that anybody needs. So nobody is asked, as for a run's database.
    """
    for left in left_over(*usual_places()):
        if left.owner is not None and left.owner.kind == STAGE:
            clear(left)


# --- locks on folders -------------------------------------------------------------------------


@contextlib.contextmanager
def holding(folder: Path, *, wait_s: float = 0.0) -> Iterator[int]:
    """Hold a folder's lock; gives the open folder's number, for children to inherit.

    wait_s : how long to wait for another holder, s. On a file system without locks nothing is held.
    Raises InUse where another holds it, OSError where it is no folder.
    """
    lock = hold(folder, wait_s=wait_s)
    try:
        yield lock
    finally:
        os.close(lock)  # and with it our hold, but not that of a child that inherited it


def hold(folder: Path, *, wait_s: float = 0.0) -> int:
    """As `holding`, until the number that it returns is closed."""
    lock = _opened(folder)
    try:
        # Longer than anybody takes to look whether it is held.
        until = time.monotonic() + max(wait_s, POLL_S)
        while not _locked(lock, fcntl.LOCK_EX):
            if time.monotonic() >= until:
                raise InUse(str(folder))
            time.sleep(POLL_S / 5)
    except BaseException:
        os.close(lock)
        raise
    return lock


def in_use(folder: Path, owner: Owner | None = None) -> bool:
    """Whether somebody holds a folder's lock; False where there is no folder.

    owner : asked for where the file system has no locks.
    """
    try:
        lock = _opened(folder)
    except OSError:
        return False
    try:
        return _in_use(lock, owner)
    finally:
        os.close(lock)


def _in_use(lock: int, owner: Owner | None) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)  # shared: two who look are in no way
    except OSError as error:
        if error.errno in NO_LOCKS:
            return owner is not None and owner.alive
        return True
    return False


def _locked(lock: int, how: int) -> bool:
    try:
        fcntl.flock(lock, how | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno in NO_LOCKS
    return True


def _opened(folder: Path) -> int:
    return os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)


# --- looking at what lies there -----------------------------------------------------------------


def _of(place: Path) -> Iterator[LeftOver]:
    try:
        with os.scandir(place) as entries:
            names = [e.name for e in entries if NAME.fullmatch(e.name) or MAKING.fullmatch(e.name)]
    except OSError:
        return
    for name in sorted(names):
        if (found := _looked_at(place / name)) is not None:
            yield found


def _looked_at(path: Path) -> LeftOver | None:
    """The folder and whether it is held; None where it is not provably ours."""
    try:
        folder = _opened(path)
    except OSError:
        return None  # a file, a link, another user's, or gone
    try:
        if os.fstat(folder).st_uid != os.geteuid():
            return None
        if made := MAKING.fullmatch(path.name):
            owner = None
            if start_ticks(int(made[1])) == int(made[2]) or set(os.listdir(folder)) - {OWNER_FILE}:
                return None
        elif (owner := read_owner(folder)) is None:
            return None
        return LeftOver(path, owner, _in_use(folder, owner))
    except OSError:
        return None
    finally:
        os.close(folder)


def read_owner(folder: int) -> Owner | None:
    """The owner by the owner file in an open folder; None where no credible one is there."""
    try:
        # Not to be kept waiting by a pipe of that name, nor led elsewhere by a link.
        file = os.open(OWNER_FILE, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder)
    except OSError:
        return None
    with os.fdopen(file, "rb") as opened:
        about = os.fstat(file)
        if not stat.S_ISREG(about.st_mode) or about.st_uid != os.geteuid():
            return None
        data = opened.read(MOST_OWNER_BYTES + 1)
    if len(data) > MOST_OWNER_BYTES:
        return None
    try:
        owner = Owner(**json.loads(data))
    except (ValueError, TypeError, RecursionError):
        return None
    texts = (owner.kind, owner.boot_id, owner.run, owner.run_id)
    numbers = (owner.pid, owner.start_ticks)
    well = all(isinstance(text, str) and text.isprintable() for text in texts)
    well = well and all(type(number) is int and 0 <= number < 2**63 for number in numbers)
    return owner if well and (not owner.run or os.path.isabs(owner.run)) else None


def empty(path: Path) -> None:
    """Remove a folder of ours whose lock is held; what cannot be removed stays.

    Killed in this, it is still known for ours: the owner file goes last, under another name.
    """
    try:
        names = [name for name in os.listdir(path) if name != OWNER_FILE]
    except OSError:
        return
    for name in names:
        inner = path / name
        if inner.is_dir() and not inner.is_symlink():
            shutil.rmtree(inner, ignore_errors=True)
        else:
            with contextlib.suppress(OSError):
                inner.unlink()
    with contextlib.suppress(OSError):
        if not MAKING.fullmatch(path.name) and set(os.listdir(path)) <= {OWNER_FILE}:
            gone = path.with_name(f"{_making(this_process(''))}{path.name[-8:]}")
            os.rename(path, gone)
            path = gone
        (path / OWNER_FILE).unlink(missing_ok=True)
        path.rmdir()


# --- processes ----------------------------------------------------------------------------------


def start_ticks(pid: int) -> int:
    """When a process began, in ticks since the machine's start; 0 where it is not alive."""
    try:
        line = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return 0
    # After the name, which may hold anything: state, parent, …, the start as the 20th.
    fields = line.rpartition(")")[2].split()
    return int(fields[19]) if len(fields) > 19 and fields[0] not in "ZX" else 0


def boot_id() -> str:
    """The id that the kernel has had since the machine's last start; "" where it does not say."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""


__all__ = [
    "InUse",
    "LeftOver",
    "Owner",
    "Temporary",
    "clear",
    "empty",
    "hold",
    "holding",
    "in_use",
    "left_over",
    "made",
    "make",
    "read_owner",
    "start_ticks",
    "this_process",
    "usual_places",
]
