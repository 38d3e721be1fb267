"""Results of runs as a Markdown table, rows of csv, and beside published figures."""

import csv
import io
from collections.abc import Mapping

from eval.figure import written_interval, written_value
from eval.scores import Scores

_COLUMNS = (
    "run", "task", "metric", "value", "low", "high", "macro", "subset_macro",
    "numerator", "denominator", "n", "failed", "subset",
)  # fmt: skip


def markdown(runs: Mapping[str, Scores]) -> str:
    """A table of all figures: a row per task and metric, a column per run, with 95 % intervals and failures.

    Args:
        runs: scores by the name of their column.
    """
    rows = list(dict.fromkeys((task, metric) for scores in runs.values() for task, metric, _ in scores.figures()))
    lines = [line(["task", "metric", *runs]), line(["---"] * (2 + len(runs)))]
    for task, metric in rows:
        lines.append(line([task, metric, *(_cell(scores, task, metric) for scores in runs.values())]))
    for task, cost in dict.fromkeys(_costs(runs)):
        cells = []
        for scores in runs.values():
            figure = scores.tasks[task].costs.get(cost) if task in scores.tasks else None
            cells.append("-" if figure is None else f"{written_value(figure)} (n={figure.n})")
        lines.append(line([task, f"{cost} per audio second", *cells]))
    return "\n".join(lines) + "\n"


def comma_separated(runs: Mapping[str, Scores]) -> str:
    """All figures as csv, those of subsets in rows of their own."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for run, scores in runs.items():
        for task, metric, figure in scores.figures():
            for subset, part in {"": figure, **figure.subsets}.items():
                numbers = [part.value, part.low, part.high, part.macro, part.subset_macro]
                counts = [part.numerator, part.denominator, part.n, part.failed]
                writer.writerow([run, task, metric, *numbers, *counts, subset])
    return out.getvalue()


def _costs(runs: Mapping[str, Scores]) -> list[tuple[str, str]]:
    return [(name, cost) for scores in runs.values() for name, task in scores.tasks.items() for cost in task.costs]


def _cell(scores: Scores, task: str, metric: str) -> str:
    figure = scores.tasks[task].metrics.get(metric) if task in scores.tasks else None
    if figure is None:
        return "-"
    failed = f", {figure.failed} failed" if figure.failed else ""
    return f"{written_value(figure)} ({written_interval(figure)}; n={figure.n}{failed})"


def line(cells: list[str]) -> str:
    """One row of a Markdown table."""
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"
