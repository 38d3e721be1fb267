"""Types of neurons by name: a checkpoint says which one it has, and the parameters of that one.

    "quantization_config": {"quant_method": "gif", "neuron": {"type": "gif", "levels": 7, "time_steps": 1, ...}, ...}

A type is a frozen dataclass of parameters that makes a neuron for a layer. The decorator `neuron` gives it its name.
That works in any module, outside of this package too: import the module before a checkpoint with its neurons is loaded.

One name means one thing for all types. `levels` is the largest amplitude of a spike. `time_steps` is the number of
steps of an input, `quanta` the count of a token's mean magnitude, `salient_share` the share of the channels with more
steps.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, ClassVar, TypeVar

from spikeaudio.spiking.neurons.neuron import SpikingNeuron

_Parameters = TypeVar("_Parameters", bound="type[NeuronParameters]")
_TYPES: dict[str, type["NeuronParameters"]] = {}


@dataclass(frozen=True)
class NeuronParameters(ABC):
    """Everything that a checkpoint knows about its neurons; subclasses add fields of JSON types.

    Example:
        >>> import torch
        >>> from spikeaudio.spiking.neurons.gif import GIF
        >>> neuron = GIF(levels=7, quanta=2.0).make(4)
        >>> neuron.planes(torch.tensor([[1.0, -1.0, 0.5, 1.5]]))[0].counts
        tensor([[ 2, -2,  1,  3]], dtype=torch.int32)
    """

    type_name: ClassVar[str]

    @property
    def salient_share(self) -> float:
        """Share of a layer's input channels, in [0, 1), that get more steps; a type without such channels has 0."""
        return 0.0

    @abstractmethod
    def make(self, num_channels: int) -> SpikingNeuron:
        """A neuron in front of a layer with so many inputs, with no channel salient yet."""

    def to_dict(self) -> dict[str, Any]:
        """Type and parameters, as ``config.json`` holds them."""
        return {"type": self.type_name, **asdict(self)}


def neuron(name: str) -> Callable[[_Parameters], _Parameters]:
    """Register a type of neuron under a name.

    Args:
        name: word for it under ``type`` in a configuration.

    Raises:
        ValueError: another class has this name.

    Example:
        >>> from dataclasses import dataclass
        >>> from spikeaudio.spiking.neurons.gif import GIFNeuron
        >>> from spikeaudio.spiking.neurons.steps import UnarySteps
        >>> @neuron("ternary-spikes")
        ... @dataclass(frozen=True)
        ... class TernarySpikes(NeuronParameters):
        ...     def make(self, num_channels: int) -> GIFNeuron:
        ...         return GIFNeuron(num_channels, UnarySteps(1, 1))
        >>> neuron_of({"type": "ternary-spikes"})
        TernarySpikes()
    """

    def register(parameters: _Parameters) -> _Parameters:
        known = _TYPES.get(name)
        if known is not None and (known.__module__, known.__qualname__) != (
            parameters.__module__,
            parameters.__qualname__,
        ):
            raise ValueError(f"there is a neuron {name!r} already: {known.__module__}.{known.__qualname__}")
        parameters.type_name = name
        _TYPES[name] = parameters
        return parameters

    return register


def neuron_of(stored: Mapping[str, Any]) -> NeuronParameters:
    """The parameters that a configuration describes.

    Args:
        stored: the ``type`` and any of its parameters; the others get their defaults.

    Raises:
        ValueError: an unknown type or parameter, or a value out of range.

    Example:
        >>> neuron_of({"type": "spikelm", "time_steps": 2})
        SpikeLM(time_steps=2)
    """
    name = stored.get("type")
    if name not in _TYPES:
        raise ValueError(
            f"neuron type must be one of {', '.join(sorted(_TYPES))}, got {name!r}; a type from elsewhere is known "
            "once its module is imported"
        )
    return changed(_TYPES[name], {key: value for key, value in stored.items() if key != "type"})


def changed(base: type[NeuronParameters] | NeuronParameters, parameters: Mapping[str, Any]) -> NeuronParameters:
    """`base` with other values for some parameters; a type stands for its defaults.

    Raises:
        ValueError: `base` has no such parameter, or a value is out of range.
    """
    kind = base if isinstance(base, type) else type(base)
    valid = [field.name for field in fields(kind)]
    if unknown := sorted(parameters.keys() - set(valid)):
        raise ValueError(f"unknown parameters {unknown} of the neuron {kind.type_name!r}; it has {valid}")
    values = {} if isinstance(base, type) else {name: getattr(base, name) for name in valid}
    return kind(**values | dict(parameters))
