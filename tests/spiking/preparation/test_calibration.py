"""Conversion of whole models: reloaded and resumed to the same bits; rotation and GPTQ are worth it."""

import copy
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import (
    AutoModelForCausalLM,
    PreTrainedModel,
    Qwen2ForCausalLM,
)

from spikeaudio.lm.modeling import SpikeAudioForConditionalGeneration
from spikeaudio.spiking.config import GIFConfig
from spikeaudio.spiking.conversion import spiking_layers, to_dense
from spikeaudio.spiking.layers.linear import PackedSpikingLinear, SpikingLinear
from spikeaudio.spiking.neurons.gif import GIF, GIFNeuron
from spikeaudio.spiking.neurons.threshold import MeanThreshold
from spikeaudio.spiking.preparation.block_stream import BlockStream
from spikeaudio.spiking.preparation.calibration import calibrate, rotate_model
from spikeaudio.spiking.preparation.input_moments import InputMoments
from spikeaudio.spiking.preparation.settings import ConversionSettings
from spikeaudio.spiking.transforms.outliers import inject_outliers
from spikeaudio.spiking.transforms.rotation import find_layout
from tests.fixtures.conversions import (
    EVERYTHING,
    LENGTH,
    audio_batches,
    generated,
    gptq,
    llama,
    logits,
    phi3,
    qwen2,
    qwen3,
    rounded,
    same_state,
    text_batches,
    two_streams,
)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("method", ["gptq", "train"])
def test_prepared_qwen2_reloads_bit_equal(tmp_path: Path, dtype: torch.dtype, method: Any) -> None:
    qwen2().save_pretrained(tmp_path / "dense")
    # loaded, as ``.to(bfloat16)`` also rounds the frequencies of positions, which no checkpoint holds
    model, batches = AutoModelForCausalLM.from_pretrained(tmp_path / "dense", dtype=dtype), text_batches()
    config = GIFConfig(**EVERYTHING, group_size=16)
    report = calibrate(model, batches, ConversionSettings(config, method, quanta=(1.0, 2.5)))
    assert not config.packed and not config.layer_neurons, "the caller's configuration is not changed"
    model.save_pretrained(tmp_path)
    again = AutoModelForCausalLM.from_pretrained(tmp_path)
    layers = dict(spiking_layers(again))
    assert list(layers) == list(dict(spiking_layers(model))) and len(layers) == len(dict(report.layers())) == 14
    assert {isinstance(layer, PackedSpikingLinear) for layer in layers.values()} == {method == "gptq"}
    assert all(layer.bias is not None for layer in layers.values())
    assert again.dtype == dtype and same_state(model, again)
    for batch in batches:
        assert torch.equal(logits(again, batch), logits(model, batch))
    assert torch.equal(generated(again), generated(model))
    assert {layer.neuron.threshold for layer in layers.values()} == {MeanThreshold(2.5)}, "2.0 but for the search"


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_prepared_two_streams_reload_bit_equal(tiny_checkpoint: Path, tmp_path: Path, dtype: torch.dtype) -> None:
    model = two_streams(tiny_checkpoint, dtype)
    [batch] = batches = audio_batches(model)
    calibrate(model, batches, gptq(**EVERYTHING))
    model.save_pretrained(tmp_path)
    again = SpikeAudioForConditionalGeneration.from_pretrained(tmp_path)
    assert isinstance(again.model.feature_adaptor.norm, nn.Sequential)
    assert again.dtype == dtype and same_state(model, again)
    assert torch.equal(logits(again, batch), logits(model, batch))
    assert torch.equal(generated(again), generated(model))


