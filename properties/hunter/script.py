"""A finding as a script that needs nothing but the driver: `repro.py`, to attach to a bug report.

It exits 1 where the bug is there, 0 where it is not. The engine says in its own class how its
driver is imported and a database opened (`script`); all else is plain calls of the driver.
"""

from __future__ import annotations

import pprint
from collections.abc import Sequence

from properties.hunter.judges import INTEGRITY, Found
from properties.hunter.race_script import race_script, tells_a_race
from properties.hunter.reference import with_key
from workloads.schedules import Played, Result, Step, first_word, pragma

HEAD = '''"""{title}

Right: {expected}
Seen with {version}: {seen}

Found by cwkit. Exits 1 where the bug is there, 0 where it is not, and 2 where it cannot tell.
"""

import os
import re
import shutil
import signal
import sys
import tempfile


{not_told}
{driver}

RIGHT = {expected!r}
FOLDER = tempfile.mkdtemp()
PATH = os.path.join(FOLDER, "a.db")
OPEN, HALF = {{}}, {{}}


def opened(name):
    if name not in OPEN:
        OPEN[name] = connect(PATH{arguments})
        {first}
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
        got, error = None, f"{{type(raised).__name__}}: {{raised}}"
        if ends:
            give_up(name)
    print(f"{{name}}: {{sql}}", f"!! {{error}}" if error else got or "")
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
        first, error = None, f"{{type(raised).__name__}}: {{raised}}"
    if first is not None:
        HALF[name] = cursor, tuple(first)
    print(f"{{name}}: {{sql}} (the first row)", error or first or "")
    return [tuple(first)] if first is not None else [], error


def fetch(name):
    """The rows of a session's open cursor, the first one among them."""
    cursor, first = HALF.pop(name)
    try:
        got, error = [first, *(tuple(row) for row in cursor.fetchall() or [])], None
    except BaseException as raised:
        got, error = None, f"{{type(raised).__name__}}: {{raised}}"
    print(f"{{name}}: the other rows", error or got)
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
    told = f"THE BUG IS THERE. Right: {{RIGHT}}" if bug else "the bug is not there"
    leave(1 if bug else 0, f"{{said + ': ' if bug and said else ''}}{{told}}")


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
        signal.alarm({limit_s})
        part()
        os.kill(os.getpid(), 9)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


'''

NOT_TOLD = '''def not_told(*error):
    """An error of the script itself, which says nothing about the bug."""
    sys.__excepthook__(*error)
    sys.stderr.flush()
    os._exit(2)


sys.excepthook = not_told
'''

THREADS = '''from concurrent.futures import ThreadPoolExecutor

THREAD = {{{name!r}: ThreadPoolExecutor(1)}}


def in_its_thread(call):
    """Session {name} has a thread of its own. All others wait for it."""

    def called(name, *arguments, **named):
        if name not in THREAD:
            return call(name, *arguments, **named)
        return THREAD[name].submit(call, name, *arguments, **named).result()

    return called


step, half, fetch = map(in_its_thread, (step, half, fetch))


'''

LIMIT_S = 30


def can_tell(found: Found, played: Played) -> bool:
    """Whether a script can: it is a race, or has one process and opens and closes as it likes."""
    if tells_a_race(found, played):
        return True
    raced = any(step.verb == "race" for step in played.program.steps)
    return not (played.program.apart or raced or found.wrong.judge in ("connection", "isolation"))


def script(
    found: Found,
    played: Played,
    *,
    version: str,
    driver: str,
    first: Sequence[str] = (),
    own_arguments: Sequence[str] = (),
    apart: bool = True,
) -> str:
    """The text of the script. driver : the engine's own lines that define `connect(path)`.

    first : statements that each connection runs first. own_arguments : options of a program that
    are arguments of `connect` (Engine.arguments). apart : the engine's sessions may have processes
    of their own.
    """
    wrong, program = found.wrong, played.program
    own = [one for one in program.options if one[0] in ("journal_mode", *own_arguments)]
    first = [*first, *(pragma(*one) for one in program.options if one not in own)]
    title = (
        f"{wrong.sentence[0].upper()}{wrong.sentence[1:]}{', ' + found.when if found.when else ''}"
    )
    told = {
        "title": _quoted(title), "expected": _quoted(wrong.expected or "nothing of the kind"),
        "seen": _quoted(wrong.seen or wrong.sentence), "version": version, "driver": driver.strip(),
        "arguments": "".join(f", {name}={value!r}" for name, value in own),
    }  # fmt: skip
    if tells_a_race(found, played):
        told["driver"] = f"{NOT_TOLD}\n{told['driver']}"
        return race_script(found, played, head=told, first=first, apart=apart)
    head = HEAD.format(
        **told,
        not_told=NOT_TOLD,
        first="\n        ".join(f"rows(OPEN[name], {sql!r})" for sql in first) or "pass",
        limit_s=LIMIT_S,
    )
    steps = list(zip(program.steps, [*played.results, None], strict=False))[: found.at + 1]
    parts: list[list[str]] = [[]]
    for sql in program.schema:
        parts[-1].append(f"step('A', {sql!r})")
    shared = [name for name in program.shared if name in program.sessions]
    names = [name for name in program.sessions or ["A"] if name not in shared[1:]]
    everybody = f"open_all({', '.join(map(repr, names))})"
    if len(shared) > 1:
        everybody += f"; OPEN[{shared[1]!r}] = OPEN[{shared[0]!r}]"
        head += THREADS.format(name=shared[1]) if program.threads else ""
    parts[-1] += ["close_all()", everybody]
    for at, (one, result) in enumerate(steps):
        last = at == found.at
        if result is not None and result.status == "skipped":
            continue
        if one.verb == "kill":
            parts.append([everybody])
        else:
            parts[-1] += _lines(one, result, wrong.judge, last=last)
            if one.verb == "close" and one.session in shared[:1]:
                parts[-1].append(f"close({shared[-1]!r})")
            elif one.verb == "close" and one.session in shared:
                parts[-1].append(f"close({shared[0]!r})")
            parts[-1] += [everybody] if one.verb in ("reopen", "close") else []
        if last:
            parts[-1] += _verdict(found, one, result)
    if found.at >= len(program.steps):
        parts[-1] += _at_the_end(found)
    return head + _whole(parts, found)


