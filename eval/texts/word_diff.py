"""Reference and answer side by side, what differs marked."""

from dataclasses import dataclass
from difflib import SequenceMatcher

from eval.texts.normalization import COUNTED_BY_CHARACTER, PlainNormalizer, counted_units


@dataclass(frozen=True)
class Passage:
    """Units in one piece.

    Attributes:
        text: normalized words, or characters.
        differs: whether the other text lacks them.
    """

    text: str
    differs: bool


def marked_words(reference: str, answer: str, language: str) -> tuple[list[Passage], list[Passage]]:
    """Passages of (reference, answer), normalized.

        >>> from eval.texts.word_diff import marked_words
        >>> [passage.text for passage in marked_words("a big cat", "a cat", "de")[0] if passage.differs]
        ['big']

    Args:
        reference: right words.
        answer: words that were written or heard.
        language: ISO 639-1.
    """
    said, wrote = (counted_units(text, PlainNormalizer(language)) for text in (reference, answer))
    space = "" if language in COUNTED_BY_CHARACTER else " "
    left: list[Passage] = []
    right: list[Passage] = []
    for kind, first, last, start, end in SequenceMatcher(None, said, wrote, autojunk=False).get_opcodes():
        for side, units in ((left, said[first:last]), (right, wrote[start:end])):
            if units:
                side.append(Passage(space.join(units), kind != "equal"))
    return left, right
