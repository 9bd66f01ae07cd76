"""The random numbers and hashes of pgbench's scripts, bit by bit as PostgreSQL 15 makes them.

Source: src/bin/pgbench/pgbench.c and src/common/pg_prng.c of PostgreSQL 15. The generator is small
to seed, so each transaction has one of its own: a retry begins it again and draws the same.
"""

from __future__ import annotations

import math

M64 = (1 << 64) - 1
LOWEST, HIGHEST = -(1 << 63), (1 << 63) - 1

MOST_ZIPFIAN, LEAST_ZIPFIAN = 1000.0, 1.001
LEAST_GAUSSIAN = 2.0


class Random:
    """xoroshiro128** with a state made of a 64-bit seed by splitmix64."""

    __slots__ = ("s0", "s1")

    def __init__(self, seed: int) -> None:
        self.seed(seed)

    def seed(self, seed: int) -> None:
        seed = (seed + 0x9E3779B97F4A7C15) & M64
        self.s0 = _mixed(seed)
        self.s1 = _mixed((seed + 0x9E3779B97F4A7C15) & M64)
        if not self.s0 and not self.s1:  # the one state that it would never leave
            self.s0, self.s1 = 0x5851F42D4C957F2D, 0x14057B7EF767814F

    def bits(self) -> int:
        """64 random bits."""
        s0 = self.s0
        sx = self.s1 ^ s0
        value = s0 * 5 & M64
        value = (value << 7 | value >> 57) * 9 & M64
        self.s0 = ((s0 << 24 | s0 >> 40) ^ sx ^ sx << 16) & M64
        self.s1 = (sx << 37 | sx >> 27) & M64
        return value

    def double(self) -> float:
        """In [0, 1)."""
        return math.ldexp(self.bits() >> 12, -52)

    def within(self, low: int, high: int) -> int:
        """A whole number, both ends included."""
        spread = high - low
        if spread <= 0:
            return low
        shift = 64 - spread.bit_length()
        while (value := self.bits() >> shift) > spread:
            pass
        return low + value


def _mixed(value: int) -> int:
    value = (value ^ value >> 30) * 0xBF58476D1CE4E5B9 & M64
    value = (value ^ value >> 27) * 0x94D049BB133111EB & M64
    return value ^ value >> 31


def exponential(random: Random, low: int, high: int, parameter: float) -> int:
    cut = math.exp(-parameter)
    uniform = 1.0 - random.double()
    share = -math.log(cut + (1.0 - cut) * uniform) / parameter
    return low + int((high - low + 1) * share)


def gaussian(random: Random, low: int, high: int, parameter: float) -> int:
    while True:
        one, two = 1.0 - random.double(), 1.0 - random.double()
        deviation = math.sqrt(-2.0 * math.log(one)) * math.sin(2.0 * math.pi * two)
        if -parameter <= deviation < parameter:
            break
    return low + int((high - low + 1) * ((deviation + parameter) / (parameter * 2.0)))


def zipfian(random: Random, low: int, high: int, parameter: float) -> int:
    """By rejection: Devroye, Non-Uniform Random Variate Generation, pages 550 and 551."""
    n = high - low + 1
    if n <= 1:
        return low
    b = math.pow(2.0, parameter - 1.0)
    while True:
        u, v = random.double(), random.double()
        if u == 0.0:
            continue
        try:
            x = math.floor(math.pow(u, -1.0 / (parameter - 1.0)))
        except OverflowError:  # beyond every table
            continue
        t = math.pow(1.0 + 1.0 / x, parameter - 1.0)
        if v * x * (t - 1.0) / (b - 1.0) <= t / b and x <= n:
            return low - 1 + x


def signed(value: int) -> int:
    """64 bits as a signed number.

    >>> signed(2**64 - 1)
    -1
    """
    value &= M64
    return value - (1 << 64) if value > HIGHEST else value


def fnv1a(value: int, seed: int) -> int:
    result = 0xCBF29CE484222325 ^ seed & M64
    for _ in range(8):
        result = (result ^ value & 0xFF) * 0x100000001B3 & M64
        value >>= 8
    return signed(result)


def murmur2(value: int, seed: int) -> int:
    multiplier = 0xC6A4A7935BD1E995
    result = seed & M64 ^ 0x35253C9ADE8F4CA8
    k = (value & M64) * multiplier & M64
    k = (k ^ k >> 47) * multiplier & M64
    result = (result ^ k) * multiplier & M64
    result = (result ^ result >> 47) * multiplier & M64
    return signed(result ^ result >> 47)


def permute(value: int, size: int, seed: int) -> int:
    """The place of a number in a permutation of 0 to size - 1, which the seed chooses."""
    if size < 2:
        return 0
    random = Random(seed & M64)
    v = (value & M64) % size
    bits = size.bit_length() - 1
    mask = (1 << bits) - 1
    for _ in range(6):
        m, r = random.bits() & mask | 1, random.bits() & mask
        if v <= mask:
            v = (v * m ^ r) & mask
            v = v << 1 & mask | v >> bits - 1
        m, r = random.bits() & mask | 1, random.bits() & mask
        t = size - 1 - v
        if t <= mask:
            t = (t * m ^ r) & mask
            t = t << 1 & mask | t >> bits - 1
            v = size - 1 - t
        v = (v + random.within(0, size - 1)) % size
    return v
