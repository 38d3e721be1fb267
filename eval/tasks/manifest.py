"""Manifests: samples as JSON Lines, one `Sample.to_dict` per line, recordings seen from the manifest's folder.

    {"id": "a", "audio": "audio/a.flac", "references": ["two plus two"]}

Only `id` has to be there. What is wrong with a line is said with its number, before any model is loaded.
"""

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from eval.digest import digest, file_digest
from eval.sample import FILES, Sample
from eval.task import Job

_TEXTS = ("references", "choices")


def read_samples(path: Path, job: Job) -> list[Sample]:
    """Samples of a manifest, recordings as `locate` gives them.

    Args:
        path: the manifest.
        job: job of the samples: decides what a sample must have. An ASR reference may be "" (nothing is said), but it
            has to be written down.

    Raises:
        FileNotFoundError: there is no such manifest.
        ValueError: a line is broken, lacks something, names a recording that is missing or an id that was there; or
            there is no line at all.
    """
    return checked(path, job, ((number, _sample(row)) for number, row in json_lines(path)))


def write_samples(path: Path, samples: Iterable[Sample]) -> None:
    """Write a manifest next to, or above, the recordings that its samples name.

    Raises:
        OSError: it cannot be written.
    """
    folder = path.parent
    with open(path, "w", encoding="utf-8") as file:
        for sample in samples:
            row = sample.to_dict()
            for names, name in ((row, "audio"), *((row["meta"], name) for name in FILES)):
                if names.get(name) is not None:
                    names[name] = Path(os.path.relpath(names[name], folder)).as_posix()
            file.write(json.dumps(row, ensure_ascii=False) + "\n")


def checksum(samples: Sequence[Sample]) -> str:
    """Hex digest over samples and the bytes of their recordings; where the recordings lie does not matter.

    Raises:
        OSError: a recording cannot be read.
    """
    rows = []
    for sample in samples:
        row = sample.to_dict()
        for names, name in ((row, "audio"), *((row["meta"], name) for name in FILES)):
            if names.get(name) is not None:
                names[name] = file_digest(names[name])
        rows.append(row)
    return digest(rows)


def json_lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """(line number, object) of every line that is not blank.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a line is not a JSON object, named by number.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no such file: {path}")
    with open(path, encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except json.JSONDecodeError as error:
                raise ValueError(f"{path}, line {number}: broken JSON ({error.msg}, column {error.colno})") from error
            if not isinstance(row, dict):
                raise ValueError(f"{path}, line {number}: expected a JSON object, got {type(row).__name__}")
            yield number, row


def checked(path: Path, job: Job, rows: Iterable[tuple[int, Sample | ValueError]]) -> list[Sample]:
    """Samples that the job can be done on, recordings located from the folder of `path`.

    Args:
        path: where the samples are from, for messages and as the recordings' origin.
        job: decides what a sample must have.
        rows: (line number, sample, or what is wrong with the line).

    Raises:
        ValueError: as `read_samples`.
    """
    samples: list[Sample] = []
    lines: dict[str, int] = {}
    for number, sample in rows:
        where = f"{path}, line {number}"
        if isinstance(sample, ValueError):
            raise ValueError(f"{where}: {sample}") from sample
        if sample.id in lines:
            raise ValueError(f"{where}: id {sample.id!r} was on line {lines[sample.id]}; ids must be unique")
        lines[sample.id] = number
        if (lacking := _lacking(sample, job)) is not None:
            raise ValueError(f"{where}: sample {sample.id!r} {lacking}")
        samples.append(located(sample, path.parent, where))
    if not samples:
        raise ValueError(f"{path} holds no samples")
    return samples


def located(sample: Sample, folder: Path, where: str) -> Sample:
    """The sample with its recordings seen from here: relative where they lie below the working folder.

    Raises:
        ValueError: a recording, or another file that it names, is missing.
    """

    def found(name: str) -> str:
        path = folder / name
        if not path.is_file():
            raise ValueError(f"{where}: sample {sample.id!r} names a file that is missing: {path}")
        return seen_from_here(path)

    audio = None if sample.audio is None else found(sample.audio)
    meta = sample.meta | {name: found(sample.meta[name]) for name in FILES if name in sample.meta}
    return replace(sample, audio=audio, meta=meta)


def seen_from_here(path: Path) -> str:
    """`path`, relative to the working folder if it lies below it: no run names the machine it was made on."""
    absolute, here = Path(os.path.abspath(path)), Path.cwd()
    return absolute.relative_to(here).as_posix() if absolute.is_relative_to(here) else str(path)


def _sample(row: dict[str, Any]) -> Sample | ValueError:
    """A row as a sample, or what is wrong with it."""
    known = Sample.__dataclass_fields__
    if unknown := sorted(set(row) - set(known)):
        return ValueError(f"unknown keys {unknown}; there are {sorted(known)}")
    if not isinstance(row.get("id"), str) or not row["id"]:
        return ValueError(f"expected a text as id, got {row.get('id')!r}")
    for name in ("audio", "text"):
        if not isinstance(row.get(name), str | None):
            return ValueError(f"expected a text or null as {name}, got {row[name]!r}")
    for name in _TEXTS:
        if not isinstance(row.get(name, []), list) or not all(isinstance(text, str) for text in row.get(name, [])):
            return ValueError(f"expected a list of texts as {name}, got {row[name]!r}")
    meta = row.get("meta", {})
    if not isinstance(meta, dict) or not all(isinstance(value, str) for value in meta.values()):
        return ValueError(f"expected an object of texts as meta, got {meta!r}")
    return Sample.from_dict({"references": [], "choices": []} | row)


def _lacking(sample: Sample, job: Job) -> str | None:
    """What the sample lacks for the job."""
    written = bool((sample.text or "").strip())
    if job.hears and sample.audio is None and not (job.reads and written):
        return f"has no recording, which {job} needs"
    if job.reads and not job.hears and not written:
        return f"has no text to say, which {job} needs"
    if job.needs_reference and not sample.references:
        return f"has no reference, which {job} needs"
    if not job.may_be_empty and any(not reference.strip() for reference in sample.references):
        return f"has an empty reference, which {job} cannot be scored against"
    return None
