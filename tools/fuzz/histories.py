"""Histories, damaged, laid out otherwise and forged: what `cwkit check` makes of each.

An input is one history, or a folder of a few, in any form that is read: EDN, JSON, JSON lines,
columns, and the lines that the workers of a run have written. A quarter of the inputs keep what
they mean, and then the answer must be that of the history as it was.
"""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import stat
import sys
import xml.parsers.expat
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from properties.checker import LEVELS
from tools.fuzz import PRECIOUS, Call, Fuzzer
from tools.fuzz.bytes import damage_bytes, odd_file
from tools.fuzz.history_columns import damage_columns, other_columns
from tools.fuzz.history_draws import drawn_history, large_lines
from tools.fuzz.history_texts import damage_text, forged, laid_out
from tools.fuzz.make_folders import FOLDERS
from tools.fuzz.trees import damage_lines
from workloads.errors import HistoryError
from workloads.files import visible
from workloads.records import MODELS, TXN_OUTCOMES, History, HistoryRecorder, read_history
from workloads.records.elle import write_history

FORMS = (".edn", ".jsonl", ".json", ".npz")
MANIFEST = FOLDERS / "append" / "manifest.json"
VERDICTS = {0: "): valid: ", 1: "): violated: ", 3: "): unknown: "}
VALID = {0: True, 1: False, 3: "unknown"}
PUT_TOGETHER = "put-together"
"""No command: what the last process of a run does with the lines that its workers wrote."""

STEMS = (*["h"] * 20, "é", "a b", "h\x1b[2J", "h\n\u202e", os.fsdecode(b"\xff\xfe"), "x" * 240,
         "[", "%s")  # fmt: skip
SVG, PAGE = "drawing.svg", "page.html"
MOST_TEXT = 1 << 20  # of what a call printed
TAGS = {"svg", "title", "style", "polygon", "rect", "text", "path"}
ODD_OPTIONS = (["--model", "\x1b[2J"], ["--level", "snapshot"], ["--level", ""], ["--svg", "x.edn"],
               ["--svg", "no/x.svg"], ["--svg", "."])  # fmt: skip


