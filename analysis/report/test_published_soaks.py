"""A published soak says what the soak did, names no folder of this machine, and fits together."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from analysis.report import publish_soak, read_soaks
from workloads.errors import RunError

DESIGN = {
    "cwkit": 1, "version": "0", "started": "2026-11-26T12:00:00+00:00", "seed": 7, "asked_s": 60,
    "engines": ["sqlite", "/home/me/mine.py:Mine"], "seconds": 3, "ended": "done",
    "machine": {"cpu": "one", "id": "secret", "cores": 2},
}  # fmt: skip


def soak_in(folder: Path, ended: str = "done") -> Path:
    """Two rounds, the second with a finding."""
    folder.mkdir()
    (folder / "soak.json").write_text(json.dumps(DESIGN | {"ended": ended}), encoding="utf-8")
    line = {"kind": "run", "engine": "sqlite", "mode": "immediate", "scenario": "ledger", "seed": 3}
    found = [{"kind": "lost", "sentence": f"one is gone, see {folder}/rounds"}]
    lines = [line | {"number": 0, "acknowledged": 5}, line | {"number": 1, "findings": found}]
    text = "".join(f"{json.dumps(one)}\n" for one in lines)
    (folder / "rounds.jsonl").write_text(text, encoding="utf-8")
    return folder


def test_a_soak_is_published_and_read_back(tmp_path: Path) -> None:
    path, made = publish_soak(soak_in(tmp_path / "one"), tmp_path / "published")
    assert read_soaks(tmp_path / "published") == ([made], [])
    assert (made.rounds, made.rows[0].acknowledged, made.rows[0].findings) == (2, 5, {"lost": 1})
    text = path.read_text(encoding="utf-8")
    assert str(tmp_path) not in text and "/home/me" not in text and "secret" not in text
    path.write_text(text.replace('"rounds": 2', '"rounds": 3', 1), encoding="utf-8")
    assert "do not agree" in read_soaks(tmp_path / "published")[1][0]
    path.rename(path.with_name("two.json"))
    assert "it is called 'one' inside" in read_soaks(tmp_path / "published")[1][0]
    assert read_soaks(tmp_path / "nowhere") == ([], [])


def test_one_that_is_not_over_is_not_published(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"still runs, or was killed"):
        publish_soak(soak_in(tmp_path / "one", ended=""), tmp_path / "published")
