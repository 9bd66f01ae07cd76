"""Probing: an engine is asked what it does, in a process of its own. Nothing comes from a table.

`python -m workloads.engines.probing libsql` prints what one engine answers.

Each engine has its own process because a hang or a crash in native code must end as an answer, and
because two copies of SQLite must never meet on one file in one process.
"""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from typing import Any

import msgspec

from workloads.engines.engine import (
    Answer,
    Engine,
    Identity,
    Probe,
    Settings,
    engine_names,
    find_engine,
    modes_of,
    serving,
    usual_mode,
)
from workloads.engines.registry import trust
from workloads.errors import UnknownName, mode_label
from workloads.files import made
from workloads.processes import ChildProcess, die_with_parent, python, start

LIMIT_S = 30.0
"""Seconds for one question. A busy machine takes one or two to start a Python."""

UPGRADE_MS = 200
"""The busy timeout under which an upgrade is tried: an engine that waits for it takes as long."""

UPGRADE = "upgrade"
"""The question about a write after a read, beside another writer."""

AT_ONCE, WAITED, GRANTED = "refused at once", "refused after the busy timeout", "granted"

ROWS, ROW_BYTES = 200, 1000
"""The first and the last row lie on different pages, whatever the page size up to 65,536."""

APART = "--apart"
"""The first word of a child process of ours; no engine is called so."""


def probe(name: str, *, limit_s: float = LIMIT_S) -> Probe:
    """Ask one engine everything. Raises UnknownName; any other failure is an answer."""
    engine = find_engine(name)
    asked = modes_of(engine)
    more = [UPGRADE] if "deferred" in asked and engine.file_format != "none" else []
    with made("probe") as path:
        folder = str(path)
        answers = _interview(name, ("missing", "identity", "pragmas"), folder, limit_s)
        if answers["missing"] is not None:
            return Probe(name, str(answers["missing"]))
        identity, pragmas = answers["identity"], answers["pragmas"]
        answers |= _about_modes(name, (*asked, *more), folder, limit_s)
        modes = {
            mode: found if isinstance(found := answers[mode], Answer) else Answer(False, str(found))
            for mode in asked
        }
        if more and modes["deferred"].accepted:
            modes["deferred"] = replace(modes["deferred"], upgrade=str(answers[UPGRADE]))
        together, message = _two_processes(name, path, limit_s)
        return Probe(
            engine=name,
            missing=None,
            identity=identity if isinstance(identity, Identity) else None,
            modes=modes,
            several_processes=together,
            processes_message=message,
            pragmas=pragmas if isinstance(pragmas, dict) else {"(none)": str(pragmas)},
        )


def _about_modes(
    name: str, questions: tuple[str, ...], folder: str, limit_s: float
) -> dict[str, Any]:
    """The answers about modes; all at once of an engine that waits for each lock whatever it is
    asked, since it would take a minute one after the other.
    """
    if not getattr(find_engine(name), "waits_s", 0):
        return _interview(name, questions, folder, limit_s)
    found: dict[str, Any] = {}
    with ThreadPoolExecutor(len(questions)) as pool:
        for answers in pool.map(lambda one: _interview(name, (one,), folder, limit_s), questions):
            found |= answers
    return found


def probe_all(
    names: Iterable[str] = (),
    *,
    limit_s: float = LIMIT_S,
    notify: Callable[[str], None] = lambda name: None,
) -> dict[str, Probe]:
    """Ask several engines; all of the registry where none is named, in its order.

    Servers that wait for locks are asked beside the others, which come one after the other.
    notify : called with each name before it is asked.
    """
    asked = list(names or engine_names())
    slow = [name for name in asked if getattr(find_engine(name), "waits_s", 0)]
    with ThreadPoolExecutor(max(1, len(slow))) as pool:
        waiting = {}
        for name in slow:
            notify(name)
            waiting[name] = pool.submit(probe, name, limit_s=limit_s)
        found = {}
        for name in asked:
            if name not in waiting:
                notify(name)
                found[name] = probe(name, limit_s=limit_s)
        return {name: waiting[name].result() if name in waiting else found[name] for name in asked}


