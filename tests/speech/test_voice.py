"""Of a long recording of a voice the part is taken in which the most is said."""

import pytest
import torch

from spikeaudio.pipeline import SpikeAudio
from spikeaudio.speech.voice import voice_of


def test_the_part_in_which_the_most_is_said(random_model: SpikeAudio, caplog: pytest.LogCaptureFixture) -> None:
    decoder = random_model.decoder
    rate = decoder.sampling_rate
    said = torch.randn(round(decoder.max_voice_seconds * rate)) * 0.1
    alone = voice_of(said, decoder, random_model.tokenizer)
    assert not caplog.records
    long = voice_of(torch.cat([torch.zeros(2 * rate), said, torch.zeros(rate)]), decoder, random_model.tokenizer)
    assert torch.equal(long.codes, alone.codes) and torch.equal(long.mel, alone.mel)
    assert len(caplog.records) == 1 and "seconds 2.0 to 2.3" in caplog.text
