"""A block learns to give what the dense block gives: OmniQuant's pipeline, with weights that learn, too.

    loss = sum |block'(x') - block(x)|^2 / sum |block(x)|^2        over the tokens of a batch, padding left out

`block` is the dense one (rotated, not shifted) on the stream x of dense blocks, `block'` the spiking one with weights
on their grid on the stream x' of the spiking blocks before it. So a block also learns to make up for what those lost,
and only one block at a time has gradients and moments. That, two streams of activations and float32 copies of one
block's weights are all the memory that it takes, however deep the model.

| learns | rate | source |
|---|---|---|
| bounds of the grid (`ClippedFit`) | `ConversionSettings.clipping_rate` 1e-2 | OmniQuant |
| weights and biases behind the grid, straight through | `ConversionSettings.weight_rate` 1e-3 | EfficientQAT |

AdamW without weight decay. Both rates fall to zero along a cosine. Norms do not learn. Their gains are 1 after a
rotation, and the layers behind them can do what they could.

Sources: OmniQuant (arXiv 2308.13137): 20 passes over 128 samples, only bounds (and scales of channels, in whose place
is our rotation) learn. EfficientQAT (arXiv 2407.11062): all weights of a block learn, at 2e-5 for 2 and 1e-5 for 4 bits
on 4096 samples of models with 7 billion weights. On our 5 million weights and 6,400 tokens 1e-4 ended where GPTQ does,
and of 1e-4, 3e-4 and 1e-3 the largest had the smallest gaps (text within the noise of 200 test examples). Lower the
rate for larger models and longer training. A weight moves by up to half the rate times the number of steps.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from spikeaudio.spiking.conversion import spiking_layers
from spikeaudio.spiking.layers.linear import SpikingLinear
from spikeaudio.spiking.preparation.block_stream import BlockStream
from spikeaudio.spiking.preparation.rounded_weight import attach_rounding, pack_rounded
from spikeaudio.spiking.preparation.settings import ConversionSettings, seeded_generator


@torch.enable_grad()
def train_block(
    block: nn.Module,
    stream: BlockStream,
    index: int,
    targets: Sequence[Tensor],
    settings: ConversionSettings,
) -> tuple[float, ...]:
    """Train the weights of a block's spiking layers on their grid and pack them, in place.

    The layers that were there are left as they are; packed ones take their places.

    Args:
        block: its layers have neurons and real weights.
        stream: stream of spiking blocks, in front of the block.
        index: index of the block in the stream.
        targets: (B, T, D), outputs of the dense block for every batch.
        settings: grid, passes, rates and the seed of the order of batches.

    Returns:
        |block' - block| / |block| over every pass, while it learned; without the loss of the last step.

    Raises:
        FloatingPointError: the loss becomes NaN or infinite.
    """
    before = dict(spiking_layers(block))
    for name, layer in before.items():
        block.set_submodule(name, _learning(layer))
    attach_rounding(block, settings.config)
    optimizer = torch.optim.AdamW(_parameter_groups(block, settings), weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, settings.passes * len(stream))
    learned = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    generator = seeded_generator(settings.seed, f"order {stream.names[index]}")
    errors = []
    for number_of_pass in range(settings.passes):
        error = power = 0.0
        for number in torch.randperm(len(stream), generator=generator).tolist():
            wanted = stream.tokens(number, targets[number])
            lost, total = _squares(stream, index, number, wanted)
            if not torch.isfinite(lost):
                raise FloatingPointError(
                    f"the loss of {stream.names[index]} is {lost.item()} in pass {number_of_pass + 1}: "
                    f"lower weight_rate {settings.weight_rate} or clipping_rate {settings.clipping_rate}"
                )
            torch.autograd.backward(lost / total, inputs=learned)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            schedule.step()
            error, power = error + lost.item(), power + total.item()
        errors.append((error / power) ** 0.5)
    pack_rounded(block, settings.config)
    for name, layer in spiking_layers(block):
        if layer.bias is not None:
            old = before[name].bias
            layer.bias = nn.Parameter(layer.bias.detach().to(old.dtype), old.requires_grad)
    return tuple(errors)


def _learning(layer: SpikingLinear) -> SpikingLinear:
    """The layer with parameters of its own that learn, in float32 at least: steps are too small for half precision."""
    copy = SpikingLinear.of(layer, layer.neuron, layer.transform)
    dtype = torch.promote_types(layer.weight.dtype, torch.float32)
    copy.weight = nn.Parameter(layer.weight.detach().to(dtype, copy=True))
    if layer.bias is not None:
        copy.bias = nn.Parameter(layer.bias.detach().to(dtype, copy=True))
    return copy


def _parameter_groups(block: nn.Module, settings: ConversionSettings) -> list[dict[str, object]]:
    """Bounds, and weights with biases, of layers on their grid."""
    bounds: list[nn.Parameter] = []
    weights: list[nn.Parameter] = []
    for _, layer in spiking_layers(block):
        assert parametrize.is_parametrized(layer, "weight")
        for name, parameter in layer.named_parameters():
            if ".fit." in name:
                bounds.append(parameter)
            elif not name.startswith("neuron."):
                weights.append(parameter)
    groups = [(bounds, settings.clipping_rate), (weights, settings.weight_rate)]
    return [{"params": parameters, "lr": rate} for parameters, rate in groups if parameters and rate]


def _squares(stream: BlockStream, index: int, number: int, wanted: Tensor) -> tuple[Tensor, Tensor]:
    """Sums over a batch's tokens of the squared error and of the squared targets (N, D)."""
    half = wanted.dtype in (torch.bfloat16, torch.float16)
    with torch.autocast(wanted.device.type, wanted.dtype if half else None, enabled=half):
        given = stream.tokens(number, stream.outputs(index, number))
    wanted = wanted.float()
    return (given.float() - wanted).square().sum(), wanted.square().sum().clamp_min(torch.finfo(torch.float32).tiny)
