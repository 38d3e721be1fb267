"""SpikeLLM's published neuron: asymmetric codes with a zero point, kept for comparison.

    scale = (max - min) / qmax,   zero = round(-min / scale),   counts = clip(round(x / scale) + zero, 0, qmax)

with the range of the whole token for both groups, qmax = 2^b - 1 for ordinary and 2^(b+a) - 1 for salient channels, and
T = 2^a steps of L = 2^b - 1 levels. Equal to UniformAffineQuantizer and SpikeQuantLinear of
Xingrun-Xing2/SpikeLLM (spike_driven_quant/quantizer.py, spike_linear.py), defects included:

- its quantizer reaches T L + T - 1, its spikes T L: the largest counts lose up to T - 1 in `Plane.spikes`;
- the range of a token without sign changes does not contain 0, and its zero point lies outside 0..qmax;
- a silent input has the count `zero`, about half of qmax: it fires.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from spikeaudio.spiking.neurons.neuron import SalientNeuron, check_share
from spikeaudio.spiking.neurons.planes import Plane
from spikeaudio.spiking.neurons.registry import NeuronParameters, neuron
from spikeaudio.spiking.neurons.steps import UnarySteps

_SCALE_RANGE = (1e-5, 1e4)
_LARGEST_ZERO = 1e4


class AffineNeuron(SalientNeuron):
    """Asymmetric multi-level spikes, as published.

    Args:
        num_channels: D.
        bits: b of ordinary channels.
        extra_bits: a; salient channels have b + a bits and 2^a steps.
        salient: (D,) bool; None: none.

    Raises:
        ValueError: bits out of range, or a mask of another size.
    """

    def __init__(self, num_channels: int, bits: int = 4, extra_bits: int = 1, salient: Tensor | None = None) -> None:
        super().__init__(num_channels, salient)
        if not 2 <= bits <= 8 or not 0 <= extra_bits <= 4:
            raise ValueError(f"expected 2 to 8 bits and 0 to 4 extra bits, got {bits} and {extra_bits}")
        self.bits, self.extra_bits = bits, extra_bits

    def planes(self, values: Tensor) -> list[Plane]:
        groups = ((self.ordinary_channels, 0), (self.salient_channels, self.extra_bits))
        return [self._plane(values, channels, extra) for channels, extra in groups if len(channels)]

    def _plane(self, values: Tensor, channels: Tensor, extra_bits: int) -> Plane:
        low, high = values.amin(-1, keepdim=True), values.amax(-1, keepdim=True)
        largest = 2 ** (self.bits + extra_bits) - 1
        scale = ((high - low) / largest).clamp(*_SCALE_RANGE)
        zero = (-low / scale).clamp(-_LARGEST_ZERO, _LARGEST_ZERO).round()
        counts = ((values[..., channels] / scale).round() + zero).clamp(0, largest)
        steps = UnarySteps(2**extra_bits, 2**self.bits - 1)
        return Plane(counts.to(torch.int32), scale.float(), steps, channels, zero.to(torch.int32), largest)

    def extra_repr(self) -> str:
        return f"{self.num_channels}, bits={self.bits}+{self.extra_bits}, {len(self.salient_channels)} salient"


@neuron("spikellm")
@dataclass(frozen=True)
class SpikeLLM(NeuronParameters):
    """Parameters of SpikeLLM's neuron, for comparison.

    Args:
        levels: L = 2^b - 1, the largest amplitude of a spike; spikes are not negative.
        salient_share: share of the input channels, in [0, 1), that get more steps.
        salient_time_steps: T = 2^a of the salient channels; the others have one step.

    Raises:
        ValueError: numbers that are no such powers of two, or out of range.
    """

    levels: int = 15
    salient_share: float = 0.0
    salient_time_steps: int = 2

    def __post_init__(self) -> None:
        check_share(self.salient_share)
        for name, power in (("levels + 1", self.levels + 1), ("salient_time_steps", self.salient_time_steps)):
            if power < 1 or power.bit_count() != 1:
                raise ValueError(f"{name} must be a power of two, got {power}")
        self.make(1)

    def make(self, num_channels: int) -> AffineNeuron:
        return AffineNeuron(num_channels, self.levels.bit_length(), self.salient_time_steps.bit_length() - 1)
