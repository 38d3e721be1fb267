"""Figures that a task can name; each is a function of one sample and its answer.

A figure from outside the package is added by `register_metric`, best in the file that declares its task:

    python -m eval run --include my_tasks.py --tasks my_task --model MODEL
"""

from collections.abc import Callable, Iterable
from functools import partial
from typing import Literal

from eval.judges.judge import Judge
from eval.judges.rules import Rules
from eval.metrics import (
    accuracy,
    effort,
    error_rate,
    instructions,
    judged,
    refusal,
    signal,
    speaker,
    speech,
    streaming,
    translation,
    turns,
)
from eval.metrics.case import Case
from eval.metrics.count import Count, Metric
from eval.texts.normalization import WhisperNormalizer


def _of_texts(
    title: str, better: Literal["lower", "higher"], measure: Callable[[Case], Count | None], beside: str | None = None
) -> Metric:
    """A share of words or answers; says which normalizer made the texts comparable."""
    return Metric(title, "share", better, measure, beside=beside, signature=lambda case: case.normalizer.name)


_shares = partial(Metric, unit="share")
_points = partial(Metric, unit="points")
_seconds = partial(Metric, unit="seconds")

METRICS = {
    # written answers
    "wer": _of_texts("word error rate", "lower", error_rate.written_word_errors),
    "whisper_wer": Metric(
        "word error rate by Whisper's own rules",
        "share",
        "lower",
        error_rate.whisper_word_errors,
        signature=lambda case: WhisperNormalizer(case.language).name,
    ),
    "cer": _of_texts("character error rate", "lower", error_rate.written_character_errors),
    "accuracy": _of_texts("accuracy", "higher", accuracy.written_accuracy),
    "exact": _of_texts("exact match", "higher", accuracy.exact_match),
    "bleu": translation.metric("bleu", "BLEU (0 to 100)"),
    "chrf": translation.metric("chrf", "chrF (0 to 100)"),
    "ifeval_prompt_strict": instructions.followed("prompts followed, strict", loose=False, whole=True),
    "ifeval_prompt_loose": instructions.followed("prompts followed, loose", loose=True, whole=True),
    "ifeval_instruction_strict": instructions.followed("instructions followed, strict", loose=False, whole=False),
    "ifeval_instruction_loose": instructions.followed("instructions followed, loose", loose=True, whole=False),
    "refusal": _shares("requests refused", better="higher", measure=refusal.refusal),
    "judge_score": judged.by(Rules()),
    # spoken answers
    "spoken_wer": _of_texts("word error rate heard", "lower", speech.spoken_word_errors, beside="judge_wer"),
    "judge_wer": _of_texts("the ASR judge's own error rate", "lower", speech.judge_word_errors),
    "own_wer": _of_texts("heard against written", "lower", speech.own_word_errors),
    "spoken_accuracy": _of_texts("accuracy heard", "higher", speech.spoken_accuracy, beside="judge_accuracy"),
    "judge_accuracy": _of_texts("the ASR judge's own accuracy", "higher", speech.judge_accuracy),
    "modality_gap": _of_texts("accuracy written minus heard", "lower", speech.accuracy_gap, beside="judge_accuracy"),
    "modality_gap_wer": _of_texts("error rate heard minus written", "lower", speech.word_error_gap),
    "dnsmos": _points("DNSMOS (1 to 5)", better="higher", measure=signal.spoken_dnsmos),
    "stoi": _points("STOI", better="higher", measure=signal.copy_stoi),
    "pesq": _points("PESQ, wide band (1 to 4.64)", better="higher", measure=signal.copy_pesq),
    "speaker_similarity": _points(
        "speaker similarity (-1 to 1)",
        better="higher",
        measure=speaker.speaker_similarity,
        signature=speaker.signature,
    ),
    # simulated dialogues
    "takeover_rate": _shares("turns taken", better="higher", measure=turns.takeover),
    "response_latency": _seconds("user's end to answer, simulated", better="lower", measure=turns.response_latency),
    "pause_takeover_rate": _shares("false starts in pauses", better="lower", measure=turns.pause_takeover),
    "stop_latency": _seconds("interruption to silence, simulated", better="lower", measure=turns.stop_latency),
    # time, and speech that came in pieces
    "first_audio_seconds": _seconds("time to first audio", better="lower", measure=effort.first_audio),
    "real_time_factor": _points("real-time factor", better="lower", measure=effort.real_time_factor),
    "playback_stalls": _points("stalls of a player, per answer", better="lower", measure=streaming.stalls),
    "stalled_seconds": _seconds("length of stalls, per answer", better="lower", measure=streaming.stalled_seconds),
    "longest_gap_seconds": _seconds("longest time between pieces", better="lower", measure=streaming.longest_gap),
    "seam_distance": _points(
        "log-mel distance to offline at joins, dB", better="lower", measure=streaming.seam_distance
    ),
    "seam_distance_elsewhere": _points(
        "log-mel distance to offline elsewhere, dB", better="lower", measure=streaming.seam_distance_elsewhere
    ),
    "seam_peak": _points("largest difference to offline at joins", better="lower", measure=streaming.seam_peak),
    "seam_peak_elsewhere": _points(
        "largest difference to offline elsewhere", better="lower", measure=streaming.seam_peak_elsewhere
    ),
    "join_flux": _points("spectral flux at joins over elsewhere, dB", better="lower", measure=streaming.join_flux),
    "listening_factor": _points("turn detector's real-time factor", better="lower", measure=turns.listening_factor),
}
MEASURED = (  # figures of every task, where they were measured
    "first_audio_seconds", "real_time_factor", "playback_stalls", "stalled_seconds", "longest_gap_seconds",
    "seam_distance", "seam_distance_elsewhere", "seam_peak", "seam_peak_elsewhere", "join_flux",
    "listening_factor",
)  # fmt: skip


def register_metric(name: str, metric: Metric) -> None:
    """Add a figure that tasks can name.

    Raises:
        ValueError: there is another one of this name.
    """
    if METRICS.setdefault(name, metric) is not metric:
        raise ValueError(f"there is a metric {name!r} already: give the new one another name")


def metric(name: str, judge: Judge) -> Metric:
    """The metric of that name; "judge_score" is by this judge.

    Raises:
        ValueError: there is no such metric; the message lists all.
    """
    if name not in METRICS:
        raise ValueError(f"unknown metric {name!r}; there are {', '.join(METRICS)}")
    return judged.by(judge) if name == "judge_score" else METRICS[name]


def cost_metrics(names: Iterable[str]) -> dict[str, Metric]:
    """Figures of what predictions counted under these names: per second of audio, and how much stayed silent."""
    counted = sorted(set(names) - {"audio_seconds"})
    found = {name: _per_audio_second(name) for name in counted}
    if "elements" in found:
        found["ActivationSparsity"] = Metric("ActivationSparsity", "share", "higher", effort.activation_sparsity)
    return found


def _per_audio_second(name: str) -> Metric:
    title = effort.NEUROBENCH.get(name, name.replace("_", " "))
    return Metric(f"{title} per audio second", "points", "lower", lambda case: effort.cost(case, name))
