"""Attention whose two products run on spikes, causally.

    scores[t, s] = scale_q[t] scale_k[s] / sqrt(d)  sum_c q[t, c] k[s, c]             q, k: signed counts, 4 bits
    out[t] = scale_w[t]  sum_s w[t, s] v[s]    with  w ~ softmax(scores)[t, s] scale_v[s]       w: 8 bits, v: 4 bits

q, k, v, w are integer counts, so both sums are integer accumulations. Queries and keys are rotated after their
position code (R3, `spikeaudio.spiking.transforms.hadamard`), which spreads the outliers of keys and leaves the scores
as they are. Scales are per token and head: a position is coded once, from itself alone, and never changes when later
ones arrive. SpikeLLM's published code scales keys over the whole sequence, future included (spike_matmul.py), which
streaming cannot do. As every value has its own scale, it goes into the attention weight, and the weight is what fires.

With the peak as threshold, coding what is coded already changes nothing: keys and values may come from a cache that
holds counts (`spikeaudio.spiking.layers.cache`). Gradients pass straight through every coding.

`GIFConfig(attention=True)` makes it a property of a checkpoint; transformers' ``attn_implementation="spiking"`` turns
it on for any model.
"""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.hooks import RemovableHandle
from transformers import PreTrainedModel
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, eager_mask
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from spikeaudio.spiking.neurons.neuron import signed_counts
from spikeaudio.spiking.neurons.planes import Plane
from spikeaudio.spiking.neurons.steps import RadixSteps, UnarySteps
from spikeaudio.spiking.neurons.threshold import PeakThreshold
from spikeaudio.spiking.transforms.hadamard import rotate_queries_keys

NAME = "spiking"  # attn_implementation
_DENSE = "sdpa"
_HOOKS = "_spiking_attention_hooks"  # attribute of an attention module
Hook = Callable[[list[Plane], Tensor | None], None]
"""(planes of q, k, v and w, mask added to the scores) of one call."""

STATE_STEPS = UnarySteps(1, 7)  # queries, keys, values: 4 bits
WEIGHT_STEPS = RadixSteps(2, 15)  # attention weights: two steps of 4 bits


def code_states(states: Tensor) -> Plane:
    """Counts of queries, keys or values (B, H, T, d), one scale per head and position.

    Scales are rounded to bfloat16, in which the cache keeps them: with a cache or without one, the counts are the same.
    """
    scale = PeakThreshold().scale(states, STATE_STEPS.capacity).bfloat16().float()
    return Plane(signed_counts(states, scale, STATE_STEPS.capacity), scale, STATE_STEPS)


def code_weights(weights: Tensor) -> Plane:
    """Counts of non-negative attention weights (B, H, T, S), one scale per head and query."""
    scale = PeakThreshold().scale(weights, WEIGHT_STEPS.capacity)
    return Plane(signed_counts(weights, scale, WEIGHT_STEPS.capacity), scale, WEIGHT_STEPS)


def attention_products(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scaling: float
) -> tuple[Tensor, Tensor, list[Plane]]:
    """Both products from integer accumulators.

    Args:
        query: (B, H, T, d), rotated.
        key: (B, G, S, d), rotated; H / G queries share a head.
        value: (B, G, S, d).
        mask: (B, 1, T, S), added to the scores; None: nothing is hidden.
        scaling: scaling of the scores.

    Returns:
        Output (B, H, T, d), attention weights (B, H, T, S) as decoded, and the planes of q, k, v and w, those of k
        and v with H heads.
    """
    shared = query.shape[1] // key.shape[1]
    q, k, v = code_states(query), _repeated(code_states(key), shared), _repeated(code_states(value), shared)
    if torch.is_grad_enabled() and query.requires_grad:
        key, value = (states.repeat_interleave(shared, dim=1) for states in (key, value))
        return _trainable_products(query, key, value, mask, scaling, [q, k, v])
    # Products of counts below 2^24 are exact in float32: d 7 7 for scores, S 255 7 for outputs up to 9,000 positions.
    scores = (q.counts.float() @ k.counts.float().transpose(2, 3)) * q.scale * k.scale.transpose(2, 3) * scaling
    if mask is not None:
        scores = scores + mask
    weights = functional.softmax(scores, dim=-1, dtype=torch.float32) * v.scale.transpose(2, 3)
    w = code_weights(weights)
    exact = torch.float32 if w.counts.shape[-1] * 255 * 7 < 2**24 else torch.float64
    out = (w.counts.to(exact) @ v.counts.to(exact)).float() * w.scale
    return out, w.values() / v.scale.transpose(2, 3), [q, k, v, w]


def _repeated(plane: Plane, times: int) -> Plane:
    """Every head `times` times."""
    counts, scale = (part.repeat_interleave(times, dim=1) for part in (plane.counts, plane.scale))
    return replace(plane, counts=counts, scale=scale)


def _trainable_products(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scaling: float, planes: list[Plane]
) -> tuple[Tensor, Tensor, list[Plane]]:
    """The same from decoded counts, as accumulators have no gradient; all with H heads."""
    q, k, v = (straight_through(states, plane) for states, plane in zip((query, key, value), planes, strict=True))
    scores = q @ k.transpose(2, 3) * scaling
    if mask is not None:
        scores = scores + mask
    value_scale = planes[2].scale.transpose(2, 3)
    weights = functional.softmax(scores, dim=-1, dtype=torch.float32) * value_scale
    w = code_weights(weights.detach())
    weights = straight_through(weights, w) / value_scale
    return weights @ v, weights, [*planes, w]


def straight_through(values: Tensor, plane: Plane) -> Tensor:
    """What a plane stands for, float32, with the gradient of the values that it codes."""
    values = values.float()
    return values + (plane.values() - values).detach()


def on_attention(module: nn.Module, hook: Hook) -> RemovableHandle:
    """Show what the spiking attention of an attention module fires to `hook`, until the handle is removed."""
    hooks: OrderedDict[int, Hook] = module.__dict__.setdefault(_HOOKS, OrderedDict())
    handle = RemovableHandle(hooks)
    hooks[handle.id] = hook
    return handle


def set_attention(model: nn.Module, spiking: bool) -> None:
    """Turn spiking attention on, or off where it is on; modules that are no transformers model have none to turn on.

    Models inside of the model, such as an audio encoder, keep their own attention, which is not causal.

    Raises:
        ValueError: the model's attention cannot be changed.
    """
    if not isinstance(model, PreTrainedModel):
        if spiking:
            raise ValueError(f"spiking attention needs a transformers model, got {type(model).__name__}")
        return
    if spiking or model.config._attn_implementation == NAME:
        model.set_attn_implementation({"": NAME if spiking else _DENSE})


def spiking_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float,
    dropout: float = 0.0,
    **kwargs: Any,
) -> tuple[Tensor, Tensor]:
    """transformers' attention interface: (B, H, T, d) -> (B, T, H, d) and weights (B, H, T, S).

    Raises:
        ValueError: `dropout` is not 0: counts of attention weights are integers, which dropout would rescale.
    """
    if dropout:
        raise ValueError(f"spiking attention has no dropout, got attention_dropout = {dropout}")
    query, key = rotate_queries_keys(query, key)
    out, weights, planes = attention_products(query, key, value, attention_mask, scaling)
    for hook in module.__dict__.get(_HOOKS, {}).values():
        hook(planes, attention_mask)
    return out.to(query.dtype).transpose(1, 2).contiguous(), weights.to(query.dtype)


ALL_ATTENTION_FUNCTIONS.register(NAME, spiking_attention)
ALL_MASK_ATTENTION_FUNCTIONS.register(NAME, eager_mask)
