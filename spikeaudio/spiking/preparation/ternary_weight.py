"""Weights as sums of ternary terms: a layer that does nothing but add.

    w ~ sum over t < steps of  a_t s_t,        s_t in {-1, 0, 1}

one term for ordinary weights and more for the most salient ones, rounded with GPTQ's feedback. SpikeLLM
(arXiv 2407.04752) describes such a quantization without code; this is ours.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from spikeaudio.spiking.preparation.gptq import round_with_feedback
from spikeaudio.spiking.preparation.hessian import inverse_factor, live_weight, weight_saliency
from spikeaudio.spiking.weights.weight_grid import TernaryGrid, grouped


@dataclass(frozen=True)
class TernaryWeight:
    """Weights of a layer as sums of ternary terms.

    Attributes:
        terms: (T, O, C) int8, values -1, 0 and 1; 0 beyond a weight's steps.
        scale: (T, O, G) float32, amplitudes; a group is C / G neighbouring inputs.
        steps: (O, C) int8, how many terms a weight may have.
    """

    terms: Tensor
    scale: Tensor
    steps: Tensor

    @property
    def average_steps(self) -> float:
        """Terms per weight, 1 to T."""
        return float(self.steps.float().mean())

    def values(self) -> Tensor:
        """(O, C) float32: what the terms add up to."""
        group_size = self.terms.shape[2] // self.scale.shape[2]
        return (self.terms * self.scale.repeat_interleave(group_size, dim=2)).sum(0)


def ternary_gptq(
    weight: Tensor,
    hessian: Tensor,
    *,
    salient_share: float = 0.1,
    salient_steps: int = 5,
    group_size: int | None = None,
    block_size: int = 128,
    damping: float = 0.01,
) -> TernaryWeight:
    """Ternary weights that keep a layer's output, of 1 + salient_share (salient_steps - 1) terms on average.

    Amplitudes are fitted before the first error is made: a_0 to all weights, a_t to what the terms before it leave
    of the salient ones.

    Args:
        weight: (O, C).
        hessian: (C, C), `Hessian.matrix`.
        salient_share: share of the weights, by `weight_saliency`, that get more than one term, in [0, 1].
        salient_steps: T, terms of these.
        group_size: neighbouring columns that share amplitudes; None: all of them.
        block_size: columns between two updates of all the rest.
        damping: see `inverse_factor`.

    Raises:
        ValueError: as `gptq`, or a share or a number of steps out of range.
    """
    if not 0 <= salient_share <= 1 or not 1 <= salient_steps <= 127:
        raise ValueError(f"expected a share in [0, 1] and 1 to 127 steps, got {salient_share} and {salient_steps}")
    live = live_weight(weight, hessian)
    size = grouped(live, group_size).shape[2]
    factor = inverse_factor(hessian, damping)
    steps = torch.ones(live.numel(), dtype=torch.int8, device=live.device)
    most_salient = weight_saliency(live, factor).flatten().topk(round(salient_share * live.numel())).indices
    steps[most_salient] = salient_steps
    steps = steps.reshape(live.shape)
    scales: list[Tensor] = []
    rest = live
    for step in range(salient_steps):
        grid = TernaryGrid.least_squares(rest.where(steps > step, 0), group_size)
        scales.append(grid.scale)
        rest = rest - grid.quantize(rest).where(steps > step, 0)
    scale = torch.stack(scales)
    terms = torch.zeros(salient_steps, *live.shape, dtype=torch.int8, device=live.device)

    def round_column(index: int, column: Tensor, _: Tensor) -> Tensor:
        rest = column.unsqueeze(1)
        for step in range(salient_steps):
            grid = TernaryGrid(scale[step, :, index // size, None], None)
            fired = grid.codes(rest).where(steps[:, index, None] > step, 0)
            terms[step, :, index] = fired.squeeze(1)
            rest = rest - grid.decode(fired)
        return column - rest.squeeze(1)

    round_with_feedback(live, factor, round_column, block_size)
    return TernaryWeight(terms, scale, steps)
