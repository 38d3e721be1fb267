"""A model that answers whole questions, made to take turns by a turn detector (`eval.dialogue.conversation`)."""

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import soundfile
from torch import Tensor

from eval.adapters.adapter import Adapter, CountingAdapter, Request, Response, Unavailable
from eval.dialogue.conversation import Dialogue
from eval.dialogue.turn_detector import SAMPLING_RATE, TurnDetector
from eval.task import CONVERSATION, TURN_TAKING, Job
from spikeaudio.audio.files import load_audio


class TurnTaker:
    """Does the job `TURN_TAKING` with a model that does `CONVERSATION`; every other job is left to the model.

    A model that takes turns by itself has that job among its own, and needs none of this.

    Args:
        model: adapter that answers.
        detector: detector that gives it turns.

    Raises:
        ValueError: the model does no conversations.
    """

    def __init__(self, model: Adapter, detector: TurnDetector) -> None:
        if CONVERSATION not in model.jobs:
            raise ValueError(
                f"taking turns needs a model that answers speech, but this one ({model.name}) does "
                f"{', '.join(sorted(map(str, model.jobs))) or 'nothing'}: name tasks it can do with --tasks"
            )
        self._model = model
        self._detector = detector
        self.name = model.name
        self.jobs: frozenset[Job] = model.jobs | {TURN_TAKING}

    def fingerprint(self) -> dict[str, Any]:
        """The model's, and the detector's."""
        return self._model.fingerprint() | {"turn_detector": self._detector.fingerprint()}

    def answer(self, requests: Sequence[Request]) -> list[Response | Exception]:
        """Dialogues one by one."""
        if any(request.job != TURN_TAKING for request in requests):
            return self._model.answer(requests)
        return [self._talk_or_error(request) for request in requests]

    def _talk_or_error(self, request: Request) -> Response | Exception:
        try:
            return self._talk(request, self._one_answer)
        except Unavailable:
            raise
        except Exception as error:
            return error

    def _one_answer(self, request: Request) -> Response:
        (answer,) = self._model.answer([request])
        if isinstance(answer, Exception):
            raise answer
        return answer

    def _talk(self, request: Request, answer: Callable[[Request], Response]) -> Response:
        if request.audio is None:
            raise ValueError("there is no recording to hear")
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "heard.flac"

            def ask(heard: Tensor) -> Response:
                soundfile.write(path, heard.numpy(), SAMPLING_RATE, subtype="PCM_16")
                return answer(replace(request, job=CONVERSATION, audio=str(path)))

            return Dialogue(load_audio(request.audio, SAMPLING_RATE), ask, self._detector).run()


class CountingTurnTaker(TurnTaker):
    """The same for a model whose operations can be counted."""

    def answer_counted(self, request: Request) -> Response:
        """A dialogue; the costs are those of its last answer."""
        assert isinstance(self._model, CountingAdapter)
        if request.job != TURN_TAKING:
            return self._model.answer_counted(request)
        answer = self._talk(request, self._model.answer_counted)
        return replace(answer, measured={"audio_seconds": answer.measured["audio_seconds"]})


def taking_turns(model: Adapter, detector: TurnDetector) -> TurnTaker:
    """The model, taking turns; its operations can be counted where they could before."""
    return (CountingTurnTaker if isinstance(model, CountingAdapter) else TurnTaker)(model, detector)
