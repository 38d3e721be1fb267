"""Training on the grid: what trains is what is packed, and clipping learns."""

import copy

import pytest
import torch
from transformers import Qwen2ForCausalLM

from spikeaudio.spiking.config import GIFConfig
from spikeaudio.spiking.conversion import spiking_layers, to_spiking
from spikeaudio.spiking.layers.linear import PackedSpikingLinear
from spikeaudio.spiking.preparation.rounded_weight import (
    ClippedFit,
    RoundedWeight,
    TernaryFit,
    attach_rounding,
    pack_rounded,
)
from spikeaudio.spiking.weights.weight_grid import AffineGrid
from tests.fixtures.tiny_qwen2 import tiny_qwen2

IDS = torch.tensor([[1, 5, 9, 3, 7, 2], [4, 4, 8, 30, 2, 11]])


def spiking(config: GIFConfig) -> Qwen2ForCausalLM:
    model = tiny_qwen2(initializer_range=0.2)
    to_spiking(model, config)
    return model


def test_clipping_starts_where_the_rounding_error_is_least() -> None:
    weight = torch.randn(7, 32)
    weight[2] = 0
    for size in (None, 8):
        best = AffineGrid.symmetric(weight, 4, size).shrunk(weight)
        grid = ClippedFit(weight, 4, size)(weight)
        error, least = ((g.quantize(weight) - weight).square().sum() for g in (grid, best))
        assert error <= 1.1 * least
        assert torch.equal(grid.quantize(weight)[2], torch.zeros(32))


def test_weights_move_straight_through_and_bounds_learn() -> None:
    weight = torch.randn(4, 16, requires_grad=True)
    rounded = RoundedWeight(ClippedFit(weight, 4))
    pull = torch.randn(4, 16)
    (rounded(weight) * pull).sum().backward()
    inside = weight.detach().abs() < 0.5 * weight.detach().abs().amax(1, keepdim=True)
    torch.testing.assert_close(weight.grad[inside], pull[inside])
    assert all(parameter.grad is not None for parameter in rounded.parameters())
    assert sum(float(parameter.grad.abs().sum()) for parameter in rounded.parameters()) > 0


def test_ternary_weights_train() -> None:
    weight = torch.randn(4, 16, requires_grad=True)
    rounded = RoundedWeight(TernaryFit())(weight)
    assert all(len(row.unique()) <= 3 for row in rounded)
    rounded.sum().backward()
    assert 0 < (weight.grad != 0).float().mean() < 1  # what lies beyond the outer level is clipped


@pytest.mark.parametrize("size", [None, 16])
@pytest.mark.parametrize("bits", [2, 4, 8])
def test_what_trains_is_what_is_packed(bits: int, size: int | None) -> None:
    config = GIFConfig(weight_bits=bits, group_size=size)
    model = spiking(config)
    attach_rounding(model, config)
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    losses = []
    for _ in range(8):
        loss = model(IDS, labels=IDS).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    with torch.no_grad():
        trained = model(IDS).logits
        pack_rounded(model, config)
        assert all(type(layer) is PackedSpikingLinear for _, layer in spiking_layers(model))
        torch.testing.assert_close(model(IDS).logits, trained, rtol=1e-3, atol=1e-3)
    assert not any("parametrizations" in name for name in model.state_dict())


def test_order_of_calls_is_checked() -> None:
    config = GIFConfig()
    model = spiking(config)
    with pytest.raises(ValueError, match="are not on a grid: call attach_rounding first"):
        pack_rounded(copy.deepcopy(model), config)
    attach_rounding(model, config)
    pack_rounded(model, config)
    with pytest.raises(ValueError, match="packed already: start from the dense checkpoint"):
        attach_rounding(model, config)
