"""The speech judge: error counts are jiwer's on normalized text; pocketsphinx hears nothing in silence."""

import pytest
import torch

pytest.importorskip("jiwer", reason="needs spikeaudio[eval]")
from eval.judges.speech_judge import character_error_rate, normalize, pocketsphinx_transcribe, word_errors


def test_normalize():
    assert normalize("  What's the Capital, of\tFrance? ") == "what's the capital of france"


def test_word_errors():
    counts = word_errors(["one two three", "four five"], ["one too three three", ""])
    assert (counts.words, counts.substitutions, counts.deletions, counts.insertions) == (5, 1, 2, 1)
    assert counts.rate == pytest.approx(0.8)
    assert character_error_rate(["abcd"], ["abxd"]) == pytest.approx(0.25)


@pytest.mark.parametrize(
    ("references", "hypotheses", "message"),
    [(["a"], [], "one hypothesis per reference, got 1 and 0"), ([], [], "at least one word"), (["?"], ["a"], r"'\?'")],
)
def test_bad_lists(references, hypotheses, message):
    with pytest.raises(ValueError, match=message):
        word_errors(references, hypotheses)


def test_silence_and_bad_clips():
    assert pocketsphinx_transcribe(torch.zeros(8000)) == ""
    assert pocketsphinx_transcribe(torch.zeros(0)) == ""
    with pytest.raises(ValueError, match=r"finite \(N,\) waveform, got shape \(2, 8000\)"):
        pocketsphinx_transcribe(torch.zeros(2, 8000))
    with pytest.raises(ValueError, match="finite"):
        pocketsphinx_transcribe(torch.full((8000,), float("nan")))


def test_noise_is_a_string():
    pytest.importorskip("pocketsphinx", reason="needs spikeaudio[eval]")
    assert isinstance(pocketsphinx_transcribe(0.1 * torch.randn(16000)), str)
