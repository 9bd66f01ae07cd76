"""`python -m tools.fuzz.make_folders`: the real runs in tools/fuzz/folders/, made anew.

They are kept as files because an input must be the same whenever it is drawn again; and as a run
folder of an older cwkit is read by every later one, there is no need to make them anew for each.
Those called `older-` were made by the cwkit of commit 2ee23d6, before manifests had a type; nobody
can make them anew.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

from workloads.engines import trust
from workloads.files import write_json
from workloads.records import MANIFEST
from workloads.runs import make_plan, run

FOLDERS = Path(__file__).resolve().parent / "folders"
WALLET = "examples/scenario_wallet.py:Wallet"

PLANS: dict[str, dict[str, Any]] = {
    # Every role, conflicts by page, what the engine logged of them, a layout.
    "bank": {
        "scenario": "bank", "params": {"rows": 40, "think_us": 100}, "database": "libsql",
        "write_engine": "sqlite-concurrent", "begin": "concurrent", "writers": 2, "readers": 1,
        "checkpointers": 1, "checkpoint_pause_ms": 3,
    },
    # A history, and refused upgrades.
    "append": {
        "scenario": "append", "params": {"rows": 3}, "database": "libsql", "begin": "deferred",
        "writers": 2,
    },
    # Conflicts by row; all workers in one process.
    "counter": {
        "scenario": "counter", "params": {"rows": 2, "think_us": 300, "think": "sleep"},
        "database": "turso", "begin": "concurrent", "writers": 3,
    },
    # Open loops of both roles, faster than they are served.
    "register": {
        "scenario": "register", "params": {"rows": 50, "mix": "F"}, "database": "sqlite-concurrent",
        "begin": "concurrent", "writers": 2, "readers": 1, "rate": 400, "read_rate": 100,
        "retry": {"policy": "none"},
    },
    # A scenario of the user's own.
    "wallet": {"scenario": WALLET, "params": {"rows": 3}, "database": "sqlite", "writers": 2},
}  # fmt: skip


def main() -> None:
    trust(WALLET)
    with tempfile.TemporaryDirectory() as room:
        for seed, (name, values) in enumerate(PLANS.items(), 1):
            limit = {} if "rate" in values else {"transactions": 40}
            plan = make_plan(**values, **limit, duration_s=0.4, warmup_s=0.0, seed=seed)
            made = run(plan, Path(room), name=name, command=f"cwkit run --seed {seed}")
            assert made.manifest.ok, (made.manifest.ended, made.manifest.findings)
            shutil.rmtree(FOLDERS / name, ignore_errors=True)
            shutil.copytree(made.folder, FOLDERS / name)
            _from_nowhere(FOLDERS / name / MANIFEST, room)


def _from_nowhere(path: Path, room: str) -> None:
    """Nothing of the machine that it was made on."""
    manifest = json.loads(path.read_text(encoding="utf-8").replace(room, "runs"))
    manifest["machine"] |= {"id": "0123456789ab", "cpu": "A CPU", "kernel": "Linux 6.1"}
    write_json(path, manifest)


if __name__ == "__main__":
    main()