def _quoted(text: str) -> str:
    return text.replace("\\\\", "\\\\\\\\").replace('"""', "'''").strip().rstrip('"')


def _lines(step: Step, result: Result | None, judge: str, *, last: bool) -> list[str]:
    name, sql = step.session, step.text
    rows = result.rows if result is not None and result.status == "ok" else None
    if step.verb == "reopen":
        return ["close_all()"]
    if step.verb == "close":
        return [f"close({name!r})"]
    if step.verb == "fetch":
        return [f"got, error = fetch({name!r})"]
    if step.verb == "half":
        return [f"got, error = half({name!r}, {sql!r})"]
    sql = {"begin": f"BEGIN {sql.upper()}".strip(), "commit": "COMMIT",
           "rollback": "ROLLBACK"}.get(step.verb, sql)  # fmt: skip
    if step.verb == "auto" and rows:
        sql = with_key(sql, rows[0][0]) if judge == "serializable" else sql
    # Without a result it never came back: in the statement, or when it was given up.
    ends = result is None or result.status in ("conflict", "ended", "unknown")
    call = "begin" if step.verb == "begin" and result is not None and not ends else "step"
    lines = [f"got, error = {call}({name!r}, {sql!r}{', ends=True' if ends else ''})"]
    if judge == "serializable" and not last and first_word(sql) == "select" and rows is not None:
        lines.append(f"if sorted(got or [], key=repr) != {sorted(rows, key=repr)!r}:")
        lines.append("    verdict(False, 'it read something else here')")
    return lines


def _verdict(found: Found, step: Step, result: Result | None) -> list[str]:
    wrong = found.wrong
    if wrong.judge in ("abort", "hang"):
        return []
    if (
        wrong.judge in ("panic", "corrupt", "needless refusal")
        or (wrong.judge == "error" and wrong.expected == "no error")
        or (wrong.judge == "error" and wrong.expected == "success")
    ):
        return [f"raised(error, {result.message if result else ''!r})"]
    if wrong.judge in ("error", "lost update", "serializable", "constraint", "foreign key"):
        return ["verdict(error is None, 'it succeeded')"]
    if wrong.judge == "transaction state":
        inside = f"bool(opened({step.session!r}).in_transaction)"
        return [f"verdict(error is None and {inside} is not {wrong.expected == 'inside'})"]
    if step.verb == "half":
        return [f"verdict(error is None and bool(got) != {bool(wrong.rows)})"]
    right = pprint.pformat(sorted(wrong.rows or [], key=repr), width=90)
    return [f"right = {right}", "verdict(error is None and sorted(got, key=repr) != right)"]


def _at_the_end(found: Found) -> list[str]:
    wrong = found.wrong
    lines = ["close_all()"]
    if found.when.endswith("once more"):
        lines += ["opened('A')", "close_all()"]
    lines.append(f"got, error = step('A', {wrong.asked or INTEGRITY!r})")
    if wrong.judge == "integrity":
        return [*lines, "verdict(error is not None or got != [('ok',)])"]
    if wrong.judge in ("abort", "hang"):
        return lines
    if wrong.judge == "error":
        return [*lines, f"raised(error, {wrong.seen.partition(': ')[2]!r})"]
    right = pprint.pformat(sorted(wrong.rows or [], key=repr), width=90)
    return [*lines, f"right = {right}", "verdict(sorted(got or [], key=repr) != right)"]


def _whole(parts: Sequence[list[str]], found: Found) -> str:
    """The parts as functions, where a kill or an abort needs processes; else as they are."""
    dies = found.wrong.judge in ("abort", "hang")
    if len(parts) == 1 and not dies:
        return "\n".join(parts[0]) + "\n"
    text = []
    for number, lines in enumerate(parts):
        body = "\n".join(f"    {line}" for line in lines) or "    pass"
        text.append(f"def part_{number}():\n{body}\n\n")
    calls = [f"in_a_process(part_{number})" for number in range(len(parts) - 1)]
    last = f"status = in_a_process(part_{len(parts) - 1})"
    if not dies:
        end = "sys.exit(status if status in (0, 1) else 2)"
    else:
        text[-1] = text[-1].rstrip() + "\n    verdict(False)\n\n"
        end = (
            "if status < 0 or status > 2:\n"
            "    verdict(True, f'it ended with status {status}')\n"
            "sys.exit(status)"
        )
    return "\n".join([*text, *calls, last, end]) + "\n"
