"""What the toolkit asks of a model, whoever made it and wherever it runs."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from eval.sample import Sample
from eval.task import Job, Task


@dataclass(frozen=True)
class Request:
    """One sample, as a model is asked about it; it holds nothing of the right answer.

    Attributes:
        job: job to do, one of `Adapter.jobs`.
        audio: path of the recording; None: there is none.
        text: question, request or text to say; None: the model's own request for the job.
        language: ISO 639-1, of the answer.
        seed: seed of every random number.
    """

    job: Job
    audio: str | None
    text: str | None
    language: str
    seed: int

    @classmethod
    def of(cls, task: Task, sample: Sample, seed: int) -> "Request":
        """What `task` asks about `sample`."""
        text = task.request if sample.text is None else sample.text
        return cls(task.job.asked, sample.audio, text, task.language, seed)


@dataclass(frozen=True)
class Response:
    """What a model gave back.

    Attributes:
        text: text that it wrote; None: nothing.
        wav: (N,) what it said; None: nothing.
        sampling_rate: Hz of `wav`.
        measured: figures as `eval.sample.Prediction` has them.
        costs: figures as `eval.sample.Prediction` has them.
        pieces: pieces of speech that came in pieces: (seconds from the request until the piece was there, its samples).
        offline: (M,) the same codes made sound at once; None: the model cannot, or its speech did not come in pieces.
        turns: events of a simulated dialogue as `eval.sample.Prediction` has them.
    """

    text: str | None = None
    wav: NDArray[np.float32] | None = None
    sampling_rate: int = 0
    measured: dict[str, float] = field(default_factory=dict)
    costs: dict[str, float] = field(default_factory=dict)
    pieces: tuple[tuple[float, int], ...] = ()
    offline: NDArray[np.float32] | None = None
    turns: dict[str, float] = field(default_factory=dict)


class Unavailable(OSError):
    """The model cannot answer anything: the run stops; what is stored stays, and the same command goes on."""


class Adapter(Protocol):
    """A model.

    Attributes:
        name: name for it, in one word.
        jobs: those it can do.
    """

    name: str
    jobs: frozenset[Job]

    def fingerprint(self) -> dict[str, Any]:
        """What tells this model from every other one, as JSON: digest of its weights, whether it is quantized."""
        ...

    def answer(self, requests: Sequence[Request]) -> list[Response | Exception]:
        """Answers in order, each or the reason why there is none.

        Raises:
            Unavailable: no request can be answered.
            Exception: the batch as a whole failed; the toolkit asks again, one by one.
        """
        ...


@runtime_checkable
class CountingAdapter(Protocol):
    """A model whose operations can be counted."""

    def answer_counted(self, request: Request) -> Response:
        """The same answer as `answer` gives a batch of one, with `costs`; slower, so nothing of it is measured."""
        ...
