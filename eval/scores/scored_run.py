"""What `scores.json` holds: figures of every task of one run, and which samples failed why."""

import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from eval.scores.figure import Figure

FORMAT = 2  # of scores.json; 1 had other names of figures and did not say by which rules texts were compared


@dataclass(frozen=True)
class TaskScores:
    """One task.

    Attributes:
        job: job that the model did.
        language: language of its texts.
        samples: those that were to be answered: digest of question and right answers by id.
        failed: why there is no answer, by sample id.
        metrics: figures by name, the headline first.
        measured: figures of time, which differ from run to run.
        costs: counted operations per second of audio.
        left_out: metrics that could not be computed here, and why.
    """

    job: str
    language: str
    samples: dict[str, str]
    failed: dict[str, str]
    metrics: dict[str, Figure]
    measured: dict[str, Figure]
    costs: dict[str, Figure]
    left_out: dict[str, str]


@dataclass(frozen=True)
class ScoredRun:
    """One run.

    Attributes:
        record: record of the run, `record.json`.
        judge: name, version and prompt of the judge of free answers.
        tasks: by name.
        strays: predictions of samples that the run does not list.
    """

    record: dict[str, Any]
    judge: str
    tasks: dict[str, TaskScores]
    strays: int

    @classmethod
    def read(cls, run: Path) -> "ScoredRun":
        """The scores of a run folder.

        Raises:
            FileNotFoundError: it was not scored yet.
            ValueError: the scores are of another format.
        """
        path = run / "scores.json"
        if not path.is_file():
            raise FileNotFoundError(f"{run} has no scores yet: python -m eval score {run}")
        row = json.loads(path.read_text(encoding="utf-8"))
        if row.get("format") != FORMAT:
            raise ValueError(f"{path} has format {row.get('format')!r}, this version reads {FORMAT}: score it again")
        tasks = {name: _task(task) for name, task in row["tasks"].items()}
        return cls(row["record"], row["judge"], tasks, row["strays"])

    def write(self, run: Path) -> None:
        """Write ``scores.json`` of a run folder, whole or not at all."""
        path = run / "scores.json"
        partial = path.with_suffix(".json.partial")
        partial.write_text(json.dumps({"format": FORMAT} | asdict(self), indent=1, allow_nan=False) + "\n", "utf-8")
        os.replace(partial, path)

    def figures(self) -> Iterator[tuple[str, str, Figure]]:
        """(task, metric, figure) of every metric."""
        for name, task in self.tasks.items():
            for metric, figure in task.metrics.items():
                yield name, metric, figure


def is_current(run: Path) -> bool:
    """Whether a run folder has scores of this version's format."""
    path = run / "scores.json"
    return path.is_file() and json.loads(path.read_text(encoding="utf-8")).get("format") == FORMAT


def _task(row: dict[str, Any]) -> TaskScores:
    figures = {
        kind: {name: Figure.from_dict(figure) for name, figure in row[kind].items()}
        for kind in ("metrics", "measured", "costs")
    }
    return TaskScores(**row | figures)
