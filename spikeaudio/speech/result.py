"""What the verbs of `SpikeAudio` give back."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Speech:
    """A text that was read aloud."""

    wav: Tensor  # (N,) float32
    sampling_rate: int  # Hz
    codes: Tensor  # (S,) long, 12.5 per second
    text: str  # as it was read
    score: float | None = None  # 1 where the model itself hears this text in it, 0 where nothing of it; None: not asked


@dataclass(frozen=True)
class Reply:
    """An answer in a conversation."""

    text: str
    question: str | None  # what the model understood, if it says so
    wav: Tensor | None  # (N,) float32; None for a written answer
    sampling_rate: int | None  # Hz of `wav`
    codes: Tensor | None  # (S,) long
