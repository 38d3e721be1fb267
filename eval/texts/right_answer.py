"""Whether an answer is right: the chosen one of several, or one of the references in other spelling."""

import re
from collections.abc import Sequence

from eval.texts.normalization import contains_words, normalize

_LETTER_ALONE = re.compile(r"\s*[(\[]?([A-Za-z])[)\].:]*\s*")
_LETTER_FIRST = re.compile(r"\s*(?:[(\[]([A-Za-z])[)\]]|([A-Za-z])[).:])(?=\s)")  # "(B) dog", "B. dog"; not "a dog"
_LETTER_NAMED = re.compile(r"\b(?:answer|option|choice)(?:\s+is)?\s*:?\s*[(\[]?([A-Z])[)\]]?(?=[\s.,;:!]|$)", re.I)
_CAPITAL = re.compile(r"[A-Z]")
_FIRST_ONLY = frozenset({"yes", "no", "true", "false"})  # words that also stand in answers which mean something else


def chosen(answer: str, choices: Sequence[str], language: str = "en") -> int | None:
    """Which of the choices an answer names; None: none, or more than one.

    In this order: the choice itself; a letter ("B", "(b)", "B. dog", "the answer is B"); the only choice that stands in
    the answer as whole words and in one piece. Yes, no, true and false must be the first word. A choice within a longer
    one that is also found ("dog" in "dog barking") does not count.

    Args:
        answer: what was written.
        choices: two or more.
        language: ISO 639-1.
    """
    said, options = normalize(answer, language), [normalize(choice, language) for choice in choices]
    if said in options:
        return options.index(said)
    if (place := _letter(answer)) is not None and place < len(options):
        return place
    if _FIRST_ONLY.issuperset(options):
        first = re.split(r"[,.;:!?\n]", answer.strip(), maxsplit=1)[0]
        return options.index(normalize(first, language)) if normalize(first, language) in options else None
    found_at = [place for place, option in enumerate(options) if contains_words(said, option)]
    longest = [
        place
        for place in found_at
        if not any(
            options[place] != options[other] and contains_words(options[other], options[place]) for other in found_at
        )
    ]
    return longest[0] if len(longest) == 1 else None


def _letter(answer: str) -> int | None:
    """Place in the alphabet of the letter that an answer names; None: it names none."""
    for pattern in (_LETTER_ALONE.fullmatch, _LETTER_FIRST.match, _LETTER_NAMED.search):
        if found := pattern(answer):
            return ord((found[1] or found[found.lastindex or 1]).upper()) - ord("A")
    return None


def is_right(answer: str, references: Sequence[str], choices: Sequence[str] = (), language: str = "en") -> bool:
    """Whether the answer is one of the references.

    Args:
        answer: what was written.
        references: right answers; of a multiple-choice question the text or the letter of the right choice.
        choices: of a multiple-choice question; empty: the answer must equal a reference after normalization, or name
            the letter that the reference is (VoiceBench's choices are only heard).
        language: ISO 639-1.
    """
    if not choices:
        letters = {ord(reference) - ord("A") for reference in references if _CAPITAL.fullmatch(reference)}
        if letters and _letter(answer) in letters:
            return True
        return normalize(answer, language) in {normalize(reference, language) for reference in references}
    right = {chosen(reference, choices, language) for reference in references} - {None}
    return chosen(answer, choices, language) in right
