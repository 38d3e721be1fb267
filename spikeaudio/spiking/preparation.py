"""Settings of a conversion that a spiking checkpoint need not know, and the randomness of its stages."""

import zlib
from dataclasses import dataclass
from typing import Literal, get_args

import torch

Weights = Literal["real", "round", "gptq"]
Scores = Literal["first_order", "peak", "random"]


@dataclass(frozen=True)
class Preparation:
    """How weights become those of a spiking checkpoint; nothing of it is needed to load that checkpoint.

    Attributes:
        weights: "gptq", "round" (to the nearest), or "real": neither rounded nor packed, to be trained further.
        saliency: what makes a channel salient: "first_order", "peak" or "random".
        quanta: candidates for every neuron's `GIFConfig.quanta`, None being the peak; empty: no search.
        fuse: multiply norm gains into the weights even where nothing is rotated.
        damping: of GPTQ's Hessians.
        activation_order: GPTQ rounds the weights of strong channels first.
        noise_damping: GPTQ's target is the layer on real inputs, as far as a linear filter guesses them from the
            spikes (`input_moments`), with this damping; None: no filter.
        seed: of random signs and random saliency.

    Raises:
        ValueError: an unknown choice, or a damping below 0.
    """

    weights: Weights = "gptq"
    saliency: Scores = "first_order"
    quanta: tuple[float | None, ...] = ()
    fuse: bool = False
    damping: float = 0.01
    activation_order: bool = True
    noise_damping: float | None = None
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


def seeded_generator(seed: int, purpose: str) -> torch.Generator:
    """Randomness on the CPU that depends on nothing else, so that a resumed conversion draws the same."""
    return torch.Generator().manual_seed(zlib.crc32(f"{seed} {purpose}".encode()))
