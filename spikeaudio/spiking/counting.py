"""How many operations a model did: counted from the spikes that fired, in every currency at once.

A spike of level s to a layer with N non-zero weights in its column costs, depending on the hardware,

    unary   |s| N accumulates          one spike after another
    bits    popcount(|s|) N            shift and add
    graded  N (0 if s = 0)             one multiply-accumulate with a small integer, where the hardware has it

and none of the three is hidden: a multi-level spike counted as "one accumulate" is the usual flattery. Where attention
spikes, the weights behind a query's channel are the non-zero keys that it may see, those behind an attention weight
the non-zero values of its position. Beside them: what the dense twin would do (MACs), attention products, corrections
for zero points, dequantization, and the bytes of weights and cache that are read; softmax, norms and activations are
not counted. NeuroBench (Yik et al. 2025, github.com/NeuroBench/neurobench) books levels above 1 as
MACs and miscounts layers that quantize in their forward pass, so counting is done here, from the planes that neurons
emit; `energy.report` uses its names.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from spikeaudio.spiking.layers.attention import NAME, on_attention
from spikeaudio.spiking.layers.cache import SpikingCacheLayer
from spikeaudio.spiking.layers.linear import PackedSpikingLinear, SpikingLinear
from spikeaudio.spiking.neurons.planes import Plane

_BITS = 16  # a count of GIF or SpikingBrain needs fewer


@dataclass
class LayerCount:
    """Totals of one linear layer over all tokens it saw.

    `elements` are inputs (tokens x channels), `steps` their step slots (elements x T); an event is counted once per
    element, an operation once per non-zero weight behind it.
    """

    tokens: int = 0
    elements: int = 0
    silent_elements: int = 0
    unary_events: int = 0
    bit_events: int = 0
    graded_events: int = 0
    unary_operations: int = 0
    bit_operations: int = 0
    graded_operations: int = 0
    ternary_operations: int = 0  # those of the graded ones whose plane fired -1, 0 and 1 only: plain accumulates
    dense_operations: int = 0  # MACs of the dense twin
    correction_operations: int = 0  # zero points
    dequantization_operations: int = 0  # multiplications of accumulators by scales
    weight_bytes: int = 0  # read once per call
    calls: int = 0

    def __add__(self, other: "LayerCount") -> "LayerCount":
        return LayerCount(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(LayerCount)))

    @property
    def silent_share(self) -> float:
        """Share of the inputs that fired nothing, in [0, 1]: NeuroBench's ActivationSparsity of this input."""
        return self.silent_elements / max(1, self.elements)

    @property
    def unary_rate(self) -> float:
        """Unary spikes per input."""
        return self.unary_events / max(1, self.elements)


@dataclass
class ModelCount:
    """Counts of a model by layer name, and what lies between the layers."""

    layers: dict[str, LayerCount] = field(default_factory=dict)
    dense_layers: dict[str, LayerCount] = field(default_factory=dict)
    attention: dict[str, LayerCount] = field(default_factory=dict)  # where it spikes: queries and attention weights
    attention_operations: int = 0  # MACs of QK^T and PV over the positions that a causal mask leaves, spiking or not
    cache_bytes: int = 0  # keys and values read

    @property
    def total(self) -> LayerCount:
        """Sum over the spiking layers."""
        return sum(self.layers.values(), LayerCount())

    @property
    def total_attention(self) -> LayerCount:
        """Sum over the attention modules that spike."""
        return sum(self.attention.values(), LayerCount())


def popcount(values: Tensor) -> Tensor:
    """Number of ones in the binary form of non-negative integers below 2^16; int64, same shape."""
    values = values.to(torch.int64)
    return sum(((values >> bit) & 1 for bit in range(_BITS)), torch.zeros_like(values))


def count_planes(planes: list[Plane], fan_out: Tensor, total: LayerCount) -> None:
    """Add the events of planes to a layer's count.

    Args:
        planes: planes that the neuron emitted.
        fan_out: (C,) int64, non-zero weights in every input's column.
        total: changed.
    """
    for plane in planes:
        behind = fan_out if plane.channels is None else fan_out[plane.channels]
        magnitude = plane.counts.abs().reshape(-1, plane.counts.shape[-1]).to(torch.int64)
        bits, fired = popcount(magnitude), (magnitude > 0).to(torch.int64)
        if bool((magnitude <= 1).all()):
            total.ternary_operations += int((fired.sum(0) * behind).sum())
        total.elements += magnitude.numel()
        total.silent_elements += magnitude.numel() - int(fired.sum())
        for name, events in (("unary", magnitude), ("bit", bits), ("graded", fired)):
            per_channel = events.sum(0)
            _add(total, f"{name}_events", int(per_channel.sum()))
            _add(total, f"{name}_operations", int((per_channel * behind).sum()))


def _add(total: LayerCount, name: str, number: int) -> None:
    setattr(total, name, getattr(total, name) + number)


