"""Settings of a conversion that a spiking checkpoint need not know, and the randomness of its stages."""

import math
import zlib
from dataclasses import dataclass
from typing import Literal, get_args

import torch

Weights = Literal["real", "round", "gptq", "train"]
Scores = Literal["first_order", "peak", "random"]


@dataclass(frozen=True)
class Preparation:
    """How weights become those of a spiking checkpoint; nothing of it is needed to load that checkpoint.

    Attributes:
        weights: "gptq", "round" (to the nearest), "train" (on the grid, block by block: `block_training`), or "real":
            neither rounded nor packed, to be trained further.
        saliency: what makes a channel salient: "first_order", "peak" or "random".
        quanta: candidates for every neuron's `GIFConfig.quanta`, None being the peak; empty: no search.
        fuse: multiply norm gains into the weights even where nothing is rotated.
        damping: of GPTQ's Hessians.
        activation_order: GPTQ rounds the weights of strong channels first.
        noise_damping: GPTQ's target is the layer on real inputs, as far as a linear filter guesses them from the
            spikes (`input_moments`), with this damping; None: no filter.
        passes: over the calibration batches, to train a block.
        clipping_rate: learning rate of the bounds of 4 and 8 bit weights when blocks are trained (logits; OmniQuant's).
        weight_rate: learning rate of weights and biases when blocks are trained; 0: only the bounds learn. The
            default suits small models; large ones need less (`block_training`).
        seed: of random signs, random saliency and the order of batches.

    Raises:
        ValueError: an unknown choice, or a number out of range.
    """

    weights: Weights = "gptq"
    saliency: Scores = "first_order"
    quanta: tuple[float | None, ...] = ()
    fuse: bool = False
    damping: float = 0.01
    activation_order: bool = True
    noise_damping: float | None = None
    passes: int = 20
    clipping_rate: float = 1e-2
    weight_rate: float = 1e-3
    seed: int = 0

    def __post_init__(self) -> None:
        for name, value, choices in (
            ("weights", self.weights, get_args(Weights)),
            ("saliency", self.saliency, get_args(Scores)),
        ):
            if value not in choices:
                raise ValueError(f"{name} must be one of {choices}, got {value!r}")
        if self.damping < 0 or (self.noise_damping or 0) < 0:
            raise ValueError(f"damping must not be negative, got {self.damping} and {self.noise_damping}")
        if self.passes < 1:
            raise ValueError(f"passes must be at least 1, got {self.passes}")
        rates = (self.clipping_rate, self.weight_rate)
        if not all(0 <= rate < math.inf for rate in rates) or not any(rates):
            raise ValueError(f"clipping_rate and weight_rate must not be negative nor both 0, got {rates}")


def seeded_generator(seed: int, purpose: str) -> torch.Generator:
    """Randomness on the CPU that depends on nothing else, so that a resumed conversion draws the same."""
    return torch.Generator().manual_seed(zlib.crc32(f"{seed} {purpose}".encode()))
