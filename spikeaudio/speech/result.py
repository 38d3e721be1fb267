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


@dataclass(frozen=True)
class Reply:
    """An answer in a conversation.

    Where the checkpoint declares a least score and this answer is below it, `understood` is False, and `text` and
    `wav` say that the model does not know (:class:`~spikeaudio.prompt.limits.Limits`).
    """

    text: str
    question: str | None  # what the model understood, if it says so
    wav: Tensor | None  # (N,) float32; None for a written answer
    sampling_rate: int | None  # Hz of `wav`
    codes: Tensor | None  # (S,) long
    score: float | None = None  # mean log probability of all that the model wrote, `question` included; 0 is certain
    question_score: float | None = None  # of `question` alone
    understood: bool = True
