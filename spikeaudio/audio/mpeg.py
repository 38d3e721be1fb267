"""MPEG audio (mp3, mp2, mp3 inside wav) to its true end, which libsndfile takes from a header.

A Xing, Info or VBRI header tells a number of frames, and it is wrong in files that were cut or joined. Without a header
libsndfile guesses the number from the size of the file and the bit rate of the first frames. Speech at the end is lost
where the guess is too small. A pipe has no size, and libsndfile reads it until nothing comes.
"""

import os
import threading
from typing import NamedTuple

import numpy as np
import soundfile
from numpy.typing import NDArray

_LENGTH_HEADERS = (b"Xing\0\0\0", b"Info\0\0\0", b"VBRI\0\1")
_BLOCK_FRAMES = 1152  # one MPEG frame: no more than that is lost where the decoder meets damage


class PipedSound(NamedTuple):
    """What was decoded from a pipe.

    Attributes:
        wav: (N,) float32.
        left: bytes behind the place where the decoder stopped; 0: it came to the end.
    """

    wav: NDArray[np.float32]
    left: int


def without_length(data: bytes) -> bytes:
    """A file whose header tells no number of frames."""
    for header in _LENGTH_HEADERS:
        data = data.replace(header, bytes(len(header)), 1)
    return data


def decode_piped(data: bytes) -> PipedSound:
    """Mono samples of MPEG audio, until its end or until damage.

    Args:
        data: bytes of the file.

    Returns:
        The samples, none if libsndfile cannot read it from a pipe, and the number of bytes that were not read.
    """
    reading, writing = os.pipe()

    def feed() -> None:
        try:
            with os.fdopen(writing, "wb") as pipe:
                pipe.write(without_length(data))
        except BrokenPipeError:
            return

    feeder = threading.Thread(target=feed, daemon=True)
    feeder.start()
    blocks = [np.zeros(0, np.float32)]
    try:
        with soundfile.SoundFile(reading, closefd=False) as file:
            buffer = np.zeros((_BLOCK_FRAMES, file.channels), np.float32)
            while count := file.buffer_read_into(buffer, "float32"):
                blocks.append(buffer[:count].mean(axis=1))
    except soundfile.LibsndfileError:
        pass  # damage: what was read before it counts, and the rest is told
    finally:
        left = 0
        while rest := os.read(reading, 1 << 16):
            left += len(rest)
        os.close(reading)
        feeder.join()
    return PipedSound(np.concatenate(blocks), left)
