"""One static HTML page about scored runs: no other file, no script, nothing fetched."""

import html
import json
from collections.abc import Iterable, Mapping
from pathlib import Path

from eval.pages import plots
from eval.pages.page_samples import PageSamples
from eval.pages.published_table import PublishedTable
from eval.run.finished_run import FinishedRun
from eval.scores.figure import Figure, written_interval, written_value
from eval.scores.scored_run import ScoredRun, TaskScores
from eval.scores.table import counted, spoken

_STYLE = Path(__file__).parent / "data" / "page.css"
_FAILURES = 20  # named per task and run


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
    sections = [_task(task, scores, samples) for task in tasks]
    links = "".join(f'<a href="#{_anchor(task)}">{_text(task)}</a>' for task in tasks)
    title = f"Evaluation of {', '.join(runs)}"
    body = [
        f"<h1>{_text(title)}</h1>",
        '<p class="soft">Figures with 95 % intervals over samples. A failed or missing answer counts as the worst '
        "answer and stays in every denominator.</p>",
        f'<nav aria-label="tasks">{links}<a href="#record">record</a></nav>',
        "<h2>Results</h2>",
        _headline(tasks, scores),
        _plots(scores),
        _streams(scores),
        *([_published(published, scores)] if published else []),
        *sections,
        f'<p class="soft">{samples.shown} recordings are on this page, as MP3; {samples.left_out} more found no room. '
        "All are in the run folders.</p>",
        _record(runs),
    ]
    head = (
        '<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{_text(title)}</title><style>{_STYLE.read_text(encoding='utf-8')}</style>"
    )
    return f'<!doctype html><html lang="en"><head>{head}</head><body><main>{"".join(body)}</main></body></html>\n'


def _headline(tasks: Iterable[str], runs: Mapping[str, ScoredRun]) -> str:
    """A row per task and run: the headline figure, time, and what was counted beside it."""
    costs = counted(runs)
    names = ["task", "run", "figure", "value", "failed", "first audio", "real-time factor", *map(_title, costs)]
    rows = []
    for name in tasks:
        for run, scores in runs.items():
            task = scores.tasks.get(name)
            if task is None:
                continue
            metric, figure = next(iter(task.metrics.items()), ("-", None))
            effort = [task.measured.get("first_audio_seconds"), task.measured.get("real_time_factor")]
            effort += [task.costs.get(cost) for cost in costs]
            numbers = [_value(figure), _failures(task), *map(_plain, effort)]
            labels = [f'<th scope="row">{_text(name)}</th>', _cell(_text(run), "name"), _cell(_text(metric))]
            rows.append(labels + [_cell(number, "number") for number in numbers])
    return _table(names, rows, "headline figures", first_number=3)


def _task(name: str, runs: Mapping[str, ScoredRun], samples: PageSamples) -> str:
    metrics = dict.fromkeys(metric for one in runs.values() if name in one.tasks for metric in one.tasks[name].metrics)
    rows = []
    for metric in metrics:
        figures = {run: one.tasks[name].metrics.get(metric) for run, one in runs.items() if name in one.tasks}
        rows.append(_figure_row(metric, "", figures))
        subsets = dict.fromkeys(key for figure in figures.values() if figure for key in figure.subsets)
        for subset in subsets:
            parts = {run: figure.subsets.get(subset) if figure else None for run, figure in figures.items()}
            rows.append(_figure_row("", subset, parts))
    shown = [run for run, one in runs.items() if name in one.tasks]
    cards, count, total = samples.cards(name)
    left_out = "".join(
        f'<p class="soft">{_text(run)}: no {_text(metric)}: {_text(reason)}</p>'
        for run in shown
        for metric, reason in runs[run].tasks[name].left_out.items()
    )
    failures = "".join(_failure_list(run, runs[run].tasks[name]) for run in shown)
    return (
        f'<section id="{_anchor(name)}"><h2>{_text(name)}</h2>'
        f"{_table(['figure', 'subset', *shown], rows, f'figures of {name}', first_number=2)}{left_out}{failures}"
        f'<h3>Samples</h3><p class="soft">{count} of {total}.</p>{cards}</section>'
    )


def _figure_row(metric: str, subset: str, figures: Mapping[str, Figure | None]) -> list[str]:
    title = next((figure.title for figure in figures.values() if figure), "")
    label = f"{_text(metric)}<small>{_text(title)}</small>" if metric else ""
    return [f'<th scope="row">{label}</th>', _cell(_text(subset))] + [
        _cell(_value(figure, parts=True), "number") for figure in figures.values()
    ]


