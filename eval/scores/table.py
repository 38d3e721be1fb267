"""Results of runs as a Markdown table, rows of csv, and beside published figures."""

import csv
import io
from collections.abc import Mapping

from eval.scores.figure import written_interval, written_value
from eval.scores.scored_run import ScoredRun, TaskScores

_COLUMNS = (
    "run", "task", "metric", "value", "low", "high", "macro", "subset_macro",
    "numerator", "denominator", "n", "failed", "subset", "signature",
)  # fmt: skip
_COSTS = (  # that tables show, in this order; `scores.json` has all
    "tokens", "ActivationSparsity", "unary_operations", "dense_operations", "weight_bytes", "cache_bytes",
    "picojoules_unary", "picojoules_dram",
)  # fmt: skip
_SPOKEN = (  # of speech that came in pieces; `scores.json` has all
    "first_audio_seconds", "real_time_factor", "playback_stalls", "stalled_seconds", "longest_gap_seconds",
    "seam_distance", "seam_distance_elsewhere", "seam_peak", "seam_peak_elsewhere", "join_flux", "listening_factor",
)  # fmt: skip


def markdown(runs: Mapping[str, ScoredRun]) -> str:
    """A table of all figures: a row per task and metric, a column per run, with 95 % intervals and failures.

    Args:
        runs: scores by the name of their column.
    """
    rows = list(dict.fromkeys((task, metric) for scores in runs.values() for task, metric, _ in scores.figures()))
    lines = [line(["task", "metric", *runs]), line(["---"] * (2 + len(runs)))]
    for task, metric in rows:
        lines.append(line([task, metric, *(_cell(scores, task, metric) for scores in runs.values())]))
    return "\n".join(lines) + "\n" + _rules(runs) + _streams(runs) + _costs(runs)


def comma_separated(runs: Mapping[str, ScoredRun]) -> str:
    """All figures as csv, those of subsets in rows of their own."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for run, scores in runs.items():
        for task, metric, figure in scores.figures():
            for subset, part in {"": figure, **figure.subsets}.items():
                numbers = [part.value, part.low, part.high, part.macro, part.subset_macro]
                counts = [part.numerator, part.denominator, part.n, part.failed]
                writer.writerow([run, task, metric, *numbers, *counts, subset, figure.signature])
    return out.getvalue()


def counted(runs: Mapping[str, ScoredRun]) -> list[str]:
    """Names of the costs that tables show, of those that any run has."""
    found = {cost for scores in runs.values() for task in scores.tasks.values() for cost in task.costs}
    return [cost for cost in _COSTS if cost in found]


def spoken(runs: Mapping[str, ScoredRun]) -> tuple[list[str], list[tuple[str, str, TaskScores]]]:
    """What was measured of speech that came in pieces: names of figures, and (task, run, scores) that have any."""
    rows = [
        (name, run, task)
        for run, scores in runs.items()
        for name, task in scores.tasks.items()
        if "playback_stalls" in task.measured or "listening_factor" in task.measured
    ]
    return [name for name in _SPOKEN if any(name in task.measured for _, _, task in rows)], rows


def _rules(runs: Mapping[str, ScoredRun]) -> str:
    """By which rules figures were computed, where there is a choice; "" where there is none."""
    names: dict[str, dict[str, None]] = {}
    for scores in runs.values():
        for _, metric, figure in scores.figures():
            if figure.signature:
                names.setdefault(figure.signature, {})[metric] = None
    if not names:
        return ""
    return "\nRules: " + "; ".join(f"{', '.join(metrics)} by {rule}" for rule, metrics in names.items()) + "\n"


def _streams(runs: Mapping[str, ScoredRun]) -> str:
    """A row per task and run of speech that came in pieces; "" where none did."""
    names, found = spoken(runs)
    if not found:
        return ""
    rows = [["task", "run", "n", *names], ["---"] * (3 + len(names))]
    for name, run, task in found:
        shown = [written_value(task.measured[one]) if one in task.measured else "-" for one in names]
        rows.append([name, run, str(max(figure.n for figure in task.measured.values())), *shown])
    return "\nSpeech that came in pieces:\n\n" + "\n".join(line(row) for row in rows) + "\n"


def _costs(runs: Mapping[str, ScoredRun]) -> str:
    """A row per task and run of what was counted; "" where nothing was."""
    names = counted(runs)
    if not names:
        return ""
    rows = [["task", "run", "n", *names], ["---"] * (3 + len(names))]
    for run, scores in runs.items():
        for name, task in scores.tasks.items():
            if task.costs:
                shown = [written_value(task.costs[cost]) if cost in task.costs else "-" for cost in names]
                rows.append([name, run, str(max(figure.n for figure in task.costs.values())), *shown])
    return "\nPer second of audio:\n\n" + "\n".join(line(row) for row in rows) + "\n"


def _cell(scores: ScoredRun, task: str, metric: str) -> str:
    figure = scores.tasks[task].metrics.get(metric) if task in scores.tasks else None
    if figure is None:
        return "-"
    failed = f", {figure.failed} failed" if figure.failed else ""
    return f"{written_value(figure)} ({written_interval(figure)}; n={figure.n}{failed})"


def line(cells: list[str]) -> str:
    """One row of a Markdown table."""
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"
