"""A database that does not open again after its process was killed in a checkpoint

Right: what was committed is there when the database is opened again
Seen with pyturso 0.8.3: WAL has committed frames but logical log header is missing

One process commits and checkpoints again and again. It is killed once the logical log has been cut
and the WAL has not; then the database is opened. Where that moment is not met, nothing is told.
Give `sqlite3` for the control: killed in its checkpoints, too, and opened.

Found by cwkit. Exits 1 where the bug is there, 0 where it is not, and 2 where it cannot tell.
"""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time

DRIVER = sys.argv[1] if len(sys.argv) > 1 else "turso"
LIMIT_S, TRIES = 60, 200


def connect(path):
    if DRIVER == "sqlite3":
        import sqlite3

        connection = sqlite3.connect(path, isolation_level=None)
        connection.execute("PRAGMA journal_mode = wal").fetchall()
        return connection
    import turso  # pip install pyturso==0.8.3

    connection = turso.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode = 'mvcc'").fetchall()
    return connection


def write(path):
    """Commit and checkpoint until somebody kills it."""
    connection = connect(path)
    connection.execute("CREATE TABLE IF NOT EXISTS t(a INTEGER PRIMARY KEY, b TEXT)")
    print("open", flush=True)
    while True:
        connection.execute("BEGIN IMMEDIATE")
        for _ in range(20):
            connection.execute("INSERT INTO t(b) VALUES (?)", ("x" * 500,))
        connection.execute("COMMIT")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()


def size(path):
    try:
        return os.stat(path).st_size
    except FileNotFoundError:
        return -1


def cut_short(path):
    """Whether the log is cut, or is not there, and the WAL is full."""
    return size(path + "-log") <= 0 < size(path + "-wal")


def killed_in_a_checkpoint(path):
    """Whether the kill met the moment between both."""
    argv = [sys.executable, os.path.abspath(__file__), DRIVER, path]
    child = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    try:
        child.stdout.readline()
        until = time.monotonic() + 5
        while time.monotonic() < until and child.poll() is None:
            if cut_short(path):
                break
    finally:
        child.send_signal(signal.SIGKILL)
        child.wait()
        child.stdout.close()
    return cut_short(path)


def main():
    try:
        connect(":memory:")
    except ImportError as error:
        print(error)
        return 2
    until = time.monotonic() + LIMIT_S
    for attempt in range(TRIES):
        folder = tempfile.mkdtemp()
        try:
            path = os.path.join(folder, "a.db")
            if killed_in_a_checkpoint(path):
                print(f"killed at try {attempt + 1}: log {size(path + '-log')} bytes, "
                      f"WAL {size(path + '-wal')} bytes, database {size(path)} bytes")
                try:
                    connection = connect(path)
                    many = connection.execute("SELECT count(*) FROM t").fetchall()[0][0]
                except Exception as error:
                    print(f"{type(error).__name__}: {error}")
                    print("THE BUG IS THERE. Right: it opens")
                    return 1
                print(f"it opens, and {many} rows are there: the bug is not there")
                return 0
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        if time.monotonic() > until:
            break
    print("no kill met the moment: it cannot be told here")
    return 2


if __name__ == "__main__":
    if len(sys.argv) > 2:
        write(sys.argv[2])
    sys.exit(main())
