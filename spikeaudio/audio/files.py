"""Audio files in and out, as mono float32 samples in [-1, 1]."""

import os
from pathlib import Path
from typing import BinaryIO

import numpy as np
import soundfile
from torch import Tensor

from spikeaudio.audio.samples import check_wav, resample

_BLOCK_FRAMES = 1 << 20  # files are read and mixed down in pieces, so that an hour of stereo never stands in memory


def load_audio(path: str | Path, sampling_rate: int) -> Tensor:
    """Read an audio file that libsndfile knows (wav, flac, ogg, mp3, ...) as mono samples.

    Args:
        path: the file. Several channels are averaged.
        sampling_rate: Hz of the result; the file's own rate is resampled to it.

    Returns:
        (N,) float32 in [-1, 1].

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is not audio, holds no samples, or holds NaN or infinity.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"no such audio file: {path}")
    if not path.is_file():
        raise ValueError(f"expected an audio file, got a folder: {path}")
    if path.stat().st_size == 0:
        raise ValueError(f"{path} is empty: the file has 0 bytes")
    return decode_audio(os.fsencode(path), sampling_rate, str(path))  # a name need not be UTF-8


def decode_audio(source: bytes | BinaryIO, sampling_rate: int, name: str = "audio") -> Tensor:
    """Decode audio as `load_audio` does, from an open file as well.

    Args:
        source: the name of a file as bytes, or an open binary file.
        sampling_rate: Hz of the result.
        name: name for it in an error.

    Returns:
        (N,) float32 in [-1, 1].

    Raises:
        ValueError: it is not audio, holds no samples, or holds NaN or infinity.
    """
    blocks = []
    try:
        with soundfile.SoundFile(source) as file:
            rate = int(file.samplerate)
            # Not `blocks`: it yields the length that a header declares, and memory of before where less was decoded.
            buffer = np.zeros((_BLOCK_FRAMES, file.channels), np.float32)
            while count := file.buffer_read_into(buffer, "float32"):
                blocks.append(buffer[:count].mean(axis=1))
    except soundfile.LibsndfileError as error:
        raise ValueError(f"{name} is not audio that libsndfile can read: {error.error_string}") from error
    wav = np.concatenate(blocks) if blocks else np.zeros(0, np.float32)
    return resample(check_wav(wav, name=name), rate, sampling_rate)


def save_audio(path: str | Path, wav: Tensor, sampling_rate: int) -> None:
    """Write mono samples as 16-bit audio; the format follows the file's extension (.wav, .flac, ...).

    Args:
        path: the file, in an existing folder. An existing file is replaced.
        wav: (N,) float; samples outside [-1, 1] are clipped.
        sampling_rate: Hz of ``wav``.

    Raises:
        FileNotFoundError: if the folder does not exist.
        ValueError: if the extension names no format, or ``wav`` is no (N,) of finite samples.
    """
    path = Path(path)
    check_writable(path)
    samples = check_wav(wav, name="wav").clamp(-1.0, 1.0).numpy()
    try:
        soundfile.write(path, samples, sampling_rate)
    except soundfile.LibsndfileError as error:
        raise ValueError(f"cannot write {path}: {error.error_string}") from error


def check_writable(path: Path) -> None:
    """Refuse a file that `save_audio` could not write, before the work is done.

    Args:
        path: the file.

    Raises:
        FileNotFoundError: its folder does not exist.
        ValueError: its extension names no audio format that needs no other settings.
    """
    known = soundfile.available_formats()
    kind = path.suffix[1:].upper()
    if kind not in known or kind == "RAW":
        raise ValueError(f"cannot tell the audio format of {path}: expected an extension such as .wav, .flac or .mp3")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"cannot write {path}: the folder {path.parent} does not exist")
