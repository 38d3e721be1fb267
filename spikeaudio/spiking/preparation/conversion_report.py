"""What a conversion did to every layer, and the work folder that lets a killed one go on.

    relative error = |y_spiking - y_dense| / |y_dense|      over the calibration tokens, same inputs for both

Both are per layer: `y_dense` comes from the layer's real weights on the inputs that the layer really gets, those
of the blocks before it that spike already. A finished block is one safetensors file, renamed when it is whole.
"""

import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional

from spikeaudio.spiking.counting import LayerCount, count_planes
from spikeaudio.spiking.layers.linear import SpikingLinear


@dataclass(frozen=True)
class LayerReport:
    """One converted layer.

    Attributes:
        relative_error: relative error of its outputs.
        unary_rate: unary spikes per input element.
        silent_share: share of the input elements that fire nothing, in [0, 1].
        salient_channels: how many form a plane of their own.
        quanta: quanta of its neuron, where calibration searched for it; None also stands for the peak.
        seconds: spent on its weights.
    """

    relative_error: float
    unary_rate: float
    silent_share: float
    salient_channels: int
    quanta: float | None
    seconds: float


@dataclass(frozen=True)
class BlockReport:
    """One converted block.

    Attributes:
        layers: by full name.
        seconds: that all of it took.
        training: relative error of the block's outputs over every pass of its training
            (:mod:`spikeaudio.spiking.preparation.block_training`); empty: it was not trained.
    """

    layers: dict[str, LayerReport]
    seconds: float
    training: tuple[float, ...] = ()

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "BlockReport":
        stored = json.loads(text)
        layers = {name: LayerReport(**figures) for name, figures in stored["layers"].items()}
        return cls(layers, stored["seconds"], tuple(stored["training"]))


@dataclass
class ConversionReport:
    """All blocks by name, in the order of conversion; a resumed conversion reports the blocks done before, too."""

    blocks: dict[str, BlockReport] = field(default_factory=dict)

    def layers(self) -> Iterator[tuple[str, LayerReport]]:
        """Names and reports of all layers."""
        for block in self.blocks.values():
            yield from block.layers.items()

    @property
    def seconds(self) -> float:
        """Sum over the blocks."""
        return sum(block.seconds for block in self.blocks.values())


class LayerMeasurement:
    """Accumulates the figures of one layer over batches.

    Args:
        real: the layer with real weights, which says what the dense one would do.
    """

    def __init__(self, real: SpikingLinear) -> None:
        self._real = real
        self._error = self._power = 0.0
        self._count = LayerCount()
        self._fan_out = torch.ones(real.in_features, dtype=torch.int64, device=real.weight.device)

    def add(self, inputs: Tensor, outputs: Tensor) -> None:
        """Inputs (N, C) and outputs (N, O) of the converted layer."""
        values = self._real.transform(inputs)
        expected = functional.linear(values, self._real.weight, self._real.bias).double()
        self._error += float((outputs.double() - expected).square().sum())
        self._power += float(expected.square().sum())
        count_planes(self._real.neuron.planes(values), self._fan_out, self._count)

    def report(self, quanta: float | None, seconds: float) -> LayerReport:
        """The figures so far; an output that is always 0 has no relative error and reports 0."""
        error = (self._error / self._power) ** 0.5 if self._power else 0.0
        salient = len(getattr(self._real.neuron, "salient_channels", ()))
        return LayerReport(error, self._count.unary_rate, self._count.silent_share, salient, quanta, seconds)


class BlockArchive:
    """A folder of finished blocks.

    Args:
        folder: made if it does not exist.
        fingerprint: fingerprint of model, settings and calibration inputs; a file with another one is refused.
    """

    def __init__(self, folder: Path, fingerprint: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder, self._fingerprint = folder, fingerprint

    def _path(self, name: str) -> Path:
        return self._folder / f"{name}.safetensors"

    def load(self, name: str) -> tuple[dict[str, Tensor], BlockReport] | None:
        """State and report of a finished block; None: it is not finished.

        Raises:
            ValueError: the file belongs to another conversion.
        """
        path = self._path(name)
        if not path.is_file():
            return None
        with safe_open(path, framework="pt") as file:
            metadata: dict[str, str] = file.metadata()
            if metadata.get("fingerprint") != self._fingerprint:
                raise ValueError(
                    f"{path} belongs to another conversion (model, settings or calibration inputs differ): "
                    f"use another folder or delete it"
                )
            state = {key: file.get_tensor(key) for key in file.keys()}
        return state, BlockReport.from_json(metadata["report"])

    def save(self, name: str, block: nn.Module, report: BlockReport) -> None:
        """Write a block; under its name there is always a whole file or none."""
        state = {key: tensor.detach().cpu().clone() for key, tensor in block.state_dict().items()}
        whole = self._path(name)
        part = whole.with_suffix(".part")
        save_file(state, part, {"fingerprint": self._fingerprint, "report": report.to_json()})
        os.replace(part, whole)
