"""A folder goes into one file and comes back as it was; what others made of such a file is data."""

from __future__ import annotations

import gzip
import io
import os
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from workloads.errors import PlanError, RunError
from workloads.files import LOCK_FILE
from workloads.records import archive, find_run, names_of, pack, save_as, unpack


def folder_of(runs: Path, name: str) -> Path:
    """A folder that is one of ours by its manifest."""
    made = runs / name
    (made / "b00-a").mkdir(parents=True)
    (made / "manifest.json").write_text("{}")
    (made / "b00-a" / "worker-000.npy").write_bytes(bytes(range(256)) * 40)
    (made / LOCK_FILE).write_text("")
    return made


def test_a_folder_comes_back_as_it_was(tmp_path: Path) -> None:
    one = folder_of(tmp_path / "runs", "one")
    made = pack(one, tmp_path / "one.tar.gz")
    assert (made.files, made.bytes) == (2, 10_242)
    again = pack(one, tmp_path / "again.tar.gz")
    assert made.path.read_bytes() == again.path.read_bytes()
    back = unpack(made.path, tmp_path / "others")
    assert back.path == tmp_path / "others" / "one"
    files = {p.relative_to(back.path): p.read_bytes() for p in back.path.rglob("*") if p.is_file()}
    del (wanted := {p.relative_to(one): p.read_bytes() for p in one.rglob("*") if p.is_file()})[
        Path(LOCK_FILE)
    ]
    assert files == wanted
    with pytest.raises(RunError, match="is there already"):
        unpack(made.path, tmp_path / "others")
    assert [path.name for path in (tmp_path / "others").iterdir()] == ["one"]


@pytest.mark.parametrize("name", ["main", "last"])
def test_an_archive_takes_no_name_that_leads_to_another_run(name: str, tmp_path: Path) -> None:
    made = pack(folder_of(tmp_path / "elsewhere", name), tmp_path / "x.tar.gz")
    runs = tmp_path / "runs"
    mine = folder_of(runs, "one")
    save_as("main", mine, runs)
    with pytest.raises(RunError, match=f"called {name}, and that name leads to another run"):
        unpack(made.path, runs)
    assert find_run(name, runs) == mine and not (runs / name).exists()


def test_what_is_no_folder_of_ours_or_holds_a_link_is_not_packed(tmp_path: Path) -> None:
    (tmp_path / "plain").mkdir()
    with pytest.raises(RunError, match="is no run"):
        pack(tmp_path / "plain", tmp_path / "x.tar.gz")
    one = folder_of(tmp_path, "one")
    (one / "link").symlink_to("/etc/passwd")
    with pytest.raises(RunError, match="is a link"):
        pack(one, tmp_path / "x.tar.gz")
    assert not (tmp_path / "x.tar.gz").exists()


def entry(name: str, data: bytes = b"{}", **how: object) -> tuple[tarfile.TarInfo, bytes]:
    made = tarfile.TarInfo(name)
    made.size = len(data)
    for key, value in how.items():
        setattr(made, key, value)
    return made, data


