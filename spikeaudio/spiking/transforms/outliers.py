"""Constant outlier channels. Shifted out of a layer's input, and, to test quantizers, put into a tiny model.

    shift    W x + b = W (x - mu) + (b + W mu)                   removes what no rotation spreads: a constant
    inject   norm(x) <- norm(x) + c,    b <- b - W c             the same identity with mu = -c

Large language models have a few channels that are large for every token, and they decide how well low-bit
activations do. Tiny models have none. `inject_outliers` and `BiasedRMSNorm` are a test instrument, no part of any
recipe. They give a few channels of every norm a constant of +-10 to 35 that the layers behind take back, so that
the logits stay and the quantizer's task becomes that of a large model. Real outliers vary a little between tokens.
These do not, which flatters the static shift.

Sources: our own experiment. Outlier channels are described in LLM.int8() (arXiv 2208.07339) and SmoothQuant (arXiv
2211.10438).
"""

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from spikeaudio.spiking.transforms.rotation import find_layout


class MeanShift(nn.Module):
    """x - mean, to be put in front of a linear layer after `shift_inputs`. Shape: (..., C) -> (..., C)."""

    mean: Tensor

    def __init__(self, mean: Tensor) -> None:
        super().__init__()
        self.register_buffer("mean", mean)

    def forward(self, values: Tensor) -> Tensor:
        return values - self.mean


@torch.no_grad()
def shift_inputs(linear: nn.Linear, mean: Tensor) -> None:
    """Fold W mean into the bias (added where there is none), so that the layer computes the same on x - mean.

    Args:
        linear: changed in place.
        mean: (in_features,), of its inputs, or any other constant.

    Raises:
        ValueError: a mean of another shape.
    """
    if mean.shape != (linear.in_features,):
        raise ValueError(f"mean must have shape ({linear.in_features},), got {tuple(mean.shape)}")
    shift = linear.weight.double() @ mean.to(linear.weight.device, torch.float64)
    if linear.bias is None:
        linear.bias = nn.Parameter(shift.to(linear.weight.dtype), linear.weight.requires_grad)
    else:
        linear.bias.copy_(linear.bias.double() + shift)


class BiasedRMSNorm(nn.Module):
    """RMSNorm with a constant added: ``weight * x / sqrt(mean x^2 + variance_epsilon) + bias``.

    Args:
        weight: (D,) gains, shared with the norm that this one replaces.
        bias: (D,) constant, a buffer.
        variance_epsilon: variance epsilon of that norm.

    Shape:
        hidden_states: (..., D) -> (..., D), dtype of the weights; the mean square is taken in float32.
    """

    bias: Tensor

    def __init__(self, weight: nn.Parameter, bias: Tensor, variance_epsilon: float) -> None:
        super().__init__()
        self.weight = weight
        self.register_buffer("bias", bias.to(weight))
        self.variance_epsilon = variance_epsilon

    def forward(self, hidden_states: Tensor) -> Tensor:
        values = hidden_states.float()
        values = values * torch.rsqrt(values.square().mean(-1, keepdim=True) + self.variance_epsilon)
        return self.weight * values.to(hidden_states.dtype) + self.bias


@torch.no_grad()
def inject_outliers(
    model: PreTrainedModel,
    share: float = 0.04,
    amplitude: tuple[float, float] = (10.0, 35.0),
    generator: torch.Generator | None = None,
) -> None:
    """Give every norm of a model, final ones included, constant outliers that the layers behind it compensate.

    A test instrument. The channels are the same in all norms, as in large models; sizes and signs are not. Layers
    without biases get some, so the result lives in memory: its class does not load its state dict. Use it in
    float32; in half precisions the logits change, as rounding next to a constant of 35 is coarse.

    Args:
        model: model of a kind that `find_layout` knows, before or after `fuse_norms`.
        share: share of the channels that become outliers, in (0, 1]; at least one does.
        amplitude: smallest and largest magnitude.
        generator: generator of the channels, magnitudes and signs, on the CPU.

    Raises:
        ValueError: a share or amplitudes out of range, or an unknown model.
    """
    low, high = amplitude
    if not 0 < share <= 1 or not 0 <= low <= high:
        raise ValueError(f"expected a share in (0, 1] and 0 <= low <= high, got {share} and {amplitude}")
    layout = find_layout(model)
    size = layout.embedding.embedding_dim
    channels = torch.randperm(size, generator=generator, device="cpu")[: max(1, round(share * size))]
    paths = {module: path for path, module in model.named_modules()}
    for reader in layout.readers():
        draws = torch.rand(2, len(channels), generator=generator, device="cpu")
        outliers = torch.zeros(size, device="cpu")
        outliers[channels] = (low + (high - low) * draws[0]) * torch.where(draws[1] < 0.5, -1.0, 1.0)
        bias = getattr(reader.norm, "bias", None)
        norm = BiasedRMSNorm(
            reader.norm.get_parameter("weight"),
            outliers if bias is None else bias.cpu() + outliers,
            reader.norm.variance_epsilon,  # type: ignore[arg-type]
        )
        model.set_submodule(paths[reader.norm], norm)
        for linear in reader.linears:
            shift_inputs(linear, -outliers)
