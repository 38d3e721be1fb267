"""The generalized integrate-and-fire (GIF) neuron: signed multi-level spikes.

    scale = threshold(x),    counts = clip(round(x / scale), -capacity, capacity)

Source: SpikeLLM (arXiv 2407.04752). Ours differs in four points: counts are signed (silence does not fire), capacity is
exactly what the spikes carry, the salient channels have their own range, and their steps may be radix digits.

SpikingBrain's neuron (arXiv 2509.05276) is the same with bits as steps: a threshold that adapts to every token, and
counts without a limit.
"""

from dataclasses import dataclass

from torch import Tensor

from spikeaudio.spiking.neurons.neuron import SalientNeuron, check_share, signed_counts
from spikeaudio.spiking.neurons.planes import Plane
from spikeaudio.spiking.neurons.registry import NeuronParameters, neuron
from spikeaudio.spiking.neurons.steps import BitSteps, RadixSteps, StepCode, UnarySteps
from spikeaudio.spiking.neurons.threshold import MeanThreshold, PeakThreshold, Threshold

_CODINGS: dict[str, type[UnarySteps] | type[RadixSteps]] = {"unary": UnarySteps, "radix": RadixSteps}


class GIFNeuron(SalientNeuron):
    """Generalized integrate-and-fire neuron with signed multi-level spikes.

    Args:
        num_channels: D, inputs of the layer.
        steps: step code of ordinary channels.
        threshold: how a token's quantum follows from its values.
        salient: (D,) bool, channels that get more steps and their own range; None: none.
        salient_steps: their step code.
        split_range: whether each group's quantum follows from its own values. If not, both follow from those of all
            channels, as in SpikeLLM's rule: salient steps are then finer, but an outlier makes all others coarse.

    Shape:
        values: (..., D).
        planes: one of the ordinary channels and, if there are any, one of the salient ones.

    Raises:
        ValueError: a mask of another size or type.
    """

    def __init__(
        self,
        num_channels: int,
        steps: StepCode | None = None,
        threshold: Threshold | None = None,
        salient: Tensor | None = None,
        salient_steps: StepCode | None = None,
        split_range: bool = True,
    ) -> None:
        super().__init__(num_channels, salient)
        self.steps = steps or UnarySteps(1, 7)
        self.salient_steps = salient_steps or UnarySteps(2, 7)
        self.threshold = threshold or MeanThreshold()
        self.split_range = split_range

    def planes(self, values: Tensor) -> list[Plane]:
        if not len(self.salient_channels):
            return [self._plane(values, values, self.steps, None)]
        groups = ((self.ordinary_channels, self.steps), (self.salient_channels, self.salient_steps))
        planes = []
        for channels, steps in groups:
            if len(channels):
                inside = values[..., channels]
                planes.append(self._plane(inside, inside if self.split_range else values, steps, channels))
        return planes

    def _plane(self, values: Tensor, ranged: Tensor, steps: StepCode, channels: Tensor | None) -> Plane:
        """Counts of `values` in quanta that follow from `ranged`."""
        scale = self.threshold.scale(ranged, steps.capacity)
        return Plane(signed_counts(values, scale, steps.capacity), scale, steps, channels)

    def extra_repr(self) -> str:
        return f"{self.num_channels}, {self.steps}, {self.threshold}, {len(self.salient_channels)} salient"


@neuron("gif")
@dataclass(frozen=True)
class GIF(NeuronParameters):
    """Parameters of our own neuron.

    Args:
        levels: L, the largest amplitude of a spike; spikes have either sign.
        time_steps: T, steps of ordinary channels.
        coding: "unary" or "radix" steps.
        quanta: the count of a token's mean magnitude; None: the peak of a token gets the largest count.
        salient_share: share of the input channels, in [0, 1), that get more steps.
        salient_time_steps: T of the salient channels.
        salient_coding: steps of the salient channels.
        split_range: whether salient and ordinary channels have each their own range. If not, both have that of the
            whole token.

    Raises:
        ValueError: an unknown coding, or a number out of range.

    Example:
        >>> from spikeaudio import GIFConfig
        >>> from spikeaudio.spiking.neurons.gif import GIF
        >>> GIFConfig(GIF(levels=15, time_steps=2, coding="radix", quanta=None)).neuron.make(8).steps.capacity
        255
    """

    levels: int = 7
    time_steps: int = 1
    coding: str = "unary"
    quanta: float | None = 2.0
    salient_share: float = 0.0
    salient_time_steps: int = 2
    salient_coding: str = "unary"
    split_range: bool = True

    def __post_init__(self) -> None:
        for name, value in (("coding", self.coding), ("salient_coding", self.salient_coding)):
            if value not in _CODINGS:
                raise ValueError(f"{name} must be one of {tuple(_CODINGS)}, got {value!r}")
        check_share(self.salient_share)
        self.make(1)  # refuses bad sizes now, not in the middle of a model

    def make(self, num_channels: int) -> GIFNeuron:
        ordinary = _CODINGS[self.coding](self.time_steps, self.levels)
        salient = _CODINGS[self.salient_coding](self.salient_time_steps, self.levels)
        threshold = PeakThreshold() if self.quanta is None else MeanThreshold(self.quanta)
        return GIFNeuron(num_channels, ordinary, threshold, None, salient, self.split_range)


@neuron("spikingbrain")
@dataclass(frozen=True)
class SpikingBrain(NeuronParameters):
    """Parameters of SpikingBrain's neuron, for comparison: every count travels as signed bits.

    Args:
        quanta: the count of a token's mean magnitude.

    Raises:
        ValueError: `quanta` is not positive.
    """

    quanta: float = 3.0

    def __post_init__(self) -> None:
        MeanThreshold(self.quanta)

    def make(self, num_channels: int) -> GIFNeuron:
        return GIFNeuron(num_channels, BitSteps(), MeanThreshold(self.quanta))
