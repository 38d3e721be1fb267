"""Which input channels of a linear layer deserve more steps.

For a layer y = W x, over calibration tokens,

    first order (Optimal Brain Spiking):  s_c = mean of x_c (W^T W x)_c      the gradient of |W x|^2 / 2 times x, signed
    peak:                                 s_c = max |x_c|
    random:                               s_c = noise, the control that every table needs

The salient channels are those with the largest s. Source: SpikeLLM (arXiv 2407.04752, "Optimal Brain Spiking");
spike_linear.py of its repository. There the three projections that read one input get three masks; here layers that
share an input share one mask (the mean of their ranks decides), since a neuron fires once for all of them.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable

import torch
from torch import Tensor


class Saliency(ABC):
    """A score per input channel, accumulated over tokens."""

    @abstractmethod
    def update(self, inputs: Tensor) -> None:
        """Take in (..., C) inputs of the layer."""

    @abstractmethod
    def scores(self) -> Tensor:
        """(C,) float64, larger is more salient."""


class FirstOrderSaliency(Saliency):
    """Mean of x (W^T W x) per channel.

    Args:
        weight: (O, C), the layer's weights.
    """

    def __init__(self, weight: Tensor) -> None:
        self._weight = weight.detach().double()
        self._total = torch.zeros(weight.shape[1], dtype=torch.float64, device=weight.device)
        self._tokens = 0

    def update(self, inputs: Tensor) -> None:
        flat = inputs.detach().reshape(-1, inputs.shape[-1]).double()
        self._total += (flat * (flat @ self._weight.T @ self._weight)).sum(0)
        self._tokens += len(flat)

    def scores(self) -> Tensor:
        return self._total / max(1, self._tokens)


class PeakSaliency(Saliency):
    """Largest magnitude per channel.

    Args:
        num_channels: C.
    """

    def __init__(self, num_channels: int) -> None:
        self._peak = torch.zeros(num_channels, dtype=torch.float64)

    def update(self, inputs: Tensor) -> None:
        peak = inputs.detach().reshape(-1, inputs.shape[-1]).abs().amax(0)
        self._peak = torch.maximum(self._peak.to(peak.device), peak.double())

    def scores(self) -> Tensor:
        return self._peak


class RandomSaliency(Saliency):
    """Noise of a seed: what a choice of channels is worth that knows nothing.

    Args:
        num_channels: C.
        seed: seed of the noise.
    """

    def __init__(self, num_channels: int, seed: int = 0) -> None:
        self._scores = torch.rand(num_channels, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)

    def update(self, inputs: Tensor) -> None:
        pass

    def scores(self) -> Tensor:
        return self._scores


def salient_mask(scores: Iterable[Tensor], share: float) -> Tensor:
    """The channels with the largest scores.

    Args:
        scores: one (C,) tensor for every layer that reads the input.
        share: share of the channels, in [0, 1); rounded down.

    Returns:
        (C,) bool.

    Raises:
        ValueError: a share outside [0, 1), or scores that are not finite.
    """
    stacked = torch.stack(list(scores))
    if not 0 <= share < 1:
        raise ValueError(f"share must be in [0, 1), got {share}")
    if not bool(torch.isfinite(stacked).all()):
        raise ValueError("saliency scores are not finite: a calibration input holds NaN or inf")
    ranks = stacked.argsort(-1).argsort(-1).double().mean(0)
    mask = torch.zeros(stacked.shape[1], dtype=torch.bool, device=stacked.device)
    mask[ranks.argsort(descending=True)[: int(share * stacked.shape[1])]] = True
    return mask
