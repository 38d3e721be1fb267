"""What an independent ear makes of spoken answers.

The ear is pocketsphinx with its own English model (`eval.speech_judge`). It is weak: its error rate on speech output
means something only beside its error rate on recordings of the same words, which is the figure ``ear_wer``.
"""

from pathlib import Path

from eval.case import Case
from eval.judgements import Judgements, digest
from eval.metrics.count import Count, NotMeasurable
from eval.metrics.error_rate import word_errors, written
from eval.right_answer import is_right


def hear(path: Path, judgements: Judgements) -> str:
    """What the ear hears in a recording; recorded, so that a clip is heard once.

    Raises:
        ImportError: with the install hint, if pocketsphinx is missing.
    """
    ear = judgements.judge_of("pocketsphinx")
    return judgements.obtain(ear, digest(path.read_bytes()), lambda: _listen(path))


def already_heard(case: Case) -> str | None:
    """What the ear heard in the spoken answer when it was scored; None: it was not asked."""
    if case.speech is None:
        return None
    return case.judgements.recall(case.judgements.judge_of("pocketsphinx"), digest(case.speech.read_bytes()))


def heard(case: Case) -> str | None:
    """What the ear hears in the spoken answer; None where there is none.

    Raises:
        NotMeasurable: the task is not in English, the ear's only language.
    """
    if case.language != "en":
        raise NotMeasurable(f"the ear hears English only, and the task's language is {case.language!r}")
    return None if case.failure is not None or case.speech is None else hear(case.speech, case.judgements)


def spoken_word_errors(case: Case) -> Count:
    """Word errors of what the ear hears in the spoken answer; nothing said is every word deleted."""
    return word_errors(case.words_to_say, heard(case), case.language)


def ear_word_errors(case: Case) -> Count | None:
    """Word errors of what the same ear hears in the sample's own recording of the words; None: there is none."""
    if case.reference_speech is None:
        return None
    return word_errors(case.words_to_say, hear(case.reference_speech, case.judgements), case.language)


def own_word_errors(case: Case) -> Count:
    """Word errors of what is heard against what the model itself wrote; where it failed, the right words are lost."""
    said = case.words_to_say if case.failure is not None else (case.text,)
    return word_errors(said, heard(case), case.language)


def spoken_accuracy(case: Case) -> Count:
    """1 where what the ear hears is a right answer; nothing said is wrong."""
    answer, sample = heard(case), case.sample
    right = answer is not None and is_right(answer, sample.references, sample.choices, case.language)
    return Count(float(right), 1.0)


def accuracy_gap(case: Case) -> Count:
    """Written minus spoken: 1 where only the written answer is right or the model failed, -1 where only speech is."""
    answer, sample = written(case), case.sample
    if answer is None:
        return Count(1.0, 1.0)
    right = is_right(answer, sample.references, sample.choices, case.language)
    return Count(float(right) - spoken_accuracy(case).numerator, 1.0)


def word_error_gap(case: Case) -> Count:
    """Word errors of what is heard minus those of what is written, over the words of the first reference.

    Where there is no answer, all that could be lost in speech is lost.
    """
    references = case.sample.references[:1]
    spoken = word_errors(references, heard(case), case.language)
    errors = 0.0 if case.failure is not None else word_errors(references, case.text, case.language).numerator
    return Count(spoken.numerator - errors, spoken.denominator)


def _listen(path: Path) -> str:
    from eval.speech_judge import JUDGE_SAMPLING_RATE, pocketsphinx_transcribe
    from spikeaudio.audio import load_audio

    return pocketsphinx_transcribe(load_audio(path, JUDGE_SAMPLING_RATE))
