"""SpikeLM's elastic bi-spiking neuron: ternary spikes of a learnable amplitude, over T steps with a leak.

    m[t] = x[t] + 0.25 m[t-1] (alpha[t-1] - s[t-1]),    s[t] = alpha[t] clip(round(m[t] / alpha[t]), -1, 1)

A spike of +alpha resets what is carried over, none leaves 0.25 alpha of it, one of -alpha doubles that: the published
rule, asymmetric as it is. The reset carries no gradient. Surrogate gradients (learned step size quantization, Esser et
al. 2020): ds/dm is 1 where |m| <= alpha and 0 elsewhere, and

    ds/dalpha = -1 | round(q) - q | 1     for q = m / alpha  < -1 | in [-1, 1] | > 1,      summed and divided by sqrt(N)

Source: SpikeLM (arXiv 2406.03287), Xingrun-Xing/SpikeLM spikeLM-BERT/spiking.py; there alpha is created without
requiring a gradient, so only its initial value 2 mean|m| of the first batch is ever used. Here it learns.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from spikeaudio.spiking.neurons.neuron import SpikingNeuron
from spikeaudio.spiking.neurons.planes import Plane
from spikeaudio.spiking.neurons.registry import NeuronParameters, neuron
from spikeaudio.spiking.neurons.steps import UnarySteps

_LEAK = 0.25


class _TernarySpike(torch.autograd.Function):
    """s(m, alpha) with the surrogate gradients above."""

    @staticmethod
    def forward(ctx: Any, membrane: Tensor, alpha: Tensor) -> Tensor:
        ctx.save_for_backward(membrane, alpha)
        return alpha * (membrane / alpha).round().clamp(-1, 1)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple[Tensor, Tensor]:
        gradient: Tensor = gradients[0]
        membrane, alpha = ctx.saved_tensors
        ratio = membrane / alpha
        inside = ratio.abs() <= 1
        slope = torch.where(inside, ratio.round() - ratio, ratio.sign())
        return gradient * inside, (gradient * slope).sum().reshape(alpha.shape) / membrane.numel() ** 0.5


def ternary_spike(membrane: Tensor, alpha: Tensor) -> Tensor:
    """alpha clip(round(m / alpha), -1, 1); (...) and (1,) -> (...), differentiable in both."""
    spikes: Tensor = _TernarySpike.apply(membrane, alpha)  # type: ignore[no-untyped-call]
    return spikes


class ElasticNeuron(SpikingNeuron):
    """T steps of ternary spikes; a layer's output is the mean over the steps.

    Args:
        time_steps: T.

    Shape:
        values: (..., D); the same input is seen at every step.

    Raises:
        ValueError: T below 1.
    """

    started: Tensor

    def __init__(self, time_steps: int = 4) -> None:
        super().__init__()
        if time_steps < 1:
            raise ValueError(f"time_steps must be at least 1, got {time_steps}")
        self.time_steps = time_steps
        self.alpha = nn.Parameter(torch.ones(time_steps))
        self.register_buffer("started", torch.zeros((), dtype=torch.bool))

    def fire(self, inputs: Tensor) -> Tensor:
        """Spikes of T inputs: (T, ..., D) -> (T, ..., D), values 0 and +-alpha[t].

        The first call in training sets alpha.

        Raises:
            ValueError: another number of steps.
        """
        if inputs.shape[0] != self.time_steps:
            raise ValueError(f"expected {self.time_steps} steps along the first axis, got {inputs.shape[0]}")
        if self.training and not bool(self.started):
            self._start(inputs)
        spikes: list[Tensor] = []
        carried = torch.zeros_like(inputs[0])
        for step in range(self.time_steps):
            membrane = inputs[step] + carried
            alpha = self.alpha[step : step + 1]
            spikes.append(ternary_spike(membrane, alpha))
            carried = _LEAK * membrane * (alpha - spikes[-1]).detach()
        return torch.stack(spikes)

    @torch.no_grad()
    def _start(self, inputs: Tensor) -> None:
        """Set alpha[t] to twice the mean magnitude of the membrane potential of this batch."""
        carried = torch.zeros_like(inputs[0])
        for step in range(self.time_steps):
            membrane = inputs[step] + carried
            self.alpha[step] = 2 * membrane.abs().mean()
            alpha = self.alpha[step : step + 1]
            carried = _LEAK * membrane * (alpha - ternary_spike(membrane, alpha))
        self.started.fill_(True)

    def planes(self, values: Tensor) -> list[Plane]:
        """One plane per step, of amplitude alpha[t] / T."""
        with torch.no_grad():
            spikes = self.fire(values.float().expand(self.time_steps, *values.shape))
        shape = (*values.shape[:-1], 1)
        return [
            Plane(
                (spikes[step] / self.alpha[step]).round().to(torch.int32),
                (self.alpha[step].detach() / self.time_steps).expand(shape),
                UnarySteps(1, 1),
            )
            for step in range(self.time_steps)
        ]

    def forward(self, values: Tensor) -> Tensor:
        """Mean spike over the steps, (..., D), with surrogate gradients in values and alpha."""
        return self.fire(values.expand(self.time_steps, *values.shape)).mean(0)

    def extra_repr(self) -> str:
        return f"time_steps={self.time_steps}"


@neuron("spikelm")
@dataclass(frozen=True)
class SpikeLM(NeuronParameters):
    """Parameters of SpikeLM's neuron, for comparison.

    Args:
        time_steps: T, steps of all channels.

    Raises:
        ValueError: T below 1.
    """

    time_steps: int = 4

    def __post_init__(self) -> None:
        self.make(1)

    def make(self, num_channels: int) -> ElasticNeuron:
        return ElasticNeuron(self.time_steps)
