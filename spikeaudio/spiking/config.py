"""GIFConfig: everything that makes a dense checkpoint a spiking one, saved in its ``config.json``."""

from collections import OrderedDict
from typing import Any

import torch
from torch import nn
from transformers.utils.quantization_config import QuantizationConfigMixin

from spikeaudio.spiking.neurons.affine import AffineNeuron
from spikeaudio.spiking.neurons.elastic import ElasticNeuron
from spikeaudio.spiking.neurons.neuron import GIFNeuron, SpikingNeuron
from spikeaudio.spiking.neurons.steps import BitSteps, RadixSteps, StepCode, UnarySteps
from spikeaudio.spiking.neurons.threshold import MeanThreshold, PeakThreshold, Threshold
from spikeaudio.spiking.transforms.hadamard import OnlineHadamard
from spikeaudio.spiking.transforms.outliers import MeanShift
from spikeaudio.spiking.weights.packing import packed_width

QUANT_METHOD = "gif"
TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
_CODINGS = {"unary": UnarySteps, "radix": RadixSteps}
_NEURONS = ("gif", "spikellm", "spikingbrain", "spikelm")
_ROTATED_ONLINE = "down_proj"  # its inputs are products: no rotation can be fused into what comes before (R4)


def threshold_of(quanta: float | None) -> Threshold:
    """The threshold at which a token's mean magnitude counts `quanta`; None: its peak gets the largest count."""
    return PeakThreshold() if quanta is None else MeanThreshold(quanta)


class GIFConfig(QuantizationConfigMixin):  # type: ignore[misc]
    """How the linear layers of a model spike.

    Args:
        neuron: "gif" (ours), or for comparison "spikellm", "spikingbrain" or "spikelm" as published.
        levels: L, levels of a spike of either sign.
        time_steps: T of ordinary channels; of all of them for "spikelm".
        coding: "unary" or "radix" steps.
        quanta: counts of a token's mean magnitude; None: the peak gets the largest count.
        salient_share: share of the input channels, in [0, 1), that get more steps.
        salient_time_steps: their T.
        salient_coding: their steps.
        split_range: whether they and the others have each their own range; if not, both have that of the whole token.
        weight_bits: 2 (ternary: -1, 0 or 1 times a scale) to 8, packed back to back.
        group_size: inputs that share a weight scale; None: all of a row.
        targets: last parts of the names of the layers that spike; heads, embeddings and adaptors are not among them.
        rotate: whether R1 and R2 are fused into the weights (adaptors then end in a linear layer) and every down
            projection has R4, an online Hadamard rotation, in front of its neuron.
        attention: whether queries, keys, values and attention weights spike, too, causally
            (:mod:`spikeaudio.spiking.layers.attention`); a cache may then hold counts (`cache.SpikingCache`).
        shift: whether a mean is taken off before every neuron; every spiking layer then has a bias.
        layer_quanta: `quanta` of single layers by name, where calibration searched for it.
        packed: whether weights are integers already; calibration sets it.
        quant_method: "gif"; transformers stores it.

    Raises:
        ValueError: an unknown key (the message lists the valid ones) or a value out of range.
    """

    def __init__(
        self,
        neuron: str = "gif",
        levels: int = 7,
        time_steps: int = 1,
        coding: str = "unary",
        quanta: float | None = 2.0,
        salient_share: float = 0.0,
        salient_time_steps: int = 2,
        salient_coding: str = "unary",
        split_range: bool = True,
        weight_bits: int = 4,
        group_size: int | None = None,
        targets: list[str] | tuple[str, ...] = TARGETS,
        rotate: bool = False,
        shift: bool = False,
        attention: bool = False,
        layer_quanta: dict[str, float | None] | None = None,
        packed: bool = False,
        quant_method: str = QUANT_METHOD,
        **unknown: Any,
    ) -> None:
        if unknown:
            valid = [name for name in GIFConfig.__init__.__annotations__ if name not in ("return", "unknown")]
            raise ValueError(f"unknown keys {sorted(unknown)} for GIFConfig; valid keys are {valid}")
        if quant_method != QUANT_METHOD:
            raise ValueError(f"quant_method must be {QUANT_METHOD!r}, got {quant_method!r}")
        if neuron not in _NEURONS:
            raise ValueError(f"neuron must be one of {_NEURONS}, got {neuron!r}")
        for name, value in (("coding", coding), ("salient_coding", salient_coding)):
            if value not in _CODINGS:
                raise ValueError(f"{name} must be one of {tuple(_CODINGS)}, got {value!r}")
        if not 0 <= salient_share < 1:
            raise ValueError(f"salient_share must be in [0, 1), got {salient_share}")
        if not targets:
            raise ValueError("targets is empty: no layer would spike")
        packed_width(1, weight_bits)
        self.quant_method = QUANT_METHOD  # type: ignore[assignment]
        self.neuron = neuron
        self.levels = levels
        self.time_steps = time_steps
        self.coding = coding
        self.quanta = quanta
        self.salient_share = salient_share
        self.salient_time_steps = salient_time_steps
        self.salient_coding = salient_coding
        self.split_range = split_range
        self.weight_bits = weight_bits
        self.group_size = group_size
        self.targets = list(targets)
        self.rotate = rotate
        self.shift = shift
        self.attention = attention
        self.layer_quanta = dict(layer_quanta or {})
        self.packed = packed
        self.make_neuron(8)  # refuses bad sizes now, not in the middle of a model

    @property
    def prepared(self) -> bool:
        """Whether it describes weights that no dense checkpoint has: `calibration.calibrate` makes them."""
        return self.rotate or self.shift or self.packed

    def threshold(self, name: str = "") -> Threshold:
        """The rule for a token's quantum in the layer of this name."""
        return threshold_of(self.layer_quanta.get(name, self.quanta))

    def make_neuron(self, num_channels: int, name: str = "") -> SpikingNeuron:
        """A neuron for the layer of this name and so many inputs, no channel salient yet."""
        if self.neuron == "gif":
            ordinary: StepCode = _CODINGS[self.coding](self.time_steps, self.levels)
            salient: StepCode = _CODINGS[self.salient_coding](self.salient_time_steps, self.levels)
            return GIFNeuron(num_channels, ordinary, self.threshold(name), None, salient, self.split_range)
        if self.neuron == "spikellm":  # L = 2^b - 1 unsigned levels, T = 2^a steps
            bits = (self.levels + 1).bit_length() - 1
            return AffineNeuron(num_channels, bits, (self.salient_time_steps - 1).bit_length())
        if self.neuron == "spikingbrain":
            return GIFNeuron(num_channels, BitSteps(), MeanThreshold(self.quanta or 3.0))
        return ElasticNeuron(self.time_steps)

    def make_transform(self, num_channels: int, name: str, dtype: torch.dtype) -> nn.Module:
        """What stands before the neuron of the layer of this name: a rotation, no signs yet, then a shift by 0."""
        parts: list[tuple[str, nn.Module]] = []
        if self.rotate and name.rpartition(".")[2] == _ROTATED_ONLINE:
            parts.append(("rotation", OnlineHadamard(num_channels, torch.ones(num_channels))))
        if self.shift:
            parts.append(("shift", MeanShift(torch.zeros(num_channels, dtype=dtype))))
        return nn.Sequential(OrderedDict(parts)) if parts else nn.Identity()

    def spikes(self, name: str, module: nn.Module) -> bool:
        """Whether a module of this name becomes a spiking layer."""
        return isinstance(module, nn.Linear) and name.rpartition(".")[2] in self.targets
