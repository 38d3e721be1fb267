"""Weights that train on the grid they will be packed on.

    W' = scale clip(round(W / scale), ...)          forward
    dL/dW = dL/dW'  where nothing is clipped        backward (straight through, Bengio et al. 2013)

Attached to a spiking layer with real weights, `weight` is what the packed layer will hold, and the real weights behind
it are what the optimizer sees. The grid is a function of the weights:

| fit | grid | learned beside the weights |
|---|---|---|
| `ClippedFit` | `ClippedGrid.symmetric` | its bounds (learned weight clipping, OmniQuant, arXiv 2308.13137) |
| `TernaryFit` | `TernaryGrid.least_squares` | nothing |
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from spikeaudio.spiking.config import GIFConfig
from spikeaudio.spiking.conversion import spiking_layers
from spikeaudio.spiking.layers.linear import PackedSpikingLinear, SpikingLinear
from spikeaudio.spiking.weights.weight_grid import (
    AffineGrid,
    ClippedGrid,
    TernaryGrid,
    WeightClipping,
    WeightGrid,
    weight_range,
)

_WEIGHT = "weight"
_LARGEST_SHARE = 0.999  # of the weights' range that a bound starts from: at 1 its gradient would vanish


class ClippedFit(nn.Module):
    """Symmetric grid between learned bounds, which start where the rounding error is least.

    Args:
        weight: (O, C) real weights to start from.
        bits: bits of a code.
        group_size: inputs that share a scale; None: all.
    """

    def __init__(self, weight: Tensor, bits: int, group_size: int | None = None) -> None:
        super().__init__()
        self.bits = bits
        scale = AffineGrid.symmetric(weight, bits, group_size).shrunk(weight).scale  # (O, G)
        low, high = weight_range(weight.detach().float(), group_size)
        peak = torch.maximum(low.abs(), high.abs()).clamp_min(torch.finfo(torch.float32).tiny)
        share = (scale * (2 ** (bits - 1) - 1) / peak).clamp(1e-3, _LARGEST_SHARE)
        self.clipping = WeightClipping(*scale.shape)
        with torch.no_grad():
            self.clipping.low_logit.copy_(share.logit())
            self.clipping.high_logit.copy_(share.logit())

    def forward(self, weight: Tensor) -> WeightGrid:
        """(O, C) -> the grid of these weights."""
        low, high = self.clipping(weight.float())
        return ClippedGrid.symmetric(low, high, self.bits)


class TernaryFit(nn.Module):
    """Levels -a, 0, a of least squared error, found again whenever the weights have moved.

    Args:
        group_size: inputs that share a scale; None: all.
    """

    def __init__(self, group_size: int | None = None) -> None:
        super().__init__()
        self.group_size = group_size

    def forward(self, weight: Tensor) -> WeightGrid:
        """(O, C) -> the grid of these weights."""
        return TernaryGrid.least_squares(weight, self.group_size)


class RoundedWeight(nn.Module):
    """Parametrization of a weight (O, C): real in, on its grid out, same dtype.

    Args:
        fit: weights -> grid.
    """

    def __init__(self, fit: ClippedFit | TernaryFit) -> None:
        super().__init__()
        self.fit = fit

    def forward(self, weight: Tensor) -> Tensor:
        grid: WeightGrid = self.fit(weight)
        return grid.quantize(weight).to(weight.dtype)


def attach_rounding(model: nn.Module, config: GIFConfig) -> None:
    """Put every spiking layer of a model with real weights onto the grid that `config` names.

    Raises:
        ValueError: a layer is packed already.
    """
    for name, layer in list(spiking_layers(model)):
        if isinstance(layer, PackedSpikingLinear):
            raise ValueError(f"the weights of {name} are packed already: start from the dense checkpoint")
        weight, size = layer.weight.detach(), config.group_size
        fit = TernaryFit(size) if config.weight_bits == 2 else ClippedFit(weight, config.weight_bits, size)
        parametrize.register_parametrization(layer, _WEIGHT, RoundedWeight(fit))


@torch.no_grad()
def pack_rounded(model: nn.Module, config: GIFConfig) -> None:
    """Pack the layers of `attach_rounding`, in place; they compute what they did before, on integers.

    Raises:
        ValueError: a spiking layer without rounding.
    """
    for name, layer in list(spiking_layers(model)):
        if not parametrize.is_parametrized(layer, _WEIGHT):
            raise ValueError(f"the weights of {name} are not on a grid: call attach_rounding first")
        rounding: Any = layer.parametrizations[_WEIGHT]  # type: ignore[index]
        original = rounding.original
        grid: WeightGrid = rounding[0].fit(original)
        codes, scale = grid.codes(original), grid.scale
        parametrize.remove_parametrizations(layer, _WEIGHT)
        assert isinstance(layer, SpikingLinear)
        model.set_submodule(name, PackedSpikingLinear.pack(layer, codes, scale, config.weight_bits, config.group_size))
