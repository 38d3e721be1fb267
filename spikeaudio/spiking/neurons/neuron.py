"""What every spiking neuron in front of a linear layer is: real inputs -> planes of integer counts.

A neuron is a module of its own, not part of the linear layer: counters, exporters and readers then see the same graph.
Types of neurons stand in files beside this one and register themselves in `spikeaudio.spiking.neurons.registry`.
"""

from abc import ABC, abstractmethod
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from spikeaudio.spiking.neurons.planes import Plane, decode


class SpikingNeuron(nn.Module, ABC):
    """Anything that turns the input of a linear layer into planes of counts; keeps no state between calls."""

    @abstractmethod
    def planes(self, values: Tensor) -> list[Plane]:
        """(..., D) real -> planes that together cover the D channels."""

    def refresh(self) -> None:
        """Bring what follows from parameters and buffers up to date, after they were loaded."""

    def forward(self, values: Tensor) -> Tensor:
        """What the spikes stand for, (..., D), dtype of the input.

        Gradients pass straight through (Bengio et al. 2013), except where a count was clipped.
        """
        planes = self.planes(values)
        fired = decode(planes, values.shape[-1])
        quanta = decode(
            [replace(plane, counts=torch.ones_like(plane.counts), zero=None) for plane in planes], values.shape[-1]
        )
        error = fired - values.float()
        passing = torch.where(error.abs() <= 0.5001 * quanta, values, values.detach())  # rounded, not clipped
        return passing + error.detach().to(values.dtype)


def _refresh(neuron: Any, _: Any) -> None:
    """A load hook that can be pickled."""
    neuron.refresh()


class SalientNeuron(SpikingNeuron):
    """A neuron whose salient channels form a plane of their own.

    Args:
        num_channels: D.
        salient: (D,) bool; None: no channel.

    Raises:
        ValueError: a mask of another size or type.
    """

    salient: Tensor
    salient_channels: Tensor
    ordinary_channels: Tensor

    def __init__(self, num_channels: int, salient: Tensor | None = None) -> None:
        super().__init__()
        if salient is None:
            salient = torch.zeros(num_channels, dtype=torch.bool)
        if salient.shape != (num_channels,) or salient.dtype != torch.bool:
            raise ValueError(
                f"salient must be a bool mask ({num_channels},), got {tuple(salient.shape)}, {salient.dtype}"
            )
        self.num_channels = num_channels
        self.register_buffer("salient", salient)
        self.register_buffer("salient_channels", torch.empty(0, dtype=torch.long), persistent=False)
        self.register_buffer("ordinary_channels", torch.empty(0, dtype=torch.long), persistent=False)
        self.register_load_state_dict_post_hook(_refresh)  # type: ignore[no-untyped-call]
        self.refresh()

    def refresh(self) -> None:
        if not self.salient.is_meta:
            self.salient_channels = self.salient.nonzero().squeeze(-1)
            self.ordinary_channels = (~self.salient).nonzero().squeeze(-1)

    def select(self, salient: Tensor) -> None:
        """Choose the salient channels: (D,) bool."""
        self.salient.copy_(salient)
        self.refresh()


def signed_counts(values: Tensor, scale: Tensor, capacity: int | None) -> Tensor:
    """clip(round(values / scale), +-capacity) as int32; halves go to the even count, NaN is an error of the caller."""
    counts = (values.float() / scale).round()
    return (counts if capacity is None else counts.clamp(-capacity, capacity)).to(torch.int32)


def check_share(share: float) -> None:
    """Refuse a share of salient channels outside of [0, 1).

    Raises:
        ValueError: it is outside.
    """
    if not 0 <= share < 1:
        raise ValueError(f"salient_share must be in [0, 1), got {share}")
