"""A cache of keys and values that holds spike counts: 4 bits per number.

A position's entry is d / 2 bytes of packed counts and two bytes of scale (bfloat16), per head; keys are stored rotated
(see `spikeaudio.spiking.layers.attention`). Beside bfloat16 keys and values of head size 128 that is 0.26 of the
memory. What is returned is decoded; `spiking_attention` finds the same counts in it again. The entry of a position
depends on that position alone, so the cache can be cropped, reordered and repeated like any other.
"""

from typing import Any

import torch
from torch import Tensor, nn
from transformers.cache_utils import Cache, DynamicLayer

from spikeaudio.spiking.layers.attention import NAME, code_states
from spikeaudio.spiking.transforms.hadamard import hadamard_matrix, rotate
from spikeaudio.spiking.weights.packing import pack, unpack

_BITS = 4


def encode_states(states: Tensor) -> Tensor:
    """(..., d) -> (..., bytes) uint8: packed counts, then the scale."""
    plane = code_states(states)
    packed = pack(plane.counts.flatten(0, -2).to(torch.int8), _BITS).reshape(*states.shape[:-1], -1)
    return torch.cat([packed, plane.scale.bfloat16().contiguous().view(torch.uint8)], dim=-1)


def decode_states(entry: Tensor, size: int) -> Tensor:
    """(..., bytes) uint8 -> (..., size) float32."""
    counts = unpack(entry[..., :-2].flatten(0, -2), size, _BITS).reshape(*entry.shape[:-1], size)
    scale = entry[..., -2:].contiguous().view(torch.bfloat16)
    return counts * scale.float()


class SpikingCacheLayer(DynamicLayer):  # type: ignore[misc]
    """Keys and values of one layer as spike counts; grows with the sequence."""

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Start empty."""
        super().lazy_initialization(key_states, value_states)
        self.size = key_states.shape[-1]
        heads = (*key_states.shape[:-2], 0)
        width = encode_states(key_states[..., :1, :]).shape[-1]
        self.keys = torch.empty(*heads, width, dtype=torch.uint8, device=self.device)
        self.values = torch.empty(*heads, width, dtype=torch.uint8, device=self.device)

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Append new positions, (B, H, T, d); returns all of them, decoded, in the dtype that came."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        self.keys = torch.cat([self.keys, encode_states(rotate(key_states))], dim=-2)
        self.values = torch.cat([self.values, encode_states(value_states)], dim=-2)
        back = hadamard_matrix(self.size).to(self.device, torch.float32).T
        keys = decode_states(self.keys, self.size) @ back
        return keys.to(key_states.dtype), decode_states(self.values, self.size).to(value_states.dtype)

    @property
    def num_bytes(self) -> int:
        """Memory of its entries."""
        return int(self.keys.numel() + self.values.numel())


class SpikingCache(Cache):  # type: ignore[misc]
    """``model.generate(..., past_key_values=SpikingCache())``."""

    def __init__(self) -> None:
        super().__init__(layer_class_to_replicate=SpikingCacheLayer)

    @property
    def num_bytes(self) -> int:
        """Memory of all entries."""
        return sum(layer.num_bytes for layer in self.layers)


def cache_for(model: nn.Module) -> SpikingCache | None:
    """An empty cache of counts where the attention of a model spikes; None: any other cache is as good."""
    config: Any = model.config
    return SpikingCache() if config._attn_implementation == NAME else None
