"""Word and character errors of one answer, counted by jiwer, with substitutions, deletions and insertions."""

from collections.abc import Sequence

from eval.metrics.case import Case
from eval.metrics.count import Count
from eval.texts.normalization import counted_characters, counted_units


def word_errors(references: Sequence[str], hypothesis: str | None, language: str = "en") -> Count:
    """Errors over words (over characters in languages written without spaces), after normalization.

    Args:
        references: right answers, of which the one with the lowest rate counts; none is like "".
        hypothesis: what was written; None: the model failed, which is every word deleted and, where there was nothing
            to write, one word inserted (else failing would be the best answer to silence).
        language: ISO 639-1.

    Returns:
        errors / words with parts "substitutions", "deletions", "insertions".

    Raises:
        ImportError: with the install hint, if jiwer is missing.
    """
    said = [" ".join(counted_units(reference, language)) for reference in references or ("",)]
    return _best(said, None if hypothesis is None else " ".join(counted_units(hypothesis, language)), "process_words")


def character_errors(references: Sequence[str], hypothesis: str | None, language: str = "en") -> Count:
    """Errors over characters of normalized texts; otherwise as `word_errors`."""
    said = [counted_characters(reference, language) for reference in references or ("",)]
    heard = None if hypothesis is None else counted_characters(hypothesis, language)
    return _best(said, heard, "process_characters")


def written(case: Case) -> str | None:
    """What the model wrote; None where it failed."""
    return None if case.failure is not None else case.text


def written_word_errors(case: Case) -> Count:
    """Word errors of the written answer."""
    return word_errors(case.sample.references, written(case), case.language)


def written_character_errors(case: Case) -> Count:
    """Character errors of the written answer."""
    return character_errors(case.sample.references, written(case), case.language)


def _best(references: list[str], hypothesis: str | None, process: str) -> Count:
    try:
        import jiwer
    except ImportError as error:
        raise ImportError("error rates need jiwer: pip install spikeaudio[eval]") from error
    counts = []
    for reference in references:
        done = getattr(jiwer, process)(reference, hypothesis or "")
        insertions = 1 if hypothesis is None and not reference else done.insertions
        errors = done.substitutions + done.deletions + insertions
        parts = {"substitutions": done.substitutions, "deletions": done.deletions, "insertions": insertions}
        units = done.hits + done.substitutions + done.deletions
        counts.append(Count(float(errors), float(units), {name: float(value) for name, value in parts.items()}))
    return min(counts, key=lambda count: count.numerator / max(1.0, count.denominator))
