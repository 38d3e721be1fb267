"""Kept weights: the same numbers as unpacked ones, never those of weights that are gone."""

import copy
import io
import itertools
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from spikeaudio import SpikeAudio
from spikeaudio.spiking import quantizer
from spikeaudio.spiking.config import GIFConfig
from spikeaudio.spiking.conversion import keep_unpacked, spiking_layers, to_spiking, unpacked_bytes
from spikeaudio.spiking.counting import counting
from spikeaudio.spiking.kernels import execution
from spikeaudio.spiking.kernels.execution import event_driven, folded
from spikeaudio.spiking.layers import linear, operand
from spikeaudio.spiking.layers.linear import PackedSpikingLinear, SpikingLinear
from spikeaudio.spiking.layers.operand import KeptCodes, UnpackedRows
from spikeaudio.spiking.neurons.affine import AffineNeuron
from spikeaudio.spiking.neurons.gif import GIFNeuron
from spikeaudio.spiking.neurons.neuron import SpikingNeuron
from spikeaudio.spiking.neurons.steps import BitSteps, RadixSteps, UnarySteps
from spikeaudio.spiking.neurons.threshold import MeanThreshold, PeakThreshold


def packed_layer(
    inputs: int = 48, outputs: int = 20, bits: int = 4, groups: int = 1, neuron: SpikingNeuron | None = None
) -> PackedSpikingLinear:
    """Random codes over their whole range."""
    layer = SpikingLinear.of(nn.Linear(inputs, outputs), neuron or GIFNeuron(inputs))
    codes = torch.randint(-(2 ** (bits - 1)), 2 ** (bits - 1), (outputs, inputs), dtype=torch.int8)
    return PackedSpikingLinear.pack(layer, codes, torch.rand(outputs, groups) + 0.1, bits, inputs // groups).eval()


def kept(layer: PackedSpikingLinear) -> PackedSpikingLinear:
    """The layer, after a first call has filled what it keeps."""
    keep_unpacked(layer)
    layer(torch.randn(2, layer.in_features))
    return layer


@torch.no_grad()
def plain(layer: PackedSpikingLinear, x: Tensor) -> Tensor:
    """Output with nothing kept, whatever the layer keeps."""
    before, layer.operand = layer.operand, UnpackedRows()
    out = layer(x)
    layer.operand = before
    return out


def exact(layer: PackedSpikingLinear, x: Tensor) -> Tensor:
    """The definition, in float64 and without groups or blocks: (..., O)."""
    weight = layer.codes().double() * layer.weight_scale.double().repeat_interleave(layer.group_size, dim=1)
    out = torch.zeros(*x.shape[:-1], layer.out_features, dtype=torch.float64)
    for plane in layer.planes(x):
        columns = weight if plane.channels is None else weight[:, plane.channels]
        counts = plane.counts if plane.zero is None else plane.counts - plane.zero
        out = out + plane.scale.double() * (counts.double() @ columns.T)
    return out + layer.bias.double()


@pytest.mark.parametrize("int8", [False, True])
@pytest.mark.parametrize("seed", range(24))
def test_kept_and_unpacked_give_the_same_bits(seed: int, int8: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """All widths, groups, neurons, executions and shapes; also with rows in blocks."""
    monkeypatch.setattr(execution, "_multiplies_int8", lambda: int8)
    rng = torch.Generator().manual_seed(seed)

    def draw(*choices: int) -> int:
        return choices[int(torch.randint(len(choices), (), generator=rng))]

    bits, groups = (2, 3, 4, 8)[seed % 4], draw(1, 1, 2, 4)
    inputs, outputs = groups * draw(2, 8, 12, 31), draw(1, 7, 40)
    salient = torch.arange(inputs) % 5 == 3
    neurons: list[SpikingNeuron] = [
        GIFNeuron(inputs),
        GIFNeuron(inputs, UnarySteps(1, 7), PeakThreshold(), salient, RadixSteps(2, 15)),
        GIFNeuron(inputs, BitSteps(), MeanThreshold(3)),
        AffineNeuron(inputs, 4, 1, salient),
    ]
    layer = packed_layer(inputs, outputs, bits, groups, neurons[seed // 4 % 4])
    executions = [folded, event_driven] if isinstance(layer.neuron, GIFNeuron) else [folded]
    x = torch.randn(*[draw(1, 3)] * draw(0, 1, 2), inputs, generator=rng)
    with torch.no_grad():
        whole = layer(x)
        torch.testing.assert_close(whole.double(), exact(layer, x), rtol=1e-5, atol=1e-4)
        for layer.execution, limit in itertools.product(executions, (1, 2**18)):
            monkeypatch.setattr(operand, "_CODES_AT_ONCE", limit)
            monkeypatch.setattr(linear, "_FEW_TOKENS", limit)
            layer.operand = UnpackedRows()
            assert torch.equal(layer(x), whole)
            keep_unpacked(layer)
            assert torch.equal(layer(x), whole) and torch.equal(layer(x), whole)


@pytest.mark.parametrize("groups", [1, 4])
def test_no_tokens(groups: int) -> None:
    layer = packed_layer(groups=groups)
    for _ in range(2):
        assert layer(torch.randn(0, 3, 48)).shape == (0, 3, 20)
        keep_unpacked(layer)


def assign(layer: PackedSpikingLinear) -> None:
    layer.weight = nn.Parameter(layer.weight.detach().flip(0), requires_grad=False)


def write(layer: PackedSpikingLinear) -> None:
    with torch.no_grad():
        layer.weight.copy_(layer.weight.flip(0).clone())


def write_one(layer: PackedSpikingLinear) -> None:
    with torch.inference_mode():
        layer.weight[0, 0] ^= 255


def load(layer: PackedSpikingLinear) -> None:
    state = {name: tensor.clone() for name, tensor in layer.state_dict().items()}
    layer.load_state_dict(state | {"weight": state["weight"].flip(0)})


def load_assigned(layer: PackedSpikingLinear) -> None:
    state = {name: tensor.clone() for name, tensor in layer.state_dict().items()}
    layer.load_state_dict(state | {"weight": state["weight"].flip(0)}, assign=True)


def replace_data_twice(layer: PackedSpikingLinear) -> None:
    """The second storage could come to lie where the first was."""
    layer.weight.data = layer.weight.data.flip(0)
    layer.weight.data = layer.weight.data.roll(1, 0).clone()


def move(layer: PackedSpikingLinear) -> None:
    layer.to("meta").to_empty(device="cpu")
    with torch.no_grad():
        layer.weight.fill_(7)
        layer.weight_scale.fill_(1)
        layer.bias.fill_(0)
    layer.neuron.load_state_dict(GIFNeuron(48).state_dict())
    layer.neuron.refresh()


CHANGES = [assign, write, write_one, load, load_assigned, replace_data_twice, move]


@pytest.mark.parametrize("int8", [False, True])
@pytest.mark.parametrize("change", CHANGES)
def test_changed_weights_are_seen(
    change: Callable[[PackedSpikingLinear], None], int8: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(execution, "_multiplies_int8", lambda: int8)
    layer = kept(packed_layer())
    x = torch.randn(3, 48)
    before = layer(x)
    change(layer)
    assert torch.equal(layer(x), plain(layer, x)) and not torch.equal(layer(x), before)


def test_weights_without_versions_are_not_kept() -> None:
    """Tensors made in inference mode do not say that they changed."""
    with torch.inference_mode():
        layer = kept(packed_layer())
        x = torch.randn(3, 48)
        assert torch.equal(layer(x), plain(layer, x))
        layer.weight.copy_(layer.weight.flip(0).clone())
        assert torch.equal(layer(x), plain(layer, x))


def test_what_is_kept_is_used() -> None:
    """Else the tests above would hold for nothing."""
    layer = kept(packed_layer())
    x = torch.randn(3, 48)
    before = layer(x)
    layer.weight.data[:] = layer.weight.flip(0).clone()  # the one way to write that nothing sees
    assert torch.equal(layer(x), before) and not torch.equal(plain(layer, x), before)
    layer.operand = KeptCodes()
    assert torch.equal(layer(x), plain(layer, x))


def test_copies_begin_empty_and_states_stay() -> None:
    layer = packed_layer()
    names, size = list(layer.state_dict()), len(pickle.dumps(layer))
    kept(layer)
    assert list(layer.state_dict()) == names and len(pickle.dumps(layer)) < size + 100
    file = io.BytesIO()
    torch.save(layer, file)
    file.seek(0)
    x = torch.randn(3, 48)
    for other in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer)), torch.load(file, weights_only=False)):
        write(other)
        assert torch.equal(other(x), plain(other, x)) and torch.equal(layer(x), plain(layer, x))
        assert isinstance(other.operand, KeptCodes) and not torch.equal(other(x), layer(x))


def test_scales_are_read_afresh() -> None:
    layer = kept(packed_layer())
    x = torch.randn(3, 48)
    with torch.no_grad():
        layer.weight_scale.mul_(2)
    assert torch.equal(layer(x), plain(layer, x))


def test_gradients_and_counts_are_the_same() -> None:
    layer = packed_layer()
    x = torch.randn(3, 48)
    gradients, counts = [], []
    for _ in range(2):
        leaf = x.clone().requires_grad_()
        layer(leaf).square().sum().backward()
        gradients.append(leaf.grad)
        with counting(layer) as count:
            layer(x)
        counts.append(count.layers)
        keep_unpacked(layer)
    assert torch.equal(*gradients) and counts[0] == counts[1]


def test_models_by_the_layer() -> None:
    model = nn.ModuleDict({"q_proj": nn.Linear(16, 8), "head": nn.Linear(16, 4)})
    assert unpacked_bytes(model) == 0
    to_spiking(model, GIFConfig(packed=True))
    assert unpacked_bytes(model) == 4 * 16 * 8
    keep_unpacked(model)
    assert all(isinstance(layer.operand, KeptCodes) for _, layer in spiking_layers(model))


@pytest.mark.parametrize("limit,kind", [(2**26, KeptCodes), (100, UnpackedRows)])
def test_small_checkpoints_are_kept_unpacked(
    tiny_checkpoint: Path, tmp_path: Path, limit: int, kind: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = SpikeAudio.from_pretrained(tiny_checkpoint)
    config = GIFConfig(packed=True)
    to_spiking(source.model, config)
    source.model.config.quantization_config = config
    source.save_pretrained(tmp_path)
    monkeypatch.setattr(quantizer, "UNPACKED_BYTES", limit)
    layers = [layer for _, layer in spiking_layers(SpikeAudio.from_pretrained(tmp_path).model)]
    assert layers and all(isinstance(layer.operand, kind) for layer in layers)
