"""How sure a figure is: bootstrap intervals of ratios, and whether two runs differ over the same samples.

Every figure is a ratio of sums over samples,

    value = sum_i numerator_i / sum_i denominator_i

(errors over words, right answers over answers, seconds over seconds), so that samples are resampled as pairs, never
rates. Bootstrap: Efron & Tibshirani 1993, chapters 13 (percentile interval) and 16; error rates of speech recognition:
Bisani & Ney, ICASSP 2004. Shares of yes and no have Wilson's interval (JASA 22, 1927), since the bootstrap of "all
right" is a single point. Figures that are another formula of sums over samples (BLEU) are resampled all the same:
sums are drawn, and the formula is applied to each draw (Koehn, EMNLP 2004).
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]
OfSums = Callable[[Sequence[float]], float]

RESAMPLES = 2000
PERMUTATIONS = 10000
_EXACT_UP_TO = 12  # samples: all 4096 exchanges are tried
_AT_ONCE = 2**21  # drawn numbers held in memory
_Z95 = 1.959963984540054


@dataclass(frozen=True)
class Interval:
    """A 95 % interval, ends included."""

    low: float
    high: float


@dataclass(frozen=True)
class Difference:
    """The second run's figure minus the first one's.

    Attributes:
        value: value of the figures over the same samples.
        interval: interval of the difference, samples resampled as pairs.
        p: two-sided; how often exchanging the runs' results at random, sample by sample, differs at least as much.
    """

    value: float
    interval: Interval
    p: float


def ratio(numerators: Vector, denominators: Vector) -> float:
    """sum / sum; where the denominators sum to 0, the numerators' sum (as jiwer has it: words where none were said).

    Args:
        numerators: (N,)
        denominators: (N,), none below 0.
    """
    return float(_ratios(numerators.sum(), denominators.sum()))


def interval(numerators: Vector, denominators: Vector, seed: int = 0, resamples: int = RESAMPLES) -> Interval:
    """The 95 % interval of `ratio`: Wilson's for shares of yes and no, else percentiles of the bootstrap.

    Args:
        numerators: (N,)
        denominators: (N,), none below 0.
        seed: seed of the draws.
        resamples: how many sets of N samples are drawn.

    Raises:
        ValueError: no sample, or vectors of different lengths.
    """
    _check(numerators, denominators)
    if _is_share(numerators, denominators):
        return _wilson(float(numerators.sum()), len(numerators))
    return bootstrap(numerators, denominators, seed, resamples)


def bootstrap(numerators: Vector, denominators: Vector, seed: int = 0, resamples: int = RESAMPLES) -> Interval:
    """The same by the bootstrap alone: for points and seconds, of which a sample may have 0 or 1 by chance."""
    _check(numerators, denominators)
    draws = _resampled(np.stack([numerators, denominators], axis=1), seed, resamples)
    return _percentiles(_ratios(draws[:, 0], draws[:, 1]))


def difference(first: tuple[Vector, Vector], second: tuple[Vector, Vector], seed: int = 0) -> Difference:
    """How the second run's figure differs from the first one's over the same samples.

    The p-value is McNemar's exact one for shares of yes and no, else that of a permutation test (all exchanges up to
    12 samples, 10 000 random ones beyond).

    Args:
        first: numerators and denominators, (N,) each.
        second: the same of the other run, samples in the same order.
        seed: seed of the draws.

    Raises:
        ValueError: no sample, or vectors of different lengths.
    """
    _check(*first, *second)
    table = np.stack([*first, *second], axis=1)
    draws = _resampled(table, seed, RESAMPLES)
    spread = _ratio_differences(draws)
    value = ratio(*second) - ratio(*first)
    if _is_share(*first) and _is_share(*second):
        p = mcnemar(int((second[0] > first[0]).sum()), int((second[0] < first[0]).sum()))
    else:
        p = _exchanged(table, value, seed, _ratio_differences)
    return Difference(value, _percentiles(spread), p)


def interval_of(formula: OfSums, sums: Vector, seed: int = 0, resamples: int = RESAMPLES) -> Interval:
    """The 95 % interval of a formula of sums over samples: percentiles of the bootstrap.

    Args:
        formula: formula of K sums.
        sums: (N, K), each sample's part.
        seed: seed of the draws.
        resamples: how many sets of N samples are drawn.

    Raises:
        ValueError: no sample.
    """
    _check(sums)
    return _percentiles(_applied(formula, _resampled(sums, seed, resamples)))


def difference_of(formula: OfSums, first: Vector, second: Vector, seed: int = 0) -> Difference:
    """How the second run's figure differs from the first one's, as `difference`, for a formula of sums.

    Args:
        formula: formula of K sums.
        first: (N, K), each sample's part.
        second: the same of the other run, samples in the same order.
        seed: seed of the draws.

    Raises:
        ValueError: no sample, or tables of different lengths.
    """
    _check(first, second)
    terms = first.shape[1]

    def differences(sums: Vector) -> Vector:
        return _applied(formula, sums[:, terms:]) - _applied(formula, sums[:, :terms])

    table = np.concatenate([first, second], axis=1)
    value = float(differences(table.sum(axis=0)[None])[0])
    spread = differences(_resampled(table, seed, RESAMPLES))
    return Difference(value, _percentiles(spread), _exchanged(table, value, seed, differences))


def mcnemar(wins: int, losses: int) -> float:
    """Two-sided exact p-value of `wins` against `losses` under a fair coin; ties are not given (McNemar 1947)."""
    tosses = wins + losses
    tail = sum(math.comb(tosses, k) for k in range(min(wins, losses) + 1))
    return min(1.0, 2 * tail / 2**tosses)


def _exchanged(table: Vector, value: float, seed: int, differences: Callable[[Vector], Vector]) -> float:
    """Share of exchanges of the runs' results (N, 2 K) whose figures differ by at least `value`."""
    samples = len(table)
    swapped = np.roll(table, table.shape[1] // 2, axis=1)
    if samples <= _EXACT_UP_TO:
        chosen = (np.arange(2**samples)[:, None] >> np.arange(samples)) & 1
        return float(np.mean(_at_least(differences(_sums(chosen, table, swapped)), value)))
    draw = np.random.default_rng(seed)
    extreme, step = 0, max(1, _AT_ONCE // samples)
    for first in range(0, PERMUTATIONS, step):
        chosen = draw.integers(0, 2, (min(step, PERMUTATIONS - first), samples))
        extreme += int(_at_least(differences(_sums(chosen, table, swapped)), value).sum())
    return (1 + extreme) / (1 + PERMUTATIONS)


def _sums(chosen: NDArray[np.int64], table: Vector, swapped: Vector) -> Vector:
    """(P, N) exchanges -> (P, 2 K) sums."""
    return table.sum(0) + chosen @ (swapped - table)


def _ratio_differences(sums: Vector) -> Vector:
    return _ratios(sums[:, 2], sums[:, 3]) - _ratios(sums[:, 0], sums[:, 1])


def _applied(formula: OfSums, sums: Vector) -> Vector:
    return np.array([formula(row) for row in sums], dtype=np.float64)


def _at_least(differences: Vector, value: float) -> NDArray[np.bool_]:
    return np.abs(differences) >= abs(value) - 1e-12


def _resampled(table: Vector, seed: int, resamples: int) -> Vector:
    """(N, K) -> (resamples, K) sums over N rows drawn with replacement."""
    draw, samples = np.random.default_rng(seed), len(table)
    step = max(1, _AT_ONCE // samples)
    sums = [
        table[draw.integers(0, samples, (min(step, resamples - first), samples))].sum(axis=1)
        for first in range(0, resamples, step)
    ]
    return np.concatenate(sums)


def _ratios(numerators: Vector, denominators: Vector) -> Vector:
    return numerators / np.where(denominators == 0, 1.0, denominators)


def _percentiles(values: Vector) -> Interval:
    low, high = np.percentile(values, [2.5, 97.5])
    return Interval(float(low), float(high))


def _wilson(right: float, samples: int) -> Interval:
    share, z2 = right / samples, _Z95**2
    centre = (share + z2 / (2 * samples)) / (1 + z2 / samples)
    half = _Z95 / (1 + z2 / samples) * math.sqrt(share * (1 - share) / samples + z2 / (4 * samples**2))
    low, high = max(0.0, centre - half), min(1.0, centre + half)
    return Interval(min(low, share), max(high, share))  # of none or all right, the end is the share but for rounding


def _is_share(numerators: Vector, denominators: Vector) -> bool:
    return bool(np.all(denominators == 1) and np.all((numerators == 0) | (numerators == 1)))


def _check(*vectors: Vector) -> None:
    lengths = {len(vector) for vector in vectors}
    if len(lengths) != 1 or 0 in lengths:
        raise ValueError(f"need vectors of one length, at least one sample; got {[len(v) for v in vectors]}")
