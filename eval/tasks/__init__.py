"""Tasks by name, and suites of them. A new task is an entry in the file of its job, and its name in a suite.

Tasks, jobs, figures and adapters from outside the package stand in a file of their own, given as --include
(:mod:`eval.tasks.included`).
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from eval.sample import Sample
from eval.task import Task
from eval.tasks import aqa, asr, bundled, conversation, translation, tts, turn_taking
from eval.tasks.source import ManifestSource, Source

_FILES = (bundled, turn_taking, asr, translation, aqa, tts, conversation)
TASKS: dict[str, Task] = {task.name: task for file in _FILES for task in file.TASKS}


def _names(file: object) -> tuple[str, ...]:
    return tuple(task.name for task in file.TASKS)  # type: ignore[attr-defined]


SUITES: dict[str, tuple[str, ...]] = {
    "bundled": _names(bundled) + _names(turn_taking),
    "asr": _names(asr),
    "translation": _names(translation),
    "aqa": _names(aqa),
    "tts": _names(tts),
    "conversation": _names(conversation),
    # The tasks of the table that the Kimi-Audio report publishes.
    "kimi": (
        "librispeech_clean",
        "librispeech_other",
        "fleurs_zh",
        "fleurs_en",
        "aishell1",
        "aishell2",
        "wenetspeech_meeting",
        "wenetspeech_net",
        "mmau",
        "clothoaqa",
        "vocalsound",
        "nonspeech7k",
        "meld",
        "tut2017",
        "cochlscene",
        "openaudiobench_alpaca_eval",
        "openaudiobench_llama_questions",
        "openaudiobench_reasoning_qa",
        "openaudiobench_trivia_qa",
        "openaudiobench_web_questions",
        "voicebench_alpacaeval_full",
        "voicebench_commoneval",
        "voicebench_sd_qa",
        "mmsu",
        "openbookqa",
        "voicebench_advbench",
        "voicebench_ifeval",
    ),
}


def register_task(task: Task) -> Task:
    """Make a task known by its name, and return it.

    Raises:
        ValueError: there is another one of this name.
    """
    if TASKS.setdefault(task.name, task) != task:
        raise ValueError(f"there is a task {task.name!r} already: give the new one another name")
    return task


def _at(samples: Callable[[], Sequence[Sample]], data: Path | None) -> Callable[[], Sequence[Sample]]:
    """The same samples below the user's folder, where they may lie there."""
    return samples.at(data) if isinstance(samples, Source | ManifestSource) else samples


def find_tasks(names: tuple[str, ...], data: Path | None = None) -> list[Task]:
    """Tasks by name, their data below `data`.

    Raises:
        ValueError: there is no such task, or a name comes twice.
    """
    if unknown := [name for name in names if name not in TASKS]:
        raise ValueError(f"no tasks called {unknown}; there are {sorted(TASKS)}")
    if len(set(names)) < len(names):
        raise ValueError(f"a task is named twice: {', '.join(names)}")
    return [replace(TASKS[name], samples=_at(TASKS[name].samples, data)) for name in names]
