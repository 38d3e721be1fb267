"""Audio files in and out, as mono float32 samples in [-1, 1]."""

import errno
import io
import logging
import os
from pathlib import Path
from typing import BinaryIO

import soundfile
from torch import Tensor

from spikeaudio.audio.ffmpeg import ffmpeg_decode, ffmpeg_installed
from spikeaudio.audio.samples import check_wav, resample
from spikeaudio.audio.sound import Sound, read_sound

logger = logging.getLogger(__name__)

_WRITTEN_SAMPLES = 1 << 16  # at once: libsndfile's Vorbis encoder crashes on some minutes in one piece
_MORE_SECONDS = 0.2  # decoders differ by the silence that an encoder adds


def load_audio(path: str | Path, sampling_rate: int) -> Tensor:
    """Read an audio file as mono samples.

    libsndfile reads it (wav, flac, ogg, opus, mp3, ...), else ffmpeg where it is installed (m4a, aac, webm, ...). A
    warning tells of a file that ends before its header says.

    >>> load_audio("spikeaudio/samples/question.wav", 16000).shape
    torch.Size([35200])

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
    if path.is_dir():
        raise ValueError(f"expected an audio file, got a folder: {path}")
    with path.open("rb") as file:
        return decode_audio(file, sampling_rate, str(path))


def decode_audio(source: BinaryIO, sampling_rate: int, name: str = "audio") -> Tensor:
    """Decode audio as `load_audio` does, from an open file.

    Args:
        source: an open binary file, which need not be able to seek.
        sampling_rate: Hz of the result.
        name: name for it in an error.

    Returns:
        (N,) float32 in [-1, 1].

    Raises:
        ValueError: it is not audio, holds no samples, or holds NaN or infinity.
    """
    file = source if source.seekable() else io.BytesIO(source.read())
    if file.seek(0, io.SEEK_END) == 0:
        raise ValueError(f"{name} is empty: the file has 0 bytes")
    try:
        sound = read_sound(file)
    except soundfile.LibsndfileError as error:
        sound = _by_ffmpeg(file, sampling_rate, name, error.error_string)
    else:
        if (sound.flaw or not len(sound.wav)) and ffmpeg_installed():
            sound = _longer(sound, file, sampling_rate)
    wav = check_wav(sound.wav, name=name)
    if sound.flaw:
        logger.warning("%s %s", name, sound.flaw)
    return resample(wav, sound.sampling_rate, sampling_rate)


def _by_ffmpeg(file: BinaryIO, sampling_rate: int, name: str, error: str) -> Sound:
    """Sound that libsndfile cannot read, with its error."""
    refused = f"{name} is not audio that libsndfile can read: {error.rstrip('.')}."
    if not ffmpeg_installed():
        raise ValueError(f"{refused} Convert it to wav or flac, or install ffmpeg, which reads m4a, aac, webm and more")
    file.seek(0)
    try:
        return ffmpeg_decode(file.read(), sampling_rate)
    except ValueError as other:
        raise ValueError(f"{refused} Nor can ffmpeg: {other}") from other


def _longer(sound: Sound, file: BinaryIO, sampling_rate: int) -> Sound:
    """A damaged sound, or more of it if ffmpeg finds more."""
    file.seek(0)
    try:
        other = ffmpeg_decode(file.read(), sampling_rate)
    except ValueError:
        return sound
    if other.seconds < sound.seconds + _MORE_SECONDS:
        return sound
    return Sound(other.wav, other.sampling_rate, other.flaw or sound.flaw)


def save_audio(path: str | Path, wav: Tensor, sampling_rate: int) -> None:
    """Write mono samples as 16-bit audio; the format follows the file's extension (.wav, .flac, ...).

    The file is there whole or not at all: it is written beside its place and then moved there.

    >>> import tempfile, torch
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_audio(f"{folder}/tone.flac", torch.sin(torch.arange(16000) / 9), 16000)
    ...     load_audio(f"{folder}/tone.flac", 8000).shape
    torch.Size([8000])

    Args:
        path: the file, in an existing folder. An existing file is replaced.
        wav: (N,) float; samples outside [-1, 1] are clipped.
        sampling_rate: Hz of ``wav``.

    Raises:
        FileNotFoundError: if the folder does not exist.
        OSError: if the folder cannot be written to, or the disk is full.
        ValueError: if the extension names no format, or ``wav`` is no (N,) of finite samples.
    """
    path = Path(path)
    check_writable(path)
    samples = check_wav(wav, name="wav").clamp(-1.0, 1.0).numpy()
    encoded = io.BytesIO()
    try:
        with soundfile.SoundFile(encoded, "w", sampling_rate, channels=1, format=path.suffix[1:].upper()) as file:
            for first in range(0, len(samples), _WRITTEN_SAMPLES):
                file.write(samples[first : first + _WRITTEN_SAMPLES])
    except (soundfile.LibsndfileError, ValueError) as error:
        raise ValueError(f"cannot write {path}: {getattr(error, 'error_string', error)}") from error
    place = path.resolve()  # a link stays, its target is replaced
    unfinished = place.with_name(f".{place.stem}.{os.getpid()}.unfinished{place.suffix}")
    try:
        unfinished.write_bytes(encoded.getbuffer())
        unfinished.replace(place)
    except OSError as error:
        raise type(error)(f"cannot write {path}: {error.strerror}") from error
    finally:
        unfinished.unlink(missing_ok=True)


def check_writable(path: Path) -> None:
    """Refuse a file that `save_audio` could not write, before the work is done.

    Args:
        path: the file.

    Raises:
        FileNotFoundError: its folder does not exist.
        PermissionError: its folder cannot be written to.
        ValueError: its extension names no audio format that needs no other settings.
    """
    known = soundfile.available_formats()
    kind = path.suffix[1:].upper()
    if kind not in known or kind == "RAW":
        raise ValueError(f"cannot tell the audio format of {path}: expected an extension such as .wav, .flac or .mp3")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"cannot write {path}: the folder {path.parent} does not exist")
    if not os.access(path.parent, os.W_OK):
        raise PermissionError(f"cannot write {path}: {os.strerror(errno.EACCES)}")