def test_branches_get_the_inputs_that_the_model_gives_them(tiny_checkpoint: Path) -> None:
    """What runs block by block is the model: the last blocks' outputs are those of a whole pass."""
    model = two_streams(tiny_checkpoint, torch.float32)
    [batch] = audio_batches(model)
    stream = BlockStream(model, [batch, batch])
    assert stream.names == [f"model.layers.{i}" for i in range(3)] + ["model.audio_layers.0"]
    expected: dict[str, Tensor] = {}

    def remember(name: str, layer: nn.Module, args: tuple[Tensor, ...]) -> None:
        expected[name] = args[0].flatten(0, 1)

    for name in stream.names:
        model.get_submodule(name).mlp.down_proj.register_forward_pre_hook(partial(remember, name))
    logits(model, batch)
    whole = dict(expected)
    for index, name in enumerate(stream.names):
        seen: list[Tensor] = []
        stream.advance(index, {model.get_submodule(name).mlp.down_proj: lambda x, _, seen=seen: seen.append(x)})
        assert len(seen) == 2 and all(torch.equal(x, whole[name]) for x in seen)
        assert len(stream._states) <= 2, "only what is still to be read stays in memory"
    assert not stream._states


def test_padding_is_not_calibrated_on() -> None:
    batch = text_batches()[1]
    model = qwen2()
    tokens: list[int] = []
    layer = model.model.layers[0].mlp.up_proj
    stream = BlockStream(model, [batch])
    stream.observe(0, {layer: lambda x, y: tokens.extend((len(x), len(y)))})
    assert tokens == [3 * LENGTH - 4] * 2


@pytest.mark.parametrize("make", [qwen3, phi3])
@pytest.mark.parametrize("method", ["round", "gptq", "blocks"])
def test_other_families_reload_bit_equal(tmp_path: Path, make: Callable[[], PreTrainedModel], method: Any) -> None:
    make().save_pretrained(tmp_path / "dense")  # loaded, as positions are rounded in no other way
    model, batches = AutoModelForCausalLM.from_pretrained(tmp_path / "dense"), text_batches()
    report = calibrate(model, batches, ConversionSettings(GIFConfig(**EVERYTHING), method, passes=2))
    assert len(dict(report.layers())) == len(dict(spiking_layers(model))) == (8 if make is phi3 else 14)
    model.save_pretrained(tmp_path)
    again = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert torch.equal(logits(again, batches[1]), logits(model, batches[1]))


@pytest.mark.parametrize("make", [qwen2, llama, qwen3])
def test_real_weights_keep_the_function_apart_from_spikes(make: Callable[[], nn.Module]) -> None:
    """Rotation, shift and what undoes them cancel: with neurons taken off, the logits are the dense model's."""
    model, [batch, *_] = make(), text_batches()
    expected = logits(model, batch)
    calibrate(model, text_batches(), ConversionSettings(GIFConfig(**EVERYTHING), "train"))
    assert (logits(model, batch) - expected).abs().max() > 1e-3
    for _, layer in spiking_layers(model):
        layer.neuron = nn.Identity()
    torch.testing.assert_close(logits(model, batch), expected, rtol=0, atol=1e-5)
    assert to_dense(model) == 14
    torch.testing.assert_close(logits(model, batch), expected, rtol=0, atol=1e-5)
    assert not any(isinstance(module, SpikingLinear) for module in model.modules())


