"""Files and folders of ours, which may have come from anybody.

A name in a file never leads out of its folder, every file is read with a limit, and every file is
written whole or not at all.
"""

from __future__ import annotations

import contextlib
import errno
import io
import json
import os
import re
import shutil
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, TypeVar

import msgspec

from workloads.errors import LaterVersion, RunError, shortened
from workloads.files.visible_text import visible

FORMAT_VERSION = 1
"""The version in every folder of ours. A later version is refused, never guessed at."""

MOST_JSON_BYTES = 64 << 20
"""No file of ours that is read as a whole comes near it: a sweep of 10,000 cells has 4 MB."""

LONGEST_NAME = 255


# --- paths ------------------------------------------------------------------------------------


def resolved(path: str | Path) -> Path:
    """The absolute path without symbolic links, as far as they lead anywhere.

    `Path.resolve` raises RuntimeError for links in a circle, which nobody expects of a path.
    Raises ValueError for a path with a NUL.
    """
    return Path(os.path.realpath(path))


def inside(folder: Path, name: object) -> Path:
    """The path of an entry of a folder, by a name that came out of a file or is a part of one.

    The entry may be missing. Raises RunError where it is no such name (it has a separator, is "..",
    is not text), and where a symbolic link of that name leads out of the folder: its target would
    be moved, removed or written over.
    """
    if (why := _no_name(name)) is not None:
        raise RunError(f"{folder}: names {_short(name)}, which {why}. It was edited.")
    path = Path(folder) / str(name)
    _leads_nowhere(Path(folder), path)
    return path


def _leads_nowhere(folder: Path, path: Path) -> None:
    if path.is_symlink() and not _leads_inside(folder, path):
        raise RunError(
            f"{path}: is a symbolic link that leads out of its folder. Put what it leads to there, "
            "or remove it."
        )


def within(folder: Path, path: str) -> Path:
    """The same for a path of several names, such as a file in a folder of a run."""
    parts = PurePosixPath(path).parts if isinstance(path, str) else ()
    if not parts:
        raise RunError(f"{folder}: names {_short(path)}, which is no path. It was edited.")
    for part in parts:
        folder = inside(folder, part)
    return folder


def _no_name(name: object) -> str | None:
    """Why a text is no name of an entry of a folder, as the rest of a sentence."""
    if not isinstance(name, str) or not name:
        return "is no name"
    if "/" in name or name in (".", ".."):
        return "leads out of it"
    if visible(name) != name:
        return "holds characters that no name of ours has"
    if len(name.encode()) > LONGEST_NAME:
        return f"is longer than the {LONGEST_NAME} bytes that a name may have"
    return None


def _leads_inside(folder: Path, path: Path) -> bool:
    try:
        to, root = resolved(path), resolved(folder)
    except OSError:
        return False
    return to != root and to.is_relative_to(root) and not to.is_symlink()  # links in a circle


def _short(name: object) -> str:
    return visible(shortened(name))


# --- reading ----------------------------------------------------------------------------------


@contextlib.contextmanager
def opened(path: Path, most_bytes: int | None = None, *, named: bool = False) -> Iterator[BinaryIO]:
    """Open a file that is one: a FIFO would be waited for without end, and a device has none.

    most_bytes : None for any size. named : the user has named it, so that it may be a symbolic link
    to anywhere. A file in a folder of ours may be no link that leads out of the folder.
    Raises FileNotFoundError where it is not there, RunError where it is no file, is larger, or
    can't be opened.
    """
    if not named:
        _leads_nowhere(Path(path).parent, Path(path))
    try:
        _is_file(path, os.stat(path).st_mode)  # asked first: to open a device may wind a tape
        number = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise RunError(f"{path}: cannot be opened ({error.strerror}).") from error
    with io.BufferedReader(_Unwaiting(number)) as file:
        status = os.fstat(number)
        _is_file(path, status.st_mode)
        if most_bytes is not None and status.st_size > most_bytes:
            raise RunError(
                f"{path}: has {status.st_size:,} bytes; such a file has {most_bytes:,} at most. It "
                "is none of ours."
            )
        yield file


