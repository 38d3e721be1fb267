"""What an independent ASR judge hears in spoken answers.

The ASR judge is pocketsphinx (`eval.judges.speech_judge`). It is weak, so its errors on a model's speech mean something
only beside its errors on recordings of the same words: the figures ``judge_wer`` and ``judge_accuracy``. Where a sample
names all that can be answered (`eval.judges.closed_domain`), the ASR judge listens within that.
"""

from pathlib import Path

from eval.judges.closed_domain import ClosedDomain
from eval.judges.judgements import Judgements, content_key
from eval.metrics.case import Case
from eval.metrics.count import Count, NotMeasurable
from eval.metrics.error_rate import word_errors, written
from eval.texts.right_answer import is_right


def hear(path: Path, judgements: Judgements, domain: ClosedDomain | None = None) -> str:
    """What the ASR judge hears in a recording, within a domain if one is given; recorded, so that a clip is heard once.

    Raises:
        ImportError: with the install hint, if pocketsphinx is missing.
        ValueError: a word of the domain has no pronunciation.
    """
    return judgements.obtain(
        _asr_judge(judgements, domain), content_key(path.read_bytes()), lambda: _listen(path, domain)
    )


def already_heard(case: Case) -> str | None:
    """What the ASR judge heard in the spoken answer when it was scored; None: it was not asked."""
    if case.speech is None:
        return None
    return case.judgements.recall(_asr_judge(case.judgements, case.domain), content_key(case.speech.read_bytes()))


def heard(case: Case) -> str | None:
    """What the ASR judge hears in the spoken answer; None where there is none.

    Raises:
        NotMeasurable: the task is not in English, the ASR judge's only language.
    """
    if case.language != "en":
        raise NotMeasurable(f"the ASR judge hears English only, and the task's language is {case.language!r}")
    if case.failure is not None or case.speech is None:
        return None
    return hear(case.speech, case.judgements, case.domain)


def spoken_word_errors(case: Case) -> Count:
    """Word errors of what the ASR judge hears in the spoken answer; nothing said is every word deleted."""
    return word_errors(case.words_to_say, heard(case), case.normalizer)


def judge_word_errors(case: Case) -> Count | None:
    """Word errors of what the same ASR judge hears in the sample's own recording of the words; None: there is none."""
    said = _heard_of_the_teacher(case)
    return None if said is None else word_errors(case.words_to_say, said, case.normalizer)


def judge_accuracy(case: Case) -> Count | None:
    """1 where the ASR judge hears the recorded right answer as right, which speech can reach; None: no recording."""
    said, sample = _heard_of_the_teacher(case), case.sample
    if said is None:
        return None
    return Count(float(is_right(said, sample.references, sample.choices, case.language)), 1.0)


def own_word_errors(case: Case) -> Count:
    """Word errors of what is heard against what the model itself wrote; where it failed, the right words are lost."""
    said = case.words_to_say if case.failure is not None else (case.text,)
    return word_errors(said, heard(case), case.normalizer)


def spoken_accuracy(case: Case) -> Count:
    """1 where what the ASR judge hears is a right answer; nothing said is wrong."""
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
    spoken = word_errors(references, heard(case), case.normalizer)
    errors = 0.0 if case.failure is not None else word_errors(references, case.text, case.normalizer).numerator
    return Count(spoken.numerator - errors, spoken.denominator)


def _heard_of_the_teacher(case: Case) -> str | None:
    """What the ASR judge hears in the recording of the right words; None: there is none."""
    return None if case.reference_speech is None else hear(case.reference_speech, case.judgements, case.domain)


def _asr_judge(judgements: Judgements, domain: ClosedDomain | None) -> str:
    return judgements.judge_of("pocketsphinx", "" if domain is None else domain.name)


def _listen(path: Path, domain: ClosedDomain | None) -> str:
    from eval.judges.speech_judge import JUDGE_SAMPLING_RATE, pocketsphinx_transcribe
    from spikeaudio.audio.files import load_audio

    return pocketsphinx_transcribe(load_audio(path, JUDGE_SAMPLING_RATE), domain)
