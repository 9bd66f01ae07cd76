"""CONTRIBUTING's table "I want | I touch" is true: each kind is added to a copy of the kit.

What is added touches only files that its row names, and is then seen at work.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from analysis.test_house import PAGES

ROOT = Path(__file__).resolve().parent.parent
PAGE = "CONTRIBUTING.md"
TABLE = dict(re.findall(r"^\| (a new \w+) \| (.+) \|$", PAGES[PAGE], re.MULTILINE))
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
"""Commands of the kit, one after the other in one process: the status and output of each."""


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

    def put(self, file: str, before: str, more: str) -> None:
        """More text, in front of what is there once."""
        text = (self.root / file).read_text(encoding="utf-8")
        assert text.count(before) == 1, f"{file}: {before!r} is there {text.count(before)} times"
        self.touched.add(file)
        (self.root / file).write_text(text.replace(before, more + before), encoding="utf-8")

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
        outputs = json.loads(self.run("-c", COMMANDS, json.dumps([e[0] for e in self.expected])))
        for (argv, status, said), (left, out) in zip(self.expected, outputs, strict=True):
            assert (left, said in out) == (status, True), f"{argv}: status {left}\n{out}"

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


def add_engine(house: House) -> None:
    house.new(
        "workloads/engines/mine.py",
        '"""SQLite by another name."""\n\nfrom workloads.engines.sqlite import Sqlite\n\n\n'
        'class Mine(Sqlite):\n    name = "mine"\n',
    )
    house.put(
        "workloads/engines/engine.py",
        '    "null": "workloads.',
        '    "mine": "workloads.engines.mine:Mine",\n',
    )
    house.put("docs/engines.md", "| `null` | does", "| `mine` | SQLite by another name |\n")
    house.shows(*RUN, "--database", "mine", "--scenario", "counter", said="counter on mine")
    house.test("workloads/engines/test_engines.py", "keeps_the_contract and mine")


def add_workload(house: House) -> None:
    text = (ROOT / "examples" / "scenario_wallet.py").read_text(encoding="utf-8")
    ours = "from workloads.scenarios import keys\nfrom workloads.scenarios.scenario import "
    text = text.replace("from workloads.scenarios import ", ours)
    text = text.replace(", Shape, keys", ", Shape")
    house.new("workloads/scenarios/wallet.py", text)
    house.put(
        "workloads/scenarios/scenario.py",
        '    "append": "workloads.',
        '    "wallet": "workloads.scenarios.wallet:Wallet",\n',
    )
    (story,) = re.findall(r'story = "(.*)"', text)
    house.put("docs/workloads.md", "| `append` | Workers", f"| `wallet` | {story} |\n")
    house.shows(*RUN, "--scenario", "wallet", said="ok      money")


def add_experiment(house: House) -> None:
    house.new(
        "workloads/experiments/shipped/mine.toml",
        "# A grid of two.\n# About 1 minute on two cores.\n\n"
        'question = "Is it found?"\nblocks = 5\n[plan]\n'
        'scenario = "counter"\nduration_s = 3\n[grid]\nwriters = [1, 2]\n',
    )
    house.shows("list", "--sweeps", said="Is it found?")
    house.test("analysis/cli/test_sweep.py", "shipped and mine")


ANOMALY = """    Anomaly(
        "taboo",
        "an aborted write of a key that nobody may write was read",
        ADYA,
        (_RU,),
        ("a 0-1 fail append:taboo:1", "b 2-3 ok r:taboo:[1]"),
    ),
