"""`run`: ask a model everything, once, and store what it says.

To resume a run that was stopped, in whatever way, give the same command again. Several processes share the work:

    accelerate launch --num_processes 4 -m eval run --model MODEL --suite kimi    # one per GPU
    torchrun --nproc_per_node 4 -m eval run --model MODEL --suite kimi            # on a CPU
    python -m eval run --backend ray --workers 4 --model MODEL --suite kimi       # on a Ray cluster, or this machine
"""

import argparse
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from eval.adapters.adapter import Adapter, CountingAdapter
from eval.run.answering import generate, store_answers
from eval.run.plan import Settings, batches, drawn
from eval.run.store import PredictionStore
from eval.task import TURN_TAKING, Task


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
    parser.add_argument("--seed", type=int, default=0, help="seed of every random number")
    parser.add_argument("--batch", type=int, default=8, help="samples that are answered together, at most")
    parser.add_argument("--backend", choices=("accelerate", "ray"), default="accelerate", help="runs the workers")
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
            make = partial(
                make_adapter, args.adapter, args.model, tasks=[task for task, _ in tasks], included=args.include or ()
            )
            failed = store_answers(plan, store, RayActors(make, args.workers).answer)
        else:
            failed = generate(adapter, plan, store, state.process_index, state.num_processes)
    print(f"{out}: {sum(len(batch.works) for batch in mine)} answers, {failed} of them failed", file=sys.stderr)


def make_adapter(kind: str, model: str, device: str, tasks: Sequence[Task], included: Sequence[str] = ()) -> Adapter:
    """A model of this kind, able to do these tasks, as far as the toolkit can help it.

    Args:
        kind: name in `eval.adapters.ADAPTERS`.
        model: folder or name.
        device: where to run.
        tasks: jobs that the model is to do.
        included: files that may add the kind, for a process that has not run them.

    Raises:
        ValueError: the model does not fit its kind.
        OSError: it is not there.
    """
    from eval.adapters import ADAPTERS
    from eval.tasks.included import include

    if kind not in ADAPTERS:
        for path in included:
            include(Path(path))
    return able(ADAPTERS[kind](model, device), tasks)


def able(adapter: Adapter, tasks: Sequence[Task]) -> Adapter:
    """The model, with a turn detector where a task is about turns and the model cannot tell them itself.

    Raises:
        ValueError: it does no conversations.
        ImportError: there is no turn detector here.
    """
    if TURN_TAKING in adapter.jobs or all(task.job.asked != TURN_TAKING for task in tasks):
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
        if task.job.asked not in adapter.jobs:
            raise ValueError(
                f"the task {task.name} is of the kind {task.job}, but this model ({adapter.name}) does "
                f"{', '.join(sorted(map(str, adapter.jobs))) or 'nothing'}: name tasks it can do with --tasks"
            )
    if settings.costs and not isinstance(adapter, CountingAdapter):
        raise ValueError(f"the operations of a model of the kind {adapter.name} cannot be counted: leave out --costs")
