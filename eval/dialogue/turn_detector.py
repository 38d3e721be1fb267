"""A turn detector hears the user's microphone, 32 ms at a time, and says when speech begins and when a turn ends."""

import importlib.metadata
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import torch
from torch import Tensor

SAMPLING_RATE = 16000
FRAME_SAMPLES = 512  # silero's window at 16 kHz


@dataclass(frozen=True)
class TurnEvent:
    """What changed.

    Attributes:
        kind: the user began to speak, or the user's turn ended.
        sample: sample of the microphone's signal, where that was; before the frame that showed it.
    """

    kind: Literal["began", "ended"]
    sample: int


class TurnDetector(Protocol):
    """Hears one microphone."""

    def fingerprint(self) -> dict[str, Any]:
        """What its decisions depend on, as JSON."""
        ...

    def reset(self) -> None:
        """Begin a recording."""
        ...

    def hear(self, frame: Tensor) -> TurnEvent | None:
        """The next (512,) samples at 16 kHz, and what they showed."""
        ...


class SileroTurnDetector:
    """silero-vad, with the values that OpenAI's Realtime API has for server-side turn detection.

    Speech begins at a probability of 0.5; a turn ends after 0.5 s below 0.35.

    Raises:
        ImportError: with the install hint, if silero-vad is missing.
    """

    threshold = 0.5
    silence_seconds = 0.5

    def __init__(self) -> None:
        threads = torch.get_num_threads()
        try:
            from silero_vad import VADIterator, load_silero_vad
        except ImportError as error:
            raise ImportError("turn-taking needs silero-vad: pip install spikeaudio[eval]") from error
        torch.set_num_threads(threads)  # importing silero_vad sets one, which is for whoever runs this to say
        silence = round(1000 * self.silence_seconds)
        self._iterator = VADIterator(load_silero_vad(), self.threshold, SAMPLING_RATE, min_silence_duration_ms=silence)

    def fingerprint(self) -> dict[str, Any]:
        """Its version and what it was told."""
        version = importlib.metadata.version("silero-vad")
        return {"silero-vad": version, "threshold": self.threshold, "silence_seconds": self.silence_seconds}

    def reset(self) -> None:
        """Begin a recording."""
        self._iterator.reset_states()

    @torch.no_grad()
    def hear(self, frame: Tensor) -> TurnEvent | None:
        """The next (512,) samples at 16 kHz, and what they showed."""
        found = self._iterator(frame)
        if not found:
            return None
        return TurnEvent("began", found["start"]) if "start" in found else TurnEvent("ended", found["end"])
