"""Recordings as people have them, and files that end before their header says."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from spikeaudio.audio.files import load_audio
from spikeaudio.prompt.messages import is_batch, load_recording
from spikeaudio.speech.result import Speech

RATE = 16000


@pytest.fixture
def wav() -> np.ndarray:
    return (0.3 * np.sin(np.arange(RATE) / 9)).astype(np.float32)


def test_every_form_is_the_same_recording(wav: np.ndarray, tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, wav, RATE, subtype="FLOAT")
    data = path.read_bytes()
    forms: list[Any] = [
        str(path),
        path,
        wav,
        wav.tolist(),
        torch.from_numpy(wav),
        (wav, RATE),
        (wav, float(RATE)),
        {"array": wav, "sampling_rate": RATE},
        {"raw": wav, "sampling_rate": RATE},
        {"bytes": data, "path": None},
        {"bytes": None, "path": str(path)},
        data,
        io.BytesIO(data),
        Speech(torch.from_numpy(wav), RATE, torch.zeros(0, dtype=torch.long), "a"),
    ]
    for form in forms:
        assert not is_batch(form)
        torch.testing.assert_close(load_recording(form, RATE), torch.from_numpy(wav))
    with path.open("rb") as file:
        assert len(load_recording(file, RATE)) == RATE
    assert len(load_recording((wav, 2 * RATE), RATE)) == RATE // 2


@pytest.mark.parametrize(
    "form,message",
    [
        (None, "there is no recording"),
        ("", "there is no recording"),
        ({"text": "a"}, "array, raw, bytes or path"),
        (b"no sound", "libsndfile"),
        (np.full(100, 12000.0), "divide samples of 16-bit scale by 32768"),
    ],
)
def test_what_is_no_recording(form: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load_recording(form, RATE)


def test_a_cut_mp3_holds_nothing_of_the_recording_before(wav: np.ndarray, tmp_path: Path) -> None:
    """Only what was decoded is read: the rest was memory of before, once another recording."""
    long = np.tile(wav, 4)
    soundfile.write(tmp_path / "whole.mp3", long, RATE, format="MP3")
    data = (tmp_path / "whole.mp3").read_bytes()
    (tmp_path / "cut.mp3").write_bytes(data[: len(data) // 3])
    first = load_audio(tmp_path / "cut.mp3", RATE)
    load_audio(tmp_path / "whole.mp3", RATE)
    again = load_audio(tmp_path / "cut.mp3", RATE)
    assert torch.equal(first, again) and 0 < len(first) < len(long) // 2
