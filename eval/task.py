"""A task: samples, what to ask of them, and how answers are scored. Declared in `eval.tasks`, one entry each."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from eval.sample import Sample

Job = Literal["asr", "aqa", "tts", "conversation", "codec", "turn_taking"]
"""What the model does: write what is said; answer a question about a sound; say a text; answer speech in writing and
aloud; say again what it heard, through its own codes; answer speech aloud in a dialogue, when it is its turn."""


@dataclass(frozen=True)
class Task:
    """One row of a results table.

    Attributes:
        name: unique.
        job: what the model does.
        samples: reads them; called once per run. Raises FileNotFoundError, saying how to get the data, where they are
            missing.
        metrics: names of `eval.metrics`, the first one being the task's headline figure.
        request: what is asked of every sample that has no text of its own; None: the model's own request for the job.
        language: ISO 639-1; chooses normalization and whether words or characters are counted.
        citation: where the data are from.
    """

    name: str
    job: Job
    samples: Callable[[], Sequence[Sample]]
    metrics: tuple[str, ...]
    request: str | None = None
    language: str = "en"
    citation: str = ""
