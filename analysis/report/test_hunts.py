"""What a hunt did is told with its own numbers, and what does not fit together is refused."""

from __future__ import annotations

import copy
import json
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

from analysis.report.evidence import Evidence, read_evidence
from analysis.report.finding import MOST_WORDS
from analysis.report.findings import beyond, findings, tell
from analysis.report.hunts import added_up, newest
from analysis.report.pages import PAGES
from analysis.report.published_hunts import FOUND, publish_hunt, read_found, read_hunts
from analysis.report.rendering import rendered
from analysis.report.test_markdown import ALL, TEXTS, shape
from properties.hunter import findings_in, hunt_all, read_finding
from workloads.engines import trust
from workloads.errors import RunError
from workloads.files import ROOT
from workloads.files import resolved as real

BROKEN = ROOT / "properties" / "hunter" / "broken.py"
NAME = "20261126-101010-fuzz-broken.py-RefusesForNobody"
SCRIPT = "turso-autoincrement-abort"
"""A finding of the kit's, whatever it was found in."""

Edit = Callable[[dict[str, Any]], Any]
Command = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="module")
def hunted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a hunt on an engine that refuses DELETE for nobody."""
    folder = tmp_path_factory.mktemp("hunts") / NAME
    engine = f"{BROKEN}:RefusesForNobody"
    trust(engine)
    asked: dict[str, Any] = {"seed": 1, "minutes": 5, "programs": 8, "processes": 1}
    hunt_all(folder, engine, ("immediate",), **asked, contract=False)
    return folder


@pytest.fixture(scope="module")
def published(hunted: Path) -> dict[str, Any]:
    """What is published of it, as plain data."""
    path, _ = publish_hunt(hunted, hunted.parent / "published")
    data: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return data


@dataclass
class Reports:
    """Reports of the same runs, with published hunts and findings of the kit's."""

    plain: Evidence
    folder: Path

    def page(self, *hunts: dict[str, Any], found: Path = Path("none")) -> str:
        """The page of these hunts, as a report in `folder` has it among its pages in `p`."""
        for hunt in hunts:
            put(self.folder / "hunts", hunt)
        (page,) = [page for page in PAGES if page.name == "hunts"]
        path, evidence = self.folder / "p" / page.file, self.evidence(found)
        data = page.data(evidence, path, path.parent)
        top = {"title": page.title, "answer": page.answer(evidence, data), "back": "../R.md"}
        return rendered(f"{page.name}.md.j2", {**data, "page": top})

    def evidence(self, found: Path = Path("none")) -> Evidence:
        place = self.folder / "hunts"
        hunts, unread = read_hunts(place)
        assert not unread
        return replace(self.plain, hunts=hunts, hunts_in=place, found=read_found(found)[0])


@pytest.fixture(scope="module")
def plain(made_report: Path) -> Evidence:
    return read_evidence(made_report)


@pytest.fixture
def told(plain: Evidence, tmp_path: Path) -> Reports:
    return Reports(plain, tmp_path)


def put(folder: Path, hunt: dict[str, Any]) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / f"{hunt['name']}.json"
    path.write_text(json.dumps(hunt), encoding="utf-8")
    return path


