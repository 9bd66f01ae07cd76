"""The house keeps its rules: imports run downwards, and the pages say what the code does."""

import ast
import os
import re
import shlex
import sqlite3
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import typer

from analysis.cli import app
from analysis.report.report import MOST_LINES
from analysis.test_rooms import told
from workloads import runs as running
from workloads.engines import REGISTRY as ENGINES
from workloads.scenarios import find_scenario
from workloads.scenarios.scenario import REGISTRY as SCENARIOS

ROOT = Path(__file__).resolve().parent.parent
PAGES = {
    path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8")
    for path in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(ROOT.glob("docs/*.md")))
}
"""The pages for people by their paths, README first."""

FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FLOORS = {"workloads": 0, "properties": 1, "analysis": 2}
COMMANDS: Any = typer.main.get_command(app)


def blocks_of(page, language=""):
    """The blocks of code of a page, of one language."""
    return [text for of, text in re.findall(FENCED, PAGES[page]) if of == language]


def files_of(page):
    """Files that a page shows whole, by name: the first that is named in the paragraph before."""
    found = {}
    parts = re.split(FENCED, PAGES[page])  # prose, language, block, prose, …
    for prose, block in zip(parts[::3], parts[2::3], strict=False):
        paragraph = prose.rstrip().rpartition("\n\n")[2]
        named = re.findall(r"`([\w/.-]+\.\w+)`", paragraph)
        if named and paragraph.endswith(":"):
            found[named[0]] = block
    return found


@pytest.mark.parametrize("package", list(FLOORS))
def test_imports_run_downwards_only(package):
    seen = 0
    for path in (ROOT / package).rglob("*.py"):
        for node in told(path.read_text(encoding="utf-8")).imports:
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            else:
                names = [node.module] if node.module else []
            for name in names:
                top = name.split(".")[0]
                if top in FLOORS:
                    seen += 1
                    assert FLOORS[top] <= FLOORS[package], f"{path} imports {name}"
    assert seen


def test_no_path_is_resolved_in_the_way_that_links_in_a_circle_break():
    for package in FLOORS:
        for path in (ROOT / package).rglob("*.py"):
            for line in path.read_text(encoding="utf-8").splitlines():
                if ".resolve()" in line and "__file__" not in line and "test_" not in path.name:
                    raise AssertionError(f"{path}: use workloads.files.resolved: {line.strip()}")


def test_every_file_says_its_place_in_the_story():
    for package in FLOORS:
        for path in (ROOT / package).rglob("*.py"):
            story = told(path.read_text(encoding="utf-8")).story
            assert story, f"{path} does not open with its place in the story"


def test_the_pages_list_every_engine_and_every_scenario():
    for name in ENGINES:
        assert f"`{name}`" in PAGES["docs/engines.md"], f"docs/engines.md: no engine {name}"
    for name in SCENARIOS:
        row = f"| `{name}` | {find_scenario(name).story} |"
        assert row in PAGES["docs/workloads.md"], f"docs/workloads.md does not tell {name}"


# --- the pages' commands ------------------------------------------------------------------------


def lines_of(page, program):
    """Each command line of a page that begins with this: in tables, in sentences, at prompts."""
    begins = rf"(?:\.venv/bin/)?({program} [^`\n]*)"
    found = re.findall(f"`{begins}`", PAGES[page])
    found += re.findall(rf"^(?:\$ )?{begins}$", PAGES[page], re.MULTILINE)
    return sorted(dict.fromkeys(line.partition(";")[0] for line in found))


def every_line(program):
    return [pytest.param(line, id=f"{page}: {line}")
            for page in PAGES for line in lines_of(page, program)]  # fmt: skip


class Planned(Exception):
    """A run was asked for, and is not made."""


@pytest.fixture(scope="module")
def desk(tmp_path_factory):
    """A folder with what the pages' commands name: their SQL, a database, the examples."""
    folder = tmp_path_factory.mktemp("desk")
    for name, text in files_of("docs/own-sql.md").items():
        (folder / name).write_text(text, encoding="utf-8")
    database = sqlite3.connect(folder / "mine.db")
    database.executescript((folder / "schema.sql").read_text().replace(":accounts", "9"))
    database.close()
    for name in ("examples", "properties"):
        (folder / name).symlink_to(ROOT / name)
    return folder


@pytest.mark.parametrize("line", every_line("cwkit"))
def test_every_command_of_the_pages_is_one(line, desk, monkeypatch):
    monkeypatch.chdir(desk)
    name, *argv = shlex.split(line)[1:]
    if name == "COMMAND" or name.startswith("--"):
        COMMANDS.make_context("cwkit", ["list"])
        return
    command = COMMANDS.commands[name]
    if not argv:
        return  # named in a sentence, not to be typed as it stands
    context = command.make_context(name, [word for word in argv if word != "…"])
    added = {"mine", "tickets"} & {*argv}  # by a walk of CONTRIBUTING.md, whose test runs it
    if name == "run" and argv != ["--json"] and "…" not in argv and not added:

        def planned(*args, **how):
            raise Planned

        monkeypatch.setattr(running, "run", planned)
        with pytest.raises(Planned):
            command.invoke(context)


