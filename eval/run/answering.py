"""Having a plan answered and stored: batch by batch, each answer or the reason why there is none."""

from collections.abc import Callable, Iterable, Sequence

import numpy as np
from tqdm import tqdm

from eval.adapters.adapter import Adapter, CountingAdapter, Response, Unavailable
from eval.run.plan import Batch, Work
from eval.run.store import PredictionStore
from eval.sample import Prediction
from eval.task import Job

Answering = Callable[[Sequence[Batch]], Iterable[tuple[Batch, list[Response | Exception]]]]


def generate(adapter: Adapter, plan: Sequence[Batch], store: PredictionStore, rank: int = 0, world: int = 1) -> int:
    """Have this process's share of the plan answered and stored, but for what is stored already.

    Returns:
        The number of answers in this share, stored ones included, that failed.

    Raises:
        ValueError: the store holds an answer to another request under the same name.
        OSError: an answer cannot be stored.
        Unavailable: the model cannot answer at all.
    """
    mine = [batch for batch in plan if batch.rank(world) == rank]
    return store_answers(
        mine, store, lambda todo: ((batch, answers_to(adapter, batch)) for batch in todo), quiet=rank > 0
    )


def store_answers(mine: Sequence[Batch], store: PredictionStore, answer: Answering, quiet: bool = False) -> int:
    """Have batches answered and stored, but for what is stored already.

    Args:
        mine: the batches.
        store: where answers go.
        answer: gives batches with their answers, in any order.
        quiet: show no progress.

    Returns:
        As `generate`, which also says what is raised.
    """
    works = [work for batch in mine for work in batch.works]
    waiting = {(work.task, work.id) for work in works if not _stored(work, store)}
    todo = [batch for batch in mine if any((work.task, work.id) in waiting for work in batch.works)]
    with tqdm(total=len(works), initial=len(works) - len(waiting), unit="sample", disable=quiet) as progress:
        for batch, answers in answer(todo):
            progress.set_description(batch.works[0].task)
            for work, given in zip(batch.works, answers, strict=True):
                if (work.task, work.id) in waiting:
                    store.append(prediction_of(work, given, store))
                    progress.update()
    return sum(store.done[work.task, work.id].error is not None for work in works)


def answers_to(adapter: Adapter, batch: Batch) -> list[Response | Exception]:
    """A batch's answers; where it fails as a whole, its samples are asked about one by one.

    Raises:
        Unavailable: the model cannot answer at all.
    """
    requests = [work.request for work in batch.works]
    try:
        if batch.counted and isinstance(adapter, CountingAdapter):
            return [adapter.answer_counted(requests[0])]
        answers = adapter.answer(requests)
        if len(answers) != len(requests):
            raise ValueError(f"the model gave {len(answers)} answers to {len(requests)} requests")
        return answers
    except Unavailable:
        raise
    except Exception as error:
        if len(requests) == 1:
            return [error]
        return [answer for work in batch.works for answer in answers_to(adapter, Batch((work,)))]


def prediction_of(work: Work, answer: Response | Exception, store: PredictionStore) -> Prediction:
    """What is stored of an answer; an answer that lacks what the job asks for is a failure.

    Raises:
        OSError: an answer that cannot be stored.
    """
    fault = answer if isinstance(answer, Exception) else _fault(answer, work.request.job)
    if isinstance(answer, Exception) or fault is not None:
        kind = f"{type(fault).__name__}: " if isinstance(fault, Exception) else ""
        return Prediction(work.task, work.id, work.key, error=f"{kind}{fault}")
    return Prediction(
        work.task,
        work.id,
        work.key,
        answer.text,
        None if answer.wav is None else store.save_speech(answer.wav, answer.sampling_rate),
        measured=answer.measured,
        costs=answer.costs,
        pieces=answer.pieces,
        offline=None if answer.offline is None else store.save_speech(answer.offline, answer.sampling_rate),
        turns=answer.turns,
    )


def _fault(answer: Response, job: Job) -> str | None:
    if job.writes and answer.text is None:
        return "the model wrote nothing"
    if job.speaks and answer.wav is None:
        return "the model said nothing"
    if answer.wav is not None and (answer.wav.ndim != 1 or not answer.wav.size or not np.isfinite(answer.wav).all()):
        return f"the model's speech is no sequence of finite samples: shape {answer.wav.shape}"
    said, in_pieces = 0 if answer.wav is None else len(answer.wav), sum(samples for _, samples in answer.pieces)
    if answer.pieces and in_pieces != said:
        return f"the pieces of speech hold {in_pieces} samples, the speech {said}"
    return None


def _stored(work: Work, store: PredictionStore) -> bool:
    prediction = store.done.get((work.task, work.id))
    if prediction is not None and prediction.key != work.key:
        raise ValueError(f"{store.run} holds an answer to another request for {work.task} {work.id!r}")
    return prediction is not None
