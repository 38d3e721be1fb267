"""Intervals and p-values against closed forms."""

import math

import numpy as np
import pytest
from scipy import stats

from eval.scores.interval import difference, interval, mcnemar, ratio

DRAW = np.random.default_rng(7)


def test_interval_of_a_mean_is_its_standard_error() -> None:
    values = DRAW.normal(5, 2, 400)
    inside = interval(values, np.ones(400))
    error = 1.96 * values.std(ddof=1) / 20
    assert inside.low == pytest.approx(values.mean() - error, abs=0.1 * error)
    assert inside.high == pytest.approx(values.mean() + error, abs=0.1 * error)


def test_interval_of_a_ratio_is_the_delta_method() -> None:
    words = DRAW.integers(3, 30, 500).astype(float)
    errors = DRAW.binomial(words.astype(int), 0.2).astype(float)
    rate = errors.sum() / words.sum()
    error = 1.96 * np.sqrt(np.mean((errors - rate * words) ** 2) / 500) / words.mean()
    inside = interval(errors, words)
    assert ratio(errors, words) == pytest.approx(rate)
    assert (inside.high - inside.low) / 2 == pytest.approx(error, rel=0.1)


def test_interval_covers_nineteen_times_of_twenty() -> None:
    inside = [interval(values, np.ones(60), resamples=500) for values in DRAW.exponential(1, (200, 60))]
    assert 0.88 < np.mean([found.low <= 1 <= found.high for found in inside]) < 0.99


def test_wilson_for_shares() -> None:
    inside = interval(np.array([1.0] * 8 + [0.0] * 2), np.ones(10))
    assert (inside.low, inside.high) == pytest.approx((0.4902, 0.9433), abs=1e-4)  # Agresti & Coull 1998
    all_right = interval(np.ones(20), np.ones(20))
    assert all_right.high == 1 and 0.8 < all_right.low < 0.9


def test_the_same_seed_gives_the_same_interval() -> None:
    values = DRAW.normal(size=30)
    assert interval(values, np.ones(30)) == interval(values, np.ones(30))
    assert interval(values, np.ones(30)) != interval(values, np.ones(30), seed=1)


def test_nothing_said_anywhere() -> None:
    zeros = np.zeros(3)
    assert ratio(zeros, zeros) == 0 and ratio(np.array([2.0, 0, 0]), zeros) == 2
    inside = interval(np.array([2.0, 0, 0]), zeros)
    assert 0 <= inside.low <= 2 <= inside.high and math.isfinite(inside.high)


@pytest.mark.parametrize("vectors", [(np.zeros(0), np.zeros(0)), (np.zeros(2), np.zeros(3))])
def test_no_samples(vectors: tuple[np.ndarray, np.ndarray]) -> None:
    with pytest.raises(ValueError, match="at least one sample"):
        interval(*vectors)


def test_paired_difference_of_means() -> None:
    first = DRAW.normal(0, 3, 300)
    gain = DRAW.normal(0.2, 1, 300)
    ones = np.ones(300)
    found = difference((first, ones), (first + gain, ones))
    error = 1.96 * gain.std(ddof=1) / math.sqrt(300)
    assert found.value == pytest.approx(gain.mean())
    assert (found.interval.high - found.interval.low) / 2 == pytest.approx(error, rel=0.1)
    normal = math.erfc(abs(gain.mean()) / (gain.std(ddof=1) / math.sqrt(300)) / math.sqrt(2))
    assert found.p == pytest.approx(normal, abs=0.01)


def test_exact_permutations() -> None:
    """Five gains of the same sign: 2 of 32 exchanges are as extreme."""
    ones = np.ones(5)
    assert difference((np.zeros(5), 3 * ones), (2 * ones, 3 * ones)).p == 2 / 32
    assert difference((ones, 3 * ones), (ones, 3 * ones)).p == 1


def test_p_is_uniform_where_nothing_differs() -> None:
    ones = np.ones(40)
    p = [difference((a, ones), (b, ones)).p for a, b in DRAW.normal(size=(40, 2, 40))]
    assert 0.3 < np.mean(p) < 0.7 and np.mean(np.array(p) < 0.05) < 0.2


def test_mcnemar_is_the_exact_binomial_test() -> None:
    assert mcnemar(0, 0) == 1 and mcnemar(5, 5) == 1
    assert mcnemar(9, 1) == pytest.approx(22 / 1024)
    first, second = np.array([0.0] * 9 + [1.0] * 3), np.array([1.0] * 9 + [0.0] + [1.0] * 2)
    assert difference((first, np.ones(12)), (second, np.ones(12))).p == mcnemar(9, 1)


@pytest.mark.parametrize("samples", [10, 40])
def test_exchanges_are_those_of_scipy(samples: int) -> None:
    words = DRAW.integers(3, 30, samples).astype(float)
    errors = DRAW.binomial(words.astype(int), [[0.3], [0.2]]).astype(float)
    table = np.stack([np.concatenate(errors), np.tile(words, 2)])

    def change(one: np.ndarray, other: np.ndarray, axis: int) -> np.ndarray:
        first, second = (table[:, rows.astype(int)].sum(-1) for rows in (one, other))
        return second[0] / second[1] - first[0] / first[1]

    rows = np.arange(samples)
    theirs = stats.permutation_test(
        (rows, samples + rows), change, permutation_type="samples", vectorized=True, rng=np.random.default_rng(0)
    )
    found = difference((errors[0], words), (errors[1], words))
    assert found.value == pytest.approx(theirs.statistic) and found.p == pytest.approx(theirs.pvalue, abs=0.02)


def test_figures_are_those_of_earlier_versions() -> None:
    """Draws and formulas did not change when scipy took them over."""
    words = np.arange(1, 21.0)
    first, second = words % 3, words % 4
    found = difference((first, words), (second, words))
    inside = interval(first, words)
    assert (inside.low, inside.high) == pytest.approx((0.0643564, 0.1492537), abs=1e-6)
    assert (found.interval.low, found.interval.high) == pytest.approx((-0.0193260, 0.1105903), abs=1e-6)
    assert found.p == pytest.approx(0.2586741, abs=1e-6)


@pytest.mark.parametrize("samples", [1, 2, 7, 10, 36, 40, 100])
def test_a_share_lies_in_its_interval(samples: int) -> None:
    for right in range(samples + 1):
        numerators = np.array([1.0] * right + [0.0] * (samples - right))
        found = interval(numerators, np.ones(samples))
        assert 0 <= found.low <= right / samples <= found.high <= 1
