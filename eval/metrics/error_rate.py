"""Word and character errors of one answer, counted by jiwer, with substitutions, deletions and insertions."""

from collections.abc import Sequence

from eval.metrics.case import Case
from eval.metrics.count import Count
from eval.texts.normalization import Normalizer, PlainNormalizer, WhisperNormalizer, counted_characters, counted_units

_ENGLISH = PlainNormalizer("en")


def word_errors(references: Sequence[str], hypothesis: str | None, normalizer: Normalizer = _ENGLISH) -> Count:
    """Errors over words (over characters in languages written without spaces), after normalization.

        >>> from eval.metrics.error_rate import word_errors
        >>> word_errors(["wait, I do not know"], "wait... I don't now").numerator
        1.0

    Args:
        references: right answers; the one with the lowest rate counts. An empty list is like "".
        hypothesis: text of the model; None: the model failed. Then every word is deleted. Where there was nothing to
            write, one word is inserted: else failing would be the best answer to silence.
        normalizer: makes both comparable.

    Returns:
        errors / words with parts "substitutions", "deletions", "insertions".

    Raises:
        ImportError: with the install hint, if jiwer is missing.
    """
    said = [" ".join(counted_units(reference, normalizer)) for reference in references or ("",)]
    return _best(said, None if hypothesis is None else " ".join(counted_units(hypothesis, normalizer)), "process_words")


def character_errors(references: Sequence[str], hypothesis: str | None, normalizer: Normalizer = _ENGLISH) -> Count:
    """Errors over characters of normalized texts; otherwise as `word_errors`."""
    said = [counted_characters(reference, normalizer) for reference in references or ("",)]
    heard = None if hypothesis is None else counted_characters(hypothesis, normalizer)
    return _best(said, heard, "process_characters")


def written(case: Case) -> str | None:
    """What the model wrote; None where it failed."""
    return None if case.failure is not None else case.text


def written_word_errors(case: Case) -> Count:
    """Word errors of the written answer."""
    return word_errors(case.sample.references, written(case), case.normalizer)


def whisper_word_errors(case: Case) -> Count:
    """Word errors of the written answer by Whisper's own rules, to stand beside published figures."""
    return word_errors(case.sample.references, written(case), WhisperNormalizer(case.language))


def written_character_errors(case: Case) -> Count:
    """Character errors of the written answer."""
    return character_errors(case.sample.references, written(case), case.normalizer)


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
