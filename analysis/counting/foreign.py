"""Whether others used the machine while a run was measured: its numbers are doubtful then, are
shown with a mark and the reason, and decide no claim.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from analysis.wording import percent

if TYPE_CHECKING:
    from workloads.records import Manifest

FOREIGN_LIMIT = 0.05
"""Share of the machine's CPU time that others may use in the measured window (foreign programs,
or the host as steal) before a cell is contaminated and its block dropped."""

DOUBTFUL = "‡"
"""The mark of a number that is shown and is no evidence."""


def contamination(manifest: Manifest, limit: float = FOREIGN_LIMIT) -> str:
    """Why a run may not be used for a rate, "" if it may: others used more of the machine's CPU
    time than `limit`, a share in [0, 1].
    """
    foreign = manifest.foreign
    for share, who in (
        (foreign.cpu_share, "other programs"),
        (foreign.steal_share, "the host"),
    ):
        if share > limit:
            return f"{who} used {percent(share)} of the machine's CPU time"
    return ""
