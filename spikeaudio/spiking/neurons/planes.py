"""What a spiking neuron hands to the layer behind it: integers with one scale per token.

    x ~ sum over planes of  scale (counts - zero)   on the plane's channels

`scale` is the firing threshold, the value of one quantum. One plane covers all channels or a group of them; channels
with a range of their own (the salient ones) form a plane of their own. `counts` are integers; a `StepCode` says how
they travel as spikes. Signed codes have no zero point: a silent input fires nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from spikeaudio.spiking.neurons.steps import StepCode


@dataclass(frozen=True)
class Plane:
    """Counts of some channels of a layer's input.

    Attributes:
        counts: (..., C) int32; none is larger than `largest`.
        scale: (..., 1) float32, the value of one count.
        steps: how the counts travel.
        channels: (C,) long, which inputs of the layer these are; None: all of them, in order.
        zero: (..., 1) int32, the count that means 0; None: 0.
        limit: largest absolute count of a neuron that does not keep to the capacity of `steps`; None: it does.
    """

    counts: Tensor
    scale: Tensor
    steps: StepCode
    channels: Tensor | None = None
    zero: Tensor | None = None
    limit: int | None = None

    @property
    def largest(self) -> int | None:
        """Absolute value that no count exceeds, as far as it is known without looking at them; None: it is not."""
        return self.steps.capacity if self.limit is None else self.limit

    def spikes(self) -> Tensor:
        """(T, ..., C) int32 spike trains."""
        return self.steps.spikes(self.counts)

    def values(self) -> Tensor:
        """(..., C) float32: what the counts stand for."""
        counts = self.counts if self.zero is None else self.counts - self.zero
        return counts * self.scale


def spread(plane: Plane, num_channels: int) -> Plane:
    """The plane with counts for all channels of the layer, in order: where it had none they are 0, and silent."""
    if plane.channels is None:
        return plane
    counts = plane.counts.new_zeros(*plane.counts.shape[:-1], num_channels)
    return replace(plane, counts=counts.index_copy_(-1, plane.channels, plane.counts), channels=None)


def decode(planes: Sequence[Plane], num_channels: int) -> Tensor:
    """The input that planes stand for: (..., num_channels) float32. Channels of several planes add up."""
    shape = (*planes[0].counts.shape[:-1], num_channels)
    out = torch.zeros(shape, dtype=torch.float32, device=planes[0].counts.device)
    for plane in planes:
        if plane.channels is None:
            out = out + plane.values()
        else:
            out = out.index_add(-1, plane.channels, plane.values())
    return out
