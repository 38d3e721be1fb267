"""The Whisper encoder inside the language model: rows of pieces, gradients, generation, saving, spikes."""

import pytest
import torch
from transformers import WhisperConfig

from spikeaudio.lm import SpikeAudioForConditionalGeneration, WhisperFeatureEncoder
from spikeaudio.spiking.config import TARGETS, GIFConfig
from spikeaudio.spiking.conversion import spiking_layers

FRAMES = 64  # of one piece: 8 tokens
ENCODER = {
    "d_model": 6,
    "encoder_layers": 1,
    "encoder_attention_heads": 2,
    "encoder_ffn_dim": 12,
    "num_mel_bins": 5,
    "max_source_positions": FRAMES // 2,
    "dropout": 0.0,
}


@pytest.fixture
def model(tiny_model) -> SpikeAudioForConditionalGeneration:
    return tiny_model(audio_encoder_config=ENCODER, audio_feature_dim=24)


def heard(counts: list[list[int]]) -> dict[str, torch.Tensor]:
    """Pieces whose real frames are `counts`, per row; every row has as many pieces."""
    frames = torch.tensor(counts)
    return {
        "input_features": torch.randn(*frames.shape, 5, FRAMES),
        "input_features_mask": torch.arange(FRAMES) < frames[..., None],
    }


def test_features_are_four_frames_side_by_side_of_each_piece(model):
    encoder = model.model.audio_encoder
    given = heard([[FRAMES, 9], [17, 0]])
    with torch.no_grad():
        features = encoder.features(given["input_features"], given["input_features_mask"])
        alone = encoder(given["input_features"].flatten(0, 1)).last_hidden_state.reshape(2, 2, 8, 24)
    assert features.shape == (2, 10, 24)  # 8 + 2 tokens; 3 tokens
    torch.testing.assert_close(features[0], torch.cat([alone[0, 0], alone[0, 1, :2]]), rtol=0, atol=1e-6)
    torch.testing.assert_close(features[1, :3], alone[1, 0, :3], rtol=0, atol=1e-6)
    assert (features[1, 3:] == 0).all()


def test_encoding_inside_equals_features_from_outside(model, prompt, left_padded):
    config = model.config
    batch = left_padded(config, [prompt(config, codes=10, text=4, seed=1), prompt(config, codes=3, text=2, seed=2)])
    outside = batch.pop("audio_features")
    given = heard([[FRAMES, 9], [17, 0]])
    with torch.no_grad():
        inside = model(**batch, **given).logits
        features = model.model.take_features(dict(given))
        assert features.shape == outside.shape
        expected = model(**batch, audio_features=features).logits
        torch.testing.assert_close(inside, expected, rtol=0, atol=0)
        generated = model.generate(**batch, **given, max_new_tokens=5, generation_mode="audio")
        same = model.generate(**batch, audio_features=features, max_new_tokens=5, generation_mode="audio")
    assert torch.equal(generated, same)


def test_gradients_reach_the_encoder(model, prompt):
    inputs = prompt(model.config, codes=3, text=2, seed=1)
    del inputs["audio_features"]
    model.train()
    model(**inputs, **heard([[17]]), labels=inputs["input_ids"]).loss.backward()
    encoder = dict(model.model.audio_encoder.named_parameters())
    assert encoder.pop("embed_positions.weight").grad is None  # Whisper's sinusoids are never trained
    assert all(parameter.grad is not None and parameter.grad.abs().max() > 0 for parameter in encoder.values())


def test_saved_and_loaded_again_also_spiking(model, tmp_path):
    model.save_pretrained(tmp_path)
    again = SpikeAudioForConditionalGeneration.from_pretrained(tmp_path)
    assert isinstance(again.model.audio_encoder, WhisperFeatureEncoder)
    assert isinstance(again.config.audio_encoder_config, WhisperConfig)
    for name, tensor in model.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor), name
    everywhere = GIFConfig(targets=[*TARGETS, "self_attn.out_proj", "fc1", "fc2"], modules_to_not_convert=[])
    spiking = SpikeAudioForConditionalGeneration.from_pretrained(tmp_path, quantization_config=everywhere)
    names = {name for name, _ in spiking_layers(spiking)}
    assert {"model.audio_encoder.layers.0.fc1", "model.audio_encoder.layers.0.self_attn.out_proj"} <= names
    assert not any("adaptor" in name for name in names)


def test_what_does_not_fit_is_said(model, tiny_model, tiny_config, prompt):
    inputs = prompt(model.config, codes=3, text=2, seed=1)
    with pytest.raises(ValueError, match="not both"):
        model(**inputs, **heard([[17]]))
    with pytest.raises(ValueError, match="not both"):
        model.generate(**inputs, **heard([[17]]))
    del inputs["audio_features"]
    with pytest.raises(ValueError, match=r"\(batch, pieces, 5, 64\), got \(1, 1, 5, 63\)"):
        model(**inputs, input_features=torch.zeros(1, 1, 5, 63))
    with pytest.raises(ValueError, match=r"input_features_mask must have shape \(1, 1, 64\)"):
        model(**inputs, input_features=torch.zeros(1, 1, 5, 64), input_features_mask=torch.ones(1, 64))
    with pytest.raises(ValueError, match="no audio encoder for input_features, input_features_mask: it takes"):
        tiny_model()(**inputs, **heard([[17]]))
    with pytest.raises(ValueError, match="the 24 channels of the audio encoder's features, got 12"):
        tiny_config(audio_encoder_config=ENCODER)


def test_rows_without_recordings(model, prompt):
    inputs = prompt(model.config, codes=0, text=3, seed=1)
    del inputs["audio_features"]
    with torch.no_grad():
        silent = model(**inputs, **heard([[0]])).logits
        del inputs["audio_feature_mask"]
        torch.testing.assert_close(silent, model(**inputs).logits, rtol=0, atol=0)
