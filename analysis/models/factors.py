"""Which factor of a sweep decides, and by how much: an analysis of variance of log throughput.

A grid of 72 points answers 72 small questions, each with a few runs. The same runs answer a few
large ones with all of them: how much of what differs is due to the number of writers, to the mode,
to the skew, to the work inside, and to how these depend on each other. Blocks stand as blocks: what
the machine did to one of them is taken out first.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from analysis.counting import Measured, throughput
from analysis.statistics import LEVEL, Ratio, ratio_over_blocks, seed_of
from analysis.wording import DASH, Table, listed, number, percent

SHUFFLES = 999
FEWEST_CELLS = 12
"""With fewer cells a grid has hardly more cells than factors and their interactions."""


@dataclass(frozen=True)
class Term:
    """A factor, or two that depend on each other.

    factors : names of one or two axes. share : of the variance within blocks, in [0, 1]. p : that
        it is chance, for all terms together. low, high : the levels of one factor at which least
        and most is committed; ratio : high / low over otherwise equal points, None for two factors.
    """

    factors: tuple[str, ...]
    share: float
    p: float
    low: Any = None
    high: Any = None
    ratio: Ratio | None = None

    @property
    def name(self) -> str:
        return " × ".join(self.factors)


@dataclass(frozen=True)
class Factors:
    """A sweep's terms, those that decide most first. rest : the share that none explains."""

    terms: tuple[Term, ...]
    rest: float
    cells: int
    blocks: int

    @property
    def held(self) -> list[Term]:
        """Terms that are more than chance."""
        return [term for term in self.terms if term.p <= LEVEL]


@dataclass(frozen=True)
class _Cells:
    """Cells as arrays of one length. y : log throughput. at : axis -> number of the level."""

    y: np.ndarray
    block: np.ndarray
    at: Mapping[str, np.ndarray]
    levels: Mapping[str, Sequence[Any]]


def factors_of(measured: Measured) -> Factors | None:
    """The factors of a sweep; None where it has no two axes, or too few cells for them.

    Log throughput = block + factors + pairs of factors + rest, by least squares. A term's share is
    what the fit loses without it (without its pairs, too, for a factor alone: Yates 1934), of all
    variance within blocks. Its p is from residuals shuffled within blocks (Freedman and Lane 1983),
    times the number of terms. A cell that committed nothing has no logarithm and is left out.
    """
    cells = _cells(measured)
    axes = list(cells.levels)
    if len(axes) < 2 or cells.y.size < FEWEST_CELLS:
        return None
    y, ground = _basis_and_rest(cells)
    names: list[tuple[str, ...]] = [(axis,) for axis in axes]
    names += combinations(axes, 2)
    codes = {name: _columns(cells, name) for name in names}
    total = float(y @ y)
    if total <= 1e-12:
        return None
    full = _basis(np.hstack([ground, *codes.values()]))
    rest = y - full @ (full.T @ y)
    rng = np.random.default_rng(seed_of(measured.seed, measured.name, "factors"))
    shuffled = _shuffles(cells.block, rng)
    terms = [
        _term(measured, cells, name, codes, ground, y, full, shuffled, total) for name in names
    ]
    terms.sort(key=lambda term: -term.share)
    blocks = len(np.unique(cells.block))
    return Factors(tuple(terms), float(rest @ rest) / total, cells.y.size, blocks)


def _cells(measured: Measured) -> _Cells:
    """The usable cells of a grid; A/A twins are no points of it."""
    measure, again = throughput(measured.role), measured.repeated
    found = [
        (block, measured.points[name], math.log(value))
        for name, arm in measured.arms.items()
        if name not in again and name in measured.points and arm.engine != "null"
        for block, value in arm.values(measure).items()
        if value > 0
    ]
    levels = {
        axis: there
        for axis, values in measured.axes.items()
        if len(there := [v for v in values if any(p.get(axis) == v for _, p, _ in found)]) > 1
    }
    return _Cells(
        np.array([y for _, _, y in found]),
        np.array([block for block, _, _ in found], dtype=int),
        {a: np.array([there.index(p[a]) for _, p, _ in found]) for a, there in levels.items()},
        levels,
    )


def _basis_and_rest(cells: _Cells) -> tuple[np.ndarray, np.ndarray]:
    """Log throughput without its blocks' means, and what spans these means."""
    ground = _basis((cells.block[:, None] == np.unique(cells.block)).astype(float))
    return cells.y - ground @ (ground.T @ cells.y), ground


def _columns(cells: _Cells, factors: tuple[str, ...]) -> np.ndarray:
    """A column for each level of a factor, or each pair of levels of two."""
    columns = np.ones((cells.y.size, 1))
    for axis in factors:
        coded = (cells.at[axis][:, None] == np.arange(len(cells.levels[axis]))).astype(float)
        columns = (columns[:, :, None] * coded[:, None, :]).reshape(cells.y.size, -1)
    return columns


def _basis(columns: np.ndarray) -> np.ndarray:
    """Orthonormal columns that span the same; fewer where some are made of others."""
    u, s, _ = np.linalg.svd(columns, full_matrices=False)
    found: np.ndarray = u[:, s > 1e-8]
    return found


