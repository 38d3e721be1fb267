"""All settings of a conversion, and the randomness of its stages."""

import math
import zlib
from dataclasses import dataclass, field, fields
from typing import Any, Literal, get_args

import torch

from spikeaudio.spiking.config import GIFConfig
from spikeaudio.spiking.neurons.registry import changed

Method = Literal["train", "blocks", "gptq", "round"]
Scores = Literal["first_order", "peak", "random"]


@dataclass(frozen=True)
class ConversionSettings:
    """How a dense checkpoint becomes a spiking one. Only `config` is needed to load the result.

    Attributes:
        config: how the layers spike.
        method: way in which real weights become integers. "round" takes the nearest ones. "gptq" makes up for every
            error in the columns that are still free. "blocks" lets every block learn the dense block's outputs on its
            grid, in the memory of one block. "train" lets the whole model learn the dense model's logits on its grid.
        steps: number of training steps; "train" only.
        learning_rate: peak of the learning rate; "train" only. 5e-4 first spoils what preparation kept.
        batch_tokens: positions of a batch, padding included.
        calibration_examples: so many of the examples, spread over the file, calibrate; all of them train.
        passes: number of passes over the calibration batches, for every block; "blocks" only.
        weight_rate: learning rate of weights and biases; 0: only the bounds learn; "blocks" only. The default suits
            small models; large ones need less (:mod:`spikeaudio.spiking.preparation.block_training`).
        clipping_rate: learning rate of the bounds of 3 to 8 bit weights (logits; OmniQuant's); "blocks" only.
        damping: share of the mean curvature added to Hessians; "gptq" only.
        activation_order: whether the weights of strong channels are rounded first; "gptq" only.
        noise_damping: "gptq" only. Its target is the layer on real inputs, as far as a linear filter guesses them
            from the spikes (`input_moments`), with this damping; None: no filter.
        saliency: measure of a channel's saliency: "first_order", "peak" or "random".
        quanta: values that are tried as `quanta` of every neuron, None being the peak; empty: no search.
        seed: seed of random signs, of random saliency and of the order of batches.

    Raises:
        ValueError: an unknown choice, or a number out of range.

    Example:
        >>> from spikeaudio.spiking.preparation.settings import ConversionSettings
        >>> from spikeaudio.spiking.preset import preset
        >>> ConversionSettings(preset("w4a4"), "gptq").passes
        20
    """

    config: GIFConfig = field(default_factory=GIFConfig)
    method: Method = "train"
    steps: int = 2000
    learning_rate: float = 2e-4
    batch_tokens: int = 1536
    calibration_examples: int = 128
    passes: int = 20
    weight_rate: float = 1e-3
    clipping_rate: float = 1e-2
    damping: float = 0.01
    activation_order: bool = True
    noise_damping: float | None = None
    saliency: Scores = "first_order"
    quanta: tuple[float | None, ...] = ()
    seed: int = 0

    def __post_init__(self) -> None:
        for name, choices in (("method", get_args(Method)), ("saliency", get_args(Scores))):
            if getattr(self, name) not in choices:
                raise ValueError(f"{name} must be one of {', '.join(choices)}, got {getattr(self, name)!r}")
        for name in ("steps", "batch_tokens", "calibration_examples", "passes"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not 0 < self.learning_rate < math.inf:
            raise ValueError(f"learning_rate must be positive, got {self.learning_rate}")
        if self.damping < 0 or (self.noise_damping or 0) < 0:
            raise ValueError(f"damping must not be negative, got {self.damping} and {self.noise_damping}")
        rates = (self.clipping_rate, self.weight_rate)
        if not all(0 <= rate < math.inf for rate in rates) or not any(rates):
            raise ValueError(f"clipping_rate and weight_rate must not be negative nor both 0, got {rates}")
        if self.method == "blocks" and self.config.weight_bits == 2 and not self.weight_rate:
            raise ValueError("ternary weights have no bounds that could learn: weight_rate must be above 0, got 0")
        self._check_quanta()

    def _check_quanta(self) -> None:
        """Whether every candidate is a value that the neuron takes."""
        neuron = self.config.neuron
        if self.quanta and not hasattr(neuron, "quanta"):
            raise ValueError(f"a search for quanta needs a neuron that has some, got {neuron.type_name!r}")
        for candidate in self.quanta:
            changed(neuron, {"quanta": candidate})

    def to_dict(self) -> dict[str, Any]:
        """All settings as JSON types."""
        return {**{each.name: getattr(self, each.name) for each in fields(self)}, "config": self.config.to_dict()}

    @property
    def packs(self) -> bool:
        """Whether preparation packs the weights itself; else they stay real until training has moved them."""
        return self.method != "train"


def seeded_generator(seed: int, purpose: str) -> torch.Generator:
    """Randomness on the CPU that depends on nothing else, so that a resumed conversion draws the same."""
    return torch.Generator().manual_seed(zlib.crc32(f"{seed} {purpose}".encode()))
