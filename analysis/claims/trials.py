"""A trial, counted: medians of its blocks, their ratios, and why blocks are missing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from analysis.claims.sentence import Sentence, sentence
from analysis.counting import FOREIGN_LIMIT
from analysis.statistics import Estimate, Ratio, median_of_blocks, ratio_over_blocks
from analysis.wording import percent, times
from workloads.errors import RunError
from workloads.files import inside
from workloads.trials import read

TRIALS = "trials"
"""The trials' folder in a report's folder."""

OLDER = {"replica": "served"}
"""Trial -> its folder in the folders of older reports."""


@dataclass(frozen=True)
class Trial:
    """A trial.

    problem : why nothing was measured, with the way out; false where something was.
    place : its folder, within the report's. manifest : as it is on disk.
    ns : arm -> int64, shape (blocks, repetitions, numbers), usable blocks. rows : what is no time.
    dropped : why blocks are missing.
    """

    problem: Sentence
    place: str = ""
    manifest: Mapping[str, Any] = field(default_factory=dict)
    ns: Mapping[str, np.ndarray] = field(default_factory=dict)
    rows: Sequence[Sequence[Mapping[str, Any]]] = ()
    dropped: tuple[str, ...] = ()

    @property
    def broken(self) -> list[str]:
        """Checks that did not hold."""
        checks = self.manifest.get("checks", [])
        return [f"{each['check']}: {each['said']}" for each in checks if not each["ok"]]

    @property
    def blocks(self) -> int:
        return len(self.rows)

    def each(self, arm: str) -> np.ndarray:
        """Block -> the median over its repetitions of a whole call, ns; shape (blocks,)."""
        return np.asarray(np.median(self.ns[arm].sum(axis=2), axis=1))

    def estimate(self, arm: str) -> Estimate:
        """A whole call's median, ns."""
        return median_of_blocks(self.each(arm), dropped=self.dropped)

    def ratio(self, over: str, under: str) -> Ratio:
        """`over` / `under` over blocks."""
        return self.ratio_of(self.each(over), self.each(under), over, under)

    def ratio_of(self, tops: np.ndarray, bottoms: np.ndarray, over: str, under: str) -> Ratio:
        """The ratio of two series over blocks, shape (blocks,) each."""
        top, bottom = (dict(enumerate(each.tolist())) for each in (tops, bottoms))
        return ratio_over_blocks(top, bottom, candidate=over, baseline=under, dropped=self.dropped)


NOT_THERE = Trial(
    sentence("these runs were made without it: `cwkit claims` or `cwkit report` measures it.")
)


def trial_folder(report: Path, name: str) -> Path:
    """The folder of a trial in a report's folder: where it is, or would be.

    Raises RunError where a link there leads out of the report's folder.
    """
    folder = inside(inside(report, TRIALS), name)
    older = inside(report, OLDER.get(name, TRIALS))
    return older if name in OLDER and not folder.exists() and older.exists() else folder


def read_trial(report: Path, name: str, limit: float = FOREIGN_LIMIT) -> Trial:
    """Read a trial in a report's folder. A cut folder gives a problem, not an error.

    limit : share of the machine's CPU time that others may use in a block, in [0, 1].
    """
    place = f"{TRIALS}/{name}"
    try:
        folder = trial_folder(report, name)
        place = folder.relative_to(report).as_posix()
        measured = read(folder)
    except RunError as error:
        why = str(error).rstrip(".")
        return Trial(sentence("{}; `cwkit report` measures it anew.", why), place)
    if not measured.manifest:
        return NOT_THERE
    manifest = dict(measured.manifest)
    if not measured.blocks:
        why = str(manifest.get("failure") or "it was cut").rstrip(".")
        if manifest.get("ended") == "missing":
            return Trial(sentence("{}.", why), place, manifest)
        return Trial(sentence("{}; `cwkit report --into` tries again.", why), place, manifest)
    dropped, keep = [], []
    for block, foreign in enumerate(measured.foreign):
        share = max(foreign.cpu_share, foreign.steal_share)
        usable_one = share <= limit or not manifest.get("timed", True)
        keep.append(usable_one)
        if not usable_one:
            dropped.append(f"block {block}: others used {percent(share)} of the CPU time")
    if not any(keep):
        return Trial(
            sentence(
                "others used more than {} of the machine's CPU time in each of its {}; close "
                "other programs, or allow them with `--foreign-limit SHARE`.",
                percent(limit),
                times(len(keep), "block"),
            ),
            place,
            manifest,
            dropped=tuple(dropped),
        )
    usable = np.array(keep)
    ns = {arm: each[usable] for arm, each in measured.ns.items()}
    rows = [rows for rows, kept in zip(measured.rows, keep, strict=True) if kept]
    return Trial(Sentence(), place, manifest, ns, rows, tuple(dropped))