def to_dict(found: Probe) -> dict[str, Any]:
    """A probe as plain data that json.dumps takes."""
    plain: dict[str, Any] = msgspec.to_builtins(
        _ProbeData(
            found.engine,
            found.missing,
            _IdentityData(*found.identity) if found.identity else None,
            {mode: _AnswerData(**asdict(answer)) for mode, answer in found.modes.items()},
            found.several_processes,
            found.processes_message,
            dict(found.pragmas),
        )
    )
    return plain


class _IdentityData(msgspec.Struct, frozen=True):
    """An Identity as plain data has it."""

    binding: str
    version: str
    source_id: str
    options: tuple[str, ...] = ()


class _AnswerData(msgspec.Struct, frozen=True, rename={"message": "words"}):
    """An Answer as plain data has it, on disk with the key of older files."""

    accepted: bool
    message: str
    overlaps: bool | None = None
    upgrade: str = ""


class _ProbeData(msgspec.Struct, frozen=True, rename={"processes_message": "processes_words"}):
    """A Probe as plain data has it, on disk with the key of older files."""

    engine: str
    missing: str | None
    identity: _IdentityData | None = None
    modes: dict[str, _AnswerData] = {}
    several_processes: bool | None = None
    processes_message: str = ""
    pragmas: dict[str, Any] = {}


def from_dict(data: Mapping[str, Any]) -> Probe:
    """The inverse of to_dict, also after a way through JSON. Raises msgspec.ValidationError.

    >>> from_dict(to_dict(Probe("x", "not installed"))) == Probe("x", "not installed")
    True
    """
    stored = msgspec.convert(dict(data), _ProbeData)
    fields = {field: getattr(stored, field) for field in stored.__struct_fields__}
    if stored.identity is not None:
        fields["identity"] = Identity(*msgspec.structs.astuple(stored.identity))
    fields["modes"] = {
        mode: Answer(**msgspec.structs.asdict(answer)) for mode, answer in stored.modes.items()
    }
    return Probe(**fields)


# --- in the child processes -----------------------------------------------------------------


def _in_child(number: str, task: str, arguments: str) -> int:
    """Do one task of `TASKS` with its arguments, in JSON, and answer through this descriptor."""
    die_with_parent()
    TASKS[task](*json.loads(arguments), Connection(int(number)))
    return 0


def _answer(name: str, questions: Sequence[str], folder: str, pipe: Connection) -> None:
    """Answer the questions one by one, each as soon as it is known."""
    engine = find_engine(name)
    for question in questions:
        try:
            answer = _ask(engine, question, Path(folder))
        except BaseException as error:  # a panic of a Rust binding is no Exception
            answer = _error_text(error, folder)
        pipe.send(answer)
        if question == "missing" and answer is not None:
            return


def _ask(engine: Engine, question: str, folder: Path) -> Any:
    if question == "missing":
        return engine.missing()
    if question == "identity":
        return engine.identity()
    # A folder for each question: an engine may keep files beside the database under other names.
    place = folder / question
    place.mkdir()
    path = str(place / "probe.db")
    with serving(engine, path):
        if question == UPGRADE:
            return _ask_upgrade(engine, path)
        if question == "pragmas":
            session = engine.connect(path, begin=usual_mode(engine, "reader"))
            answer = dict(session.pragmas)
            session.close()
            return answer
        return _ask_mode(engine, question, path)


def _ask_mode(engine: Engine, mode: str, path: str) -> Answer:
    """Whether a mode is accepted, and whether two of its write transactions overlap."""
    patient = Settings(busy_timeout_ms=0)  # nothing to wait for: one thread holds both
    first = engine.connect(path, begin=mode, settings=patient)
    if engine.file_format != "none":
        _fill(first)
    try:
        first.begin()
    except BaseException as error:
        return Answer(False, _error_text(error, str(Path(path).parent)))
    first.rollback()
    if engine.file_format == "none":
        return Answer(True, "")
    second = engine.connect(path, begin=mode, settings=patient)
    overlaps = _overlap(first, second) if _can_write(first) else None
    first.close()
    second.close()
    return Answer(True, "", overlaps)