"""


def add_anomaly(house: House) -> None:
    house.put("properties/checker/catalogue.py", "]\nCATALOGUE: dict", ANOMALY)
    house.put(
        "properties/checker/decide.py",
        "    judge_lists(lists)\n",
        '    if "taboo" in map(str, history.keys):\n'
        '        findings.add(Witness("taboo", [1], why="T2 read it"))\n',
    )
    histories = "properties/histories/"
    expected = json.loads((ROOT / histories / "expected.json").read_text(encoding="utf-8"))
    for name, key, shows, fails in (
        ("taboo", "taboo", "taboo", ["read-uncommitted"]),
        ("no-taboo", "tabu", "G1a", ["read-committed"]),
    ):
        written, read = [["append", key, 1]], [["r", key, [1]]]
        lines = [
            {"process": 0, "f": "txn", "type": "invoke", "value": written, "time": 0},
            {"process": 0, "f": "txn", "type": "fail", "value": written, "time": 1},
            {"process": 1, "f": "txn", "type": "invoke", "value": [["r", key, None]], "time": 2},
            {"process": 1, "f": "txn", "type": "ok", "value": read, "time": 3},
        ]
        text = "".join(f"{json.dumps(one)}\n" for one in lines)
        house.new(f"{histories}list-append/{name}.jsonl", text)
        expected[f"list-append/{name}.jsonl"] = {"shows": shows, "fails": fails, "story": name}
    (house.root / histories / "expected.json").write_text(json.dumps(expected), encoding="utf-8")
    house.touched.add(f"{histories}expected.json")
    file = f"{histories}list-append/taboo.jsonl"
    said = "an aborted write of a key that nobody may write was read"
    house.shows("check", file, said=said, status=1)
    house.test("properties/checker/test_anomalies.py", "taboo or every_history or weaker")


CHART = '''def tallest(lines: Sequence[Line], path: Path, heading: Heading = NO_HEADING) -> None:
    """The highest point of each line, one bar each, so that a reader sees at once which of them
    ever came furthest; nothing is said of where on its way a line was then, nor how often.
    """
    figure, axes = new_chart("line", "throughput / s")
    axes.bar(range(len(lines)), [max(line.y) for line in lines])
    save(figure, path, heading)


'''


def add_chart(house: House) -> None:
    house.put("analysis/charts/figures.py", "def crossover(", CHART)
    house.put(
        "analysis/charts/__init__.py", '    "throughput_against_writers",\n', '    "tallest",\n'
    )
    line = "from .figures import throughput_against_writers as throughput_against_writers\n"
    house.put("analysis/charts/__init__.pyi", line, "from .figures import tallest as tallest\n")
    house.put("analysis/charts/test_figures.py", "    figures.shares: SHARES,\n",
              "    figures.tallest: RANKS,\n")  # fmt: skip
    report = "analysis/report/charts.py"
    house.put(report, "    throughput_against_writers,\n", "    tallest,\n")
    line = (
        '        Plan("Tallest", "tallest", tallest, data.by_writers(evidence), "nothing there"),\n'
    )
    house.put(report, '        Plan("Latency in a closed', line)
    house.run(
        "-c",
        "from pathlib import Path\nfrom analysis.synthetic import made_report_folder\n"
        "from analysis.report import write_report\n"
        "made = made_report_folder(Path('runs/made'), only=['writers'])\n"
        "write_report(made, Path('R.md'), Path('charts'))\n",
    )
    assert "![Tallest](charts/tallest.svg)" in (house.root / "R.md").read_text(encoding="utf-8")
    assert b"<svg" in (house.root / "charts" / "tallest.svg").read_bytes()
    house.test("analysis/charts/test_figures.py", "caption or axes or tallest")


def add_fuzzer(house: House) -> None:
    house.new(
        "tools/fuzz/greetings.py",
        '"""Greetings of any length."""\n\nfrom tools.fuzz import Fuzzer\n\n\n'
        "class Greetings(Fuzzer):\n    def draw(self, rng, base, where):\n"
        '        (where / "hello").write_text("hello" * rng.randrange(9))\n'
        '        return [["show", "hello"]]\n',
    )
    line = '    "greetings": "tools.fuzz.greetings:Greetings",\n'
    house.put("tools/fuzz/__init__.py", '    "histories": "', line)
    out = house.run("-m", "tools.fuzz", "greetings", "--inputs", "3", "--jobs", "1")
    assert "greetings" in out and "3" in out


ADDITIONS: dict[str, Callable[[House], None]] = {
    f"a new {name.removeprefix('add_')}": add
    for name, add in list(globals().items())
    if name.startswith("add_")
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
    house.keeps_its_rules()


def test_what_is_not_in_the_row_is_seen(tmp_path: Path) -> None:
    house = House.__new__(House)
    house.touched = {"docs/engines.md", "workloads/engines/mine.py", "workloads/runs/plan.py"}
    with pytest.raises(AssertionError, match=r"a new engine: workloads/runs/plan.py is not named"):
        house.only("a new engine")


def test_the_table_has_these_rows() -> None:
    assert set(TABLE) == set(ADDITIONS)
