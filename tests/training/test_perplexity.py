"""Perplexities against transformers' own loss, paired errors against many draws."""

import math

import pytest
import torch

from spikeaudio.training.perplexity import StreamLoss, stream_losses
from tests.fixtures.tiny_qwen2 import tiny_qwen2


def test_equals_the_models_own_loss() -> None:
    model = tiny_qwen2(initializer_range=0.3)
    ids = torch.randint(40, (3, 8))
    labels = ids.clone()
    labels[0, :5] = -100
    expected = model(ids, labels=labels).loss.item()
    whole = stream_losses(model, [{"input_ids": ids, "labels": labels}])["text"]
    rows = stream_losses(model, [{"input_ids": ids[i : i + 1], "labels": labels[i : i + 1]} for i in range(3)])["text"]
    assert whole.mean == pytest.approx(expected, rel=1e-5) and rows.mean == pytest.approx(expected, rel=1e-5)
    assert whole.perplexity == pytest.approx(math.exp(expected), rel=1e-5)
    assert whole.targets.tolist() == rows.targets.tolist() == [3, 7, 7]
    with pytest.raises(ValueError, match="no example has a target"):
        stream_losses(model, [{"input_ids": ids, "labels": torch.full_like(ids, -100)}])


def test_gap_and_its_error() -> None:
    generator = torch.Generator().manual_seed(0)
    gaps, errors = [], []
    for _ in range(400):
        targets = torch.randint(1, 9, (60,), generator=generator).double()
        hard = 5 * torch.rand(60, generator=generator).double() * targets
        noise = 0.1 * torch.randn(60, generator=generator).double() * targets
        gap, error = StreamLoss(hard + 0.2 * targets + noise, targets).gap(StreamLoss(hard, targets))
        gaps.append(gap)
        errors.append(error)
    assert torch.tensor(gaps).mean().item() == pytest.approx(math.expm1(0.2), abs=4e-3)
    assert torch.tensor(gaps).std().item() == pytest.approx(torch.tensor(errors).mean().item(), rel=0.1)
    same = StreamLoss(torch.ones(4).double(), torch.ones(4).double())
    assert same.gap(same) == (0, 0)
    with pytest.raises(ValueError, match="the same examples"):
        same.gap(StreamLoss(torch.ones(4).double(), 2 * torch.ones(4).double()))
