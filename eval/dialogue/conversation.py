"""A simulated dialogue. A recorded user asks, a model that answers whole questions is given turns by a turn detector.

The clock is that of the user's microphone, which the detector hears 32 ms at a time: the recording, then the noise of
a quiet room. The microphone hears the user alone (two channels, no echo). Where the detector says that the turn has
ended, the model is asked, with all that was heard so far, and its answer begins at that very moment. On this clock
computing takes no time, so that a dialogue depends on no machine's speed. What it does take is measured beside.

- The user goes on after a pause. The model stops when the detector notices, and is asked again at the next end.
- The user has said everything: while the model answers, 0.4 s after it can be heard, the user begins again from the
  start of the question. The model stops when the detector notices.

Events, in seconds of the clock.

    User_end        the user's last sound
    asked_N         the model was given its Nth turn
    audible_N       its Nth answer can be heard; missing where it says nothing
    interruption    the user begins again; missing where the answer was over before
    stopped         the model is silent: the detector noticed, or the answer had ended
"""

import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from eval.adapters.adapter import Response
from eval.dialogue.turn_detector import FRAME_SAMPLES, SAMPLING_RATE, TurnDetector, TurnEvent

PATIENCE_SECONDS = 10.0  # how long the user waits for an answer, and, where it has begun, for its end
INTERRUPT_AFTER_SECONDS = 0.4
_INTERRUPTION_SECONDS = 3.0
_ROOM_LEVEL = 10 ** (-70 / 20)  # RMS of the room's noise, of full scale
_SOUND_DB = 40.0
_WINDOW_SECONDS = 0.01


class Dialogue:
    """One user and one model.

    Args:
        recording: (N,) float32 at 16 kHz: all that the user wants to say.
        ask: the model: its answer to what was heard, (M,) float32 at 16 kHz. Raises what the model raises.
        detector: gives turns.

    Raises:
        ValueError: nothing can be heard in the recording.
    """

    def __init__(self, recording: Tensor, ask: Callable[[Tensor], Response], detector: TurnDetector) -> None:
        sound = sounding(recording.numpy(), SAMPLING_RATE)
        if sound is None:
            raise ValueError("nothing is said in the recording, so that nobody's turn it is")
        self._ask = ask
        self._detector = detector
        self._begins, self._ends = sound
        self._microphone = torch.cat([recording, room(round(4 * PATIENCE_SECONDS * SAMPLING_RATE))])
        self._recording = recording
        self._turns: dict[str, float] = {"user_end": self._ends}
        self._answer: Response | None = None
        self._turn = 0
        self._falls_silent: float | None = None  # end of the answer that can be heard now
        self._listening = 0.0

    def run(self) -> Response:
        """Let them talk.

        Returns:
            The model's last answer: its words, and of its speech what could be heard, with the events of the dialogue.

        Raises:
            ValueError: the model was never given a turn.
            Exception: error that the model raises.
        """
        self._detector.reset()
        heard = 0
        for heard in range(FRAME_SAMPLES, len(self._microphone) + 1, FRAME_SAMPLES):
            now = heard / SAMPLING_RATE
            began = time.perf_counter()
            event = self._detector.hear(self._microphone[heard - FRAME_SAMPLES : heard])
            self._listening += time.perf_counter() - began
            if event is not None:
                self._react(event, now)
            if self._over(now):
                break
        if self._answer is None:
            raise ValueError(f"the turn detector heard no turn end within {heard / SAMPLING_RATE:.1f} s")
        measured = self._answer.measured | {
            "listening_seconds": self._listening,
            "heard_seconds": heard / SAMPLING_RATE,
        }
        wav = self._heard_of_the_answer(self._answer)
        return replace(self._answer, wav=wav, measured=measured, pieces=(), offline=None, turns=self._turns)

    def _react(self, event: TurnEvent, now: float) -> None:
        if event.kind == "ended" and self._falls_silent is None:
            self._take_turn(event.sample, now)
        elif event.kind == "began" and self._falls_silent is not None:
            if "interruption" in self._turns:
                self._turns["stopped"] = min(now, self._falls_silent)
            self._falls_silent = None

    def _take_turn(self, until: int, now: float) -> None:
        self._turn += 1
        self._turns[f"asked_{self._turn}"] = now
        self._answer = self._ask(self._microphone[:until])
        if self._answer.wav is None or (sound := sounding(self._answer.wav, self._answer.sampling_rate)) is None:
            return
        audible = now + sound[0]
        self._turns[f"audible_{self._turn}"] = audible
        self._falls_silent = now + sound[1]
        interruption = audible + INTERRUPT_AFTER_SECONDS
        if now >= self._ends and interruption < self._falls_silent:
            self._turns["interruption"] = interruption
            speech = self._recording[round(self._begins * SAMPLING_RATE) :][
                : round(_INTERRUPTION_SECONDS * SAMPLING_RATE)
            ]
            at = round(interruption * SAMPLING_RATE)
            self._microphone[at : at + len(speech)] = speech

    def _over(self, now: float) -> bool:
        """Whether nothing more can happen that any figure depends on."""
        if now < self._ends:
            return False
        if "interruption" in self._turns:
            if "stopped" not in self._turns and self._falls_silent is not None and now >= self._falls_silent:
                self._turns["stopped"] = self._falls_silent
            return "stopped" in self._turns
        asked_last = self._turns.get(f"asked_{self._turn}", 0.0)
        if self._turn and asked_last >= self._ends:
            return True  # the answer is too short to be interrupted, or silent
        return now >= self._ends + PATIENCE_SECONDS

    def _heard_of_the_answer(self, answer: Response) -> NDArray[np.float32] | None:
        if answer.wav is None or "stopped" not in self._turns:
            return answer.wav
        seconds = self._turns["stopped"] - self._turns[f"asked_{self._turn}"]
        return answer.wav[: max(1, round(seconds * answer.sampling_rate))]


def sounding(wav: NDArray[np.float32], sampling_rate: int) -> tuple[float, float] | None:
    """Seconds of the first and last sound: 10 ms windows less than 40 dB below the loudest; None: there is no sound."""
    size = round(_WINDOW_SECONDS * sampling_rate)
    padded = np.pad(wav.astype(np.float64), (0, -len(wav) % size))
    level = np.square(padded).reshape(-1, size).mean(1)
    loud = np.flatnonzero(level > level.max(initial=0.0) * 10 ** (-_SOUND_DB / 10))
    if not loud.size:
        return None
    return float(loud[0] * size / sampling_rate), float(min(len(wav), (loud[-1] + 1) * size) / sampling_rate)


def room(samples: int) -> Tensor:
    """(samples,) float32: the same white noise every time."""
    return torch.randn(samples, generator=torch.Generator().manual_seed(0)) * _ROOM_LEVEL
