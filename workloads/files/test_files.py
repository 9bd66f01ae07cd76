"""Files of ours that came from elsewhere: their names stay inside, what is in them is bounded."""

from __future__ import annotations

import io
import json
import os
import socket
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from workloads.errors import RunError
from workloads.files.access import (
    _Unwaiting,
    inside,
    move_aside,
    opened,
    read_bytes,
    read_json,
    read_versioned,
    remove,
    replace,
    replacing,
    resolved,
    within,
)
from workloads.files.visible_text import visible

LEAVING = ["", ".", "..", "../precious", "a/../../precious", "/etc", "a\0b", "a\nb", "x" * 300]


@pytest.fixture
def precious(tmp_path: Path) -> Path:
    """A folder beside ours that must be as it was when the test ends."""
    folder = tmp_path / "precious"
    folder.mkdir()
    (folder / "letter").write_text("dear", encoding="utf-8")
    (tmp_path / "ours").mkdir()
    return folder


@pytest.mark.parametrize("name", [*LEAVING, 7, None, ["a"]])
def test_a_name_that_leaves_its_folder_is_none(tmp_path: Path, name: object) -> None:
    with pytest.raises(RunError, match=r"edited\.$"):
        inside(tmp_path, name)


@pytest.mark.parametrize("name", ["b00-libsql", "..b", "b03-zipfian-0.99", "café", "-x"])
def test_a_name_of_an_entry_is_taken(tmp_path: Path, name: str) -> None:
    assert inside(tmp_path, name) == tmp_path / name


def test_a_link_is_followed_only_where_it_leads_inside(tmp_path: Path, precious: Path) -> None:
    ours = tmp_path / "ours"
    (ours / "real").mkdir()
    for name, to in {"in": "real", "out": "../precious", "self": ".", "round": "round"}.items():
        (ours / name).symlink_to(to)
    assert inside(ours, "in") == ours / "in"
    for name in ("out", "self", "round"):
        with pytest.raises(RunError, match="symbolic link"):
            inside(ours, name)


def test_each_part_of_a_path_is_held_to_it(tmp_path: Path, precious: Path) -> None:
    ours = tmp_path / "ours"
    assert within(ours, "a/b.npy") == ours / "a" / "b.npy"
    (ours / "a").symlink_to(precious)
    for path in ("a/letter", "/etc/passwd", "b/../../precious", ""):
        with pytest.raises(RunError):
            within(ours, path)


@pytest.mark.parametrize("name", [name for name in LEAVING if name != "x" * 300])
def test_what_leaves_is_never_removed_or_moved(tmp_path: Path, precious: Path, name: str) -> None:
    ours = tmp_path / "ours"
    with pytest.raises(RunError):
        remove(ours, name)
    with pytest.raises(RunError):
        move_aside(ours, "earlier", "fine", {name: ""})
    with pytest.raises(RunError):
        move_aside(ours, name, "fine", {"fine": ""})
    with pytest.raises(RunError):
        move_aside(ours, "earlier", f"{name}/x" if name else "x/", {"fine": ""})
    assert (precious / "letter").read_text() == "dear"


def test_a_link_is_removed_and_not_what_it_leads_to(tmp_path: Path, precious: Path) -> None:
    ours = tmp_path / "ours"
    (ours / "run").symlink_to(precious)
    remove(ours, "run")
    assert not (ours / "run").is_symlink() and (precious / "letter").exists()


def test_nothing_is_moved_through_a_link(tmp_path: Path, precious: Path) -> None:
    ours = tmp_path / "ours"
    (ours / "run").mkdir()
    (ours / "earlier").symlink_to(precious)
    with pytest.raises(RunError, match="symbolic link"):
        move_aside(ours, "earlier", "run", {"run": ""})
    assert (ours / "run").is_dir() and len(list(precious.iterdir())) == 1


def test_what_is_set_aside_takes_a_number_that_is_free_for_all_its_parts(tmp_path: Path) -> None:
    parts = {"run": "", "run.cell.json": ".cell.json"}
    for n in range(3):
        (tmp_path / "run").mkdir()
        (tmp_path / "run" / "n").write_text(str(n), encoding="utf-8")
        (tmp_path / "run.cell.json").write_text(str(n), encoding="utf-8")
        move_aside(tmp_path, "earlier", "run", parts)
    moved = {p.name: p.read_text() for p in (tmp_path / "earlier").glob("*.cell.json")}
    assert moved == {f"run.{n + 1}.cell.json": str(n) for n in range(3)}
    assert [(tmp_path / "earlier" / f"run.{n + 1}" / "n").read_text() for n in range(3)] == [*"012"]
    (tmp_path / "run.cell.json").write_text("alone", encoding="utf-8")
    move_aside(tmp_path, "earlier", "run", parts)  # a cell that never had a run
    assert (tmp_path / "earlier" / "run.4.cell.json").exists()


