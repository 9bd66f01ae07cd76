"""CONTRIBUTING is true: what it tells step by step is done in a copy of the kit, and is at work.

What is added touches only the files that its row of the table "I want | I touch" names.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from analysis.test_house import FENCED, PAGES

ROOT = Path(__file__).resolve().parent.parent
PAGE = "CONTRIBUTING.md"
TABLE = dict(re.findall(r"^\| (a new \w+) \| (.+) \|$", PAGES[PAGE], re.MULTILINE))
WALKS = {
    f"a new {name}": text
    for name, text in re.findall(
        r"^### A new (\w+)\n(.*?)(?=^##)", PAGES[PAGE], re.MULTILINE | re.DOTALL
    )
}
"""What is told step by step, and its section."""

FUZZERS = (ROOT / "tools" / "fuzz" / "__init__.py").read_text(encoding="utf-8")
COPIED = (
    "workloads",
    "properties",
    "analysis",
    "tools",
    "examples",
    "docs",
    "conftest.py",
    "pyproject.toml",
)
RULES = "pages_list or every_file or every_room or imports_run_down or lazy"
LIMIT_S = 300
RUN = ("run", "--writers", "1", "--duration", "0.2", "--warmup", "0")
PYTEST = ("-m", "pytest", "-v", "-p", "no:cacheprovider", "-p", "no:xdist")


COMMANDS = """
import contextlib, io, json, sys
from analysis.cli import main
exec(sys.argv[2])
outputs = []
for argv in json.loads(sys.argv[1]):
    sys.argv[1:] = argv
    out, status = io.StringIO(), 0
    try:
        with contextlib.redirect_stdout(out):
            main()
    except SystemExit as left:
        status = left.code or 0
    outputs.append((status, out.getvalue()))