class Histories(Fuzzer):
    """Changes of bytes, lines, words, fields, columns and files; and what only looks like one."""

    def prepare(self, base: Path, seed: int) -> None:
        (base / PRECIOUS).mkdir()
        rng = random.Random(seed)
        for name in ("a", "b", "c"):
            for form in FORMS:
                _write(drawn_history(rng, odd=False), base / PRECIOUS / f"{name}{form}")

    def draw(self, rng: random.Random, base: Path, where: Path) -> Sequence[Sequence[str]]:
        self.first: Call | None = None
        self.same, self.named = "", ""
        self.odd_options = rng.random() < 0.03
        ways = {self._damaged: 52, self._same: 25, self._forged: 12, self._folder: 5,
                self._records: 5, self._large: 1}  # fmt: skip
        calls = rng.choices(list(ways), list(ways.values()))[0](rng, where)
        self.before = _listing(where)
        return calls

    def import_all(self) -> None:
        import analysis.cli.check  # noqa: F401

        super().import_all()

    def call(self, argv: Sequence[str]) -> None:
        if argv[0] != PUT_TOGETHER:
            super().call(argv)
            return
        from workloads.engines import save_history

        finding = save_history(Path(argv[1]))
        print(visible(finding["sentence"]), file=sys.stdout if finding["ok"] else sys.stderr)
        sys.exit(0 if finding["ok"] else 2)

    # -- inputs ----------------------------------------------------------------------------------

    def _damaged(self, rng: random.Random, where: Path) -> list[list[str]]:
        path = _write(drawn_history(rng), where / (rng.choice(STEMS) + rng.choice(FORMS)))
        for _ in range(rng.choice((1, 1, 1, 1, 2, 3))):
            _damage(rng, path)
        if rng.random() < 0.03:
            odd_file(rng, path, "elsewhere")
        return self._asked(rng, path.name)

    def _same(self, rng: random.Random, where: Path) -> list[list[str]]:
        """The history as it is written, and then with nothing changed that means anything."""
        history = drawn_history(rng)
        lines = _write(history, where / f"h{rng.choice(('.edn', '.jsonl'))}")
        maps = lines.read_text(encoding="utf-8").split("\n")[:-1]
        suffix = rng.choice((".edn",) if lines.suffix == ".edn" else (".json", ".jsonl"))
        other = where / f"other{suffix}"
        if rng.random() < 0.7:
            nemeses = rng.choice((0, 0, 0, 1, 5))
            self.same = "levels" if nemeses else "all"
            other.write_bytes(laid_out(rng, maps, suffix, nemeses).encode())
        else:
            # No form tells all types apart: JSON has one word for `:x` and "x", say.
            self.same = "levels"
            other = where / f"other{rng.choice(FORMS)}"
            other = _in_another_form(rng, read_history(lines, history.model), other)
        argv = self._options(rng, svg=False, model=False, keys=history.model == MODELS[1])
        return [["check", "--json", name, *argv] for name in (lines.name, other.name)]

    def _forged(self, rng: random.Random, where: Path) -> list[list[str]]:
        path = where / f"h{rng.choice(('.edn', '.edn', '.edn', '.jsonl', '.json'))}"
        path.write_bytes(forged(rng, path.suffix))
        if rng.random() < 0.1:
            _damage(rng, path)
        return self._asked(rng, path.name)

    def _folder(self, rng: random.Random, where: Path) -> list[list[str]]:
        """Several histories in a folder, whose links may lead nowhere else."""
        (where / "all").mkdir()
        for name in "abc"[: rng.randrange(4)]:
            path = _write(drawn_history(rng), where / "all" / f"{name}{rng.choice(FORMS)}")
            if rng.random() < 0.5:
                _damage(rng, path)
            if rng.random() < 0.5:
                odd_file(rng, path, f"../../{PRECIOUS}")
        if rng.random() < 0.2:
            (where / "all" / "manifest.json").write_text(rng.choice(("{}", "[", "\x00", "")))
        return self._asked(rng, "all")

    def _records(self, rng: random.Random, where: Path) -> list[list[str]]:
        """A run's folder with the lines of its workers, put together and then checked."""
        folder = where / "run"
        folder.mkdir()
        shutil.copy(MANIFEST, folder)
        if rng.random() < 0.4:
            for path in MANIFEST.parent.glob("*.history.jsonl"):
                shutil.copy(path, folder)
        else:
            _record(drawn_history(rng), folder)
        for _ in range(rng.choice((1, 1, 2))):
            path = rng.choice(sorted(folder.glob("*.history.jsonl")))
            if rng.random() < 0.1 or not _is_small_file(path):
                odd_file(rng, path, f"../../{PRECIOUS}")
                break
            rng.choice((damage_lines, damage_lines, damage_text, damage_bytes))(rng, path)
        return [[PUT_TOGETHER, "run"], *self._asked(rng, "run")]

    def _large(self, rng: random.Random, where: Path) -> list[list[str]]:
        path = where / "h.jsonl"
        path.write_text("".join(f"{json.dumps(one)}\n" for one in large_lines(rng)), "utf-8")
        return self._asked(rng, path.name)

    # -- calls -----------------------------------------------------------------------------------

    def _asked(self, rng: random.Random, name: str) -> list[list[str]]:
        self.named = name
        argv = [name, *self._options(rng)]
        if rng.random() < 0.1:  # in words and as JSON: the same status
            return [["check", *argv], ["check", *argv, "--json"]]
        return [["check", *argv, *(["--json"] if rng.random() < 0.4 else [])]]

    def _options(
        self, rng: random.Random, *, svg: bool = True, model: bool = True, keys: bool = True
    ) -> list[str]:
        argv: list[str] = []
        if rng.random() < 0.3:
            argv += ["--level", rng.choice(list(LEVELS))]
        if model and rng.random() < 0.25:
            argv += ["--model", rng.choice(MODELS)]
        if keys and rng.random() < 0.15:
            argv += rng.choice((["--sequential-keys"], ["--linearizable-keys"],
                                 ["--sequential-keys", "--linearizable-keys"]))  # fmt: skip
        if svg and rng.random() < 0.4:
            argv += ["--svg", SVG]
        if svg and rng.random() < 0.3:
            argv += ["--html", PAGE]
        if self.odd_options:
            argv += rng.choice(ODD_OPTIONS)
        return argv

    # -- answers ---------------------------------------------------------------------------------

    def judge(self, call: Call) -> str:
        first, self.first = self.first, call
        if call.argv[0] == PUT_TOGETHER:
            self.first = None
            self.before = _listing(Path.cwd())
            return ""
        as_json = "--json" in call.argv
        return (
            _acts(call)
            or self._other_files()
            or (self._sentences(call) if call.status == 2 else "")
            or (_json_complaint(call) if as_json else self._text_complaint(call))
            or (self._difference(first, call) if first is not None else "")
            or _drawing_complaint(Path(SVG))
            or _page_complaint(Path(PAGE))
        )

    def _other_files(self) -> str:
        """A check writes its drawing and nothing else."""
        now = _listing(Path.cwd())
        ours = {SVG, PAGE}
        changed = {name for name in {*now, *self.before} if now.get(name) != self.before.get(name)}
        return f"changed {sorted(changed - ours)!a}" if changed - ours else ""

    def _sentences(self, call: Call) -> str:
        sentences = [line for line in call.err.splitlines() if line.startswith("cwkit: ")]
        # Each history of a folder has its own sentence.
        if len(sentences) != 1 and not (sentences and self.named == "all"):
            return f"{len(sentences)} sentences for one mistake: {sentences!a}"
        if self.odd_options or not self.named:
            return ""
        if visible(self.named) not in sentences[0]:
            return f"status 2 and {self.named!a} is not named: {sentences[0]!a}"
        if len(sentences[0]) > 1200:
            return f"a sentence of {len(sentences[0]):,} characters: {sentences[0][:300]!a}"
        return ""

    def _text_complaint(self, call: Call) -> str:
        verdict = VERDICTS.get(call.status)
        if verdict and verdict not in call.out and "skipped: " not in call.out:
            return f"status {call.status} without {verdict!r}: {call.out[:300]!a}"
        return ""

    def _difference(self, first: Call, call: Call) -> str:
        if not self.same:
            if first.status == call.status:
                return ""
            return f"status {first.status} in words and {call.status} as JSON"
        if first.status == 2 and not self.odd_options:
            return f"a sound history is refused: {first.err}"
        one, other = _answer(first, self.same), _answer(call, self.same)
        if (first.status, one) == (call.status, other):
            return ""
        detail = call.err if one and not other else f"{one} and then {other}"
        return f"not judged as before: {first.status} and then {call.status}: {detail:.1500}"


