"""How throughput grows with writers: Gunther's Universal Scalability Law, fitted and judged.

X(N) = lambda N / (1 + sigma (N - 1) + kappa N (N - 1)). lambda is one writer's throughput, sigma
the share of the work that only one can do at a time (contention), kappa what each pair of writers
costs the others (coherency); with kappa above 0 more writers are slower beyond some N. A fit is a
description of the points it was made from. Source: Gunther, "Guerrilla Capacity Planning", 2007,
chapters 4 to 6; Gunther, "A General Theory of Computational Scalability", arXiv:0808.1431.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import least_squares

from analysis.counting import Arm, Measure, Measured, throughput
from analysis.statistics import FEWEST_BLOCKS, Estimate
from analysis.wording import Table, arm_label, listed, number, percent

FEWEST_N = 6
"""Different numbers of writers for a fit: three parameters go through any three points, and the
few that remain must be able to disagree (Gunther 2007, 5.7, asks for at least six)."""

RESAMPLES = 500
ON_BOUND = 1e-6
"""sigma and kappa closer than this to a bound are on it."""


class Usl(NamedTuple):
    """The law's parameters: lambda in transactions a second, sigma in [0, 1], kappa >= 0."""

    lam: float
    sigma: float
    kappa: float

    def at(self, writers: ArrayLike) -> np.ndarray:
        """Throughput at each number of writers, float array.

        >>> Usl(100, 0.0, 0.0).at([1, 4]).tolist()
        [100.0, 400.0]
        """
        n = np.asarray(writers, float)
        found: np.ndarray = self.lam * n / (1 + self.sigma * (n - 1) + self.kappa * n * (n - 1))
        return found

    @property
    def peak(self) -> float:
        """The N, 1 or more, at which the curve is highest: sqrt((1 - sigma) / kappa); inf without.

        >>> round(Usl(100, 0.19, 0.0009).peak), Usl(100, 1.0, 0.01).peak
        (30, 1.0)
        """
        return max(math.sqrt((1 - self.sigma) / self.kappa), 1.0) if self.kappa > 0 else math.inf


def fit(writers: ArrayLike, per_s: ArrayLike) -> Usl:
    """The law that fits best: least squares of (fitted - seen) / seen, sigma and kappa bounded.

    writers, per_s : floats above 0, shape (points,). Raises ValueError for fewer than FEWEST_N
    different numbers of writers, and for a throughput of 0, which has no relative residual.
    """
    n, seen = np.asarray(writers, float), np.asarray(per_s, float)
    if len(np.unique(n)) < FEWEST_N:
        raise ValueError(f"{len(np.unique(n))} different numbers of writers: it takes {FEWEST_N}.")
    if not (seen > 0).all():
        raise ValueError("a throughput of 0 has no relative residual")
    # N / X = a + b (N - 1) + c N (N - 1) is linear: where the search begins.
    terms = np.stack([np.ones_like(n), n - 1, n * (n - 1)], axis=1) * (seen / n)[:, None]
    a, b, c = np.linalg.lstsq(terms, np.ones_like(n), rcond=None)[0]
    scale = float(np.max(seen / n))
    lam = 1 / a if a > 0 else scale
    start = [
        lam / scale,
        float(np.clip(b * lam, 1e-3, 1 - 1e-3)),
        float(np.clip(c * lam, 1e-6, None)),
    ]

    def residuals(p: np.ndarray) -> np.ndarray:
        return scale * p[0] * n / (1 + p[1] * (n - 1) + p[2] * n * (n - 1)) / seen - 1

    found = least_squares(
        residuals,
        start,
        bounds=([1e-9, 0, 0], [np.inf, 1, np.inf]),
        x_scale=[1, 0.1, 0.01],
        ftol=1e-12,
        xtol=1e-12,
        gtol=1e-12,
    )
    lam, sigma, kappa = (float(x) for x in found.x)
    # The search stays inside its bounds by a hair; on them the law is a simpler one.
    sigma = 0.0 if sigma < ON_BOUND else 1.0 if sigma > 1 - ON_BOUND else sigma
    return Usl(scale * lam, sigma, 0.0 if kappa < ON_BOUND else kappa)


