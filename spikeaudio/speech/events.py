"""What a stream of an answer consists of: words, sounds, and the pauses between sentences."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class TextEvent:
    """The next words; joined, an answer's events are its text. `thought`: written before the answer, not part of it."""

    text: str
    thought: bool = False


@dataclass(frozen=True)
class AudioEvent:
    """The next samples, (n,) float32 with n >= 1, at `sampling_rate` Hz.

    `codes`, (m,) long with m >= 0, are those that the decoder took in since the event before: decoded at once, the
    codes of all events give the samples of all events.
    """

    wav: Tensor
    sampling_rate: int
    codes: Tensor


@dataclass(frozen=True)
class PauseEvent(AudioEvent):
    """Silence between two sentences, each of which the decoder begins anew; without codes."""


Event = TextEvent | AudioEvent
