"""A bridge is an engine: what its program does well arrives, and what it does badly is a sentence.

The programs are Python's, made of examples/bridges/sqlite3_bridge.py. Each test has its own.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import textwrap
import threading
from pathlib import Path
from typing import Any

import psutil
import pytest

from workloads.engines import bridge_program
from workloads.engines.bridge import BridgeError
from workloads.engines.bridge_messages import request
from workloads.engines.bridge_program import KEPT_BYTES, BridgeFailed, BridgeLimits, Program
from workloads.engines.engine import Refusal, Settings, find_engine
from workloads.engines.registry import trust
from workloads.engines.testing import IMPATIENT, refused
from workloads.errors import EngineMissing, NotTrusted
from workloads.files import ROOT
from workloads.records import (
    BEGIN,
    BUSY,
    COMMIT,
    COMMITTED,
    CONFLICT,
    FAILED,
    NO_CONFLICT,
    STALE,
    STATEMENT,
    UNKNOWN,
    UPGRADE,
    WRITE_WRITE,
)
from workloads.runs import make_plan, run

BRIDGES = ROOT / "examples" / "bridges"
SOUND = (BRIDGES / "sqlite3_bridge.py").read_text(encoding="utf-8")


def changed(old: str, new: str) -> str:
    """The reference's program with a change."""
    assert SOUND.count(old) == 1, old
    return SOUND.replace(old, new)


def bridge(folder: Path, text: str = SOUND, more: str = "", command: str = "") -> str:
    """The name of an engine by a program of this text. more : attributes of its class."""
    (folder / "program.py").write_text(text, encoding="utf-8")
    file = folder / "mine.py"
    file.write_text(
        textwrap.dedent(
            f"""
            import sys
            from workloads.engines import Bridge, BridgeLimits

            class Mine(Bridge):
                command = {command or '(sys.executable, "-S", "-E", "program.py")'}
                {more}
            """
        ),
        encoding="utf-8",
    )
    trust(file)
    return f"{file}:Mine"


def answering(before: str = "", **answers: str) -> str:
    """A program that answers each verb with a text, and hello well where it is not told how.

    before : Python that is run at each request.
    """
    hello = '{"id":%d,"in_transaction":false,"hello":{"protocol":1,"binding":"b","version":"1"}}'
    texts = {"hello": hello, "open": '{"id":%d,"in_transaction":false,"rows":[]}', **answers}
    return f"""
import json, os, signal, sys, time
texts = {texts!r}
for line in sys.stdin:
    asked = json.loads(line)
    do = asked["do"]
    {before or "pass"}
    text = texts.get(do, texts["open"])
    print(text % asked["id"] if "%d" in text else text, flush=True)
"""


def engine_name(folder: Path) -> str:
    return f"{folder / 'mine.py'}:Mine"


def children() -> set[int]:
    return {child.pid for child in psutil.Process().children()}


def test_values_of_each_kind_arrive_as_they_are(tmp_path: Path) -> None:
    session = find_engine(bridge(tmp_path)).connect(str(tmp_path / "a.db"))
    sent = (None, -(2**63), 2**63 - 1, 2**53 + 1, 0.1, 1.0, float("inf"), float("-inf"),
            "Zürich\n\0\u2028", "", b"", bytes(range(256)))  # fmt: skip
    marks = ", ".join("?" * len(sent))
    (got,) = session.rows(f"SELECT {marks}", sent)
    assert got == sent and [type(one) for one in got] == [type(one) for one in sent]
    for wrong in (2**63, {"a": 1}, object()):
        with pytest.raises((OverflowError, TypeError)):
            session.rows("SELECT ?", wrong if isinstance(wrong, dict) else (wrong,))
    assert session.rows("SELECT 1") == [(1,)]  # nothing was sent of what cannot be
    session.close()