def _value(figure: Figure | None, parts: bool = False) -> str:
    if figure is None:
        return "-"
    failed = f", {figure.failed} failed" if figure.failed else ""
    lines = [_text(written_interval(figure)), f"n = {figure.n}{failed}"]
    if parts:
        if figure.numerator and set(figure.parts) == {"substitutions", "deletions", "insertions"}:
            lines.append("S {substitutions:.0f} / D {deletions:.0f} / I {insertions:.0f}".format(**figure.parts))
        if figure.parts.get("unusable"):
            lines.append(f"{figure.parts['unusable']:.0f} unusable replies")
        if abs(figure.macro - figure.value) > 1e-9:
            lines.append(f"macro {_text(written_value(figure, figure.macro))}")
    return f"{_text(written_value(figure))}" + "".join(f"<small>{one}</small>" for one in lines)


def _plain(figure: Figure | None) -> str:
    return "-" if figure is None else _text(written_value(figure))


def _failures(task: TaskScores) -> str:
    return f'<span class="failed">{len(task.failed)}</span>' if task.failed else "0"


def _failure_list(run: str, task: TaskScores) -> str:
    if not task.failed:
        return ""
    items = [f"<li>{_text(key)}: {_text(reason)}</li>" for key, reason in list(task.failed.items())[:_FAILURES]]
    more = f"<li>and {len(task.failed) - _FAILURES} more</li>" if len(task.failed) > _FAILURES else ""
    summary = f"{_text(run)}: {len(task.failed)} of {len(task.samples)} samples failed"
    return f'<details><summary class="failed">{summary}</summary><ul>{"".join(items)}{more}</ul></details>'


def _plots(runs: Mapping[str, ScoredRun]) -> str:
    drawn = (
        ("Error by task", "headline errors with 95 % intervals, as in the table above", plots.error_by_task(runs)),
        ("Cost against error", "error against cost per audio second", plots.cost_against_error(runs)),
    )
    parts = []
    for title, what, address in drawn:
        if address:
            parts.append(f'<h3>{title}</h3><img class="plot" alt="Plot: {what}" src="{address}">')
    return "".join(parts)


def _streams(runs: Mapping[str, ScoredRun]) -> str:
    """A row per task and run of speech that came in pieces; "" where none did."""
    names, found = spoken(runs)
    if not found:
        return ""
    title_of = {name: task.measured[name].title for _, _, task in found for name in names if name in task.measured}
    rows = [
        [f'<th scope="row">{_text(name)}</th>', _cell(_text(run), "name")]
        + [_cell(_value(task.measured.get(one)), "number") for one in names]
        for name, run, task in found
    ]
    head = ["task", "run", *(title_of[name] for name in names)]
    return (
        '<h2 id="streams">Speech that came in pieces</h2><p class="soft">A simulated player begins with the first '
        "piece and stalls where the next one is late. Seams: streamed speech against the same codes made sound at "
        "once, near the joins and elsewhere; spectral flux at joins is 0 dB on average where there are no seams.</p>"
        + _table(head, rows, "speech that came in pieces", first_number=2)
    )


def _published(published: PublishedTable, runs: Mapping[str, ScoredRun]) -> str:
    parts = [
        f"<h2>Beside {_text(published.title)}</h2>",
        f'<p class="soft">{_text(published.source)}</p><p class="soft">{_text(published.note)}</p>',
    ]
    for title, (names, *lines) in published.tables(runs).items():
        rows = [
            [f'<th scope="row">{_text(benchmark)}</th>', *(_cell(_text(figure), "number") for figure in figures)]
            for benchmark, *figures in lines
        ]
        parts.append(f"<h3>{_text(title)}</h3>{_table(names, rows, title, first_number=1)}")
    return "".join(parts)


def _record(runs: Mapping[str, tuple[FinishedRun, ScoredRun]]) -> str:
    records = "".join(
        f"<details><summary>{_text(name)} (judge: {_text(scores.judge)})</summary>"
        f"<pre>{_text(json.dumps(run.record, indent=1, ensure_ascii=False))}</pre></details>"
        for name, (run, scores) in runs.items()
    )
    return f'<section id="record"><h2>Record</h2>{records}</section>'


def _table(names: list[str], rows: list[list[str]], label: str, first_number: int) -> str:
    head = "".join(
        f'<th scope="col" class="{"number" if place >= first_number else "label"}">{_text(name)}</th>'
        for place, name in enumerate(names)
    )
    body = "".join(f"<tr>{''.join(row)}</tr>" for row in rows)
    return (
        f'<div class="wide" role="region" tabindex="0" aria-label="{_text(label)}">'
        f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _title(cost: str) -> str:
    return cost if cost == "ActivationSparsity" else f"{cost.replace('_', ' ')} / s"


def _cell(content: str, kind: str = "") -> str:
    return f'<td class="{kind}">{content}</td>' if kind else f"<td>{content}</td>"


def _anchor(task: str) -> str:
    return "task-" + html.escape(task.replace(" ", "-"), quote=True)


def _text(text: str) -> str:
    return html.escape(text, quote=True)
