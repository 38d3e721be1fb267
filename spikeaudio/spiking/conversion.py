"""Dense layers become spiking ones, in place; back, too."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from spikeaudio.spiking.config import GIFConfig
from spikeaudio.spiking.layers.attention import set_attention
from spikeaudio.spiking.layers.linear import PackedSpikingLinear, SpikingLinear
from spikeaudio.spiking.layers.operand import KeptCodes
from spikeaudio.spiking.transforms.outliers import MeanShift
from spikeaudio.spiking.transforms.rotation import end_in_linear

_ROWS_AT_ONCE = 1024  # of a transform's matrix in float64


def spiking_layers(model: nn.Module) -> Iterator[tuple[str, SpikingLinear]]:
    """Names and modules of the layers that spike."""
    for name, module in model.named_modules():
        if isinstance(module, SpikingLinear):
            yield name, module


def to_spiking(model: nn.Module, config: GIFConfig) -> int:
    """Put a neuron in front of every layer that `config` names; weights stay as they are.

    Where `config.prepared`, the model gets empty places for everything that its checkpoint holds: load it next. To
    prepare the weights of a dense model, call `spikeaudio.spiking.preparation.calibration.calibrate` instead.

    Returns:
        The number of layers.

    Raises:
        ValueError: the model has no such layer, or spikes already.

    Example:
        >>> from transformers import Qwen2Config, Qwen2ForCausalLM
        >>> from spikeaudio import GIFConfig
        >>> from spikeaudio.spiking.conversion import to_spiking
        >>> sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "vocab_size": 40}
        >>> model = Qwen2ForCausalLM(Qwen2Config(num_attention_heads=4, num_key_value_heads=2, **sizes))
        >>> to_spiking(model, GIFConfig())
        14
    """
    if any(True for _ in spiking_layers(model)):
        raise ValueError("the model spikes already: start from the dense one")
    found = [(name, module) for name, module in model.named_modules() if config.spikes(name, module)]
    if not found:
        raise ValueError(f"no linear layer of the model is called {', '.join(config.targets)}")
    set_attention(model, config.attention)
    if config.rotate:
        _end_adaptors_in_linear(model)
    for name, module in found:
        assert isinstance(module, nn.Linear)
        model.set_submodule(name, spiking_form(name, module, config))
    return len(found)


@torch.no_grad()
def cast(model: nn.Module, dtype: torch.dtype) -> None:
    """Give everything but the scales of packed weights another dtype, in place.

    A mean that is shifted off loses its last digits; the bias of its layer makes up for them.
    """
    layers = [layer for _, layer in spiking_layers(model) if isinstance(layer, PackedSpikingLinear)]
    for layer in layers:
        for shift in (part for part in layer.transform.children() if isinstance(part, MeanShift)):
            rounded = shift.mean.to(dtype).to(shift.mean.dtype)
            layer.bias.add_(layer.dense_weight() @ (rounded - shift.mean))  # else a large mean would leave its rounding
            shift.mean.copy_(rounded)
    scales = {id(layer.weight_scale) for layer in layers}
    for tensor in (*model.parameters(), *model.buffers()):
        if tensor.is_floating_point() and id(tensor) not in scales:
            tensor.data = tensor.data.to(dtype)


def _end_adaptors_in_linear(model: nn.Module) -> None:
    """What R1 did to the modules that write features into the residual stream."""
    adaptors = [module for name, module in model.named_modules() if name.endswith("adaptor")]
    for adaptor in adaptors:
        end_in_linear(adaptor, model.get_input_embeddings().embedding_dim)  # type: ignore[operator]


def spiking_form(name: str, dense: nn.Linear, config: GIFConfig) -> SpikingLinear:
    """A layer of this name as `config` wants it, without state of its own yet; unpacked, it shares the weights."""
    like = dense.weight
    with torch.device(like.device):
        neuron = config.make_neuron(dense.in_features, name)
        transform = config.make_transform(dense.in_features, name, like.dtype)
    has_bias = dense.bias is not None or config.shift
    if config.packed:
        return PackedSpikingLinear(
            dense.in_features,
            dense.out_features,
            neuron,
            config.weight_bits,
            config.group_size,
            has_bias,
            like.device,
            like.dtype,
            transform,
        )
    layer = SpikingLinear.of(dense, neuron, transform)
    if has_bias and dense.bias is None:
        layer.bias = nn.Parameter(like.new_zeros(dense.out_features), requires_grad=like.requires_grad)
    return layer


def unpacked_bytes(model: nn.Module) -> int:
    """Memory that `keep_unpacked` costs at most: four bytes for every packed weight of the model."""
    packed = [layer for _, layer in spiking_layers(model) if isinstance(layer, PackedSpikingLinear)]
    return sum(4 * layer.in_features * layer.out_features for layer in packed)


def keep_unpacked(model: nn.Module) -> None:
    """Let packed layers keep their weights unpacked from the first call on: faster, the same numbers, more memory.

    For models whose weights fit in memory several times over (`unpacked_bytes`). Checkpoints stay packed, copies of the
    model begin packed; what changed or moved is unpacked again (see `spikeaudio.spiking.layers.operand`).

    Example:
        >>> from spikeaudio import SpikeAudioForConditionalGeneration
        >>> from spikeaudio.spiking.conversion import keep_unpacked, unpacked_bytes
        >>> model = SpikeAudioForConditionalGeneration.from_pretrained("checkpoints/spikeaudio-tiny-w4a4")
        >>> unpacked_bytes(model) // 2**20
        12
        >>> keep_unpacked(model)
    """
    for _, layer in spiking_layers(model):
        if isinstance(layer, PackedSpikingLinear):
            layer.operand = KeptCodes()


@torch.no_grad()
def to_dense(model: nn.Module) -> int:
    """Replace spiking layers by dense ones that compute what they stand for; returns the number of layers.

    Transforms go back into weights and biases; rotations that are fused into several layers stay where they are.
    Attention becomes dense, too.
    """
    set_attention(model, False)
    layers = list(spiking_layers(model))
    for name, layer in layers:
        dense = nn.Linear(layer.in_features, layer.out_features, layer.bias is not None, device="meta")
        weight = layer.dense_weight() if isinstance(layer, PackedSpikingLinear) else layer.weight.detach()
        reference = layer.bias if layer.bias is not None else layer.weight
        dtype = reference.dtype if reference.is_floating_point() else torch.float32
        dense.bias = layer.bias
        if not isinstance(layer.transform, nn.Identity):
            weight, constant = _without_transform(weight, layer.transform)
            if layer.bias is not None:
                dense.bias = nn.Parameter((layer.bias.double() + constant).to(dtype))
        dense.weight = nn.Parameter(weight.to(dtype))
        model.set_submodule(name, dense)
    return len(layers)


def _without_transform(weight: Tensor, transform: nn.Module) -> tuple[Tensor, Tensor]:
    """W T(x) = W' x + c for an affine T: weights (O, C) -> (O, C) and (O,), float64."""
    double, columns = weight.double(), weight.shape[1]
    origin = transform(double.new_zeros(columns))
    parts = []
    for first in range(0, columns, _ROWS_AT_ONCE):
        size = min(_ROWS_AT_ONCE, columns - first)
        units = double.new_zeros(size, columns)
        units[torch.arange(size), first + torch.arange(size)] = 1
        parts.append(double @ (transform(units) - origin).T)
    return torch.cat(parts, 1), double @ origin