def _page_complaint(path: Path) -> str:
    """A page has one script, which is ours, and drawings that are whole."""
    if not path.exists():
        return ""
    text = path.read_text(encoding="utf-8")
    path.unlink()
    if text.count("<script") != 1 or text.count("</script") != 1:
        return "a page with more scripts than ours"
    if found := re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u202a-\u202e]", text):
        return f"a page with {found[0]!a} in it"
    for drawing in re.findall("<svg.*?</svg>", text, re.DOTALL):
        try:
            xml.parsers.expat.ParserCreate().Parse(drawing, True)
        except xml.parsers.expat.ExpatError as error:
            return f"a page with a drawing that is no XML: {error}"
    return ""


def _damage(rng: random.Random, path: Path) -> None:
    """Change one thing. Where an earlier change left no file, nothing is changed."""
    if not _is_small_file(path):
        return
    if path.suffix == ".npz":
        try:
            damage_columns(rng, path)
        except Exception:  # it can't be taken apart any more
            damage_bytes(rng, path)
    elif rng.random() < 0.1:
        damage_bytes(rng, path)
    elif path.suffix == ".jsonl" and rng.random() < 0.4:
        damage_lines(rng, path)
    else:
        damage_text(rng, path)


def _is_small_file(path: Path) -> bool:
    try:
        status = path.lstat()
    except OSError:
        return False
    return stat.S_ISREG(status.st_mode) and status.st_size < 1 << 22


