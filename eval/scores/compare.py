"""Two runs over the same samples: does the second differ from the first, and how sure is that?

    python -m eval compare FIRST SECOND [--shared]

Per task and metric: the second's figure minus the first's, its 95 % interval and a p-value, all paired by sample
(`eval.scores.interval.difference`). P-values are of single comparisons: among twenty rows, one below 0.05 is no news.
"""

import argparse
import json
import sys
from collections.abc import Collection
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from eval.scores.figure import Figure
    from eval.scores.scored_run import ScoredRun

_NAMED = 5  # samples named in a refusal


@dataclass(frozen=True)
class Comparison:
    """One row.

    Attributes:
        task: its name.
        metric: its name.
        first: the first run's figure over the shared samples.
        second: the second run's.
        value: second minus first.
        low: low of the 95 % interval of `value`.
        high: the same.
        p: two-sided.
        better: whether the second is better, worse ("worse") or neither ("-": the interval holds 0).
        n: shared samples.
        left_out: samples that only one of the runs has.
    """

    task: str
    metric: str
    first: float
    second: float
    value: float
    low: float
    high: float
    p: float
    better: str
    n: int
    left_out: int


def compare(first: "ScoredRun", second: "ScoredRun", shared: bool = False) -> list[Comparison]:
    """Compare two scored runs.

    Args:
        first: the run to compare with.
        second: the run to be compared.
        shared: compare what both have; else runs over different samples are refused.

    Raises:
        ValueError: the runs' tasks, metrics, samples or judges differ (the message says where), or they
            have nothing in common.
    """
    _check_same(first, second, shared)
    pairs = [
        _compared(name, metric, figure, second.tasks[name].metrics[metric])
        for name, metric, figure in first.figures()
        if name in second.tasks and metric in second.tasks[name].metrics
    ]
    rows = [row for row in pairs if row is not None]
    if not rows:
        raise ValueError("the runs have no task, metric and sample in common")
    return rows


def markdown(rows: list[Comparison], figures: "ScoredRun") -> str:
    """A table of comparisons, in the units of `figures` (one of the runs)."""
    from eval.scores.figure import written_value
    from eval.scores.table import line

    lines = [
        line(["task", "metric", "first", "second", "difference", "95 %", "p", "", "n"]),
        line(["---"] * 9),
    ]
    for row in rows:
        figure = figures.tasks[row.task].metrics[row.metric]
        first, second, low, high = (
            written_value(figure, value) for value in (row.first, row.second, row.low, row.high)
        )
        change = ("+" if row.value >= 0 else "") + written_value(figure, row.value)
        p = "<0.001" if row.p < 0.001 else f"{row.p:.3f}"
        number = f"{row.n}" + (f" ({row.left_out} left out)" if row.left_out else "")
        lines.append(line([row.task, row.metric, first, second, change, f"{low} to {high}", p, row.better, number]))
    return "\n".join(lines) + "\n"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the verb."""
    parser.add_argument("first", type=Path, help="run folder to compare with")
    parser.add_argument("second", type=Path, help="run folder to be compared")
    parser.add_argument("--shared", action="store_true", help="compare what both have, instead of refusing")
    parser.add_argument("--judge", default="rules", help="judge of free answers, where a run is not yet scored")
    parser.add_argument("--json", type=Path, help="also write the rows here")


def main(args: argparse.Namespace) -> None:
    """Compare two runs and print the table; runs without scores are scored first."""
    from eval.scores.command import scored

    first, second = (scored(run, args.judge) for run in (args.first, args.second))
    rows = compare(first, second, args.shared)
    sys.stdout.write(f"first: {args.first}\nsecond: {args.second}\n\n{markdown(rows, first)}")
    if args.json:
        args.json.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n", encoding="utf-8")


def _compared(task: str, metric: str, first: "Figure", second: "Figure") -> Comparison | None:
    """The row; None: no sample is shared."""
    import numpy as np

    from eval.metrics import METRICS
    from eval.scores.interval import difference, difference_of, ratio

    keys = [key for key in first.samples if key in second.samples]
    left_out = len(first.samples.keys() ^ second.samples.keys())
    if not keys:
        return None
    if first.formula is None:
        one, two = (np.array([figure.samples[key] for key in keys], dtype=np.float64) for figure in (first, second))
        values = ratio(one[:, 0], one[:, 1]), ratio(two[:, 0], two[:, 1])
        found = difference((one[:, 0], one[:, 1]), (two[:, 0], two[:, 1]))
    else:
        known = METRICS[metric].formula if metric in METRICS else None
        if known is None:
            raise ValueError(
                f"task {task}: the formula of {metric} is not known. --include names the file that adds it"
            )
        formula = known.of
        one, two = (np.array([figure.sums[key] for key in keys], dtype=np.float64) for figure in (first, second))
        values = formula(one.sum(axis=0)), formula(two.sum(axis=0))
        found = difference_of(formula, one, two)
    better = "-"
    if found.interval.low > 0 or found.interval.high < 0:
        better = "better" if (found.value > 0) == (first.better == "higher") else "worse"
    return Comparison(
        task,
        metric,
        *values,
        found.value,
        found.interval.low,
        found.interval.high,
        found.p,
        better,
        len(keys),
        left_out,
    )


def _check_same(first: "ScoredRun", second: "ScoredRun", shared: bool) -> None:
    judged = any(metric == "judge_score" for _, metric, _ in first.figures())
    if judged and first.judge != second.judge:
        raise ValueError(f"the runs were judged by {first.judge} and {second.judge}: score one of them again")
    for name in first.tasks.keys() & second.tasks.keys():
        if first.tasks[name].language != second.tasks[name].language:
            raise ValueError(f"task {name} is in {first.tasks[name].language} and in {second.tasks[name].language}")
        for metric, figure in first.tasks[name].metrics.items():
            other_figure = second.tasks[name].metrics.get(metric, figure)
            if figure.signature != other_figure.signature:
                raise ValueError(
                    f"task {name}, {metric}: computed as {figure.signature} and as {other_figure.signature}"
                )
        one, two = first.tasks[name].samples, second.tasks[name].samples
        if other := [key for key in one.keys() & two.keys() if one[key] != two[key]]:
            raise ValueError(f"task {name}: question, right answer or the ASR judge's domain differ in {_some(other)}")
    if shared:
        return
    if only := sorted(first.tasks.keys() ^ second.tasks.keys()):
        raise ValueError(f"only one of the runs has the tasks {', '.join(only)} (--shared compares what both have)")
    for name, task in first.tasks.items():
        if only := sorted(task.metrics.keys() ^ second.tasks[name].metrics.keys()):
            raise ValueError(f"task {name}: only one of the runs has {', '.join(only)} (--shared)")
        for metric, figure in task.metrics.items():
            unshared = figure.samples.keys() ^ second.tasks[name].metrics[metric].samples.keys()
            if unshared:
                raise ValueError(f"task {name}, {metric}: only one of the runs has {_some(unshared)} (--shared)")


def _some(samples: Collection[str]) -> str:
    named = sorted(samples)[:_NAMED]
    return f"{len(samples)} samples: {', '.join(named)}" + (" ..." if len(samples) > _NAMED else "")