class _Unwaiting(io.FileIO):
    """A file that raises an error where a read would wait, as some of /proc would.

    Python's own file returns None for the data then.
    """

    def readinto(self, buffer: Any) -> int:
        return _at_once(super().readinto(buffer))

    def readall(self) -> bytes:
        return _at_once(super().readall())


_Data = TypeVar("_Data", int, bytes)


def _at_once(data: _Data | None) -> _Data:
    if data is None:
        raise BlockingIOError(errno.EAGAIN, "there is nothing in it yet, and may never be")
    return data


def _is_file(path: Path, mode: int) -> None:
    if not stat.S_ISREG(mode):
        kinds = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket"}
        kind = kinds.get(stat.S_IFMT(mode), "a device")
        raise RunError(f"{path}: is {kind} and no file. It is none of ours.")


def read_bytes(path: Path, most_bytes: int = MOST_JSON_BYTES, *, named: bool = False) -> bytes:
    """A file as a whole. Errors are those of `opened`, and RunError while it is read."""
    with opened(path, most_bytes, named=named) as file:
        try:
            data = file.read(most_bytes + 1)  # of /proc, say, nobody knows the size before
        except OSError as error:
            raise RunError(f"{path}: cannot be read ({error.strerror}).") from error
    if len(data) > most_bytes:
        raise RunError(f"{path}: is larger than {most_bytes:,} bytes. It is none of ours.")
    return data


def read_text(path: Path, most_bytes: int = MOST_JSON_BYTES, *, named: bool = False) -> str:
    """The same as text. Raises RunError where it is not UTF-8."""
    try:
        return read_bytes(path, most_bytes, named=named).decode()
    except UnicodeDecodeError as error:
        raise RunError(f"{path}: is no text in UTF-8 (at byte {error.start}).") from error


def read_json(
    path: Path,
    way_out: str = "It was cut or edited.",
    kind: Any = Any,
    most_bytes: int = MOST_JSON_BYTES,
) -> Any:
    """The content of a JSON file, as plain data or as `kind` (a msgspec.Struct, say).

    Raises RunError, one sentence, for a number without an end (NaN, Infinity, 5,000 digits), values
    nested without an end, bytes that are no UTF-8, half of a character, and data that `kind` does
    not take. way_out : the sentence's end. FileNotFoundError where there is no such file.
    """
    data = read_bytes(path, most_bytes)
    try:
        return msgspec.json.decode(data, type=kind)
    except RecursionError:
        why = "values are nested too deep"
    except UnicodeDecodeError as error:
        why = f"no text in UTF-8, at byte {error.start}"
    except msgspec.DecodeError as error:  # a ValidationError is one
        why = visible(error).removeprefix("JSON is malformed: ")
    raise RunError(f"{path}: cannot be read ({why}). {way_out}")


def read_versioned(
    path: Path,
    kind: Any = dict[str, Any],
    way_out: str = "",
    most_bytes: int = MOST_JSON_BYTES,
) -> Any:
    """The content of a JSON file of ours, whose first key is the version of its format ("cwkit").

    kind : as for `read_json`. Raises RunError, also for a file of a later version;
    FileNotFoundError where there is no such file.
    """
    data = read_json(path, f"It was cut or edited. {way_out}".strip(), most_bytes=most_bytes)
    if not isinstance(data, dict) or "cwkit" not in data:
        raise RunError(f'{path}: not written by cwkit (it has no key "cwkit"). Try `cwkit list`.')
    version = data["cwkit"]
    if type(version) is not int or version < 1:
        shown = _short(version)
        raise RunError(f"{path}: format {shown} is none of cwkit's. It was cut or edited.")
    if version > FORMAT_VERSION:
        raise LaterVersion(
            f"{path}: written by a later cwkit (format {_short(version)}, this one reads "
            f"{FORMAT_VERSION}). Update cwkit to read it."
        )
    return converted(path, data, kind, way_out)


