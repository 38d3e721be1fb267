"""Named ways to make a checkpoint spike.

| preset | weights | spikes of a layer's input | largest count |
|---|---|---|---|
| w4a4 | 4 bits | one step of 7 levels, either sign; a token's mean magnitude counts 2 | 7 |
| w4a4kv4 | 4 bits | as w4a4; attention spikes, too: 4 bits for queries, keys and values, 8 for its weights | 7 |
| w4a8 | 4 bits | two steps of 15 levels, base 16; a token's peak gets the largest count | 255 |
| ternary | -1, 0, 1 in groups of 64 inputs | as w4a4 | 7 |

All of them rotate (R1, R2, R4) and shift first, which takes outliers away; see
:mod:`spikeaudio.spiking.preparation.calibration`.
"""

from collections.abc import Mapping
from typing import Any

from spikeaudio.spiking.config import GIFConfig
from spikeaudio.spiking.neurons.gif import GIF
from spikeaudio.spiking.neurons.registry import NeuronParameters, changed

_W4A4: dict[str, Any] = {"rotate": True, "shift": True, "weight_bits": 4, "neuron": GIF(levels=7, time_steps=1)}
PRESETS: dict[str, dict[str, Any]] = {
    "w4a4": _W4A4,
    "w4a4kv4": {**_W4A4, "attention": True},
    "w4a8": {**_W4A4, "neuron": GIF(levels=15, time_steps=2, coding="radix", quanta=None)},
    "ternary": {**_W4A4, "weight_bits": 2, "group_size": 64},
}


def preset(name: str, neuron: NeuronParameters | Mapping[str, Any] | None = None, **changes: Any) -> GIFConfig:
    """The configuration of this name, with some values changed.

    Args:
        name: one of `PRESETS`.
        neuron: other values for some parameters of the preset's neuron, or another neuron; None: the preset's.
        changes: other values for keys of `GIFConfig`.

    Raises:
        ValueError: an unknown name, or as `GIFConfig`.

    Example:
        >>> from spikeaudio.spiking.preset import preset
        >>> config = preset("w4a4", weight_bits=3, neuron={"time_steps": 2})
        >>> config.weight_bits, config.neuron.time_steps, config.neuron.levels
        (3, 2, 7)
    """
    if name not in PRESETS:
        raise ValueError(f"unknown preset {name!r}; there are {', '.join(PRESETS)}")
    settings = PRESETS[name] | changes
    if neuron is not None:
        settings["neuron"] = neuron if isinstance(neuron, NeuronParameters) else changed(settings["neuron"], neuron)
    return GIFConfig(**settings)
