"""Conversions that are killed and resumed, done again, or refused."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import (
    AutoModelForCausalLM,
)

from spikeaudio.spiking.config import GIFConfig
from spikeaudio.spiking.conversion import spiking_layers
from spikeaudio.spiking.preparation import block_conversion
from spikeaudio.spiking.preparation.calibration import calibrate
from spikeaudio.spiking.preparation.settings import ConversionSettings
from tests.fixtures.conversions import (
    EVERYTHING,
    audio_batches,
    gptq,
    logits,
    qwen2,
    rounded,
    same_state,
    text_batches,
    two_streams,
)


class Killed(Exception):
    pass


@pytest.mark.parametrize("method", ["gptq", "train"])
@pytest.mark.parametrize("finished", [0, 1, 3])
def test_killed_and_resumed_conversion_gives_the_same_bits(
    tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, finished: int, method: Any
) -> None:
    """Killed in the middle of a block, with a half-written file left behind."""
    asked = ConversionSettings(GIFConfig(**EVERYTHING), method, quanta=(None, 2.0))
    fresh = two_streams(tiny_checkpoint, torch.float32)
    batches = audio_batches(fresh)
    expected = calibrate(fresh, batches, asked)
    quantize, calls = block_conversion.BlockConversion._quantize, []

    def dying(self: block_conversion.BlockConversion, group: list[str]) -> None:
        calls.append(group)
        if len(calls) == 4 * finished + 3:  # in the third group of the block after
            raise Killed
        quantize(self, group)

    monkeypatch.setattr(block_conversion.BlockConversion, "_quantize", dying)
    with pytest.raises(Killed):
        calibrate(two_streams(tiny_checkpoint, torch.float32), batches, asked, tmp_path)
    assert len(list(tmp_path.glob("*.safetensors"))) == finished
    (tmp_path / f"model.layers.{finished}.part").write_bytes(b"half")
    monkeypatch.setattr(block_conversion.BlockConversion, "_quantize", quantize)
    resumed = two_streams(tiny_checkpoint, torch.float32)
    report = calibrate(resumed, iter(batches), asked, tmp_path)
    assert same_state(resumed, fresh)
    assert resumed.config.quantization_config.to_dict() == fresh.config.quantization_config.to_dict()
    for (name, layer), (other, twin) in zip(report.layers(), expected.layers(), strict=True):
        assert name == other and layer.relative_error == twin.relative_error and layer.quanta == twin.quanta
    resumed.save_pretrained(tmp_path / "a")
    fresh.save_pretrained(tmp_path / "b")
    one, other = (load_file(tmp_path / folder / "model.safetensors") for folder in "ab")
    assert one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


def test_a_folder_of_another_conversion_is_refused(tmp_path: Path) -> None:
    calibrate(qwen2(), text_batches(), rounded(), tmp_path)
    for batches, asked in ((text_batches()[:1], rounded()), (text_batches(), gptq(rotate=True))):
        with pytest.raises(ValueError, match="belongs to another conversion"):
            calibrate(qwen2(), batches, asked, tmp_path)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_damaged_weights_are_refused_before_anything_changes(value: float) -> None:
    model = qwen2()
    with torch.no_grad():
        model.model.layers[1].mlp.up_proj.weight[3, 2] = value
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(ValueError, match=r"layers\.1\.mlp\.up_proj\.weight holds NaN or infinity"):
        calibrate(model, text_batches(), rounded(rotate=True))
    state = model.state_dict()
    assert all(torch.equal(state[name].nan_to_num(), tensor.nan_to_num()) for name, tensor in before.items())


def test_errors() -> None:
    model, batches = qwen2(), text_batches()
    with pytest.raises(ValueError, match="batches is empty"):
        calibrate(qwen2(), [], gptq())
    with pytest.raises(ValueError, match=r"targets must name layers of decoder blocks .*, got \['lm_head'\]"):
        calibrate(model, batches, gptq(targets=["lm_head", "q_proj"]))
    with pytest.raises(ValueError, match="a search for quanta needs a neuron that has some, got 'spikelm'"):
        ConversionSettings(GIFConfig({"type": "spikelm"}), quanta=(2.0,))
    with pytest.raises(ValueError, match="quanta must be positive"):
        ConversionSettings(quanta=(-2.0,))
    with pytest.raises(ValueError, match="method must be one of train, blocks, gptq, round, got 'ternary'"):
        ConversionSettings(method="ternary")  # type: ignore[arg-type]
    calibrate(model, batches, rounded(targets=["q_proj", "up_proj"]))
    assert len(dict(spiking_layers(model))) == 4
    with pytest.raises(ValueError, match="packed already"):
        calibrate(model, batches, gptq())
    rotated = qwen2()
    calibrate(rotated, batches, ConversionSettings(GIFConfig(rotate=True), "train"))
    with pytest.raises(ValueError, match="rotated already"):
        calibrate(rotated, batches, gptq())


def test_a_second_calibration_after_training(tmp_path: Path) -> None:
    """Prepared, saved with real weights, loaded (to be trained), calibrated again and packed."""
    model, batches = qwen2(), text_batches()
    config = GIFConfig(rotate=True, shift=True)
    expected = logits(model, batches[0])
    calibrate(model, batches, ConversionSettings(config, "train"))
    model.save_pretrained(tmp_path / "real")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "real")
    calibrate(model, batches, ConversionSettings(config, "gptq"))
    model.save_pretrained(tmp_path / "packed")
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "packed")
    assert torch.equal(logits(again, batches[0]), logits(model, batches[0]))
    assert (logits(again, batches[0]) - expected).norm() < 0.5 * expected.norm()