print(json.dumps(outputs))
"""
"""A script and commands of the kit, one after the other in one process: the status and output of
each command."""


class House:
    """A copy of the kit, and what was touched in it."""

    def __init__(self, root: Path) -> None:
        self.root, self.touched, self.tests = root, set[str](), dict[str, str]()
        self.expected: list[tuple[tuple[str, ...], int, str]] = []
        skip = shutil.ignore_patterns(".hypothesis")
        for name in (*COPIED, "README.md", PAGE, "REPORT.md", "CHANGELOG.md"):
            if (ROOT / name).is_dir():
                shutil.copytree(ROOT / name, root / name, ignore=skip)
            else:
                shutil.copy(ROOT / name, root / name)

    def new(self, file: str, text: str) -> None:
        """A file that was not there."""
        assert not (self.root / file).exists()
        self.touched.add(file)
        (self.root / file).write_text(text, encoding="utf-8")

    def patch(self, file: str, block: str) -> None:
        """Put lines that begin with + where those that begin with a space are, which is once."""
        lines = block.splitlines(keepends=True)
        assert all(line[0] in " +" for line in lines), block
        before = "".join(line[1:] for line in lines if line[0] == " ")
        after = "".join(line[1:] for line in lines)
        text = (self.root / file).read_text(encoding="utf-8")
        places = [at.start() for at in re.finditer(rf"^(?={re.escape(before)})", text, re.M)]
        assert len(places) == 1, f"{file}: {before!r} is there {len(places)} times"
        self.touched.add(file)
        (start,) = places
        text = text[:start] + after + text[start + len(before) :]
        (self.root / file).write_text(text, encoding="utf-8")

    def run(self, *argv: str) -> str:
        done = subprocess.run(
            [sys.executable, *argv],
            cwd=self.root,
            env={k: v for k, v in os.environ.items() if not k.startswith("PYTEST_")},
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
        )
        assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-3000:]
        return done.stdout

    def shows(self, *argv: str, said: str, status: int = 0) -> None:
        """A command of the kit that shows it at work: given in the end, with those of others."""
        self.expected.append((argv, status, said))

    def is_at_work(self) -> None:
        commands = json.dumps([argv for argv, _, _ in self.expected])
        outputs = json.loads(self.run("-c", COMMANDS, commands, CHART))
        for (argv, status, said), (left, out) in zip(self.expected, outputs, strict=True):
            shown = bool(as_shown(said).search(out))
            assert (left, shown) == (status, True), f"{argv}: status {left}\n{out}"

    def test(self, file: str, which: str) -> None:
        """A test that shows it at work: run in the end, with those of the other things."""
        self.tests[file] = which

    def only(self, what: str) -> None:
        """What was touched is named by the table's row; a folder's name ends with a slash."""
        named = re.findall(r"`([^`]+)`", TABLE[what])
        for file in sorted(self.touched):
            folder = f"{Path(file).parent}/"
            assert file in named or folder in named, f"{what}: {file} is not named in its row"

    def keeps_its_rules(self) -> None:
        self.run("-m", "ruff", "check", "--no-cache", "-q", *sorted(self.python()))
        self.run("-m", "ruff", "format", "--no-cache", "--check", "-q", *sorted(self.python()))
        chosen = " or ".join(f"({which})" for which in (RULES, *self.tests.values()))
        files = ("analysis/test_house.py", "analysis/test_rooms.py", *self.tests)
        out = self.run(*PYTEST, "-k", chosen, *files)
        for file in files:
            assert file in out, f"no test of {file} ran"

    def python(self) -> set[str]:
        return {file for file in self.touched if file.endswith((".py", ".pyi"))}


def walked(house: House, what: str) -> None:
    """Add one thing as CONTRIBUTING tells it: its blocks, each with the paragraph before it."""
    prose: str
    block: str
    parts = re.split(FENCED, WALKS[what])
    for prose, language, block in zip(parts[::3], parts[1::3], parts[2::3], strict=False):
        paragraph = prose.rstrip().rpartition("\n\n")[2]
        file = named[0] if (named := re.match(r"`([\w/.-]+)`", paragraph)) else ""
        file = file.strip("`")
        if language == "diff":
            house.patch(file, block)
        elif language == "console":
            typed(house, block)
        else:
            assert paragraph.endswith("a new file:"), paragraph
            house.new(file, block)


def typed(house: House, block: str) -> None:
    """The commands of a block, which are run in the end, and what they say."""
    for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
        line, _, said = part.partition("\n")
        program, *argv = shlex.split(line)
        if program == "pytest":
            file, _, which = argv
            house.test(file, which)
        elif program == "echo":
            *before, (last, _, expected) = house.expected
            house.expected = [*before, (last, int(said), expected)]
        else:
            assert program == "cwkit"
            house.shows(*argv, said=said)


def as_shown(said: str) -> re.Pattern[str]:
    r"""What a page shows of an output, in which … stands for anything.

    >>> bool(as_shown("Run …, seed 0\n…\nok  a").search("Run x, seed 0\n1\n2\nok  a: b"))
    True
    >>> bool(as_shown("ok  …: 1").search("ok  a\nok  b: 2"))
    False
    """
    return re.compile(".*?".join(map(re.escape, said.strip().split("…"))), re.DOTALL)


def add_experiment(house: House) -> None:
    house.new(
        "workloads/experiments/shipped/mine.toml",
        "# A grid of two.\n# About 1 minute on two cores.\n\n"
        'question = "Is it found?"\nblocks = 5\n[plan]\n'
        'scenario = "counter"\nduration_s = 3\n[grid]\nwriters = [1, 2]\n',
    )
    house.shows("list", "--sweeps", said="Is it found?")
    house.test("analysis/cli/test_sweep.py", "shipped and mine")


def add_fuzzer(house: House) -> None:
    house.new(
        "tools/fuzz/greetings.py",
        '"""Greetings of any length."""\n\nfrom tools.fuzz import Fuzzer\n\n\n'
        "class Greetings(Fuzzer):\n    def draw(self, rng, base, where):\n"
        '        (where / "hello").write_text("hello" * rng.randrange(9))\n'
        '        return [["show", "hello"]]\n',
    )
    line = next(line for line in FUZZERS.splitlines() if line.startswith('    "histories": '))
    house.patch(
        "tools/fuzz/__init__.py",
        f'+    "greetings": "tools.fuzz.greetings:Greetings",\n {line}\n',
    )
    out = house.run("-m", "tools.fuzz", "greetings", "--inputs", "3", "--jobs", "1")
    assert "greetings" in out and "3" in out


ADDITIONS: dict[str, Callable[[House], None]] = {
    **{what: partial(walked, what=what) for what in WALKS},
    "a new experiment": add_experiment,
    "a new fuzzer": add_fuzzer,
}


def test_each_thing_is_added_by_the_files_of_its_row(tmp_path: Path) -> None:
    """In one copy, one after the other: its rules and its tests are then asked for all at once."""
    house = House(tmp_path)
    for what, add in ADDITIONS.items():
        before, house.touched = house.touched, set[str]()
        add(house)
        house.only(what)
        house.touched |= before
    house.is_at_work()
    the_report_has_the_chart(house)
    house.keeps_its_rules()


CHART = """
from pathlib import Path
from analysis.synthetic import made_report_folder
from analysis.report import write_report
made = made_report_folder(Path("runs/made"), only=["writers"])
write_report(made, Path("R.md"), Path("charts"))
"""


def the_report_has_the_chart(house: House) -> None:
    assert "![Tallest](charts/tallest.svg)" in (house.root / "R.md").read_text(encoding="utf-8")
    assert b"<svg" in (house.root / "charts" / "tallest.svg").read_bytes()


def test_what_is_not_in_the_row_is_seen(tmp_path: Path) -> None:
    house = House.__new__(House)
    house.touched = {"docs/engines.md", "workloads/engines/mine.py", "workloads/runs/plan.py"}
    with pytest.raises(AssertionError, match=r"a new engine: workloads/runs/plan.py is not named"):
        house.only("a new engine")


def test_a_place_that_is_not_there_or_twice_is_seen(tmp_path: Path) -> None:
    house = House.__new__(House)
    house.root, house.touched = tmp_path, set()
    (tmp_path / "a").write_text("one\ntwo\ntwo\n", encoding="utf-8")
    house.patch("a", " one\n+more\n two\n")
    assert (tmp_path / "a").read_text(encoding="utf-8") == "one\nmore\ntwo\ntwo\n"
    for block in ("+more\n two\n", "+more\n three\n", "+more\n wo\n"):
        with pytest.raises(AssertionError, match=r"is there [02] times"):
            house.patch("a", block)


def test_the_table_has_these_rows_and_four_are_told_step_by_step() -> None:
    assert set(TABLE) == set(ADDITIONS)
    assert len(WALKS) == 4
