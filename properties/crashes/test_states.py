"""What a crash leaves of made-up logs: each model against what it is said to be."""

from __future__ import annotations

import random
import struct
from pathlib import Path

import pytest

from properties.crashes.change_log import (
    BEGUN,
    CREATED,
    LIED,
    OPEN,
    RENAME,
    SYNC,
    TRUNCATE,
    UNLINK,
    WRITE,
    Change,
    LogError,
    read_changes,
)
from properties.crashes.reducing import reduce_state
from properties.crashes.states import MODELS, SECTOR, CrashState, Replay

INODE, FOLDER = 7, 3
OLD = bytes(4 * SECTOR)


class Log:
    """A log that is made up record by record."""

    def __init__(self) -> None:
        self.changes: list[Change] = []

    def add(
        self, call: int, *, flags: int = 0, file: int = INODE, offset: int = 0, data: bytes = b"",
        name: str = "a.db", result: int = 0, pid: int = 1,
    ) -> int:  # fmt: skip
        number = len(self.changes) + 1
        self.changes.append(
            Change(number, number, pid, 0, call, flags, 0, file, offset, result or len(data), name,
                   0, len(data), memoryview(data))
        )  # fmt: skip
        return number

    def write(self, letter: str, *, offset: int = 0, length: int = SECTOR) -> int:
        return self.add(WRITE, offset=offset, data=letter.encode() * length)

    def sync(self, *, file: int = INODE, name: str = "a.db", lied: bool = False) -> None:
        if lied:
            self.add(SYNC, file=file, name=name, flags=LIED)
            return
        self.add(SYNC, file=file, name=name, flags=BEGUN)
        self.add(SYNC, file=file, name=name)

    def at(self, point: int | None = None) -> Replay:
        replay = Replay({"a.db": (INODE, OLD)}, self.changes)
        replay.advance(len(self.changes) if point is None else point)
        return replay


def left(replay: Replay, model: str, seed: int = 0) -> dict[str, bytes]:
    return replay.files(replay.state(model, random.Random(seed)))


def letters(content: bytes) -> str:
    """The first byte of each sector: what it holds, "." for nothing."""
    return "".join(chr(content[at] or 46) for at in range(0, len(content), SECTOR))


def test_a_kill_leaves_all_and_a_power_cut_what_was_synced() -> None:
    log = Log()
    log.write("a")
    log.sync()
    log.write("b", offset=SECTOR)
    replay = log.at()
    assert letters(left(replay, "kill")["a.db"]) == "ab.."
    assert letters(left(replay, "strict")["a.db"]) == "a..."


def test_a_sync_covers_what_was_written_before_it_began_and_counts_when_it_has_returned() -> None:
    log = Log()
    log.write("a")
    log.add(SYNC, flags=BEGUN)
    log.write("b", offset=SECTOR)  # by another, while the sync is at it
    end = log.add(SYNC)
    assert letters(left(log.at(end - 1), "strict")["a.db"]) == "...."
    assert letters(left(log.at(end), "strict")["a.db"]) == "a..."


def test_a_sync_that_lied_failed_or_was_another_files_covers_nothing() -> None:
    log = Log()
    log.write("a")
    log.sync(lied=True)
    log.add(SYNC, flags=BEGUN)
    log.add(SYNC, result=-1)
    log.sync(file=99, name="b.db")
    assert letters(left(log.at(), "strict")["a.db"]) == "...."


