"""Spiking neurons in front of linear layers: real inputs -> planes of integer counts.

    scale = threshold(x),    counts = clip(round(x / scale), -capacity, capacity)

A neuron is a module of its own, not part of the linear layer: counters, exporters and readers then see the same graph.
Source of the generalized integrate-and-fire (GIF) neuron: SpikeLLM (arXiv 2407.04752). Ours differs in four points:
counts are signed (silence does not fire), capacity is exactly what the spikes carry, the salient channels have their
own range, and their steps may be radix digits. SpikingBrain's neuron (arXiv 2509.05276) is
``GIFNeuron(D, steps=BitSteps(), threshold=MeanThreshold(3))``: a threshold that adapts to every token, and counts
without a limit.
"""

from abc import ABC, abstractmethod
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from spikeaudio.spiking.neurons.planes import Plane, decode
from spikeaudio.spiking.neurons.steps import StepCode, UnarySteps
from spikeaudio.spiking.neurons.threshold import MeanThreshold, Threshold


class SpikingNeuron(nn.Module, ABC):
    """Anything that turns the input of a linear layer into planes of counts; keeps no state between calls."""

    @abstractmethod
    def planes(self, values: Tensor) -> list[Plane]:
        """(..., D) real -> planes that together cover the D channels."""

    def reset_parameters(self) -> None:
        """Put parameters and buffers back to their start: loading a dense checkpoint leaves them uninitialised."""

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

    def reset_parameters(self) -> None:
        self.salient.zero_()

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


class GIFNeuron(SalientNeuron):
    """Generalized integrate-and-fire neuron with signed multi-level spikes.

    Args:
        num_channels: D, inputs of the layer.
        steps: step code of ordinary channels.
        threshold: how a token's quantum follows from its values.
        salient: (D,) bool, channels that get more steps and their own range; None: none.
        salient_steps: their step code.
        split_range: whether each group's quantum follows from its own values. If not, both follow from those of all
            channels, as in SpikeLLM's rule: salient steps are then finer, but an outlier makes all others coarse.

    Shape:
        values: (..., D).
        planes: one of the ordinary channels and, if there are any, one of the salient ones.

    Raises:
        ValueError: a mask of another size or type.
    """

    def __init__(
        self,
        num_channels: int,
        steps: StepCode | None = None,
        threshold: Threshold | None = None,
        salient: Tensor | None = None,
        salient_steps: StepCode | None = None,
        split_range: bool = True,
    ) -> None:
        super().__init__(num_channels, salient)
        self.steps = steps or UnarySteps(1, 7)
        self.salient_steps = salient_steps or UnarySteps(2, 7)
        self.threshold = threshold or MeanThreshold()
        self.split_range = split_range

    def planes(self, values: Tensor) -> list[Plane]:
        if not len(self.salient_channels):
            return [self._plane(values, values, self.steps, None)]
        groups = ((self.ordinary_channels, self.steps), (self.salient_channels, self.salient_steps))
        planes = []
        for channels, steps in groups:
            if len(channels):
                inside = values[..., channels]
                planes.append(self._plane(inside, inside if self.split_range else values, steps, channels))
        return planes

    def _plane(self, values: Tensor, ranged: Tensor, steps: StepCode, channels: Tensor | None) -> Plane:
        """Counts of `values` in quanta that follow from `ranged`."""
        scale = self.threshold.scale(ranged, steps.capacity)
        return Plane(signed_counts(values, scale, steps.capacity), scale, steps, channels)

    def extra_repr(self) -> str:
        return f"{self.num_channels}, {self.steps}, {self.threshold}, {len(self.salient_channels)} salient"
