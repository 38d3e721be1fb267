"""Three ways to run a linear layer on spikes; their integer accumulators are equal, bit for bit.

    folded:        A = W n                                             one integer matrix product on the counts
    event-driven:  A = sum_t w[t] sum_{c: s[t,c] != 0} s[t,c] W[:,c]   adds weight columns where a spike is
    expanded:      A = [w[0] W, ..., w[T-1] W] [s[0]; ...; s[T-1]]     steps unrolled as extra columns, one product

Folding is exact because integer addition is associative and |A| <= C max|n| max|W| stays far below 2^31 (the widest
layer of Qwen2-7B, 18,944 inputs, 30 levels, 4-bit weights: 4.5e6). It is the form to run on CPUs and GPUs; events are
the view of neuromorphic hardware; the expanded form is SpikeLLM's ("merge over channels", arXiv 2407.04752).
"""

from functools import cache

import torch
from torch import Tensor

from spikeaudio.spiking.planes import Plane

_EVENTS_AT_ONCE = 4096


def integer_product(counts: Tensor, weight: Tensor) -> Tensor:
    """counts weight^T in integers, exactly.

    Args:
        counts: (..., C) int32.
        weight: (O, C) int8.

    Returns:
        (..., O) int32.

    Raises:
        OverflowError: a sum might not fit int32.
    """
    flat = counts.reshape(-1, counts.shape[-1])
    largest = int(flat.abs().max()) if flat.numel() else 0
    if largest * 128 * weight.shape[1] >= 2**31:
        raise OverflowError(f"counts up to {largest} over {weight.shape[1]} channels may overflow int32 accumulators")
    # torch 2.11 returns uninitialised memory for a single channel.
    if largest <= 127 and weight.shape[1] > 1 and flat.is_cpu and _multiplies_int8():
        product = torch._int_mm(flat.to(torch.int8), weight.T)
    else:
        exact = torch.float32 if _sums_below(2**24, largest, weight) else torch.float64
        product = (flat.to(exact) @ weight.to(exact).T).to(torch.int32)
    return product.reshape(*counts.shape[:-1], weight.shape[0])


def _sums_below(limit: int, largest: int, weight: Tensor) -> bool:
    """Whether no sum of products reaches `limit`: floats add integers below 2^24 (double: 2^53) without rounding."""
    if largest * 128 * weight.shape[1] < limit:
        return True
    return largest * int(weight.abs().max()) * weight.shape[1] < limit if weight.numel() else True


@cache
def _multiplies_int8() -> bool:
    """Whether the CPU has instructions for int8 products; without them torch's int8 kernel is 30 times slower than the
    float64 one."""
    capabilities = torch.cpu.get_capabilities()
    return any(capabilities.get(name, False) for name in ("amx_int8", "avx512_vnni", "avx_vnni"))


def folded(plane: Plane, weight: Tensor) -> Tensor:
    """Accumulators of a plane in one product: weight (O, C) int8 -> (..., O) int32."""
    return integer_product(plane.counts, weight)


def event_driven(plane: Plane, weight: Tensor) -> Tensor:
    """Accumulators of a plane from its spikes alone: weight (O, C) int8 -> (..., O) int32."""
    trains = plane.spikes()  # (T, ..., C)
    flat = trains.reshape(len(trains), -1, trains.shape[-1])
    step_weights = plane.steps.weights(len(trains)).to(flat)
    columns = weight.T.to(torch.int32)
    out = torch.zeros(flat.shape[1], weight.shape[0], dtype=torch.int32, device=flat.device)
    for spikes, step_weight in zip(flat, step_weights, strict=True):
        tokens, channels = spikes.nonzero(as_tuple=True)
        for first in range(0, len(tokens), _EVENTS_AT_ONCE):
            part = slice(first, first + _EVENTS_AT_ONCE)
            levels = spikes[tokens[part], channels[part]].unsqueeze(-1)
            out.index_add_(0, tokens[part], step_weight * levels * columns[channels[part]])
    return out.reshape(*trains.shape[1:-1], weight.shape[0])


def expanded(plane: Plane, weight: Tensor) -> Tensor:
    """Accumulators of a plane with its steps as extra columns: weight (O, C) int8 -> (..., O) int32.

    Raises:
        OverflowError: a step's weight times a weight does not fit int8.
    """
    trains = plane.spikes()  # (T, ..., C)
    step_weights = plane.steps.weights(len(trains)).to(weight.device)
    columns = torch.cat([weight.to(torch.int64) * step_weight for step_weight in step_weights], dim=1)
    if columns.numel() and not -128 <= int(columns.min()) <= int(columns.max()) <= 127:
        raise OverflowError("a step weight times a weight exceeds int8; expanded columns need weights of fewer bits")
    return integer_product(torch.cat(list(trains), dim=-1), columns.to(torch.int8))