def test_a_refusal_has_the_engine_s_words_and_the_transaction_s_state(tmp_path: Path) -> None:
    engine = find_engine(bridge(tmp_path))
    path = str(tmp_path / "a.db")
    assert engine.file_format == "sqlite" and "immediate" in engine.promises
    a = engine.connect(path, begin="immediate", settings=IMPATIENT)
    b = engine.connect(path, begin="deferred", settings=Settings(busy_timeout_ms=100))
    a.run("CREATE TABLE t(id INTEGER PRIMARY KEY)")
    locked = "database is locked"
    a.begin()
    other = engine.connect(path, begin="immediate", settings=IMPATIENT)
    assert refused(other, BEGIN, other.begin) == Refusal(CONFLICT, BUSY, locked, True)
    b.begin()
    b.rows("SELECT * FROM t")
    error = None
    try:
        b.run("INSERT INTO t VALUES (9)")
    except BridgeError as raised:
        error = raised
    assert error is not None
    assert b.refusal(error, STATEMENT, 1_000) == Refusal(CONFLICT, UPGRADE, locked, False)
    a.run("INSERT INTO t VALUES (1)")
    a.commit()
    said = refused(b, STATEMENT, b.run, "INSERT INTO t VALUES (9)")
    assert said == Refusal(CONFLICT, STALE, locked, False) and b.in_transaction()
    b.rollback()
    assert not b.in_transaction()
    said = refused(b, STATEMENT, b.run, "INSERT INTO t VALUES (1)")
    assert said == Refusal(FAILED, NO_CONFLICT, "UNIQUE constraint failed: t.id", True)
    for session in (a, b, other):
        session.close()
        session.close()
    with pytest.raises(BridgeError, match="this session is closed"):
        a.rows("SELECT 1")


def test_a_class_of_the_program_s_decides_where_there_is_no_code(tmp_path: Path) -> None:
    kinds = {
        "write-write": (CONFLICT, WRITE_WRITE),
        "failed": (FAILED, NO_CONFLICT),
        "unknown": (UNKNOWN, NO_CONFLICT),
    }
    error = '{"id":%d,"in_transaction":false,"error":{"message":"no","class":"KIND"}}'
    for kind, expected in kinds.items():
        folder = tmp_path / kind
        folder.mkdir()
        text = answering(commit=error.replace("KIND", kind))
        session = find_engine(bridge(folder, text)).connect(str(folder / "a"))
        assert refused(session, COMMIT, session.commit) == Refusal(*expected, "no", True)
        session.close()


def test_its_counts_answer_for_changes_and_its_own_format_takes_no_pragmas(tmp_path: Path) -> None:
    hello = (
        '{"id":%d,"in_transaction":false,"hello":{"protocol":1,"binding":"b","version":"1",'
        '"file_format":"own","modes":["plain"],'
        '"promises":{"plain":{"level":"read-committed","source":"its page"}}}}'
    )
    counted = '{"id":%d,"in_transaction":false,"changes":7}'
    engine: Any = find_engine(bridge(tmp_path, answering(hello=hello, run=counted)))
    assert engine.usual == {"writer": "plain", "reader": "plain"} and not engine.takes_pragmas
    assert engine.file_format != "sqlite"
    session = engine.connect(str(tmp_path / "a.db"), begin="plain")
    assert session.pragmas == {}
    session.run("UPDATE t SET a = 1")
    assert session.rows("SELECT changes()") == [(7,)]
    session.close()


def test_a_program_carries_the_next_session_when_one_is_closed(tmp_path: Path) -> None:
    before = children()
    engine = find_engine(bridge(tmp_path))
    path = str(tmp_path / "a.db")
    engine.connect(path).close()
    (first,) = children() - before
    second = engine.connect(path)
    assert children() - before == {first}
    third = engine.connect(path)
    assert len(children() - before) == 2
    second.close()
    third.close()


