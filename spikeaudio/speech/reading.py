"""Reading a text aloud: sentence by sentence, with the words of the text stream given and the codes sampled.

A small model says some sentences wrongly, and hears that it did. So several candidates of a sentence may be made: the
first as it comes; where the model's own transcript of it differs from the sentence, more with other random numbers,
and the one whose transcript fits best is taken. A checkpoint's ``generation_config.json`` gives their number as
``speech_candidates``. Measured on spikeaudio-tiny (20 bundled sentences, character errors as pocketsphinx hears them):
17.5 % with one candidate, 10 to 12 % with four, and 0.9 against 2.4 CPU seconds for a sentence.
"""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import BatchFeature

from spikeaudio.audio.samples import resample
from spikeaudio.lm.forced_text import ForcedText
from spikeaudio.lm.sampling import GREEDY_TEMPERATURE
from spikeaudio.prompt.conversation import spoken_text_ids
from spikeaudio.prompt.normalization import split_sentences
from spikeaudio.prompt.processor import SpikeAudioProcessor
from spikeaudio.prompt.raw_audio import SAMPLING_RATE
from spikeaudio.speech.agreement import agreement
from spikeaudio.speech.decoder import SpeechDecoder, VoicePrompt
from spikeaudio.speech.events import AudioEvent, PauseEvent
from spikeaudio.speech.generator import Generator
from spikeaudio.speech.result import Speech
from spikeaudio.speech.seeds import other_seed
from spikeaudio.speech.streaming import streamed
from spikeaudio.speech.transcription import transcribe

logger = logging.getLogger(__name__)

_CODES_PER_TEXT_ID = 12  # about one second; speech takes a quarter of it
_PAUSE_SECONDS = 0.2  # between two sentences
_CANDIDATE_TEMPERATURE = 1.0  # of further candidates, where the first is greedy: they would all be the same
_BATCH = 4  # candidates made at once
_DOUBTFUL = 0.6  # score below which a sentence is likely to be another one


@dataclass(frozen=True)
class Candidate:
    """One attempt at a sentence.

    Attributes:
        codes: (S,) long.
        wav: (N,) float32.
        ended: whether the model came to an end before the limit.
        heard: the model's own transcript; None where it was not asked.
        score: how well that agrees with the sentence, from 0 to 1; None where it was not asked.
    """

    codes: Tensor
    wav: Tensor
    ended: bool
    heard: str | None = None
    score: float | None = None


