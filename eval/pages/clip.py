"""A recording as a page can hold it: a small MP3 and a picture of its spectrogram."""

import base64
import io
from dataclasses import dataclass
from pathlib import Path

LONGEST = 12.0  # seconds kept of a recording
_SAMPLING_RATE = 24000


@dataclass(frozen=True)
class Clip:
    """One recording.

    Attributes:
        audio: MP3 at 24 kHz as a data address.
        picture: PNG of the log-mel spectrogram, 0 to 12 kHz from bottom to top, 20 ms per column, as a data address.
        seconds: seconds of the recording, of which the first 12 are kept.
    """

    audio: str
    picture: str
    seconds: float

    @property
    def size(self) -> int:
        """Bytes on the page."""
        return len(self.audio) + len(self.picture)

    @classmethod
    def of(cls, path: Path) -> "Clip":
        """The clip of a file.

        Raises:
            OSError: there is no such file.
            ValueError: it is no audio.
        """
        import soundfile
        from matplotlib import image

        from spikeaudio.audio.files import load_audio
        from spikeaudio.audio.mel import kimi_log_mel

        wav = load_audio(path, _SAMPLING_RATE)
        kept = wav[: int(LONGEST * _SAMPLING_RATE)]
        sound = io.BytesIO()
        soundfile.write(sound, kept.numpy(), _SAMPLING_RATE, format="MP3")
        mel = kimi_log_mel(kept[None])[0].numpy()
        picture = io.BytesIO()
        if mel.shape[1]:
            image.imsave(picture, mel[::-1], cmap="magma", vmin=-9, vmax=3, format="png")
        return cls(
            _address("audio/mpeg", sound.getvalue()),
            _address("image/png", picture.getvalue()) if mel.shape[1] else "",
            len(wav) / _SAMPLING_RATE,
        )


def _address(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