def _write(history: History, path: Path) -> Path:
    """Written there, or where its form has no place for all of it, in EDN beside it."""
    try:
        write_history(history, path)
    except HistoryError:
        path = path.with_suffix(".edn")
        write_history(history, path)
    return path


def _in_another_form(rng: random.Random, history: History, other: Path) -> Path:
    other = _write(history, other)
    if other.suffix == ".npz":
        other_columns(rng, other)
    return other


def _record(history: History, folder: Path) -> None:
    """As workers would have recorded it: a file for each session."""
    for session, name in enumerate(history.sessions):
        mine = [txn for txn in range(len(history)) if history.txn_session[txn] == session]
        path = folder / f"worker-{session:03d}.history.jsonl"
        recorder = HistoryRecorder(path, history.model, session, _plain(name))
        for txn in mine:
            ops: list[Any] = [[f, _plain(key), _plain(value)] for f, key, value in history.ops(txn)]
            begin = int(history.txn_begin[txn])
            recorder.begin(begin, [[f, k, None if f[0] == "r" else v] for f, k, v in ops])
            outcome = TXN_OUTCOMES[history.txn_outcome[txn]]
            if outcome != "unknown":
                recorder.end(int(history.txn_end[txn]), outcome, ops)
        recorder.close()


def _plain(value: Any) -> Any:
    """A value as our scenarios may write it: integers of 64 bits and text."""
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    if isinstance(value, int) and abs(value) < 2**63:
        return value
    return None if value is None else str(value).encode("ascii", "replace").decode()[:200]


def _listing(folder: Path) -> dict[str, tuple[int, int, int]]:
    """Every entry of a folder, by what would differ if it were written."""
    found = {}
    for path in folder.rglob("*"):
        status = path.lstat()
        if not stat.S_ISDIR(status.st_mode):
            name = str(path.relative_to(folder))
            found[name] = (status.st_mode, status.st_size, status.st_mtime_ns)
    return found


# -- what is wrong with an answer ----------------------------------------------------------------


def _acts(call: Call) -> str:
    for text in (call.out, call.err):
        if visible(text, keep="\n") != text:
            return f"text that acts on a terminal: {text[:2000]!a}"
    return ""


def _answer(call: Call, what: str) -> Any:
    """A JSON answer's levels and anomalies, or all of it but the file's name."""
    try:
        answer = json.loads(call.out)
    except ValueError:
        return None
    if what == "levels":
        return answer["levels"], sorted(answer["anomalies"])
    return {name: value for name, value in answer.items() if name != "file"}


def _json_complaint(call: Call) -> str:
    if len(call.out) >= MOST_TEXT:
        return ""  # it was cut here
    lines = call.out.splitlines()
    for line in lines:
        try:
            answer = json.loads(line, parse_constant=_no_number, object_pairs_hook=_no_twice)
        except ValueError as error:
            return f"no strict JSON ({error}): {line[:300]!a}"
        if not line.isascii():
            return f"JSON that is not ASCII: {line[:300]!a}"
        alone = len(lines) == 1 and "skipped: " not in call.err
        if alone and VALID.get(call.status, answer["valid"]) != answer["valid"]:
            return f"status {call.status} beside valid: {answer['valid']}"
    return "" if lines or call.status == 2 else f"status {call.status} without an answer"


def _no_number(word: str) -> None:
    raise ValueError(f"{word} is no JSON")


def _no_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(dict(pairs)) < len(pairs):
        raise ValueError("a key stands there twice")
    return dict(pairs)


def _drawing_complaint(path: Path) -> str:
    """A complaint about a drawing that is not XML, or that holds anything that acts."""
    if not path.is_file():
        return ""
    text = path.read_text(encoding="utf-8")
    tags: set[str] = set()
    parser = xml.parsers.expat.ParserCreate()
    parser.StartElementHandler = lambda name, attributes: tags.add(name)
    try:
        parser.Parse(text, True)
    except xml.parsers.expat.ExpatError as error:
        return f"a drawing that is no XML: {error}"
    if odd := tags - TAGS:
        return f"a drawing with {odd}"
    return "" if visible(text, keep="\n") == text else "a drawing with text that acts"
