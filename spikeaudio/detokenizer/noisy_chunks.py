"""One training pass of the detokenizer: clean chunks as context, noisy chunks to learn from.

    sequence = [clean chunks but the last | noisy chunks]      each noisy chunk at its own time tau

Nobody looks back at the last chunk, so it is not repeated as context. `chunk_mask` says who may look at whom.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from spikeaudio.detokenizer.flow_matching import CLEAN_TAU, TAU_PER_UNIT, chunk_mask


class Draws:
    """Random numbers for one pass, drawn where the generator lives and moved to `device`.

    Args:
        generator: source of all numbers; None: torch's global one.
        device: where the numbers are needed.
    """

    def __init__(self, generator: torch.Generator | None, device: torch.device) -> None:
        self.generator = generator
        self.device = device
        self.source = device if generator is None else generator.device

    def integers(self, high: int, *shape: int) -> Tensor:
        """Integers in [0, high), int64."""
        return torch.randint(high, shape, generator=self.generator, device=self.source).to(self.device)

    def chance(self, probability: float, *shape: int) -> Tensor:
        """True with this probability, bool."""
        return (torch.rand(shape, generator=self.generator, device=self.source) < probability).to(self.device)

    def normal_like(self, tensor: Tensor) -> Tensor:
        """Standard normal noise of the shape and dtype of `tensor`."""
        return torch.randn(tensor.shape, generator=self.generator, device=self.source).to(tensor)


@dataclass(frozen=True)
class NoisyChunks:
    """Clips of S codes, r frames each, cut into chunks.

    Attributes:
        x1: (B, S, r, M) normalised log-mel.
        x0: (B, S, r, M) noise.
        codes: (B, S) int64 codes of the clean context.
        shown: (B, S) int64 codes of the noisy chunks; the null code where they were dropped.
        tau: (B, S) int64 time of the flow at each code.
        lengths: (chunks,) int64 codes in each chunk, on the CPU.
    """

    x1: Tensor
    x0: Tensor
    codes: Tensor
    shown: Tensor
    tau: Tensor
    lengths: Tensor

    @classmethod
    def draw(
        cls,
        x1: Tensor,
        codes: Tensor,
        lengths: Sequence[int],
        null_code: int,
        draws: Draws,
        corruption: float | None = None,
        dropout: float | None = None,
    ) -> "NoisyChunks":
        """Noise and times of one pass.

        Args:
            x1: (B, S, r, M) normalised log-mel.
            codes: (B, S) int64 codes.
            lengths: codes in each chunk; they sum to S.
            null_code: stands for a code that is not shown.
            draws: random numbers.
            corruption: probability of another code in place of the right one; None: never.
            dropout: probability that a chunk does not see its codes; None: never.

        Raises:
            ValueError: a chunk without codes, or chunks that do not sum to S.
        """
        batch, num_codes = codes.shape
        sizes = torch.tensor(list(lengths))
        if (sizes < 1).any() or sizes.sum() != num_codes:
            raise ValueError(f"chunk_tokens must be positive and sum to {num_codes} codes, got {sizes.tolist()}")
        x0 = draws.normal_like(x1)
        chunk_of_code = torch.repeat_interleave(torch.arange(len(sizes)), sizes).to(codes.device)
        tau = draws.integers(TAU_PER_UNIT, batch, len(sizes))[:, chunk_of_code]
        if corruption is not None:
            wrong = draws.chance(corruption, batch, num_codes)
            codes = torch.where(wrong, draws.integers(null_code, batch, num_codes), codes)
        shown = codes
        if dropout is not None:
            shown = codes.masked_fill(draws.chance(dropout, batch, len(sizes))[:, chunk_of_code], null_code)
        return cls(x1, x0, codes, shown, tau, sizes)

    @property
    def clean(self) -> int:
        """Codes of the clean context: all chunks but the last."""
        return int(self.lengths.sum() - self.lengths[-1])

    @property
    def all_codes(self) -> Tensor:
        """(B, clean + S) codes of the whole sequence."""
        return torch.cat((self.codes[:, : self.clean], self.shown), 1)

    @property
    def all_tau(self) -> Tensor:
        """(B, clean + S) times of the whole sequence."""
        return torch.cat((torch.full_like(self.tau[:, : self.clean], CLEAN_TAU), self.tau), 1)

    @property
    def all_positions(self) -> Tensor:
        """(frames,) positions: a clean frame stands where its noisy one does."""
        frames = self.x1.shape[2]
        positions = torch.arange(self.x1.shape[1] * frames, device=self.x1.device)
        return torch.cat((positions[: self.clean * frames], positions))

    def visible(self, real: Tensor | None) -> Tensor | None:
        """Who may look at whom, bool, broadcastable to (B, heads, frames, frames); None: everybody at everybody.

        Args:
            real: (B, S) bool, True at real codes; None: all are.
        """
        device, frames = self.codes.device, self.x1.shape[2]
        mask = chunk_mask(self.lengths).to(device)[None, None] if self.clean else None
        if real is not None:
            seen = torch.cat((real[:, : self.clean], real), 1)[:, None, None].to(device)
            mask = seen if mask is None else mask & seen
        if mask is None:
            return None
        mask = mask.repeat_interleave(frames, 3)
        return mask.repeat_interleave(frames, 2) if mask.shape[2] > 1 else mask
