"""Sound as libsndfile decodes it, and how much of what a file declares is missing."""

import io
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np
import soundfile
from numpy.typing import NDArray

from spikeaudio.audio.mpeg import decode_piped, without_length
from spikeaudio.audio.riff import data_chunk, with_size

_BLOCK_FRAMES = 1 << 20  # files are read and mixed down in pieces, so that an hour of stereo never stands in memory
_SLACK_SECONDS = 0.2  # headers may count the silence that an encoder adds
_UNREAD_SECONDS = 0.5  # a shorter rest of an mp3 is a tag
_UNKNOWN_FRAMES = 1 << 60  # a header that tells no length


@dataclass(frozen=True)
class Sound:
    """What a file holds.

    Attributes:
        wav: (N,) float32, channels averaged.
        sampling_rate: Hz.
        flaw: complaint about the file, as the end of a sentence that begins with its name; empty if it is whole.
    """

    wav: NDArray[np.float32]
    sampling_rate: int
    flaw: str = ""

    @property
    def seconds(self) -> float:
        """Duration."""
        return len(self.wav) / self.sampling_rate


def read_sound(file: BinaryIO) -> Sound:
    """Decode a file by libsndfile until nothing comes, whatever its header says.

    >>> with open("spikeaudio/samples/question.wav", "rb") as file:
    ...     read_sound(file).seconds
    2.2

    Args:
        file: an open file that can seek.

    Raises:
        soundfile.LibsndfileError: it is damaged or of an unknown format.
    """
    chunk = data_chunk(file)
    if chunk is not None and chunk.declared is None:
        file = with_size(file, chunk)
    file.seek(0)
    with soundfile.SoundFile(file) as decoder:
        rate = int(decoder.samplerate)
        declared = decoder.frames / rate if decoder.frames < _UNKNOWN_FRAMES else 0.0
        mpeg = decoder.subtype.startswith("MPEG")
        sound = Sound(np.zeros(0, np.float32) if mpeg else _decoded(decoder), rate)
    if mpeg:
        file.seek(0)
        sound = _mpeg(file.read(), rate, declared)
        declared = 0.0  # it was compared
    if chunk is not None and chunk.declared is not None and chunk.held < chunk.declared:
        declared = sound.seconds * chunk.declared / max(1, chunk.held)
    return Sound(sound.wav, rate, sound.flaw or _cut_short(sound.seconds, declared))


def _decoded(decoder: soundfile.SoundFile) -> NDArray[np.float32]:
    """Mono samples, until nothing comes."""
    # Not `blocks`: it yields the length that a header declares, and memory of before where less was decoded.
    buffer = np.zeros((_BLOCK_FRAMES, decoder.channels), np.float32)
    blocks = [np.zeros(0, np.float32)]
    while count := decoder.buffer_read_into(buffer, "float32"):
        blocks.append(buffer[:count].mean(axis=1))
    return np.concatenate(blocks)


def _mpeg(data: bytes, rate: int, declared: float) -> Sound:
    """MPEG audio to its end, without the silence that an encoder adds if a header tells of it."""
    piped = decode_piped(data)
    sound = Sound(piped.wav, rate)
    if without_length(data) != data:
        try:
            with soundfile.SoundFile(io.BytesIO(data)) as decoder:
                told = Sound(_decoded(decoder), rate)
        except soundfile.LibsndfileError:  # damage, which is told below
            told = Sound(sound.wav[:0], rate)
        if told.seconds + _SLACK_SECONDS >= sound.seconds:
            sound = Sound(told.wav, rate, _cut_short(told.seconds, declared))
    read = len(data) - piped.left
    if len(piped.wav) and piped.left * len(piped.wav) / read > _UNREAD_SECONDS * rate:
        flaw = f"{piped.left} of its {len(data)} bytes were not read"
        flaw = f"is damaged or changes its sampling rate after {sound.seconds:.2f} seconds: {flaw}"
        return Sound(sound.wav, rate, flaw)
    return sound


def _cut_short(seconds: float, declared: float) -> str:
    if declared <= seconds + _SLACK_SECONDS:
        return ""
    return f"is cut short: it holds {seconds:.2f} of the {declared:.2f} seconds that its header tells of"
