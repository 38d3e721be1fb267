"""Jobs and tasks: what a model does, and samples of it with the figures they are given.

Job     what is heard and given back, such as "asr"; known by its name in `JOBS`
Task    samples for one job; declared in `eval.tasks`, or in a file given as --include
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from eval.sample import Sample


@dataclass(frozen=True)
class Job:
    """What a model does with a sample.

        >>> from eval.task import AQA, Job
        >>> spotting = Job("keyword_spotting", hears=True, writes=True, hub_task="audio-classification", done_as="aqa")
        >>> spotting.asked == AQA
        True

    Attributes:
        name: unique; stored with every run.
        hears: a sample has a recording.
        reads: a sample has a text. With `hears`, a recording or a text is enough.
        writes: an answer without text is a failure.
        speaks: an answer without speech is a failure.
        repeats: the right speech is the sample's own recording.
        needs_reference: a sample without right answer is refused.
        may_be_empty: "" may be right, where nothing is said.
        hub_task: name of the job on the Hugging Face Hub, for model cards.
        metrics: figures of a task that names none, the headline figure first.
        done_as: name of the job whose requests a model gets; None: this one. Models that do that job do this one.
    """

    name: str
    hears: bool = False
    reads: bool = False
    writes: bool = False
    speaks: bool = False
    repeats: bool = False
    needs_reference: bool = False
    may_be_empty: bool = False
    hub_task: str = "any-to-any"
    metrics: tuple[str, ...] = ()
    done_as: str | None = None

    def __str__(self) -> str:
        return self.name

    @property
    def asked(self) -> "Job":
        """The job whose requests a model gets; raises as `job_named`."""
        return self if self.done_as is None else job_named(self.done_as)


ASR = Job(
    "asr",
    hears=True,
    writes=True,
    needs_reference=True,
    may_be_empty=True,
    hub_task="automatic-speech-recognition",
    metrics=("wer", "cer"),
)
"""Write what is said."""
AQA = Job("aqa", hears=True, writes=True, needs_reference=True, hub_task="audio-text-to-text", metrics=("accuracy",))
"""Answer a question about a sound in writing."""
TTS = Job("tts", reads=True, speaks=True, hub_task="text-to-speech", metrics=("spoken_wer", "dnsmos"))
"""Say a text."""
CONVERSATION = Job("conversation", hears=True, reads=True, writes=True, metrics=("accuracy", "dnsmos"))
"""Answer speech in writing and, where the model speaks, aloud."""
CODEC = Job("codec", hears=True, speaks=True, repeats=True, hub_task="audio-to-audio", metrics=("spoken_wer", "stoi"))
"""Say again what was heard, through the model's own codes."""
TURN_TAKING = Job("turn_taking", hears=True, speaks=True, metrics=("takeover_rate", "response_latency"))
"""Answer speech aloud in a dialogue, when it is the model's turn."""

JOBS: dict[str, Job] = {job.name: job for job in (ASR, AQA, TTS, CONVERSATION, CODEC, TURN_TAKING)}


def register_job(job: Job) -> Job:
    """Make a job known by its name, and return it.

    Raises:
        ValueError: there is another one of this name.
    """
    if JOBS.setdefault(job.name, job) != job:
        raise ValueError(f"there is a job {job.name!r} already: give the new one another name")
    return job


def job_named(name: str) -> Job:
    """The job of that name.

    Raises:
        ValueError: there is none; the message lists all.
    """
    if name not in JOBS:
        raise ValueError(f"unknown job {name!r}; there are {', '.join(JOBS)}. --include names the file that adds one")
    return JOBS[name]


@dataclass(frozen=True)
class Task:
    """One row of a results table.

    Attributes:
        name: unique.
        job: job that the model does.
        samples: reads them; called once per run. Raises FileNotFoundError, saying how to get the data, where they are
            missing.
        metrics: names of `eval.metrics`, the headline figure first; none: those of the job.
        request: request for every sample that has no text of its own; None: the model's own request for the job.
        language: ISO 639-1; chooses normalization and whether words or characters are counted.
        citation: where the data are from.
    """

    name: str
    job: Job
    samples: Callable[[], Sequence[Sample]]
    metrics: tuple[str, ...] = ()
    request: str | None = None
    language: str = "en"
    citation: str = ""

    @property
    def figures(self) -> tuple[str, ...]:
        """Names of the figures that the task is given."""
        return self.metrics or self.job.metrics
