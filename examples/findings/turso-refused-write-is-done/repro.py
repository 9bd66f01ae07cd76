"""A write without BEGIN raises `database is locked`, and is committed all the same

Right: as many increments in the table as were acknowledged
Seen with pyturso 0.8.3: more

Found by cwkit. Exits 1 where the bug is there, 0 where it is not, and 2 where it cannot tell.
"""

import os
import sys
import tempfile
import threading
import time


def not_told(*error):
    """An error of the script itself, which says nothing about the bug."""
    sys.__excepthook__(*error)
    sys.stderr.flush()
    os._exit(2)


sys.excepthook = not_told

import turso  # pip install pyturso==0.8.3

FOLDER = tempfile.mkdtemp()
PATH = os.path.join(FOLDER, "a.db")
WRITERS, SECONDS = 4, 1.0


def connect(path):
    connection = turso.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode = 'mvcc'").fetchall()
    connection.execute("PRAGMA busy_timeout = 0").fetchall()
    return connection


def write(counts, until):
    """Increment the counter until the time is over; count what was acknowledged, and refused."""
    connection = connect(PATH)
    while time.monotonic() < until:
        try:
            connection.execute("UPDATE counter SET v = v + 1 WHERE id = 0").fetchall()
            counts["acknowledged"] += 1
        except turso.Error as error:
            counts["refused"] += 1
            counts["words"] = f"{type(error).__name__}: {error}"
    connection.close()


first = connect(PATH)
first.execute("CREATE TABLE counter(id INTEGER PRIMARY KEY, v INTEGER)").fetchall()
first.execute("INSERT INTO counter VALUES (0, 0)").fetchall()
every = [{"acknowledged": 0, "refused": 0, "words": ""} for _ in range(WRITERS)]
until = time.monotonic() + SECONDS
threads = [threading.Thread(target=write, args=(counts, until)) for counts in every]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
[(value,)] = first.execute("SELECT v FROM counter").fetchall()
acknowledged = sum(counts["acknowledged"] for counts in every)
refused = sum(counts["refused"] for counts in every)
print(f"{acknowledged} acknowledged, {refused} refused ({every[0]['words']}), {value} in the table")
bug = value != acknowledged
print("THE BUG IS THERE" if bug else "the bug is not there")
sys.stdout.flush()
os._exit(1 if bug else 0)
