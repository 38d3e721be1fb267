"""Texts to say: what an independent ASR judge hears, and how it sounds."""

from eval.task import TTS, Task
from eval.tasks.source import Source

_GET = (
    "the archive linked from github.com/BytedanceSpeech/seed-tts-eval; its {} (meta.lst) with prompt-wavs/ beside it."
)
_METRICS = ("spoken_wer", "speaker_similarity", "dnsmos")


def _task(name: str, language: str) -> Task:
    source = _GET.format(f"folder {language}/")
    return Task(name, TTS, Source(name, TTS, source), _METRICS, language=language, citation=source)


TASKS = (_task("seed_tts_eval_en", "en"), _task("seed_tts_eval_zh", "zh"))
