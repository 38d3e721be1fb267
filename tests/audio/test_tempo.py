"""Speech at another tempo keeps its pitch."""

import math

import pytest
import torch

from spikeaudio.audio.tempo import change_tempo


def loudest_hertz(wav: torch.Tensor, rate: int) -> float:
    power = torch.fft.rfft(wav * torch.hann_window(len(wav))).abs()
    return float(power.argmax()) * rate / len(wav)


@pytest.mark.parametrize("speed", [0.5, 1.25, 3.0])
def test_length_changes_and_pitch_stays(speed: float) -> None:
    wav = torch.sin(2 * math.pi * 220 * torch.arange(48000) / 24000)
    changed = change_tempo(wav, speed)
    assert changed.dtype == wav.dtype and changed.shape == (round(48000 / speed),)
    assert loudest_hertz(changed, 24000) == pytest.approx(220, abs=3)
    assert 0.5 < changed.std() / wav.std() < 1.2


def test_speed_one_changes_nothing() -> None:
    wav = torch.randn(100)
    assert torch.equal(change_tempo(wav, 1.0), wav)


@pytest.mark.parametrize("length", [0, 1, 700])
def test_short_recordings(length: int) -> None:
    assert change_tempo(torch.zeros(length), 2.0).shape == (round(length / 2),)


@pytest.mark.parametrize("speed", [0.0, -1.0, 0.2, 5.0, math.nan, math.inf])
def test_speeds_out_of_range(speed: float) -> None:
    with pytest.raises(ValueError, match="speed"):
        change_tempo(torch.zeros(10), speed)