def _ask_upgrade(engine: Engine, path: str) -> str:
    """The result of an upgrade, "" where nobody can tell."""
    holder = engine.connect(path, begin="deferred", settings=Settings(busy_timeout_ms=0))
    _fill(holder)
    try:
        return _upgrade(engine, holder, path)
    finally:
        holder.close()


def _fill(session: Any) -> None:
    session.run("CREATE TABLE probe (id INTEGER PRIMARY KEY, value INTEGER, filler BLOB)")
    # Outside a transaction: BEGIN is what is asked about.
    marks = ", ".join(f"({n}, 0, zeroblob({ROW_BYTES}))" for n in range(1, ROWS + 1))
    session.run(f"INSERT INTO probe VALUES {marks}")


def _can_write(session: Any) -> bool:
    """Whether a transaction in this mode may change anything at all."""
    try:
        session.begin()
        session.run("UPDATE probe SET value = 0 WHERE id = ?", (1,))
        session.commit()
    except Exception:
        session.rollback()
        return False
    return True


def _overlap(first: Any, second: Any) -> bool:
    steps: tuple[Callable[[], Any], ...] = (
        first.begin,
        second.begin,
        lambda: first.run("UPDATE probe SET value = 1 WHERE id = ?", (1,)),
        lambda: second.run("UPDATE probe SET value = 1 WHERE id = ?", (ROWS,)),
        first.commit,
        second.commit,
    )
    try:
        for step in steps:
            step()
    except Exception:
        first.rollback()
        second.rollback()
        return False
    # Seen, not believed: an engine that drops one of them without a word does not overlap.
    return first.rows("SELECT count(*) FROM probe WHERE value = 1") == [(2,)]


def _upgrade(engine: Engine, holder: Any, path: str) -> str:
    """The result of a deferred transaction's write after a read, while another holds the lock."""
    reader = engine.connect(path, settings=Settings(busy_timeout_ms=UPGRADE_MS))
    try:
        reader.begin()
        reader.rows("SELECT value FROM probe WHERE id = 1")
        holder.begin()
        holder.run("UPDATE probe SET value = 2 WHERE id = ?", (ROWS,))
        begun = time.monotonic()
        try:
            reader.run("UPDATE probe SET value = 2 WHERE id = 1")
        except Exception:
            return WAITED if time.monotonic() - begun >= UPGRADE_MS / 1000 else AT_ONCE
        return GRANTED
    finally:
        holder.rollback()
        reader.close()


def _share(name: str, path: str, number: int, pipe: Connection) -> None:
    """One of two processes on one database: write a row, then list on demand the rows it sees."""
    try:
        engine = find_engine(name)
        mode = usual_mode(engine, "writer")
        session = engine.connect(path, begin=mode, settings=Settings(busy_timeout_ms=5000))
        if number == 1:
            session.run("CREATE TABLE together (id INTEGER PRIMARY KEY)")
        session.begin()
        session.run("INSERT INTO together VALUES (?)", (number,))
        session.commit()
        pipe.send("")
        while pipe.recv():
            session.begin()  # a replica's rows are those of the server in a transaction alone
            seen = [row[0] for row in session.rows("SELECT id FROM together ORDER BY id")]
            session.commit()
            pipe.send(seen)
        session.close()
    except EOFError:
        return  # the parent has gone
    except BaseException as error:
        pipe.send(_error_text(error, str(Path(path).parent)))


TASKS: dict[str, Callable[..., None]] = {"answer": _answer, "share": _share}

# --- in the parent ------------------------------------------------------------------------------


def _interview(
    name: str, questions: tuple[str, ...], folder: str, limit_s: float
) -> dict[str, Any]:
    """Question -> answer. Where the process hung or died, the answer is a text, and a new process
    goes on.
    """
    answers: dict[str, Any] = {}
    while left := tuple(question for question in questions if question not in answers):
        process, pipe = _start(Path(folder), "answer", name, left, folder)
        try:
            for question in left:
                answers[question], alive = _receive(process, pipe, limit_s)
                if question == "missing" and answers[question] is not None:
                    return answers
                if not alive:
                    break
        finally:
            _end(process, pipe)
    return answers


