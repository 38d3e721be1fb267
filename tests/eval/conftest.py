"""Recordings and a bundled folder of the form that the repository holds, tiny and made on the spot."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from eval.sample import Sample
from eval.tasks.manifest import write_samples


def write_tone(path: Path, seconds: float = 0.4, rate: int = 16000, channels: int = 1, hertz: float = 440.0) -> Path:
    """A recording; FLAC or WAV by its name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    time = np.arange(round(seconds * rate)) / rate
    wav = (0.3 * np.sin(2 * np.pi * hertz * time)).astype(np.float32)
    soundfile.write(path, np.stack([wav] * channels, 1) if channels > 1 else wav, rate)
    return path


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """A folder with the nine manifests, two samples each, and recordings of several forms."""
    folder = tmp_path / "bundled"
    audio = folder / "audio"
    tones = [write_tone(audio / "a.flac"), write_tone(audio / "b.wav", 0.6, 48000, 2), write_tone(audio / "c.wav", 0.5)]
    for name in ("asr_questions", "asr_open", "noise"):
        words = "" if name == "noise" else "what is two plus two"
        write_samples(folder / f"{name}.jsonl", [Sample(t.stem, str(t), references=(words,)) for t in tones[:2]])
    for name in ("instrument", "tempo", "count"):
        write_samples(folder / f"{name}.jsonl", [Sample(t.stem, str(t), references=("one",)) for t in tones[1:]])
    write_samples(folder / "tts.jsonl", [Sample(w, None, w, (w,)) for w in ("hello world", "how are you")])
    for name in ("conversation", "codec"):
        write_samples(folder / f"{name}.jsonl", [Sample(t.stem, str(t), references=("four",)) for t in tones[::2]])
    return folder
