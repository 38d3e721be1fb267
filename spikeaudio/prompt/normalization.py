"""Written English -> the words a speech model reads: lower-case a-z, apostrophes and single spaces.

    "It’s Zoë's 2nd try: 3.5 % more!"  ->  "it's zoe's second try three point five percent more"

Steps: one spelling per character (:mod:`~spikeaudio.prompt.characters`); numbers, signs and abbreviations to words
(:mod:`~spikeaudio.prompt.verbalization`); sentences; accents dropped; lower case; punctuation to spaces, because the
model's training texts have none. What then is left outside a-z and ' (other scripts, emoji) cannot be read: it is
dropped, and a warning names it. A text that is spelled out already stays as it is.
"""

import logging
import re
import unicodedata

from spikeaudio.prompt.characters import plain_characters, without_accents
from spikeaudio.prompt.verbalization import verbalize

logger = logging.getLogger(__name__)

# Behind a closing quote or bracket only a capital begins a sentence: “Go!” he said.
_SENTENCE_END = re.compile(r"(?<=[.!?;:])\s+|(?<=[.!?])[\"')\]”]+\s+(?=[^a-z])|\n+")
_SPELLED_OUT = re.compile(r"[a-z' \t]*")
_LONGEST_SENTENCE = 40  # words
_SILENT = "<>|~^`"  # layout; where they are mathematics they are words by now


def normalize_text(text: str) -> str:
    """Spell `text` out in the letters a-z, apostrophes and spaces.

    Args:
        text: any Unicode text, read as English.

    Returns:
        Words joined by single spaces, never empty.

    Raises:
        ValueError: the text is empty, or nothing in it can be pronounced.

    >>> normalize_text("Dr. Smith paid $3 million for 1½ cups; that's 5 % more.")
    "doctor smith paid three million dollars for one and a half cups that's five percent more"
    """
    return " ".join(split_sentences(text))


def split_sentences(text: str) -> list[str]:
    """The sentences of a text, each as `normalize_text` spells it; one of more than 40 words is cut after every 40th.

    Args:
        text: any Unicode text, read as English.

    Returns:
        At least one sentence, none of them empty.

    Raises:
        ValueError: the text is empty, or nothing in it can be pronounced.

    >>> split_sentences("Dr. Smith is here. It is 5 p.m.")
    ['doctor smith is here', 'it is five p m']
    """
    if not isinstance(text, str):
        raise ValueError(f"expected text as a str, got {type(text).__name__}")
    if not text.strip():
        raise ValueError("the text is empty: expected at least one word")
    spelled = text if _SPELLED_OUT.fullmatch(text) else without_accents(verbalize(plain_characters(text)))
    sentences = [_words(sentence) for sentence in _SENTENCE_END.split(spelled)]
    if not any(sentences):
        raise ValueError(
            f"nothing in the text can be pronounced: {_shortened(text)!r} holds no letters a-z and no digits"
        )
    if dropped := sorted({char for char in spelled.lower() if not _is_readable(char) and not _is_punctuation(char)}):
        shown = " ".join(dropped).encode("utf-8", "backslashreplace").decode()  # half a surrogate pair breaks a log
        logger.warning("left out characters that the model cannot read: %s", shown)
    return [
        " ".join(words[first : first + _LONGEST_SENTENCE])
        for words in sentences
        for first in range(0, len(words), _LONGEST_SENTENCE)
    ]


def _words(sentence: str) -> list[str]:
    words = "".join(char if _is_readable(char) else " " for char in sentence.lower()).split()
    return [bare for word in words if (bare := word.strip("'"))]


def _is_readable(char: str) -> bool:
    return "a" <= char <= "z" or char in "' "


def _is_punctuation(char: str) -> bool:
    """Signs that are silent in English; symbols such as emoji count as letters of another script."""
    return char.isspace() or char in _SILENT or unicodedata.category(char)[0] in "PZ" or char.isascii()


def _shortened(text: str) -> str:
    return text if len(text) <= 40 else text[:37] + "..."