def _two_processes(name: str, folder: Path, limit_s: float) -> tuple[bool | None, str]:
    """Whether two processes may have one database open and write to it, and the refusal's text."""
    engine = find_engine(name)
    if engine.file_format == "none":
        return None, "keeps no file"
    place = folder / "together"
    place.mkdir()
    path = place / "probe.db"
    with serving(engine, path):
        return _together(name, folder, str(path), limit_s)


def _together(name: str, folder: Path, path: str, limit_s: float) -> tuple[bool | None, str]:
    started = []
    try:
        for number in (1, 2):
            started.append(_start(folder, "share", name, path, number))
            message, _ = _receive(*started[-1], limit_s)
            if message:
                # The first is alone: its failure shows nothing about a second one.
                return (None if number == 1 else False), str(message)
        for process, pipe in started:
            with contextlib.suppress(OSError):  # it died: the missing answer shows that
                pipe.send(True)
            seen, alive = _receive(process, pipe, limit_s)
            if seen != [1, 2]:
                return False, f"a process sees {seen} of [1, 2]" if alive else str(seen)
        return True, ""
    finally:
        for process, pipe in started:
            _end(process, pipe)


def _start(folder: Path, task: str, *args: Any) -> tuple[ChildProcess, Connection]:
    """A process with a task. folder : its temporary folder, so that leftovers go with that."""
    ours, theirs = Pipe()
    process = start(
        "probe",
        python("workloads.engines.probing", APART, str(theirs.fileno()), task, json.dumps(args)),
        environment={"TMPDIR": str(folder)},
        search_path=sys.path[1:],
        inherit=[theirs.fileno()],
    )
    theirs.close()  # so that a dead child is an end of file and not a wait
    return process, ours


def _receive(child: ChildProcess, pipe: Connection, limit_s: float) -> tuple[Any, bool]:
    """(answer, True), or (a text about the failure, False)."""
    try:
        if pipe.poll(limit_s):
            return pipe.recv(), True
        return f"no answer within {limit_s:g} s; its process was ended", False
    except (EOFError, OSError):
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.process.wait(5)
        code = child.process.returncode
        by = f"signal {signal.Signals(-code).name}" if code and code < 0 else f"exit status {code}"
        return f"its process died with {by}", False


def _end(child: ChildProcess, pipe: Connection) -> None:
    pipe.close()
    child.process.kill()
    child.process.wait(10)


def _error_text(error: BaseException, folder: str) -> str:
    """An error's own text, without the folder that only this probe has known."""
    return (str(error) or type(error).__name__).replace(f"{folder}/", "")


def _lines(found: Probe) -> list[str]:
    if found.missing or found.identity is None:
        return [f"{found.engine}: {found.missing or 'gave no identity'}"]
    who = found.identity
    lines = [f"{found.engine}: {who.binding}, {who.version} {who.source_id}".rstrip()]
    for mode, answer in found.modes.items():
        overlap = {None: "", True: ", writers overlap", False: ", one writer at a time"}
        upgrade = f", a write after a read is {answer.upgrade}" if answer.upgrade else ""
        result = (
            f"accepted{overlap[answer.overlaps]}{upgrade}"
            if answer.accepted
            else f"refused: {answer.message}"
        )
        lines.append(f"  {mode_label(mode):<16} {result}")
    shared = {None: "not asked", True: "yes", False: "no"}[found.several_processes]
    lines.append(f"  several processes {shared}: {found.processes_message}".rstrip(": "))
    lines.append("  " + ", ".join(f"{name} {value}" for name, value in found.pragmas.items()))
    return lines


def main(names: list[str]) -> int:
    if names[:1] == [APART]:
        return _in_child(*names[1:])
    trust(*names)
    try:
        for found in probe_all(names).values():
            print("\n".join(_lines(found)))
    except UnknownName as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
