"""Python's sqlite3 as a bridge, by the standard library alone: the reference for other languages.

It speaks the protocol of docs/another-language.md: a line in, a line out, until its input ends.
"""

import base64
import json
import platform
import sqlite3
import sys

SOURCE = "https://sqlite.org/isolation.html"
PROMISE = {"level": "serializable", "source": SOURCE}
HELLO = {
    "protocol": 1,
    "binding": f"sqlite3 of Python {platform.python_version()}",
    "version": sqlite3.sqlite_version,
    "file_format": "sqlite",
    "modes": ["deferred", "immediate", "exclusive", "concurrent"],
    "promises": dict.fromkeys(("deferred", "immediate", "exclusive"), PROMISE),
}
READ = {"int": int, "real": float, "blob": base64.b64decode}
database = None


def value(sent):
    """A parameter as the driver takes it: null and text are themselves."""
    if not isinstance(sent, dict):
        return sent
    ((kind, text),) = sent.items()
    return READ[kind](text)


def sent(value):
    """A value of a row as the protocol has it: no JSON number is one."""
    if isinstance(value, int):
        return {"int": str(value)}
    if isinstance(value, float):
        return {"real": repr(value).replace("inf", "Infinity").replace("nan", "NaN")}
    return {"blob": base64.b64encode(value).decode()} if isinstance(value, bytes) else value


def run(sql, params=()):
    cursor = database.execute(sql, [value(one) for one in params])
    return {"rows": [[sent(one) for one in row] for row in cursor.fetchall()]}


def answer(do, request):
    global database
    if do == "hello":
        return {"hello": HELLO}
    if do == "open":
        wait_s = request["busy_timeout_ms"] / 1000
        database = sqlite3.connect(request["path"], timeout=wait_s, isolation_level=None)
    elif do == "close":
        database.close()
        database = None
    elif do == "begin":
        run(f"BEGIN {request['mode'].upper()}")
    elif do == "run":
        return run(request["sql"], request["params"])
    else:
        run({"commit": "COMMIT", "rollback": "ROLLBACK"}[do])
    return {}


for line in sys.stdin:
    request = json.loads(line)
    try:
        found = answer(request["do"], request)
    except (sqlite3.Error, OverflowError) as error:
        code = getattr(error, "sqlite_errorcode", None)
        found = {"error": {"message": str(error), "code": code}}
    inside = database is not None and database.in_transaction
    print(json.dumps({"id": request["id"], "in_transaction": inside, **found}), flush=True)
