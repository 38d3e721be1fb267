"""Vocoder: the socket for whatever makes a waveform of mel frames.

A vocoder is a `PreTrainedModel` that is registered with transformers' `AutoModel` and has the members below. Its own
mel comes from `log_mel`, so that a voice prompt fits it. Streaming must be exact: the pieces of a stream, joined, are
the samples of `decode`. `StreamingVocoder` gives `decode`, `step` and `forward` to a class that advances a state.
"""

from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor


class VocoderStream(Protocol):
    """State of B streams, made by `Vocoder.init_state` and owned by the caller."""

    def reset(self) -> None:
        """Start all streams again."""

    def clone(self) -> Any:
        """An independent copy: a stream can be continued in two ways."""


@runtime_checkable
class Vocoder(Protocol):
    """Log-mel (B, M, F) in the weights' dtype -> waveform (B, N) float32.

    Attributes:
        config: has `num_mels` (M), `hop_length` (samples per frame) and `sampling_rate` (Hz).
        device: where the weights are.
        dtype: dtype of the weights.
    """

    config: Any

    @property
    def device(self) -> torch.device: ...

    @property
    def dtype(self) -> torch.dtype: ...

    def log_mel(self, wav: Tensor) -> Tensor:
        """The mel that this vocoder reads: (B, N) at `config.sampling_rate` -> (B, M, N // hop_length)."""

    def init_state(self, batch_size: int = 1) -> Any:
        """A `VocoderStream` for `batch_size` streams in which nothing was said yet."""

    def decode(self, mel: Tensor) -> Tensor:
        """Whole utterances: (B, M, F) -> (B, N)."""

    def step(self, mel: Tensor, state: Any, last: bool = False) -> Tensor:
        """The next frames (B, M, f), f >= 0, of B streams -> the samples (B, n), n >= 0, that they complete."""

    def save_pretrained(self, save_directory: str | Path) -> Any:
        """Write config and weights to a folder."""

    def to(self, *args: Any, **kwargs: Any) -> Any:
        """Move to a device or dtype, in place."""

    def eval(self) -> Any:
        """Switch training off."""