# --- reading ----------------------------------------------------------------------------------


def fifo(path: Path) -> None:
    os.mkfifo(path)


def listening(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(path))


NO_FILES: dict[str, Callable[[Path], None]] = {
    "a folder": Path.mkdir,
    "a pipe": fifo,
    "a socket": listening,
}


@pytest.mark.parametrize("what", list(NO_FILES))
def test_what_is_no_file_is_neither_waited_for_nor_read(tmp_path: Path, what: str) -> None:
    path = tmp_path / "n.json"  # a short path: a socket's is limited
    NO_FILES[what](path)
    with pytest.raises(RunError, match=f"is {what} and no file"):
        read_json(path)


def test_a_file_is_read_through_no_link_but_one_that_the_user_names(
    tmp_path: Path, precious: Path
) -> None:
    ours = tmp_path / "ours"
    (ours / "real").write_text("7", encoding="utf-8")
    for name, to in {"in": "real", "out": "../precious/letter", "zero": "/dev/zero"}.items():
        (ours / name).symlink_to(to)
    assert read_json(ours / "in") == 7
    for name in ("out", "zero"):
        with pytest.raises(RunError, match="symbolic link"):
            read_bytes(ours / name)
    assert read_bytes(ours / "out", named=True) == b"dear"
    with pytest.raises(RunError, match="is a device and no file"):
        read_bytes(ours / "zero", named=True)


def test_a_file_that_has_nothing_yet_is_not_waited_for() -> None:
    ours, theirs = os.pipe()
    os.set_blocking(ours, False)
    with io.BufferedReader(_Unwaiting(ours)) as file:
        for read in (file.read, file.readline, lambda: file.read(1)):
            with pytest.raises(BlockingIOError, match="nothing in it yet"):
                read()
        os.write(theirs, b"now")
        assert file.read(3) == b"now"
    os.close(theirs)


def test_a_file_is_read_up_to_its_limit(tmp_path: Path) -> None:
    path = tmp_path / "large"
    path.write_bytes(bytes(1001))
    assert len(read_bytes(path, 1001)) == 1001
    with pytest.raises(RunError, match=r"1,001 bytes; such a file has 1,000 at most"):
        read_bytes(path, 1000)
    with path.open("wb") as file:
        file.truncate(1 << 43)  # with no block on the disk
    with pytest.raises(RunError, match="at most"):
        read_json(path)


def test_a_file_that_is_not_there_is_told_by_who_asked(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), opened(tmp_path / "none"):
        pass


