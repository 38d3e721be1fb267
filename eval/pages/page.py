"""One static HTML page about scored runs: no other file, no script, nothing fetched.

What stands on it is gathered here, as texts; the templates ``*.html.j2`` escape and lay out all of it.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import jinja2

from eval.pages import plots
from eval.pages.page_samples import Card, PageSamples
from eval.pages.published_table import PublishedTable
from eval.pages.table import Cell, Table, number, plain_number
from eval.run.finished_run import FinishedRun
from eval.scores.figure import Figure
from eval.scores.scored_run import ScoredRun, TaskScores
from eval.scores.table import counted, spoken

_FOLDER = Path(__file__).parent
_FAILURES = 20  # named per task and run


@dataclass(frozen=True)
class Failures:
    """Samples of one run without an answer: the first ones with their reasons, and how many there are."""

    run: str
    reasons: tuple[tuple[str, str], ...]
    failed: int
    samples: int


@dataclass(frozen=True)
class TaskSection:
    """One task of the page.

    Attributes:
        name: the task's name.
        figures: all figures of all runs.
        left_out: (run, metric, reason) of figures that could not be computed.
        failures: samples without an answer, for each run that has any.
        cards: samples that are shown.
        samples: how many the task has.
    """

    name: str
    figures: Table
    left_out: tuple[tuple[str, str, str], ...]
    failures: tuple[Failures, ...]
    cards: tuple[Card, ...]
    samples: int


def page(
    runs: Mapping[str, tuple[FinishedRun, ScoredRun]],
    published: PublishedTable | None = None,
    per_task: int = 6,
    room: int = 4_000_000,
) -> str:
    """The page.

    Args:
        runs: folders as read and their scores, by the name that they are shown under.
        published: figures of others to show beside.
        per_task: samples shown of each task.
        room: bytes that recordings may take.
    """
    scores = {name: scored for name, (_, scored) in runs.items()}
    tasks = list(dict.fromkeys(task for one in scores.values() for task in one.tasks))
    samples = PageSamples(runs, per_task, room)
    sections = [_section(task, scores, samples) for task in tasks]
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_FOLDER),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("page.html.j2").render(
        title=f"Evaluation of {', '.join(runs)}",
        style=(_FOLDER / "data" / "page.css").read_text(encoding="utf-8"),
        headline=_headline(tasks, scores),
        plots=_plots(scores),
        streams=_streams(scores),
        published=published,
        published_tables=_published(published, scores) if published else [],
        sections=sections,
        clips=samples,
        records={
            f"{name} (judge: {scored.judge})": json.dumps(run.record, indent=1, ensure_ascii=False)
            for name, (run, scored) in runs.items()
        },
    )


def _headline(tasks: Iterable[str], runs: Mapping[str, ScoredRun]) -> Table:
    """A row per task and run: the headline figure, time, and what was counted beside it."""
    costs = counted(runs)
    names = ("task", "run", "figure", "value", "failed", "first audio", "real-time factor", *map(_cost_title, costs))
    rows = []
    for name in tasks:
        for run, scores in runs.items():
            task = scores.tasks.get(name)
            if task is None:
                continue
            metric, figure = next(iter(task.metrics.items()), ("-", None))
            effort = [task.measured.get("first_audio_seconds"), task.measured.get("real_time_factor")]
            effort += [task.costs.get(cost) for cost in costs]
            failed = Cell(str(len(task.failed)), kind="number", failed=bool(task.failed))
            labels = (Cell(name), Cell(run, kind="name"), Cell(metric))
            rows.append((*labels, number(figure), failed, *map(plain_number, effort)))
    return Table("headline figures", names, tuple(rows), first_number=3)


def _section(name: str, runs: Mapping[str, ScoredRun], samples: PageSamples) -> TaskSection:
    of_runs = {run: one.tasks[name] for run, one in runs.items() if name in one.tasks}
    rows = []
    for metric in dict.fromkeys(metric for task in of_runs.values() for metric in task.metrics):
        figures = {run: task.metrics.get(metric) for run, task in of_runs.items()}
        rows.append(_figure_row(metric, "", figures))
        for subset in dict.fromkeys(key for figure in figures.values() if figure for key in figure.subsets):
            parts = {run: figure.subsets.get(subset) if figure else None for run, figure in figures.items()}
            rows.append(_figure_row("", subset, parts))
    cards, total = samples.cards(name)
    return TaskSection(
        name,
        Table(f"figures of {name}", ("figure", "subset", *of_runs), tuple(rows), first_number=2),
        tuple((run, metric, reason) for run, task in of_runs.items() for metric, reason in task.left_out.items()),
        tuple(_failures(run, task) for run, task in of_runs.items() if task.failed),
        tuple(cards),
        total,
    )


def _failures(run: str, task: TaskScores) -> Failures:
    return Failures(run, tuple(task.failed.items())[:_FAILURES], len(task.failed), len(task.samples))


def _figure_row(metric: str, subset: str, figures: Mapping[str, Figure | None]) -> tuple[Cell, ...]:
    known = next((figure for figure in figures.values() if figure), None)
    notes = () if known is None or not metric else tuple(filter(None, (known.title, _by(known.signature))))
    return (Cell(metric, notes), Cell(subset), *(number(figure, parts=True) for figure in figures.values()))


def _by(signature: str) -> str:
    return f"by {signature}" if signature else ""


def _plots(runs: Mapping[str, ScoredRun]) -> list[tuple[str, str, str]]:
    """(title, what it shows, data address) of what can be drawn."""
    drawn = (
        ("Error by task", "headline errors with 95 % intervals, as in the table above", plots.error_by_task(runs)),
        ("Cost against error", "error against cost per audio second", plots.cost_against_error(runs)),
    )
    return [(title, what, address) for title, what, address in drawn if address]


def _streams(runs: Mapping[str, ScoredRun]) -> Table | None:
    """A row per task and run of speech that came in pieces; None where none did."""
    names, found = spoken(runs)
    if not found:
        return None
    title_of = {name: task.measured[name].title for _, _, task in found for name in names if name in task.measured}
    rows = [
        (Cell(name), Cell(run, kind="name"), *(number(task.measured.get(one)) for one in names))
        for name, run, task in found
    ]
    head = ("task", "run", *(title_of[name] for name in names))
    return Table("speech that came in pieces", head, tuple(rows), first_number=2)


def _published(published: PublishedTable, runs: Mapping[str, ScoredRun]) -> list[Table]:
    return [
        Table(
            title,
            tuple(names),
            tuple((Cell(benchmark), *(Cell(one, kind="number") for one in figures)) for benchmark, *figures in lines),
            first_number=1,
        )
        for title, (names, *lines) in published.tables(runs).items()
    ]


def _cost_title(cost: str) -> str:
    return cost if cost == "ActivationSparsity" else f"{cost.replace('_', ' ')} / s"
