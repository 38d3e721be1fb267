"""Kimi-Audio as published, converted, made to spike: its encoder stays dense, or spikes where it is asked to."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from spikeaudio.lm import SpikeAudioForConditionalGeneration
from spikeaudio.loading.kimi.conversion import convert
from spikeaudio.spiking.config import TARGETS, GIFConfig
from spikeaudio.spiking.conversion import spiking_layers
from spikeaudio.spiking.counting import counting
from spikeaudio.spiking.layers.linear import PackedSpikingLinear
from spikeaudio.spiking.preparation.calibration import calibrate
from spikeaudio.spiking.preparation.conversion_report import ConversionReport
from spikeaudio.spiking.preparation.settings import ConversionSettings
from spikeaudio.spiking.preparation.stacks import stacks_of
from spikeaudio.spiking.preset import preset
from tests.fixtures.published_folder import write_published

pytestmark = pytest.mark.golden
EVERYWHERE: dict[str, Any] = {  # without "self_attn", "out_proj" is the feature adaptor's, too
    "targets": [*TARGETS, "self_attn.out_proj", "fc1", "fc2"],
    "modules_to_not_convert": [],
}


@pytest.fixture(scope="module")
def kimi(golden_dir: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A converted download."""
    root = tmp_path_factory.mktemp("kimi")
    published = write_published(root / "Kimi-Audio", golden_dir, root / "glm-4-voice-tokenizer")
    return convert(published, root / "converted")


def load(folder: Path) -> SpikeAudioForConditionalGeneration:
    return SpikeAudioForConditionalGeneration.from_pretrained(folder, dtype=torch.float32).eval()


def batches(model: SpikeAudioForConditionalGeneration, number: int = 2) -> list[dict[str, Tensor]]:
    """Two rows each that hear five codes' worth of log-mel frames; the last batch hears nothing."""
    config, rng = model.config, torch.Generator().manual_seed(0)
    encoder = config.audio_encoder_config
    frames = 2 * encoder.max_source_positions
    heard = []
    for _ in range(number):
        mask = torch.zeros(2, 1, frames, dtype=torch.bool)
        mask[..., :40] = True
        feature_mask = torch.zeros(2, 12, dtype=torch.bool)
        feature_mask[:, 2:7] = True
        streams = text_batch(config, rng)
        heard.append(
            streams
            | {
                "audio_feature_mask": feature_mask,
                "input_features": torch.randn(2, 1, encoder.num_mel_bins, frames, generator=rng),
                "input_features_mask": mask,
            }
        )
    return [*heard, text_batch(config, rng)]


def text_batch(config: Any, rng: torch.Generator) -> dict[str, Tensor]:
    first, last = config.audio_token_offset, config.audio_token_offset + config.num_audio_codes
    return {
        "input_ids": torch.randint(min(first, 256), (2, 12), generator=rng),
        "audio_input_ids": torch.randint(first, last, (2, 12), generator=rng),
    }


@torch.no_grad()
def logits(model: SpikeAudioForConditionalGeneration, batch: dict[str, Tensor]) -> Tensor:
    out = model(**batch)
    return torch.stack([out.logits, out.audio_logits])


def errors(report: ConversionReport, inside: str) -> list[float]:
    return [layer.relative_error for name, layer in report.layers() if inside in name]


@pytest.mark.parametrize("method", ["round", "gptq"])
@pytest.mark.parametrize("everywhere", [False, True])
def test_it_spikes_is_saved_reloaded_and_generates(kimi: Path, tmp_path: Path, method: Any, everywhere: bool) -> None:
    model = load(kimi)
    config = preset("w4a4", **EVERYWHERE if everywhere else {})
    inputs = batches(model)
    dense = logits(model, inputs[0])
    report = calibrate(model, inputs, ConversionSettings(config, method))
    layers = dict(spiking_layers(model))
    inside = [name for name in layers if "audio_encoder" in name]
    encoder_layers = model.config.audio_encoder_config.encoder_layers
    assert len(inside) == (6 * encoder_layers if everywhere else 0)
    decoder = model.config.num_hidden_layers + model.config.num_audio_layers
    assert len(layers) - len(inside) == 7 * decoder == len(errors(report, "layers")) - len(inside)
    assert all(isinstance(layer, PackedSpikingLinear) for layer in layers.values())
    model.save_pretrained(tmp_path)
    again = load(tmp_path)
    for batch in inputs:
        assert torch.equal(logits(again, batch), logits(model, batch))
    assert not torch.equal(logits(again, inputs[0]), dense)
    with torch.no_grad(), counting(again) as count:
        out = again.generate(**inputs[0], max_new_tokens=4)
    assert out.shape[1] > 12 and count.total.unary_events > 0
    encoder = model.config.audio_encoder_config
    with counting(again) as heard, torch.no_grad():
        again.model.take_features(dict(inputs[0]))
    positions = encoder.max_source_positions  # every one sees all of them: 2 rows, 2 products
    assert heard.attention_operations == encoder.encoder_layers * 2 * 2 * encoder.d_model * positions**2
    assert heard.cache_bytes == 0
    if inside:
        assert all(count.layers[name].unary_events > 0 for name in inside)


def test_attention_spikes_in_the_decoder_alone(kimi: Path, tmp_path: Path) -> None:
    model = load(kimi)
    inputs = batches(model)
    calibrate(model, inputs, ConversionSettings(preset("w4a4kv4"), "round"))
    model.save_pretrained(tmp_path)
    again = load(tmp_path)
    assert again.model.audio_encoder.config._attn_implementation != "spiking"
    assert torch.equal(logits(again, inputs[0]), logits(model, inputs[0]))


def test_padding_of_a_piece_does_not_calibrate(kimi: Path) -> None:
    model = load(kimi)
    encoder, decoder = stacks_of(model, GIFConfig(**EVERYWHERE))
    assert not encoder.decoder and decoder.decoder
    stream = encoder.stream(model, batches(model))
    assert len(stream) == 2, "what nobody hears says nothing about the encoder"
    tokens: list[int] = []
    stream.observe(0, {model.model.audio_encoder.layers[0].fc1: lambda x, y: tokens.append(len(x))})
    assert tokens == [2 * 20] * 2  # of two rows, 40 frames of 10 ms each


def test_blocks_of_the_encoder_learn_and_resume(kimi: Path, tmp_path: Path) -> None:
    settings = ConversionSettings(GIFConfig(**EVERYWHERE, rotate=True, shift=True), "blocks", passes=3)
    whole, resumed = load(kimi), load(kimi)
    report = calibrate(whole, batches(whole), settings, tmp_path / "work")
    assert all(block.training[-1] <= block.training[0] for block in report.blocks.values())
    finished = sorted((tmp_path / "work").glob("*.safetensors"))
    assert len(finished) == len(report.blocks)
    (tmp_path / "work" / f"{list(report.blocks)[-1]}.safetensors").unlink()
    calibrate(resumed, batches(resumed), settings, tmp_path / "work")
    for name, model in (("a", whole), ("b", resumed)):
        model.save_pretrained(tmp_path / name)
    one, other = (load_file(tmp_path / name / "model.safetensors") for name in "ab")
    assert one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_an_encoder_that_no_batch_reaches_is_said(kimi: Path) -> None:
    model = load(kimi)
    with pytest.raises(ValueError, match="batches"):
        calibrate(model, batches(model, 0), ConversionSettings(GIFConfig(**EVERYWHERE), "round"))
