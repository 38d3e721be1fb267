"""What a caller keeps between two steps of a streaming vocoder.

The rows of a batch share one clock: frame k of the state is the k-th frame pushed since the state was made, sample
``hop_length * k`` belongs to it. A row that is reset in the middle starts a stream of its own at frame `frames`; its
samples before that moment are silence, those after it are what a fresh state would have given.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from spikeaudio.vocoder.streaming import chosen_rows


@dataclass
class VocoderState:
    """State of B streams; made by `VocosVocoder.init_state`, changed in place by `VocosVocoder.step`.

    Args:
        contexts: per convolution (embedding, then each block) its last inputs, (B, C, 3..6) frames. A fresh one
            holds the 3 zero frames that offline padding puts in front; 6 are all that a kernel of 7 ever needs.
        residuals: per block the inputs whose convolution still waits for 3 frames of future, (B, D, 0..3).
        overlap: windowed samples of the open synthesis frames, (B, ceil(n_fft / hop) - 1, hop) float32.
        envelope: the squared windows under them, same shape.
        starts: frame at which each row's stream began, (B,) int64.
        frames: mel frames pushed so far.
        spectral_frames: frames that the network has finished; behind `frames` by its look-ahead.
    """

    contexts: list[Tensor]
    residuals: list[Tensor]
    overlap: Tensor
    envelope: Tensor
    starts: Tensor
    frames: int = 0
    spectral_frames: int = 0
    staggered: bool = False  # whether any row began later than frame 0

    @property
    def batch_size(self) -> int:
        """Number of streams."""
        return self.starts.shape[0]

    @property
    def sizes(self) -> tuple[object, ...]:
        """Channels of the convolutions, and shape of the open synthesis frames."""
        return [context.shape[1] for context in self.contexts], tuple(self.overlap.shape[1:])

    @property
    def dtype(self) -> torch.dtype:
        """Of the frames."""
        return self.contexts[0].dtype

    def reset(self, rows: Sequence[int] | Tensor | None = None) -> None:
        """Forget the given rows' audio; with None or all rows the whole state is as new.

        Args:
            rows: row numbers; samples that these rows had not yet emitted are lost.

        Raises:
            ValueError: for a row that the state does not have.
        """
        chosen = chosen_rows(rows, self.batch_size)
        for tensor in (self.overlap, self.envelope):
            tensor[chosen] = 0
        if len(chosen) == self.batch_size:
            self.contexts = [context.new_zeros((*context.shape[:2], 3)) for context in self.contexts]
            self.residuals = [residual[..., :0] for residual in self.residuals]
            self.starts.zero_()
            self.frames = self.spectral_frames = 0
            self.staggered = False
        elif chosen and self.frames:
            for tensor in (*self.contexts, *self.residuals):
                tensor[chosen] = 0
            self.starts[chosen] = self.frames
            self.staggered = True

    def clone(self) -> "VocoderState":
        """An independent copy: both may be continued, neither sees the other."""
        return VocoderState(
            contexts=[context.clone() for context in self.contexts],
            residuals=[residual.clone() for residual in self.residuals],
            overlap=self.overlap.clone(),
            envelope=self.envelope.clone(),
            starts=self.starts.clone(),
            frames=self.frames,
            spectral_frames=self.spectral_frames,
            staggered=self.staggered,
        )

    def started(self, first: int, count: int) -> Tensor:
        """Which of the frames first..first+count-1 belong to the rows' present streams, (B, count) bool."""
        index = torch.arange(first, first + count, device=self.starts.device)
        return index >= self.starts[:, None]
