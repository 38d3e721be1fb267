"""Counting against counts by hand, in every currency, in half precision too."""

import itertools

import pytest
import torch
from torch import nn

from spikeaudio.neuromorphic.energy import HOROWITZ_45NM, compute_energy, report
from spikeaudio.spiking.config import GIFConfig
from spikeaudio.spiking.conversion import to_spiking
from spikeaudio.spiking.counting import LayerCount, ModelCount, counting, popcount
from spikeaudio.spiking.layers.attention import NAME, on_attention
from spikeaudio.spiking.layers.cache import SpikingCache
from spikeaudio.spiking.layers.linear import PackedSpikingLinear, SpikingLinear
from spikeaudio.spiking.neurons.affine import AffineNeuron
from spikeaudio.spiking.neurons.gif import GIFNeuron
from spikeaudio.spiking.neurons.planes import Plane
from spikeaudio.spiking.neurons.steps import BitSteps, UnarySteps
from spikeaudio.spiking.neurons.threshold import PeakThreshold
from spikeaudio.spiking.transforms.outliers import MeanShift
from tests.fixtures.tiny_qwen2 import tiny_qwen2


def test_popcount() -> None:
    values = torch.arange(2**12)
    assert popcount(values).tolist() == [bin(value).count("1") for value in range(2**12)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_graded_layer_by_hand(dtype: torch.dtype) -> None:
    layer = SpikingLinear.of(nn.Linear(4, 3), GIFNeuron(4, UnarySteps(1, 7), PeakThreshold())).to(dtype)
    with torch.no_grad():
        layer.weight.fill_(1)
        layer.weight[0, 3] = 0  # input 3 reaches two outputs only
    with counting(layer) as count, torch.no_grad():
        layer(torch.tensor([[7.0, -3.0, 0.0, 5.0], [0.0, 0.0, 0.0, -7.0]], dtype=dtype))
    [total] = count.layers.values()
    assert (total.tokens, total.calls, total.elements, total.silent_elements) == (2, 1, 8, 4)
    assert (total.unary_events, total.bit_events, total.graded_events) == (7 + 3 + 5 + 7, 3 + 2 + 2 + 3, 4)
    assert total.unary_operations == 7 * 3 + 3 * 3 + 5 * 2 + 7 * 2
    assert total.bit_operations == 3 * 3 + 2 * 3 + 2 * 2 + 3 * 2
    assert total.graded_operations == 3 + 3 + 2 + 2 and total.ternary_operations == 0
    assert total.dense_operations == 2 * 4 * 3
    assert total.correction_operations == 0 and total.dequantization_operations == 2 * 3
    assert total.weight_bytes == 12 * torch.empty((), dtype=dtype).element_size()


def test_events_equal_the_spikes_that_travel() -> None:
    x = torch.randn(5, 16)
    neuron = GIFNeuron(16, UnarySteps(2, 3), salient=torch.arange(16) < 4, salient_steps=UnarySteps(4, 3))
    with counting(layer := SpikingLinear.of(nn.Linear(16, 2), neuron)) as count:
        layer(x)
    [total] = count.layers.values()
    planes = neuron.planes(x)
    assert total.unary_events == sum(int(plane.spikes().abs().sum()) for plane in planes)
    with counting(layer := SpikingLinear.of(nn.Linear(16, 2), GIFNeuron(16, BitSteps()))) as count:
        layer(x)
    [total] = count.layers.values()
    assert total.bit_events == int((layer.neuron.planes(x)[0].spikes() != 0).sum())


def test_ternary_spikes_are_accumulates() -> None:
    with counting(layer := SpikingLinear.of(nn.Linear(4, 3), GIFNeuron(4, UnarySteps(1, 1), PeakThreshold()))) as count:
        layer(torch.tensor([[1.0, -1.0, 0.1, 0.9]]))
    figures = report(layer, count, tokens=1)["SynapticOperations"]
    assert figures == {"Effective_MACs": 0, "Effective_ACs": 3 * 3, "Dense": 4 * 3}


def test_parameters_that_share_a_byte_are_all_counted() -> None:
    layer = SpikingLinear.of(nn.Linear(6, 4), GIFNeuron(6))
    packed = PackedSpikingLinear.pack(layer, torch.ones(4, 6, dtype=torch.int8), torch.ones(4, 1))
    with counting(packed) as count, torch.no_grad():
        packed(torch.randn(2, 6))
    figures = report(packed, count, tokens=2)
    assert figures["ParameterCount"] == 4 * 6 + 4 + 4  # weights, scales, biases
    assert figures["per_token"]["weight_bytes"] == (4 * 3 + 4 * 4) / 2  # packed codes and fp32 scales, one call


def test_zero_points_are_corrections_and_silence_fires() -> None:
    with counting(layer := SpikingLinear.of(nn.Linear(8, 3), AffineNeuron(8))) as count, torch.no_grad():
        layer(torch.tensor([[3.0, -2.0, 0, 0, 0, 0, 0, 0]]))
    [total] = count.layers.values()
    assert total.correction_operations == 3
    assert total.unary_events == 15 + 0 + 6 * 6  # a zero is coded as the zero point, 6 of 15
    assert total.silent_share == 1 / 8


def test_a_whole_model_and_its_attention() -> None:
    model = tiny_qwen2(vocab_size=20, hidden_size=16, intermediate_size=24)
    to_spiking(model, GIFConfig())
    with counting(model) as count, torch.no_grad():
        out = model(torch.tensor([[1, 2, 3]]))
        model(torch.tensor([[4]]), past_key_values=out.past_key_values)
    assert count.attention_operations == 2 * 2 * 16 * (1 + 2 + 3 + 4)  # layers, products, heads x size, visible pairs
    assert count.cache_bytes == 2 * 2 * 8 * 4 * (3 + 4)  # layers, keys and values, size, fp32, positions
    assert set(count.dense_layers) == {"lm_head"}
    assert count.dense_layers["lm_head"].dense_operations == 4 * 16 * 20
    per_block = 16 * 16 * 2 + 16 * 8 * 2 + 16 * 24 * 3
    assert count.total.dense_operations == 4 * 2 * per_block
    figures = report(model, count, tokens=4, audio_seconds=0.32)
    energy = compute_energy(count.total, dense_operations=4 * 16 * 20 + count.attention_operations)
    assert not count.attention and figures["per_token"]["attention_unary_operations"] == 0
    assert figures["compute_picojoules_per_token"] == pytest.approx({name: pj / 4 for name, pj in energy.items()})
    assert figures["SynapticOperations"]["Dense"] == 2 * per_block + 16 * 20
    assert figures["per_audio_second"]["attention_operations"] == pytest.approx(count.attention_operations / 0.32)
    assert 0 < figures["ActivationSparsity"] < 1
    assert model(torch.tensor([[1, 2, 3]])).logits.shape == (1, 3, 20)  # hooks are gone
    assert not any(module._forward_hooks for module in model.modules())


def test_spiking_attention_by_hand() -> None:
    model = tiny_qwen2(hidden_size=64, num_hidden_layers=1, attn_implementation=NAME, initializer_range=0.3)
    seen: list[list[Plane]] = []
    on_attention(model.model.layers[0].self_attn, lambda planes, mask: seen.append(planes))
    cache, ids = SpikingCache(), torch.tensor([[1, 2, 3, 4], [5, 6, 7, 8]])
    with counting(model) as count, torch.no_grad():
        model(ids[:, :3], past_key_values=cache)
        model(ids[:, 3:], past_key_values=cache)
    expected = {"unary": 0, "bit": 0, "graded": 0}
    for q, k, v, w in seen:
        rows, heads, new, size = q.counts.shape
        past = k.counts.shape[2] - new
        for b, h, t in itertools.product(range(rows), range(heads), range(new)):
            for s in range(past + t + 1):
                met = [(q.counts[b, h, t, c], k.counts[b, h, s, c]) for c in range(size)]
                met += [(w.counts[b, h, t, s], v.counts[b, h, s, c]) for c in range(size)]
                for fired, behind in ((abs(int(one)), int(other)) for one, other in met):
                    if behind:
                        expected["unary"] += fired
                        expected["bit"] += fired.bit_count()
                        expected["graded"] += fired > 0
    total = count.total_attention
    assert expected["unary"] == total.unary_operations
    assert (expected["bit"], expected["graded"]) == (total.bit_operations, total.graded_operations)
    assert total.dense_operations == count.attention_operations > total.graded_operations
    assert count.cache_bytes == 2 * 2 * 2 * (16 // 2 + 2) * (3 + 4)  # rows, keys and values, heads, bytes, positions
    per_token = report(model, count, tokens=8)["per_token"]
    assert per_token["attention_unary_operations"] == expected["unary"] / 8
    with counting(model) as again, torch.no_grad():
        model(ids)  # all at once, behind a mask
    events = [(c.total_attention.unary_events, c.total_attention.silent_elements) for c in (again, count)]
    assert events[0] == events[1]
    assert again.total_attention.unary_operations == expected["unary"]
    pairs, outputs = 2 * heads * (1 + 2 + 3 + 4), 2 * heads * 4 * size
    assert total.dequantization_operations == 3 * pairs + outputs  # scales of q, k and v; of w


def test_what_fires_is_counted_behind_the_transform() -> None:
    neuron = GIFNeuron(4, UnarySteps(1, 7), PeakThreshold())
    layer = SpikingLinear(4, 3, neuron, transform=MeanShift(torch.full((4,), 5.0)))
    with counting(nn.Sequential(layer)) as count:
        layer(torch.tensor([[5.0, 5.0, 6.0, 5.0]]))
    assert count.total.unary_events == 7 and count.total.silent_elements == 3  # without the shift all four fire


def test_energy_is_the_sum_of_its_parts() -> None:
    count = LayerCount(unary_operations=10, bit_operations=6, graded_operations=4, dense_operations=20)
    energy = compute_energy(count)
    assert energy == pytest.approx({"unary": 1.0, "bits": 0.6, "graded": 1.2, "dense_int8": 6.0, "dense_fp16": 30.0})
    with_dense = compute_energy(count, dense_operations=8)  # what does not spike costs the same in every currency
    assert with_dense == pytest.approx({name: value + 8 * 1.5 for name, value in energy.items()})
    count.dequantization_operations = 2
    assert compute_energy(count)["unary"] == pytest.approx(1.0 + 2 * HOROWITZ_45NM.fp32_multiply)
    with pytest.raises(ValueError, match="nothing was counted"):
        report(nn.Linear(2, 2), ModelCount(), 0)
