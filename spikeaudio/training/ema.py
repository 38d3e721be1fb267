"""Exponential moving average of the weights, with a decay that grows with the number of steps.

    average += (1 - decay) * (weights - average),      decay(n) = min(max_decay, (1 + n) / (10 + n))

A constant decay near 1 still holds the random start after a thousand steps; this one forgets it as the run goes on.
The average and its counter are part of the module's state, so that a resumed run equals an uninterrupted one.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

_Weights = tuple[Tensor, ...] | list[Tensor]


class WeightAverage(nn.Module):
    """A model together with the average of its weights: trains the model, evaluates the average.

    Every forward pass in training mode first takes the weights left by the step before into the average; `update`
    does it for the weights left by the last one.

    Args:
        model: the trained model.
        max_decay: largest decay, in [0, 1).

    Raises:
        ValueError: if `max_decay` is outside [0, 1).
    """

    def __init__(self, model: nn.Module, max_decay: float = 0.999) -> None:
        super().__init__()
        if not 0 <= max_decay < 1:
            raise ValueError(f"max_decay must be in [0, 1), got {max_decay}")
        self.max_decay = max_decay
        self.model = model
        self.average = AveragedModel(model, multi_avg_fn=self._average).requires_grad_(False)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The model's output in training mode, the average's in eval mode."""
        if not self.training:
            return self.average(*args, **kwargs)
        self.update()
        return self.model(*args, **kwargs)

    def update(self) -> None:
        """Take the present weights into the average."""
        self.average.update_parameters(self.model)

    def _average(self, averaged: _Weights, current: _Weights, count: Tensor | int) -> None:
        decay = min(self.max_decay, (1 + int(count)) / (10 + int(count)))
        torch._foreach_lerp_(averaged, current, 1 - decay)
