"""The plan of a run: samples in fixed batches, each under the key of its answer.

Which samples share a batch, and in which order, follows from tasks and settings alone. A batch is computed whole by
one process, so that an interrupted run, and one on many processes, gives the same answers as an uninterrupted one.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import soundfile

from eval.adapters.adapter import Request
from eval.digest import digest, file_digest
from eval.sample import Sample
from eval.task import Task


@dataclass(frozen=True)
class Settings:
    """What can be chosen about a run beside model and tasks.

    Attributes:
        seed: seed of every random number.
        batch: samples that are answered together, at most.
        limit: samples of a task, drawn by the digest of their ids; None: all.
        costs: samples of a task whose operations are counted; each is a batch of its own.
    """

    seed: int = 0
    batch: int = 8
    limit: int | None = None
    costs: int = 0

    def __post_init__(self) -> None:
        if self.batch < 1 or self.costs < 0 or (self.limit is not None and self.limit < 1):
            raise ValueError(f"expected batch >= 1, limit >= 1 and costs >= 0, got {self}")


@dataclass(frozen=True)
class Work:
    """One answer to be had."""

    task: str
    id: str
    request: Request
    key: str


@dataclass(frozen=True)
class Batch:
    """Work that is done together; `counted`: its operations are counted, and it is a single sample."""

    works: tuple[Work, ...]
    counted: bool = False

    def rank(self, world: int) -> int:
        """Which of `world` processes does it: the same one in every run."""
        return int(digest([work.key for work in self.works])[:16], 16) % world


def drawn(samples: Sequence[Sample], limit: int | None) -> list[Sample]:
    """At most `limit` samples, in their order; a larger limit keeps those of a smaller one."""
    if limit is None or limit >= len(samples):
        return list(samples)
    chosen = {sample.id for sample in sorted(samples, key=lambda sample: digest(sample.id))[:limit]}
    return [sample for sample in samples if sample.id in chosen]


def batches(task: Task, samples: Sequence[Sample], settings: Settings, fingerprint: dict[str, Any]) -> list[Batch]:
    """Every sample of a task, in batches of similar length.

    Args:
        task: samples that are asked.
        samples: about what.
        settings: seed, batch size and how many are counted: the first ones, in the samples' order.
        fingerprint: fingerprint of the model.

    Raises:
        OSError: a recording cannot be read.
    """

    def work(sample: Sample, counted: bool) -> Work:
        request = Request.of(task, sample, settings.seed)
        audio = None if request.audio is None else file_digest(request.audio)
        asked = asdict(request) | {"audio": audio, "job": request.job.name}
        how = {"batch": settings.batch, "counted": counted}
        return Work(task.name, sample.id, request, digest([fingerprint, asked, list(sample.choices), how]))

    counted = [Batch((work(sample, True),), counted=True) for sample in samples[: settings.costs]]
    others = sorted(samples[settings.costs :], key=lambda sample: (_length(sample), sample.id))
    sizes = range(0, len(others), settings.batch)
    return counted + [
        Batch(tuple(work(sample, False) for sample in others[first : first + settings.batch])) for first in sizes
    ]


def _length(sample: Sample) -> float:
    """Seconds of the recording, else characters of the text; 0 for a recording that no model will be able to read."""
    if sample.audio is None:
        return float(len(sample.text or ""))
    try:
        return float(soundfile.info(sample.audio).duration)
    except soundfile.LibsndfileError:
        return 0.0
