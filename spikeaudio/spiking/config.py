"""GIFConfig: everything that makes a dense checkpoint a spiking one, saved in its ``config.json``."""

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import nn
from transformers.utils.quantization_config import QuantizationConfigMixin

from spikeaudio.spiking.neurons import affine, elastic, gif  # noqa: F401 (they register their neurons)
from spikeaudio.spiking.neurons.neuron import SpikingNeuron
from spikeaudio.spiking.neurons.registry import NeuronParameters, changed, neuron_of
from spikeaudio.spiking.transforms.hadamard import OnlineHadamard
from spikeaudio.spiking.transforms.outliers import MeanShift
from spikeaudio.spiking.weights.packing import packed_width

QUANT_METHOD = "gif"
TARGETS = ("q_proj", "k_proj", "v_proj", "qkv_proj", "o_proj", "gate_proj", "up_proj", "gate_up_proj", "down_proj")
DENSE_MODULES = ("audio_encoder",)  # it is not causal and no part of the residual stream: it spikes only when asked for
_ROTATED_ONLINE = "down_proj"  # its inputs are products: no rotation can be fused into what comes before (R4)


class GIFConfig(QuantizationConfigMixin):  # type: ignore[misc]
    """How the linear layers of a model spike.

    Args:
        neuron: parameters of the neurons, or what ``config.json`` holds of them; None: ``GIF()``.
        weight_bits: 2 (ternary: -1, 0 or 1 times a scale) to 8, packed back to back.
        group_size: inputs that share a weight scale; None: all inputs of a row.
        targets: last parts of the names of the layers that spike, such as ``q_proj``. Where another layer has the same
            last part, name more of it: ``self_attn.out_proj``. Heads, embeddings and adaptors are not among them.
        modules_to_not_convert: names of modules that stay dense with everything inside of them.
        rotate: whether R1 and R2 are fused into the weights (adaptors then end in a linear layer) and every down
            projection has R4, an online Hadamard rotation, in front of its neuron.
        shift: whether a mean is taken off before every neuron; every spiking layer then has a bias.
        attention: whether queries, keys, values and attention weights of the decoder spike, too, causally
            (:mod:`spikeaudio.spiking.layers.attention`). A cache may then hold counts (`cache.SpikingCache`).
        layer_neurons: parameters that neurons of single layers have instead, by name of the layer, where calibration
            searched for them.
        packed: whether weights are integers already; calibration sets it.
        quant_method: "gif"; transformers stores it.

    Raises:
        ValueError: an unknown key (the message lists the valid ones) or a value out of range.

    Example:
        >>> from spikeaudio import GIFConfig, SpikeAudioForConditionalGeneration
        >>> from spikeaudio.spiking.neurons.gif import GIF
        >>> model = SpikeAudioForConditionalGeneration.from_pretrained(
        ...     "checkpoints/spikeaudio-tiny", quantization_config=GIFConfig(GIF(levels=7, time_steps=1))
        ... )
        >>> type(model.model.layers[0].mlp.down_proj).__name__
        'SpikingLinear'
    """

    def __init__(
        self,
        neuron: NeuronParameters | Mapping[str, Any] | None = None,
        weight_bits: int = 4,
        group_size: int | None = None,
        targets: Iterable[str] = TARGETS,
        modules_to_not_convert: Iterable[str] = DENSE_MODULES,
        rotate: bool = False,
        shift: bool = False,
        attention: bool = False,
        layer_neurons: Mapping[str, Mapping[str, Any]] | None = None,
        packed: bool = False,
        quant_method: str = QUANT_METHOD,
        **unknown: Any,
    ) -> None:
        if unknown:
            valid = [name for name in GIFConfig.__init__.__annotations__ if name not in ("return", "unknown")]
            raise ValueError(f"unknown keys {sorted(unknown)} for GIFConfig; valid keys are {valid}")
        if quant_method != QUANT_METHOD:
            raise ValueError(f"quant_method must be {QUANT_METHOD!r}, got {quant_method!r}")
        if not isinstance(neuron, NeuronParameters | Mapping | None):
            raise ValueError(f"neuron must be parameters of a neuron such as GIF(), or a dict of them, got {neuron!r}")
        packed_width(1, weight_bits)
        self.quant_method = QUANT_METHOD  # type: ignore[assignment]
        stored = {"type": "gif"} if neuron is None else neuron
        self.neuron = neuron_of(stored) if isinstance(stored, Mapping) else stored
        self.weight_bits = weight_bits
        self.group_size = group_size
        self.targets = list(targets)
        self.modules_to_not_convert = list(modules_to_not_convert)
        self.rotate = rotate
        self.shift = shift
        self.attention = attention
        self.layer_neurons = {name: dict(parameters) for name, parameters in (layer_neurons or {}).items()}
        self.packed = packed
        if not self.targets:
            raise ValueError("targets is empty: no layer would spike")
        for name in self.layer_neurons:
            self.neuron_of(name)  # refuses bad parameters now, not in the middle of a model

    def to_dict(self) -> dict[str, Any]:
        """The configuration as JSON types; `from_dict` reads it."""
        return {**super().to_dict(), "neuron": self.neuron.to_dict()}

    def __iter__(self) -> Iterator[tuple[str, Any]]:
        """Keys and values of `to_dict`."""
        yield from self.to_dict().items()

    @property
    def prepared(self) -> bool:
        """Whether it describes weights that no dense checkpoint has: `calibration.calibrate` makes them."""
        return self.rotate or self.shift or self.packed

    def neuron_of(self, name: str = "") -> NeuronParameters:
        """Parameters of the neuron in front of the layer of this name."""
        return changed(self.neuron, self.layer_neurons.get(name, {}))

    def make_neuron(self, num_channels: int, name: str = "") -> SpikingNeuron:
        """A neuron for the layer of this name and so many inputs, no channel salient yet."""
        return self.neuron_of(name).make(num_channels)

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
        targeted = any(f".{name}".endswith(f".{target}") for target in self.targets)
        return (
            isinstance(module, nn.Linear)
            and targeted
            and not any(f".{dense}." in f".{name}." for dense in self.modules_to_not_convert)
        )
