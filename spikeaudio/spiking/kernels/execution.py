"""Two ways to run a linear layer on spikes; their integer accumulators are equal, bit for bit.

    folded:        A = W n                                             one integer matrix product on the counts
    event-driven:  A = sum_t w[t] sum_{c: s[t,c] != 0} s[t,c] W[:,c]   adds weight columns where a spike is

Folding is exact because integer addition is associative and |A| <= C max|n| max|W| stays far below 2^31 (the widest
layer of Qwen2-7B, 18,944 inputs, 30 levels, 4-bit weights: 4.5e6). It is the form to run on CPUs and GPUs; events are
the view of neuromorphic hardware.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import cache

import torch
from torch import Tensor

from spikeaudio.spiking.neurons.planes import Plane

Execution = Callable[[Plane, Tensor, int], Tensor]
"""(plane of counts (..., C) for all its channels, weight codes (O, C), bound on their magnitude) -> accumulators
(..., O) int32. Groups of channels go in front: counts (G, ..., C / G) and codes (G, O, C / G) -> (G, ..., O). Codes are
int8, or float32 that holds such integers."""

LARGEST_CODE = 128  # of 8 bits, in magnitude
_EVENTS_AT_ONCE = 4096


def integer_product(
    counts: Tensor, weight: Tensor, largest_code: int = LARGEST_CODE, largest: int | None = None
) -> Tensor:
    """counts weight^T in integers, exactly.

    Args:
        counts: (..., C) int32; with groups (G, ..., C).
        weight: (O, C) int8, or float32 that holds such integers; with groups (G, O, C).
        largest_code: magnitude that no weight exceeds.
        largest: magnitude that no count exceeds; None: they are looked at.

    Returns:
        (..., O) int32; with groups (G, ..., O).

    Raises:
        OverflowError: a sum might not fit int32.
    """
    channels = weight.shape[-1]
    flat = counts.reshape(*weight.shape[:-2], -1, channels)
    if largest is None or largest * largest_code * channels >= 2**31:
        largest = int(flat.abs().max()) if flat.numel() else 0
    if largest * largest_code * channels >= 2**31:
        raise OverflowError(f"counts up to {largest} over {channels} channels may overflow int32 accumulators")
    int8 = weight.dim() == 2 and product_type(largest, weight.device) == torch.int8
    if int8 and channels > 1:  # torch 2.11 returns uninitialised memory for one channel
        product = torch._int_mm(flat.to(torch.int8), weight.to(torch.int8).T)
    else:  # floats add integers below 2^24 (double: 2^53) without rounding
        exact = torch.float32 if largest * largest_code * channels < 2**24 else torch.float64
        product = (flat.to(exact) @ weight.to(exact).mT).to(torch.int32)
    return product.reshape(*counts.shape[:-1], weight.shape[-2])


def product_type(largest: int | None, device: torch.device) -> torch.dtype:
    """The type in which a product reads its weights soonest: int8 or float32.

    int8 where counts fit it (`largest` None, unknown: most do) and the CPU has instructions for its products; without
    them torch's kernel is slower than that of floats, with few tokens or many times.
    """
    fits = largest is None or largest <= 127
    return torch.int8 if fits and device.type == "cpu" and _multiplies_int8() else torch.float32


@cache
def _multiplies_int8() -> bool:
    """Whether the CPU has instructions for int8 products."""
    capabilities = torch.cpu.get_capabilities()
    return any(capabilities.get(name, False) for name in ("amx_int8", "avx512_vnni", "avx_vnni"))


def folded(plane: Plane, weight: Tensor, largest_code: int = LARGEST_CODE) -> Tensor:
    """Accumulators of a plane in one product. Shapes as of `Execution`."""
    return integer_product(plane.counts, weight, largest_code, plane.largest)


def _by_group(execution: Execution, plane: Plane, weight: Tensor, largest_code: int) -> Tensor:
    """An execution, group by group: counts (G, ..., C), weight (G, O, C) -> (G, ..., O)."""
    groups = zip(plane.counts, weight, strict=True)
    return torch.stack([execution(replace(plane, counts=counts), part, largest_code) for counts, part in groups])


def event_driven(plane: Plane, weight: Tensor, largest_code: int = LARGEST_CODE) -> Tensor:
    """Accumulators of a plane from its spikes alone. Shapes as of `Execution`."""
    if weight.dim() == 3:
        return _by_group(event_driven, plane, weight, largest_code)
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
