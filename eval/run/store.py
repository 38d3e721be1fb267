"""The store of a run: predictions, one line each, appended and never changed; speech in files named by content.

A line is on the disk before the next sample is begun, and its recording before the line. A process that is killed
leaves at most one broken line, the last; whoever appends next cuts it off. Every process of a run has its own file.
"""

import fcntl
import hashlib
import io
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np
import soundfile
from numpy.typing import NDArray

from eval.run.run_folder import FORMAT
from eval.sample import Prediction

_VOLATILE = ("measured", "pieces")


class PredictionStore:
    """What a run has answered so far, and the one process that appends to one of its files.

        with PredictionStore(run, rank) as store:
            store.append(prediction)

    Args:
        run: the run folder.
        rank: rank of this process; its file is ``predictions-RANK.jsonl``.

    Raises:
        ValueError: the folder was written by another version, or a line of it is broken.
        BlockingIOError: another process appends to this file.
    """

    def __init__(self, run: Path, rank: int = 0) -> None:
        check_format(run)
        self.run = run
        self.done = read_predictions(run)
        self._file = _open_alone(run / f"predictions-{rank}.jsonl")
        _cut_broken_line(self._file)

    def __enter__(self) -> "PredictionStore":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def append(self, prediction: Prediction) -> None:
        """Store an answer for good.

        Raises:
            OSError: it cannot be written, for one if the disk is full; the file is as it was before.
        """
        line = json.dumps(prediction.to_dict(), ensure_ascii=False, allow_nan=False).encode() + b"\n"
        before = self._file.seek(0, os.SEEK_END)
        try:
            _write_through(self._file, line)
        except OSError as error:
            self._file.truncate(before)
            raise self._refused(error) from error
        self.done[prediction.task, prediction.id] = prediction

    def save_speech(self, wav: NDArray[np.float32], sampling_rate: int) -> str:
        """Write what was said as 16-bit FLAC, unless it is there.

        Args:
            wav: (N,) finite floats; outside [-1, 1] they are clipped.
            sampling_rate: Hz.

        Returns:
            Its path, seen from the run folder.

        Raises:
            OSError: it cannot be written; no part of it is left.
        """
        pcm = (np.clip(wav, -1, 1) * 32767).round().astype("<i2")
        name = hashlib.sha256(sampling_rate.to_bytes(4, "little") + pcm.tobytes()).hexdigest()
        path = self.run / "audio" / f"{name}.flac"
        if not path.is_file():
            flac = io.BytesIO()
            soundfile.write(flac, pcm, sampling_rate, format="FLAC", subtype="PCM_16")
            try:
                write_whole(path, flac.getvalue())
            except OSError as error:
                raise self._refused(error) from error
        return path.relative_to(self.run).as_posix()

    def _refused(self, error: OSError) -> OSError:
        return OSError(
            f"cannot write to {self.run} ({error.strerror or error}); {len(self.done)} answers are safe: make room and "
            "give the same command again"
        )


def read_predictions(run: Path) -> dict[tuple[str, str], Prediction]:
    """Every stored answer by (task, id), over the files of all processes.

    Raises:
        ValueError: a line is broken (a last line that was cut short is left out), or two answers to one sample differ.
    """
    found: dict[tuple[str, str], Prediction] = {}
    for path in sorted(run.glob("predictions-*.jsonl")):
        for number, line in _whole_lines(path):
            try:
                prediction = Prediction.from_dict(json.loads(line))
            except (json.JSONDecodeError, TypeError) as error:
                raise ValueError(f"{path}, line {number} is not a prediction: {error}") from error
            other = found.setdefault((prediction.task, prediction.id), prediction)
            if _lasting(other) != _lasting(prediction):
                raise ValueError(
                    f"{path}, line {number}: another answer to {prediction.task} {prediction.id!r} is stored already"
                )
    return found


def check_format(run: Path) -> None:
    """Refuse a run folder of another version.

    Raises:
        FileNotFoundError: it has no record.
        ValueError: the record is broken, or of another format.
    """
    path = run / "record.json"
    if not path.is_file():
        raise FileNotFoundError(f"{run} is not a run: it has no record.json")
    try:
        found = json.loads(path.read_text(encoding="utf-8")).get("format")
    except (json.JSONDecodeError, AttributeError) as error:
        raise ValueError(f"{path} is no record of a run: {error}") from error
    if found != FORMAT:
        raise ValueError(f"{run} was written in format {found}, this version reads format {FORMAT}: take another --out")


def write_whole(path: Path, content: bytes) -> None:
    """Write a file in one step: whoever looks finds all of it or the one before.

    Raises:
        OSError: it cannot be written; nothing of it is left.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with open(part, "wb", buffering=0) as file:
            _write_through(file, content)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _open_alone(path: Path) -> Any:
    file = open(path, "a+b", buffering=0)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        file.close()
        raise BlockingIOError(f"another process is writing {path}: wait for it, or take another --out") from error
    return file


def _write_through(file: Any, content: bytes) -> None:
    rest = memoryview(content)
    while rest:
        rest = rest[file.write(rest) :]
    os.fsync(file.fileno())


def _cut_broken_line(file: IO[bytes]) -> None:
    file.seek(0)
    content = file.read()
    file.truncate(content.rfind(b"\n") + 1)


def _whole_lines(path: Path) -> Iterator[tuple[int, str]]:
    content = path.read_bytes()
    for number, line in enumerate(content[: content.rfind(b"\n") + 1].splitlines(), start=1):
        yield number, line.decode("utf-8", errors="replace")


def _lasting(prediction: Prediction) -> dict[str, Any]:
    row = prediction.to_dict()
    for name in _VOLATILE:
        del row[name]
    return row