class _LinearCounter:
    """Forward hook of one linear layer."""

    def __init__(self, layer: nn.Linear) -> None:
        self.total = LayerCount()
        weight = layer.codes() if isinstance(layer, PackedSpikingLinear) else layer.weight.detach()
        self._fan_out = (weight != 0).sum(0)
        self._groups = layer.weight_scale.shape[1] if isinstance(layer, PackedSpikingLinear) else 1

    def __call__(self, layer: nn.Linear, inputs: tuple[Tensor, ...], _: Any) -> None:
        values, total = inputs[0].detach(), self.total
        tokens = values.numel() // max(1, layer.in_features)
        total.calls += 1
        total.tokens += tokens
        total.dense_operations += tokens * layer.in_features * layer.out_features
        total.weight_bytes += layer.weight.numel() * layer.weight.element_size()
        if not isinstance(layer, SpikingLinear):
            return
        if isinstance(layer, PackedSpikingLinear):
            total.weight_bytes += layer.weight_scale.numel() * layer.weight_scale.element_size()
        planes = layer.planes(values)
        count_planes(planes, self._fan_out, total)
        for plane in planes:
            total.dequantization_operations += tokens * layer.out_features * self._groups
            if plane.zero is not None:
                total.correction_operations += tokens * layer.out_features * self._groups


class _AttentionCounter:
    """Forward hook of a transformers attention module: MACs of both products, bytes of keys and values."""

    def __init__(self, count: ModelCount) -> None:
        self._count = count

    def __call__(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], _: Any) -> None:
        hidden = kwargs.get("hidden_states", args[0] if args else None)
        if hidden is None:
            return
        rows, new = hidden.shape[0], hidden.shape[1]
        cache, past = kwargs.get("past_key_values"), 0
        if cache is not None:
            past = cache.get_seq_length(module.layer_idx) - new  # this call's keys are in it already
        config: Any = module.config
        head_dim: Any = module.head_dim
        causal = getattr(module, "is_causal", True)
        pairs = new * past + new * (new + 1) // 2 if causal else new * new
        self._count.attention_operations += 2 * rows * config.num_attention_heads * head_dim * pairs
        if not causal:  # an encoder keeps nothing
            return
        layer = cache.layers[module.layer_idx] if cache is not None else None
        if isinstance(layer, SpikingCacheLayer):
            self._count.cache_bytes += layer.num_bytes
        else:
            keys = (past + new) * config.num_key_value_heads * head_dim * hidden.element_size()
            self._count.cache_bytes += 2 * rows * keys


class _SpikingAttentionCounter:
    """Attention hook: events of queries and attention weights, operations at the non-zero counts behind them."""

    def __init__(self) -> None:
        self.total = LayerCount()

    def __call__(self, planes: list[Plane], mask: Tensor | None) -> None:
        q, k, v, w = planes
        rows, heads, new, size = q.counts.shape
        past = k.counts.shape[2]
        visible = q.counts.new_ones(rows, 1, new, past, dtype=torch.bool)
        if mask is not None:
            visible = (mask[..., :past] > torch.finfo(mask.dtype).min / 2).expand_as(visible)
        seen = visible.float() @ (k.counts != 0).float()  # (B, H, T, d): keys that a query's channel meets
        filled = (v.counts != 0).sum(-1).unsqueeze(2)  # (B, H, 1, S): channels that an attention weight meets
        pairs = heads * int(visible.sum())
        total = self.total
        total.calls += 1
        total.tokens += rows * new
        total.dense_operations += 2 * size * pairs
        # Scores by the scales of q and k, attention weights by those of v, outputs by those of w.
        total.dequantization_operations += 3 * pairs + q.counts.numel()
        for counts, behind in ((q.counts, seen.to(torch.int64)), (w.counts, filled)):
            magnitude = counts.abs().to(torch.int64)
            fired = (magnitude > 0).to(torch.int64)
            total.elements += magnitude.numel() if counts is q.counts else pairs
            total.silent_elements += (magnitude.numel() if counts is q.counts else pairs) - int(fired.sum())
            for name, events in (("unary", magnitude), ("bit", popcount(magnitude)), ("graded", fired)):
                _add(total, f"{name}_events", int(events.sum()))
                _add(total, f"{name}_operations", int((events * behind).sum()))


@contextmanager
def counting(model: nn.Module) -> Iterator[ModelCount]:
    """Count everything that linear layers and attention of `model` do inside the block.

    Example:
        >>> from spikeaudio import SpikeAudio
        >>> from spikeaudio.spiking.counting import counting
        >>> model = SpikeAudio.from_pretrained("checkpoints/spikeaudio-tiny-w4a4")
        >>> with counting(model.model) as count:
        ...     text = model.transcribe("spikeaudio/samples/question.wav")
        >>> len(count.layers), 1.5 < count.total.unary_rate < 2.5
        (49, True)

    Padding is counted like any token: count one row at a time where it matters. Neurons run a second time for it, so
    the block takes longer than the plain run.
    """
    count = ModelCount()
    handles: list[RemovableHandle] = []
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear):
            counter = _LinearCounter(module)
            group = count.layers if isinstance(module, SpikingLinear) else count.dense_layers
            group[name] = counter.total
            handles.append(module.register_forward_hook(counter))
        elif name.endswith("self_attn") and hasattr(module, "head_dim"):
            handles.append(module.register_forward_hook(_AttentionCounter(count), with_kwargs=True))
            if module.config._attn_implementation == NAME:  # type: ignore[union-attr]
                spikes = _SpikingAttentionCounter()
                count.attention[name] = spikes.total
                handles.append(on_attention(module, spikes))
    try:
        yield count
    finally:
        for handle in handles:
            handle.remove()
