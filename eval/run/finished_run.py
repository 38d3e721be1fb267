"""Reading a run folder (`eval.run.run_folder`): every sample with its prediction, or with none."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eval.judges.judgements import Judgements
from eval.metrics.case import Case
from eval.run.store import check_format, read_predictions
from eval.sample import Sample
from eval.task import Job, job_named
from eval.tasks.manifest import json_lines


@dataclass(frozen=True)
class TaskCases:
    """One task of a run.

    Attributes:
        job: job that the model did.
        metrics: names of the figures it is to be given, the headline first.
        language: language of its texts.
        cases: one for every sample that was to be answered.
    """

    job: Job
    metrics: tuple[str, ...]
    language: str
    cases: tuple[Case, ...]


@dataclass(frozen=True)
class FinishedRun:
    """A run folder as read.

    Attributes:
        path: the folder.
        record: record of `record.json`.
        tasks: by name, in the order of `samples.jsonl`.
        judgements: judgements of this run.
        strays: predictions of samples that the run does not list; they are in no figure.
    """

    path: Path
    record: dict[str, Any]
    tasks: dict[str, TaskCases]
    judgements: Judgements
    strays: int

    @classmethod
    def load(cls, path: Path) -> "FinishedRun":
        """Read a run folder.

        Raises:
            FileNotFoundError: the folder is no run folder.
            ValueError: the folder is of another format, a line is broken (named by file and number), a sample is
                listed twice, or has two answers.
        """
        check_format(path)
        if not (path / "samples.jsonl").is_file():
            raise FileNotFoundError(f"{path} is no whole run: it holds no samples.jsonl (python -m eval run writes it)")
        record = json.loads((path / "record.json").read_text(encoding="utf-8"))
        predictions = read_predictions(path)
        judgements = Judgements(path / "judgements.jsonl")
        tasks: dict[str, TaskCases] = {}
        seen: set[tuple[str, str]] = set()
        for number, row in json_lines(path / "samples.jsonl"):
            name, sample = row["task"], Sample.from_dict(row["sample"])
            if (name, sample.id) in seen:
                raise ValueError(f"{path / 'samples.jsonl'}, line {number}: {name} {sample.id!r} is listed twice")
            seen.add((name, sample.id))
            old = tasks.get(name)
            job = job_named(row["job"])
            case = Case(job, row["language"], sample, predictions.get((name, sample.id)), path, judgements)
            cases = (*old.cases, case) if old else (case,)
            tasks[name] = TaskCases(job, tuple(row["metrics"]), row["language"], cases)
        if not tasks:
            raise ValueError(f"{path / 'samples.jsonl'} lists no sample")
        return cls(path, record, tasks, judgements, len(predictions.keys() - seen))


def newest_run(folder: Path) -> Path:
    """The latest run folder under `folder`, by the time of its record.

    Raises:
        FileNotFoundError: there is none.
    """
    return _newest_first(folder)[0]


def newest_of_every_model(folder: Path) -> list[Path]:
    """The latest run folder under `folder` and those of other models over the same tasks, one each, the latest last.

    Raises:
        FileNotFoundError: there is none.
    """
    found: dict[str, Path] = {}
    suite = None
    for run in _newest_first(folder):
        record = json.loads((run / "record.json").read_text(encoding="utf-8"))
        suite = suite or (record.get("suite"), sorted(record.get("tasks") or ()))
        if suite == (record.get("suite"), sorted(record.get("tasks") or ())):
            found.setdefault(json.dumps(record.get("model")), run)
    return list(found.values())[::-1]


def _newest_first(folder: Path) -> list[Path]:
    found = sorted(folder.glob("*/record.json"), key=lambda record: record.stat().st_mtime_ns, reverse=True)
    if not found:
        raise FileNotFoundError(f"no run under {folder}: python -m eval run writes one")
    return [record.parent for record in found]
