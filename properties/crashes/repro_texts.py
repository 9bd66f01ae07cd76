"""The parts of the script that shows a kept state: it needs nothing but the engine's driver."""

HEAD = '''"""{title}

The files beside this script, in {files}/, are what a crash left: {crash}.
Wrong: {wrong}
Seen with {version}.

Found by cwkit crash. Exits 1 where it is still so, 0 where it is not, and 2 where it cannot tell.
"""

import hashlib
import os
import shutil
import struct
import sys
import tempfile

{driver}

KINDS = {kinds}

HERE = os.path.join(os.path.dirname(os.path.abspath(__file__)), {files!r})
FOLDER = tempfile.mkdtemp()
PATH = os.path.join(FOLDER, {database!r})
'''

ACKED = """
# What the writers had been told when the crash came: (writer, number) of the transactions that were
# acknowledged.
ACKED = {acked}
"""

ORDER = """
# What the database held in turn while all was there, up to the crash, each in 16 letters; and the
# place in that order of the last that was acknowledged.
ORDER = {order}
LEAST = {least}
"""

CHECKS = '''

def rows(connection, sql):
    return [tuple(row) for row in connection.execute(sql).fetchall() or []]


def leave(status, said):
    print(said)
    sys.stdout.flush()
    shutil.rmtree(FOLDER, ignore_errors=True)
    os._exit(status)


def opened():
    connection = connect(PATH)
    for sql in FIRST:
        rows(connection, sql)
    return connection


def checked(connection):
    """What the engine's own checks say."""
    wrong = []
    integrity = [row[0] for row in rows(connection, "PRAGMA integrity_check")]
    if integrity != ["ok"]:
        wrong.append("integrity: " + "; ".join(map(str, integrity[:3])))
    if FOREIGN and (keys := rows(connection, "PRAGMA foreign_key_check")):
        wrong.append(f"foreign keys: {keys[:3]}")
    return wrong
'''

POSTINGS = '''

def looked():
    """What is wrong with the database, [] where nothing is."""
    connection = opened()
    wrong = checked(connection)
    def numbers(sql):
        for row in rows(connection, sql):
            if all(isinstance(value, int) for value in row):
                yield row
            else:
                wrong.append(f"torn: a row that holds no numbers: {row}")

    entries = {(w, n): (parts, amount) for w, n, parts, amount in numbers(
        "SELECT writer, number, parts, amount FROM entry")}
    found = {}
    for w, n, position, amount in numbers("SELECT writer, number, position, amount FROM part"):
        found.setdefault((w, n), []).append((position, amount))
    whole = {key for key, (parts, amount) in entries.items()
             if sorted(p for p, _ in found.get(key, [])) == list(range(parts))
             and sum(a for _, a in found.get(key, [])) == amount}
    if torn := sorted((entries.keys() | found.keys()) - whole):
        wrong.append(f"torn: transactions {torn[:5]}")
    if lost := sorted(set(ACKED) - whole):
        wrong.append(f"lost: acknowledged transactions {lost[:5]}")
    changes = rows(connection, "SELECT sum(changes) FROM account")[0][0] or 0
    if changes != sum(map(len, found.values())):
        wrong.append(f"torn: {changes} changes of accounts, {sum(map(len, found.values()))} rows")
    return wrong
'''

CONTENTS = '''

def typed(value):
    """A letter for the type, and the value's bytes."""
    if value is None:
        return b"n", b""
    if isinstance(value, int):
        return b"i", b"%d" % value
    if isinstance(value, float):
        return b"f", struct.pack("<d", value)
    if isinstance(value, str):
        return b"t", value.encode("utf-8", "surrogatepass")
    return b"b", bytes(value)


def summed(found):
    """How many rows, and the sum of their hashes, which their order does not change."""
    many = total = 0
    for row in found:
        one = hashlib.sha256()
        for value in row:
            kind, raw = typed(value)
            one.update(b"%c%d:" % (kind, len(raw)))
            one.update(raw)
        many += 1
        total += int.from_bytes(one.digest()[:24], "big")
    return f"{many}:{total % (1 << 192):x};"


def content(connection):
    listed = sorted(
        (str(kind), str(name), str(of), str(sql or ""))
        for kind, name, of, sql in rows(connection, "SELECT type, name, tbl_name, sql FROM "
                                        "sqlite_master")
        if not str(of).startswith(("sqlite_stat", "__turso_internal")))
    found = {"": summed(listed)}
    for kind, name, _, sql in listed:
        if kind == "table" and not sql.upper().startswith("CREATE VIRTUAL"):
            quoted = name.replace('"', '""')
            found[name] = summed(rows(connection, f'SELECT * FROM "{quoted}"'))
    text = "".join(f"{name}:{told}" for name, told in sorted(found.items()))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def looked():
    """What is wrong with the database, [] where nothing is."""
    connection = opened()
    wrong = checked(connection)
    there = content(connection)
    at = max((at for at, one in enumerate(ORDER) if one == there), default=None)
    if at is None:
        wrong.append("torn: the database held this at no moment of its run")
    elif at < LEAST:
        wrong.append(f"lost: it holds content {at}, and content {LEAST} was acknowledged")
    return wrong
'''

END = """

def main():
    for name in os.listdir(HERE):
        shutil.copy(os.path.join(HERE, name), os.path.join(FOLDER, name))
    try:
        wrong = looked()
    except BaseException as error:
        wrong = [f"does not open: {type(error).__name__}: {error}"]
    for one in wrong:
        print(one)
    kinds = {one.partition(":")[0] for one in wrong}
    if set(KINDS) & kinds:
        leave(1, "STILL SO")
    leave(0, "it is not so")


main()
"""
