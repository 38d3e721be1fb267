"""Whisper-VQ encoder: what it may see, padding, gradients, layers after pooling, configuration errors."""

import pytest
import torch
from transformers import WhisperFeatureExtractor
from transformers.models.whisper.modeling_whisper import sinusoids

from spikeaudio.tokenizer.configuration import WhisperVQConfig
from spikeaudio.tokenizer.speech_tokenizer import SpeechTokenizer
from spikeaudio.tokenizer.whisper_vq import WhisperVQEncoder, block_causal_mask

SIZES = {
    "num_mel_bins": 80,
    "d_model": 32,
    "encoder_layers": 3,
    "encoder_attention_heads": 2,
    "encoder_ffn_dim": 64,
    "pooling_position": 2,
    "quantize_position": 3,
    "quantize_vocab_size": 64,
    "quantize_causal_block_size": 16,
    "max_source_positions": 200,
}


@pytest.fixture
def encoder() -> WhisperVQEncoder:
    encoder = WhisperVQEncoder(WhisperVQConfig(**SIZES)).eval()
    encoder.codebook.weight.normal_()
    return encoder


def test_mask_is_block_causal_and_hides_padding():
    mask = block_causal_mask(torch.tensor([[True] * 5 + [False]]), 2, torch.float32)[0, 0] == 0
    expected = [
        [1, 1, 0, 0, 0, 0],
        [1, 1, 0, 0, 0, 0],
        [1, 1, 1, 1, 0, 0],
        [1, 1, 1, 1, 0, 0],
        [1] * 5 + [0],
        [1] * 5 + [0],
    ]
    assert mask.int().tolist() == expected


@torch.no_grad()
def test_complete_blocks_do_not_depend_on_later_audio(encoder):
    mel = torch.randn(1, 80, 128)
    changed = mel.clone()
    changed[..., 64:] = torch.randn(1, 80, 64)  # mel frame 64 = frame 32 at 50 Hz = the third block
    first, second = encoder(mel).features, encoder(changed).features
    torch.testing.assert_close(first[:, :8], second[:, :8], rtol=0, atol=1e-5)
    assert (first[:, 8:] - second[:, 8:]).abs().amax(-1).min() > 1e-3


@torch.no_grad()
def test_inside_a_block_the_future_is_visible(encoder):
    mel = torch.randn(1, 80, 32)
    changed = mel.clone()
    changed[..., 24:] += 1.0
    assert (encoder(mel).features[:, 0] - encoder(changed).features[:, 0]).abs().max() > 1e-4


@torch.no_grad()
def test_padding_of_whole_tokens_changes_nothing(encoder):
    mel = torch.randn(2, 80, 128)
    mask = torch.ones(2, 128)
    mask[1, 80:] = 0
    together, alone = encoder(mel, mask), encoder(mel[1:, :, :80])
    torch.testing.assert_close(together.features[1, :10], alone.features[0], rtol=0, atol=1e-5)
    assert torch.equal(together.codes[1, :10], alone.codes[0])
    assert (together.codes[1, 10:] == -1).all()
    assert together.codes_mask.sum(1).tolist() == [16, 10]


def test_gradient_goes_straight_through_and_the_codebook_gets_none(encoder):
    output = encoder(torch.randn(1, 80, 64))
    torch.testing.assert_close(output.quantized, encoder.codebook(output.codes))
    output.features.retain_grad()
    (output.quantized * torch.arange(32.0)).sum().backward()
    torch.testing.assert_close(output.features.grad[0, 0], torch.arange(32.0))
    assert encoder.codebook.weight.grad is None
    assert encoder.conv1.weight.grad.abs().sum() > 0


def test_commitment_is_the_scaled_squared_distance(encoder):
    mask = torch.ones(1, 64)
    mask[:, 40:] = 0
    output = encoder(torch.randn(1, 80, 64), mask)
    distance = (output.features - output.quantized)[:, :5].square().mean()
    torch.testing.assert_close(output.commitment_loss, 10.0 * 0.25 * distance)


def test_positions_are_sinusoids_and_the_ear_is_loud_enough(encoder):
    """transformers skips a top-level module without parameters of its own: the table once stayed at random noise."""
    torch.testing.assert_close(encoder.embed_positions.weight, sinusoids(200, 32))
    assert not encoder.embed_positions.weight.requires_grad
    states = encoder(torch.randn(1, 80, 128), output_hidden_states=True).hidden_states[0]
    content = states - encoder.embed_positions.weight[:64]
    assert content.std() > 0.3 * encoder.embed_positions.weight[:64].std()


def test_saved_and_loaded_again_has_the_same_bits_and_codes_with_layers_after_pooling(encoder, tmp_path):
    tokenizer = SpeechTokenizer(WhisperFeatureExtractor(feature_size=80), encoder)
    wavs = [torch.randn(9000) * 0.1, torch.randn(1) * 0.1, torch.randn(20480) * 0.1]
    tokenizer.save_pretrained(tmp_path)
    again = SpeechTokenizer.from_pretrained(tmp_path)
    for name, tensor in encoder.state_dict().items():
        assert torch.equal(tensor, again.encoder.state_dict()[name])
    for wav, first, second in zip(wavs, tokenizer.encode(wavs), again.encode(wavs), strict=True):
        assert len(first.codes) == -(-len(wav) // 1280)
        assert torch.equal(first.codes, second.codes)
        # Equal weights at another address: the CPU's one-row product may round differently (measured 1.5e-8).
        torch.testing.assert_close(first.features, second.features, rtol=0, atol=1e-6)
        assert first.features.dtype == torch.float32


def test_eager_and_sdpa_agree(encoder):
    mel = torch.randn(1, 80, 128)
    with torch.no_grad():
        first = encoder(mel).features
        encoder.set_attn_implementation("eager")
        torch.testing.assert_close(encoder(mel).features, first, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"pooling_position": 4}, "pooling_position <= quantize_position"),
        ({"pooling_type": "max"}, "pooling_type"),
        ({"quantize_causal_block_size": 18}, "multiple of pooling_kernel_size"),
        ({"encoder_causal_attention": True}, "block-causal"),
        ({"quantise_position": 3}, "valid keys are .*quantize_position"),
    ],
)
def test_configuration_errors(change, words):
    with pytest.raises(ValueError, match=words):
        WhisperVQConfig(**{**SIZES, **change})


def test_input_errors(encoder):
    with pytest.raises(ValueError, match=r"must be \(B, 80, 1\.\.400\)"):
        encoder(torch.randn(1, 80, 401))
    with pytest.raises(ValueError, match="attention_mask"):
        encoder(torch.randn(1, 80, 64), torch.ones(1, 32))
    tokenizer = SpeechTokenizer(WhisperFeatureExtractor(feature_size=80), encoder)
    with pytest.raises(ValueError, match="N > 0"):
        tokenizer.encode([torch.zeros(0)])
    with pytest.raises(ValueError, match="128 mel bins"):
        SpeechTokenizer(WhisperFeatureExtractor(feature_size=128), encoder)