OURS = entry("one/manifest.json")
LINK = {"type": tarfile.SYMTYPE, "linkname": "/etc", "size": 0}
HOSTILE: dict[str, tuple[list[tuple[tarfile.TarInfo, bytes]], str]] = {
    "a path out of it": ([OURS, entry("one/../../evil")], "leads out"),
    "a path from the root": ([OURS, entry("/tmp/evil")], "leads out"),
    "a symbolic link": ([OURS, entry("one/link", b"", **LINK)], "is no file"),
    "a hard link": ([OURS, entry("one/l", b"", **LINK | {"type": tarfile.LNKTYPE})], "is no file"),
    "a device": ([OURS, entry("one/d", b"", type=tarfile.CHRTYPE)], "is no file"),
    "a control sequence": ([OURS, entry("one/\x1b[2J")], "holds characters"),
    "a file twice": ([OURS, OURS], "twice"),
    "two folders": ([OURS, entry("two/manifest.json")], "holds no folder"),
    "a hidden folder": ([entry(".saved/manifest.json")], "holds no folder"),
    "nothing of ours": ([entry("one/other")], "holds no folder"),
    "folders without end": ([OURS, entry("one/" + "a/" * 40 + "x")], "deeper"),
    "a file in a file": ([OURS, entry("one/manifest.json/x")], "manifest.json"),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_an_archive_from_elsewhere_writes_nothing_but_its_folder(kind: str, tmp_path: Path) -> None:
    entries, words = HOSTILE[kind]
    file = tmp_path / "x.tar.gz"
    with tarfile.open(file, "w:gz") as tar:
        for one, data in entries:
            tar.addfile(one, io.BytesIO(data))
    before = set(tmp_path.rglob("*"))
    with pytest.raises((RunError, OSError), match=words):
        unpack(file, tmp_path / "runs")
    assert set(tmp_path.rglob("*")) - before == {tmp_path / "runs"}


def damaged(change: Callable[[bytes], bytes]) -> Callable[[bytes], bytes]:
    return lambda data: gzip.compress(change(gzip.decompress(data)))


BROKEN: dict[str, Callable[[bytes], bytes]] = {
    "cut": lambda data: data[: len(data) // 2],
    "none": lambda data: b"nothing of the kind",
    "empty": lambda data: b"",
    "a cut inside": damaged(lambda data: data[:700]),
    "a wrong checksum": damaged(lambda data: b"x" + data[1:]),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_damaged_archive_is_refused_in_a_sentence(kind: str, tmp_path: Path) -> None:
    made = pack(folder_of(tmp_path / "runs", "one"), tmp_path / "one.tar.gz")
    made.path.write_bytes(BROKEN[kind](made.path.read_bytes()))
    with pytest.raises(RunError, match=r"one\.tar\.gz"):
        unpack(made.path, tmp_path / "others")
    assert list((tmp_path / "others").iterdir()) == []


def test_an_archive_has_limits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = pack(folder_of(tmp_path / "runs", "one"), tmp_path / "one.tar.gz")
    for name, most in (("MOST_FILES", 1), ("MOST_BYTES", 5000)):
        with monkeypatch.context() as patch:
            patch.setattr(archive, name, most)
            with pytest.raises(RunError, match="holds more than"):
                unpack(made.path, tmp_path / "others")
    long = tmp_path / "long.tar.gz"
    with tarfile.open(long, "w:gz", format=tarfile.PAX_FORMAT) as tar:
        one, data = entry("one/x", pax_headers={"comment": "x" * (2 << 20)})
        tar.addfile(one, io.BytesIO(data))
    with pytest.raises(RunError, match="a header that is too long"):
        unpack(long, tmp_path / "others")
    with pytest.raises(RunError, match="no such file"):
        unpack(tmp_path / "nowhere", tmp_path / "others")


# --- names ------------------------------------------------------------------------------------


def test_a_saved_name_and_last_lead_to_their_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    old = folder_of(tmp_path, "20261126-100000-bank-s0")
    new = folder_of(tmp_path, "20261126-100001-bank-s0")
    os.utime(old)
    save_as("main", old, tmp_path)
    assert find_run("main", tmp_path) == old and find_run("last", tmp_path) == new
    save_as("main", new, tmp_path)
    save_as("other", new, tmp_path)
    assert names_of(tmp_path) == {new.name: ["main", "other"]}
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    (tmp_path / "here" / "main").mkdir()  # a folder of that name that is none of ours
    assert find_run("main", tmp_path) == new
    new.rename(tmp_path / "gone")
    with pytest.raises(RunError, match="is gone"):
        find_run("main", tmp_path)
    for name in ("last", "a/b", "..", "", "x" * 65, "gone"):
        with pytest.raises(PlanError, match="--save"):
            save_as(name, old, tmp_path)


@pytest.mark.parametrize("target", ["../elsewhere", "/etc", "", None, 3])
def test_a_forged_name_leads_nowhere(target: object, tmp_path: Path) -> None:
    import json

    (tmp_path / ".saved").mkdir()
    (tmp_path / ".saved" / "main.json").write_text(json.dumps({"cwkit": 1, "run": target}))
    with pytest.raises(RunError):
        find_run("main", tmp_path)
    assert names_of(tmp_path) == {}
