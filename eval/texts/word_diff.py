"""Reference and answer side by side in HTML, what differs marked."""

import html
from difflib import SequenceMatcher

from eval.texts.normalization import COUNTED_BY_CHARACTER, PlainNormalizer, counted_units


def marked_words(reference: str, answer: str, language: str) -> tuple[str, str]:
    """(reference, answer) as HTML, normalized: what was lost in <del>, what was added in <ins>.

    Args:
        reference: right words.
        answer: text that was written or heard.
        language: ISO 639-1.
    """
    said, wrote = (counted_units(text, PlainNormalizer(language)) for text in (reference, answer))
    space = "" if language in COUNTED_BY_CHARACTER else " "
    left: list[str] = []
    right: list[str] = []
    for kind, first, last, start, end in SequenceMatcher(None, said, wrote, autojunk=False).get_opcodes():
        for side, units, tag in ((left, said[first:last], "del"), (right, wrote[start:end], "ins")):
            text = html.escape(space.join(units))
            if text:
                side.append(text if kind == "equal" else f"<{tag}>{text}</{tag}>")
    return space.join(left), space.join(right)
