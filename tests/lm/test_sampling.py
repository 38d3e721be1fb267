"""Sampling against its definition: the published sampler on exact cases, the distribution of draws, whose generator."""

import numpy as np
import pytest
import torch
from scipy.stats import chisquare

from spikeaudio.lm.sampling import draw, penalize_repetition, row_generators, sample


def published_penalty(logits: torch.Tensor, history: list[int], penalty: float, window: int) -> torch.Tensor:
    """The rule of Kimi-Audio's sampler, for one row, id by id."""
    out = logits.clone()
    if penalty > 1 and len(history) > window:
        for token in set(history[-window:]):
            out[token] = out[token] * penalty if out[token] < 0 else out[token] / penalty
    return out


@pytest.mark.parametrize("window", [1, 3, 4, 5, 9])
@pytest.mark.parametrize("penalty", [0.5, 1.0, 1.4])
def test_penalty_is_the_published_rule(penalty, window):
    logits, history = torch.randn(3, 7), torch.randint(7, (3, 5))
    rows = zip(logits, history.tolist(), strict=True)
    expected = torch.stack([published_penalty(x, ids, penalty, window) for x, ids in rows])
    torch.testing.assert_close(penalize_repetition(logits, history, penalty, window), expected, rtol=0, atol=0)


def test_greedy_draws_nothing():
    logits, history = torch.randn(4, 9), torch.zeros(4, 0, dtype=torch.long)
    generator = torch.Generator().manual_seed(1)
    before = generator.get_state()
    assert sample(logits, history, generator, temperature=1e-6).tolist() == logits.argmax(-1).tolist()
    assert torch.equal(generator.get_state(), before)


def test_draws_have_the_distribution():
    scores = torch.tensor([0.5, 0.3, -torch.inf, 0.2]).log().repeat(20000, 1)
    scores[:, 2] = -torch.inf
    share = draw(scores, torch.Generator().manual_seed(0)).bincount(minlength=4) / 20000
    torch.testing.assert_close(share, torch.tensor([0.5, 0.3, 0.0, 0.2]), rtol=0, atol=0.015)
    assert share[2] == 0


def test_top_k_and_temperature():
    logits = torch.tensor([[4.0, 3.0, 2.0, 1.0]]).repeat(5000, 1)
    history = torch.zeros(5000, 0, dtype=torch.long)
    generator = torch.Generator().manual_seed(0)
    kept = sample(logits, history, generator, temperature=2.0, top_k=2)
    assert set(kept.tolist()) == {0, 1}
    expected = torch.tensor([2.0, 1.5]).softmax(0)[1].item()
    assert abs((kept == 1).float().mean().item() - expected) < 0.02
    assert set(sample(logits, history, generator, temperature=2.0, top_k=0).tolist()) == {0, 1, 2, 3}


def published_probabilities(logits, history, temperature, top_k, penalty, window) -> np.ndarray:
    """What Kimi-Audio's sampler draws one row from, in float64: penalty, softmax(z / T), the k largest of it."""
    scores = published_penalty(logits.double(), history, penalty, window).numpy() / temperature
    weights = np.exp(scores - scores.max())
    if top_k > 0:
        weights[np.argsort(-weights)[top_k:]] = 0
    return weights / weights.sum()


@pytest.mark.parametrize(
    "temperature,top_k,penalty,window", [(0.8, 5, 1.0, 64), (1.0, 5, 3.0, 3), (2.0, 0, 4.0, 2), (0.5, 99, 3.0, 9)]
)
def test_draws_follow_the_published_sampler(temperature, top_k, penalty, window):
    """Chi-square of 4000 draws at 0.1 percent, over a vocabulary small enough that every id counts."""
    draws, generator = 4000, torch.Generator().manual_seed(11)
    logits, history = 2 * torch.randn(8), [1, 1, 4, 6, 4]
    drawn = sample(
        logits.expand(draws, -1),
        torch.tensor(history).expand(draws, -1),
        generator,
        temperature=temperature,
        top_k=top_k,
        repetition_penalty=penalty,
        window=window,
    )
    counts = drawn.bincount(minlength=8).numpy()
    expected = published_probabilities(logits, history, temperature, top_k, penalty, window) * draws
    possible = expected > 0
    assert not counts[~possible].any()
    assert chisquare(counts[possible], expected[possible]).pvalue > 1e-3
    without = published_probabilities(logits, [], temperature, top_k, 1.0, window) * draws
    if penalty > 1 and len(history) > window:  # the penalty is far from what chance could explain
        assert counts[without == 0].any() or chisquare(counts[without > 0], without[without > 0]).pvalue < 1e-6


def test_a_row_draws_the_same_alone_and_in_a_batch():
    logits = torch.randn(3, 11)
    history = torch.zeros(3, 0, dtype=torch.long)
    generators = [torch.Generator().manual_seed(s) for s in (5, 6, 7)]
    together = [sample(logits, history, generators, temperature=1.0, top_k=0) for _ in range(4)]
    alone = [
        [sample(logits[b : b + 1], history[:1], g, temperature=1.0, top_k=0).item() for _ in range(4)]
        for b, g in enumerate(torch.Generator().manual_seed(s) for s in (5, 6, 7))
    ]
    assert torch.stack(together, 1).tolist() == alone


def test_row_generators():
    def first(pair, b):
        return [torch.rand(1, generator=stream[b]).item() for stream in pair]

    batch = row_generators(torch.Generator().manual_seed(9), 3)
    numbers = [first(batch, b) for b in range(3)]
    assert len({n for pair in numbers for n in pair}) == 6  # all streams of all rows differ
    assert first(row_generators(torch.Generator().manual_seed(9), 1), 0) == numbers[0]  # row 0 whatever the batch
    own = row_generators([torch.Generator().manual_seed(s) for s in (1, 2)], 2)
    assert first(own, 1) == first(row_generators(torch.Generator().manual_seed(2), 1), 0)
    with pytest.raises(ValueError, match="got 1 generators for 2 rows"):
        row_generators([torch.Generator()], 2)


def test_window_must_hold_an_id():
    with pytest.raises(ValueError, match="at least 1 id, got 0"):
        penalize_repetition(torch.zeros(1, 3), torch.zeros(1, 2, dtype=torch.long), 1.2, 0)
