"""Adapters of peft on spiking layers: beside them they do what they would on dense ones; into them they never go."""

import copy
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import IA3Config, LoHaConfig, LoraConfig, PeftConfig, PeftModel, get_peft_model
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, Qwen2ForCausalLM

from spikeaudio.spiking.config import GIFConfig
from spikeaudio.spiking.conversion import keep_unpacked, spiking_layers, to_dense, to_spiking
from spikeaudio.spiking.layers.packed_codes import PackedCodes
from spikeaudio.spiking.preparation.calibration import calibrate
from spikeaudio.spiking.preparation.settings import ConversionSettings
from tests.fixtures.tiny_qwen2 import tiny_qwen2

IDS = torch.tensor([[1, 5, 9, 3, 7, 2]])
TARGETS = ["q_proj", "down_proj"]


def packed(bits: int, **changes: Any) -> Qwen2ForCausalLM:
    torch.manual_seed(0)
    model = tiny_qwen2(initializer_range=0.3)
    config = GIFConfig(weight_bits=bits, rotate=True, shift=True, **changes)
    calibrate(model, [{"input_ids": IDS}], ConversionSettings(config, "round"))
    return model


def unpacked(config: GIFConfig) -> Qwen2ForCausalLM:
    """Real weights behind neurons; rotated and shifted where `config` says so."""
    torch.manual_seed(0)
    model = tiny_qwen2(initializer_range=0.3)
    to_spiking(model, config)
    return model


def adapted(model: nn.Module, **changes: object) -> PeftModel:
    torch.manual_seed(0)
    return get_peft_model(model, LoraConfig(r=2, target_modules=TARGETS, init_lora_weights=False, **changes)).eval()


@torch.no_grad()
def logits(model: nn.Module) -> Tensor:
    return model.eval()(IDS).logits


MIXED = GIFConfig(rotate=True, shift=True, targets=["down_proj"])  # the adapters' other layers stay dense
BASES: dict[str, Callable[[], Qwen2ForCausalLM]] = {
    **{f"packed, {bits} bits": partial(packed, bits) for bits in (2, 4, 6, 8)},
    "packed beside dense": partial(packed, 8, targets=["down_proj"]),
    "unpacked": partial(unpacked, GIFConfig()),
    "rotated and shifted": partial(unpacked, GIFConfig(rotate=True, shift=True)),
    "unpacked beside dense": partial(unpacked, MIXED),
}


def check_refused(model: PeftModel, how: str, **arguments: object) -> None:
    before, state = logits(model), copy.deepcopy(model.state_dict())
    with pytest.raises(ValueError, match="no adapter can be merged"):
        getattr(model, how)(**arguments)
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())
    assert torch.equal(logits(model), before)


@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize("how", ["merge_and_unload", "merge_adapter"])
@pytest.mark.parametrize("safe", [False, True])
def test_merging_is_refused_and_changes_nothing(base: str, how: str, safe: bool) -> None:
    check_refused(adapted(BASES[base]()), how, safe_merge=safe)


@pytest.mark.parametrize(
    "config",
    [
        LoHaConfig(r=2, target_modules=TARGETS, init_weights=False),
        IA3Config(target_modules=TARGETS, feedforward_modules=["down_proj"], init_ia3_weights=False),
    ],
)
def test_other_adapters_are_refused_as_well(config: PeftConfig) -> None:
    model = get_peft_model(unpacked(MIXED), config).eval()
    check_refused(model, "merge_and_unload")
    check_refused(model, "merge_adapter")


def test_only_adapters_of_spiking_layers_are_refused() -> None:
    model = adapted(unpacked(MIXED))
    model.add_adapter("attention", LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False))
    check_refused(model, "merge_adapter", adapter_names=["attention", "default"])
    model.set_adapter("attention")
    expected = logits(model)
    torch.testing.assert_close(logits(model.merge_and_unload()), expected)


def test_an_adapter_of_dense_layers_is_merged() -> None:
    model = unpacked(MIXED)
    assert to_dense(model) == 2
    model = adapted(model)
    expected = logits(model)
    torch.testing.assert_close(logits(model.merge_and_unload()), expected)


def test_an_adapter_of_real_weights_reads_spikes_and_is_merged() -> None:
    parameters = [f"{name}.weight" for name in TARGETS]
    config = LoraConfig(r=2, target_modules=[], target_parameters=parameters, init_lora_weights=False)
    base = unpacked(GIFConfig(rotate=True, shift=True))
    plain = logits(base)
    model = get_peft_model(base, config).eval()
    expected = logits(model)
    assert not torch.allclose(expected, plain, atol=1e-3)
    torch.testing.assert_close(logits(model.merge_and_unload()), expected)


@pytest.mark.parametrize("bits", [4, 8])
def test_loaded_moved_and_copied_weights_are_as_closed(tmp_path: Path, bits: int) -> None:
    packed(bits).save_pretrained(tmp_path)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path)
    moved = copy.deepcopy(loaded).to("meta").to_empty(device="cpu")
    assigned = copy.deepcopy(loaded)
    assigned.load_state_dict({name: tensor.clone() for name, tensor in loaded.state_dict().items()}, assign=True)
    for model in (loaded, copy.deepcopy(loaded), copy.deepcopy(loaded).to(torch.float64), moved, assigned):
        assert all(type(layer.weight) is PackedCodes for _, layer in spiking_layers(model))
        [down] = [layer for name, layer in adapted(model).named_modules() if name.endswith("layers.0.mlp.down_proj")]
        for safe in (False, True):
            with pytest.raises(ValueError, match="no adapter can be merged"):
                down.merge(safe_merge=safe)  # of one layer: not what looks through the model first


def test_weights_decompositions_are_refused_too() -> None:
    with pytest.raises(ValueError, match="no adapter can be merged"):
        logits(adapted(packed(8), use_dora=True))


def test_an_adapter_beside_packed_layers_adds_its_update() -> None:
    base = packed(4)
    layers = dict(spiking_layers(base))
    inputs = {name: torch.randn(3, layer.in_features) for name, layer in layers.items()}
    with torch.no_grad():
        plain = {name: layer(inputs[name]) for name, layer in layers.items()}
    model = adapted(base)
    wrapped = [(name, module) for name, module in model.named_modules() if hasattr(module, "lora_A")]
    assert len(wrapped) == 2 * len(TARGETS)
    for name, module in wrapped:
        name = name.removeprefix("base_model.model.")
        x = inputs[name]
        update = module.scaling["default"] * module.lora_B["default"].weight @ module.lora_A["default"].weight
        with torch.no_grad():
            torch.testing.assert_close(module(x), plain[name] + x @ update.T, rtol=1e-5, atol=1e-5)


def test_an_adapter_is_saved_loaded_and_unloaded(tmp_path: Path) -> None:
    base = packed(4)
    expected = logits(base)
    model = adapted(base)
    with_adapter = logits(model)
    assert not torch.equal(with_adapter, expected)
    model.save_pretrained(tmp_path)
    again = PeftModel.from_pretrained(packed(4), tmp_path)
    assert torch.equal(logits(again), with_adapter)
    keep_unpacked(again)
    assert torch.equal(logits(again), with_adapter) and torch.equal(logits(again), with_adapter)
    assert torch.equal(logits(again.unload()), expected)
