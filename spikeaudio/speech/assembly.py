"""Steps to events: text ids become words, audio ids become sound."""

from collections.abc import Iterator
from unicodedata import east_asian_width

import torch
from torch import Tensor

from spikeaudio.prompt.processor import SpikeAudioProcessor
from spikeaudio.speech.decoder import SpeechDecoder, VoicePrompt
from spikeaudio.speech.events import AudioEvent, Event, TextEvent


class EventAssembler:
    """Events of one answer.

    Args:
        processor: for its layout and text tokenizer.
        decoder: makes sound of codes; None for text alone.
        seed: Seed of the decoder's noise.
        voice: Voice of the speech; None: the decoder's own.
    """

    def __init__(
        self,
        processor: SpikeAudioProcessor,
        decoder: SpeechDecoder | None = None,
        seed: int = 0,
        voice: VoicePrompt | None = None,
    ) -> None:
        self._words = _Words(processor)
        self._speech = None if decoder is None else _Speech(processor, decoder, seed, voice)

    def push(self, text_id: int, audio_id: int) -> Iterator[Event]:
        """What one step completes."""
        yield from self._words.push(text_id)
        if self._speech is not None:
            yield from self._speech.push(audio_id)

    def flush(self) -> Iterator[Event]:
        """What is left after the last step."""
        yield from self._words.flush()
        if self._speech is not None:
            yield from self._speech.flush()


class _Words:
    """Text ids to events that end between words."""

    def __init__(self, processor: SpikeAudioProcessor) -> None:
        self.processor = processor
        self.ids: list[int] = []
        self.printed = 0
        # Until the end of a thought shows, or the text's, nobody knows whether these words are one.
        self.thinking = processor.layout.think_end_token_id is not None

    def push(self, token: int) -> Iterator[TextEvent]:
        layout = self.processor.layout
        if token == layout.text_eos_token_id:
            yield from self.flush()
        elif token == layout.think_end_token_id:
            text = self.processor.text_of(self.ids)
            self.ids, self.printed, self.thinking = [], 0, False
            if text:
                yield TextEvent(text, thought=True)
        elif token != layout.blank_token_id:
            self.ids.append(token)
            if not self.thinking:
                yield from self._print(whole_words=True)

    def flush(self) -> Iterator[TextEvent]:
        """What is left, when the text has ended."""
        yield from self._print(whole_words=False)
        self.ids, self.printed = [], 0

    def _print(self, whole_words: bool) -> Iterator[TextEvent]:
        text = self.processor.text_of(self.ids) if self.ids else ""
        end = _end_of_last_word(text) if whole_words else len(text)
        if end > self.printed:
            yield TextEvent(text[self.printed : end])
            self.printed = end


def _end_of_last_word(text: str) -> int:
    """Behind the last space, or the last character of a script that has none between words (Chinese, Japanese)."""
    ends = (
        place
        for place in range(len(text), 0, -1)
        if text[place - 1] == " " or east_asian_width(text[place - 1]) in "WF"
    )
    return next(ends, 0)


class _Speech:
    """Audio ids to events, as the decoder completes samples."""

    def __init__(
        self, processor: SpikeAudioProcessor, decoder: SpeechDecoder, seed: int, voice: VoicePrompt | None
    ) -> None:
        self.layout = processor.layout
        self.decoder = decoder
        self.state = decoder.init_state(seed, voice)
        self.taken: list[int] = []  # codes since the last event
        self.spoke = False

    def push(self, token: int) -> Iterator[AudioEvent]:
        code = token - self.layout.audio_token_offset
        if 0 <= code < self.layout.num_audio_codes:
            self.spoke = True
            self.taken.append(code)
            yield from self._step(torch.tensor([code]), last=False)

    def flush(self) -> Iterator[AudioEvent]:
        """The samples that waited for more codes."""
        if self.spoke:
            yield from self._step(torch.zeros(0, dtype=torch.long), last=True)

    def _step(self, codes: Tensor, last: bool) -> Iterator[AudioEvent]:
        wav = self.decoder.step(codes, self.state, last)
        if wav.numel():
            taken, self.taken = self.taken, []
            yield AudioEvent(wav, self.decoder.sampling_rate, torch.tensor(taken, dtype=torch.long))
