"""Conversation: turns that follow each other on one cache, so that each turn costs its own positions alone.

The layout of a past turn says what the next prompt holds of it. Where that is what the model generated, nothing runs
again; where it is another form (as in Kimi-Audio's prompts, or after a cut answer), the answer alone runs again.
Recordings are never encoded twice.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import BatchFeature

from spikeaudio.lm.session import Session
from spikeaudio.prompt.layout import PromptStreams, join
from spikeaudio.prompt.messages import Audio, Messages
from spikeaudio.speech.answering import Answering, Speaker
from spikeaudio.speech.events import Event
from spikeaudio.speech.result import Reply
from spikeaudio.spiking.layers.cache import cache_for

_ANSWER_SHARE = 4  # past turns leave at least this part of the context, 1 / 4, to the answer


@dataclass(frozen=True)
class _Turn:
    """A past turn: what the user said with its features (1, S, D), and what the assistant said."""

    asked: PromptStreams
    features: Tensor | None
    said: PromptStreams


class Conversation:
    """A conversation with one model; made by `SpikeAudio.conversation`.

    Args:
        speaker: who answers.
        memory: Number of past turns that the model is shown, at most; None: as many as it learned and can hold. The
            oldest are forgotten first, also when the context is full.
        sampling_rate: Hz of recordings given as arrays; None: 16 kHz.
        generation: keywords for the language model's `generate`.

    Raises:
        ValueError: `memory` is negative, or more than the checkpoint learned.

    Example:
        >>> from spikeaudio import SpikeAudio
        >>> conversation = SpikeAudio.from_pretrained("checkpoints/spikeaudio-tiny").conversation(speech=False)
        >>> conversation.say(audio="spikeaudio/samples/question.wav").text
        'the capital of england is london'
        >>> conversation.say("what is the weather like").understood
        False
    """

    def __init__(
        self, speaker: Speaker, memory: int | None = None, sampling_rate: int | None = None, **generation: Any
    ) -> None:
        if memory is not None and memory < 0:
            raise ValueError(f"memory is a number of past turns: expected 0 or more, got {memory}")
        if memory is not None:
            speaker.limits.check_turns(memory + 1)
        elif speaker.limits.max_turns is not None:
            memory = speaker.limits.max_turns - 1
        self.speaker = speaker
        self.memory = memory
        self.sampling_rate = sampling_rate
        self.generation = generation
        self._past: list[_Turn] = []
        self._session = self._new_session()

    def __len__(self) -> int:
        """Number of past turns that the next answer is shown, if they fit."""
        return len(self._past)

    def say(self, text: str | None = None, audio: Audio | None = None, **generation: Any) -> Reply:
        """Say something, and get the answer.

        Args:
            text: typed text; None with a recording.
            audio: spoken message: a path, or samples; behind the text, if both are given.
            generation: keywords for this answer alone.

        Raises:
            FileNotFoundError: no such file.
            ValueError: neither text nor a recording, a bad one, or one that is too long for the model's context.
        """
        asked, features, answering = self._begin(text, audio, generation)
        reply = answering.reply()
        self._remember(asked, features, answering)
        return reply

    def stream(self, text: str | None = None, audio: Audio | None = None, **generation: Any) -> Iterator[Event]:
        """`say`, word by word and sound by sound.

        What is wrong with the arguments is said at once. A stream that is closed early ends the answer, and the
        conversation remembers what was said until then. Finish or close a stream before the next turn.

        Returns:
            Iterator over `TextEvent` and `AudioEvent` in the order in which they come about.
        """
        return self._streamed(*self._begin(text, audio, generation))

    def forget(self) -> None:
        """Begin anew."""
        self._past.clear()
        self._session = self._new_session()

    # -- inside ----------------------------------------------------------------------------------------------------

    def _streamed(self, asked: PromptStreams, features: Tensor | None, answering: Answering) -> Iterator[Event]:
        events = answering.events()
        try:
            yield from events
        finally:
            events.close()  # type: ignore[attr-defined]  # it is a generator
            self._remember(asked, features, answering)

    def _begin(
        self, text: str | None, audio: Audio | None, generation: dict[str, Any]
    ) -> tuple[PromptStreams, Tensor | None, Answering]:
        """The user's turn, its features, and the answer that was begun."""
        content: list[dict[str, Any]] = [] if text is None else [{"type": "text", "text": text}]
        content += [] if audio is None else [{"type": "audio", "audio": audio}]
        if not content:
            raise ValueError("there is nothing to answer: expected a text or a recording")
        prompt, mode = self.speaker.prompt([{"role": "user", "content": content}], self.sampling_rate)
        asked, features = self._read(prompt)
        self._make_room(len(asked))
        new = self._feed([part for turn in self._past for part in (turn.asked, turn.said)] + [asked], features)
        return asked, features, Answering(self.speaker, new, mode, self._session, **{**self.generation, **generation})

    def _read(self, prompt: BatchFeature) -> tuple[PromptStreams, Tensor | None]:
        """A prompt of one turn as streams and features, the latter made now if the model makes them itself."""
        model = self.speaker.generator.model
        inputs = dict(prompt.to(model.device, dtype=model.dtype))
        model.encode_inputs(inputs)
        text, audio = inputs["input_ids"][0], inputs["audio_input_ids"][0]
        mask = inputs.get("audio_feature_mask")
        heard = torch.zeros_like(text, dtype=torch.bool) if mask is None else mask[0].bool()
        return PromptStreams(text.cpu(), audio.cpu(), heard.cpu()), inputs.get("audio_features")

    def _make_room(self, asked: int) -> None:
        """Forget the oldest turns until one of `asked` positions and its answer fit."""
        limit = self.speaker.generator.model.config.max_position_embeddings
        most = limit - limit // _ANSWER_SHARE - asked
        while self._past and sum(len(turn.asked) + len(turn.said) for turn in self._past) > most:
            del self._past[0]
            self._session = self._new_session()

    def _feed(self, parts: list[PromptStreams], features: Tensor | None) -> BatchFeature:
        """What the session has not seen of a conversation, once it has forgotten what is not part of that."""
        whole = join(parts)
        self._session.rewind(_shared(whole, self._session))
        seen = len(self._session)
        every = [*(turn.features for turn in self._past if turn.features is not None)]
        every += [] if features is None else [features]
        data = {
            "input_ids": whole.input_ids[None, seen:],
            "audio_input_ids": whole.audio_input_ids[None, seen:],
        }
        mask = whole.audio_feature_mask
        if mask[seen:].any():
            data["audio_feature_mask"] = mask[None, seen:]
            data["audio_features"] = torch.cat(every, dim=1)[:, int(mask[:seen].sum()) :]
        return BatchFeature(data)

    def _remember(self, asked: PromptStreams, features: Tensor | None, answering: Answering) -> None:
        layout = self.speaker.generator.processor.layout
        self._past.append(_Turn(asked, features, layout.past_answer(answering.past)))
        if self.memory is not None and len(self._past) > self.memory:
            del self._past[: len(self._past) - self.memory]
            self._session = self._new_session()  # positions shift when turns are forgotten

    def _new_session(self) -> Session:
        model = self.speaker.generator.model
        return Session(model, cache_for(model))


def _shared(whole: PromptStreams, session: Session) -> int:
    """Positions at the start that a conversation and a session have in common; at least one is left to feed."""
    if session.input_ids is None:
        return 0
    length = min(len(whole) - 1, len(session))
    text, audio = session.input_ids[0, :length].cpu(), session.audio_input_ids[0, :length].cpu()
    differ = ((text != whole.input_ids[:length]) | (audio != whole.audio_input_ids[:length])).nonzero()
    return int(differ[0]) if len(differ) else length


def as_messages(audio: Audio | Messages) -> Messages:
    """A recording as a conversation of one message; messages as they are."""
    if isinstance(audio, list | tuple) and audio and isinstance(audio[0], dict):
        return audio
    return [{"role": "user", "content": [{"type": "audio", "audio": audio}]}]
