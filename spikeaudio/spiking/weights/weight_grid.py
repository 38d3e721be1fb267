"""Grids that weights are rounded to, one per output row or per group of input channels of a row.

    codes = clip(round(w / scale) + zero, -2^(b-1), 2^(b-1) - 1),        w ~ scale (codes - zero)

Codes are signed whatever the grid, so that b <= 8 bits always fit int8. A grid without a zero point (`zero` None)
maps 0 to 0 and costs an integer execution no correction.

| grid | scale | zero + 2^(b-1) | source |
|---|---|---|---|
| `AffineGrid.asymmetric` | (max(high, 0) - min(low, 0)) / (2^b - 1) | round(-low / scale) | GPTQ |
| `AffineGrid.symmetric` | 2 max abs(w) / (2^b - 1) | none | GPTQ |
| `TernaryGrid.least_squares` | the a of least squared error | none | ours |
| `ClippedGrid.symmetric` | max(abs(high), abs(low)) / (2^(b-1) - 1), bounds learned | none | OmniQuant, SpikeLLM |

Sources: GPTQ (arXiv 2210.17323), IST-DASLab/gptq quant.py. OmniQuant (arXiv 2308.13137) and SpikeLLM (arXiv
2407.04752), spike_driven_quant/quantizer.py. Where ours differs. A row without negative weights gets the same
symmetric grid as any other (GPTQ's clips its upper half). Ternary levels are always -a, 0, a (GPTQ's unequal ones have
no single scale). The symmetric clipped grid has no zero point (the published one with zero 2^(b-1) - 1 is the same
where nothing clips).
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

_SHRINK_STEPS, _SMALLEST_SHRINK, _ERROR_POWER = 100, 0.2, 2.4  # GPTQ's search for a clipped range
_SCALE_RANGE = (1e-5, 1e4)  # OmniQuant's
_INITIAL_LOGIT = 4.0  # sigmoid(4) = 0.98: training starts almost unclipped


def grouped(weight: Tensor, group_size: int | None = None) -> Tensor:
    """(O, C) -> (O, C / group_size, group_size); None: one group.

    Raises:
        ValueError: not a matrix, or a group size that does not divide C.
    """
    if weight.dim() != 2:
        raise ValueError(f"weight must be (outputs, inputs), got {tuple(weight.shape)}")
    size = weight.shape[1] if group_size is None else group_size
    if size < 1 or weight.shape[1] % size:
        raise ValueError(f"group_size {size} does not divide {weight.shape[1]} inputs")
    return weight.reshape(weight.shape[0], -1, size)


def weight_range(weight: Tensor, group_size: int | None = None) -> tuple[Tensor, Tensor]:
    """Smallest and largest weight of every group: (O, C) -> twice (O, G), differentiable."""
    groups = grouped(weight, group_size)
    return groups.amin(-1), groups.amax(-1)


@dataclass(frozen=True, eq=False)
class WeightGrid(ABC):
    """What a weight may become.

    Attributes:
        scale: (O, G) float32, the value of one step; a group is C / G neighbouring inputs.
        zero: (O, G) int32, the code that means 0; None: 0.
    """

    scale: Tensor
    zero: Tensor | None

    @abstractmethod
    def levels(self, weight: Tensor) -> Tensor:
        """Codes as float32, (O, C) -> (O, C); gradients pass straight through the rounding."""

    def codes(self, weight: Tensor) -> Tensor:
        """(O, C) real -> (O, C) int8."""
        return self.levels(weight).to(torch.int8)

    def decode(self, codes: Tensor) -> Tensor:
        """What codes stand for: (O, C) -> (O, C) float32."""
        if self.zero is not None:
            codes = codes - self._spread(self.zero, codes)
        return codes * self._spread(self.scale, codes)

    def quantize(self, weight: Tensor) -> Tensor:
        """(O, C) real -> (O, C) float32 on the grid.

        Raises:
            ValueError: rows or inputs that do not fit the grid.
        """
        return self.decode(self.levels(weight))

    def _spread(self, values: Tensor, weight: Tensor) -> Tensor:
        """(O, G) -> (O, C), or (O, 1), which broadcasts."""
        rows, groups = values.shape
        if weight.dim() != 2 or weight.shape[0] != rows or weight.shape[1] % groups:
            raise ValueError(f"a grid of {rows} rows and {groups} groups does not fit {tuple(weight.shape)}")
        return values if groups == 1 else values.repeat_interleave(weight.shape[1] // groups, dim=1)


@dataclass(frozen=True, eq=False)
class UniformGrid(WeightGrid):
    """2^bits equidistant levels.

    Attributes:
        bits: 2 to 8.

    Raises:
        ValueError: bits out of range.
    """

    bits: int

    def __post_init__(self) -> None:
        if not 2 <= self.bits <= 8:
            raise ValueError(f"bits must be 2 to 8, got {self.bits}")

    def levels(self, weight: Tensor) -> Tensor:
        ratio = weight.float() / self._spread(self.scale, weight)
        steps = ratio.detach().round() + (ratio - ratio.detach())  # exactly round(ratio), gradient 1
        if self.zero is not None:
            steps = steps + self._spread(self.zero, weight)
        half = 2 ** (self.bits - 1)
        return steps.clamp(-half, half - 1)


class AffineGrid(UniformGrid):
    """GPTQ's grids: the range of the weights, which always contains 0."""

    @classmethod
    def asymmetric(cls, weight: Tensor, bits: int, group_size: int | None = None) -> "AffineGrid":
        """All levels between the smallest and the largest weight: (O, C) real -> a grid with a zero point."""
        low, high = weight_range(weight.detach().float(), group_size)
        low, high = low.clamp_max(0), high.clamp_min(0)
        silent = (low == 0) & (high == 0)
        low, high = low.masked_fill(silent, -1), high.masked_fill(silent, 1)
        scale = (high - low) / (2**bits - 1)
        return cls(scale, (-low / scale).round().int() - 2 ** (bits - 1), bits)

    @classmethod
    def symmetric(cls, weight: Tensor, bits: int, group_size: int | None = None) -> "AffineGrid":
        """Levels on both sides of 0: (O, C) real -> a grid without a zero point."""
        return cls(2 * _peak(weight, group_size) / (2**bits - 1), None, bits)

    def shrunk(self, weight: Tensor) -> "AffineGrid":
        """This grid with every scale times the p in 1, 0.99, ..., 0.21 of least sum |error|^2.4."""
        weight = weight.detach().float()
        size = weight.shape[1] // self.scale.shape[1]
        best_scale, least = self.scale, torch.full_like(self.scale, torch.inf)
        for step in range(round(_SHRINK_STEPS * (1 - _SMALLEST_SHRINK))):
            grid = replace(self, scale=self.scale * (1 - step / _SHRINK_STEPS))
            error = grouped((grid.quantize(weight) - weight).abs().pow(_ERROR_POWER), size).sum(-1)
            best_scale, least = torch.where(error < least, grid.scale, best_scale), torch.minimum(error, least)
        return replace(self, scale=best_scale)


