"""A run's, sweep's or report's folder as one file, and back.

The file is a tar archive, compressed by gzip, with one folder in it. One that comes from elsewhere
is data: no path in it leads out of its folder, it holds no links and no devices, and its size and
its number of files have limits. Nothing is left of one that is refused.
"""

from __future__ import annotations

import gzip
import os
import shutil
import tarfile
import tempfile
import zlib
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, NamedTuple, cast

from workloads.errors import RunError, shortened
from workloads.files import LOCK_FILE, inside, opened, replacing, visible
from workloads.records.run_names import is_ours
from workloads.records.saved_names import is_taken

ARCHIVE_SUFFIX = ".tar.gz"
MOST_FILES = 200_000
MOST_BYTES = 16 << 30
"""Bytes of all files together: more than any run of ours has had."""

MOST_HEADER_BYTES = 1 << 20
"""Bytes that are read at once: names and other headers may ask for more than the memory has."""

DEEPEST = 6
"""Folders in one another: a report has its experiments, these their cells, and earlier ones."""


class Archived(NamedTuple):
    """What went into an archive, or came out of one."""

    path: Path
    files: int
    bytes: int


def pack(folder: Path, out: Path) -> Archived:
    """Write a folder into one file; the same folder always gives the same bytes.

    Raises RunError for a folder that is none of ours or holds a link, OSError where `out` cannot be
    written. An `out` that was there is replaced when the new one is whole.
    """
    if not is_ours(folder):
        raise RunError(f"{folder}: is no run, sweep, search or report. Try `cwkit list`.")
    files = size = 0
    top = folder.absolute().name
    with replacing(out, named=True) as raw:
        # No time and no name in its head: the bytes are those of the folder alone.
        with gzip.GzipFile("", "wb", 6, cast(Any, raw), mtime=0) as zipped:
            with tarfile.open(fileobj=zipped, mode="w", format=tarfile.PAX_FORMAT) as tar:
                for path in _entries(folder):
                    name = f"{top}/{path.relative_to(folder).as_posix()}"
                    with opened(path) as file:
                        entry = tarfile.TarInfo(name)
                        entry.size = os.fstat(file.fileno()).st_size
                        tar.addfile(entry, file)
                    files, size = files + 1, size + entry.size
    return Archived(out, files, size)


def _entries(folder: Path) -> list[Path]:
    found = []
    for path in sorted(folder.rglob("*")):
        if path.is_symlink():
            raise RunError(f"{path}: is a link, and an archive holds none. Remove it.")
        if path.is_file() and path.name != LOCK_FILE:
            found.append(path)
        elif not path.is_dir() and not path.is_file():
            raise RunError(f"{path}: is no file, and an archive holds nothing else. Remove it.")
    return found


def unpack(archive: Path, runs: Path) -> Archived:
    """Put an archived folder below `runs`, whole or not at all.

    Raises RunError for a file that is no such archive, one that would write elsewhere or too much,
    and where a folder of its name is there already, or a saved run.
    """
    runs.mkdir(parents=True, exist_ok=True)
    stage = Path(tempfile.mkdtemp(prefix=".unpacking-", dir=runs))
    try:
        files, size = _into(archive, stage)
        made = list(stage.iterdir())
        if len(made) != 1 or made[0].name.startswith(".") or not is_ours(made[0]):
            raise RunError(f"{archive}: holds no folder of a run, sweep, search or report.")
        to = runs / made[0].name
        if os.path.lexists(to):
            raise RunError(f"{to}: is there already. Move it away, or give another --runs.")
        if is_taken(to.name, runs):
            raise RunError(
                f"{archive}: its folder is called {to.name}, and that name leads to another run in "
                f"{runs}. Give another --runs."
            )
        made[0].rename(to)
    finally:
        shutil.rmtree(stage, ignore_errors=True)
    return Archived(to, files, size)


def _into(archive: Path, stage: Path) -> tuple[int, int]:
    """Write the files of an archive below `stage`: how many, and their bytes."""
    files = size = 0
    now = ""
    try:
        with opened(archive, named=True) as raw, gzip.GzipFile(fileobj=raw) as zipped:
            stream = cast(BinaryIO, _Limited(zipped))
            with tarfile.open(fileobj=stream, mode="r:") as tar:
                forgetful = cast(Any, tar)
                for entry in tar:
                    now = entry.name
                    files, size = files + 1, size + entry.size
                    _refuse(archive, entry, files, size)
                    forgetful.members = []  # tarfile keeps them all, and nobody asks for them again
                    if entry.isdir():
                        continue
                    to = stage
                    for part in PurePosixPath(entry.name).parts:
                        to = inside(to, part)
                    to.parent.mkdir(parents=True, exist_ok=True)
                    source = tar.extractfile(entry)
                    assert source is not None  # it is a file
                    with open(to, "xb") as file:
                        shutil.copyfileobj(source, file)
    except FileNotFoundError:
        raise RunError(f"{archive}: there is no such file.") from None
    except (FileExistsError, NotADirectoryError):
        raise RunError(f"{archive}: holds {_told(now)} twice, or as a folder too.") from None
    except (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise RunError(
            f"{archive}: is no archive of `cwkit archive`, or was cut ({visible(error)})."
        ) from None
    return files, size


def _refuse(archive: Path, entry: tarfile.TarInfo, files: int, size: int) -> None:
    """Raises RunError for an entry that is not written."""
    name = _told(entry.name)
    if entry.type not in (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.DIRTYPE) or entry.issparse():
        raise RunError(f"{archive}: {name} is no file; links and devices are not unpacked.")
    parts = PurePosixPath(entry.name).parts
    if entry.name.startswith("/") or ".." in parts or not parts:
        raise RunError(f"{archive}: {name} leads out of its folder, and is not unpacked.")
    if len(parts) > DEEPEST:
        raise RunError(f"{archive}: {name} lies deeper than {DEEPEST} folders.")
    if files > MOST_FILES:
        raise RunError(f"{archive}: holds more than {MOST_FILES:,} files.")
    if entry.size < 0 or size > MOST_BYTES:
        raise RunError(f"{archive}: holds more than {MOST_BYTES:,} bytes.")


def _told(name: object) -> str:
    return visible(shortened(str(name)))


class _Limited:
    """A stream of which nobody reads more at once, or in all, than an archive of ours has."""

    def __init__(self, stream: Any) -> None:
        self.stream = stream

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= MOST_HEADER_BYTES:
            raise tarfile.ReadError("a header that is too long")
        return bytes(self.stream.read(size))

    def seek(self, to: int) -> int:
        if to > MOST_BYTES + MOST_FILES * 4096:
            raise tarfile.ReadError("more bytes than it may hold")
        return int(self.stream.seek(to))

    def tell(self) -> int:
        return int(self.stream.tell())
