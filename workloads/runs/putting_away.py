"""What is done with the database and the files of a run that was judged."""

from __future__ import annotations

import errno
import os
import shutil
import stat
from pathlib import Path

from workloads import records as rec
from workloads.files import replacing
from workloads.processes import RESERVE, SUFFIX, keep
from workloads.records import Manifest, write_manifest

DATABASE = "database.db"


def settle(folder: Path, manifest: Manifest, database: Path) -> None:
    """Put the database of a run that was judged where it belongs, and tidy up.

    It goes into the run's folder where the user asked for that, or as evidence where a check did
    not hold or could not be made. Otherwise it stays where it lies, and its owner removes it.
    Where it cannot be moved, for want of room say, the run stays under way.
    """
    if is_kept(manifest) and database.parent != folder:
        try:
            for path in sorted(database.parent.glob(f"{DATABASE}*")):
                if stat.S_ISREG(path.lstat().st_mode):
                    _move(path, folder / path.name)
                elif stat.S_ISDIR(path.lstat().st_mode):
                    shutil.move(path, folder / path.name)
        except OSError as error:
            manifest.database_kept = f"no: {error}"
            write_manifest(folder, manifest)
            return
        manifest.database_kept = ""
    for entry in manifest.workers:
        rec.trim(folder, entry.worker)
    for path in folder.glob(f"*{SUFFIX}"):
        keep(path)
    manifest.over()
    write_manifest(folder, manifest)
    tidy(folder)


def is_kept(manifest: Manifest) -> bool:
    """Whether the database goes into the run's folder, which somebody else's server's does not."""
    return is_wanted(manifest) and manifest.server is None


def is_wanted(manifest: Manifest) -> bool:
    """Whether the database is wanted in the run's folder: asked for, or as evidence."""
    asked = manifest.under_way is not None and manifest.under_way.keep_database
    return bool(asked or manifest.broken or manifest.unmade)


def _move(path: Path, to: Path) -> None:
    """To another file system too, and whole or not at all."""
    try:
        os.rename(path, to)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        with path.open("rb") as file, replacing(to) as copy:
            shutil.copyfileobj(file, copy, 1 << 20)
        path.unlink()


def tidy(folder: Path) -> None:
    """Remove the files that only a run that is under way has."""
    for pattern in ("*.account.json", "*.new", RESERVE, rec.LAST_SEEN):
        for path in folder.glob(pattern):
            path.unlink()