class TernaryGrid(WeightGrid):
    """Levels -a, 0, a; a weight fires where its magnitude is above a / 2."""

    def levels(self, weight: Tensor) -> Tensor:
        ratio = weight.float() / self._spread(self.scale, weight)
        passing = ratio.clamp(-1, 1)
        return (ratio > 0.5).float() - (ratio < -0.5).float() + (passing - passing.detach())

    @classmethod
    def least_squares(cls, weight: Tensor, group_size: int | None = None) -> "TernaryGrid":
        """The a of least squared error: (O, C) real.

        With the k largest magnitudes firing, the best a is their mean and the error |w|^2 - (their sum)^2 / k.
        """
        magnitude = grouped(weight.detach().float(), group_size).abs().sort(-1, descending=True).values
        sums = magnitude.cumsum(-1)
        fired = torch.arange(1, magnitude.shape[-1] + 1, device=weight.device)
        best = (sums.square() / fired).argmax(-1, keepdim=True)
        scale = (sums / fired).gather(-1, best).squeeze(-1)
        return cls(scale.masked_fill(scale == 0, 1), None)


class ClippedGrid(UniformGrid):
    """OmniQuant's symmetric grid, from bounds that may be learned: differentiable in the weights and in the bounds."""

    @classmethod
    def symmetric(cls, low: Tensor, high: Tensor, bits: int) -> "ClippedGrid":
        """Levels on both sides of 0 up to the bound (O, G) that is farther from it."""
        scale = torch.maximum(high.abs(), low.abs()) / (2 ** (bits - 1) - 1)
        return cls(scale.clamp(*_SCALE_RANGE), None, bits)


class WeightClipping(nn.Module):
    """Learned weight clipping: bounds sigmoid(logit) times the smallest and largest weight of every group.

    Args:
        num_rows: O.
        num_groups: G.

    Shape:
        weight: (O, C); returned: low and high, (O, G), for `ClippedGrid`.
    """

    def __init__(self, num_rows: int, num_groups: int = 1) -> None:
        super().__init__()
        self.low_logit = nn.Parameter(torch.full((num_rows, num_groups), _INITIAL_LOGIT))
        self.high_logit = nn.Parameter(torch.full((num_rows, num_groups), _INITIAL_LOGIT))

    def forward(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        groups = self.low_logit.shape[1]
        if weight.dim() != 2 or weight.shape[0] != len(self.low_logit) or weight.shape[1] % groups:
            raise ValueError(f"bounds {tuple(self.low_logit.shape)} do not fit weights {tuple(weight.shape)}")
        low, high = weight_range(weight, weight.shape[1] // groups)
        return self.low_logit.sigmoid() * low, self.high_logit.sigmoid() * high


def fitted_grid(weight: Tensor, bits: int, group_size: int | None = None) -> WeightGrid:
    """The grid without zero point for `bits` that fits weights best: ternary for 2, else symmetric and shrunk.

    Two bits could hold a fourth level, -2; without it a weight adds, subtracts or does nothing.
    """
    if bits == 2:
        return TernaryGrid.least_squares(weight, group_size)
    return AffineGrid.symmetric(weight, bits, group_size).shrunk(weight)


def _peak(weight: Tensor, group_size: int | None) -> Tensor:
    """Largest magnitude of every group, 1 where all is 0: (O, C) -> (O, G)."""
    peak = grouped(weight.detach().float(), group_size).abs().amax(-1)
    return peak.masked_fill(peak == 0, 1)