def converted(path: Path, data: Any, kind: Any, way_out: str = "") -> Any:
    """Plain data out of a file as `kind`. Raises RunError that names the key and the rule."""
    try:
        return msgspec.convert(data, kind)
    except msgspec.ValidationError as error:
        why, _, where = visible(error).partition(" - at `$")
        key = where.rstrip("`").lstrip(".")
        what = f"`{key}`: {why[0].lower()}{why[1:]}" if key else f"{why[0].lower()}{why[1:]}"
        raise RunError(f"{path}: {what}. It was cut or edited. {way_out}".rstrip()) from error


# --- writing ----------------------------------------------------------------------------------


def replace(path: Path, data: str | bytes, *, named: bool = False) -> None:
    """Write a file whole or not at all: beside it first, then in its place in one step.

    A process killed meanwhile leaves the old file, and perhaps NAME.PID.new beside it. A symbolic
    link of that name is replaced and not followed. named : as for `replacing`. Raises OSError.
    """
    with replacing(path, named=named) as file:
        file.write(data.encode() if isinstance(data, str) else data)


@contextlib.contextmanager
def replacing(path: Path, *, named: bool = False) -> Iterator[BinaryIO]:
    """A file open for writing that takes its place when the block ends without an error.

    named : the user has named it. A device or a pipe (/dev/stdout) is then written to and stays
    what it is, and a symbolic link keeps its place: the file at its end is replaced.
    """
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if named and _written_to(path):
        flags = os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
        with os.fdopen(os.open(path, flags), "wb") as file:
            yield file
        return
    path = Path(os.path.realpath(path)) if named else path
    if not path.name:
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if path.is_relative_to("/proc"):  # no file can be made there, and its files act
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
    # A name of its own for each process: two that write the same file must not share it. Made
    # anew: a link of that name, which somebody put there, would lead what we write elsewhere.
    beside = path.with_name(f"{path.name}.{os.getpid()}.new")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        number = os.open(beside, flags, 0o666)
    except FileExistsError:
        beside.unlink()
        number = os.open(beside, flags, 0o666)
    try:
        with os.fdopen(number, "wb") as file:
            yield file
        os.replace(beside, path)
    except BaseException:
        with contextlib.suppress(OSError):
            beside.unlink()
        raise


def _written_to(path: Path) -> bool:
    place = os.path.abspath(path)
    if place.startswith("/dev/") or re.match("/proc/[^/]+/fd/", place):
        return os.path.lexists(path)  # an open file by its number; no other file of /proc is one
    try:
        return not stat.S_ISREG(os.stat(path).st_mode)
    except OSError:
        return False


def write_json(path: Path, data: Any) -> None:
    """Replace a JSON file in one step. Raises OSError."""
    replace(path, json.dumps(data, indent=1) + "\n")


# --- moving and removing ----------------------------------------------------------------------


def remove(folder: Path, name: str) -> None:
    """Remove an entry of a folder with all that is in it, as far as that goes. A link is removed,
    its target is not.

    Raises RunError for a text that is no name of an entry.
    """
    if (why := _no_name(name)) is not None:
        raise RunError(f"{folder}: {_short(name)} is not removed, for it {why}.")
    path = Path(folder) / name
    if path.is_symlink() or path.is_file():
        with contextlib.suppress(OSError):
            path.unlink()
    else:
        shutil.rmtree(path, ignore_errors=True)


def move_aside(folder: Path, to: str, name: str, moved: Mapping[str, str]) -> None:
    """Move entries of a folder into its sub-folder `to`, as NAME.NUMBER and a tail each.

    moved : name of an entry -> its tail. All get one number, which is free there. They are moved in
    this order. Missing ones are skipped, but the last one must be there.
    Raises RunError where one leads out of the folder, OSError.
    """
    aside = inside(folder, to)
    there = {inside(folder, entry): tail for entry, tail in moved.items()}
    aside.mkdir(exist_ok=True)
    number = 1
    while any(os.path.lexists(inside(aside, f"{name}.{number}{tail}")) for tail in there.values()):
        number += 1
    for place, (path, tail) in enumerate(there.items(), 1):
        if os.path.lexists(path) or place == len(there):
            os.replace(path, aside / f"{name}.{number}{tail}")


ROOT = Path(__file__).resolve().parents[2]
