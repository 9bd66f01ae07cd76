"""Builds apsw around SQLite's begin-concurrent branch into .build/begin-concurrent, as one file.

The branch's amalgamation comes from the npm package @rocicorp/zero-sqlite3, apsw's source from
PyPI. Both are pinned by content. One compiler call makes the extension module that
workloads/engines/concurrent_build.py loads. Run by tools/setup/install.py with the
Python of .venv; what goes wrong ends as one sentence in why-missing.txt and on the screen.

apsw and not pysqlite3: built on the same amalgamation, in interleaved blocks, a read-update
transaction costs 24.6 us through an apsw cursor and 27.9 us through a pysqlite3 one; and apsw
alone reaches SQLITE_CONFIG_LOG, where the branch tells which page a refused commit met.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
import sysconfig
import tarfile
import tempfile
from pathlib import Path

from fetching import PIP, CannotBuild, npm_archive, run, show_step

ROOT = Path(__file__).resolve().parents[2]
BUILD = ROOT / ".build"
TARGET = BUILD / "begin-concurrent"
SOURCES = BUILD / "sources"
WHY_MISSING = TARGET / "why-missing.txt"

# 1.1.0 carries SQLite 3.51.0, which has the WAL-reset bug; 1.1.4 carries 3.54.0, which has not.
NPM_PACKAGE = "@rocicorp/zero-sqlite3@1.1.4"
NPM_INTEGRITY = (
    "sha512-hD2O9HzGTV05uioaztu5dq2mzcv7/t2hQqBiFWKPW0vB"
    "sVynyw6PT7QN2eHHSTg/awkM/E8e5lv8N0oXU5bVSQ=="
)
AMALGAMATION_SHA256 = {
    "sqlite3.c": "7cf8e7e2d1a4263fea286ec98fa97efccd0c4e7c5ecac1dd4f35f3e3d0b6f89e",
    "sqlite3.h": "dd768fd8585001575d16911f6363c59e82ddf0e72f30ec71249ab0fd7404e817",
}
SQLITE_VERSION = "3.54.0"

# Not apsw 3.54.0.0: it wants SQLITE_LIMIT_TRIGGER_STEPS, which came to SQLite after the branch's
# check-in. apsw 3.53.4.0 accepts any SQLite from 3.53 on.
APSW = "apsw==3.53.4.0"
APSW_SHA256 = "4250fab667cc41c55170028ab095a9d4a4ae66363f4bc0720771c20519702625"

# Everything that changes what a file means or how durable it is stays as SQLite has it, since the
# pragmas are the runner's to set and to read back: the npm package's own build sets synchronous
# NORMAL, a cache of 16 MB and foreign keys, and would be compared with engines that do not.
# BEGIN CONCURRENT itself needs no option (only SQLITE_OMIT_CONCURRENT would remove it).
CONFIG = """
#define SQLITE_THREADSAFE 1
/* https://sqlite.org/compile.html#recommended_compile_time_options, the cheap half */
#define SQLITE_DEFAULT_MEMSTATUS 0
#define SQLITE_LIKE_DOESNT_MATCH_BLOBS 1
#define SQLITE_MAX_EXPR_DEPTH 0
#define SQLITE_USE_ALLOCA 1
#define SQLITE_USE_URI 1
/* what people have in their databases */
#define SQLITE_ENABLE_COLUMN_METADATA 1
#define SQLITE_ENABLE_DBSTAT_VTAB 1
#define SQLITE_ENABLE_FTS5 1
#define SQLITE_ENABLE_MATH_FUNCTIONS 1
#define SQLITE_ENABLE_RTREE 1
#define SQLITE_ENABLE_STAT4 1
/* what SQLite's configure finds on any Linux; without pread each read of a page is two calls */
#define HAVE_FDATASYNC 1
#define HAVE_GMTIME_R 1
#define HAVE_LOCALTIME_R 1
#define HAVE_PREAD 1
#define HAVE_PWRITE 1
#define HAVE_STRERROR_R 1
#define HAVE_USLEEP 1
"""

# apsw turns on SETLK_TIMEOUT where nobody says no. It makes a writer wait for the WAL's lock in
# another way than libSQL and the stdlib's sqlite3 do, and two arms of a comparison would differ in
# more than BEGIN CONCURRENT. "Nobody" can't be told from outside, so this file stands in between.
WRAPPER = """
#undef SQLITE_ENABLE_SETLK_TIMEOUT
#include "amalgamation.c"
"""

# Run by a process of its own: two connections write at once, then meet on one page.
PROOF = """
import importlib.util, sys, tempfile
spec = importlib.util.spec_from_file_location("cwkit_begin_concurrent.apsw", sys.argv[1])
apsw = importlib.util.module_from_spec(spec)
spec.loader.exec_module(apsw)
assert apsw.sqlite_lib_version() == sys.argv[2], apsw.sqlite_lib_version()
assert "ENABLE_SETLK_TIMEOUT" not in "".join(apsw.compile_options), apsw.compile_options
with tempfile.TemporaryDirectory() as folder:
    one, two = (apsw.Connection(folder + "/proof.db") for _ in "12")
    one.execute("PRAGMA journal_mode = WAL")
    one.execute("CREATE TABLE a(x); CREATE TABLE b(x)")
    for second_table, refused in (("b", False), ("a", True)):
        for connection, table in ((one, "a"), (two, second_table)):
            connection.execute(f"BEGIN CONCURRENT; INSERT INTO {table} VALUES (1)")
        one.execute("COMMIT")
        try:
            two.execute("COMMIT")
            assert not refused, "a stale commit was accepted"
        except apsw.BusyError as error:
            assert refused and error.extendedresult == apsw.SQLITE_BUSY_SNAPSHOT, error
            two.execute("ROLLBACK")
    one.close()
    two.close()
