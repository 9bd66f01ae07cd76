"""The trial `replica` of older reports stays readable, and a damaged one is a sentence."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from workloads.errors import RunError
from workloads.files import write_json
from workloads.trials import older, read


def made(folder: Path, blocks: int = 2) -> Path:
    folder.mkdir()
    for arm, shape in older.ARMS.items():
        np.save(folder / f"{arm}.npy", np.full((blocks, *shape), 5, np.int64))
    np.save(folder / "age.npy", np.ones((blocks, older.TRIALS), older.AGE))
    durability = {"synchronous": 1}
    manifest = {
        "cwkit": 1, "ended": "running", "arms": list(older.ARMS), "blocks_done": 1,
        "foreign": [{"cpu_share": 0.0, "steal_share": 0.0}], "checks": [],
        "settings": {"sync_interval_s": 0.01, "pause_beside_s": 0.0, "network": "", "rows": 1},
        "versions": {"sqld": "1", "binding": "2"},
        "pragmas": {"local": durability, "server": durability},
        "replica_bytes": 1, "database_bytes": 1, "first_copy_ns": 1,
    }  # fmt: skip
    write_json(folder / older.MANIFEST, manifest)
    return folder


def test_of_a_cut_measurement_the_whole_blocks_are_read(tmp_path: Path) -> None:
    measured = read(made(tmp_path / "served"))
    assert measured.blocks == 1
    assert measured.ns["transaction-remote"].shape == (1, *older.ARMS["transaction-remote"])
    assert measured.rows[0][0]["seen_after_sync"] is True


@pytest.mark.parametrize("damage", ["missing", "short", "unmeasured", "text", "later"])
def test_damaged_files_are_one_sentence(tmp_path: Path, damage: str) -> None:
    folder = made(tmp_path / "served")
    if damage == "missing":
        (folder / "hop.npy").unlink()
    elif damage == "short":
        np.save(folder / "hop.npy", np.ones((0, 200, 1), np.int64))
    elif damage == "unmeasured":
        np.save(folder / "hop.npy", np.zeros((2, 200, 1), np.int64))
    elif damage == "text":
        (folder / older.MANIFEST).write_text("{")
    else:
        write_json(folder / older.MANIFEST, {"cwkit": 99})
    with pytest.raises(RunError, match=r"later cwkit|cut or edited"):
        read(folder)
