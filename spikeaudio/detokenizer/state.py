"""What a streaming detokenizer remembers between two calls. Created by the model, owned by the caller.

The rows of a batch are independent conversations: each has its own pending codes, its own context and its own clock,
so that one of them can end or start again (`reset`) while the others go on.

The context of a row is its voice prompt, if it was shown one, and the newest finished frames behind it. When it is
full the oldest finished frames fall out and the prompt stays: an attention sink that carries the voice.
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

    The context is kept at its full size and right-aligned: of the K places, the last ``cached_frames[b]`` hold frames,
    and of these the first ``prompt_frames[b]`` the voice prompt, rotated by positions 0, 1, ...
    """

    keys: Tensor  # (L, B, heads, K, D), rotated by positions up to `positions`
    values: Tensor  # (L, B, heads, K, D)
    seeds: Tensor  # (B,) int64
    frames: Tensor  # (B,) int64, frames made since the start; addresses the noise
    positions: Tensor  # (B,) int64, rotary position of the next frame; re-based in long streams
    cached_frames: Tensor  # (B,) int64, the prompt's included
    prompt_frames: Tensor  # (B,) int64
    pending: list[Tensor]  # B x (P,) int64, codes pushed and not yet decoded
    ended: Tensor  # (B,) bool, rows whose last codes were decoded
    emitted_frames: Tensor  # (B,) int64, frames of the newest mel that belong to each row; the rest of it is padding

    @classmethod
    def empty(
        cls, shape: tuple[int, int, int, int, int], seeds: Tensor, device: torch.device, dtype: torch.dtype
    ) -> "DetokenizerState":
        """State in which nothing was said yet, with room for keys and values of `shape` (L, B, heads, K, D)."""
        zeros = torch.zeros(shape[1], dtype=torch.long, device=device)
        return cls(
            keys=torch.zeros(shape, dtype=dtype, device=device),
            values=torch.zeros(shape, dtype=dtype, device=device),
            seeds=seeds.to(device),
            frames=zeros.clone(),
            positions=zeros.clone(),
            cached_frames=zeros.clone(),
            prompt_frames=zeros.clone(),
            pending=[zeros[:0] for _ in range(shape[1])],
            ended=zeros.bool(),
            emitted_frames=zeros.clone(),
        )

    @property
    def batch_size(self) -> int:
        """B, the number of rows."""
        return len(self.pending)

    def reset(self, rows: Sequence[int] | None = None, seed: int | None = None) -> None:
        """Start again with nothing said, without a voice prompt.

        Args:
            rows: rows to reset; None resets all.
            seed: new seed of these rows; None keeps their seeds.
        """
        for row in range(self.batch_size) if rows is None else rows:
            self.pending[row] = self.pending[row][:0]
            for counter in (
                self.frames,
                self.positions,
                self.cached_frames,
                self.prompt_frames,
                self.emitted_frames,
            ):
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

    @property
    def _places(self) -> Tensor:
        """Numbers of the K places."""
        return torch.arange(self.keys.shape[3], device=self.keys.device)

    def is_prompt(self, rows: Tensor) -> Tensor:
        """Which places of some rows hold their voice prompt, (R, K) bool."""
        first = (len(self._places) - self.cached_frames[rows])[:, None]
        return (self._places >= first) & (self._places < first + self.prompt_frames[rows][:, None])

    def commit(self, rows: Tensor, memory: Sequence[KeyValue]) -> None:
        """Append clean frames of some rows to their context; the oldest frames behind the prompt fall out."""
        places = len(self._places)
        num_frames = memory[0].keys.shape[2]
        source = (self._places + num_frames).expand(len(rows), -1)  # place in [context | new] that each one takes over
        stays = self.cached_frames[rows] + num_frames > places
        if bool((self.prompt_frames[rows] * stays).any()):
            kept = stays[:, None] & (self._places < self.prompt_frames[rows][:, None])
            source = torch.where(kept, self._places + (places - self.cached_frames[rows])[:, None], source)
        row = torch.arange(len(rows), device=source.device)[:, None]
        for cached, new in (
            (self.keys, torch.stack([block.keys for block in memory])),
            (self.values, torch.stack([block.values for block in memory])),
        ):
            both = torch.cat((cached[:, rows], new), 3)
            cached[:, rows] = both.transpose(2, 3)[:, row, source].transpose(2, 3)
        self.positions[rows] += num_frames
        self.cached_frames[rows] = (self.cached_frames[rows] + num_frames).clamp(max=places)
