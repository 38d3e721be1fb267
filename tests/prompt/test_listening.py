"""What a model gets to hear of a recording in a message."""

import pytest
import torch

from spikeaudio.prompt.listening import sounding

RATE = 16000
TONE = torch.sin(torch.arange(RATE) * 0.1)
QUIET = torch.zeros(2 * RATE)


def test_quiet_ends_are_left_out_and_pauses_of_speech() -> None:
    wav = torch.cat([QUIET, TONE, QUIET, TONE, QUIET])
    spoken, sound = (sounding(wav, speech, 0.3, None) for speech in (True, False))
    assert spoken.numel() / RATE == pytest.approx(2.25, abs=0.25)
    assert sound.numel() / RATE == pytest.approx(4.1, abs=0.25)
    assert sounding(wav, True, None, None) is wav


def test_silence_is_refused_by_a_model_that_leaves_it_out() -> None:
    for speech in (True, False):
        with pytest.raises(ValueError, match="recording is silent"):
            sounding(QUIET, speech, 0.3, None)
    assert sounding(QUIET, True, None, None) is QUIET


def test_the_longest_recording_is_named() -> None:
    wav = torch.randn(5 * RATE) * 0.1
    assert sounding(wav, True, 0.3, 5.0).numel() == wav.numel()
    with pytest.raises(ValueError, match=r"has 5.0 seconds of sound, but this model takes at most 4\.5 "):
        sounding(wav, True, None, 4.5)
