"""DiT: the velocity network, a transformer whose layer norms are driven by the codes and the time of the flow.

    c = time_embedding(tau) + code_embedding(code)             one condition per code, not per utterance
    h = h + gate_a * attention(LN(h) * (1 + scale_a) + shift_a)
    h = h + gate_m * mlp(LN(h) * (1 + scale_m) + shift_m)      shifts, scales and gates from Linear(SiLU(c))
    v = Linear(LN(h) * (1 + scale) + shift)

One code lasts `frames_per_code` mel frames that share its condition, so the modulation runs once per code and is
broadcast over the code's frames. Attention is bidirectional over the frames given; the past comes in as an explicit
cache of rotated keys and values, which is all that makes the network chunk-causal. Rotary embedding turns the pairs
(2i, 2i + 1) by pos * base^(-2i / D).

Source: Peebles and Xie, arXiv:2212.09748, in the form of MoonshotAI/Kimi-Audio (kimia_infer/models/detokenizer).

Notation: B batch, S codes, F frames = S * frames per code, H hidden, D head size, K cached frames, M mels.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_TIME_FREQUENCIES = 128
_EPS = 1e-6


class KeyValue(NamedTuple):
    """Attention memory of one block."""

    keys: Tensor  # (B, heads, K, D), after rotation
    values: Tensor  # (B, heads, K, D)


class Rotation(NamedTuple):
    """Angles of the rotary embedding."""

    cos: Tensor  # (F, D / 2) or (B, F, D / 2), fp32
    sin: Tensor

    @classmethod
    def at(cls, positions: Tensor, head_size: int, base: float) -> "Rotation":
        """Rotation by `positions`, int64 (F,) or (B, F); negative ones turn back."""
        frequencies = base ** (-torch.arange(0, head_size, 2, device=positions.device, dtype=torch.float32) / head_size)
        angles = positions[..., None].float() * frequencies
        return cls(angles.cos(), angles.sin())

    def turn(self, x: Tensor) -> Tensor:
        """Turn (..., F, D); the leading dimensions broadcast. In fp32, returned in the dtype of `x`."""
        even, odd = x.float().unflatten(-1, (-1, 2)).unbind(-1)
        return (
            torch.stack((even * self.cos - odd * self.sin, even * self.sin + odd * self.cos), -1)
            .flatten(-2)
            .to(x.dtype)
        )


class TimeEmbedding(nn.Sequential):
    """Integer time -> hidden: an MLP on 128 cosines, then 128 sines. Shape: tau (...,) int64 -> (..., H)."""

    def __init__(self, hidden_size: int) -> None:
        super().__init__(nn.Linear(2 * _TIME_FREQUENCIES, hidden_size), nn.SiLU(), nn.Linear(hidden_size, hidden_size))

    def forward(self, tau: Tensor) -> Tensor:
        index = torch.arange(_TIME_FREQUENCIES, device=tau.device, dtype=torch.float32)
        angles = tau[..., None].float() * torch.exp(-math.log(10000.0) * index / _TIME_FREQUENCIES)
        waves = torch.cat((angles.cos(), angles.sin()), -1)
        return super().forward(waves.to(next(self.parameters()).dtype))


def _modulate(hidden: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """LN(hidden) * (1 + scale) + shift. hidden (B, S, r, H); shift, scale (B, S, H)."""
    return torch.addcmul(shift[:, :, None], F.layer_norm(hidden, hidden.shape[-1:], eps=_EPS), 1 + scale[:, :, None])


class DiTBlock(nn.Module):
    """Attention and MLP, both with modulated layer norm and gate.

    Args:
        hidden_size: H.
        num_heads: heads of size D = H / num_heads.
        mlp_size: width of the MLP.

    Shape:
        hidden: (B, S, r, H), the r frames of each code together.
        condition: (B, S, H), SiLU(c).
        cache: keys and values of earlier frames, or None.
        mask: bool, broadcastable to (B, heads, F, K + F), True where a frame (row) may look; None: everywhere.
        return: hidden, and keys and values of these F frames alone.
    """

    def __init__(self, hidden_size: int, num_heads: int, mlp_size: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.modulation = nn.Linear(hidden_size, 6 * hidden_size)
        self.qkv = nn.Linear(hidden_size, 3 * hidden_size)
        self.out = nn.Linear(hidden_size, hidden_size)
        self.up = nn.Linear(hidden_size, mlp_size)
        self.down = nn.Linear(mlp_size, hidden_size)

    def forward(
        self,
        hidden: Tensor,
        condition: Tensor,
        rotation: Rotation,
        cache: KeyValue | None = None,
        mask: Tensor | None = None,
    ) -> tuple[Tensor, KeyValue]:
        shift_a, scale_a, gate_a, shift_m, scale_m, gate_m = self.modulation(condition).chunk(6, -1)
        qkv = self.qkv(_modulate(hidden, shift_a, scale_a)).flatten(1, 2)  # (B, F, 3 H)
        query, keys, values = qkv.unflatten(-1, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)  # 3 x (B, heads, F, D)
        query, keys = rotation.turn(query), rotation.turn(keys)
        current = KeyValue(keys, values)
        if cache is not None:
            keys, values = torch.cat((cache.keys, keys), 2), torch.cat((cache.values, values), 2)
        heard = F.scaled_dot_product_attention(query, keys, values, attn_mask=mask)
        heard = self.out(heard.transpose(1, 2).flatten(2)).view_as(hidden)
        hidden = torch.addcmul(hidden, gate_a[:, :, None], heard)
        mlp = self.down(F.gelu(self.up(_modulate(hidden, shift_m, scale_m)), approximate="tanh"))
        return torch.addcmul(hidden, gate_m[:, :, None], mlp), current


class DiT(nn.Module):
    """Velocity network of the detokenizer.

    Args:
        num_codes: codes are 0..num_codes - 1; `num_codes` is the null code.
        num_mels: M.
        hidden_size: H.
        depth: blocks.
        num_heads: heads of even size H / num_heads.
        mlp_ratio: MLP width over H.
        rope_base: base of the rotary frequencies.

    Example:
        >>> import torch
        >>> from spikeaudio import DiT
        >>> network = DiT(num_codes=16, num_mels=8, hidden_size=32, depth=2, num_heads=2, mlp_ratio=2.0)
        >>> x, codes, tau = torch.randn(1, 12, 8), torch.tensor([[3, 1, 4]]), torch.tensor([[500]])
        >>> velocity, memory = network(x, codes, tau, torch.arange(12))
        >>> velocity.shape, len(memory)
        (torch.Size([1, 12, 8]), 2)
    """

    def __init__(
        self,
        num_codes: int,
        num_mels: int,
        hidden_size: int,
        depth: int,
        num_heads: int,
        mlp_ratio: float,
        rope_base: float = 10000.0,
    ) -> None:
        super().__init__()
        if hidden_size % (2 * num_heads):
            raise ValueError(f"hidden_size must be a multiple of 2 * num_heads = {2 * num_heads}, got {hidden_size}")
        self.null_code = num_codes
        self.head_size = hidden_size // num_heads
        self.rope_base = rope_base
        self.code_embedding = nn.Embedding(num_codes + 1, hidden_size)
        self.time_embedding = TimeEmbedding(hidden_size)
        self.mel_in = nn.Linear(num_mels, hidden_size)
        self.blocks = nn.ModuleList(
            DiTBlock(hidden_size, num_heads, int(hidden_size * mlp_ratio)) for _ in range(depth)
        )
        self.final_modulation = nn.Linear(hidden_size, 2 * hidden_size)
        self.mel_out = nn.Linear(hidden_size, num_mels)

    def forward(
        self,
        x: Tensor,
        codes: Tensor,
        tau: Tensor,
        positions: Tensor,
        cache: Sequence[KeyValue] | None = None,
        mask: Tensor | None = None,
    ) -> tuple[Tensor, list[KeyValue]]:
        """Velocity of every frame.

        Args:
            x: (B, F, M), the point of the flow (normalised log-mel).
            codes: (B, S) int64 with F a multiple of S: S = F / 4 codes at 12.5 Hz, or S = F codes already repeated.
            tau: int64 flow time floor(1000 t), broadcastable to (B, S).
            positions: (F,) or (B, F) int64 frame numbers.
            cache: per block, keys and values of earlier frames, whose positions must not overlap.
            mask: bool, broadcastable to (B, heads, F, K + F), True where a frame may look; None: everywhere.

        Returns:
            tuple: velocity (B, F, M), and per block the keys and values of these frames, ready to be cached.

        Raises:
            ValueError: if F is no multiple of S.
        """
        batch, num_frames = x.shape[:2]
        num_codes = codes.shape[1]
        if num_codes == 0 or num_frames % num_codes:
            raise ValueError(f"frames must be a multiple of codes, got {num_frames} frames and {num_codes} codes")
        condition = F.silu(self.time_embedding(tau) + self.code_embedding(codes))  # (B, S, H)
        rotation = self.rotation(positions)
        hidden = self.mel_in(x).view(batch, num_codes, num_frames // num_codes, -1)
        memory = []
        for index, block in enumerate(self.blocks):
            hidden, current = block(hidden, condition, rotation, None if cache is None else cache[index], mask)
            memory.append(current)
        shift, scale = self.final_modulation(condition).chunk(2, -1)
        return self.mel_out(_modulate(hidden, shift, scale)).flatten(1, 2), memory

    def rotation(self, positions: Tensor) -> Rotation:
        """Rotary embedding of (F,) or (B, F) positions, broadcastable against (B, heads, F, D)."""
        return Rotation.at(positions if positions.ndim == 1 else positions[:, None], self.head_size, self.rope_base)
