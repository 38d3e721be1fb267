"""What is compared when texts are scored: named normalizers, one per figure and never two in a row.

    WhisperNormalizer   Whisper's own rules, kept as published, to stand beside published figures
    PlainNormalizer     the same rules, with the cases mended in which they count signs or lose words

Whisper's rules by language:

    en                  EnglishTextNormalizer: numbers as digits, contractions spelled out, American spelling
    zh ja yue th lo my  BasicTextNormalizer with split letters: characters are counted, not words
    any other           BasicTextNormalizer

The rules are those of Radford et al. 2022, appendix C (arXiv:2212.04356). The classes are transformers'. The list of
1,739 British and American spellings is that of the package whisper-normalizer, so that a score needs no download.
"""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from typing import Protocol

COUNTED_BY_CHARACTER = frozenset({"zh", "ja", "yue", "th", "lo", "my"})

_APOSTROPHES = str.maketrans("\u2018\u2019\u02bc\u2032\uff07", "'''''")
_DOTS = re.compile("\\.{2,}|\u2026")
_SIGN_BEHIND = re.compile(r"(\d[\d.,]*)\s*([€£$¢])(?!\d)")  # "5 €"
_PERCENT = re.compile(r"(\d)\s+%")
_ONE = re.compile(r"(?<=[€£$¢])one\b|\bone(?=%|\.\d)")


class Normalizer(Protocol):
    """Makes a text comparable.

    Attributes:
        language: ISO 639-1.
    """

    @property
    def language(self) -> str: ...

    @property
    def name(self) -> str:
        """Name that figures are shown with."""
        ...

    def __call__(self, text: str) -> str:
        """The text as it is compared, single-spaced; "" where nothing of it counts."""
        ...


@dataclass(frozen=True)
class WhisperNormalizer:
    """Whisper's rules, as published.

        >>> from eval.texts.normalization import WhisperNormalizer
        >>> WhisperNormalizer("en")("It's one dollar...")
        'it is one .'

    Attributes:
        language: ISO 639-1.
    """

    language: str

    @property
    def name(self) -> str:
        """Name that figures are shown with."""
        return f"whisper-{self.language}"

    def __call__(self, text: str) -> str:
        """The text as it is compared.

        Raises:
            ImportError: with the install hint, if the list of spellings is missing and the language is English.
        """
        return " ".join(_whisper(self.language)(text).split())


@dataclass(frozen=True)
class PlainNormalizer:
    """Whisper's rules, with these cases of English mended.

    Several dots are no word. Curly apostrophes are apostrophes. "One dollar", "one percent" and "one" are three things.
    A sign may stand behind its number.

        >>> from eval.texts.normalization import PlainNormalizer
        >>> PlainNormalizer("en")("It's one dollar...")
        'it is $1'

    Attributes:
        language: ISO 639-1.
    """

    language: str

    @property
    def name(self) -> str:
        """Name that figures are shown with."""
        return f"plain-{self.language}"

    def __call__(self, text: str) -> str:
        """The text as it is compared; raises as `WhisperNormalizer`."""
        if self.language != "en":
            return " ".join(_whisper(self.language)(text).split())
        text = _DOTS.sub(" ", text.translate(_APOSTROPHES))
        text = _PERCENT.sub(r"\1%", _SIGN_BEHIND.sub(r"\2\1", text))
        return " ".join(_plain_english()(text).split())


def normalize(text: str, language: str) -> str:
    """The text by `PlainNormalizer`."""
    return PlainNormalizer(language)(text)


def counted_units(text: str, normalizer: Normalizer) -> list[str]:
    """What a word error rate counts in a text: normalized words, or characters in `COUNTED_BY_CHARACTER`."""
    return normalizer(text).split()


def counted_characters(text: str, normalizer: Normalizer) -> str:
    """The normalized text whose characters a character error rate counts: spaces count where words have them."""
    normal = normalizer(text)
    return normal.replace(" ", "") if normalizer.language in COUNTED_BY_CHARACTER else normal


def contains_words(text: str, words: str) -> bool:
    """Whether `words` stand in `text`, both normalized, as whole words and in one piece."""
    return bool(words) and re.search(rf"(?<!\S){re.escape(words)}(?!\S)", text) is not None


@lru_cache
def _whisper(language: str) -> Callable[[str], str]:
    from transformers.models.whisper.english_normalizer import BasicTextNormalizer, EnglishTextNormalizer

    if language == "en":
        return EnglishTextNormalizer(_american_spelling())
    return BasicTextNormalizer(split_letters=language in COUNTED_BY_CHARACTER)


@lru_cache
def _plain_english() -> Callable[[str], str]:
    from transformers.models.whisper.english_normalizer import EnglishNumberNormalizer, EnglishTextNormalizer

    class Numbers(EnglishNumberNormalizer):
        """Numbers whose 1 stays a digit beside its sign; Whisper writes "$one" and then drops the sign."""

        def postprocess(self, s: str) -> str:
            return _ONE.sub("1", super().postprocess(s))

    english = EnglishTextNormalizer(_american_spelling())
    english.standardize_numbers = Numbers()
    return english


def _american_spelling() -> dict[str, str]:
    """British -> American."""
    try:
        listed = files("whisper_normalizer") / "normalizers" / "english.json"
    except ModuleNotFoundError as error:
        raise ImportError("English scores need whisper-normalizer: pip install spikeaudio[eval]") from error
    spelling: dict[str, str] = json.loads(listed.read_text(encoding="utf-8"))
    return spelling