BROKEN_HELLO = {
    "exits": ("import sys; sys.exit('no licence')", "died with exit status 1 .*no licence"),
    "talks": ("print('ready!', flush=True); input()", "wrote 'ready!', which is no answer"),
    "late": (answering("time.sleep(60)"), "gave no answer within 0.5 s .*and was ended"),
    "deaf": ("import os, time; os.close(0); time.sleep(60)", "gave no answer within 0.5 s|closed"),
    "later": (
        answering(hello='{"id":%d,"hello":{"protocol":9,"binding":"b","version":"1"}}'),
        "speaks version 9 of the protocol, and this cwkit speaks 1",
    ),
    "silent": (answering(hello='{"id":%d}'), "answered the handshake without saying hello"),
    "says no": (
        answering(hello='{"id":%d,"error":{"message":"no key"}}'),
        "answered the handshake with: no key",
    ),
    "promises": (
        answering(
            hello='{"id":%d,"hello":{"protocol":1,"binding":"b","version":"1",'
            '"promises":{"immediate":{"level":"serialisable","source":"s"}}}}'
        ),
        r"'serialisable' for immediate, which is no isolation level \(did you mean serializable",
    ),
    "no mode": (
        answering(
            hello='{"id":%d,"hello":{"protocol":1,"binding":"b","version":"1",'
            '"modes":["a"],"usual":{"writer":"b"}}}'
        ),
        "speaks of the mode 'b', which is none of its modes: a",
    ),
}


@pytest.mark.parametrize("kind", list(BROKEN_HELLO))
def test_a_program_that_does_not_begin_well_is_not_to_be_had(kind: str, tmp_path: Path) -> None:
    before = children()
    text, sentence = BROKEN_HELLO[kind]
    soon = "limits = BridgeLimits(start_s=0.5)" if "0.5 s" in sentence else ""
    engine = find_engine(bridge(tmp_path, text, soon))
    why = engine.missing() or ""
    assert re.search(sentence, why) and "program.py" in why, why
    with pytest.raises(EngineMissing, match=re.escape(why)):
        engine.identity()
    with pytest.raises(EngineMissing, match=re.escape(why)):
        make_plan(database=str(engine_name(tmp_path)))
    assert children() <= before


def test_a_program_that_cannot_be_started_is_not_to_be_had(tmp_path: Path) -> None:
    engine = find_engine(bridge(tmp_path, command='("no-such-program", "x.js")'))
    assert engine.missing() == (
        "no-such-program x.js cannot be started: No such file or directory: no-such-program."
    )


BROKEN_LATER = {
    "another id": (answering(run='{"id":77,"in_transaction":false}'),
                   "answered request 77 where 3 was asked"),
    "debugging": (answering("if do == 'run': print('got it')"), "wrote 'got it', which is no"),
    "no state": (answering(run='{"id":%d,"rows":[]}'), "answered without in_transaction"),
    "a number": (answering(run='{"id":%d,"in_transaction":false,"rows":[[1]]}'),
                 "which is no answer .*got `int` - at `.*rows"),
    "no value": (answering(run='{"id":%d,"in_transaction":false,"rows":[[{"int":"x"}]]}'),
                 "gave the value .*a value is null, a text"),
    "no class": (answering(run='{"id":%d,"in_transaction":false,'
                           '"error":{"message":"m","class":"odd"}}'),
                 "gave an error the class 'odd', which is none of busy, snapshot"),
    "hangs": (answering("if do == 'run': time.sleep(60)"),
              "gave no answer within 0.5 s when it was asked to run 'SELECT 1'"),
    "stopped": (answering("if do == 'run': os.kill(os.getpid(), signal.SIGSTOP)"),
                "gave no answer within 0.5 s"),
    "dies": (answering("if do == 'run': sys.exit('out of luck')"),
             "died with exit status 1 .*asked to run 'SELECT 1'. Its last words: out of luck."),
    "crashes": (answering("if do == 'run': os.kill(os.getpid(), signal.SIGSEGV)"),
                r"died with signal 11 \(SIGSEGV\) .*It wrote nothing to its standard error"),
    "closes": (answering("if do == 'run': os.close(1); time.sleep(60)"),
               "closed its standard output"),
    "floods": (answering("while do == 'run': os.write(1, b'x' * 65536)"),
               "wrote [0-9,]+ bytes that are no line"),
    "cries": (answering("while do == 'run': os.write(2, b'why' * 9999)"),
              "gave no answer within 0.5 s"),
}  # fmt: skip


