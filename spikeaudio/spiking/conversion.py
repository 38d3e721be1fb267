"""Dense layers become spiking ones, in place; back, too."""

from collections.abc import Iterator

import torch
from torch import nn

from spikeaudio.spiking.config import GIFConfig
from spikeaudio.spiking.linear import PackedSpikingLinear, SpikingLinear


def spiking_layers(model: nn.Module) -> Iterator[tuple[str, SpikingLinear]]:
    """Names and modules of the layers that spike."""
    for name, module in model.named_modules():
        if isinstance(module, SpikingLinear):
            yield name, module


def to_spiking(model: nn.Module, config: GIFConfig) -> int:
    """Put a neuron in front of every layer that `config` names; weights stay as they are.

    Returns:
        The number of layers.

    Raises:
        ValueError: the model has no such layer, or spikes already.
    """
    if any(True for _ in spiking_layers(model)):
        raise ValueError("the model spikes already: start from the dense one")
    found = [(name, module) for name, module in model.named_modules() if config.spikes(name, module)]
    if not found:
        raise ValueError(f"no linear layer of the model is called {', '.join(config.targets)}")
    for name, module in found:
        assert isinstance(module, nn.Linear)
        model.set_submodule(name, _spiking_form(module, config))
    return len(found)


def _spiking_form(dense: nn.Linear, config: GIFConfig) -> SpikingLinear:
    with torch.device(dense.weight.device):
        neuron = config.make_neuron(dense.in_features)
    if not config.packed:
        return SpikingLinear.of(dense, neuron)
    return PackedSpikingLinear(
        dense.in_features,
        dense.out_features,
        neuron,
        config.weight_bits,
        config.group_size,
        dense.bias is not None,
        device=dense.weight.device,
        dtype=dense.weight.dtype,
    )


def to_dense(model: nn.Module) -> int:
    """Replace spiking layers by dense ones with the weights that they stand for; returns the number of layers."""
    layers = list(spiking_layers(model))
    for name, layer in layers:
        dense = nn.Linear(layer.in_features, layer.out_features, layer.bias is not None, device="meta")
        weight = layer.dense_weight() if isinstance(layer, PackedSpikingLinear) else layer.weight.detach()
        reference = layer.bias if layer.bias is not None else layer.weight
        dtype = reference.dtype if reference.is_floating_point() else torch.float32
        dense.weight = nn.Parameter(weight.to(dtype))
        dense.bias = layer.bias
        model.set_submodule(name, dense)
    return len(layers)
