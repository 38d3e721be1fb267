"""Plots of scored runs as PNG, drawn in greys and colours that read on white and on black."""

import base64
import io
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from eval.scores.figure import Figure
from eval.scores.scored_run import ScoredRun

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas

_INK = "#808890"
_COLOURS = ("#0f86c9", "#e07b00", "#12a378", "#c65fa0", "#8f7ae0", "#a08a00")  # told apart by the colour-blind, too
_MARKS = "osD^vP"
_ENERGY = ("picojoules_unary", "unary_operations", "dense_operations", "tokens")  # the first that was counted


def error_by_task(runs: Mapping[str, ScoredRun]) -> str | None:
    """Headline figures that are shares, as errors in percent with 95 % intervals; None: there is none.

    Returns:
        A data address.
    """
    rows = [
        (run, name, error)
        for run, scores in runs.items()
        for name, task in scores.tasks.items()
        if (error := _headline_error(list(task.metrics.values()))) is not None
    ]
    if not rows:
        return None
    tasks = list(dict.fromkeys(name for _, name, _ in rows))
    canvas, axes = _canvas(1.1 + 0.26 * len(tasks) * (0.6 + 0.4 * len(runs)))
    for index, run in enumerate(runs):
        of_run = [(tasks.index(name), error) for other, name, error in rows if other == run]
        height = [place + 0.62 * ((index + 0.5) / len(runs) - 0.5) for place, _ in of_run]
        value = [error[0] for _, error in of_run]
        # A percentile interval need not hold its figure.
        reach = [[max(0.0, sign * (error[0] - error[end])) for _, error in of_run] for sign, end in ((1, 1), (-1, 2))]
        style = {"color": _COLOURS[index % 6], "marker": _MARKS[index % 6], "label": run}
        axes.errorbar(value, height, xerr=reach, linestyle="none", capsize=3, markersize=5, **style)
    axes.set_yticks(range(len(tasks)), tasks)
    axes.set_ylim(len(tasks) - 0.5, -0.5)
    axes.set_xlim(left=0)
    axes.set_xlabel("error in %, 95 % interval")
    return _png(canvas, axes, legend=len(runs) > 1)


def cost_against_error(runs: Mapping[str, ScoredRun]) -> str | None:
    """Headline error against what was counted per second of audio; None: nothing was counted.

    Returns:
        A data address.
    """
    counted = {key for scores in runs.values() for task in scores.tasks.values() for key in task.costs}
    cost = next((name for name in _ENERGY if name in counted), None)
    if cost is None:
        return None
    canvas, axes = _canvas(3.6)
    drawn = False
    for index, (run, scores) in enumerate(runs.items()):
        points = [
            (task.costs[cost].value, error[0], name)
            for name, task in scores.tasks.items()
            if cost in task.costs and (error := _headline_error(list(task.metrics.values()))) is not None
        ]
        if not points:
            continue
        drawn = True
        style = {"color": _COLOURS[index % 6], "marker": _MARKS[index % 6], "label": run}
        axes.plot([x for x, _, _ in points], [y for _, y, _ in points], linestyle="none", **style)
        for x, y, name in points:
            axes.annotate(name, (x, y), xytext=(5, 3), textcoords="offset points", fontsize=7, color=_INK)
    if not drawn:
        return None
    axes.set_xscale("log")
    axes.set_ylim(bottom=0)
    axes.margins(x=0.25)
    axes.set_xlabel(f"{cost.replace('_', ' ')} per audio second")
    axes.set_ylabel("error in %")
    return _png(canvas, axes, legend=len(runs) > 1)


def _headline_error(figures: list[Figure]) -> tuple[float, float, float] | None:
    """(value, low, high) in percent, of the headline figure; None where it is no share."""
    if not figures or figures[0].unit != "share":
        return None
    one = figures[0]
    if one.better == "lower":
        return 100 * one.value, 100 * one.low, 100 * one.high
    return 100 - 100 * one.value, 100 - 100 * one.high, 100 - 100 * one.low


def _canvas(height: float) -> tuple["Canvas", Any]:
    from matplotlib.figure import Figure as Canvas

    canvas = Canvas(figsize=(7, height), dpi=150, layout="constrained")
    axes = canvas.add_subplot()
    axes.grid(color=_INK, alpha=0.25, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(which="both", colors=_INK, labelsize=8)
    for side in axes.spines.values():
        side.set_color(_INK)
    axes.xaxis.label.set_color(_INK)
    axes.yaxis.label.set_color(_INK)
    axes.set_facecolor("none")
    return canvas, axes


def _png(canvas: "Canvas", axes: Any, legend: bool) -> str:
    if legend:
        axes.legend(labelcolor=_INK, frameon=False, fontsize=8)
    out = io.BytesIO()
    canvas.savefig(out, format="png", transparent=True)
    return f"data:image/png;base64,{base64.b64encode(out.getvalue()).decode()}"