ALIKE = ("stopped", "closes", "no class")
"""Those that go the way of another one."""


@pytest.mark.parametrize(
    "kind",
    [pytest.param(kind, marks=[pytest.mark.slow] * (kind in ALIKE)) for kind in BROKEN_LATER],
)
def test_a_program_that_breaks_off_breaks_its_session_in_a_sentence(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bridge_program, "MOST_LINE_BYTES", 1 << 20)
    before = children()
    text, sentence = BROKEN_LATER[kind]
    soon = "; limits = BridgeLimits(answer_s=0.5)" if "0.5 s" in sentence else ""
    more = f"takes_pragmas = False{soon}"
    session: Any = find_engine(bridge(tmp_path, text, more)).connect(
        str(tmp_path / "a.db"), settings=IMPATIENT
    )
    with pytest.raises(BridgeFailed, match=sentence) as broke:
        session.rows("SELECT 1")
    # Whoever goes on hears the same, at once: nothing is tried again.
    with pytest.raises(BridgeFailed, match=re.escape(str(broke.value))):
        session.refusal(broke.value, STATEMENT)
    with pytest.raises(BridgeFailed, match=re.escape(str(broke.value))):
        session.commit()
    session.close()
    assert children() <= before


def test_of_what_a_program_writes_to_its_standard_error_both_ends_are_kept() -> None:
    text = "import sys; sys.stderr.write('first ' + 'x' * 500_000 + ' last\\n'); input()"
    program = Program("it", [sys.executable, "-S", "-c", text], Path.cwd(), BridgeLimits())
    with pytest.raises(BridgeFailed, match=r"first x+ … x+ last"):
        program.ask("hello", 20, "say hello")
    program.close()
    assert len(program._said.head) == len(program._said.tail) == KEPT_BYTES


def test_a_program_ends_with_its_children_when_its_session_does() -> None:
    text = (
        "import subprocess, sys; subprocess.Popen(['sleep', '60']); "
        'print(\'{"id":1,"in_transaction":false}\', flush=True); sys.stdin.read()'
    )
    program = Program("it", [sys.executable, "-S", "-c", text], Path.cwd(), BridgeLimits())
    program.ask("open", 20, "open")
    (sleeper,) = psutil.Process(program._process.pid).children()
    program.close()
    assert program._process.poll() is not None
    with contextlib.suppress(psutil.TimeoutExpired):
        sleeper.wait(5)
    assert not sleeper.is_running() or sleeper.status() == psutil.STATUS_ZOMBIE


def test_a_file_that_only_a_folder_names_starts_no_program(tmp_path: Path) -> None:
    (tmp_path / "theirs.py").write_text(
        "from workloads.engines import Bridge\n\n\nclass Theirs(Bridge):\n"
        f"    command = ('touch', {str(tmp_path / 'touched')!r})\n"
    )
    with pytest.raises(NotTrusted, match="only where the command line names it"):
        find_engine(f"{tmp_path / 'theirs.py'}:Theirs").missing()
    assert not (tmp_path / "touched").exists()


