"""Spoken questions, answered in writing and, by models that speak, aloud."""

from eval.rows import VOICEBENCH, Columns
from eval.task import Task
from eval.tasks.source import HubDataset, Source

_PROMPTED = Columns(references=None, meta=("prompt",))


def _voicebench(config: str, metric: str, split: str = "test", columns: Columns = VOICEBENCH) -> Task:
    name = f"voicebench_{config.replace('-', '_')}"
    source = f"hf download --repo-type dataset hlt-lab/voicebench (VoiceBench {config}, Apache 2.0)."
    hub = HubDataset("hlt-lab/voicebench", config, split, columns)
    metrics = (metric, "modality_gap", "dnsmos")
    return Task(name, "conversation", Source(name, "conversation", source, hub), metrics, citation=source)


def _openaudiobench(subset: str, metric: str) -> Task:
    name = f"openaudiobench_{subset}"
    source = (
        "hf download --repo-type dataset baichuan-inc/OpenAudioBench, then the script data/download_benchmark.py of "
        "Kimi-Audio-Evalkit writes OpenAudioBench.jsonl."
    )
    metrics = (metric, "modality_gap", "dnsmos")
    return Task(name, "conversation", Source(name, "conversation", source, None, subset), metrics, citation=source)


TASKS = (
    _voicebench("alpacaeval_full", "judge_score", columns=_PROMPTED),
    _voicebench("commoneval", "judge_score", columns=_PROMPTED),
    _voicebench("advbench", "judge_score", columns=_PROMPTED),
    _voicebench("ifeval", "judge_score", columns=_PROMPTED),
    _voicebench("sd-qa", "judge_score", "usa"),
    _voicebench("bbh", "accuracy"),
    _openaudiobench("alpaca_eval", "judge_score"),
    _openaudiobench("llama_questions", "judge_score"),
    _openaudiobench("reasoning_qa", "judge_score"),
    _openaudiobench("trivia_qa", "judge_score"),
    _openaudiobench("web_questions", "judge_score"),
)
