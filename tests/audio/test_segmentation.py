"""Cutting long recordings: the pieces join, they are short enough, and the cut falls into a pause."""

import pytest
import torch

from spikeaudio.audio.segmentation import split_at_pauses

RATE = 1000


@pytest.mark.parametrize("seconds", [0.001, 4.0, 5.0, 5.5, 23.4, 100.0])
def test_pieces_join_and_fit(seconds: float) -> None:
    wav = torch.randn(round(seconds * RATE))
    pieces = split_at_pauses(wav, RATE, 5.0)
    assert torch.equal(torch.cat(pieces), wav)
    assert all(0 < piece.numel() <= 5 * RATE for piece in pieces)
    assert len(pieces) <= 2 * seconds / 5 + 1


def test_cut_falls_into_the_pause() -> None:
    wav = torch.randn(8 * RATE)
    wav[3500:3900] = 0
    first, _ = split_at_pauses(wav, RATE, 5.0)
    assert 3500 <= first.numel() <= 3900


def test_too_short_a_limit() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        split_at_pauses(torch.zeros(10), RATE, 0.5)
