"""Reading a run folder (`eval.run_folder`): every sample with its prediction, or with none."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eval.case import Case
from eval.judgements import Judgements
from eval.run_folder import FORMAT
from eval.sample import Prediction, Sample
from eval.task import Job


@dataclass(frozen=True)
class TaskCases:
    """One task of a run.

    Attributes:
        job: what the model did.
        metrics: names of the figures it is to be given, the headline first.
        language: of its texts.
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
        record: of `record.json`.
        tasks: by name, in the order of `samples.jsonl`.
        judgements: of this run.
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

        Predictions of one key are one prediction; of these, one with an answer counts before one without.

        Raises:
            FileNotFoundError: the folder is no run folder.
            ValueError: the folder is of another format, a line is broken (named by file and number), a sample is
                listed twice, or predictions of one sample differ in their key.
        """
        for name in ("record.json", "samples.jsonl"):
            if not (path / name).is_file():
                raise FileNotFoundError(f"{path} is no run folder: it holds no {name} (python -m eval run writes one)")
        record = json.loads((path / "record.json").read_text(encoding="utf-8"))
        if record.get("format") != FORMAT:
            raise ValueError(f"{path} has format {record.get('format')!r}, this version reads {FORMAT}: run it again")
        predictions = _predictions(path)
        judgements = Judgements(path / "judgements.jsonl")
        tasks: dict[str, TaskCases] = {}
        seen: set[tuple[str, str]] = set()
        for where, row in _rows(path / "samples.jsonl", whole=True):
            name, sample = row["task"], Sample.from_dict(row["sample"])
            if (name, sample.id) in seen:
                raise ValueError(f"{where}: sample {sample.id!r} of task {name!r} is listed twice")
            seen.add((name, sample.id))
            old = tasks.get(name)
            case = Case(row["job"], row["language"], sample, predictions.get((name, sample.id)), path, judgements)
            cases = (*old.cases, case) if old else (case,)
            tasks[name] = TaskCases(row["job"], tuple(row["metrics"]), row["language"], cases)
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


def _predictions(run: Path) -> dict[tuple[str, str], Prediction]:
    found: dict[tuple[str, str], Prediction] = {}
    for path in sorted(run.glob("predictions-*.jsonl")):
        for where, row in _rows(path, whole=False):
            new = Prediction.from_dict(row)
            old = found.get((new.task, new.id))
            if old is not None and old.key != new.key:
                raise ValueError(f"{where}: sample {new.id!r} of task {new.task!r} was also answered under another key")
            if old is None or old.error is not None:
                found[new.task, new.id] = new
    return found


def _rows(path: Path, whole: bool) -> Iterator[tuple[str, dict[str, Any]]]:
    """(where, object) per line; where the file need not be whole, a last line without its end is left out."""
    lines = path.read_text(encoding="utf-8").split("\n")
    last = lines.pop()
    if whole and last.strip():
        lines.append(last)
    for number, line in enumerate(lines, 1):
        where = f"{path}, line {number}"
        try:
            row = json.loads(line)
        except ValueError as error:
            raise ValueError(f"{where} is no JSON: {line[:60]!r}") from error
        if not isinstance(row, dict):
            raise ValueError(f"{where} is no JSON object: {line[:60]!r}")
        yield where, row