"""


def main() -> int:
    """Return the exit status: 1 where there is no build; why-missing.txt then says why."""
    TARGET.mkdir(parents=True, exist_ok=True)
    WHY_MISSING.unlink(missing_ok=True)
    try:
        compiler = find_compiler()
        amalgamation = fetch_amalgamation()
        apsw = fetch_apsw()
        compile_and_prove(compiler, amalgamation, apsw)
    except CannotBuild as reason:
        for stale in TARGET.glob("apsw*.so"):
            stale.unlink()
        WHY_MISSING.write_text(f"{reason}.\n", encoding="utf-8")
        print(reason)
        return 1
    return 0


def find_compiler() -> list[str]:
    """Return the C compiler's command; asked first, since all that follows is in vain without."""
    header = Path(sysconfig.get_path("include"), "Python.h")
    if not header.is_file():
        raise CannotBuild(
            f"Python's C headers are not installed (on Debian: python3-dev); no {header}"
        )
    candidates = os.environ["CC"].split() if os.environ.get("CC") else []
    for command in [candidates] if candidates else [["cc"], ["gcc"], ["clang"]]:
        if shutil.which(command[0]):
            return command
    raise CannotBuild(
        f"there is no C compiler {' '.join(candidates) or 'cc, gcc or clang'} on the PATH "
        "(on Debian: apt-get install gcc libc6-dev)"
    )


def fetch_amalgamation() -> Path:
    """Return a folder with the branch's sqlite3.c and sqlite3.h, their contents checked."""
    folder = SOURCES / "zero-sqlite3"
    if all(_sha256(folder / name) == sum_ for name, sum_ in AMALGAMATION_SHA256.items()):
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=BUILD) as temporary:
        archive = npm_archive(NPM_PACKAGE, NPM_INTEGRITY, Path(temporary), "64 MB")
        show_step("unpacking the amalgamation")
        with tarfile.open(archive) as tar:
            for name in AMALGAMATION_SHA256:
                member = tar.extractfile(f"package/deps/sqlite3/{name}")
                assert member is not None  # its content is pinned: a file with this name is in it
                (folder / name).write_bytes(member.read())
    return folder


def fetch_apsw() -> Path:
    """Return the folder of apsw's source, unpacked anew from a checked archive."""
    name, version = APSW.split("==")
    archive = SOURCES / f"{name}-{version}.tar.gz"
    if _sha256(archive) != APSW_SHA256:
        show_step(f"fetching {APSW}")
        environment = os.environ | {
            "PYTHONPATH": str(ROOT / "tools" / "setup" / "archive_only"),
            "CWKIT_ARCHIVE": APSW,
        }
        run(
            [*PIP, "download", "--no-deps", "--no-binary", ":all:", "--no-build-isolation"]
            + ["--use-pep517", "--dest", str(SOURCES), APSW],
            f"pip could not fetch {APSW}",
            environment,
        )
    if (got := _sha256(archive)) != APSW_SHA256:
        archive.unlink(missing_ok=True)
        raise CannotBuild(
            f"{archive.name} is not what it was: it has sha256 {got}, and we pinned {APSW_SHA256}; "
            "nothing of it was used"
        )
    with tarfile.open(archive) as tar:
        tar.extractall(SOURCES)  # no filter needed: its content is pinned
    return SOURCES / f"{name}-{version}"


def compile_and_prove(compiler: list[str], amalgamation: Path, apsw: Path) -> None:
    """Compile the module, prove it in a process of its own, and only then put it in its place."""
    suffix = sysconfig.get_config_var("EXT_SUFFIX")
    with tempfile.TemporaryDirectory(dir=BUILD) as temporary:
        folder = Path(temporary)
        (folder / "sqlite3config.h").write_text(CONFIG)
        (folder / "sqlite3.c").write_text(WRAPPER)
        shutil.copy(amalgamation / "sqlite3.c", folder / "amalgamation.c")
        shutil.copy(amalgamation / "sqlite3.h", folder)
        module = folder / f"apsw{suffix}"
        show_step("compiling, about a minute")
        run(
            [
                *compiler,
                "-shared",
                "-fPIC",
                "-O2",
                "-fwrapv",
                "-fvisibility=hidden",
                "-w",
                "-DNDEBUG",
            ]
            + ["-DAPSW_USE_SQLITE_AMALGAMATION=1", "-DAPSW_USE_SQLITE_CONFIG=1"]
            + [f"-I{folder}", f"-I{sysconfig.get_path('include')}", f"-I{apsw / 'src'}"]
            + [str(apsw / "src" / "apsw.c"), "-o", str(module), "-lpthread", "-ldl", "-lm"],
            f"{compiler[0]} could not compile it",
        )
        show_step("proving that it lets two connections write at once")
        run(
            [sys.executable, "-c", PROOF, str(module), SQLITE_VERSION],
            "the compiled module does not do what the branch promises",
        )
        for old in TARGET.glob("apsw*.so"):
            old.unlink()
        os.replace(module, TARGET / module.name)


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "nothing"


if __name__ == "__main__":
    sys.exit(main())
