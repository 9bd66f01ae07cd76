"""What is drawn: blocks of a machine that wanders and stalls, and runs whose attempts cluster."""

from __future__ import annotations

import math

import numpy as np
from scipy.signal import lfilter

NOISE = 0.03
"""How far two runs of one arm in one block differ, as a standard deviation of logarithms."""

NOISES = ("even", "heavy tails", "drift", "stalls")
"""even : normal. heavy tails : Student's with 3 degrees of freedom, as wide. drift : the machine
slows down by a tenth over the blocks' hours and by 2 % within each block. stalls : one run of ten
makes half."""


def logs(rng: np.random.Generator, noise: str, arms: int, blocks: int) -> np.ndarray:
    """Log rates of arms that are all alike, shape (arms, blocks): day and noise, nothing else."""
    day = rng.normal(0, 0.1, blocks)
    own = rng.normal(0, NOISE, (arms, blocks))
    if noise == "heavy tails":
        own = rng.standard_t(3, (arms, blocks)) * NOISE / math.sqrt(3)
    if noise == "drift":
        day = day - np.linspace(0, 0.1, blocks)
        turns = np.argsort(rng.random((arms, blocks)), axis=0)  # the arms' order in each block
        own = own - 0.02 * turns / max(arms - 1, 1)
    if noise == "stalls":
        own = own - math.log(2) * (rng.random((arms, blocks)) < 0.1)
    return np.asarray(day + own)


def refusals(
    rng: np.random.Generator, rate: float, batches: int, attempts: int, near: int
) -> np.ndarray:
    """Refused attempts of each batch of a run, shape (batches,): `near` neighbours share a chance
    to be refused that differs from the next ones' as an exponential does.
    """
    stretches = batches * attempts // near
    chance = np.minimum(rng.exponential(rate, stretches), 1.0)
    return np.asarray(rng.binomial(near, chance).reshape(batches, -1).sum(axis=1))


def latencies(rng: np.random.Generator, n: int, likeness: float) -> np.ndarray:
    """Log-normal latencies, shape (n,), each like the one before it; their marginal is always the
    same.
    """
    steps = rng.normal(size=n + 200)
    level = lfilter([math.sqrt(1 - likeness**2)], [1, -likeness], steps)
    return np.asarray(np.exp(level[200:]))
