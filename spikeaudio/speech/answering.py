"""One answer in the making: written or spoken, at once or as a stream, and whether the question was understood."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import torch
from torch import Tensor
from transformers import BatchFeature

from spikeaudio.lm.session import Session
from spikeaudio.prompt.layout import Answer, GenerationMode
from spikeaudio.prompt.limits import Limits
from spikeaudio.prompt.messages import Messages
from spikeaudio.speech.assembly import EventAssembler
from spikeaudio.speech.decoder import SpeechDecoder, VoicePrompt
from spikeaudio.speech.events import AudioEvent, Event, TextEvent
from spikeaudio.speech.generator import Generator
from spikeaudio.speech.reading import read, read_stream
from spikeaudio.speech.result import Reply


@dataclass(frozen=True)
class Speaker:
    """A model that answers, and how its answers sound.

    Attributes:
        generator: the language model.
        decoder: codes to speech; None: answers are written.
        seed: Seed of every random number.
        voice: to speak with; None: the decoder's own.
    """

    generator: Generator
    decoder: SpeechDecoder | None = None
    seed: int = 0
    voice: VoicePrompt | None = None

    @property
    def limits(self) -> Limits:
        """What the checkpoint was not trained for."""
        return self.generator.processor.limits

    def reads(self, messages: Messages) -> bool:
        """Whether the answer to the last message is written first, and then read aloud."""
        return self.decoder is not None and not self.limits.speaks_when_typed_to and not _spoken_to(messages)

    def prompt(self, messages: Messages, sampling_rate: int | None) -> tuple[BatchFeature, GenerationMode]:
        """Prompt of a conversation, and the mode of its answer.

        Raises:
            ValueError: a bad message or recording, or more turns than the checkpoint learned.
        """
        speaks = self.decoder is not None and not self.reads(messages)
        prompt = self.generator.processor.apply_chat_template(
            messages, sampling_rate=sampling_rate, output_modalities="both" if speaks else "text"
        )
        self.limits.check_turns(1 + [role for role, _ in groupby(messages, _role)].count("assistant"))
        return prompt, "audio" if speaks else "text"

    def read(self, text: str, generation: dict[str, Any]) -> tuple[Tensor, Tensor]:
        """Wave (N,) and codes (S,) of a text; none for a text without words."""
        assert self.decoder is not None
        if not text:
            return torch.zeros(0), torch.zeros(0, dtype=torch.long)
        speech = read(self.generator, self.decoder, text, self.seed, self.voice, **_of_sound(generation))
        return speech.wav, speech.codes

    def read_stream(self, text: str, generation: dict[str, Any]) -> Iterator[Event]:
        """`read`, sound by sound."""
        assert self.decoder is not None
        if text:
            yield from read_stream(self.generator, self.decoder, text, self.seed, self.voice, **_of_sound(generation))


class Answering:
    """An answer to a prompt that has run through the model; make it once, by `reply` or by `events`.

    Args:
        speaker: who answers.
        prompt: one row, or what is new in `session`.
        mode: "text" where the answer is written, or written and then read aloud.
        session: a session to go on with; None: a new one.
        generation: keywords for the language model's `generate`.

    Raises:
        ValueError: there is no room for an answer, or a keyword is unknown.
    """

    def __init__(
        self,
        speaker: Speaker,
        prompt: BatchFeature,
        mode: GenerationMode,
        session: Session | None = None,
        **generation: Any,
    ) -> None:
        self.speaker = speaker
        self.generation = generation
        self.session = speaker.generator.session(prompt, mode, speaker.seed, session, **generation)
        self._reads = speaker.decoder is not None and mode == "text"
        self._aloud = speaker.decoder if mode == "audio" else None
        self._cut = False

    # -- the answer ------------------------------------------------------------------------------------------------

    def reply(self) -> Reply:
        """The whole answer."""
        while not self.session.finished:
            self.session.step()
        speaker, said = self.speaker, self._said
        decoded = speaker.generator.processor.decode_answer(self.session.said().text.cpu())
        score, question_score = self.scores
        text = decoded.text if self.understood else speaker.limits.unknown_answer
        wav = codes = None
        if speaker.decoder is not None:
            if self._reads or not self.understood:
                wav, codes = speaker.read(text, self.generation)
            else:
                codes = torch.as_tensor(said.codes)
                wav = speaker.decoder.decode(codes, speaker.seed, speaker.voice)
        rate = None if speaker.decoder is None else speaker.decoder.sampling_rate
        return Reply(text, decoded.thought, wav, rate, codes, score, question_score, self.understood)

    def events(self) -> Iterator[Event]:
        """The answer as it comes about; closing the iterator ends it.

        Where the checkpoint declares a least score, nothing is handed out before the answer can be judged: when its
        text has ended, or the first sound is there.
        """
        speaker, session = self.speaker, self.session
        assembler = EventAssembler(speaker.generator.processor, self._aloud, speaker.seed, speaker.voice)
        judged = speaker.limits.least_score is None
        waiting: list[Event] = []
        try:
            for event in self._assembled(assembler):
                waiting.append(event)
                if not judged and (session.finished or self._text_ended or isinstance(event, AudioEvent)):
                    judged = True
                    if not self.understood:
                        session.cancel()
                        yield from self._refusal(waiting)
                        return
                if judged:
                    yield from waiting
                    waiting.clear()
            if not judged and not self.understood:
                yield from self._refusal(waiting)
                return
            yield from waiting
            if self._reads:
                yield from speaker.read_stream(self._text, self.generation)
        finally:
            self._cut = not session.finished
            session.cancel()

    def _assembled(self, assembler: EventAssembler) -> Iterator[Event]:
        while not self.session.finished:
            text, audio = self.session.step()
            yield from assembler.push(int(text[0]), int(audio[0]))
        yield from assembler.flush()

    def _refusal(self, waiting: Sequence[Event]) -> Iterator[Event]:
        """What is said in place of an answer; the thought stays, as it is what was understood."""
        yield from (event for event in waiting if isinstance(event, TextEvent) and event.thought)
        yield TextEvent(self.speaker.limits.unknown_answer)
        if self.speaker.decoder is not None:
            yield from self.speaker.read_stream(self.speaker.limits.unknown_answer, self.generation)

    # -- what it was -----------------------------------------------------------------------------------------------

    @property
    def scores(self) -> tuple[float | None, float | None]:
        """Mean log probability of the text ids so far, thoughts and end marks included; and of the thoughts alone."""
        config, ids = self.session.model.config, self.session.said().text.cpu()
        if not len(ids):
            return None, None
        likely = torch.cat(self.session.text_log_probs).cpu()
        written = ids != config.blank_token_id
        ids, likely = ids[written], likely[written]
        if not len(ids):
            return None, None
        end = [] if config.think_end_token_id is None else (ids == config.think_end_token_id).nonzero().tolist()
        return float(likely.mean()), float(likely[: end[0][0] + 1].mean()) if end else None

    @property
    def understood(self) -> bool:
        """Whether the score so far is that of an answer to a question which the model can know."""
        score, least = self.scores[0], self.speaker.limits.least_score
        return score is None or least is None or score >= least

    @property
    def past(self) -> Answer:
        """The answer as the past of a conversation holds it: what was said, as far as it came."""
        processor = self.speaker.generator.processor
        if not self.understood:
            return Answer(processor.text_ids(self.speaker.limits.unknown_answer))
        said = self._said
        if said.codes is None or not self._cut:
            return said
        heard = processor.layout.audio_delay + len(said.codes)  # the words after these were not spoken
        return Answer(said.text_ids[:heard], said.codes, said.think_ids)

    @property
    def _said(self) -> Answer:
        layout = self.speaker.generator.processor.layout
        text, codes, thoughts = layout.delay_pattern.split(*(ids.cpu() for ids in self.session.said()))
        return Answer(text, codes if self._aloud is not None else None, thoughts)

    @property
    def _text(self) -> str:
        return self.speaker.generator.processor.text_of(torch.as_tensor(self._said.text_ids))

    @property
    def _text_ended(self) -> bool:
        return bool((self.session.said().text == self.session.model.config.text_eos_token_id).any())


def _spoken_to(messages: Messages) -> bool:
    """Whether the user's last turn holds a recording."""
    for message in reversed(messages):
        if _role(message) != "user":
            return False
        content = message["content"]
        if not isinstance(content, str) and any(block.get("type") == "audio" for block in content):
            return True
    return False


def _role(message: dict[str, Any]) -> str:
    return str(message["role"])


def _of_sound(generation: dict[str, Any]) -> dict[str, Any]:
    """The keywords that hold for reading aloud as well: those of the audio stream."""
    return {name: value for name, value in generation.items() if name.startswith("audio_")}
