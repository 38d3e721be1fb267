"""Figures that others have published, beside ours. One JSON file each in `eval/published`, with its source."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from eval.scores.figure import Figure, written_interval, written_value
from eval.scores.scored_run import ScoredRun
from eval.scores.table import line

FOLDER = Path(__file__).resolve().parent.parent / "published"


@dataclass(frozen=True)
class PublishedRow:
    """One benchmark.

    Attributes:
        table: the table that it stands in; says the unit.
        task: our task, or "task:subset".
        metric: ours.
        title: theirs.
        values: as printed, by model.
    """

    table: str
    task: str
    metric: str
    title: str
    values: dict[str, float]


@dataclass(frozen=True)
class PublishedTable:
    """A report's figures.

    Attributes:
        title: whose.
        source: citation.
        note: conditions that must be known to compare.
        rows: in the report's order.
    """

    title: str
    source: str
    note: str
    rows: tuple[PublishedRow, ...]

    @classmethod
    def load(cls, name: str) -> "PublishedTable":
        """The table of that name, such as "kimi-audio".

        Raises:
            ValueError: there is none; the message lists all.
        """
        found = {path.stem.replace("_", "-"): path for path in sorted(FOLDER.glob("*.json"))}
        if name not in found:
            raise ValueError(f"no published table {name!r}; there are {', '.join(found)}")
        content = json.loads(found[name].read_text(encoding="utf-8"))
        rows = tuple(PublishedRow(**row) for row in content["rows"])
        return cls(content["title"], content["source"], content["note"], rows)

    def tables(self, runs: Mapping[str, ScoredRun]) -> dict[str, list[list[str]]]:
        """Cells by table: a row of names (benchmark, ours, theirs), then one per benchmark; "-" where there is none."""
        out: dict[str, list[list[str]]] = {}
        for title in dict.fromkeys(row.table for row in self.rows):
            rows = [row for row in self.rows if row.table == title]
            models = list(dict.fromkeys(model for row in rows for model in row.values))
            out[title] = [["benchmark", *(f"{run} (ours)" for run in runs), *models]]
            for row in rows:
                ours = [_ours(scores, row) for scores in runs.values()]
                theirs = [f"{row.values[model]:.2f}" if model in row.values else "-" for model in models]
                out[title].append([row.title, *ours, *theirs])
        return out

    def markdown(self, runs: Mapping[str, ScoredRun]) -> str:
        """All tables, with source and note."""
        parts = [f"Published figures: {self.source}", self.note]
        for title, (names, *rows) in self.tables(runs).items():
            body = [line(names), line(["---"] * len(names)), *(line(row) for row in rows)]
            parts.append(f"**{title}**\n\n" + "\n".join(body))
        return "\n\n".join(parts) + "\n"


def _ours(scores: ScoredRun, row: PublishedRow) -> str:
    name, _, subset = row.task.partition(":")
    task = scores.tasks.get(name)
    figure: Figure | None = task.metrics.get(row.metric) if task else None
    if figure is not None and subset:
        figure = figure.subsets.get(subset)
    return "-" if figure is None else f"{written_value(figure)} ({written_interval(figure)})"
