"""`SELECT id, v FROM t0`

Right: (5, 7)
Seen with apsw 3.54.1.0, its wheel 3.54.1: (5, 0)

Found by cwkit. Exits 1 where the bug is there, 0 where it is not, and 2 where it cannot tell.
"""

import os
import re
import shutil
import signal
import sys
import tempfile


def not_told(*error):
    """An error of the script itself, which says nothing about the bug."""
    sys.__excepthook__(*error)
    sys.stderr.flush()
    os._exit(2)


sys.excepthook = not_told

import importlib.util
import sys

# apsw 3.54.1.0: pip install apsw==3.54.1.0
# The file of its module is the argument; without one the apsw that is installed is taken.
if len(sys.argv) > 1:
    spec = importlib.util.spec_from_file_location("apsw", sys.argv[1])
    apsw = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(apsw)
else:
    import apsw


def connect(path, journal_mode="wal"):
    connection = apsw.Connection(path)
    connection.execute(f"PRAGMA journal_mode = {journal_mode}").fetchall()
    return connection

RIGHT = '(5, 7)'
FOLDER = tempfile.mkdtemp()
PATH = os.path.join(FOLDER, "a.db")
OPEN, HALF = {}, {}


def opened(name):
    if name not in OPEN:
        OPEN[name] = connect(PATH)
        rows(OPEN[name], 'PRAGMA foreign_keys=ON')
        rows(OPEN[name], 'PRAGMA recursive_triggers = 1')
    return OPEN[name]


def rows(connection, sql):
    return [tuple(row) for row in connection.execute(sql).fetchall() or []]


def step(name, sql, ends=False):
    """Run one statement of a session, and show what came of it. ends: where it is refused, the
    transaction is rolled back, and only then is the driver's error let go.
    """
    try:
        got, error = rows(opened(name), sql), None
    except BaseException as raised:
        got, error = None, f"{type(raised).__name__}: {raised}"
        if ends:
            give_up(name)
    print(f"{name}: {sql}", f"!! {error}" if error else got or "")
    return got, error


def begin(name, sql):
    """A BEGIN that was accepted. Where it is refused, the rest cannot be played."""
    got, error = step(name, sql)
    if error:
        leave(2, "it cannot be played here")
    return got, error


def half(name, sql):
    """Run a query and fetch its first row alone; its cursor stays open."""
    HALF.pop(name, None)
    try:
        cursor = opened(name).execute(sql)
        first, error = cursor.fetchone(), None
    except BaseException as raised:
        first, error = None, f"{type(raised).__name__}: {raised}"
    if first is not None:
        HALF[name] = cursor, tuple(first)
    print(f"{name}: {sql} (the first row)", error or first or "")
    return [tuple(first)] if first is not None else [], error


def fetch(name):
    """The rows of a session's open cursor, the first one among them."""
    cursor, first = HALF.pop(name)
    try:
        got, error = [first, *(tuple(row) for row in cursor.fetchall() or [])], None
    except BaseException as raised:
        got, error = None, f"{type(raised).__name__}: {raised}"
    print(f"{name}: the other rows", error or got)
    return got, error


def give_up(name):
    """End a transaction that was refused, where the engine has not done that itself."""
    for other in list(HALF):
        if OPEN.get(other) is OPEN.get(name):
            HALF.pop(other)
    try:
        rows(OPEN[name], "ROLLBACK")
    except BaseException:
        pass


def open_all(*names):
    for name in names:
        opened(name)


def close(name):
    HALF.pop(name, None)
    connection = OPEN.pop(name, None)
    if connection is not None and all(other is not connection for other in OPEN.values()):
        connection.close()


def close_all():
    for name in list(OPEN):
        close(name)


def leave(status, said):
    print(said)
    sys.stdout.flush()
    shutil.rmtree(FOLDER, ignore_errors=True)
    os._exit(status)


def verdict(bug, said=""):
    told = f"THE BUG IS THERE. Right: {RIGHT}" if bug else "the bug is not there"
    leave(1 if bug else 0, f"{said + ': ' if bug and said else ''}{told}")


def raised(error, words):
    """The verdict where it must not raise. Another error than it was tells nothing."""
    if error and plain(words) not in plain(error):
        leave(2, "it raised something else")
    verdict(error is not None, "it raised")


def plain(text):
    return re.sub(r"0x[0-9a-f]+|[0-9]+", "N", text)


def in_a_process(part):
    """Run a part in a process of its own, which ends by SIGKILL, by its last word, or in time."""
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        signal.alarm(30)
        part()
        os.kill(os.getpid(), 9)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


step('A', 'CREATE TABLE t0(id INTEGER PRIMARY KEY, v INTEGER)')
step('A', 'CREATE TABLE t1(id INTEGER PRIMARY KEY, v INTEGER)')
step('A', 'INSERT INTO t0(id, v) VALUES (5, 7)')
step('A', 'INSERT INTO t1(id, v) VALUES (1, 0)')
step('A', 'CREATE TRIGGER r0 AFTER UPDATE ON t0 BEGIN UPDATE t1 SET v = 0 WHERE v = new.v; END')
step('A', 'CREATE TRIGGER r1 AFTER UPDATE ON t1 BEGIN UPDATE t0 SET v = 0 WHERE v = new.v; END')
close_all()
open_all('A')
got, error = begin('A', 'BEGIN IMMEDIATE')
got, error = step('A', 'UPDATE t0 SET v = 0 WHERE id = 5')
got, error = step('A', 'SELECT id, v FROM t0')
right = [(5, 7)]
verdict(error is None and sorted(got, key=repr) != right)
