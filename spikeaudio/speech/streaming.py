"""Streaming: the steps of a session as events, in the thread of whoever iterates.

Nothing runs when nobody asks for the next event, so a stream that is closed or dropped has stopped, and a slow consumer
holds the model back. The speech decoder works between two steps of the model.
"""

from collections.abc import Iterator
from typing import Any

from transformers import BatchFeature

from spikeaudio.lm.session import Session
from spikeaudio.speech.assembly import EventAssembler
from spikeaudio.speech.decoder import SpeechDecoder, VoicePrompt
from spikeaudio.speech.events import Event
from spikeaudio.speech.generator import Generator


def streamed(
    generator: Generator,
    prompt: BatchFeature,
    mode: str,
    decoder: SpeechDecoder | None,
    seed: int,
    voice: VoicePrompt | None,
    **generation: Any,
) -> Iterator[Event]:
    """What the language model generates on a prompt, as events; the prompt runs through it before this returns."""
    session = generator.session(prompt, mode, seed, **generation)
    return events_of(session, EventAssembler(generator.processor, decoder, seed, voice))


def events_of(session: Session, assembler: EventAssembler) -> Iterator[Event]:
    """Events of the steps that are left; closing the iterator ends the answer."""
    try:
        while not session.finished:
            text, audio = session.step()
            yield from assembler.push(int(text[0]), int(audio[0]))
        yield from assembler.flush()
    finally:
        session.cancel()
