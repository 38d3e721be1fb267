"""Transcription: recordings of any length to words, in pieces that the model takes at once."""

from collections.abc import Iterable, Sequence
from typing import Any

from torch import Tensor

from spikeaudio.audio.segmentation import split_at_pauses
from spikeaudio.prompt.raw_audio import SAMPLING_RATE
from spikeaudio.speech.generator import Generator

_BATCH_PIECES = 16
_SILENCE = 1e-4  # peak below which a recording holds nothing to transcribe: -80 dB of full scale
_TEXT_IDS_SPARE = 16  # a transcript has at most one id per code and so many more


def transcribe(generator: Generator, recordings: Iterable[Tensor], **generation: Any) -> list[str]:
    """What is said in each recording; silence gives an empty text.

    Args:
        generator: the language model.
        recordings: (N,) float32 at 16 kHz each; read one after the other, so that few are in memory.
        generation: keywords for the language model's `generate`.
    """
    words: list[list[str]] = []
    waiting: list[tuple[int, Tensor]] = []
    for index, wav in enumerate(recordings):
        words.append([])
        for piece in split_at_pauses(wav, SAMPLING_RATE, generator.processor.piece_seconds):
            if piece.abs().max() >= _SILENCE:
                waiting.append((index, piece))
            while len(waiting) >= _BATCH_PIECES:
                _transcribe_pieces(generator, waiting[:_BATCH_PIECES], words, generation)
                del waiting[:_BATCH_PIECES]
    _transcribe_pieces(generator, waiting, words, generation)
    return [" ".join(part for part in parts if part) for parts in words]


def _transcribe_pieces(
    generator: Generator, pieces: Sequence[tuple[int, Tensor]], words: list[list[str]], generation: dict[str, Any]
) -> None:
    """Transcribe one batch of (recording, samples) and append to each recording's words."""
    if not pieces:
        return
    processor = generator.processor
    tokens = processor.hear([wav for _, wav in pieces])
    longest = max(len(item.codes) for item in tokens)
    limit = {"max_new_tokens": longest + _TEXT_IDS_SPARE, **generation}
    output, length = generator(processor.apply_transcription_request(tokens), "text", **limit)
    assert output.sequences is not None
    for (index, _), ids in zip(pieces, output.sequences[:, length:].cpu(), strict=True):
        words[index].append(processor.decode_answer(ids).text)