def _shuffles(block: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Orders that keep each cell in its block, shape (SHUFFLES, cells)."""
    order = np.tile(np.arange(block.size), (SHUFFLES, 1))
    for one in np.unique(block):
        mine = np.flatnonzero(block == one)
        order[:, mine] = rng.permuted(np.tile(mine, (SHUFFLES, 1)), axis=1)
    return order


def _term(
    measured: Measured,
    cells: _Cells,
    name: tuple[str, ...],
    codes: Mapping[tuple[str, ...], np.ndarray],
    ground: np.ndarray,
    y: np.ndarray,
    full: np.ndarray,
    shuffled: np.ndarray,
    total: float,
) -> Term:
    others = [
        code for other, code in codes.items() if other != name and not set(name) <= set(other)
    ]
    without = _basis(np.hstack([ground, *others]))
    own = _basis(codes[name] - without @ (without.T @ codes[name]))
    left = y - without @ (without.T @ y)
    explained = float(((own.T @ left) ** 2).sum())
    drawn = left[shuffled].T
    drawn = drawn - without @ (without.T @ drawn)
    by_chance = ((own.T @ drawn) ** 2).sum(axis=0)
    rests = (drawn**2).sum(axis=0) - ((full.T @ drawn) ** 2).sum(axis=0)
    rest = float(left @ left) - float(((full.T @ left) ** 2).sum())
    # explained / rest, compared without dividing: a perfect fit has no rest.
    hits = int((by_chance * max(rest, 0.0) >= explained * np.maximum(rests, 0.0)).sum())
    p = min((1 + hits) / (1 + SHUFFLES) * len(codes), 1.0)
    low = high = ratio = None
    if len(name) == 1:
        low, high, ratio = _extremes(measured, cells, name[0], codes, ground)
    return Term(name, explained / total, p, low, high, ratio)


def _extremes(
    measured: Measured,
    cells: _Cells,
    axis: str,
    codes: Mapping[tuple[str, ...], np.ndarray],
    ground: np.ndarray,
) -> tuple[Any, Any, Ratio]:
    """The levels at which least and most is committed, and their ratio over equal points."""
    alone = [(one,) for one in cells.levels if one != axis]
    columns = np.hstack([codes[(axis,)], ground, *(codes[one] for one in alone)])
    fitted = np.linalg.lstsq(columns, cells.y, rcond=None)[0][: len(cells.levels[axis])]
    low, high = int(fitted.argmin()), int(fitted.argmax())
    others = [one for one in cells.levels if one != axis]
    places: dict[tuple[int, ...], dict[int, float]] = {}
    for n, value in enumerate(cells.y):
        key = (int(cells.block[n]), *(int(cells.at[one][n]) for one in others))
        places.setdefault(key, {})[int(cells.at[axis][n])] = float(value)
    by_block: dict[int, list[float]] = {}
    for key, there in places.items():
        if low in there and high in there:
            by_block.setdefault(key[0], []).append(there[high] - there[low])
    tops = {block: math.exp(sum(each) / len(each)) for block, each in by_block.items()}
    names = [str(cells.levels[axis][at]) for at in (high, low)]
    ratio = ratio_over_blocks(tops, dict.fromkeys(tops, 1.0), candidate=names[0], baseline=names[1])
    return cells.levels[axis][low], cells.levels[axis][high], ratio


# --- told -------------------------------------------------------------------------------------


def factors_sentence(found: Factors) -> str:
    """Which factor decides, and by how much, as a sentence."""
    held = found.held
    if not held:
        return (
            f"No factor was seen to decide ({found.cells} runs in {found.blocks} blocks): what "
            "differs is no more than runs of one point differ by."
        )
    first, *others = held
    text = f"{first.name} decides most: {percent(first.share)} of what differs within blocks"
    if len(first.factors) == 2:
        one, other = first.factors
        text = (
            f"No factor decides alone: how {one} acts depends on {other} "
            f"({percent(first.share)} of what differs within blocks)"
        )
    text += _by_how_much(first)
    if others:
        more = [f"{term.name} {percent(term.share)}{_by_how_much(term)}" for term in others[:3]]
        text += f"; then {listed(more)}"
    return f"{text}. {percent(found.rest)} is explained by neither a factor nor a pair of them."


def _by_how_much(term: Term) -> str:
    if term.ratio is None or not term.ratio.blocks:
        return ""
    return f" ({term.ratio.text()} times as much at {term.high} as at {term.low})"


def factors_table(found: Factors) -> Table:
    """The terms, each with its share, its effect and its p."""
    rows = [
        (
            term.name,
            percent(term.share),
            f"{term.high} / {term.low}" if term.ratio else DASH,
            term.ratio.text() if term.ratio and term.ratio.blocks else DASH,
            number(term.p) if term.p < 1 else "1",
        )
        for term in found.terms
    ]
    rows.append(("neither", percent(found.rest), DASH, DASH, DASH))
    return Table(
        ("factor", "of the variance within blocks", "most / least", "times as much", "p"),
        rows,
        "Log throughput by least squares, blocks taken out. A ratio is over points that are equal "
        "in everything else; p is from runs shuffled within their blocks, for all rows together.",
    )


__all__ = ["Factors", "Term", "factors_of", "factors_sentence", "factors_table"]
