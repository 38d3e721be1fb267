"""PackedCorpus: what was packed comes back, and what is missing is named."""

import json
from pathlib import Path

import numpy as np
import pytest

from spikeaudio.training.corpus import PackedCorpus


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rows = [
        {"id": "a", "kind": "open", "split": "train", "start_16k": 0, "samples_16k": 3},
        {
            "id": "b",
            "kind": "digit",
            "split": "test",
            "start_16k": 3,
            "samples_16k": 2,
            "start_24k": 0,
            "samples_24k": 3,
        },
    ]
    (tmp_path / "manifest.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    np.save(tmp_path / "audio_16k.npy", np.array([0, 32767, -32767, 1, 2], np.int16))
    np.save(tmp_path / "audio_24k.npy", np.array([5, 6, 7], np.int16))
    return tmp_path


def test_wav(folder: Path) -> None:
    corpus = PackedCorpus(folder)
    np.testing.assert_array_equal(corpus.wav(corpus.rows[0]), np.array([0, 1, -1], np.float32))
    np.testing.assert_allclose(corpus.wav(corpus.rows[1], 24000) * 32767, [5, 6, 7], rtol=1e-6)


def test_select(folder: Path) -> None:
    corpus = PackedCorpus(folder)
    assert [row["id"] for row in corpus.select(kind=("open", "digit"))] == ["a", "b"]
    assert [row["id"] for row in corpus.select(split="test")] == ["b"]
    assert corpus.select(voice="nobody") == []


def test_errors(folder: Path) -> None:
    corpus = PackedCorpus(folder)
    with pytest.raises(ValueError, match="not stored at 24000 Hz"):
        corpus.wav(corpus.rows[0], 24000)
    with pytest.raises(FileNotFoundError, match=r"manifest\.jsonl is missing"):
        PackedCorpus(folder / "nowhere")