def other(hunt: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {**copy.deepcopy(hunt), **fields}


def found_in(folder: Path, hunt: dict[str, Any], **fields: Any) -> Path:
    """A folder with a finding of the kit's, said to be in the version that was hunted."""
    to = folder / "found" / SCRIPT
    shutil.copytree(ROOT / FOUND / SCRIPT, to)
    kept = json.loads((to / "finding.json").read_text(encoding="utf-8"))
    binding, version, source = hunt["identity"]
    kept |= {"engine": hunt["engine"], "binding": binding, "version": version,
             "source_id": source, **fields}  # fmt: skip
    (to / "finding.json").write_text(json.dumps(kept), encoding="utf-8")
    return to.parent


def rows(page: str) -> list[list[str]]:
    """The cells of the table of engines and versions."""
    table = page.split("| engine | binding, version |")[1].split("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in table]


def test_a_hunt_is_told_with_its_own_numbers(
    hunted: Path, published: dict[str, Any], told: Reports
) -> None:
    raw = json.loads((hunted / "hunt.json").read_text(encoding="utf-8"))
    kept = [read_finding(path)[0] for path in findings_in(hunted)]
    met = {frozenset(pair[:2]) for pair in raw["pairs"]}
    kinds = {kind for pair in met for kind in pair}
    possible = {frozenset((one, two)) for one in kinds for two in kinds}
    assert kept
    page = told.page(published)
    ((engine, library, hunts, minutes, programs, unsure, findings, known, _, shown, pairs),) = rows(
        page
    )
    assert (engine, hunts, known) == ("`broken.py:RefusesForNobody`", "1", "none")
    assert library == " ".join(raw["identity"][:2])
    assert float(minutes) == pytest.approx(raw["elapsed_s"] / 60, rel=0.01)
    assert [int(cell) for cell in (programs, unsure)] == [raw["programs"], raw["unsure"]]
    assert int(findings) == len(kept)
    # No script can play an engine of a file, so the hunter has played the program again.
    assert {one.method for one in kept} == {"program"} and shown == "—"
    assert pairs == f"{len(met)} / {len(possible - met)}"
    for one in kept:
        assert f"| needless refusal | {one.sentence.replace('`', chr(92) + '`')}" in page
        assert f"| {one.steps} | 10 of 10 by program |" in page
    for kind in kinds:
        beside = sum(kind in pair for pair in met)
        assert f"| {kind} | {beside} of {len(kinds)} |" in page


def test_nothing_of_the_machine_but_what_it_is_is_published(
    hunted: Path, published: dict[str, Any]
) -> None:
    assert set(published["machine"]) <= {
        *("cpu", "cores", "memory_bytes", "kernel", "cwkit_commit")
    }
    assert str(real(hunted).parent) not in json.dumps(published)
    assert str(ROOT) not in json.dumps(published)


def test_hunts_of_one_version_are_added_up_and_a_finding_is_one(
    published: dict[str, Any], told: Reports
) -> None:
    pair = ["a", "z", 3]
    more = other(published, name="more", processes=4, elapsed_s=60.0, pairs=[pair],
                 known={"a bug": 2}, ended="interrupted", died=["hunt 3 was killed"])  # fmt: skip
    newer = other(published, name="newer", identity=["another", "9", ""], findings=[])
    page = told.page(published, more, newer)
    one, two = rows(page) if rows(page)[0][2] == "2" else rows(page)[::-1]
    assert [one[2], two[2]] == ["2", "1"]
    assert float(one[3]) == pytest.approx(published["elapsed_s"] / 60 + 4, rel=0.01)
    assert int(one[4]) == 2 * published["programs"]
    assert one[6:8] == [str(len(published["findings"])), "a bug (2×)"]
    assert one[10].startswith(f"{len(published['pairs']) + 1} / ")
    assert two[6] == "0" and "9: " not in two
    assert "interrupted; 1 of its processes failed (hunt 3 was killed)" in page
    assert page.count("at most one in") == 1


def test_of_a_hunt_without_a_finding_it_says_how_rare_one_is_at_most(
    published: dict[str, Any], told: Reports
) -> None:
    nothing = other(published, findings=[], programs=1000, unsure=0)
    page = told.page(nothing)
    # Wilson's interval of none in n ends at z² / (n + z²).
    assert f"at most one in {int((1000 + 1.96**2) / 1.96**2)} does" in page
    assert "no proof" in page
    evidence = told.evidence()
    one = tell(evidence).every["hunts"]
    assert one.sought and "no proof" in one.sentence
    assert any("Looked for and not found: The hunter has no" in line for line in beyond(evidence))


def test_findings_with_a_script_stand_on_top_of_the_report_and_have_it_linked(
    published: dict[str, Any], told: Reports
) -> None:
    hunt = other(published, engine="turso", name="n")
    old = other(hunt, engine="turso@0.1", name="o", identity=["turso", "0.1", ""], programs=10**9)
    link = "https://example.org/a_b/issues/1#comment-2_3"
    found = found_in(told.folder, hunt, title="It loses a row", public=link, also="none before 3")
    page = told.page(hunt, old, found=found)
    assert page.splitlines()[4].startswith(
        "**In short:** 1 finding in the newest releases stands with the bare driver, 0 of them "
        f"with no public report that was found, over {hunt['programs']} programs in "
    )
    part = page.split("### It loses a row")[1].split("<details>")[0]
    assert f"Reported by others: [{link}]({link})".replace("://", "&#58;//", 1) in part
    assert "shows it in 10 of 10 tries: [" in part and "Other versions: none before 3." in part
    script = re.search(r"\]\((\S+repro\.py)\)", part)
    assert script and (told.folder / "p" / script[1]).resolve() == found / SCRIPT / "repro.py"
    (one,) = [each for each in findings(told.evidence(found)) if each.key == "hunts"]
    told.page(other(hunt, name="n"), found=found_in(told.folder / "new", hunt, public=""))
    new = tell(told.evidence(told.folder / "new" / "found")).every["hunts"]
    assert "1 of them with no public report that was found" in new.text
    assert one.grave and one.sentence.startswith("In the newest releases 1 finding of the hunter")


def test_the_report_tells_it_with_a_link_and_says_which_hunt_it_does_not_tell(
    published: dict[str, Any], told: Reports, made_report: Path, cwkit: Command
) -> None:
    page = told.page(published, found=found_in(told.folder, published))
    (told.folder / "hunts" / "cut.json").write_text("{", encoding="utf-8")
    to = told.folder / "analysis" / "published"
    to.mkdir(parents=True)
    (told.folder / "hunts").rename(to / "hunts")
    (told.folder / "examples").mkdir()
    (told.folder / "found").rename(told.folder / "examples" / "findings")
    tell_again = ("report", "--only-write", "--into", made_report)
    done = cwkit(*tell_again, cwd=told.folder)
    assert done.returncode == 0, done.stderr
    written = (to / "hunts.md").read_text(encoding="utf-8")
    assert written.splitlines()[4] == page.splitlines()[4] and rows(written) == rows(page)
    report = (told.folder / "REPORT.md").read_text(encoding="utf-8")
    assert re.search(r"\d\. \*\*In the newest releases 1 finding .* See "
                     r"\[the page\]\(analysis/published/hunts\.md\)\.\n", report)  # fmt: skip
    assert "The published hunt cut.json is not told." in report
    assert "examples/findings/turso-autoincrement-abort/repro.py)" in written
    done = cwkit(*tell_again, "--hunts", "nowhere", cwd=told.folder)
    assert done.returncode == 2 and "--hunts nowhere: there is no such folder" in done.stderr


def test_a_finding_in_another_version_or_not_each_time_is_none_that_stands(
    published: dict[str, Any], told: Reports
) -> None:
    cases: list[dict[str, Any]] = [{"version": "0"}, {"again": (9, 10)}, {"method": "program"}]
    for number, fields in enumerate(cases):
        found = found_in(told.folder / str(number), published, **fields)
        page = told.page(published, found=found)
        assert "**In short:** No finding in the newest releases stands" in page
        assert "No public report was found." in page


def test_the_newest_release_of_an_engine_is_the_one_that_was_hunted_last(
    published: dict[str, Any], tmp_path: Path
) -> None:
    for day, version in enumerate(("10.0", "9.0"), 1):
        put(tmp_path, other(published, name=f"n{day}", started=f"2026-01-0{day}T00:00:00+00:00",
                            identity=["x", version, ""]))  # fmt: skip
    put(tmp_path, other(published, name="n3", engine="x@8", identity=["x", "8", ""]))
    hunts, unread = read_hunts(tmp_path)
    assert not unread and len(added_up(hunts)) == 3
    assert [row.version for row in newest(added_up(hunts))] == ["9.0"]


def test_a_finding_that_is_known_by_now_is_not_listed_as_one_without_a_script(
    published: dict[str, Any], told: Reports
) -> None:
    known, _ = read_finding(ROOT / FOUND / SCRIPT)
    program = (ROOT / FOUND / SCRIPT / "program.txt").read_text(encoding="utf-8")
    finding = {"name": "abort-01234567", "program": program,
               **{key: getattr(known, key) for key in ("judge", "sentence", "expected", "seen",
                  "when", "steps", "drawn_steps", "again", "method")}}  # fmt: skip
    identity = [known.binding, known.version, known.source_id]
    found = found_in(told.folder, published)
    page = told.page(other(published, identity=identity, findings=[finding]), found=found)
    (row,) = rows(page)
    assert row[6] == "1" and "AUTOINCREMENT beside another transaction (1×)" in row[7]
    assert row[9] == "1 of 1"
    assert "without a script" not in page and "Met again in the hunts above" in page


def test_a_broken_contract_is_told_with_its_calls_and_is_no_program_that_was_shrunk(
    hunted: Path, told: Reports
) -> None:
    folder = told.folder / "h"
    shutil.copytree(hunted, folder)
    (of_program,) = findings_in(folder)
    contract = of_program.with_name("contract-rollback")
    shutil.copytree(of_program, contract)
    kept = json.loads((contract / "finding.json").read_text(encoding="utf-8"))
    kept |= {"judge": "contract", "steps": 99, "drawn_steps": 99, "method": "the check"}
    (contract / "finding.json").write_text(json.dumps(kept), encoding="utf-8")
    (contract / "program.txt").write_text("---\n", encoding="utf-8")
    (contract / "timeline.txt").write_text("A begin\n", encoding="utf-8")
    path, hunt = publish_hunt(folder, told.folder / "to")
    by_name = {one.name: one for one in hunt.findings}
    assert by_name["contract-rollback"].calls == "A begin\n"
    page = told.page(json.loads(path.read_text(encoding="utf-8")))
    (row,) = rows(page)
    assert row[6] == "2" and "99" not in row[8]
    assert re.search(r"\| contract \| .* \| 99 \| 10 of 10 by the check \|", page)


def test_a_report_without_hunts_says_that_nothing_was_hunted_and_how_to(told: Reports) -> None:
    page = told.page()
    assert "Nothing was hunted for this report; `cwkit fuzz" in page.splitlines()[4]
    assert "`cwkit fuzz --publish FOLDER`" in page
    (line,) = [line for line in beyond(told.evidence()) if line.startswith("Not measured")]
    assert "What engines get wrong that nobody has looked for (`cwkit fuzz" in line


def test_each_published_file_is_linked_whatever_its_name_is(
    published: dict[str, Any], told: Reports
) -> None:
    names = ("20261126-055408-fuzz-turso@0.4.4", "a](b) `c` *d* é")
    page = told.page(*(other(published, name=name) for name in names))
    # As `test_house` looks for links: a version's number needs no escape in an address.
    assert f"](../hunts/{names[0]}.json)" in page
    linked = {unquote(place) for place in re.findall(r"\]\((\.\./hunts/[^)]+)\)", page)}
    assert linked == {f"../hunts/{name}.json" for name in names}
    (told.folder / "p").mkdir()
    assert all((told.folder / "p" / place).is_file() for place in linked)


@pytest.mark.parametrize("text", [ALL, "\n" + ALL[::-1], TEXTS["HTML"], TEXTS["a fence"]])
def test_no_word_of_an_engine_changes_the_shape_of_the_page(
    published: dict[str, Any], told: Reports, text: str
) -> None:
    pages = [told.page(hostile(published, words), found=hostile_found(told, published, words, n))
             for n, words in enumerate(("plain words", text))]  # fmt: skip
    assert shape(pages[0]) == shape(pages[1])
    assert tell(told.evidence()).every["hunts"].words <= MOST_WORDS
    assert "plain words" in pages[0]


def hostile(hunt: dict[str, Any], text: str) -> dict[str, Any]:
    """A hunt with this text wherever an engine's or somebody else's may be."""
    text = text[:400]
    words = dict.fromkeys(("judge", "sentence", "expected", "seen", "when"), text)
    words["name"] = f"{text.replace(' ', '-')}-01234567"
    return other(hunt, engine=text, identity=[text] * 3, modes=[text], without=[text],
                 known={text: 1}, refused={text: text}, died=[text], version=text,
                 not_raced={text: 1},
                 statuses={text: hunt["steps"]}, pairs=[[text, text, 1]],
                 findings=[hunt["findings"][0] | words])  # fmt: skip


def hostile_found(told: Reports, hunt: dict[str, Any], text: str, number: int) -> Path:
    named = ("title", "judge", "sentence", "expected", "seen", "when", "public", "also", "method")
    words = dict.fromkeys(named, text)
    found = found_in(told.folder / str(number), hostile(hunt, text), **words)
    (found / SCRIPT / "timeline.txt").write_text(text, encoding="utf-8")
    return found


# --- refused --------------------------------------------------------------------------------------


def put_in(*path: str | int, value: Any) -> Edit:
    def edit(data: dict[str, Any]) -> None:
        at: Any = data
        for key in path[:-1]:
            at = at[key]
        at[path[-1]] = value

    return edit


MISFITS: dict[str, tuple[Edit, str]] = {
    "another name": (put_in("name", value="x"), "it is called 'x' inside"),
    "a later format": (put_in("cwkit", value=99), "by a later cwkit"),
    "no key": (lambda data: data.pop("programs"), "missing required field `programs`"),
    "a negative count": (put_in("programs", value=-1), "`programs`"),
    "no number": (put_in("elapsed_s", value="1"), "`elapsed_s`"),
    "endless": (put_in("minutes", value=1e300), "`minutes`"),
    "still running": (put_in("ended", value="running"), "`ended`"),
    "no time": (put_in("started", value="yesterday"), "is no time in UTC"),
    "another zone": (put_in("started", value="2026-01-01T00:00:00+02:00"), "is no time in UTC"),
    "steps": (put_in("steps", value=7), "7 steps and"),
    "unsure": (put_in("unsure", value=10**6), "were not judged to the end"),
    "a pair twice": (lambda data: data["pairs"].append(data["pairs"][0]), "pair of operations is"),
    "a pair turned": (put_in("pairs", 0, value=["b", "a", 1]), "pair of operations is"),
    "a finding twice": (
        lambda data: data["findings"].append(data["findings"][0]),
        "a finding is there twice",
    ),
    "kinds without end": (
        put_in("pairs", value=[["a", f"b{n}", 1] for n in range(400)]),
        "401 kinds of operation",
    ),
    "another judge": (put_in("findings", 0, "judge", value="rows"), "does not give such a name"),
    "a path": (put_in("findings", 0, "name", value="../x"), "does not give such a name"),
    "more than all": (put_in("findings", 0, "again", value=[11, 10]), "it showed in 11 of 10"),
    "no program": (put_in("findings", 0, "program", value="A commit"), "one line '---'"),
    "more steps": (put_in("findings", 0, "steps", value=99), "steps and not 99"),
    "another method": (put_in("findings", 0, "method", value="a look"), "`findings[0].method`"),
    "words without end": (put_in("findings", 0, "seen", value="x" * 9999), "`findings[0].seen`"),
}


@pytest.mark.parametrize("case", MISFITS)
def test_what_does_not_fit_together_is_refused_in_a_sentence(
    published: dict[str, Any], tmp_path: Path, case: str
) -> None:
    edit, why = MISFITS[case]
    hunt = other(published)
    edit(hunt)
    put(tmp_path, other(published)).write_text(json.dumps(hunt), encoding="utf-8")
    found, (doubt,) = read_hunts(tmp_path)
    assert not found
    assert why in doubt and "\n" not in doubt and doubt.endswith((".", "it."))


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff", b'{"cwkit": 1}', b"[" * 9999])
def test_what_is_no_hunt_at_all_is_refused_in_a_sentence(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.json").write_bytes(content)
    found, (doubt,) = read_hunts(tmp_path)
    assert not found and "x.json is not told." in doubt and "\n" not in doubt


def test_a_hunt_that_is_not_over_is_not_published(hunted: Path, tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"is no hunt's folder"):
        publish_hunt(tmp_path, tmp_path / "to")
    raw = json.loads((hunted / "hunt.json").read_text(encoding="utf-8"))
    (tmp_path / "hunt.json").write_text(json.dumps(raw | {"ended": "running"}), encoding="utf-8")
    with pytest.raises(RunError, match=r"still runs, or was killed"):
        publish_hunt(tmp_path, tmp_path / "to")
    begun = {key: raw[key] for key in raw if key != "elapsed_s"} | {"ended": "interrupted"}
    (tmp_path / "hunt.json").write_text(json.dumps(begun), encoding="utf-8")
    with pytest.raises(RunError, match=r"was interrupted before it had played a program"):
        publish_hunt(tmp_path, tmp_path / "to")
    (tmp_path / "hunt.json").write_text(json.dumps(raw | {"programs": "x"}), encoding="utf-8")
    with pytest.raises(RunError, match=r"`programs`.* It was cut or edited"):
        publish_hunt(tmp_path, tmp_path / "to")
    assert not (tmp_path / "to").exists()


def test_a_link_that_leads_out_of_the_hunt_is_not_followed(hunted: Path, tmp_path: Path) -> None:
    for place in ("findings", "findings/rows-01234567"):
        folder = tmp_path / place.replace("/", "-")
        shutil.copytree(hunted, folder, ignore=shutil.ignore_patterns(place))
        (folder / place).symlink_to(hunted / "findings")
        with pytest.raises(RunError, match="symbolic link that leads out"):
            publish_hunt(folder, tmp_path / "to")
    assert not (tmp_path / "to").exists()


def test_a_hunt_that_was_interrupted_is_published_as_such(hunted: Path, tmp_path: Path) -> None:
    folder = tmp_path / "20261126-010203-fuzz-x"
    shutil.copytree(hunted, folder)
    raw = json.loads((hunted / "hunt.json").read_text(encoding="utf-8")) | {"ended": "interrupted"}
    for key in ("started", "version", "machine", "unsure", "died"):  # an older cwkit's had none
        del raw[key]
    raw["refused"] = {"vacuum": f"no such file: {real(folder)}/a.db"}
    (folder / "hunt.json").write_text(json.dumps(raw), encoding="utf-8")
    path, hunt = publish_hunt(folder, tmp_path / "to")
    assert (path.name, hunt.ended) == ("20261126-010203-fuzz-x.json", "interrupted")
    assert str(real(folder)) not in path.read_text(encoding="utf-8")
    assert (hunt.started, hunt.unsure) == ("2026-11-26T01:02:03+00:00", None)
    ((again,), unread) = read_hunts(tmp_path / "to")
    assert not unread
    assert (again.programs, again.pairs, again.findings) == (hunt.programs, hunt.pairs,
                                                             hunt.findings)  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["--published", "x"], "Give both"),
        (["--publish", ".", "--replay", "."], "one at a time"),
        (["--publish", "."], "is no hunt's folder"),
        (["--publish", ".", "--published", "file"], "is no folder"),
    ],
)
def test_what_cannot_be_published_is_one_sentence(
    arguments: list[str], why: str, cwkit: Command, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    done = cwkit("fuzz", *arguments, cwd=tmp_path)
    assert done.returncode == 2 and why in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_the_command_publishes_a_hunt(hunted: Path, cwkit: Command, tmp_path: Path) -> None:
    done = cwkit("fuzz", "--publish", hunted, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert f"published: analysis/published/hunts/{NAME}.json (" in done.stdout
    assert len(read_hunts(tmp_path / "analysis" / "published" / "hunts")[0]) == 1
