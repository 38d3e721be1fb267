"""An independent ASR judge: pocketsphinx, and error rates of what it heard.

It was trained on human speech by other people, so it cannot share our recogniser's habits. It is a weak recogniser:
its error rate on generated speech means something only beside its error rate on the recordings the voice was learnt
from. It listens with its own free language model of English or, where all that can be said is known, within a closed
domain (`eval.judges.closed_domain`), where it is far better. Needs ``pip install spikeaudio[eval]``.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import jiwer
import numpy as np
import torch
from numpy.typing import NDArray

from eval.judges.closed_domain import ClosedDomain

JUDGE_SAMPLING_RATE = 16000
_EDGE_SAMPLES = 4000  # 0.25 s of silence around a clip, as the acoustic model expects


@dataclass(frozen=True)
class WordErrors:
    """Counts over a test set; an empty hypothesis counts as deletions of every word.

    Args:
        words: words of all references.
        substitutions: words heard as another one.
        deletions: words not heard.
        insertions: words heard that were not said.
    """

    words: int
    substitutions: int
    deletions: int
    insertions: int

    @property
    def rate(self) -> float:
        """Word error rate, a fraction; may exceed 1."""
        return (self.substitutions + self.deletions + self.insertions) / self.words


def normalize(text: str) -> str:
    """Lower case, letters and apostrophes only, single spaces."""
    return " ".join(re.sub(r"[^a-z' ]+", " ", text.lower()).split())


def word_errors(references: Sequence[str], hypotheses: Sequence[str]) -> WordErrors:
    """Micro-averaged word errors of normalized texts.

    Raises:
        ValueError: if the lists differ in length or no reference holds a word.
    """
    said, heard = _checked(references, hypotheses)
    counts = jiwer.process_words(said, heard)
    return WordErrors(
        words=counts.hits + counts.substitutions + counts.deletions,
        substitutions=counts.substitutions,
        deletions=counts.deletions,
        insertions=counts.insertions,
    )


def character_error_rate(references: Sequence[str], hypotheses: Sequence[str]) -> float:
    """Micro-averaged character error rate of normalized texts, a fraction; raises as `word_errors`."""
    said, heard = _checked(references, hypotheses)
    return float(jiwer.cer(said, heard))


def pocketsphinx_transcribe(wav_16k: torch.Tensor | NDArray[Any], domain: ClosedDomain | None = None) -> str:
    """What pocketsphinx (en-us) hears in one clip; "" if nothing.

    Args:
        wav_16k: (N,) floats in [-1, 1] at 16 kHz.
        domain: within which it listens; None: its free language model.

    Raises:
        ValueError: if the clip is not one-dimensional or holds NaN or infinity, or if a word of the domain is neither
            in the dictionary nor among the domain's own pronunciations.
        ImportError: with the install hint, if pocketsphinx is missing.
    """
    wav = np.asarray(torch.as_tensor(wav_16k).detach().cpu(), dtype=np.float32)
    if wav.ndim != 1 or not np.isfinite(wav).all():
        raise ValueError(f"expected a finite (N,) waveform, got shape {wav.shape}")
    # One level for every clip: the judge should hear words, not loudness.
    level = float(np.sqrt(np.mean(np.square(wav)))) if wav.size else 0.0
    if level == 0.0:
        return ""
    pcm = (np.clip(np.pad(wav * (0.06 / level), _EDGE_SAMPLES), -1, 1) * 32767).astype("<i2")
    decoder = _decoder() if domain is None else _decoder_within(domain)
    decoder.start_utt()
    decoder.process_raw(pcm.tobytes(), no_search=False, full_utt=True)
    decoder.end_utt()
    hypothesis = decoder.hyp()
    return normalize(hypothesis.hypstr) if hypothesis is not None else ""


@lru_cache(maxsize=1)
def _decoder() -> Any:
    """The recogniser; loading its models takes a second."""
    return _sphinx().Decoder(samprate=JUDGE_SAMPLING_RATE, loglevel="FATAL")


@lru_cache(maxsize=4)
def _decoder_within(domain: ClosedDomain) -> Any:
    """The recogniser of a closed domain."""
    decoder = _sphinx().Decoder(samprate=JUDGE_SAMPLING_RATE, loglevel="FATAL", lm=None)
    for word, phones in domain.pronunciations:
        decoder.add_word(word, phones)
    words = {word for answer in domain.answers for word in answer.split()}
    if unknown := sorted(word for word in words if decoder.lookup_word(word) is None):
        raise ValueError(
            f"the ASR judge cannot pronounce {unknown}: give their phones among the domain's pronunciations"
        )
    decoder.add_fsg(domain.name, decoder.create_fsg(domain.name, 0, 1, domain.network()))
    decoder.activate_search(domain.name)
    return decoder


def _sphinx() -> Any:
    try:
        import pocketsphinx
    except ImportError as error:
        raise ImportError("the speech judge needs pocketsphinx: pip install spikeaudio[eval]") from error
    return pocketsphinx


def _checked(references: Sequence[str], hypotheses: Sequence[str]) -> tuple[list[str], list[str]]:
    """Normalized copies of two lists of equal length; a reference that normalizes to nothing is an error."""
    if len(references) != len(hypotheses):
        raise ValueError(f"need one hypothesis per reference, got {len(references)} and {len(hypotheses)}")
    said, heard = [normalize(text) for text in references], [normalize(text) for text in hypotheses]
    empty = [text for text, clean in zip(references, said, strict=True) if not clean]
    if empty or not said:
        raise ValueError(f"every reference needs at least one word, got {empty or 'none at all'}")
    return said, heard
