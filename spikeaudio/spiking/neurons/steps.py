"""Step codes: how an integer travels as spikes over time.

A code writes a count n as T spikes s[t] with fixed step weights w[t],

    n = sum_t w[t] s[t],        so        W n = sum_t w[t] (W s[t])

and the second form is all that a spiking linear layer does. T is the number of steps, unrelated to audio frames.

| code | spike levels | step weights | largest |n| |
|---|---|---|---|
| `UnarySteps` | -L..L | 1, ..., 1 | T L |
| `RadixSteps` | -L..L | (L+1)^(T-1), ..., L+1, 1 | (L+1)^T - 1 |
| `BitSteps` | -1, 0, 1 | 2^(T-1), ..., 2, 1 | none: T follows the largest count |

Sources: the multi-level spikes of a generalized integrate-and-fire neuron are SpikeLLM's (arXiv 2407.04752, "merge L
steps"). Unlike its reference code, whose quantizer reaches one step further than its spikes, capacity here is exactly
what T spikes carry. `BitSteps` is SpikingBrain's (arXiv 2509.05276, W8ASpike/Int2Spike).
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor


class StepCode(ABC):
    """One way of carrying integers as spikes."""

    @property
    @abstractmethod
    def capacity(self) -> int | None:
        """Largest absolute count that is carried without loss; None: every one."""

    @abstractmethod
    def spikes(self, counts: Tensor) -> Tensor:
        """Spike trains of counts: (..., C) integers, |count| <= capacity -> (T, ..., C), same dtype."""

    @abstractmethod
    def weights(self, time_steps: int) -> Tensor:
        """What a spike of each step counts: (time_steps,) int64."""


def _check_levels(time_steps: int, levels: int) -> None:
    if time_steps < 1 or levels < 1:
        raise ValueError(f"need time_steps >= 1 and levels >= 1, got {time_steps} and {levels}")


def _largest(counts: Tensor) -> int:
    """Largest absolute count, 0 if there is none."""
    return int(counts.abs().max()) if counts.numel() else 0


@dataclass(frozen=True)
class UnarySteps(StepCode):
    """Generalized integrate-and-fire: the whole input at step 0, then the largest level that the potential holds.

        v[0] = n,    s[t] = clip(v[t], -L, L),    v[t+1] = v[t] - s[t]        (soft reset, no leak)

    In closed form s[t] = sign(n) clip(|n| - t L, 0, L).

    Args:
        time_steps: T >= 1.
        levels: L >= 1, amplitudes 1..L of either sign; L = 1 is a ternary spike.

    Raises:
        ValueError: a number below 1.
    """

    time_steps: int = 1
    levels: int = 7

    def __post_init__(self) -> None:
        _check_levels(self.time_steps, self.levels)

    @property
    def capacity(self) -> int:
        return self.time_steps * self.levels

    def spikes(self, counts: Tensor) -> Tensor:
        magnitude, sign = counts.abs(), counts.sign()
        return torch.stack([sign * (magnitude - t * self.levels).clamp(0, self.levels) for t in range(self.time_steps)])

    def weights(self, time_steps: int) -> Tensor:
        return torch.ones(time_steps, dtype=torch.int64)


@dataclass(frozen=True)
class RadixSteps(StepCode):
    """Digits of the magnitude in base L + 1, most significant first; every digit carries the sign.

    Args:
        time_steps: T >= 1.
        levels: L >= 1.

    Raises:
        ValueError: a number below 1, or a capacity that int32 accumulators cannot hold.
    """

    time_steps: int = 2
    levels: int = 7

    def __post_init__(self) -> None:
        _check_levels(self.time_steps, self.levels)
        if self.capacity >= 2**24:
            raise ValueError(f"{self.time_steps} digits of base {self.levels + 1} leave no room in int32 accumulators")

    @property
    def capacity(self) -> int:
        return int((self.levels + 1) ** self.time_steps - 1)

    def spikes(self, counts: Tensor) -> Tensor:
        return _digits(counts, self.levels + 1, self.time_steps)

    def weights(self, time_steps: int) -> Tensor:
        return _powers(self.levels + 1, time_steps)


@dataclass(frozen=True)
class BitSteps(StepCode):
    """Bits of |n|, most significant first, each with the sign of n; T = bits of the largest |n|."""

    @property
    def capacity(self) -> None:
        return None

    def spikes(self, counts: Tensor) -> Tensor:
        return _digits(counts, 2, max(1, _largest(counts).bit_length()))

    def weights(self, time_steps: int) -> Tensor:
        return _powers(2, time_steps)


def _powers(base: int, number: int) -> Tensor:
    """(number,) int64: base^(number - 1), ..., base, 1."""
    return base ** torch.arange(number - 1, -1, -1)


def _digits(counts: Tensor, base: int, number: int) -> Tensor:
    """(number, ..., C) signed digits of the magnitudes, most significant first."""
    magnitude, sign = counts.abs(), counts.sign()
    digits = [magnitude.div(base**t, rounding_mode="floor") % base for t in range(number - 1, -1, -1)]
    return sign * torch.stack(digits)
