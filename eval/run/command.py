"""`run`: ask a model everything, once, and store what it says.

To resume a run that was stopped, in whatever way, give the same command again. Several processes share the work:

    accelerate launch --num_processes 4 -m eval run --model MODEL --suite kimi    # one per GPU
    torchrun --nproc_per_node 4 -m eval run --model MODEL --suite kimi            # on a CPU
    python -m eval run --backend ray --workers 4 --model MODEL --suite kimi       # on a Ray cluster, or this machine
"""

import argparse
import sys
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from tqdm import tqdm

from eval.adapters.adapter import Adapter, Answer, CountingAdapter, Unavailable
from eval.run.plan import Batch, Settings, Work, batches, drawn
from eval.run.store import PredictionStore
from eval.sample import Prediction
from eval.task import Job, Task

Answering = Callable[[Sequence[Batch]], Iterable[tuple[Batch, list[Answer | Exception]]]]
_WRITES: tuple[Job, ...] = ("asr", "aqa", "conversation")
_SPEAKS: tuple[Job, ...] = ("tts", "codec", "turn_taking")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `run`."""
    from eval.adapters import ADAPTERS
    from eval.tasks import SUITES

    parser.add_argument("--model", required=True, help="checkpoint folder, id of the Hub, or the server's model name")
    parser.add_argument("--adapter", choices=sorted(ADAPTERS), default="spikeaudio", help="kind of model")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--suite", choices=sorted(SUITES), help="tasks by the name of their suite")
    what.add_argument("--tasks", help="tasks by name: a,b,c")
    parser.add_argument("--out", type=Path, help="run folder; default: runs/MODEL-SUITE")
    parser.add_argument("--data", type=Path, help="folder with a folder of data per task")
    parser.add_argument("--limit", type=int, help="at most so many samples per task, drawn by their ids")
    parser.add_argument("--seed", type=int, default=0, help="of every random number")
    parser.add_argument("--batch", type=int, default=8, help="samples that are answered together, at most")
    parser.add_argument("--backend", choices=("accelerate", "ray"), default="accelerate", help="what shares the work")
    parser.add_argument("--workers", type=int, help="actors of --backend ray; default: one per GPU, else per CPU")
    parser.add_argument("--costs", type=int, default=0, help="count the operations of so many samples per task")


def main(args: argparse.Namespace) -> None:
    """Run what was asked for.

    Raises:
        ValueError: an argument, a manifest or the run folder is at fault.
        OSError: data or model are missing, or nothing can be written.
        Unavailable: the model cannot answer at all.
    """
    import torch
    from accelerate import PartialState

    from eval.run.record import make_record, open_run
    from eval.tasks import SUITES, find_tasks

    settings = Settings(args.seed, args.batch, args.limit, args.costs)
    names = SUITES[args.suite] if args.suite else tuple(args.tasks.split(","))
    tasks = [(task, drawn(task.samples(), settings.limit)) for task in find_tasks(names, args.data)]
    state = PartialState(cpu=not torch.accelerator.is_available())
    here = "cpu" if args.backend == "ray" else str(state.device)  # with Ray, this process answers nothing itself
    adapter = make_adapter(args.adapter, args.model, here, [task for task, _ in tasks])
    check_able(adapter, [task for task, _ in tasks], settings)
    fingerprint = adapter.fingerprint()
    out = args.out or Path("runs") / f"{Path(args.model).name}-{args.suite or args.tasks.replace(',', '+')}"
    if state.is_main_process:
        open_run(out, make_record(args.model, args.suite, tasks, settings, fingerprint), tasks)
    state.wait_for_everyone()
    plan = [batch for task, samples in tasks for batch in batches(task, samples, settings, fingerprint)]
    mine = [batch for batch in plan if batch.rank(state.num_processes) == state.process_index]
    with PredictionStore(out, state.process_index) as store:
        if args.backend == "ray":
            from eval.run.ray_backend import RayActors

            del adapter
            make = partial(make_adapter, args.adapter, args.model, tasks=[task for task, _ in tasks])
            failed = store_answers(plan, store, RayActors(make, args.workers).answer)
        else:
            failed = generate(adapter, plan, store, state.process_index, state.num_processes)
    print(f"{out}: {sum(len(batch.works) for batch in mine)} answers, {failed} of them failed", file=sys.stderr)


def make_adapter(kind: str, model: str, device: str, tasks: Sequence[Task]) -> Adapter:
    """A model of this kind, able to do these tasks, as far as the toolkit can help it.

    Raises:
        ValueError: the model does not fit its kind.
        OSError: it is not there.
    """
    from eval.adapters import ADAPTERS

    return able(ADAPTERS[kind](model, device), tasks)


def able(adapter: Adapter, tasks: Sequence[Task]) -> Adapter:
    """The model, with a turn detector where a task is about turns and the model cannot tell them itself.

    Raises:
        ValueError: it does no conversations.
        ImportError: there is no turn detector here.
    """
    if "turn_taking" in adapter.jobs or all(task.job != "turn_taking" for task in tasks):
        return adapter
    from eval.dialogue.turn_detector import SileroTurnDetector
    from eval.dialogue.turn_taker import taking_turns

    return taking_turns(adapter, SileroTurnDetector())


def check_able(adapter: Adapter, tasks: Sequence[Task], settings: Settings) -> None:
    """Refuse what the model cannot do, before it is asked.

    Raises:
        ValueError: it cannot do a task's job, or its operations cannot be counted.
    """
    for task in tasks:
        if task.job not in adapter.jobs:
            raise ValueError(
                f"the task {task.name} is of the kind {task.job}, but this model ({adapter.name}) does "
                f"{', '.join(sorted(adapter.jobs)) or 'nothing'}: name tasks it can do with --tasks"
            )
    if settings.costs and not isinstance(adapter, CountingAdapter):
        raise ValueError(f"the operations of a model of the kind {adapter.name} cannot be counted: leave out --costs")


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


def answers_to(adapter: Adapter, batch: Batch) -> list[Answer | Exception]:
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


def prediction_of(work: Work, answer: Answer | Exception, store: PredictionStore) -> Prediction:
    """What is stored of an answer; an answer that lacks what the job asks for is a failure.

    Raises:
        OSError: what was said cannot be stored.
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


def _fault(answer: Answer, job: Job) -> str | None:
    if job in _WRITES and answer.text is None:
        return "the model wrote nothing"
    if job in _SPEAKS and answer.wav is None:
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
