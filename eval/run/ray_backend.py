"""Ray Data as what shares the work: batches go to actors that hold the model, answers come back to the one store.

A batch is computed whole by one actor, with as many threads as this process has, so that the answers are those of a run
without Ray. Actors need this checkout, the model and the recordings under the same paths.
"""

import os
import pickle
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from eval.adapters.adapter import Adapter, Response, Unavailable
from eval.run.answering import answers_to
from eval.run.plan import Batch

MakeAdapter = Callable[..., Adapter]


@dataclass(frozen=True)
class RayActors:
    """Actors of a Ray cluster: of the one that this process or $RAY_ADDRESS names, else of a new one on this machine.

    Attributes:
        make: makes the model where it is to answer, on ``device="cuda"`` or ``"cpu"``; can be pickled.
        workers: how many; None: one per GPU of the cluster, else one per CPU.
    """

    make: MakeAdapter
    workers: int | None = None

    def __post_init__(self) -> None:
        if self.workers is not None and self.workers < 1:
            raise ValueError(f"expected --workers of at least 1, got {self.workers}")

    def answer(self, batches: Sequence[Batch]) -> Iterator[tuple[Batch, list[Response | Exception]]]:
        """Batches with their answers, in the order in which they are done.

        Raises:
            ImportError: with the install hint, if Ray is missing.
            Unavailable: the model cannot be loaded, or cannot answer at all.
        """
        if not batches:
            return
        ray = _ray()
        gpus = int(ray.cluster_resources().get("GPU", 0))
        workers = min(self.workers or gpus or int(ray.cluster_resources()["CPU"]), len(batches))
        places = ray.data.from_items(
            [{"place": place} for place in range(len(batches))], override_num_blocks=len(batches)
        )
        answered = places.map_batches(
            _Actor,
            fn_constructor_kwargs={
                "make": self.make,
                "device": "cuda" if gpus else "cpu",
                "batches": tuple(batches),
                "folder": os.getcwd(),
                "threads": torch.get_num_threads(),
            },
            batch_size=1,
            compute=ray.data.ActorPoolStrategy(size=workers),
            num_gpus=1 if gpus else 0,
        )
        try:
            for row in answered.iter_rows():
                given = pickle.loads(row["answers"])
                if isinstance(given, Unavailable):
                    raise given
                yield batches[int(row["place"])], given
        except ray.exceptions.RayError as error:
            raise Unavailable(f"Ray's actors gave up: {last_words(error)}") from error


class _Actor:
    """Holds the model and answers batches by their place in the plan."""

    def __init__(self, make: MakeAdapter, device: str, batches: Sequence[Batch], folder: str, threads: int) -> None:
        os.chdir(folder)  # recordings are named from there
        torch.set_num_threads(threads)  # Ray gives its workers one each
        self._adapter = make(device=device)
        self._batches = batches

    def __call__(self, rows: dict[str, Any]) -> dict[str, Any]:
        """One batch: its place and its pickled answers."""
        from ray import cloudpickle

        answers: list[Response | Exception] | Unavailable
        try:
            found = answers_to(self._adapter, self._batches[int(rows["place"][0])])
            answers = [portable(one) if isinstance(one, Exception) else one for one in found]
        except Unavailable as error:
            answers = Unavailable(str(error))
        return {"place": rows["place"], "answers": np.array([cloudpickle.dumps(answers)], dtype=object)}


def portable(error: Exception) -> Exception:
    """An error of the same name that says the same, and can be pickled: not every one can."""
    return type(type(error).__name__, (Exception,), {})(str(error))


def last_words(error: BaseException) -> str:
    """The last line that Ray's error or any of its causes says: where the actors' own error stands."""
    lines: list[str] = []
    cause: BaseException | None = error
    while cause is not None:
        lines += [line.strip() for line in str(cause).splitlines() if line.strip()]
        cause = cause.__cause__
    return lines[-1] if lines else type(error).__name__


def _ray() -> Any:
    """Ray, begun; its workers import what this process can."""
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise ImportError("--backend ray needs Ray: pip install spikeaudio[ray]") from error
    if not ray.is_initialized():
        path = os.pathsep.join([os.getcwd(), *filter(None, sys.path)])
        os.environ.setdefault("RAY_worker_niceness", "0")  # 15 otherwise, with which other work starves the model
        ray.init(runtime_env={"env_vars": {"PYTHONPATH": path}}, log_to_driver=False, include_dashboard=False)
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False  # `eval.run.command` has its own
    return ray
