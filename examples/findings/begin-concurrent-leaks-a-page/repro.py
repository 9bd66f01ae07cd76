"""PRAGMA integrity_check, after all sessions were closed

Right: ok
Seen with apsw 3.53.4.0 built on the begin-concurrent branch 3.54.0: ('*** in database main ***\nPage 3: never used',)

Found by cwkit. Exits 1 where the bug is there, and 0 where it is not.
"""

import os
import sys
import tempfile

import importlib.util
import sys

# an apsw on SQLite's branch begin-concurrent (3.54.0)
# The file of its module is the argument; without one the apsw that is installed is taken.
if len(sys.argv) > 1:
    spec = importlib.util.spec_from_file_location("apsw", sys.argv[1])
    apsw = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(apsw)
else:
    import apsw


def connect(path):
    connection = apsw.Connection(path)
    connection.execute("PRAGMA journal_mode = wal").fetchall()
    return connection

FOLDER = tempfile.mkdtemp()
PATH = os.path.join(FOLDER, "a.db")
OPEN = {}


def opened(name):
    if name not in OPEN:
        OPEN[name] = connect(PATH)
        rows(OPEN[name], 'PRAGMA foreign_keys=ON')
    return OPEN[name]


def rows(connection, sql):
    return [tuple(row) for row in connection.execute(sql).fetchall() or []]


def step(name, sql):
    """Run one statement of a session, and show what came of it."""
    try:
        got, error = rows(opened(name), sql), None
    except BaseException as raised:
        got, error = None, raised
    print(f"{name}: {sql}", f"!! {type(error).__name__}: {error}" if error else got or "")
    return got, error


def half(name, sql):
    """Run a query and fetch its first row alone; its cursor stays open."""
    print(f"{name}: {sql} (the first row)")
    cursor = opened(name).execute(sql)
    return cursor, cursor.fetchone()


def give_up(name):
    """End a transaction that was refused, where the engine has not done that itself."""
    try:
        rows(OPEN[name], "ROLLBACK")
    except BaseException:
        pass


def open_all(*names):
    for name in names:
        opened(name)


def close_all():
    for name in list(OPEN):
        OPEN.pop(name).close()


def verdict(bug, said=""):
    print("THE BUG IS THERE" if bug else "the bug is not there", said)
    sys.stdout.flush()
    os._exit(1 if bug else 0)


def in_a_process(part):
    """Run a part in a process of its own, which ends by SIGKILL or by its last word."""
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        part()
        os.kill(os.getpid(), 9)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


step('A', 'CREATE TABLE t0(id INTEGER PRIMARY KEY, v INTEGER)')
step('A', 'CREATE INDEX t0_i0 ON t0(v)')
close_all()
open_all('A')
got, error = step('A', 'DROP INDEX t0_i0')
got, error = step('A', 'BEGIN CONCURRENT')
got, error = step('A', 'ANALYZE')
got, error = step('A', 'COMMIT')
close_all()
got, error = step('A', 'PRAGMA integrity_check')
verdict(error is not None or got != [('ok',)])
