"""Stories of a bit that flipped while the database was closed: in the file, its log, its shared
memory. Each damaged copy is opened by the engine in a process of its own, beside a whole one.
"""

from __future__ import annotations

import os
import random
import re
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from properties.crashes import open_state
from properties.faults.story import DATABASE, Case, StoryResult
from properties.known_faults import Seen
from workloads.engines import Settings, find_engine, usual_mode
from workloads.processes import die_with_parent, end, python, start
from workloads.runs import Plan

MANY, QUICK = 40, 4
AT_ONCE = 2
WHOLE = "whole"


def flip_database(case: Case, result: StoryResult) -> None:
    _flips(case, result, "database", DATABASE)


def flip_log(case: Case, result: StoryResult) -> None:
    _flips(case, result, "log", DATABASE + case.log.lstrip("*"))


def flip_shared_memory(case: Case, result: StoryResult) -> None:
    _flips(case, result, "shared memory", f"{DATABASE}-shm")


def no_shared_memory(case: Case) -> str:
    """Why there is none, "" where there is."""
    return "it has no shared memory in a file" if case.threads else ""


def left_open(case: Case) -> dict[str, bytes]:
    """The files of a database whose processes all died: with a log that nobody copied back."""
    recording = case.recording()
    replay = recording.replay()
    notes = [c.number for c in recording.changes if c.note.startswith("acked ")]
    replay.advance(notes[-1])
    files = {name: data for name, data in replay.files(replay.all_there()).items() if data}
    return files | _shared_memory(case, files)


def _shared_memory(case: Case, files: Mapping[str, bytes]) -> dict[str, bytes]:
    """What a process that dies with the database open leaves of it."""
    if case.threads:
        return {}
    folder = case.place / "left-open"
    folder.mkdir(exist_ok=True)
    for name, data in files.items():
        (folder / name).write_bytes(data)
    argv = python("properties.faults.flips", case.engine, str(folder / DATABASE))
    child = start("left-open", argv, last_words=folder / "stderr.txt")
    until = time.monotonic() + 30
    while child.process.poll() is None and time.monotonic() < until:
        time.sleep(0.005)
    end(child.process)
    path = folder / f"{DATABASE}-shm"
    return {path.name: path.read_bytes()} if path.exists() else {}


def _flips(case: Case, result: StoryResult, what: str, name: str) -> None:
    files = left_open(case)
    if not files.get(name):
        result.untold.append(f"there is no {what} to flip a bit in")
        return
    draw, plan = case.draw(f"flip-{what}"), case.recording().run.manifest.plan
    jobs: list[tuple[str, dict[str, bytes]]] = [(WHOLE, files)]
    for _ in range(QUICK if case.quick else MANY):
        at = draw.randrange(len(files[name]) * 8)
        jobs.append((f"bit {at % 8} of byte {at // 8:,} of the {what}", files | {
            name: flipped(files[name], at)}))  # fmt: skip
    answers = _opened(case, Plan(**plan.model_dump(mode="json")), jobs)
    whole = answers.pop(0)[1]
    if "first" not in whole:
        result.untold.append(f"the whole copy could not be opened: {whole}")
        return
    about = case.recording().run.manifest.engines[case.engine]
    result.version = about.version
    result.acknowledged += len(whole["first"]["whole"])
    result.runs += len(answers)
    counted: Counter[str] = Counter()
    for place, answer in answers:
        kind, words = judged(answer, whole)
        result.fired += 1
        counted[kind] += 1
        if words:
            result.errors[words] = result.errors.get(words, 0) + 1
        shared = what == "shared memory"
        if kind in DEADLY or (shared and kind in UNNOTICED) or (what == "log" and kind == OTHER):
            sentence = f"{place}: {kind}{f' ({words})' if words else ''}"
            result.find(sentence, Seen("flip", sentence, about.binding, about.version))
    note = " (no page has a checksum, and none is promised)" if what == "database" else ""
    note = " (a log ends where its checksums do)" if what == "log" else note
    spelled = ", ".join(f"{kind} {many}" for kind, many in counted.most_common())
    result.told.append(f"{len(answers)} flips in the {what}: {spelled}{note}")
    result.command = (
        f"cwkit faults --engine {case.engine} --begin {case.begin} --story "
        f"flip-{what.replace(' ', '-')} --seed {case.seed}{' --quick' if case.quick else ''}"
    )


_UNLOADED = re.compile(r"0 accounts are there, and \d+ were loaded")
DEADLY = ("took its process down", "hung")
OTHER = "other contents"
UNNOTICED = ("fewer transactions", OTHER)


def judged(answer: Mapping[str, Any], whole: Mapping[str, Any]) -> tuple[str, str]:
    """(what a flip did, the engine's words), beside the same files without it."""
    if "died" in answer:
        return DEADLY[0], str(answer["died"])[:200]
    if "hung" in answer:
        return DEADLY[1], ""
    if "first" not in answer:
        return "detected", str((answer.get("failed") or ["", ""])[1])[:200]
    first = answer["first"]
    if first["integrity"]:
        return "detected", str(first["integrity"][0])[:200]
    there, all_ = {tuple(o) for o in first["whole"]}, {tuple(o) for o in whole["first"]["whole"]}
    # A log may end before the rows that were loaded: that is still a beginning of it.
    wrong = [one for one in first["wrong"] if not _UNLOADED.fullmatch(one)]
    if wrong or there - all_:
        return OTHER, "; ".join(wrong[:1])[:200]
    if there < all_ or first["wrong"]:
        return UNNOTICED[0], ""
    if answer.get("failed"):
        return "detected", str(answer["failed"][1])[:200]
    return "harmless", ""


def flipped(data: bytes, bit: int) -> bytes:
    """The same bytes with one bit the other way.

    >>> flipped(b"ab", 8)
    b'ac'
    """
    made = bytearray(data)
    made[bit // 8] ^= 1 << bit % 8
    return bytes(made)


def _opened(
    case: Case, plan: Plan, jobs: Sequence[tuple[str, dict[str, bytes]]]
) -> list[tuple[str, dict[str, Any]]]:
    found: dict[int, dict[str, Any]] = {}
    waiting: list[tuple[int, Any]] = []
    left = list(enumerate(jobs))
    name = random.Random(case.seed).getrandbits(32)
    try:
        while left or waiting:
            while left and len(waiting) < AT_ONCE:
                number, (_, files) = left.pop(0)
                place = case.place / f"flip-{name:x}-{time.monotonic_ns()}-{number}"
                waiting.append((number, open_state(files, place, plan, limit_s=20.0)))
            for one in list(waiting):
                if (answer := one[1].answer()) is not None:
                    found[one[0]] = answer
                    one[1].close()
                    waiting.remove(one)
            time.sleep(0.002)
    finally:
        for _, one_open in waiting:
            one_open.close()
    return [(jobs[number][0], found[number]) for number in sorted(found)]


def main(argv: Sequence[str]) -> int:
    """Open a database, read it, and end without closing it."""
    die_with_parent()
    engine = find_engine(argv[0])
    session = engine.connect(argv[1], begin=usual_mode(engine, "reader"), settings=Settings())
    session.rows("SELECT count(*) FROM entry")
    os._exit(0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
