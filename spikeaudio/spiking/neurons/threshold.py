"""Firing thresholds of signed neurons: the value of one quantum, per token.

    peak:  scale = ratio max|x| / capacity        nothing clips at ratio = 1; outliers make all else small
    mean:  scale = mean|x| / quanta               SpikingBrain's (arXiv 2509.05276, k = quanta); large counts clip

For a Gaussian and a capacity of 7, ``MeanThreshold(2)`` gives 18.5 dB at two unary spikes per element and
``PeakThreshold()`` 16.4 dB at 1.5.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass

from torch import Tensor

SMALLEST = 1e-8  # of a scale; silence then has counts of zero


class Threshold(ABC):
    """A rule for the value of one quantum."""

    @abstractmethod
    def scale(self, values: Tensor, capacity: int | None) -> Tensor:
        """(..., C) real -> (..., 1) float32, positive."""


@dataclass(frozen=True)
class PeakThreshold(Threshold):
    """The largest value of a token gets the largest count.

    Args:
        ratio: share of the largest value that is still represented, in (0, 1].

    Raises:
        ValueError: a ratio outside (0, 1].
    """

    ratio: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.ratio <= 1:
            raise ValueError(f"ratio must be in (0, 1], got {self.ratio}")

    def scale(self, values: Tensor, capacity: int | None) -> Tensor:
        if capacity is None:
            raise ValueError("a peak threshold needs steps of limited capacity (UnarySteps, RadixSteps)")
        return (values.float().abs().amax(-1, keepdim=True) * (self.ratio / capacity)).clamp_min(SMALLEST)


@dataclass(frozen=True)
class MeanThreshold(Threshold):
    """The mean magnitude of a token counts `quanta`.

    Args:
        quanta: positive.

    Raises:
        ValueError: `quanta` is not positive.
    """

    quanta: float = 2.0

    def __post_init__(self) -> None:
        if self.quanta <= 0:
            raise ValueError(f"quanta must be positive, got {self.quanta}")

    def scale(self, values: Tensor, capacity: int | None) -> Tensor:
        return (values.float().abs().mean(-1, keepdim=True) / self.quanta).clamp_min(SMALLEST)