@dataclass(frozen=True)
class Reader:
    """Reads sentences aloud with one model.

    Attributes:
        generator: the language model.
        decoder: codes to speech.
        voice: to speak with; None: the decoder's own.
        candidates: attempts at a sentence at most; None: as many as the checkpoint says, one where it says nothing or
            the model cannot hear.
    """

    generator: Generator
    decoder: SpeechDecoder
    voice: VoicePrompt | None = None
    candidates: int | None = None

    def __post_init__(self) -> None:
        if self.candidates is not None and self.candidates < 1:
            raise ValueError(f"a sentence needs at least one candidate, got {self.candidates}")

    @property
    def attempts(self) -> int:
        """Number of candidates of a sentence at most."""
        if self.candidates is not None:
            return self.candidates
        stored = getattr(self.generator.model.generation_config, "speech_candidates", None)
        return stored if stored and self.generator.processor.hears else 1

    def read(self, sentences: Sequence[str], seed: int, **generation: Any) -> Speech:
        """Sentences read aloud, with pauses between them; the k-th with the random numbers of ``seed + k``.

        Args:
            sentences: at least one, as `sentences_of` gives them.
            seed: Seed of every random number.
            generation: keywords for the language model's `generate`.
        """
        said = [self.sentence(text, seed + index, **generation) for index, text in enumerate(sentences)]
        wavs = [wav for candidate in said for wav in (self._pause, candidate.wav)][1:]
        weights = [len(text) for text in sentences]
        scores = [candidate.score for candidate in said if candidate.score is not None]
        score = None
        if len(scores) == len(said):
            score = sum(map(float.__mul__, scores, map(float, weights))) / sum(weights)
        codes = torch.cat([candidate.codes for candidate in said])
        return Speech(torch.cat(wavs), self.decoder.sampling_rate, codes, " ".join(sentences), score)

    def stream(self, sentences: Sequence[str], seed: int, **generation: Any) -> Iterator[AudioEvent]:
        """`read`, sound by sound; the sounds joined are its wave.

        With more than one candidate a sentence comes as a whole, when one of them is chosen.
        """
        for index, sentence in enumerate(sentences):
            if index:
                yield PauseEvent(self._pause, self.decoder.sampling_rate, torch.zeros(0, dtype=torch.long))
            if self.attempts > 1:
                said = self.sentence(sentence, seed + index, **generation)
                if len(said.wav):
                    yield AudioEvent(said.wav, self.decoder.sampling_rate, said.codes)
                continue
            prompt, options = prompt_to_read(sentence, self.generator.processor, 1, generation)
            for event in streamed(self.generator, prompt, "audio", self.decoder, seed + index, self.voice, **options):
                if isinstance(event, AudioEvent):
                    yield event

    def sentence(self, sentence: str, seed: int, **generation: Any) -> Candidate:
        """The best candidate of one sentence; a warning names a sentence that may be wrong."""
        (best,) = self._attempt(sentence, [seed], generation)
        if self.attempts > 1:
            (best,) = self._heard(sentence, [best])
            seeds = [other_seed(seed, number) for number in range(1, self.attempts)]
            for first in range(0, len(seeds), _BATCH):
                if best.score == 1 or (first and (best.score or 0.0) < _DOUBTFUL):
                    break  # right; or, after a whole batch, nothing that this model can say
                others = self._attempt(sentence, seeds[first : first + _BATCH], self._varied(generation))
                best = max([best, *self._heard(sentence, others)], key=lambda candidate: candidate.score or 0.0)
        if not best.ended and "max_new_tokens" not in generation:
            logger.warning(
                "the speech for %r did not end, and was cut after %.1f s: it may be wrong",
                sentence,
                len(best.wav) / self.decoder.sampling_rate,
            )
        elif best.score is not None and best.score < _DOUBTFUL:
            logger.warning("the speech for %r may be wrong: the model itself hears %r in it", sentence, best.heard)
        return best

    @property
    def _pause(self) -> Tensor:
        return torch.zeros(round(_PAUSE_SECONDS * self.decoder.sampling_rate))

    def _attempt(self, sentence: str, seeds: Sequence[int], generation: dict[str, Any]) -> list[Candidate]:
        """One candidate per seed, generated as one batch."""
        processor = self.generator.processor
        prompt, options = prompt_to_read(sentence, processor, len(seeds), generation)
        if len(seeds) > 1:
            options.setdefault("generator", [torch.Generator().manual_seed(seed) for seed in seeds])
        output, length = self.generator(prompt, "audio", seed=seeds[0], **options)
        assert output.audio_codes is not None and output.audio_sequences is not None
        layout = processor.layout
        stops = torch.tensor([layout.msg_end_token_id, layout.media_end_token_id])
        ended = torch.isin(output.audio_sequences[:, length:].cpu(), stops).any(dim=1).tolist()
        codes = [row.cpu() for row in output.audio_codes]
        wavs = [self.decoder.decode(row, seed, self.voice) for row, seed in zip(codes, seeds, strict=True)]
        return [Candidate(*each) for each in zip(codes, wavs, ended, strict=True)]

    def _heard(self, sentence: str, candidates: Sequence[Candidate]) -> list[Candidate]:
        """The candidates with what the model hears in them."""
        rate = self.decoder.sampling_rate
        heard = transcribe(self.generator, [resample(each.wav, rate, SAMPLING_RATE) for each in candidates])
        return [
            Candidate(each.codes, each.wav, each.ended, said.text, agreement(sentence, said.text))
            for each, said in zip(candidates, heard, strict=True)
        ]

    def _varied(self, generation: dict[str, Any]) -> dict[str, Any]:
        """The keywords, with a temperature at which candidates differ."""
        default = getattr(self.generator.model.generation_config, "audio_temperature", None)
        chosen = generation.get("audio_temperature", default)
        if chosen is None or chosen <= GREEDY_TEMPERATURE:
            return generation | {"audio_temperature": _CANDIDATE_TEMPERATURE}
        return generation


def sentences_of(text: str, processor: SpikeAudioProcessor) -> list[str]:
    """A text in pieces that are read one by one; a model that takes texts as they are gets it whole."""
    return split_sentences(text) if processor.spell_out else [text]


def sentences_of_prompt(ids: Tensor, processor: SpikeAudioProcessor) -> list[str]:
    """The sentences that the text stream (T,) of a prompt of this processor holds."""
    return [processor.text_of(sentence) for sentence in processor.sentence_marks.split(ids)]


def prompt_to_read(
    sentence: str, processor: SpikeAudioProcessor, rows: int, generation: dict[str, Any]
) -> tuple[BatchFeature, dict[str, Any]]:
    """Prompt and keywords of `generate` that have one sentence read aloud.

    Args:
        sentence: text to read.
        processor: processor of the checkpoint.
        rows: equal rows of the batch.
        generation: keywords that win over these.

    Raises:
        ValueError: there is nothing in it that can be said.
    """
    ids = processor.text_ids(sentence)
    prompt = processor.apply_speech_request([ids] * rows)
    forced = spoken_text_ids(ids, processor.layout)
    limit = len(forced) * _CODES_PER_TEXT_ID + processor.layout.audio_delay
    words = ForcedText([forced] * rows, prompt["input_ids"].shape[1])
    return prompt, {"prefix_allowed_tokens_fn": words, "max_new_tokens": limit, **generation}
