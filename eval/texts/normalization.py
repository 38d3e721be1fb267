"""What is compared when texts are scored: one normalizer per language, and never two in a row.

    en                  Whisper's EnglishTextNormalizer (numbers as digits, contractions spelled out, American spelling)
    zh ja yue th lo my  Whisper's BasicTextNormalizer, letters split: characters are counted, not words
    any other           Whisper's BasicTextNormalizer

The rules are those of Radford et al. 2022, appendix C (arXiv:2212.04356); classes are transformers', and the list of
1,739 British and American spellings, which transformers leaves to checkpoints, is that of the package
whisper-normalizer: a score needs no download and does not change with one.
"""

import json
import re
from collections.abc import Callable
from functools import lru_cache
from importlib.resources import files

COUNTED_BY_CHARACTER = frozenset({"zh", "ja", "yue", "th", "lo", "my"})


def normalize(text: str, language: str) -> str:
    """The text as it is compared, single-spaced; "" where nothing of it counts.

    Args:
        text: any.
        language: ISO 639-1.

    Raises:
        ImportError: with the install hint, if the list of spellings is missing and the language is English.
    """
    return " ".join(_normalizer(language)(text).split())


def counted_units(text: str, language: str) -> list[str]:
    """What a word error rate counts in a text: normalized words, or characters in `COUNTED_BY_CHARACTER`."""
    return normalize(text, language).split()


def counted_characters(text: str, language: str) -> str:
    """The normalized text whose characters a character error rate counts: spaces count where words have them."""
    normal = normalize(text, language)
    return normal.replace(" ", "") if language in COUNTED_BY_CHARACTER else normal


def contains_words(text: str, words: str) -> bool:
    """Whether `words` stand in `text`, both normalized, as whole words and in one piece."""
    return bool(words) and re.search(rf"(?<!\S){re.escape(words)}(?!\S)", text) is not None


@lru_cache
def _normalizer(language: str) -> Callable[[str], str]:
    from transformers.models.whisper.english_normalizer import BasicTextNormalizer, EnglishTextNormalizer

    if language == "en":
        return EnglishTextNormalizer(_american_spelling())
    return BasicTextNormalizer(split_letters=language in COUNTED_BY_CHARACTER)


def _american_spelling() -> dict[str, str]:
    """British -> American."""
    try:
        listed = files("whisper_normalizer") / "normalizers" / "english.json"
    except ModuleNotFoundError as error:
        raise ImportError("English scores need whisper-normalizer: pip install spikeaudio[eval]") from error
    spelling: dict[str, str] = json.loads(listed.read_text(encoding="utf-8"))
    return spelling
