"""Not so: an error that the application keeps is in the way of no later statement.

Right: after a refusal: [(1, 5)]
Seen with pyturso 0.8.3 3.50.4: [(1, 4)]

Found by cwkit. Exits 1 where the bug is there, 0 where it is not, and 2 where it cannot tell.
"""

import os
import sys
import tempfile


def not_told(*error):
    """An error of the script itself, which says nothing about the bug."""
    sys.__excepthook__(*error)
    sys.stderr.flush()
    os._exit(2)


sys.excepthook = not_told

import turso  # pip install pyturso==0.8.3


def connect(path, journal_mode="mvcc", **arguments):
    connection = turso.connect(path, isolation_level=None, **arguments)
    connection.execute(f"PRAGMA journal_mode = '{journal_mode}'").fetchall()
    return connection

PATH = os.path.join(tempfile.mkdtemp(), "a.db")
OPEN, CURSORS, KEPT = {}, {}, []
KEEP_ERRORS = True  # as an application does that tells of them later


def take(name, verb, sql, params):
    if verb == "open":
        OPEN[name] = connect(PATH)
        OPEN[name].execute("PRAGMA busy_timeout = 0").fetchall()
        return None
    connection = OPEN[name]
    if verb == "in_transaction":
        return bool(connection.in_transaction)
    if verb == "close":
        return connection.close()
    if verb == "rollback" and not connection.in_transaction:
        return None
    sql = {"begin": "BEGIN DEFERRED", "commit": "COMMIT", "rollback": "ROLLBACK"}.get(verb, sql)
    cursor = connection.execute(sql, params)
    if verb == "cursor":
        CURSORS[name] = cursor
        return cursor.fetchone()
    got = [tuple(row) for row in cursor.fetchall() or []]
    return got if verb == "rows" else None


def step(name, verb, sql="", params=()):
    got = error = None
    try:
        got = take(name, verb, sql, params)
    except BaseException as raised:
        error = type(raised).__name__
        print(f"{name}: {sql or verb} {params or ''} !! {error}: {raised}")
        KEPT.append(raised) if KEEP_ERRORS else None
    else:
        print(f"{name}: {sql or verb} {params or ''} {got if got is not None else ''}")
    return got, error


got, error = step('A', 'open', '', ())
got, error = step('A', 'rows', 'CREATE TABLE t(id INTEGER PRIMARY KEY, v INTEGER)', ())
got, error = step('B', 'open', '', ())
got, error = step('A', 'run', 'INSERT INTO t(id, v) VALUES (1, 0)', ())
got, error = step('B', 'run', 'INSERT INTO t(id, v) VALUES (1, 0)', ())
got, error = step('B', 'rows', 'SELECT * FROM nowhere', ())
got, error = step('B', 'run', 'UPDATE t SET v = 4', ())
got, error = step('A', 'rows', 'SELECT id, v FROM t ORDER BY id', ())
got, error = step('A', 'begin', '', ())
got, error = step('A', 'run', 'UPDATE t SET v = 1', ())
got, error = step('B', 'begin', '', ())
got, error = step('B', 'run', 'UPDATE t SET v = 2', ())
got, error = step('A', 'rollback', '', ())
got, error = step('B', 'rollback', '', ())
got, error = step('B', 'run', 'UPDATE t SET v = 5', ())
got, error = step('A', 'rows', 'SELECT id, v FROM t ORDER BY id', ())
bug = (repr(got), error) == ('[(1, 4)]', None)
print("THE BUG IS THERE" if bug else "the bug is not there")
sys.stdout.flush()
os._exit(1 if bug else 0)
