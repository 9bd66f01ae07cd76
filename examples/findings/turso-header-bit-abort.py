"""A flipped bit in the header of the database takes the process down

Right: the database opens, or an error is raised
Seen with pyturso 0.8.3: SIGABRT

A process ends without a checkpoint, so that its commits are in the logical log. One bit of the
header's fields for auto-vacuum is flipped in a copy without the empty WAL, and a process of its own
opens it. With the empty WAL beside it the database is opened, and is read-only. Give `sqlite3` for
the control.

Found by cwkit. Exits 1 where the bug is there, 0 where it is not, and 2 where it cannot tell.
"""

import os
import shutil
import subprocess
import sys
import tempfile

DRIVER = sys.argv[1] if len(sys.argv) > 1 else "turso"
FLIPS = [(53, 7), (67, 0)]
"""(byte, bit): of the largest root page, which is 0 without auto-vacuum, and of its mode."""


def connect(path):
    if DRIVER == "sqlite3":
        import sqlite3

        return sqlite3.connect(path, isolation_level=None)
    import turso  # pip install pyturso==0.8.3

    connection = turso.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode = 'mvcc'").fetchall()
    return connection


def make(path):
    connection = connect(path)
    connection.execute("CREATE TABLE t(a INTEGER PRIMARY KEY)")
    connection.execute("INSERT INTO t VALUES (1)")
    os._exit(0)


def look(path):
    try:
        connection = connect(path)
        print(connection.execute("PRAGMA integrity_check").fetchall())
        connection.execute("INSERT INTO t VALUES (2)")
        print(connection.execute("SELECT a FROM t").fetchall())
    except Exception as error:
        print(f"{type(error).__name__}: {error}")


def apart(what, path):
    """The status of a process that does one of both."""
    argv = [sys.executable, os.path.abspath(__file__), DRIVER, what, path]
    return subprocess.run(argv, timeout=60).returncode


def main():
    try:
        connect(":memory:")
    except ImportError as error:
        print(error)
        return 2
    folder = tempfile.mkdtemp()
    try:
        path = os.path.join(folder, "a.db")
        if apart("make", path):
            print("no database could be made")
            return 2
        died = []
        for byte, bit in FLIPS:
            copy = os.path.join(folder, f"{byte}-{bit}")
            os.mkdir(copy)
            for name in os.listdir(folder):
                if name.startswith("a.db") and os.stat(os.path.join(folder, name)).st_size:
                    shutil.copy(os.path.join(folder, name), copy)
            other = os.path.join(copy, "a.db")
            with open(other, "r+b") as file:
                file.seek(byte)
                flipped = file.read(1)[0] ^ 1 << bit
                file.seek(byte)
                file.write(bytes([flipped]))
            status = apart("look", other)
            print(f"bit {bit} of byte {byte}: status {status}")
            if status < 0:
                died.append((byte, bit))
        print("THE BUG IS THERE. Right: no status below 0" if died else "the bug is not there")
        return 1 if died else 0
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    if len(sys.argv) > 3:
        {"make": make, "look": look}[sys.argv[2]](sys.argv[3])
        sys.exit(0)
    sys.exit(main())
