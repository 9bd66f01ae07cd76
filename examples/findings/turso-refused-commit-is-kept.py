"""A COMMIT that is refused because the sync of its log failed is there

Right: what a COMMIT has refused is not there, so that an application may try it again
Seen with pyturso 0.8.3: OperationalError at COMMIT, and another connection reads the row

The process asks the kernel to answer each of its own fsync and fdatasync by EIO (a filter of
seccomp, which needs no rights), commits a row, and looks whether another connection reads it.
Give `sqlite3` for the control.

Found by cwkit. Exits 1 where the bug is there, 0 where it is not, and 2 where it cannot tell.
"""

import ctypes
import errno
import os
import platform
import shutil
import struct
import sys
import tempfile

DRIVER = sys.argv[1] if len(sys.argv) > 1 else "turso"
SYNCS = {"x86_64": (74, 75), "aarch64": (82, 83)}
"""The numbers of fsync and fdatasync."""


def connect(path):
    if DRIVER == "sqlite3":
        import sqlite3

        connection = sqlite3.connect(path, isolation_level=None)
        connection.execute("PRAGMA journal_mode = wal").fetchall()
    else:
        import turso  # pip install pyturso==0.8.3

        connection = turso.connect(path, isolation_level=None)
        connection.execute("PRAGMA journal_mode = 'mvcc'").fetchall()
    connection.execute("PRAGMA synchronous = FULL").fetchall()
    return connection


def syncs_fail():
    """Let every sync of this process fail from now on. Raises OSError where that is not allowed."""
    numbers = SYNCS[platform.machine()]
    load, equal, answer = 0x20, 0x15, 0x06
    failed, allowed = 0x00050000 | errno.EIO, 0x7FFF0000
    lines = [(load, 0, 0, 0)]
    lines += [(equal, len(numbers) - at, 0, number) for at, number in enumerate(numbers)]
    lines += [(answer, 0, 0, allowed), (answer, 0, 0, failed)]
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *line) for line in lines))
    program = struct.pack("HxxxxxxP", len(lines), ctypes.addressof(code))
    libc = ctypes.CDLL(None, use_errno=True)
    no_new_privileges, set_filter, every_thread = 38, 1, 1
    call = {"x86_64": 317, "aarch64": 277}[platform.machine()]
    if libc.prctl(no_new_privileges, 1, 0, 0, 0) or libc.syscall(
        call, set_filter, every_thread, ctypes.create_string_buffer(program)
    ):
        raise OSError(ctypes.get_errno(), "seccomp")


def judged(path):
    one, other = connect(path), connect(path)
    one.execute("CREATE TABLE t(a INTEGER PRIMARY KEY)")
    one.execute("INSERT INTO t VALUES (1)")
    one.execute("BEGIN IMMEDIATE")
    one.execute("INSERT INTO t VALUES (2)")
    try:
        syncs_fail()
    except (OSError, KeyError) as error:
        print(f"the kernel lets no sync fail here: {error!r}")
        return 2
    try:
        one.execute("COMMIT")
    except Exception as error:
        print(f"COMMIT raised {type(error).__name__}: {error}")
    else:
        print("COMMIT did not raise: it made no sync, or hides that it failed")
        return 2
    try:
        one.execute("ROLLBACK")
    except Exception as error:
        print(f"ROLLBACK: {type(error).__name__}: {error}")
    there = [row[0] for row in other.execute("SELECT a FROM t ORDER BY a").fetchall()]
    print(f"another connection reads {there}")
    if 2 in there:
        print("THE BUG IS THERE. Right: [1]")
        return 1
    print("the bug is not there")
    return 0


def main():
    folder = tempfile.mkdtemp()
    try:
        return judged(os.path.join(folder, "a.db"))
    except Exception as error:
        print(f"{type(error).__name__}: {error}")
        return 2
    finally:
        shutil.rmtree(folder, ignore_errors=True)


sys.stdout.reconfigure(line_buffering=True)
sys.exit(main())
