"""PB-LLM's partially binarized weights: one bit for most of a matrix, eight for its salient elements.

    saliency = w^2 / U[j, j]^2 or |w|,        low = saliency <= the value at rank floor(p N) of N
    w ~ mean + amplitude sign(w - mean)     where low; per row, mean of (low w) and mean of |low w - mean|
    w ~ high_scale (code - zero)            elsewhere, 8 bits per row

rounded column by column with GPTQ's error feedback. Kept for comparison with `ternary_gptq`, which spends
additions instead of 8-bit products on what is salient. As published, mean and amplitude are taken over whole rows
in which salient elements count as 0, and so they come out too small.

Source: PB-LLM (arXiv 2310.00034), hahnyuan/PB-LLM gptq_pb/gptq.py and low_quant.py ("xnor").
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from spikeaudio.spiking.preparation.gptq import round_with_feedback
from spikeaudio.spiking.preparation.hessian import inverse_factor, live_weight, weight_saliency
from spikeaudio.spiking.weights.weight_grid import AffineGrid


@dataclass(frozen=True)
class PartialBinaryWeight:
    """Weights of a layer, most of them one bit.

    Attributes:
        low: (O, C) bool, which weights have one bit.
        codes: (O, C) int8, -1 or 1 where low, else the code of 8 bits.
        mean: (O, 1) float32, middle of the two low values of a row.
        amplitude: (O, 1) float32, their distance from it.
        high: grid of the other weights.
    """

    low: Tensor
    codes: Tensor
    mean: Tensor
    amplitude: Tensor
    high: AffineGrid

    def values(self) -> Tensor:
        """(O, C) float32: what the codes stand for."""
        return torch.where(self.low, self.mean + self.amplitude * self.codes, self.high.decode(self.codes))


def hessian_saliency(weight: Tensor, hessian: Tensor, damping: float = 0.01) -> Tensor:
    """w^2 / U[j, j]^2 of every weight: (O, C) and (C, C) -> (O, C), 0 on channels without input.

    Raises:
        ValueError: as `live_weight` and `inverse_factor`.
    """
    return weight_saliency(live_weight(weight, hessian), inverse_factor(hessian, damping))


def magnitude_saliency(weight: Tensor, hessian: Tensor) -> Tensor:
    """|w| of every weight: (O, C) and (C, C) -> (O, C), 0 on channels without input.

    Raises:
        ValueError: as `live_weight`.
    """
    return live_weight(weight, hessian).abs()


def low_mask(saliency: Tensor, low_share: float) -> Tensor:
    """The least salient share of a matrix: (O, C) -> (O, C) bool; ties are low.

    Raises:
        ValueError: a share outside [0, 1).
    """
    if not 0 <= low_share < 1:
        raise ValueError(f"low_share must be in [0, 1), got {low_share}")
    threshold = saliency.flatten().kthvalue(int(saliency.numel() * low_share) + 1).values
    return saliency <= threshold


def partial_binary(
    weight: Tensor, hessian: Tensor, low: Tensor, *, block_size: int = 128, damping: float = 0.01
) -> PartialBinaryWeight:
    """One bit for the weights in a mask and eight for the others, errors fed back.

    Args:
        weight: (O, C).
        hessian: (C, C), `Hessian.matrix`.
        low: (O, C) bool, of `low_mask`.
        block_size: columns between two updates of all the rest.
        damping: see `inverse_factor`.

    Raises:
        ValueError: as `gptq`, or a mask of another shape.
    """
    live = live_weight(weight, hessian)
    if low.shape != live.shape or low.dtype != torch.bool:
        raise ValueError(f"low must be a bool mask {tuple(live.shape)}, got {tuple(low.shape)}, {low.dtype}")
    masked = live * low
    mean = masked.mean(1, keepdim=True)
    amplitude = (masked - mean).abs().mean(1, keepdim=True)
    high = AffineGrid.asymmetric(weight, bits=8)
    codes = torch.empty_like(live, dtype=torch.int8)

    def round_column(index: int, column: Tensor, _: Tensor) -> Tensor:
        column = column.unsqueeze(1)
        signs = torch.where(column < mean, -1, 1)
        part = low[:, index, None]
        codes[:, index, None] = torch.where(part, signs, high.codes(column)).to(torch.int8)
        return torch.where(part, mean + amplitude * signs, high.quantize(column)).squeeze(1)

    round_with_feedback(live, inverse_factor(hessian, damping), round_column, block_size)
    return PartialBinaryWeight(low, codes, mean, amplitude, high)
