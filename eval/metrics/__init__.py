"""Figures that a task can name; each is a function of one sample and its answer."""

from eval.case import Case
from eval.judges.judge import Judge
from eval.judges.rules import Rules
from eval.metrics import accuracy, effort, error_rate, judged, signal, speech
from eval.metrics.count import Count, Metric

METRICS = {
    "wer": Metric("word error rate", "share", "lower", error_rate.written_word_errors),
    "cer": Metric("character error rate", "share", "lower", error_rate.written_character_errors),
    "accuracy": Metric("accuracy", "share", "higher", accuracy.written_accuracy),
    "spoken_wer": Metric("word error rate heard", "share", "lower", speech.spoken_word_errors, beside="ear_wer"),
    "ear_wer": Metric("the ear's own error rate", "share", "lower", speech.ear_word_errors),
    "own_wer": Metric("heard against written", "share", "lower", speech.own_word_errors),
    "spoken_accuracy": Metric("accuracy heard", "share", "higher", speech.spoken_accuracy),
    "modality_gap": Metric("accuracy written minus heard", "share", "lower", speech.accuracy_gap),
    "modality_gap_wer": Metric("error rate heard minus written", "share", "lower", speech.word_error_gap),
    "dnsmos": Metric("DNSMOS (1 to 5)", "points", "higher", signal.spoken_dnsmos),
    "stoi": Metric("STOI", "points", "higher", signal.copy_stoi),
    "judged": judged.by(Rules()),
    "first_audio_seconds": Metric("time to first audio", "seconds", "lower", effort.first_audio),
    "real_time_factor": Metric("real-time factor", "points", "lower", effort.real_time_factor),
}
MEASURED = ("first_audio_seconds", "real_time_factor")  # of every task, where they were measured


def metric(name: str, judge: Judge) -> Metric:
    """The metric of that name, "judged" by this judge.

    Raises:
        ValueError: there is no such metric; the message lists all.
    """
    if name not in METRICS:
        raise ValueError(f"unknown metric {name!r}; there are {', '.join(METRICS)}")
    return judged.by(judge) if name == "judged" else METRICS[name]


def cost_metric(name: str) -> Metric:
    """The counted figure `name` of predictions, per second of audio."""
    title = effort.NEUROBENCH.get(name, name.replace("_", " "))

    def measure(case: Case) -> Count | None:
        return effort.cost(case, name)

    return Metric(f"{title} per audio second", "points", "lower", measure)
