"""The table of uncertain transcripts counts what it says."""

from pathlib import Path

import pytest
import torch

from eval.benchmarks.uncertainty import Row, clipped, files_of, noisy
from spikeaudio.speech.result import Transcript, TranscriptSegment


def transcript(text: str, score: float) -> Transcript:
    segments = (TranscriptSegment(0.0, 1.0, text, score, 0.0),) if text else ()
    return Transcript(text, segments, 1.0, score_threshold=-0.3)


def test_cells() -> None:
    said = [transcript("a b", -0.1), transcript("a b", -0.5), transcript("c b", -0.5), transcript("", 0.0)]
    assert Row("x", said).cells() == ("x", "4", "1", "2", "-", "-", "-")
    right = ["a b", "a b", "a b", "a b"]
    assert Row("x", said, right).cells() == ("x", "4", "1", "2", "37.5 %", "1 of 2", "2 of 2")


def test_noise_and_clipping() -> None:
    wav = torch.sin(torch.arange(16000) * 0.1) * 0.2
    noise = noisy(wav, 10.0, 0) - wav
    assert float(noise.square().mean() / wav.square().mean()) == pytest.approx(0.1, rel=0.05)
    assert float(clipped(wav, 10.0).abs().eq(1.0).float().mean()) > 0.9
    assert not clipped(torch.zeros(4), 10.0).any()


def test_files_at_even_distances(tmp_path: Path) -> None:
    for index in range(9):
        (tmp_path / f"{index}.wav").touch()
    assert [path.stem for path in files_of(tmp_path, 3)] == ["0", "3", "6"]
    assert len(files_of(tmp_path, 100)) == 9
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="no audio files"):
        files_of(tmp_path / "empty", 3)
