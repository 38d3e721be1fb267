"""Speaker similarity on tiny random weights of the published layout; without weights it says what is missing."""

from pathlib import Path

import pytest
import torch
from transformers import Wav2Vec2FeatureExtractor, WavLMConfig, WavLMForXVector

from eval.judges.judgements import Judgements
from eval.metrics.signal import load
from eval.metrics.speaker import MODEL_VARIABLE
from eval.sample import PROMPT_AUDIO, REFERENCE_AUDIO, Prediction, Sample
from eval.scores.command import score
from tests.eval.conftest import write_tone
from tests.fixtures.hand_made_run import HandMadeRun


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    torch.manual_seed(0)
    folder = tmp_path / "tiny-sv"
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    front = {"conv_dim": (16, 16), "conv_stride": (10, 8), "conv_kernel": (20, 16), "num_feat_extract_layers": 2}
    back = {"num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 2, "xvector_output_dim": 12}
    tdnn = {"tdnn_dim": (16, 16, 32), "tdnn_kernel": (5, 3, 1), "tdnn_dilation": (1, 2, 1)}
    WavLMForXVector(WavLMConfig(**sizes, **front, **back, **tdnn)).save_pretrained(folder)
    Wav2Vec2FeatureExtractor(do_normalize=True).save_pretrained(folder)
    monkeypatch.setenv(MODEL_VARIABLE, str(folder))
    return folder


def run(path: Path, key: str = PROMPT_AUDIO) -> Path:
    """One voice, said again, said by another, and not said; and a sample that names no voice."""
    voice, other = write_tone(path / "voice.wav", 1.0), write_tone(path / "other.wav", 0.8, hertz=97)
    samples = [Sample(name, text="hello", meta={key: str(voice)}) for name in ("same", "other", "silent")]
    fixture = HandMadeRun(path).task("tts", [*samples, Sample("free", text="hello")], ("speaker_similarity",), "tts")
    said = {"same": voice, "other": other, "free": other}
    predictions = [Prediction("tts", name, "k", audio=wav.name) for name, wav in said.items()]
    fixture.predict(*predictions, Prediction("tts", "silent", "k", error="it raised"))
    return path


@pytest.mark.parametrize("key", [PROMPT_AUDIO, REFERENCE_AUDIO])
def test_cosine_of_the_models_vectors(tmp_path: Path, weights: Path, key: str) -> None:
    figure = score(run(tmp_path / "run", key)).tasks["tts"].metrics["speaker_similarity"]
    network, extractor = WavLMForXVector.from_pretrained(weights), Wav2Vec2FeatureExtractor.from_pretrained(weights)
    vectors = []
    for name in ("voice.wav", "other.wav"):
        inputs = extractor(load(tmp_path / "run" / name), sampling_rate=16000, return_tensors="pt")
        vectors.append(network.eval()(**inputs).embeddings[0].detach().double())
    cosine = float(vectors[0] @ vectors[1] / vectors[0].norm() / vectors[1].norm())
    expected = {"same": (1.0, 1.0), "other": (cosine, 1.0), "silent": (-1.0, 1.0)}
    assert figure.samples == {name: pytest.approx(pair, abs=1e-5) for name, pair in expected.items()}
    assert cosine < 0.999 and figure.signature == "x-vector:tiny-sv"


def test_scored_again_without_the_weights(tmp_path: Path, weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = run(tmp_path / "run")
    first = score(folder).tasks["tts"].metrics["speaker_similarity"]
    monkeypatch.setenv(MODEL_VARIABLE, str(tmp_path / "gone" / "tiny-sv"))
    assert score(folder).tasks["tts"].metrics["speaker_similarity"] == first
    assert len(Judgements(folder / "judgements.jsonl").path.read_text().splitlines()) == 2


def test_missing_weights_are_a_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(MODEL_VARIABLE, str(tmp_path / "nowhere"))
    task = score(run(tmp_path / "run")).tasks["tts"]
    assert "speaker_similarity" not in task.metrics
    assert "needs the weights of a WavLM x-vector model, and" in task.left_out["speaker_similarity"]
    assert "hf download microsoft/wavlm-base-plus-sv" in task.left_out["speaker_similarity"]
