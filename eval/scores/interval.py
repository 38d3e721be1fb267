"""How sure a figure is: bootstrap intervals of ratios, and whether two runs differ over the same samples.

Every figure is a ratio of sums over samples,

    value = sum_i numerator_i / sum_i denominator_i

(errors over words, right answers over answers, seconds over seconds). So samples are resampled as pairs, never rates.

    interval     percentiles of the bootstrap, by scipy (Efron & Tibshirani 1993, chapter 13; Bisani & Ney, ICASSP 2004)
    of shares    Wilson's interval, by scipy (JASA 22, 1927): the bootstrap of "all right" is a single point
    p-value      permutation test that exchanges the runs' results sample by sample
    of shares    McNemar's exact test, by scipy

Figures that are another formula of sums over samples (BLEU) are resampled all the same: sums are drawn, and the formula
is applied to each draw (Koehn, EMNLP 2004).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Vector = NDArray[np.float64]
OfSums = Callable[[Sequence[float]], float]
Statistic = Callable[..., Any]  # of columns and the axis over which samples lie

RESAMPLES = 2000
PERMUTATIONS = 10000
_EXACT_UP_TO = 12  # samples: all 4096 exchanges are tried
_AT_ONCE = 2**21  # drawn numbers held in memory


@dataclass(frozen=True)
class Interval:
    """A 95 % interval, ends included."""

    low: float
    high: float


@dataclass(frozen=True)
class Difference:
    """The second run's figure minus the first one's.

    Attributes:
        value: difference of the figures over the same samples.
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
    return float(_ratio(numerators, denominators, axis=-1))


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
    if not _is_share(numerators, denominators):
        return bootstrap(numerators, denominators, seed, resamples)
    found = stats.binomtest(round(numerators.sum()), len(numerators)).proportion_ci(0.95, "wilson")
    return Interval(float(found.low), float(found.high))


def bootstrap(numerators: Vector, denominators: Vector, seed: int = 0, resamples: int = RESAMPLES) -> Interval:
    """The same by the bootstrap alone: for points and seconds, of which a sample may have 0 or 1 by chance."""
    _check(numerators, denominators)
    return _resampled((numerators, denominators), _ratio, seed, resamples)


def difference(first: tuple[Vector, Vector], second: tuple[Vector, Vector], seed: int = 0) -> Difference:
    """How the second run's figure differs from the first one's over the same samples.

    Args:
        first: numerators and denominators, (N,) each.
        second: the same of the other run, samples in the same order.
        seed: seed of the draws.

    Raises:
        ValueError: no sample, or vectors of different lengths.
    """
    _check(*first, *second)
    columns = (*first, *second)
    value, spread = _change(columns, _ratio), _resampled(columns, _differing(_ratio), seed, RESAMPLES)
    if _is_share(*first) and _is_share(*second):
        return Difference(value, spread, mcnemar(int((second[0] > first[0]).sum()), int((second[0] < first[0]).sum())))
    return Difference(value, spread, _exchanged(columns, _ratio, seed))


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
    return _resampled(tuple(sums.T), _applied(formula), seed, resamples)


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
    columns, statistic = (*first.T, *second.T), _applied(formula)
    spread = _resampled(columns, _differing(statistic), seed, RESAMPLES)
    return Difference(_change(columns, statistic), spread, _exchanged(columns, statistic, seed))


def mcnemar(wins: int, losses: int) -> float:
    """Two-sided exact p-value of `wins` against `losses` under a fair coin; ties are not given (McNemar 1947)."""
    return float(stats.binomtest(wins, wins + losses).pvalue) if wins + losses else 1.0


def _resampled(columns: Sequence[Vector], statistic: Statistic, seed: int, resamples: int) -> Interval:
    """Percentiles of a statistic of columns (N,), whose rows are drawn together."""
    if len(columns[0]) == 1:  # of which every draw is the same, and scipy wants two
        only = float(statistic(*columns, axis=-1))
        return Interval(only, only)
    found = stats.bootstrap(
        tuple(columns),
        statistic,
        paired=True,
        vectorized=True,
        n_resamples=resamples,
        batch=max(1, _AT_ONCE // len(columns[0])),
        method="percentile",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return Interval(float(found.low), float(found.high))


def _exchanged(columns: Sequence[Vector], statistic: Statistic, seed: int) -> float:
    """p-value of the second half of the columns against the first: the share of exchanges that differ as much.

    `scipy.stats.permutation_test` gives the same and takes five to eight times as long: it exchanges rows, where the
    sums of all exchanges are one product of matrices.
    """
    samples, half = len(columns[0]), len(columns) // 2
    table = np.stack(columns, axis=1)
    swapped = np.roll(table, half, axis=1)
    value = abs(_change(columns, statistic)) - 1e-12

    def extreme(chosen: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which of (P, N) exchanges differ as much."""
        sums = table.sum(0) + chosen @ (swapped - table)
        return np.abs(_differing(statistic)(*sums.T[..., None], axis=-1)) >= value

    if samples <= _EXACT_UP_TO:
        return float(extreme((np.arange(2**samples)[:, None] >> np.arange(samples)) & 1).mean())
    draw, step = np.random.default_rng(seed), max(1, _AT_ONCE // samples)
    sizes = [min(step, PERMUTATIONS - first) for first in range(0, PERMUTATIONS, step)]
    found = sum(int(extreme(draw.integers(0, 2, (size, samples))).sum()) for size in sizes)
    return (1 + found) / (1 + PERMUTATIONS)


def _ratio(numerators: Vector, denominators: Vector, axis: int) -> Any:
    bottom = denominators.sum(axis)
    return numerators.sum(axis) / np.where(bottom == 0, 1.0, bottom)


def _applied(formula: OfSums) -> Statistic:
    def statistic(*columns: Vector, axis: int) -> Any:
        sums = np.stack([column.sum(axis) for column in columns], axis=-1)
        return np.apply_along_axis(formula, -1, sums)

    return statistic


def _differing(statistic: Statistic) -> Statistic:
    def change(*columns: Vector, axis: int) -> Any:
        half = len(columns) // 2
        return statistic(*columns[half:], axis=axis) - statistic(*columns[:half], axis=axis)

    return change


def _change(columns: Sequence[Vector], statistic: Statistic) -> float:
    return float(_differing(statistic)(*columns, axis=-1))


def _is_share(numerators: Vector, denominators: Vector) -> bool:
    return bool(np.all(denominators == 1) and np.all((numerators == 0) | (numerators == 1)))


def _check(*vectors: Vector) -> None:
    lengths = {len(vector) for vector in vectors}
    if len(lengths) != 1 or 0 in lengths:
        raise ValueError(f"need vectors of one length, at least one sample; got {[len(v) for v in vectors]}")
