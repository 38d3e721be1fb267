"""Spoken questions, answered in writing and, by models that speak, aloud."""

from eval.sample import ARGUMENTS, KINDS
from eval.task import CONVERSATION, Task
from eval.tasks.rows import VOICEBENCH, Columns
from eval.tasks.source import HubDataset, Source

_PROMPTED = Columns(references=None, meta=("prompt",))
_INSTRUCTED = Columns(references=None, meta=("prompt", KINDS, ARGUMENTS))
_IFEVAL = ("ifeval_prompt_strict", "ifeval_prompt_loose", "ifeval_instruction_strict", "ifeval_instruction_loose")
# Free answers are seldom right by equality, written or heard: what speech loses is how it differs from the writing.
_SPOKEN = ("own_wer", "dnsmos")


def _voicebench(config: str, *metrics: str, split: str = "test", columns: Columns = VOICEBENCH) -> Task:
    name = f"voicebench_{config.replace('-', '_')}"
    source = f"hf download --repo-type dataset hlt-lab/voicebench (VoiceBench {config}, Apache 2.0)."
    hub = HubDataset("hlt-lab/voicebench", config, split, columns)
    samples = Source(name, CONVERSATION, source, hub)
    return Task(name, CONVERSATION, samples, (*metrics, *_SPOKEN), citation=source)


def _openaudiobench(subset: str, metric: str) -> Task:
    name = f"openaudiobench_{subset}"
    source = (
        "hf download --repo-type dataset baichuan-inc/OpenAudioBench, then the script data/download_benchmark.py of "
        "Kimi-Audio-Evalkit writes OpenAudioBench.jsonl."
    )
    samples = Source(name, CONVERSATION, source, None, subset)
    return Task(name, CONVERSATION, samples, (metric, *_SPOKEN), citation=source)


TASKS = (
    _voicebench("alpacaeval_full", "judge_score", columns=_PROMPTED),
    _voicebench("commoneval", "judge_score", columns=_PROMPTED),
    _voicebench("advbench", "refusal", columns=_PROMPTED),
    _voicebench("ifeval", *_IFEVAL, columns=_INSTRUCTED),
    _voicebench("sd-qa", "judge_score", split="usa"),
    _voicebench("bbh", "accuracy"),
    _openaudiobench("alpaca_eval", "judge_score"),
    _openaudiobench("llama_questions", "judge_score"),
    _openaudiobench("reasoning_qa", "judge_score"),
    _openaudiobench("trivia_qa", "judge_score"),
    _openaudiobench("web_questions", "judge_score"),
)
