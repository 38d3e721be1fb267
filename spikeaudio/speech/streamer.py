"""AudioTextStreamer: the two streams of one `generate` call as an iterator over words and sound.

`generate` runs in another thread and puts the ids of each step; whoever iterates turns them into events, so that the
speech decoder works while the model goes on. As with transformers' TextIteratorStreamer:

    streamer = AudioTextStreamer(processor, decoder)
    Thread(target=model.generate, kwargs={**inputs, "generation_mode": "audio", "streamer": streamer}).start()
    for event in streamer: ...

The pieces of sound joined are what the decoder makes of all codes at once, for any length of the pieces.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from queue import Queue
from threading import Thread
from typing import Any
from unicodedata import east_asian_width

import torch
from torch import Tensor
from transformers import BatchFeature
from transformers.generation.streamers import BaseStreamer

from spikeaudio.prompt.processor import SpikeAudioProcessor
from spikeaudio.speech.decoder import SpeechDecoder, VoicePrompt
from spikeaudio.speech.generator import Generator


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
_Step = tuple[int, int]  # (text id, audio id) of one step


class AudioTextStreamer(BaseStreamer):
    """Streams one conversation; iterate over it once.

    Args:
        processor: for its layout and text tokenizer.
        decoder: makes sound of codes; None for text alone.
        seed: of the decoder's noise.
        timeout: seconds to wait for the next step before ``queue.Empty`` is raised; None: forever.
        voice: of the speech; None: the decoder's own.
    """

    def __init__(
        self,
        processor: SpikeAudioProcessor,
        decoder: SpeechDecoder | None = None,
        seed: int = 0,
        timeout: float | None = None,
        voice: VoicePrompt | None = None,
    ) -> None:
        self.processor = processor
        self.decoder = decoder
        self.seed = seed
        self.timeout = timeout
        self.voice = voice
        self._queue: Queue[_Step | Exception | None] = Queue()

    def put(self, value: Tensor) -> None:
        """Takes the prompt, which is not streamed.

        Raises:
            ValueError: the batch has more than one row.
        """
        if value.ndim > 1 and value.shape[0] > 1:
            raise ValueError(f"AudioTextStreamer streams one conversation, got a batch of {value.shape[0]}")

    def put_streams(self, text_ids: Tensor, audio_ids: Tensor) -> None:
        """Takes one step of both streams, (1,) ids each."""
        self._queue.put((int(text_ids[0]), int(audio_ids[0])))

    def end(self) -> None:
        """Called by `generate` when it is done."""
        self._queue.put(None)

    def fail(self, error: Exception) -> None:
        """Have the iterating thread raise what made `generate` stop."""
        self._queue.put(error)

    def events(self, generate: Callable[[], Any]) -> Iterator[Event]:
        """The events of `generate`, called in another thread and given this streamer; its errors are raised here."""

        def run() -> None:
            try:
                generate()
            except Exception as error:
                self.fail(error)

        thread = Thread(target=run, daemon=True)
        thread.start()
        yield from self
        thread.join()

    def __iter__(self) -> Iterator[Event]:
        words = _Words(self.processor)
        speech = None if self.decoder is None else _Speech(self.processor, self.decoder, self.seed, self.voice)
        while (step := self._queue.get(timeout=self.timeout)) is not None:
            if isinstance(step, Exception):
                raise step
            yield from words.push(step[0])
            if speech is not None:
                yield from speech.push(step[1])
        yield from words.flush()
        if speech is not None:
            yield from speech.flush()


def streamed(
    generator: Generator,
    prompt: BatchFeature,
    mode: str,
    decoder: SpeechDecoder | None,
    seed: int,
    voice: VoicePrompt | None,
    **generation: Any,
) -> Iterator[Event]:
    """What the language model generates on a prompt in another thread, as events."""
    generator.room(prompt)
    streamer = AudioTextStreamer(generator.processor, decoder, seed, voice=voice)
    yield from streamer.events(lambda: generator(prompt, mode, seed=seed, streamer=streamer, **generation))


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
