"""What every streaming vocoder has in common: whole utterances are one step, and what comes in is checked.

The rows of a batch share one clock: frame k of a state is the k-th frame pushed since the state was made. A row that is
reset in the middle starts a stream of its own there; its samples before that moment are silence.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Generic, Protocol, TypeVar

import torch
from torch import Tensor
from transformers import PreTrainedModel


class StreamState(Protocol):
    """State that a caller keeps between two steps, as far as `StreamingVocoder` knows it."""

    @property
    def batch_size(self) -> int:
        """Number of streams."""

    @property
    def sizes(self) -> tuple[object, ...]:
        """Sizes of the network that made it; another one must not use it."""

    @property
    def dtype(self) -> torch.dtype:
        """Dtype of its frames."""


State = TypeVar("State", bound=StreamState)


class StreamingVocoder(PreTrainedModel, ABC, Generic[State]):  # type: ignore[misc]
    """Log-mel -> waveform, offline or piece by piece: (B, M, F) in the weights' dtype -> (B, N) float32.

    A vocoder of this kind brings `init_state`, `state_sizes` and `advance`.
    """

    config: Any

    @abstractmethod
    def init_state(self, batch_size: int = 1) -> State:
        """A fresh state for `batch_size` streams, owned by the caller."""

    @property
    @abstractmethod
    def state_sizes(self) -> tuple[object, ...]:
        """Sizes that a state of this network has."""

    @abstractmethod
    def advance(self, mel: Tensor, state: State, last: bool) -> Tensor:
        """`step` without checks and with gradients."""

    def forward(self, mel: Tensor) -> Tensor:
        """Differentiable `decode`, for training: (B, M, F) -> (B, N)."""
        self._check_mel(mel)
        return self.advance(mel, self.init_state(mel.shape[0]), last=True)

    @torch.no_grad()
    def decode(self, mel: Tensor) -> Tensor:
        """Whole utterances: (B, M, F) -> (B, N) float32.

        Raises:
            ValueError: for a mel of another shape, dtype or band count, or with NaN or infinity.
        """
        self._check_mel(mel)
        return self.step(mel, self.init_state(mel.shape[0]), last=True)

    @torch.no_grad()
    def step(self, mel: Tensor, state: State, last: bool = False) -> Tensor:
        """Push the next frames of B streams; get the samples that they complete.

        Args:
            mel: (B, M, f), any f >= 0.
            state: from `init_state(B)`; updated in place.
            last: these are the final frames of all streams; the held samples come out and the state is as new.

        Returns:
            (B, n) float32, n >= 0; the pieces of a stream joined are `decode` of its frames joined.

        Raises:
            ValueError: as `decode`; also if the state is of another batch size, dtype or model.
        """
        self._check_mel(mel)
        if mel.shape[0] != state.batch_size:
            raise ValueError(f"mel has {mel.shape[0]} rows, but the state was made for {state.batch_size}")
        if state.sizes != self.state_sizes:
            raise ValueError("the state was made by a vocoder of other sizes; make one with this model's init_state")
        if state.dtype != mel.dtype:
            raise ValueError(f"mel is {mel.dtype}, but the state was made for {state.dtype}")
        if not torch.isfinite(mel).all():
            raise ValueError("mel holds NaN or infinite values")
        return self.advance(mel, state, last)

    def _check_mel(self, mel: Tensor) -> None:
        """Raise ValueError unless mel is (B, M, F) in the weights' dtype."""
        if mel.ndim != 3 or mel.shape[1] != self.config.num_mels or mel.shape[0] == 0:
            raise ValueError(f"mel must be (B, {self.config.num_mels}, F) with B >= 1, got {tuple(mel.shape)}")
        if mel.dtype != self.dtype:
            raise ValueError(f"mel must be {self.dtype} like the weights, got {mel.dtype}")


def chosen_rows(rows: Sequence[int] | Tensor | None, batch_size: int) -> list[int]:
    """Row numbers in order, each once; None: all.

    Raises:
        ValueError: for a row that there is not.
    """
    chosen = list(range(batch_size)) if rows is None else sorted({int(row) for row in rows})
    if chosen and not 0 <= chosen[0] <= chosen[-1] < batch_size:
        raise ValueError(f"rows must lie in 0..{batch_size - 1}, got {chosen}")
    return chosen
