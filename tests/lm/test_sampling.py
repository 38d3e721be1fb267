"""Sampling against its definition: the published sampler on exact cases, the distribution of draws, whose generator."""

import pytest
import torch

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