@dataclass(frozen=True)
class Scaling:
    """One way to write, at several numbers of writers.

    label, look : as the charts have them. arms : N -> the experiment's arm.
    points      : N -> throughput over blocks. why : why there is no fit, "" where there is one.
    law         : the fit to the medians of the points. lam, sigma, kappa, peak : its parameters
        with their bootstrap intervals over blocks; peak may be infinite.
    error_median, error_max : |fitted - median seen| / median seen over the points.
    on_bound    : sentences, which parameters are at the edge of what they may be.
    cores       : of the machine.
    """

    label: str
    look: tuple[str, str]
    arms: Mapping[int, str]
    points: Mapping[int, Estimate]
    why: str
    law: Usl | None = None
    lam: Estimate | None = None
    sigma: Estimate | None = None
    kappa: Estimate | None = None
    peak: Estimate | None = None
    error_median: float = math.nan
    error_max: float = math.nan
    on_bound: tuple[str, ...] = ()
    cores: int = 0

    def peak_text(self) -> str:
        """Where more writers stop helping, or "none within" the numbers measured."""
        if self.law is None or self.peak is None:
            return "—"
        least, most = min(self.points), max(self.points)
        if self.law.peak > most:
            text = f"none within {least} to {most} writers"
            if self.peak.known and self.peak.low <= most:
                return f"{text} (95 %: from {number(self.peak.low)})"
            return text
        text = number(self.law.peak)
        if self.law.peak == 1 and (not self.peak.known or self.peak.high == 1):
            return "1: more writers only cost"
        if not self.peak.known:
            return text
        high = number(self.peak.high) if self.peak.high <= most else f"beyond {most}"
        return f"{text} [{number(self.peak.low)}, {high}]"

    def caution(self) -> str:
        """The limits of the fit on this machine."""
        if self.cores >= max(self.points, default=0):
            return (
                f"The machine has {self.cores} cores, one for each writer: the curve describes "
                "these points, and beyond the last of them nothing was measured."
            )
        cores = f"{self.cores} core" + ("" if self.cores == 1 else "s")
        return (
            f"The machine has {cores}, and up to {max(self.points, default=0)} writers share them: "
            "the curve describes these points and does not predict another machine's, for what "
            "looks like contention here is largely waiting for a core."
        )


def scalings(measured: Measured, measure: Measure | None = None) -> list[Scaling]:
    """A fit for each family of arms that differ in the number of writers only.

    measure : what is fitted (default: writers' committed transactions a second). Families of one
    arm are none. Where two arms ask for exactly the same (an A/A control), the first counts.
    """
    families: dict[str, dict[int, Arm]] = {}
    for arm in measured.arms.values():
        rest = {name: value for name, value in arm.plan.items() if name not in ("writers", "seed")}
        if arm.writers:
            key = json.dumps(rest, sort_keys=True, default=str)
            families.setdefault(key, {}).setdefault(arm.writers, arm)
    measure = measure or throughput()
    several = [dict(sorted(arms.items())) for arms in families.values() if len(arms) > 1]
    labels = _labels([next(iter(arms.values())) for arms in several])
    return [
        scaling(
            label,
            next(iter(arms.values())).system,
            {n: arm.name for n, arm in arms.items()},
            {n: arm.values(measure) for n, arm in arms.items()},
            {n: arm.estimate(measure) for n, arm in arms.items()},
            _cores(arms.values()),
        )
        for label, arms in zip(labels, several, strict=True)
    ]


def scaling(
    label: str,
    look: tuple[str, str],
    arms: Mapping[int, str],
    values: Mapping[int, Mapping[int, float]],
    points: Mapping[int, Estimate],
    cores: int,
    resamples: int = RESAMPLES,
) -> Scaling:
    """Fit one family. values : N -> block -> throughput.

    The bootstrap draws whole blocks: what the machine did to a block it did to all its points, and
    points drawn one by one would take that for noise of their own. Fewer than FEWEST_BLOCKS blocks
    give no interval, and the parameters' ranges are those of the single blocks' fits.
    """
    seen = {n: points[n] for n in points if points[n].blocks}
    bare = Scaling(label, look, arms, seen, "", cores=cores)
    why = ""
    if len(seen) < FEWEST_N:
        why = (
            f"{len(seen)} different numbers of writers have runs that can be used "
            f"({listed([str(n) for n in seen]) or 'none'}): the law has three parameters, and a "
            f"fit takes at least {FEWEST_N}."
        )
    elif not all(min(values[n].values()) > 0 for n in seen):
        why = "Some points committed nothing, and a throughput of 0 has no relative residual."
    if why:
        return _with(bare, why=why)
    n = np.array(list(seen), float)
    medians = np.array([seen[count].value for count in seen])
    law = fit(n, medians)
    off = np.abs(law.at(n) - medians) / medians
    blocks = sorted(set.intersection(*(set(values[count]) for count in seen)))
    table = np.array([[values[count][block] for count in seen] for block in blocks])
    singles = [fit(n, row) for row in table]
    rng = np.random.default_rng([21, len(blocks)])
    drawn = [
        fit(n, np.median(table[rng.integers(0, len(blocks), len(blocks))], axis=0))
        for _ in range(resamples if len(blocks) >= FEWEST_BLOCKS else 0)
    ]
    return _with(
        bare,
        law=law,
        **{
            name: _estimate(name, law, singles, drawn) for name in ("lam", "sigma", "kappa", "peak")
        },
        error_median=float(np.median(off)),
        error_max=float(off.max()),
        on_bound=_on_bound(law),
    )


