"""WeightAverage: the recursion, which weights act when, and that its state is part of the checkpoint."""

import pytest
import torch
from torch import nn

from spikeaudio.training.ema import WeightAverage


def walk(average: WeightAverage, values: list[float]) -> None:
    """Give the model these weights, one per training step."""
    for value in values:
        average.model.weight.data.fill_(value)
        average(torch.ones(1, 1))


def test_average_follows_the_growing_decay():
    average = WeightAverage(nn.Linear(1, 1, bias=False), max_decay=0.3).train()
    values, expected = [1.0, 2.0, 4.0, -1.0, 3.0], 1.0
    for count, value in enumerate(values[1:], 1):
        decay = min(0.3, (1 + count) / (10 + count))
        expected = decay * expected + (1 - decay) * value
    walk(average, values)
    assert average.average.module.weight.item() == pytest.approx(expected)


def test_training_uses_the_weights_and_evaluation_the_average():
    average = WeightAverage(nn.Linear(1, 1, bias=False)).train()
    walk(average, [1.0, 3.0])
    assert average(torch.ones(1, 1)).item() == 3.0
    held = average.average.module.weight.item()
    assert 1.0 < held < 3.0
    assert average.eval()(torch.ones(1, 1)).item() == pytest.approx(held)
    assert [name for name, p in average.named_parameters() if p.requires_grad] == ["model.weight"]


def test_restored_state_goes_on_as_if_never_stopped():
    whole, first, second = (WeightAverage(nn.Linear(1, 1, bias=False)).train() for _ in range(3))
    walk(whole, [1.0, 5.0, 2.0, 7.0])
    walk(first, [1.0, 5.0])
    second.load_state_dict(first.state_dict())
    walk(second, [2.0, 7.0])
    assert torch.equal(second.average.module.weight, whole.average.module.weight)


def test_decay_out_of_range():
    with pytest.raises(ValueError, match=r"\[0, 1\), got 1"):
        WeightAverage(nn.Linear(1, 1), max_decay=1.0)
