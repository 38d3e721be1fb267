"""Samples from rows of `datasets`: from the Hub, from its cache, or from a folder that holds a copy.

Recordings inside a dataset are written to a cache, named by content, as they are: decoding is the model's business.
The cache is $SPIKEAUDIO_EVAL_CACHE, by default ~/.cache/spikeaudio-eval.
"""

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eval.sample import Sample
from eval.task import Job
from eval.tasks.importers import texts
from eval.tasks.manifest import checked


@dataclass(frozen=True)
class Columns:
    """Which column holds what; None: no column does.

    Attributes:
        audio: the recording.
        text: question, or text to say.
        references: one right answer, or a list of them.
        id: None: the row's number.
        choices: list of choices.
        meta: columns whose values are given as meta, lists and objects as JSON.
    """

    audio: str | None = "audio"
    text: str | None = None
    references: str | None = "text"
    id: str | None = None
    choices: str | None = None
    meta: tuple[str, ...] = ()


VOICEBENCH = Columns(references="reference", meta=("prompt",))


def load_rows(source: str | Path, config: str | None, split: str, revision: str | None = None) -> Any:
    """A dataset: of the Hub by its id, of a folder with Parquet files, or of one that `save_to_disk` wrote.

    Args:
        source: id or folder.
        config: config of the Hub's dataset; None: its only one.
        split: split of it.
        revision: revision of the Hub's dataset; None: the newest.

    Raises:
        Exception: whatever `datasets` raises where it finds nothing.
    """
    from datasets import DatasetDict, load_dataset, load_from_disk

    folder = Path(source)
    if (folder / "state.json").is_file() or (folder / "dataset_dict.json").is_file():
        saved = load_from_disk(str(folder))
        return saved[split] if isinstance(saved, DatasetDict) else saved
    if folder.is_dir():
        return load_dataset("parquet", data_files={split: sorted(map(str, folder.rglob("*.parquet")))}, split=split)
    return load_dataset(str(source), config, split=split, revision=revision)


def paired_rows(dataset: Any, answers: Any, key: str, column: str) -> Any:
    """Rows of a dataset, `column` taken from another one's row with the same `key`; rows without such are left out."""
    right = dict(zip(answers[key], answers[column], strict=True))
    kept = [place for place, value in enumerate(dataset[key]) if value in right]
    dataset = dataset.select(kept)
    return dataset.remove_columns(column).add_column(column, [right[value] for value in dataset[key]])


def row_samples(dataset: Any, columns: Columns, job: Job, name: str) -> list[Sample]:
    """Samples of a dataset's rows.

    Args:
        dataset: a `datasets.Dataset`.
        columns: which column holds what.
        job: job that they are for.
        name: name for the dataset in an error.

    Raises:
        ValueError: a column is missing, or a row is no sample for the job, named by number.
    """
    from datasets import Audio

    named = [columns.audio, columns.text, columns.references, columns.id, columns.choices]
    if missing := sorted({column for column in named if column is not None} - set(dataset.column_names)):
        raise ValueError(f"{name} has no columns {missing}; it has {sorted(dataset.column_names)}")
    if columns.audio is not None and isinstance(dataset.features[columns.audio], Audio):
        dataset = dataset.cast_column(columns.audio, Audio(decode=False))
    rows = ((number, _sample(row, number, columns)) for number, row in enumerate(dataset, start=1))
    return checked(Path(name), job, rows)


def _sample(row: dict[str, Any], number: int, columns: Columns) -> Sample:
    def value(column: str | None) -> Any:
        return None if column is None else row[column]

    text = value(columns.text)
    return Sample(
        id=str(number - 1) if columns.id is None else str(row[columns.id]),
        audio=_recording(value(columns.audio)),
        text=None if text is None else str(text),
        references=texts(value(columns.references)),
        choices=texts(value(columns.choices)),
        meta={name: _as_text(row[name]) for name in columns.meta if row.get(name) is not None},
    )


def _as_text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, list | dict) else str(value)


def _recording(value: Any) -> str | None:
    """Path of a recording: as given, or of the cached bytes."""
    if value is None or isinstance(value, str):
        return value
    if value.get("bytes") is None:
        return str(value["path"])
    content: bytes = value["bytes"]
    folder = Path(os.environ.get("SPIKEAUDIO_EVAL_CACHE", "~/.cache/spikeaudio-eval")).expanduser()
    path = folder / f"{hashlib.sha256(content).hexdigest()}{Path(value.get('path') or 'x.wav').suffix}"
    if not path.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(f".{os.getpid()}")
        part.write_bytes(content)
        part.replace(path)
    return str(path.absolute())
