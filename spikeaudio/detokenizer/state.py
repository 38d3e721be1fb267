"""What a streaming detokenizer remembers between two calls. Created by the model, owned by the caller.

The rows of a batch are independent conversations: each has its own pending codes, its own context and its own clock,
so that one of them can end or start again (`reset`) while the others go on.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from spikeaudio.detokenizer.dit import KeyValue


@dataclass
class DetokenizerState:
    """State of `FlowMatchingDetokenizer.step`; B rows, L blocks.

    The context is kept at its full size and right-aligned: of the K places, the last ``cached_frames[b]`` hold frames.
    """

    keys: Tensor  # (L, B, heads, K, D), rotated by positions up to `positions`
    values: Tensor  # (L, B, heads, K, D)
    seeds: Tensor  # (B,) int64
    frames: Tensor  # (B,) int64, frames made since the start; addresses the noise
    positions: Tensor  # (B,) int64, rotary position of the next frame; re-based in long streams
    cached_frames: Tensor  # (B,) int64
    pending: list[Tensor]  # B x (P,) int64, codes pushed and not yet decoded
    ended: Tensor  # (B,) bool, rows whose last codes were decoded
    emitted_frames: Tensor  # (B,) int64, frames of the newest mel that belong to each row; the rest of it is padding

    @property
    def batch_size(self) -> int:
        """B, the number of rows."""
        return len(self.pending)

    def reset(self, rows: Sequence[int] | None = None, seed: int | None = None) -> None:
        """Start again with nothing said.

        Args:
            rows: rows to reset; None resets all.
            seed: new seed of these rows; None keeps their seeds.
        """
        for row in range(self.batch_size) if rows is None else rows:
            self.pending[row] = self.pending[row][:0]
            for counter in (self.frames, self.positions, self.cached_frames, self.emitted_frames):
                counter[row] = 0
            self.ended[row] = False
            if seed is not None:
                self.seeds[row] = seed

    def clone(self) -> "DetokenizerState":
        """An independent copy: a stream can be continued in two ways."""
        return copy.deepcopy(self)

    def context(self, rows: Tensor) -> tuple[list[KeyValue], Tensor | None]:
        """Cached keys and values of some rows, per block, and the mask (R, 1, 1, K') of the real ones (None: all)."""
        lengths = self.cached_frames[rows]
        longest = int(lengths.max())
        begin = self.keys.shape[3] - longest
        keys, values = self.keys[:, rows, :, begin:], self.values[:, rows, :, begin:]
        mask = None
        if int(lengths.min()) < longest:
            mask = (torch.arange(longest, 0, -1, device=lengths.device) <= lengths[:, None])[:, None, None]
        return [KeyValue(k, v) for k, v in zip(keys, values, strict=True)], mask

    def commit(self, rows: Tensor, memory: Sequence[KeyValue]) -> None:
        """Append finished frames of some rows to their context; the oldest frames fall out."""
        places = self.keys.shape[3]
        for cached, new in (
            (self.keys, torch.stack([block.keys for block in memory])),
            (self.values, torch.stack([block.values for block in memory])),
        ):
            cached[:, rows] = torch.cat((cached[:, rows], new), 3)[:, :, :, -places:]
        num_frames = memory[0].keys.shape[2]
        self.frames[rows] += num_frames
        self.positions[rows] += num_frames
        self.cached_frames[rows] = (self.cached_frames[rows] + num_frames).clamp(max=places)
