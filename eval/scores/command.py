"""Figures of a finished run: pure, without a model, and as often as one likes.

    python -m eval score [RUN ...] [--judge rules]

Reads a run folder (`eval.run.run_folder`) and writes its ``scores.json``. A sample whose answer failed or is missing
stays in every denominator as the worst answer, and is printed.
"""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from eval.judges.judge import Judge
    from eval.metrics.count import Metric
    from eval.run.finished_run import TaskCases
    from eval.sample import Sample
    from eval.scores.figure import Figure
    from eval.scores.scored_run import ScoredRun, TaskScores

_FAILURES_SHOWN = 10


def score(run: Path, judge: "Judge | None" = None) -> "ScoredRun":
    """Score a run folder, write its ``scores.json`` and return what it holds.

    Args:
        run: the folder.
        judge: judge of free answers; None: rules.

    Raises:
        FileNotFoundError: it is no run folder.
        ValueError: a broken line, or a metric that does not exist or does not fit its task.
        ConnectionError: the judge cannot be asked; what it said so far is kept.
    """
    from eval.judges.judge import identity
    from eval.judges.rules import Rules
    from eval.run.finished_run import FinishedRun
    from eval.scores.scored_run import ScoredRun

    judge = judge or Rules()
    finished = FinishedRun.load(run)
    tasks = {name: _score_task(name, task, judge) for name, task in finished.tasks.items()}
    scores = ScoredRun(finished.record, identity(judge), tasks, finished.strays)
    scores.write(run)
    return scores


def scored(run: Path, judge: str = "rules") -> "ScoredRun":
    """The scores of a run folder; scored first where they are missing, older than its answers, or of another format.

    Args:
        run: the folder.
        judge: its name (`eval.judges.FORMS`), asked only where the run is scored.
    """
    from eval.judges import named
    from eval.scores.scored_run import ScoredRun, is_current

    answers = [path.stat().st_mtime_ns for path in (*run.glob("predictions-*.jsonl"), *run.glob("samples.jsonl"))]
    if is_current(run) and (run / "scores.json").stat().st_mtime_ns >= max(answers, default=0):
        return ScoredRun.read(run)
    return score(run, named(judge))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the verb."""
    parser.add_argument("runs", nargs="*", type=Path, metavar="RUN", help="run folders; none: the newest under runs/")
    parser.add_argument(
        "--judge",
        default="rules",
        help="judge of free answers: rules | local:CHECKPOINT | api:URL#MODEL | recorded:NAME/VERSION (default: rules)",
    )


def main(args: argparse.Namespace) -> None:
    """Score runs and print their table."""
    from eval.judges import named
    from eval.run.finished_run import newest_run
    from eval.scores.table import markdown

    judge = named(args.judge)
    for run in args.runs or [newest_run(Path("runs"))]:
        scores = score(run, judge)
        sys.stdout.write(markdown({run.name: scores}) + "\n")
        for name, task in scores.tasks.items():
            for metric, reason in task.left_out.items():
                sys.stdout.write(f"{name}: no {metric}: {reason}\n")
            for key, reason in list(task.failed.items())[:_FAILURES_SHOWN]:
                sys.stdout.write(f"{name}: sample {key} failed: {reason}\n")
            if len(task.failed) > _FAILURES_SHOWN:
                sys.stdout.write(
                    f"{name}: and {len(task.failed) - _FAILURES_SHOWN} more of {len(task.samples)} failed\n"
                )
        if scores.strays:
            sys.stdout.write(f"{scores.strays} predictions of samples that the run does not list were left out\n")


def _score_task(name: str, task: "TaskCases", judge: "Judge") -> "TaskScores":
    from eval.metrics import MEASURED, METRICS, cost_metrics, metric
    from eval.metrics.count import NotMeasurable
    from eval.scores.scored_run import TaskScores

    wanted = {key: metric(key, judge) for key in task.metrics}
    wanted |= {one.beside: METRICS[one.beside] for one in wanted.values() if one.beside}
    left_out: dict[str, str] = {}
    figures = {}
    for key, one in wanted.items():
        try:
            figure = _figure(one, task, f"{name} {key}")
        except (ImportError, NotMeasurable) as error:
            left_out[key] = str(error)
            continue
        if figure is None:
            left_out[key] = "it applies to none of the samples"
        else:
            figures[key] = figure
    costs = cost_metrics(key for case in task.cases if case.prediction for key in case.prediction.costs)
    return TaskScores(
        job=task.job.name,
        language=task.language,
        samples={case.sample.id: _content(case.sample) for case in task.cases},
        failed={case.sample.id: case.failure for case in task.cases if case.failure is not None},
        metrics=figures,
        measured=_present({key: _figure(METRICS[key], task, "") for key in MEASURED}),
        costs=_present({key: _figure(one, task, "") for key, one in costs.items()}),
        left_out=left_out,
    )


def _content(sample: "Sample") -> str:
    """Digest of what was asked, would be right and can be heard; where the recording lies does not matter."""
    from eval.judges.closed_domain import ClosedDomain
    from eval.judges.judgements import content_key
    from eval.sample import CLOSED_DOMAIN

    domain = [ClosedDomain.read(path).name] if (path := sample.meta.get(CLOSED_DOMAIN)) else []
    return content_key(sample.text or "", *sample.references, "", *sample.choices, *domain)[:12]


def _figure(one: "Metric", task: "TaskCases", progress: str) -> "Figure | None":
    """The metric over a task's samples; None: it applies to none. `progress` names its bar; "": none is shown."""
    from tqdm import tqdm

    from eval.scores.figure import Figure

    counts = {}
    for case in tqdm(task.cases, desc=progress, unit="sample", leave=False, disable=not progress):
        count = one.measure(case)
        if count is not None:
            counts[case.sample.id] = count
    if not counts:
        return None
    failed = frozenset(case.sample.id for case in task.cases if case.failure is not None)
    subsets = {case.sample.id: case.sample.meta["subset"] for case in task.cases if "subset" in case.sample.meta}
    signature = one.signature(task.cases[0]) if one.signature else ""
    return Figure.of(one, counts, failed, subsets, signature)


def _present(figures: "dict[str, Figure | None]") -> "dict[str, Figure]":
    return {key: figure for key, figure in figures.items() if figure is not None}
