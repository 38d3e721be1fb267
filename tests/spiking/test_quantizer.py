"""Spiking as a property of a checkpoint: loaded, saved and loaded again through transformers, for any decoder model."""

import json
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn
from transformers import AutoModelForCausalLM, Trainer, TrainingArguments

from spikeaudio.lm.modeling import SpikeAudioForConditionalGeneration
from spikeaudio.spiking.config import GIFConfig
from spikeaudio.spiking.conversion import spiking_layers, to_dense, to_spiking
from spikeaudio.spiking.layers.linear import PackedSpikingLinear, SpikingLinear
from spikeaudio.spiking.neurons.gif import GIF
from spikeaudio.spiking.neurons.threshold import MeanThreshold, PeakThreshold
from tests.fixtures.tiny_qwen2 import tiny_qwen2

QUERIES = "model.layers.0.self_attn.q_proj"
IDS = torch.tensor([[1, 5, 9, 3, 7, 2]])


@pytest.fixture
def dense(tmp_path: Path) -> Path:
    """A Qwen2 with random weights, saved."""
    torch.manual_seed(0)
    tiny_qwen2().save_pretrained(tmp_path / "dense")
    return tmp_path / "dense"


def packed_in_place(model: nn.Module, config: GIFConfig) -> None:
    """Round every spiking layer's weights to integers."""
    largest = 2 ** (config.weight_bits - 1) - 1
    for name, layer in list(spiking_layers(model)):
        grouped = layer.weight.detach().unflatten(1, (-1, config.group_size or layer.in_features))
        scale = grouped.abs().amax(-1) / largest
        codes = (grouped / scale.unsqueeze(-1)).round().flatten(1).to(torch.int8)
        model.set_submodule(name, PackedSpikingLinear.pack(layer, codes, scale, config.weight_bits, config.group_size))
    config.packed = True


def logits(model: nn.Module) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(IDS).logits


@pytest.mark.parametrize("neuron", ["gif", "spikellm", "spikingbrain", "spikelm"])
def test_dense_checkpoint_loads_spiking_and_reloads_bit_equal(dense: Path, tmp_path: Path, neuron: str) -> None:
    model = AutoModelForCausalLM.from_pretrained(dense, quantization_config=GIFConfig({"type": neuron}))
    layers = dict(spiking_layers(model))
    assert len(layers) == 2 * 7 and "lm_head" not in layers
    for layer in layers.values():  # nothing uninitialised: what a dense checkpoint lacks is reset
        for name, tensor in [*layer.neuron.named_buffers(), *layer.neuron.named_parameters()]:
            assert not tensor.is_meta and torch.isfinite(tensor.float()).all()
            if name == "salient":
                assert not tensor.any()
    model.save_pretrained(tmp_path / "spiking")
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "spiking")
    assert len(list(spiking_layers(again))) == len(layers)
    assert torch.equal(logits(again), logits(model))
    assert not torch.equal(logits(model), logits(AutoModelForCausalLM.from_pretrained(dense)))


