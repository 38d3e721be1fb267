"""The suite that the repository holds: all jobs, no download, minutes on two cores."""

from pathlib import Path

from eval.task import AQA, ASR, CODEC, CONVERSATION, TTS, Job, Task
from eval.tasks.manifest import seen_from_here
from eval.tasks.source import ManifestSource

FOLDER = Path(__file__).resolve().parent.parent / "bundled"
_CITATION = "made by the recipe of this repository (recipes/tiny)"


def bundled(folder: Path) -> tuple[Task, ...]:
    """The nine tasks whose manifests lie in `folder`."""

    def task(name: str, job: Job, *metrics: str, request: str | None = None) -> Task:
        source = ManifestSource(Path(seen_from_here(folder / f"{name}.jsonl")), job)
        return Task(f"bundled_{name}", job, source, metrics, request, citation=_CITATION)

    return (
        task("asr_questions", ASR, "wer", "cer", "exact"),
        task("asr_open", ASR, "wer", "cer", "exact"),
        task("noise", ASR, "accuracy"),
        task("instrument", AQA, "accuracy", request="which instrument is this"),
        task("tempo", AQA, "accuracy", request="is it fast or slow"),
        task("count", AQA, "accuracy", request="how many notes are there"),
        task("tts", TTS, "spoken_wer", "dnsmos"),
        task("conversation", CONVERSATION, "accuracy", "modality_gap", "dnsmos"),
        task("codec", CODEC, "spoken_wer", "stoi", "pesq", "dnsmos"),
    )


TASKS = bundled(FOLDER)
