"""Questions about recordings: speech, sounds, scenes. Multiple choice but for ClothoAQA."""

from eval.task import AQA, CONVERSATION, Task
from eval.tasks.rows import VOICEBENCH
from eval.tasks.source import HubDataset, Source

_EVALKIT = "the script data/download_benchmark.py of Kimi-Audio-Evalkit writes its JSON Lines ({})."


def _task(name: str, source: str, hub: HubDataset | None = None) -> Task:
    return Task(name, AQA, Source(name, AQA, source, hub), ("accuracy",), citation=source)


def _asked_aloud(name: str, config: str) -> Task:
    """VoiceBench's spoken questions of one choice: nothing is asked beside the recording."""
    source = f"hf download --repo-type dataset hlt-lab/voicebench (VoiceBench {config}, Apache 2.0)."
    hub = HubDataset("hlt-lab/voicebench", config, columns=VOICEBENCH)
    return Task(name, CONVERSATION, Source(name, CONVERSATION, source, hub), ("accuracy",), citation=source)


TASKS = (
    _task(
        "mmau",
        "github.com/Sakshi113/MMAU, test-mini with its answers (research only for most recordings), then "
        + _EVALKIT.format("mmau-test-mini.jsonl"),
    ),
    _asked_aloud("mmsu", "mmsu"),
    _asked_aloud("openbookqa", "openbookqa"),
    _task(
        "clothoaqa",
        "zenodo.org/records/6473207 (ClothoAQA; recordings of Freesound under their own licences), then "
        + _EVALKIT.format("ClothoAQA.jsonl"),
    ),
    _task(
        "vocalsound",
        "github.com/YuanGongND/vocalsound (VocalSound test at 16 kHz, CC BY-SA 4.0), then "
        + _EVALKIT.format("VocalSound.jsonl"),
    ),
    _task(
        "nonspeech7k",
        "zenodo.org/records/6967442 (Nonspeech7k test), then " + _EVALKIT.format("Nonspeech7k.jsonl"),
    ),
    _task("meld", "affective-meld.github.io (MELD test, GPL-3.0), then " + _EVALKIT.format("MELD.jsonl")),
    _task(
        "tut2017",
        "zenodo.org/records/1040168 (TUT Acoustic Scenes 2017 evaluation, non-commercial), then "
        + _EVALKIT.format("TUT2017.jsonl"),
    ),
    _task(
        "cochlscene",
        "zenodo.org/records/7080122 (CochlScene test), then " + _EVALKIT.format("CochlScene.jsonl"),
    ),
)
