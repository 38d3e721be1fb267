"""Whether an answer is right: the chosen one of several, or one of the references in other spelling."""

import re
from collections.abc import Sequence

from eval.texts.named_choice import named_choice
from eval.texts.normalization import normalize

_LETTER = re.compile(r"\s*[(\[]?([A-Z])[)\].]?\s*")
_LONGEST = 2000  # characters of an answer that may equal an option
_LABELS = (("yes", "no"), ("true", "false"), ("valid", "invalid"))  # of VoiceBench's bbh


def chosen(answer: str, choices: Sequence[str], language: str = "en") -> int | None:
    """Number of the option that an answer chooses; None: the answer chooses none, or more than one.

    An answer that equals an option chooses it. All other forms are read by `eval.texts.named_choice`.

        >>> from eval.texts.right_answer import chosen
        >>> chosen("Option A is wrong; the answer is C.", ["flute", "violin", "drum"])
        2

    Args:
        answer: text of the model.
        choices: texts of the options, two or more.
        language: ISO 639-1.
    """
    options = [normalize(choice, language) for choice in choices]
    said = normalize(answer, language) if len(answer) <= _LONGEST else None
    return options.index(said) if said in options else named_choice(answer, choices, language)


def is_right(answer: str, references: Sequence[str], choices: Sequence[str] = (), language: str = "en") -> bool:
    """Whether the answer is one of the references.

        >>> from eval.texts.right_answer import is_right
        >>> is_right("Answer: **C**", ["C"]), is_right("The answer is a drum.", ["A"])
        (True, False)

    Args:
        answer: text of the model.
        references: right answers; for a multiple-choice question the text or the letter of the right option.
        choices: texts of the options; empty: the answer must equal a reference after normalization, or name the letter
            or the label (yes, no) that the reference is. VoiceBench's options are only heard.
        language: ISO 639-1.
    """
    if choices:
        right = {chosen(reference, choices, language) for reference in references} - {None}
        return chosen(answer, choices, language) in right
    if normalize(answer, language) in {normalize(reference, language) for reference in references}:
        return True
    letters = {ord(found[1]) - ord("A") for reference in references if (found := _LETTER.fullmatch(reference))}
    if letters:
        return named_choice(answer, (), language) in letters
    for labels in _LABELS:
        if references and {reference.strip().lower() for reference in references} <= set(labels):
            return is_right(answer, references, labels, language)
    return False
