"""Audio that libsndfile does not know (m4a, aac, webm, amr, ...), decoded by ffmpeg where it is installed."""

import re
import shutil
import subprocess
import tempfile
from pathlib import Path

import numpy as np

from spikeaudio.audio.sound import Sound

# Containers that hold one sound; not the lists of other files and addresses that ffmpeg would follow, too.
_FORMATS = "mov,mp4,m4a,3gp,3g2,mj2,aac,matroska,webm,asf,amr,wav,avi,mpegts,flv,caf,ogg,mp3,flac,aiff,au,wv,ape,tta"


def ffmpeg_installed() -> bool:
    """Whether the program is there."""
    return shutil.which("ffmpeg") is not None


def ffmpeg_decode(data: bytes, sampling_rate: int) -> Sound:
    """The sound of a file.

    Args:
        data: bytes of the file.
        sampling_rate: Hz of the result.

    Returns:
        At least one sample; its flaw is what ffmpeg complained of first.

    Raises:
        ValueError: ffmpeg cannot read it either.
    """
    with tempfile.TemporaryDirectory() as folder:  # a file, as some formats have their table at the end
        path = Path(folder, "audio")
        path.write_bytes(data)
        command = ["ffmpeg", "-nostdin", "-v", "error", "-protocol_whitelist", "file", "-format_whitelist", _FORMATS]
        command += ["-i", f"file:{path}", "-map", "a:0", "-f", "f32le", "-ac", "1", "-ar", str(sampling_rate), "pipe:1"]
        done = subprocess.run(command, capture_output=True, check=False)
    said = [_plain(line) for line in done.stderr.decode(errors="replace").strip().splitlines()]
    samples = np.frombuffer(done.stdout[: len(done.stdout) // 4 * 4], "<f4").astype(np.float32)
    if not samples.size:
        raise ValueError(said[-1] if said else "no sound in it")
    flaw = f"is damaged, and what could be read of it may not be all ({said[0]})" if said else ""
    return Sound(samples, sampling_rate, flaw)


def _plain(line: str) -> str:
    """A complaint without the addresses and names that are ffmpeg's own."""
    return re.sub(r"\[\w+(/\w+)? @ 0x\w+\] |^file:\S+: ", "", line).strip()
