"""Transcription: recordings of any length to words with times and scores.

A recording is cut at its pauses, and each piece is transcribed alone. A pause may also lie inside a sentence, whose
halves say little alone; so where the model is not sure of a piece, it hears it joined to its neighbours, too. Of all
ways to join the pieces, the one with the most probable text wins.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm
from transformers import LogitsProcessor, LogitsProcessorList

from spikeaudio.audio.segmentation import Piece, joined, pieces
from spikeaudio.prompt.raw_audio import SAMPLING_RATE
from spikeaudio.speech.generator import Generator
from spikeaudio.speech.result import Transcript, TranscriptSegment

_BATCH_PIECES = 16
_SILENCE = 1e-4  # peak below which a recording holds nothing to transcribe: -80 dB of full scale
_TEXT_IDS_SPARE = 16  # a transcript has at most one id per code and so many more
_SURE = -0.01  # mean log probability of a token, above which a piece is not heard again
_QUICK_SECONDS = 2.0  # what takes no longer shows no progress
_LONGEST_JOINED_PAUSE = 10.0  # seconds


@dataclass(frozen=True)
class Text:
    """What the model wrote for one piece.

    Attributes:
        ids: (T,) long, ids of the text, without its end.
        log_probability: natural logarithm of the probability of the text and of its end.
        no_speech: probability that the text ends before its first word.
    """

    ids: Tensor
    log_probability: float
    no_speech: float

    @property
    def score(self) -> float:
        """Mean log probability of a token, the end included."""
        return self.log_probability / (len(self.ids) + 1)


@dataclass(frozen=True)
class Utterance:
    """One or more pieces of a recording that were heard together: samples `first` to `last`, and the text."""

    first: int
    last: int
    text: Text


def transcribe(generator: Generator, recordings: Iterable[Tensor], **generation: Any) -> list[Transcript]:
    """What is said in each recording.

    Args:
        generator: the language model.
        recordings: (N,) float32 at 16 kHz each; read one after the other, so that few are in memory.
        generation: keywords for the language model's `generate`.

    Returns:
        A transcript each; a recording without speech has no segments.
    """
    processor = generator.processor
    transcripts = []
    for samples, utterances in utterances_of(generator, recordings, **generation):
        segments = []
        for utterance in utterances:
            text = processor.decode_answer(utterance.text.ids).text
            start, end = utterance.first / SAMPLING_RATE, utterance.last / SAMPLING_RATE
            if text:
                segments.append(TranscriptSegment(start, end, text, utterance.text.score, utterance.text.no_speech))
        said = " ".join(segment.text for segment in segments)
        transcripts.append(Transcript(said, tuple(segments), samples / SAMPLING_RATE, processor.score_threshold))
    return transcripts


def utterances_of(
    generator: Generator, recordings: Iterable[Tensor], **generation: Any
) -> Iterator[tuple[int, list[Utterance]]]:
    """Number of samples of each recording, and what is said in it; see `transcribe`."""
    waiting: list[tuple[Tensor, list[Piece]]] = []
    for wav in recordings:
        waiting.append((wav, _pieces(generator, wav)))
        if sum(len(parts) for _, parts in waiting) >= _BATCH_PIECES:
            yield from _heard(generator, waiting, generation)
            waiting = []
    yield from _heard(generator, waiting, generation)


def _pieces(generator: Generator, wav: Tensor) -> list[Piece]:
    processor = generator.processor
    found = pieces(wav, SAMPLING_RATE, processor.piece_seconds, processor.longest_pause)
    return [piece for piece in found if piece.wav.abs().max() >= _SILENCE]


def _heard(
    generator: Generator, recordings: Sequence[tuple[Tensor, list[Piece]]], generation: dict[str, Any]
) -> Iterator[tuple[int, list[Utterance]]]:
    """Utterances of several recordings: each piece alone, then unsure ones with their neighbours, and the choice."""
    alone = iter(_texts(generator, [piece.wav for _, parts in recordings for piece in parts], generation))
    texts: list[dict[tuple[int, int], Text]] = [
        {(index, index + 1): next(alone) for index in range(len(parts))} for _, parts in recordings
    ]
    longest = generator.processor.piece_seconds
    runs = [
        (number, run)
        for number, (_, parts) in enumerate(recordings)
        if generator.processor.longest_pause is not None
        for run in _joinable(parts, [texts[number][index, index + 1] for index in range(len(parts))], longest)
    ]
    wavs = [joined(recordings[number][0], recordings[number][1][slice(*run)], SAMPLING_RATE) for number, run in runs]
    for (number, run), text in zip(runs, _texts(generator, wavs, generation), strict=True):
        texts[number][run] = text
    for (wav, parts), heard in zip(recordings, texts, strict=True):
        chosen = _most_probable(heard, len(parts))
        yield wav.numel(), [Utterance(parts[i].span.first, parts[j - 1].span.last, heard[i, j]) for i, j in chosen]


def _joinable(parts: Sequence[Piece], texts: Sequence[Text], longest: float) -> Iterator[tuple[int, int]]:
    """Runs of two or more pieces that one prompt may hold and that are not all understood, as slices."""
    for first in range(len(parts)):
        sounds = parts[first].wav.numel()
        sure = texts[first].score > _SURE
        for last in range(first + 1, len(parts)):
            pause = parts[last].span.first - parts[last - 1].span.last
            sounds += parts[last].wav.numel()
            sure = sure and texts[last].score > _SURE
            if sounds > longest * SAMPLING_RATE or pause > _LONGEST_JOINED_PAUSE * SAMPLING_RATE:
                break
            if not sure:
                yield first, last + 1


def _most_probable(texts: dict[tuple[int, int], Text], count: int) -> list[tuple[int, int]]:
    """The runs that cover `count` pieces with the greatest sum of log probabilities."""
    best: list[tuple[float, list[tuple[int, int]]]] = [(0.0, [])]
    for end in range(1, count + 1):
        ways = [
            (best[first][0] + texts[first, end].log_probability, first) for first in range(end) if (first, end) in texts
        ]
        total, first = max(ways)
        best.append((total, [*best[first][1], (first, end)]))
    return best[count][1]


def _texts(generator: Generator, wavs: Sequence[Tensor], generation: dict[str, Any]) -> Iterator[Text]:
    """What is said in each clip, a batch at a time; a terminal shows how many are done."""
    processor = generator.processor
    with tqdm(
        total=len(wavs), desc="transcribing", unit="segment", delay=_QUICK_SECONDS, leave=False, disable=None
    ) as bar:
        for first in range(0, len(wavs), _BATCH_PIECES):
            tokens = processor.hear(wavs[first : first + _BATCH_PIECES])
            limit = {"max_new_tokens": max(len(item.codes) for item in tokens) + _TEXT_IDS_SPARE, **generation}
            watch = _Probabilities(processor.layout.text_eos_token_id)
            limit["logits_processor"] = LogitsProcessorList([*(generation.get("logits_processor") or ()), watch])
            output, length = generator(processor.apply_transcription_request(tokens), "text", **limit)
            assert output.sequences is not None
            sequences = output.sequences.cpu()
            if len(sequences) != len(tokens):
                raise ValueError(f"transcription gives one text per recording, got {len(sequences)} for {len(tokens)}")
            bar.update(len(tokens))
            yield from watch.texts(sequences[:, length:])


class _Probabilities(LogitsProcessor):
    """Keeps the log probability of each chosen id: scores of one step only, whatever the size of the vocabulary.

    Args:
        end: id that ends a text.
    """

    def __init__(self, end: int) -> None:
        self._end = end
        self._scores: Tensor | None = None  # (B, V) of the step before
        self._chosen: list[Tensor] = []  # (B,) per step
        self._no_speech: Tensor | None = None  # (B,)

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:  # type: ignore[override]
        """Look at one step; changes nothing."""
        if self._scores is None:
            self._no_speech = scores.softmax(dim=-1)[:, self._end].cpu()
        else:
            self._choose(input_ids[:, -1])
        self._scores = scores
        return scores

    def _choose(self, ids: Tensor) -> None:
        assert self._scores is not None
        self._chosen.append(
            self._scores.log_softmax(dim=-1).gather(1, ids.to(self._scores.device)[:, None])[:, 0].cpu()
        )

    def texts(self, sequences: Tensor) -> list[Text]:
        """Texts of the generated ids (B, T)."""
        assert self._no_speech is not None
        self._choose(sequences[:, -1])
        chosen = torch.stack(self._chosen, dim=1)
        ended = (sequences == self._end).long().cumsum(dim=1)
        lengths = (ended == 0).sum(dim=1).tolist()
        # A row that has ended holds blanks, which were not chosen.
        totals = chosen.masked_fill((ended - (sequences == self._end).long()) > 0, 0.0).sum(dim=1).tolist()
        return [
            Text(ids[:length], total, float(silent))
            for ids, length, total, silent in zip(sequences, lengths, totals, self._no_speech, strict=True)
        ]
