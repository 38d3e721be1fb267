"""Conversation: the answer to the last message, written and spoken, at once or as a stream of events."""

from collections.abc import Iterator
from typing import Any

from transformers import BatchFeature

from spikeaudio.prompt.messages import Audio, Messages
from spikeaudio.prompt.processor import SpikeAudioProcessor
from spikeaudio.speech.decoder import SpeechDecoder, VoicePrompt
from spikeaudio.speech.generator import Generator
from spikeaudio.speech.result import Reply
from spikeaudio.speech.streamer import Event, streamed


def answer(
    generator: Generator,
    messages: Messages,
    decoder: SpeechDecoder | None,
    seed: int,
    voice: VoicePrompt | None,
    sampling_rate: int | None,
    **generation: Any,
) -> Reply:
    """The answer to the last message, spoken where there is a decoder; see `SpikeAudio.chat`."""
    processor = generator.processor
    mode = "text" if decoder is None else "audio"
    output, length = generator(_prompt(processor, messages, mode, sampling_rate), mode, seed=seed, **generation)
    assert output.sequences is not None
    said = processor.decode_answer(output.sequences[0, length:].cpu())
    if decoder is None:
        return Reply(said.text, said.thought, None, None, None)
    assert output.audio_codes is not None
    codes = output.audio_codes[0].cpu()
    return Reply(said.text, said.thought, decoder.decode(codes, seed, voice), decoder.sampling_rate, codes)


def answer_stream(
    generator: Generator,
    messages: Messages,
    decoder: SpeechDecoder | None,
    seed: int,
    voice: VoicePrompt | None,
    sampling_rate: int | None,
    **generation: Any,
) -> Iterator[Event]:
    """`answer`, word by word and sound by sound; see `SpikeAudio.stream`."""
    mode = "text" if decoder is None else "audio"
    prompt = _prompt(generator.processor, messages, mode, sampling_rate)
    yield from streamed(generator, prompt, mode, decoder, seed, voice, **generation)


def as_messages(audio: Audio | Messages) -> Messages:
    """A recording as a conversation of one message; messages as they are."""
    if isinstance(audio, list | tuple) and audio and isinstance(audio[0], dict):
        return audio
    return [{"role": "user", "content": [{"type": "audio", "audio": audio}]}]


def _prompt(processor: SpikeAudioProcessor, messages: Messages, mode: str, sampling_rate: int | None) -> BatchFeature:
    return processor.apply_chat_template(
        messages, sampling_rate=sampling_rate, output_modalities="both" if mode == "audio" else "text"
    )