@pytest.mark.parametrize("group_size", [None, 16])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_packed_checkpoint_reloads_bit_equal(
    dense: Path, tmp_path: Path, group_size: int | None, dtype: torch.dtype
) -> None:
    config = GIFConfig(GIF(salient_share=0.2), group_size=group_size)
    model = AutoModelForCausalLM.from_pretrained(dense, quantization_config=config, dtype=dtype)
    for _, layer in spiking_layers(model):
        layer.neuron.select(torch.arange(layer.in_features) % 5 == 0)
    packed_in_place(model, model.config.quantization_config)
    model.save_pretrained(tmp_path / "packed")
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "packed", dtype=dtype)
    for _, layer in spiking_layers(again):
        assert isinstance(layer, PackedSpikingLinear) and layer.weight.dtype == torch.uint8
        assert layer.weight_scale.dtype == torch.float32
        assert len(layer.neuron.salient_channels) == -(-layer.in_features // 5)
    assert torch.equal(logits(again), logits(model))
    stored = json.loads((tmp_path / "packed" / "config.json").read_text())["quantization_config"]
    assert stored["quant_method"] == "gif" and stored["packed"] is True


def test_three_bit_weights_are_three_bits_on_disk(dense: Path, tmp_path: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(dense, quantization_config=GIFConfig(weight_bits=3))
    packed_in_place(model, model.config.quantization_config)
    model.save_pretrained(tmp_path / "packed")
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "packed")
    layer = again.get_submodule(QUERIES)
    assert layer.weight.shape == (layer.out_features, 3 * layer.in_features // 8)
    assert torch.equal(layer.codes(), model.get_submodule(QUERIES).codes())
    assert torch.equal(logits(again), logits(model))


def test_two_stream_model(tiny_checkpoint: Path, tmp_path: Path) -> None:
    load = SpikeAudioForConditionalGeneration.from_pretrained
    model = load(tiny_checkpoint, quantization_config=GIFConfig())
    names = [name for name, _ in spiking_layers(model)]
    assert len(names) == 4 * 7  # three trunk layers, one audio layer
    packed_in_place(model, model.config.quantization_config)
    model.save_pretrained(tmp_path)
    again = load(tmp_path)
    prompt = {"input_ids": IDS, "audio_input_ids": torch.full_like(IDS, model.config.blank_token_id)}
    with torch.no_grad():
        one, other = model.eval()(**prompt), again.eval()(**prompt)
    assert torch.equal(one.logits, other.logits) and torch.equal(one.audio_logits, other.audio_logits)


@pytest.mark.parametrize("keys", [{"rotate": True}, {"shift": True}, {"packed": True}])
def test_a_dense_checkpoint_is_not_taken_for_a_prepared_one(dense: Path, keys: dict) -> None:
    with pytest.raises(ValueError, match="a dense checkpoint is not rotated, shifted or packed"):
        AutoModelForCausalLM.from_pretrained(dense, quantization_config=GIFConfig(**keys))


@pytest.mark.parametrize("group_size", [None, 16])
def test_places_for_a_prepared_checkpoint(dense: Path, group_size: int | None) -> None:
    """Rotation and shift stand in front of the neuron, where names of the dense model do not change."""
    config = GIFConfig(
        rotate=True, shift=True, packed=True, group_size=group_size, layer_neurons={QUERIES: {"quanta": None}}
    )
    model = AutoModelForCausalLM.from_pretrained(dense)
    names = set(model.state_dict())
    to_spiking(model, GIFConfig.from_dict(config.to_dict()))
    added = {name.partition("proj.")[2] for name in set(model.state_dict()) - names}
    buffers = {"transform.rotation.signs", "transform.shift.mean", "neuron.salient", "weight_scale", "bias"}
    assert names <= set(model.state_dict()) and added == buffers
    for name, layer in spiking_layers(model):
        assert isinstance(layer, nn.Linear) and layer.bias is not None
        rotations = [part for part, _ in layer.transform.named_children() if part == "rotation"]
        assert len(rotations) == name.endswith("down_proj")
        assert layer.neuron.threshold == (PeakThreshold() if name == QUERIES else MeanThreshold(2.0))


def test_back_to_dense(dense: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(dense, quantization_config=GIFConfig())
    expected = logits(AutoModelForCausalLM.from_pretrained(dense))
    assert to_dense(model) == 2 * 7
    assert torch.equal(logits(model), expected)


def test_adapters_wrap_spiking_layers(dense: Path) -> None:
    config = GIFConfig()
    model = AutoModelForCausalLM.from_pretrained(dense, quantization_config=config)
    packed_in_place(model, model.config.quantization_config)
    adapted = get_peft_model(model, LoraConfig(r=2, target_modules=["q_proj", "v_proj"]))
    loss = adapted(IDS, labels=IDS).loss
    loss.backward()
    gradients = [p.grad for n, p in adapted.named_parameters() if "lora_B" in n]
    assert len(gradients) == 4 and all(g is not None and g.abs().sum() > 0 for g in gradients)


def test_trainer_trains_real_weights(dense: Path, tmp_path: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(dense, quantization_config=GIFConfig())
    before = model.model.layers[0].mlp.up_proj.weight.detach().clone()
    trainer = Trainer(
        model,
        TrainingArguments(tmp_path, max_steps=2, per_device_train_batch_size=1, report_to=[], use_cpu=True),
        train_dataset=[{"input_ids": IDS[0], "labels": IDS[0]}] * 4,
    )
    trainer.train()
    assert isinstance(model.model.layers[0].mlp.up_proj, SpikingLinear)
    assert not torch.equal(model.model.layers[0].mlp.up_proj.weight, before)


@pytest.mark.parametrize(
    "keys,message",
    [
        ({"time_step": 2}, r"unknown keys \['time_step'\].*weight_bits"),
        ({"time_steps": 2}, r"unknown keys \['time_steps'\]"),
        ({"neuron": "gif"}, "parameters of a neuron such as GIF"),
        ({"neuron": {"type": "lif"}}, "neuron type must be one of gif, .*got 'lif'"),
        ({"neuron": {"levels": 3}}, "neuron type must be one of .*got None"),
        ({"neuron": {"type": "spikelm", "levels": 3}}, r"unknown parameters \['levels'\] of the neuron 'spikelm'"),
        ({"neuron": {"type": "spikellm", "levels": 6}}, "levels \\+ 1 must be a power of two, got 7"),
        ({"neuron": {"type": "gif", "coding": "rank"}}, "coding must be one of"),
        ({"neuron": {"type": "gif", "salient_share": 1.0}}, r"salient_share must be in \[0, 1\)"),
        ({"weight_bits": 9}, "2 to 8 bits, got 9"),
        ({"neuron": {"type": "gif", "levels": 0}}, "levels >= 1"),
        ({"neuron": {"type": "spikingbrain", "quanta": -1.0}}, "quanta must be positive"),
        ({"layer_neurons": {"a": {"quanta": -1.0}}}, "quanta must be positive"),
        ({"targets": []}, "targets is empty"),
    ],
)
def test_bad_configurations(keys: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        GIFConfig(**keys)


def test_models_that_cannot_spike() -> None:
    with pytest.raises(ValueError, match="no linear layer of the model is called q_proj"):
        to_spiking(nn.Sequential(nn.Linear(2, 2)), GIFConfig())
    model = nn.ModuleDict({"q_proj": nn.Linear(8, 8)})
    to_spiking(model, GIFConfig())
    with pytest.raises(ValueError, match="spikes already"):
        to_spiking(model, GIFConfig())
