"""Reading a text aloud: sentence by sentence, with the words of the text stream given and the codes sampled."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from transformers import BatchFeature

from spikeaudio.lm.forced_text import ForcedText
from spikeaudio.prompt.conversation import spoken_text_ids
from spikeaudio.prompt.normalization import split_sentences
from spikeaudio.prompt.processor import SpikeAudioProcessor
from spikeaudio.speech.decoder import SpeechDecoder, VoicePrompt
from spikeaudio.speech.events import AudioEvent, PauseEvent
from spikeaudio.speech.generator import Generator
from spikeaudio.speech.result import Speech
from spikeaudio.speech.streaming import streamed

_CODES_PER_TEXT_ID = 12  # about one second; speech takes a quarter of it
_PAUSE_SECONDS = 0.2  # between two sentences


def read(
    generator: Generator, decoder: SpeechDecoder, text: str, seed: int, voice: VoicePrompt | None, **generation: Any
) -> Speech:
    """A text read aloud, any length; see `SpikeAudio.speak`."""
    sentences = sentences_of(text, generator.processor)
    wavs: list[Tensor] = []
    codes: list[Tensor] = []
    pause = torch.zeros(round(_PAUSE_SECONDS * decoder.sampling_rate))
    for index, sentence in enumerate(sentences):
        prompt, options = read_aloud(sentence, generator.processor, generation)
        said, _ = generator(prompt, "audio", seed=seed + index, **options)
        assert said.audio_codes is not None
        spoken = said.audio_codes[0].cpu()
        codes.append(spoken)
        wavs += [pause] * bool(wavs) + [decoder.decode(spoken, seed + index, voice)]
    return Speech(torch.cat(wavs), decoder.sampling_rate, torch.cat(codes), " ".join(sentences))


def read_stream(
    generator: Generator, decoder: SpeechDecoder, text: str, seed: int, voice: VoicePrompt | None, **generation: Any
) -> Iterator[AudioEvent]:
    """`read`, sound by sound; the sounds joined are its wave."""
    pause = torch.zeros(round(_PAUSE_SECONDS * decoder.sampling_rate))
    for index, sentence in enumerate(sentences_of(text, generator.processor)):
        if index:
            yield PauseEvent(pause, decoder.sampling_rate, torch.zeros(0, dtype=torch.long))
        prompt, options = read_aloud(sentence, generator.processor, generation)
        for event in streamed(generator, prompt, "audio", decoder, seed + index, voice, **options):
            if isinstance(event, AudioEvent):
                yield event


def sentences_of(text: str, processor: SpikeAudioProcessor) -> list[str]:
    """A text in pieces that are read one by one; a model that takes texts as they are gets it whole."""
    return split_sentences(text) if processor.spell_out else [text]


def read_aloud(
    sentence: str, processor: SpikeAudioProcessor, generation: dict[str, Any]
) -> tuple[BatchFeature, dict[str, Any]]:
    """Prompt and keywords of `generate` that have one sentence read aloud.

    Args:
        sentence: what to read.
        processor: of the checkpoint.
        generation: keywords that win over these.

    Raises:
        ValueError: there is nothing in it that can be said.
    """
    ids = processor.text_ids(sentence)
    prompt = processor.read_aloud([ids])
    forced = spoken_text_ids(ids, processor.layout)
    limit = len(forced) * _CODES_PER_TEXT_ID + processor.layout.audio_delay
    words = ForcedText([forced], prompt["input_ids"].shape[1])
    return prompt, {"prefix_allowed_tokens_fn": words, "max_new_tokens": limit, **generation}