NASTY = {
    "5,000 digits": b'{"cwkit": ' + b"1" * 5000 + b"}",
    "a version of 5,000 digits": b'{"cwkit": 1, "x": ' + b"9" * 5000 + b"}",
    "NaN": b'{"cwkit": 1, "x": NaN}',
    "infinity": b'{"cwkit": 1, "x": -Infinity}',
    "beyond any float": b'{"cwkit": 1, "x": 1e999}',
    "nested": b'{"cwkit": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "nested objects": b'{"cwkit":' * 100_000 + b"1" + b"}" * 100_000,
    "half a character": b'{"cwkit": 1, "x": "\\ud800"}',
    "no UTF-8": b'{"cwkit": 1, "x": "\xff"}',
    "UTF-16": '{"cwkit": 1}'.encode("utf-16"),
    "cut": b'{"cwkit": 1, "x',
    "nothing": b"",
    "NUL": bytes(100),
    "a list": b"[1]",
    "no version": b"{}",
    "a version that is none": b'{"cwkit": "1"}',
    "true for a version": b'{"cwkit": true}',
    "a negative version": b'{"cwkit": -1}',
    "a later version": b'{"cwkit": 99}',
    "a key that is no text": b"{1: 2}",
}


@pytest.mark.parametrize("what", list(NASTY))
def test_each_damage_is_one_sentence(tmp_path: Path, what: str) -> None:
    path = tmp_path / "ours.json"
    path.write_bytes(NASTY[what])
    with pytest.raises(RunError) as error:
        read_versioned(path)
    sentence = str(error.value)
    assert sentence.startswith(f"{path}: ") and len(sentence) < 300
    assert sentence == visible(sentence)


class Kept(msgspec.Struct):
    """The content of a test's file."""

    cwkit: int
    blocks: int
    arms: dict[str, list[str]]


def test_a_value_that_is_none_is_named_with_its_key(tmp_path: Path) -> None:
    path = tmp_path / "ours.json"
    for data, key in (
        ({"blocks": "many", "arms": {}}, "blocks"),
        ({"blocks": 1.5, "arms": {}}, "blocks"),
        ({"blocks": 1, "arms": {"a": ["x", 7]}}, r"arms\[\.\.\.\]\[1\]"),
        ({"blocks": 1}, "arms"),
    ):
        path.write_text(json.dumps({"cwkit": 1} | data), encoding="utf-8")
        with pytest.raises(RunError, match=f"`{key}`.*cut or edited"):
            read_versioned(path, Kept)
    path.write_text('{"cwkit": 1, "blocks": 2, "arms": {"a": ["b"]}, "later": 1}', encoding="utf-8")
    assert read_versioned(path, Kept) == Kept(1, 2, {"a": ["b"]})


# --- writing ----------------------------------------------------------------------------------


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "kept.json"
    replace(path, "old")
    with pytest.raises(UnicodeEncodeError):
        replace(path, "half of a character: \ud800")
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["kept.json"]


def test_nothing_is_written_through_a_link(tmp_path: Path, precious: Path) -> None:
    ours = tmp_path / "ours"
    for name in ("kept.json", f"kept.json.{os.getpid()}.new"):
        (ours / name).symlink_to(precious / "letter")
    replace(ours / "kept.json", "new")
    assert (precious / "letter").read_text() == "dear"
    assert not (ours / "kept.json").is_symlink() and (ours / "kept.json").read_text() == "new"


def test_what_the_user_names_is_written_to_where_it_is_no_file(
    tmp_path: Path, precious: Path
) -> None:
    """Replaced, a device would be a file from then on, for everybody."""
    before = os.stat("/dev/null")
    replace(Path("/dev/null"), "gone", named=True)
    assert os.path.samestat(before, os.stat("/dev/null"))
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    replace(tmp_path / "pipe", "through", named=True)
    assert os.read(reader, 100) == b"through"
    os.close(reader)
    with pytest.raises(OSError, match="No such device"):  # nobody reads: it is not waited for
        replace(tmp_path / "pipe", "nowhere", named=True)
    (tmp_path / "link").symlink_to(precious / "letter")
    replace(tmp_path / "link", "new", named=True)
    assert (precious / "letter").read_text() == "new" and (tmp_path / "link").is_symlink()
    assert [path.name for path in precious.iterdir()] == ["letter"]


def test_no_file_of_proc_but_an_open_one_is_written_to(tmp_path: Path) -> None:
    """/proc/self/mem is this process's memory: opened to be written to, it would be."""
    with pytest.raises(OSError, match="/proc"):
        replace(Path("/proc/self/mem"), "gone", named=True)
    with (tmp_path / "open").open("wb") as file:
        replace(Path(f"/proc/self/fd/{file.fileno()}"), "through", named=True)
    assert (tmp_path / "open").read_text() == "through"


def test_links_in_a_circle_are_a_path_as_any_other(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    assert resolved(tmp_path / "loop" / "x").name == "x"


# --- text -------------------------------------------------------------------------------------


@pytest.mark.parametrize("one", list("\x1b\0\x07\x7f\x9b\u202e\u200b\ud800"))
def test_what_acts_is_shown_and_the_rest_is_left(one: str) -> None:
    shown = visible(f"naïve 数据 𝛼 {one}!")
    assert shown.isprintable() and shown.startswith("naïve 数据 𝛼 \\") and shown.endswith("!")
    assert visible(shown) == shown


def test_lines_of_ours_stay_lines() -> None:
    assert visible("a\nb\r\x1b", keep="\n") == "a\nb\\r\\x1b"


@pytest.mark.parametrize("named", [True, False])
def test_a_folder_is_never_opened_to_be_written_to(tmp_path: Path, named: bool) -> None:
    with pytest.raises(IsADirectoryError), replacing(tmp_path, named=named):
        raise AssertionError("there is nothing to write to")
    assert list(tmp_path.iterdir()) == []
    assert tmp_path.name in [path.name for path in tmp_path.parent.iterdir()]
