"""GPTQ: weights are rounded column by column, and the columns still free undo every column's error.

    for j = 0, 1, ...:    q[j] = grid(w[j]),    e = (w[j] - q[j]) / U[j, j],    w[k] -= e U[j, k]    for k > j

over all rows at once, columns outside of a block being updated once per block; U is the inverse factor of
`spikeaudio.spiking.preparation.hessian`. Source: Frantar et al. 2022, arXiv 2210.17323; results equal to
IST-DASLab/gptq.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from spikeaudio.spiking.preparation.hessian import inverse_factor, live_weight
from spikeaudio.spiking.weights.weight_grid import WeightGrid, grouped

GridFit = Callable[[Tensor], WeightGrid]
"""(O, C) float32 -> a grid of one group, such as ``partial(AffineGrid.symmetric, bits=4)``."""

RoundColumn = Callable[[int, Tensor, Tensor], Tensor]
"""(index, column (O,), weights (O, C) with all errors of earlier blocks) -> the rounded column (O,)."""


@dataclass(frozen=True)
class QuantizedWeight:
    """Integer weights of a layer.

    Attributes:
        codes: (O, C) int8.
        scale: (O, G) float32.
        zero: (O, G) int32, the code that means 0; None: 0.
        groups: (C,) long, the group of every input; contiguous unless groups followed the activation order.
    """

    codes: Tensor
    scale: Tensor
    zero: Tensor | None
    groups: Tensor

    def values(self) -> Tensor:
        """(O, C) float32: what the codes stand for."""
        codes = self.codes if self.zero is None else self.codes - self.zero[:, self.groups]
        return codes * self.scale[:, self.groups]


def round_with_feedback(weight: Tensor, factor: Tensor, round_column: RoundColumn, block_size: int = 128) -> None:
    """Call `round_column` for every column of (O, C), in order, with the errors of the columns before it undone.

    Raises:
        ValueError: `block_size` below 1.
    """
    if block_size < 1:
        raise ValueError(f"block_size must be at least 1, got {block_size}")
    weight = weight.clone()
    for first in range(0, weight.shape[1], block_size):
        last = min(first + block_size, weight.shape[1])
        block = weight[:, first:last].clone()
        errors = torch.empty_like(block)
        for index in range(first, last):
            column = block[:, index - first]
            error = (column - round_column(index, column, weight)) / factor[index, index]
            block[:, index - first + 1 :] -= torch.outer(error, factor[index, index + 1 : last])
            errors[:, index - first] = error
        weight[:, last:] -= errors @ factor[first:last, last:]


def gptq(
    weight: Tensor,
    hessian: Tensor,
    fit: GridFit,
    *,
    group_size: int | None = None,
    static_groups: bool = False,
    activation_order: bool = False,
    block_size: int = 128,
    damping: float = 0.01,
) -> QuantizedWeight:
    """Integer weights that keep a layer's output.

    Args:
        weight: (O, C).
        hessian: (C, C), `Hessian.matrix`.
        fit: grid of weights that share a scale.
        group_size: columns that share a scale; None: all of them, their range including channels without input.
        static_groups: fit every group before the first error is made, on neighbouring channels in every order.
            Else a group is fitted when reached; as published, errors of the current block are not in yet.
        activation_order: strongest channel first instead of from left to right.
        block_size: columns between two updates of all the rest.
        damping: see `inverse_factor`.

    Raises:
        ValueError: shapes, sizes, NaN, infinity, or a Hessian that is not positive definite.
    """
    live = live_weight(weight, hessian)
    rows, columns = live.shape
    parts = grouped(live, group_size)
    size = parts.shape[2]
    order = torch.arange(columns, device=live.device)
    if activation_order:
        order = hessian.diagonal().argsort(descending=True, stable=True)
    grids: list[WeightGrid] = []
    if static_groups:
        grids = [fit(part) for part in parts.unbind(1)]
    elif group_size is None:
        grids = [fit(weight.detach().float())]
    counted = order if static_groups else torch.arange(columns, device=live.device)
    group_of: list[int] = (counted // size).tolist()
    codes = torch.empty(rows, columns, dtype=torch.int8, device=live.device)

    def round_column(index: int, column: Tensor, current: Tensor) -> Tensor:
        group = group_of[index]
        if group == len(grids):
            grids.append(fit(current[:, index : index + size]))
        rounded = grids[group].codes(column.unsqueeze(1))
        codes[:, order[index]] = rounded[:, 0]
        return grids[group].decode(rounded)[:, 0]

    factor = inverse_factor(hessian[order][:, order], damping)
    round_with_feedback(live[:, order], factor, round_column, block_size)
    groups = torch.empty_like(order)
    groups[order] = torch.tensor(group_of, device=live.device)
    zeros = [grid.zero for grid in grids if grid.zero is not None]
    return QuantizedWeight(
        codes, torch.cat([g.scale for g in grids], 1), torch.cat(zeros, 1) if zeros else None, groups
    )