def test_packed_layers_go_back_to_dense() -> None:
    """The weights that codes stand for, with rotation and shift undone."""
    model = qwen2()
    calibrate(model, text_batches(), gptq(rotate=True, shift=True))
    layer = model.model.layers[0].mlp.down_proj
    x = torch.randn(5, layer.in_features)
    expected = nn.functional.linear(layer.transform(x), layer.dense_weight(), layer.bias)
    to_dense(model)
    torch.testing.assert_close(model.model.layers[0].mlp.down_proj(x), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("neuron", ["spikellm", "spikingbrain", "spikelm"])
def test_other_neurons(tmp_path: Path, neuron: str) -> None:
    model, batches = qwen2(), text_batches()
    report = calibrate(model, batches, gptq(neuron={"type": neuron}, rotate=True, shift=True))
    model.save_pretrained(tmp_path)
    again = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert torch.equal(logits(again, batches[0]), logits(model, batches[0]))
    assert all(0 < layer.relative_error < 1 for _, layer in report.layers())
    if neuron == "spikelm":
        assert all(bool(layer.neuron.started) for _, layer in spiking_layers(again)), "alpha is calibrated"


@pytest.mark.parametrize("saliency", ["first_order", "peak", "random"])
def test_layers_of_one_input_share_a_mask(saliency: Any) -> None:
    model = qwen2()
    report = calibrate(model, text_batches(), rounded(GIF(salient_share=0.1), saliency=saliency))
    for block in model.model.layers:
        attention, mlp = block.self_attn, block.mlp
        for group in ((attention.q_proj, attention.k_proj, attention.v_proj), (mlp.gate_proj, mlp.up_proj)):
            assert {tuple(layer.neuron.salient.tolist()) for layer in group} == {
                tuple(group[0].neuron.salient.tolist())
            }
            assert group[0].neuron.salient.sum() == 3
        assert mlp.down_proj.neuron.salient.sum() == 4
    assert {layer.salient_channels for _, layer in report.layers()} == {3, 4}


def test_blocks_can_stay_dense() -> None:
    for method in ("gptq", "blocks"):
        model = qwen2()
        config = GIFConfig(rotate=True, modules_to_not_convert=["layers.0"])
        report = calibrate(model, text_batches(), ConversionSettings(config, method, passes=2))  # type: ignore[arg-type]
        assert list(report.blocks) == ["model.layers.1"]
        assert all(name.startswith("model.layers.1.") for name, _ in spiking_layers(model))


def test_noise_filter_is_least_squares() -> None:
    """F brings spikes closer to correlated inputs; strong damping leaves them alone."""
    layer = SpikingLinear.of(nn.Linear(16, 4), GIFNeuron(16, threshold=MeanThreshold(1.0)))
    x = torch.randn(500, 3) @ torch.randn(3, 16) + 0.1 * torch.randn(500, 16)
    moments = InputMoments(layer)
    for part in x.split((100, 150, 250)):
        moments.add(part)
    fired = layer.neuron(x)
    best = torch.linalg.lstsq(fired.double(), x.double()).solution.T
    torch.testing.assert_close(moments.noise_filter(1e-6).double(), best, rtol=0, atol=2e-3)
    assert (x - fired @ moments.noise_filter(0.01).T).norm() < 0.7 * (x - fired).norm()
    torch.testing.assert_close(moments.noise_filter(1e6), torch.eye(16), rtol=0, atol=1e-4)
    torch.testing.assert_close(moments.hessian.matrix, 2 / 500 * fired.T @ fired)


def test_rotate_model_keeps_logits(tiny_checkpoint: Path) -> None:
    model = two_streams(tiny_checkpoint, torch.float32)
    [batch] = audio_batches(model)
    expected, before = logits(model, batch), find_layout(model).embedding.weight.clone()
    rotate_model(model, seed=3)
    assert not torch.equal(find_layout(model).embedding.weight, before)
    torch.testing.assert_close(logits(model, batch), expected, rtol=0, atol=1e-5)


def trained() -> tuple[Qwen2ForCausalLM, Tensor]:
    """A model that knows 16 random sequences by heart."""
    model = qwen2(hidden_size=64, intermediate_size=96, vocab_size=64)
    ids = torch.randint(64, (16, 32), generator=torch.Generator().manual_seed(2))
    optimizer = torch.optim.Adam(model.parameters(), 4e-3)
    for _ in range(100):
        optimizer.zero_grad()
        model(ids, labels=ids).loss.backward()
        optimizer.step()
    return model, ids


@pytest.mark.slow
def test_rotation_and_gptq_beat_rounding_under_outliers() -> None:
    model, ids = trained()
    inject_outliers(model, generator=torch.Generator().manual_seed(3))

    def loss(model: nn.Module) -> float:
        with torch.no_grad():
            return float(model(ids, labels=ids).loss)

    def increase(asked: ConversionSettings) -> float:
        converted = copy.deepcopy(model)
        calibrate(converted, [{"input_ids": part} for part in ids.split(4)], asked)
        return loss(converted) / loss(model) - 1

    plain = increase(rounded(GIF(quanta=None)))
    rotated = increase(gptq(rotate=True))
    prepared = increase(ConversionSettings(GIFConfig(rotate=True, shift=True), "gptq", noise_damping=1.0))
    assert rotated < 0.5 * plain
    assert prepared < 0.1 * rotated