def test_the_page_s_conversation_is_the_one_that_takes_place(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "another-language.md").read_text(encoding="utf-8")
    path = str(tmp_path / "a.db")
    asked = [line[2:] for line in page.splitlines() if line.startswith("> {")]
    told = [json.loads(line[2:]) for line in page.splitlines() if line.startswith("< {")]
    done = subprocess.run(
        [sys.executable, BRIDGES / "sqlite3_bridge.py"],
        input="\n".join(asked).replace("/tmp/a.db", path),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    for one in (answers[0], told[0]):
        del one["hello"]["binding"], one["hello"]["version"]
    assert answers == told and len(told) == 8
    for line in asked:  # as the kit itself writes them
        fields = json.loads(line)
        assert request(fields.pop("id"), fields.pop("do"), **fields).decode() == line + "\n"


# --- one program for all sessions ----------------------------------------------------------------

LOOP = """
import queue
import threading


def serve(asked):
    while (request := asked.get()) is not None:
        try:
            found = answer(request["do"], request)
        except (sqlite3.Error, OverflowError) as error:
            code = getattr(error, "sqlite_errorcode", None)
            found = {"error": {"message": str(error), "code": code}}
        there = here.database
        inside = there is not None and there.in_transaction
        said = {"id": request["id"], "in_transaction": inside, **found}
        sys.stdout.write(json.dumps(said) + "\\n")
        sys.stdout.flush()


class Here(threading.local):
    database = None


here, sessions = Here(), {}
for line in sys.stdin:
    request = json.loads(line)
    number = request.get("session", 0)
    if number not in sessions:
        sessions[number] = queue.SimpleQueue()
        threading.Thread(target=serve, args=(sessions[number],), daemon=True).start()
    sessions[number].put(request)
"""


def threaded() -> str:
    """The reference with a thread for each session, in one process."""
    head = changed('"protocol": 1,', '"protocol": 1,\n    "processes": "one",')
    head = head[: head.index("\nfor line in sys.stdin:")]
    head = head.replace("database = None\n\n\ndef", "\n\ndef", 1).replace(
        "    global database\n", ""
    )
    return re.sub(r"\bdatabase\b(?! =? ?None)", "here.database", head).replace(
        "        database = None", "        here.database = None"
    ) + LOOP  # fmt: skip


def test_an_engine_that_one_process_may_open_has_one_program_for_all_its_sessions(
    tmp_path: Path,
) -> None:
    before = children()
    engine = find_engine(bridge(tmp_path, threaded()))
    assert engine.hosting == "thread", engine.missing()
    path = str(tmp_path / "a.db")
    a = engine.connect(path, begin="immediate", settings=Settings(busy_timeout_ms=20_000))
    b = engine.connect(path, begin="immediate", settings=Settings(busy_timeout_ms=20_000))
    assert len(children() - before) == 1
    a.run("CREATE TABLE t(n INTEGER)")
    a.begin()
    a.run("INSERT INTO t VALUES (1)")
    waits = threading.Thread(target=b.begin)  # its answer comes after those to a
    waits.start()
    assert a.rows("SELECT n FROM t") == [(1,)]
    a.commit()
    waits.join(20)
    assert b.in_transaction() and not a.in_transaction()
    assert b.rows("SELECT n FROM t") == [(1,)]
    (program,) = children() - before
    os.kill(program, signal.SIGKILL)
    for session in (a, b):
        with pytest.raises(BridgeFailed, match="died with signal 9"):
            session.rows("SELECT 1")
        session.close()
    c = engine.connect(path)
    assert c.rows("SELECT n FROM t") == [(1,)]
    c.close()
    (other,) = children() - before
    assert other != program


SHARED_HELLO = (
    '{"id":%d,"hello":{"protocol":1,"binding":"b","version":"1","processes":"one","pragmas":false}}'
)
BROKEN_SHARED = {
    "hangs": ("if do == 'run': time.sleep(60)", "gave no answer within 0.5 s when it was asked to"),
    "another id": ("if do == 'run': asked['id'] = 77", "answered request 77, which nobody waits"),
    "dies": ("if do == 'run': sys.exit('out of luck')", "died with exit status 1.*out of luck"),
    "deaf": ("if do == 'open': sys.stdin.close(); os.close(0)", "closed its standard input|died"),
}


@pytest.mark.parametrize("kind", list(BROKEN_SHARED))
def test_where_such_a_program_breaks_off_all_its_sessions_do(kind: str, tmp_path: Path) -> None:
    before = children()
    text, sentence = BROKEN_SHARED[kind]
    soon = "limits = BridgeLimits(answer_s=0.5)" if "0.5 s" in sentence else ""
    name = bridge(tmp_path, answering(text, hello=SHARED_HELLO), soon)
    path = str(tmp_path / "a.db")

    def use() -> None:
        first, second = (find_engine(name).connect(path, settings=IMPATIENT) for _ in "ab")
        with pytest.raises(BridgeFailed, match=sentence):
            first.rows("SELECT 1")
        second.commit()

    with pytest.raises(BridgeFailed, match=sentence):
        use()
    assert children() <= before


@pytest.mark.slow
def test_the_writers_of_such_an_engine_are_threads_of_one_process(tmp_path: Path) -> None:
    found = made(tmp_path, threaded(), writers=2)
    assert found.manifest.ok, found.manifest.findings
    assert [len(worker.attempts) >= 40 for worker in found.workers] == [True, True]


# --- in a run ------------------------------------------------------------------------------------


def made(folder: Path, text: str, **values: Any) -> Any:
    """A short run on a bridge by this program."""
    given = {"scenario": "counter", "writers": 1, "transactions": 40, "deadline_s": 20.0} | values
    plan = make_plan(database=bridge(folder, text), **given)
    return run(plan, folder / "runs", databases=folder)


# The last branch of the reference, before which another one is put below.
ENDS = '    else:\n        run({"commit"'
FIRST = f'    elif do == "commit" and once():\n        WHAT\n{ENDS}'
HEAD = """import base64
import os


def once():
    global commits
    commits += 1
    return commits == 20


commits = 0
"""


def at_commit(what: str) -> str:
    """The reference, which at its twentieth COMMIT does something else."""
    text = changed(ENDS, FIRST.replace("WHAT", what)).replace("import base64\n", HEAD)
    return text.replace("global database", "global database, commits")


def test_a_sound_bridge_makes_a_sound_run_with_its_own_processor_time(tmp_path: Path) -> None:
    found = made(tmp_path, SOUND)
    assert found.manifest.ok, found.manifest.findings
    (worker,) = found.workers
    assert len(worker.attempts) == 40
    identity = found.manifest.engines[found.manifest.plan.database]
    assert "by python" in identity.binding and "program.py" in identity.binding


DYING = "sys.exit('no more room in my head')"


@pytest.mark.parametrize("did_commit", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_program_that_dies_in_a_commit_ends_its_worker_and_leaves_it_unknown(
    tmp_path: Path, did_commit: bool
) -> None:
    found = made(tmp_path, at_commit(("run('COMMIT'); " if did_commit else "") + DYING))
    assert not found.manifest.ok
    (entry,) = found.manifest.workers
    assert entry.state == "died" and re.search(
        r"program.py died with exit status 1 when it was asked to commit\. "
        r"Its last words: no more room in my head\.",
        entry.account,
    )
    (worker,) = found.workers
    outcomes = [int(one) for one in worker.attempts["outcome"]]
    assert outcomes == [COMMITTED] * 19 + [UNKNOWN]
    # The scenario's check knows that either may be: it stays silent.
    assert all(finding.ok for finding in found.manifest.findings), found.manifest.findings
    assert (found.folder / "worker-000.stderr").read_text().startswith("[python")


# --- negative controls: broken bridges, and the checks that catch them ---------------------------


def test_a_bridge_that_loses_a_commit_is_caught_by_the_run_s_check(tmp_path: Path) -> None:
    found = made(tmp_path, at_commit("run('ROLLBACK')"))
    assert [one.check for one in found.manifest.broken] and not found.manifest.ok
