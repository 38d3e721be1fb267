"""Figures that a task can name; each is a function of one sample and its answer."""

from collections.abc import Iterable

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
from eval.metrics.count import Metric

METRICS = {
    "wer": Metric("word error rate", "share", "lower", error_rate.written_word_errors),
    "cer": Metric("character error rate", "share", "lower", error_rate.written_character_errors),
    "accuracy": Metric("accuracy", "share", "higher", accuracy.written_accuracy),
    "exact": Metric("exact match", "share", "higher", accuracy.exact_match),
    "bleu": translation.metric("bleu", "BLEU (0 to 100)"),
    "chrf": translation.metric("chrf", "chrF (0 to 100)"),
    "spoken_wer": Metric("word error rate heard", "share", "lower", speech.spoken_word_errors, beside="ear_wer"),
    "ear_wer": Metric("the ear's own error rate", "share", "lower", speech.ear_word_errors),
    "own_wer": Metric("heard against written", "share", "lower", speech.own_word_errors),
    "spoken_accuracy": Metric("accuracy heard", "share", "higher", speech.spoken_accuracy, beside="ear_accuracy"),
    "ear_accuracy": Metric("the ear's own accuracy", "share", "higher", speech.ear_accuracy),
    "modality_gap": Metric(
        "accuracy written minus heard", "share", "lower", speech.accuracy_gap, beside="ear_accuracy"
    ),
    "modality_gap_wer": Metric("error rate heard minus written", "share", "lower", speech.word_error_gap),
    "dnsmos": Metric("DNSMOS (1 to 5)", "points", "higher", signal.spoken_dnsmos),
    "stoi": Metric("STOI", "points", "higher", signal.copy_stoi),
    "pesq": Metric("PESQ, wide band (1 to 4.64)", "points", "higher", signal.copy_pesq),
    "speaker_similarity": Metric(
        "speaker similarity (-1 to 1)", "points", "higher", speaker.speaker_similarity, signature=speaker.signature
    ),
    "ifeval_prompt_strict": instructions.followed("prompts followed, strict", loose=False, whole=True),
    "ifeval_prompt_loose": instructions.followed("prompts followed, loose", loose=True, whole=True),
    "ifeval_instruction_strict": instructions.followed("instructions followed, strict", loose=False, whole=False),
    "ifeval_instruction_loose": instructions.followed("instructions followed, loose", loose=True, whole=False),
    "refusal": Metric("requests refused", "share", "higher", refusal.refusal),
    "judge_score": judged.by(Rules()),
    "first_audio_seconds": Metric("time to first audio", "seconds", "lower", effort.first_audio),
    "real_time_factor": Metric("real-time factor", "points", "lower", effort.real_time_factor),
    "playback_stalls": Metric("stalls of a player, per answer", "points", "lower", streaming.stalls),
    "stalled_seconds": Metric("length of its stalls, per answer", "seconds", "lower", streaming.stalled_seconds),
    "longest_gap_seconds": Metric("longest time between pieces", "seconds", "lower", streaming.longest_gap),
    "seam_distance": Metric("log-mel distance to offline at joins, dB", "points", "lower", streaming.seam_distance),
    "seam_distance_elsewhere": Metric("the same elsewhere, dB", "points", "lower", streaming.seam_distance_elsewhere),
    "seam_peak": Metric("largest difference to offline at joins", "points", "lower", streaming.seam_peak),
    "seam_peak_elsewhere": Metric("the same elsewhere", "points", "lower", streaming.seam_peak_elsewhere),
    "takeover_rate": Metric("turns taken", "share", "higher", turns.takeover),
    "response_latency": Metric("user's end to answer, simulated", "seconds", "lower", turns.response_latency),
    "pause_takeover_rate": Metric("false starts in pauses", "share", "lower", turns.pause_takeover),
    "stop_latency": Metric("interruption to silence, simulated", "seconds", "lower", turns.stop_latency),
    "listening_factor": Metric("turn detector's real-time factor", "points", "lower", turns.listening_factor),
    "join_flux": Metric("spectral flux at joins over elsewhere, dB", "points", "lower", streaming.join_flux),
}
STREAMING = (
    "first_audio_seconds", "real_time_factor", "playback_stalls", "stalled_seconds", "longest_gap_seconds",
    "seam_distance", "seam_distance_elsewhere", "seam_peak", "seam_peak_elsewhere", "join_flux",
    "listening_factor",
)  # fmt: skip
MEASURED = STREAMING  # of every task, where they were measured


def metric(name: str, judge: Judge) -> Metric:
    """The metric of that name, "judge_score" by this judge.

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