def test_a_sector_has_the_bytes_of_one_moment() -> None:
    log = Log()
    log.write("a", length=SECTOR // 2)
    second = log.write("b", offset=SECTOR // 2, length=SECTOR // 2)
    replay = log.at()
    there = CrashState(replay.point, "subset", replay.point, frozenset({(second, 0)}))
    # Both writes went to one sector: who has the later one has the earlier one as well.
    assert replay.files(there)["a.db"][:SECTOR] == b"a" * (SECTOR // 2) + b"b" * (SECTOR // 2)


def test_a_torn_write_ends_at_a_sector() -> None:
    log = Log()
    log.write("a")
    log.write("b", length=4 * SECTOR)
    seen = {letters(left(log.at(), "prefix", seed)["a.db"]) for seed in range(60)}
    assert seen == {"....", "a...", "b...", "bb..", "bbb.", "bbbb"}


def test_writes_come_without_earlier_ones_each_whole() -> None:
    log = Log()
    log.write("a", length=2 * SECTOR)
    log.write("b", offset=2 * SECTOR, length=2 * SECTOR)
    seen = {letters(left(log.at(), "reorder", seed)["a.db"]) for seed in range(60)}
    assert seen == {"....", "aa..", "..bb", "aabb"}


def test_of_a_small_tail_every_set_of_sectors_is_tried() -> None:
    log = Log()
    log.write("a", length=3 * SECTOR)
    replay = log.at()
    seen = {letters(replay.files(state)["a.db"]) for state in replay.every_subset()}
    assert len(seen) == 8 and {"....", "a.a.", "aaa."} <= seen


def test_a_file_and_its_removal_are_durable_with_their_folder() -> None:
    log = Log()
    log.add(OPEN, flags=CREATED, file=8, name="a.db-wal")
    made = log.add(WRITE, file=8, data=b"w" * SECTOR, name="a.db-wal")
    assert set(left(log.at(made), "strict")) == {"a.db"}
    log.sync(file=8, name="a.db-wal")  # of a new file it covers the name too
    assert left(log.at(), "strict")["a.db-wal"] == b"w" * SECTOR
    log.add(UNLINK, file=8, name="a.db-wal")
    assert set(left(log.at(), "strict")) == {"a.db", "a.db-wal"}
    assert set(left(log.at(), "kill")) == {"a.db"}
    log.sync(file=FOLDER, name=".")
    assert set(left(log.at(), "strict")) == {"a.db"}


def test_a_number_that_a_new_file_takes_over_has_nothing_of_the_old_one() -> None:
    log = Log()
    log.add(OPEN, flags=CREATED, file=8, name="a.db-wal")
    log.add(WRITE, file=8, data=b"w" * SECTOR, name="a.db-wal")
    log.add(UNLINK, file=8, name="a.db-wal")
    log.add(OPEN, flags=CREATED, file=8, name="a.db-journal")
    assert left(log.at(), "kill") == {"a.db": OLD, "a.db-journal": b""}


def test_a_renamed_file_takes_the_place_of_another() -> None:
    log = Log()
    log.add(OPEN, flags=CREATED, file=8, name="new")
    log.add(WRITE, file=8, data=b"n", name="new")
    log.add(RENAME, file=8, name="new\na.db")
    assert left(log.at(), "kill") == {"a.db": b"n"}
    assert left(log.at(), "strict") == {"a.db": OLD}


def test_a_length_is_there_up_to_a_moment() -> None:
    log = Log()
    log.write("a", length=4 * SECTOR)
    log.add(TRUNCATE, offset=SECTOR)
    assert letters(left(log.at(), "kill")["a.db"]) == "a"
    assert letters(left(log.at(), "strict")["a.db"]) == "...."
    log.sync()
    assert letters(left(log.at(), "strict")["a.db"]) == "a"


@pytest.mark.parametrize("model", MODELS)
def test_the_same_seed_draws_the_same_state(model: str) -> None:
    log = Log()
    for at in range(40):
        log.write(chr(97 + at % 26), offset=at % 4 * SECTOR)
    one, two = (log.at().state(model, random.Random(5)) for _ in range(2))
    assert one == two


def test_a_state_is_made_smaller_to_the_sectors_that_matter() -> None:
    log = Log()
    for at in range(40):
        log.write("x", offset=at * SECTOR)
    replay = log.at()
    whole = replay.all_there()
    some = CrashState(whole.point, "subset", 0, frozenset(sorted(whole.pieces)[10:]))

    def fails(state: CrashState) -> bool:  # as soon as the second and the fifth are missing
        return not state.pieces & {(2, 1), (5, 4)}

    reduced = reduce_state(some, whole.pieces, fails)
    assert (reduced.missing, reduced.there) == (2, 38)
    assert whole.pieces - reduced.state.pieces == {(2, 1), (5, 4)}


def test_a_log_that_was_cut_or_is_anothers_is_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "changes.log"
    path.write_bytes(b"")
    assert read_changes(path) == []
    record = struct.pack("<IIQqIIHHiQqqII", 0x63776B31, 76, 1, 1, 1, 0, WRITE, 0, 0, 7, 0, 0, 4, 0)
    path.write_bytes(record + b"name")
    assert [one.name for one in read_changes(path)] == ["name"]
    path.write_bytes(record + b"name" + record[:40])  # its process was killed in it
    assert len(read_changes(path)) == 1
    for wrong in (b"x" * 200, record + b"../a", record[:4] + b"\xff" * 80):
        path.write_bytes(wrong)
        with pytest.raises(
            LogError, match=r"changes\.log, byte 0: .*\. Record it again|with cwkit"
        ):
            read_changes(path)


def journal_that_is_made_again(inode: int) -> Log:
    """A rollback journal that a commit removed, and the next one, at the same or another inode."""
    log = Log()
    log.add(OPEN, flags=CREATED, file=20, name="a.db-journal")
    log.add(WRITE, file=20, data=b"1" * SECTOR, name="a.db-journal")
    log.sync(file=20, name="a.db-journal")
    log.sync(file=FOLDER, name=".")
    log.add(UNLINK, file=20, name="a.db-journal")
    log.add(OPEN, flags=CREATED, file=inode, name="a.db-journal")
    log.add(WRITE, file=inode, data=b"2" * SECTOR, name="a.db-journal")
    return log


@pytest.mark.parametrize("inode", [20, 21])
def test_a_file_that_was_removed_is_there_until_its_removal_is(inode: int) -> None:
    log = journal_that_is_made_again(inode)
    replay = log.at()
    assert letters(left(replay, "strict")["a.db-journal"]) == "1"
    every = replay.all_there().pieces
    for names, there in ((6, "1"), (7, ""), (8, "2"), (9, "2")):
        state = CrashState(replay.point, "prefix", names, every)
        assert letters(replay.files(state).get("a.db-journal", b"")) == there, names


@pytest.mark.parametrize("inode", [20, 21])
@pytest.mark.parametrize("folder", [False, True])
def test_a_sync_of_a_new_file_keeps_its_name_and_all_names_before_it(
    inode: int, folder: bool
) -> None:
    log = journal_that_is_made_again(inode)
    log.sync(file=inode, name="a.db-journal")
    if folder:
        log.sync(file=FOLDER, name=".")
    for model in MODELS:
        assert letters(left(log.at(), model)["a.db-journal"]) == "2", model