def _estimate(name: str, law: Usl, singles: Sequence[Usl], drawn: Sequence[Usl]) -> Estimate:
    low = high = math.nan
    if drawn:
        spread = [getattr(one, name) for one in drawn]
        # "nearest": between a peak and none there is no number.
        low, high = (float(x) for x in np.quantile(spread, [0.025, 0.975], method="nearest"))
    value = float(getattr(law, name))
    each = np.array([getattr(one, name) for one in singles], float)
    return Estimate(value, low, high, each)


def _on_bound(law: Usl) -> tuple[str, ...]:
    notes = []
    if law.sigma == 0:
        notes.append("sigma is on its bound 0: no contention is seen")
    if law.sigma == 1:
        notes.append("sigma is on its bound 1: one writer at a time, more only share it")
    if law.kappa == 0:
        notes.append("kappa is on its bound 0: no loss by coherency is seen, and no maximum")
    return tuple(notes)


def _with(bare: Scaling, **more: Any) -> Scaling:
    return Scaling(**{**bare.__dict__, **more})


def _cores(arms: Iterable[Arm]) -> int:
    for arm in arms:
        for cell in arm.usable:
            return (cell.manifest.machine.cores if cell.manifest else 0) or 0
    return 0


def _labels(arms: Sequence[Arm]) -> list[str]:
    """Engine and BEGIN mode of each family, and in what else the families differ."""
    plans = [_flat(arm.plan) for arm in arms]
    names = dict.fromkeys(name for plan in plans for name in plan)
    labelled = ("write_engine", "begin", "database", "writers", "seed", "read_engine",
            "checkpoint_engine")  # fmt: skip
    differ = [
        name
        for name in names
        if name not in labelled and len({json.dumps(plan.get(name)) for plan in plans}) > 1
    ]
    labels = []
    for plan in plans:
        more = [f"{name.rpartition('.')[2]} {plan.get(name)}" for name in differ]
        labels.append(", ".join([arm_label(plan), *more]))
    return labels


def _flat(plan: Mapping[str, Any]) -> dict[str, Any]:
    """A plan with its parameters beside the rest."""
    params = {f"params.{name}": value for name, value in plan.get("params", {}).items()}
    retry = {f"retry.{name}": value for name, value in dict(plan.get("retry") or {}).items()}
    rest = {name: value for name, value in plan.items() if name not in ("params", "retry")}
    return {**rest, **params, **retry}


def scaling_table(found: Sequence[Scaling]) -> Table:
    """The fits, one line a family; what they are not stands below."""
    rows = []
    for one in found:
        if one.law is None or not (one.lam and one.sigma and one.kappa):
            rows.append((one.label, *["—"] * 5, one.why))
            continue
        rows.append(
            (
                one.label,
                one.lam.text(),
                one.sigma.text(),
                one.kappa.text(),
                one.peak_text(),
                f"{percent(one.error_median)} / {percent(one.error_max)}",
                "; ".join(one.on_bound) or "—",
            )
        )
    head = ("how", "λ, tx/s", "σ", "κ", "most at N", "error, median / most", "remarks")
    notes = dict.fromkeys(one.caution() for one in found if one.law is not None)
    return Table(head, rows, " ".join(notes))


__all__ = ["FEWEST_N", "Scaling", "Usl", "fit", "scaling", "scaling_table", "scalings"]
