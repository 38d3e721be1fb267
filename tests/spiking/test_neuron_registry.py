"""A neuron from outside of the package, all of it in this file: it spikes, is saved and loaded, is counted."""

import json
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM

from spikeaudio.spiking.config import GIFConfig
from spikeaudio.spiking.conversion import spiking_layers
from spikeaudio.spiking.counting import counting
from spikeaudio.spiking.neurons.affine import AffineNeuron, SpikeLLM
from spikeaudio.spiking.neurons.gif import GIF
from spikeaudio.spiking.neurons.neuron import SpikingNeuron
from spikeaudio.spiking.neurons.planes import Plane
from spikeaudio.spiking.neurons.registry import NeuronParameters, changed, neuron, neuron_of
from spikeaudio.spiking.neurons.steps import UnarySteps
from spikeaudio.spiking.preparation.calibration import calibrate
from spikeaudio.spiking.preparation.settings import ConversionSettings
from tests.fixtures.tiny_qwen2 import tiny_qwen2

IDS = torch.tensor([[1, 5, 9, 3, 7, 2]])


class FixedNeuron(SpikingNeuron):
    """Spikes of a fixed size, which start at a value of its own for every layer."""

    value: Tensor

    def __init__(self, quantum: float, levels: int) -> None:
        super().__init__()
        self.register_buffer("value", torch.tensor(quantum))
        self.steps = UnarySteps(1, levels)

    def planes(self, values: Tensor) -> list[Plane]:
        scale = self.value.float().expand(*values.shape[:-1], 1)
        counts = (values.float() / scale).round().clamp(-self.steps.levels, self.steps.levels)
        return [Plane(counts.to(torch.int32), scale, self.steps)]


@neuron("toy-fixed")
@dataclass(frozen=True)
class Fixed(NeuronParameters):
    quantum: float = 0.25
    levels: int = 5

    def make(self, num_channels: int) -> FixedNeuron:
        return FixedNeuron(self.quantum, self.levels)


def logits(model: torch.nn.Module) -> Tensor:
    with torch.no_grad():
        return model.eval()(IDS).logits


@pytest.mark.parametrize("method", ["gptq", "round", "train"])
def test_a_neuron_of_another_package(tmp_path: Path, method: str) -> None:
    model = tiny_qwen2(initializer_range=0.3)
    config = GIFConfig(Fixed(quantum=0.5), rotate=True, shift=True)
    calibrate(model, [{"input_ids": IDS}], ConversionSettings(config, method))  # type: ignore[arg-type]
    [layer, *_] = [layer for _, layer in spiking_layers(model)]
    layer.neuron.value.fill_(0.75)  # a state of its own, to be found in the file
    model.save_pretrained(tmp_path)
    stored = json.loads((tmp_path / "config.json").read_text())["quantization_config"]
    assert stored["neuron"] == {"type": "toy-fixed", "quantum": 0.5, "levels": 5}
    again = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert torch.equal(logits(again), logits(model))
    assert [float(layer.neuron.value) for _, layer in spiking_layers(again)] == [0.75] + 13 * [0.5]
    with counting(again) as count:
        logits(again)
    assert 0 < count.total.unary_events and 0 < count.total.unary_rate <= 5
    assert count.total.elements == 2 * 6 * (6 * 32 + 48)


def test_a_dense_checkpoint_loads_with_it(tmp_path: Path) -> None:
    tiny_qwen2(initializer_range=0.3).save_pretrained(tmp_path)
    model = AutoModelForCausalLM.from_pretrained(tmp_path, quantization_config=GIFConfig({"type": "toy-fixed"}))
    assert all(isinstance(layer.neuron, FixedNeuron) for _, layer in spiking_layers(model))
    assert all(float(layer.neuron.value) == 0.25 for _, layer in spiking_layers(model)), "made after loading"


def test_names_belong_to_one_class() -> None:
    with pytest.raises(ValueError, match="there is a neuron 'gif' already"):
        neuron("gif")(Fixed)
    assert Fixed.type_name == "toy-fixed"
    with pytest.raises(ValueError, match=r"must be one of .*toy-fixed.*, got 'lif'"):
        neuron_of({"type": "lif"})


def test_parameters_survive_json() -> None:
    for given in (GIF(levels=3, quanta=None), SpikeLLM(levels=7, salient_time_steps=4), Fixed(levels=2)):
        assert neuron_of(json.loads(json.dumps(given.to_dict()))) == given
    assert changed(GIF(levels=3), {"quanta": None}) == GIF(levels=3, quanta=None)


@pytest.mark.parametrize("levels", [1, 3, 15])
def test_levels_are_the_largest_amplitude_of_a_spike(levels: int) -> None:
    """For every neuron that has them."""
    x = torch.randn(50, 16) * torch.where(torch.arange(16) == 3, 50.0, 1.0)
    kinds = [GIF(levels=levels), GIF(levels=levels, time_steps=2, coding="radix", quanta=None), Fixed(levels=levels)]
    if levels > 1:
        kinds.append(SpikeLLM(levels=levels))
    for each in kinds:
        made = each.make(16)
        assert max(int(plane.spikes().abs().max()) for plane in made.planes(x)) == levels, each
    wide = SpikeLLM(levels=3, salient_time_steps=4).make(16)
    assert isinstance(wide, AffineNeuron)
    wide.select(torch.arange(16) < 4)
    assert [plane.steps for plane in wide.planes(x)] == [UnarySteps(1, 3), UnarySteps(4, 3)]