@pytest.mark.parametrize("line", every_line("pytest"))
def test_every_pytest_of_the_pages_has_options_that_there_are(line, pytestconfig):
    argv = shlex.split(line)[1:]
    known, unknown = pytestconfig._parser.parse_known_and_unknown_args(argv)
    assert not unknown and all((ROOT / path).exists() for path in known.file_or_dir), line


@pytest.mark.parametrize("line", every_line("make"))
def test_every_make_of_the_pages_has_a_target(line):
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    (target,) = [word for word in shlex.split(line, comments=True)[1:] if "=" not in word]
    assert target in targets


def test_the_pages_have_commands_to_try():
    assert len(every_line("cwkit")) > 80
    for page, text in PAGES.items():
        first = re.search(r"^```(?:console)?\n(.*)$", text, re.MULTILINE)
        assert first, f"{page} opens without a command"
        assert re.match(r"(\$ )?(\.venv/bin/)?(cwkit|make|pytest|dask) ", first[1]), page


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("cwkit run --scenario bank --wrtiers 4", "No such option"),
        ("cwkit recovr RUN", "recovr"),
        ("cwkit run --scenario bnak", "bnak"),
        ("cwkit run --schema no.sql --tx transfer.sql", "no.sql"),
        ("cwkit compare A B --foreign-limit much", "valid number"),
    ],
)
def test_a_command_that_is_none_is_seen(line, problem, desk, monkeypatch):
    with pytest.raises(Exception, match=problem):
        test_every_command_of_the_pages_is_one(line, desk, monkeypatch)


def test_every_page_is_linked_from_the_readme_and_every_link_leads_somewhere():
    linked = {page: links_of(page) for page in PAGES}
    assert {*PAGES} - {"README.md"} <= {to for to, _ in linked["README.md"]}
    for page, links in linked.items():
        for to, heading in links:
            assert (ROOT / to).exists(), f"{page} links to {to}, which is not there"
            if heading:
                headings = re.findall(r"^#+ (.*)$", PAGES[to], re.MULTILINE)
                assert heading in map(anchor, headings), f"{page}: {to} has no #{heading}"


def links_of(page):
    """What a page links to here: a file's path from the top, and a heading's anchor or ""."""
    for place in re.findall(r"\]\(([^):\s]+)\)", re.sub(FENCED, "", PAGES[page])):
        path, _, heading = place.partition("#")
        to = (ROOT / page).parent / path if path else ROOT / page
        yield os.path.relpath(os.path.normpath(to), ROOT), heading


def anchor(heading):
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def test_the_readme_is_short():
    assert len(PAGES["README.md"].splitlines()) <= 200


def test_the_pages_show_the_example_scenario_as_it_is():
    source = (ROOT / "examples" / "scenario_wallet.py").read_text(encoding="utf-8")
    assert source.strip() in PAGES["docs/extending.md"]


def test_what_the_report_links_to_is_published_and_nothing_else_is():
    published = ROOT / "analysis" / "published"
    there = {path for path in published.rglob("*") if path.is_file()}
    linked = set()
    for page in (ROOT / "REPORT.md", *published.glob("*.md")):
        for place in re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8")):
            if (to := (page.parent / place).resolve()).is_relative_to(published):
                linked.add(to)
    assert linked == there


@pytest.mark.skipif(
    not (ROOT / "analysis" / "published" / "method.md").exists(),
    reason="the committed report was written before reports had pages",
)
def test_the_committed_report_is_short():
    assert len((ROOT / "REPORT.md").read_text(encoding="utf-8").splitlines()) <= MOST_LINES


def test_a_bench_that_misses_its_target_stops_no_other(tmp_path):
    (tmp_path / "python").write_text("#!/bin/sh\ncase $1 in *checker*) exit 1;; esac\n")
    (tmp_path / "python").chmod(0o755)
    command = ["make", "-o", "ready", "bench", f"venv={tmp_path}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    run = [line.removeprefix("== ") for line in done.stdout.splitlines() if line[:3] == "== "]
    assert run == sorted(
        path.relative_to(ROOT).as_posix() for path in ROOT.glob("tools/bench/b*.py")
    )
    assert len(run) >= 3 and done.returncode == 2  # make's own word for a recipe that failed


@pytest.mark.parametrize("page", list(PAGES))
def test_a_page_has_no_gap_left_to_fill(page):
    assert not re.findall(r"\b[A-Z]+_(?:OUTPUT|ROWS|FILE)\b|@@", PAGES[page])


def test_the_newest_entry_of_the_changelog_is_the_version():
    version = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["version"]
    entries = re.findall(r"^## \[(.*?)\](.*)$", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.M)
    released = [(name, date) for name, date in entries if name != "Unreleased"]
    assert released[0][0] == version
    assert re.fullmatch(r" - \d{4}-\d{2}-\d{2}", released[0][1])
