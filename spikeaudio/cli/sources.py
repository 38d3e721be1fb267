"""Recordings that a command is given: files, folders of files, standard input."""

import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from torch import Tensor

SUFFIXES = ("wav", "flac", "mp3", "ogg", "opus", "aiff", "aif", "au", "caf", "w64", "m4a", "aac", "mp4", "webm", "wma")
FORMATS = "wav, flac, mp3, ogg, opus; with ffmpeg also m4a, aac, webm"
HEARING_HZ = 16000
STANDARD = "-"


class Source(NamedTuple):
    """A recording and its name in what is printed."""

    name: str
    path: Path

    def samples(self) -> "Tensor":
        """Samples (N,) float32 at 16 kHz.

        Raises:
            FileNotFoundError: no such file.
            ValueError: not audio, no samples, NaN or infinity.
        """
        from spikeaudio.audio.files import load_audio

        return load_audio(self.path, HEARING_HZ)


@contextmanager
def sources(names: Sequence[str]) -> Iterator[list[Source]]:
    """Recordings by the names that were given, in their order.

    Args:
        names: files, folders (their recordings, sorted), or "-" for standard input.

    Raises:
        ValueError: a folder holds no recordings, or standard input is empty.
    """
    found: list[Source] = []
    with tempfile.TemporaryDirectory(prefix="spikeaudio-") as folder:
        for name in names:
            if name == STANDARD:
                found.append(Source(STANDARD, _from_standard_input(Path(folder))))
            elif Path(name).is_dir():
                found += _inside(Path(name))
            else:
                found.append(Source(name, Path(name)))
        yield found


def _inside(folder: Path) -> list[Source]:
    files = sorted(path for path in folder.rglob("*") if path.suffix[1:].lower() in SUFFIXES and path.is_file())
    if not files:
        raise ValueError(f"{folder} holds no recordings: expected files such as {', '.join(SUFFIXES[:4])}")
    return [Source(str(path), path) for path in files]


def _from_standard_input(folder: Path) -> Path:
    """Standard input as a file: decoders look for the end of a recording before its beginning."""
    data = sys.stdin.buffer.read()
    if not data:
        raise ValueError("standard input is empty: expected a recording")
    path = folder / "stdin"
    path.write_bytes(data)
    return path
