"""One block becomes a spiking one: rotate (R4), shift, choose channels and thresholds, then the weights.

    shift     mu = mean of x over tokens, taken in the dense block on the stream of the spiking blocks before
    salient   scores of T(x) with the weights that the layer then has; one mask for all that read x
    quanta    argmin over candidates of sum |T(x) - decode(planes(T(x)))|^2
    weights   min |(F W - W') x^|^2 over integer W', x^ = decode(planes(T(x))), layers before it done already

F is the identity or the noise filter of `input_moments`; T is rotation and shift. Each stage is one run of the
block over all calibration inputs, as far as its layers need; the last one measures every layer and makes the
inputs of the next block.
"""

import copy
import time
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from spikeaudio.spiking.config import GIFConfig
from spikeaudio.spiking.conversion import spiking_form
from spikeaudio.spiking.layers.attention import set_attention
from spikeaudio.spiking.layers.linear import PackedSpikingLinear, SpikingLinear
from spikeaudio.spiking.neurons.neuron import SalientNeuron, SpikingNeuron
from spikeaudio.spiking.neurons.planes import decode
from spikeaudio.spiking.neurons.registry import changed
from spikeaudio.spiking.preparation.block_stream import BlockStream, Observer
from spikeaudio.spiking.preparation.block_training import train_block
from spikeaudio.spiking.preparation.conversion_report import BlockReport, LayerMeasurement
from spikeaudio.spiking.preparation.gptq import gptq
from spikeaudio.spiking.preparation.input_moments import InputMoments
from spikeaudio.spiking.preparation.saliency import (
    FirstOrderSaliency,
    PeakSaliency,
    RandomSaliency,
    Saliency,
    salient_mask,
)
from spikeaudio.spiking.preparation.settings import ConversionSettings, seeded_generator
from spikeaudio.spiking.transforms.hadamard import random_signs, rotate_inputs
from spikeaudio.spiking.transforms.outliers import shift_inputs
from spikeaudio.spiking.weights.weight_grid import fitted_grid


class BlockConversion:
    """Conversion of one block, in place.

    Args:
        model: that the block is part of.
        stream: in front of the block.
        index: index of the block in the stream.
        settings: settings of the conversion; what was searched for is written into the `layer_neurons` of its
            configuration.
        groups: names of the block's layers, one list for each input, in order of use.
        dense: stream of the dense blocks, in front of the block, for weights that train; None: they do not.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        stream: BlockStream,
        index: int,
        settings: ConversionSettings,
        groups: list[list[str]],
        dense: BlockStream | None = None,
    ) -> None:
        self._model, self._stream, self._index, self._dense = model, stream, index, dense
        self._config, self._settings, self._groups = settings.config, settings, groups
        self._seconds: dict[str, float] = {}

    def restore(self, state: dict[str, Tensor], report: BlockReport) -> BlockReport:
        """Put in what an earlier conversion made of the block, and move the streams behind it."""
        self._advance_dense()
        config = self._final_config()
        for name in self._names():
            if self._settings.quanta:
                self._config.layer_neurons.setdefault(name, {})["quanta"] = report.layers[name].quanta
            self._model.set_submodule(name, spiking_form(name, self._linear(name), config))
        self._block().load_state_dict(state)
        self._stream.advance(self._index)
        return report

    def skip(self) -> None:
        """Leave the block dense and move the streams behind it."""
        self._advance_dense()
        self._stream.advance(self._index)

    def convert(self) -> BlockReport:
        """Run all stages and move the streams behind the block.

        Raises:
            ValueError: NaN or infinity in weights or inputs, or a Hessian that is not positive definite.
            FloatingPointError: training diverged.
        """
        started = time.perf_counter()
        targets = self._advance_dense()
        means = self._means() if self._config.shift else {}
        for name in self._names():
            self._set_spiking(name)
        for first, mean in means.items():
            self._shift(first, mean)
        if self._config.neuron.salient_share:
            self._choose_salient()
        if self._settings.quanta:
            self._choose_quanta()
        real = {name: self._layer(name) for name in self._names()}
        training = self._train(targets) if self._settings.method == "blocks" else ()
        if self._settings.method != "blocks":
            for group in self._groups:
                self._quantize(group)
        measured = {name: LayerMeasurement(layer) for name, layer in real.items()}
        self._stream.advance(self._index, {self._layer(name): each.add for name, each in measured.items()})
        for layer in real.values():
            layer.neuron.eval()
        quanta = {name: getattr(self._config.neuron_of(name), "quanta", None) for name in measured}
        layers = {name: each.report(quanta[name], self._seconds[name]) for name, each in measured.items()}
        return BlockReport(layers, time.perf_counter() - started, training)

    def _block(self) -> nn.Module:
        block: nn.Module = self._model.get_submodule(self._stream.names[self._index])
        return block

    def _advance_dense(self) -> list[Tensor]:
        """Outputs of the block while it still is dense, on inputs of dense blocks; none where nothing trains."""
        if self._dense is None:
            return []
        set_attention(self._model, False)
        outputs = self._dense.advance(self._index)
        set_attention(self._model, self._config.attention)
        return outputs

    def _train(self, targets: list[Tensor]) -> tuple[float, ...]:
        """Integer weights for all layers at once; errors of the block's outputs."""
        started, names = time.perf_counter(), self._names()
        errors = train_block(self._block(), self._stream, self._index, targets, self._settings)
        self._seconds.update(dict.fromkeys(names, (time.perf_counter() - started) / len(names)))
        return errors

    def _names(self) -> list[str]:
        return [name for group in self._groups for name in group]

    def _linear(self, name: str) -> nn.Linear:
        module = self._model.get_submodule(name)
        assert isinstance(module, nn.Linear)
        return module

    def _layer(self, name: str) -> SpikingLinear:
        module = self._model.get_submodule(name)
        assert isinstance(module, SpikingLinear)
        return module

    def _final_config(self) -> GIFConfig:
        """The configuration of the layers after conversion."""
        config = copy.copy(self._config)
        config.packed = self._settings.packs
        return config

    def _observe(self, observers: dict[str, Callable[[Tensor], None]]) -> None:
        """Show the inputs (N, C) of layers to observers by name."""

        def on_inputs(observer: Callable[[Tensor], None], inputs: Tensor, _: Tensor) -> None:
            observer(inputs)

        watched: dict[nn.Module, Observer] = {
            self._linear(name): partial(on_inputs, observer) for name, observer in observers.items()
        }
        self._stream.observe(self._index, watched)

    def _means(self) -> dict[str, Tensor]:
        """Mean input (C,) float64 of every group, by the name of its first layer; the block is still dense."""
        sums: dict[str, Tensor] = {}
        tokens: dict[str, int] = {}

        def add(name: str, inputs: Tensor) -> None:
            total = inputs.double().sum(0)
            sums[name] = sums[name] + total if name in sums else total
            tokens[name] = tokens.get(name, 0) + len(inputs)

        self._observe({group[0]: partial(add, group[0]) for group in self._groups})
        return {name: total / max(1, tokens[name]) for name, total in sums.items()}

    def _set_spiking(self, name: str) -> None:
        """Put a neuron with the dense layer's weights in its place, rotated where the configuration says so."""
        layer = spiking_form(name, self._linear(name), self._config)
        if any(True for part, _ in layer.transform.named_children() if part == "rotation"):
            signs = random_signs(layer.in_features, seeded_generator(self._settings.seed, name))
            layer.transform.get_buffer("rotation.signs").copy_(signs)
            rotate_inputs(layer, signs)
        layer.neuron.train()  # a neuron that starts from its first batch does it during calibration
        self._model.set_submodule(name, layer)

    def _shift(self, first: str, mean: Tensor) -> None:
        """Take the mean off the inputs of a group; as it is stored, rounded, so that the bias undoes all of it."""
        for name in self._group_of(first):
            layer = self._layer(name)
            stored = layer.transform.get_buffer("shift.mean")
            stored.copy_(layer.transform(mean))  # the mean behind a rotation, shifted by 0 so far
            shift_inputs(layer, stored)

    def _group_of(self, name: str) -> list[str]:
        return next(group for group in self._groups if name in group)

    def _choose_salient(self) -> None:
        groups = {group[0]: [self._layer(name) for name in group] for group in self._groups}
        scores = {name: [self._saliency(name, layer) for layer in layers] for name, layers in groups.items()}

        def update(name: str, inputs: Tensor) -> None:
            values = groups[name][0].transform(inputs)
            for score in scores[name]:
                score.update(values)

        self._observe({name: partial(update, name) for name in groups})
        for name, layers in groups.items():
            mask = salient_mask([score.scores() for score in scores[name]], self._config.neuron.salient_share)
            for layer in layers:
                if isinstance(layer.neuron, SalientNeuron):
                    layer.neuron.select(mask)

    def _saliency(self, group: str, layer: SpikingLinear) -> Saliency:
        if self._settings.saliency == "first_order":
            return FirstOrderSaliency(layer.weight)
        if self._settings.saliency == "peak":
            return PeakSaliency(layer.in_features)
        return RandomSaliency(layer.in_features, seeded_generator(self._settings.seed, group).initial_seed())

    def _choose_quanta(self) -> None:
        """Find the threshold of least squared error for every group."""
        candidates = self._settings.quanta
        neurons = {group[0]: [self._neuron(group[0], quanta) for quanta in candidates] for group in self._groups}
        errors = {name: [0.0] * len(candidates) for name in neurons}

        def compare(name: str, inputs: Tensor) -> None:
            layer = self._layer(name)
            values = layer.transform(inputs)
            for number, neuron in enumerate(neurons[name]):
                fired = decode(neuron.planes(values), layer.in_features)
                errors[name][number] += float((fired - values).double().square().sum())

        self._observe({name: partial(compare, name) for name in errors})
        for first, each in errors.items():
            best = candidates[each.index(min(each))]
            for name in self._group_of(first):
                self._config.layer_neurons.setdefault(name, {})["quanta"] = best
                self._layer(name).neuron = self._neuron(name, best)

    def _neuron(self, name: str, quanta: float | None) -> SpikingNeuron:
        """The neuron of a layer with another threshold and the same state."""
        layer = self._layer(name)
        with torch.device(layer.weight.device):
            neuron = changed(self._config.neuron_of(name), {"quanta": quanta}).make(layer.in_features)
        neuron.load_state_dict(layer.neuron.state_dict())
        return neuron.train(layer.neuron.training)

    def _quantize(self, group: list[str]) -> None:
        """Integer weights for layers that read one input."""
        started, layers = time.perf_counter(), [self._layer(name) for name in group]
        moments: InputMoments | None = None
        if self._settings.method == "gptq":
            moments = InputMoments(layers[0])
            self._observe({group[0]: moments.add})
        for name, layer in zip(group, layers, strict=True):
            if self._settings.packs:
                self._model.set_submodule(name, self._packed(layer, moments))
        for name in group:  # the moments are those of the group
            self._seconds[name] = (time.perf_counter() - started) / len(group)

    def _packed(self, layer: SpikingLinear, moments: InputMoments | None) -> PackedSpikingLinear:
        bits, size = self._config.weight_bits, self._config.group_size
        if moments is None:
            grid = fitted_grid(layer.weight, bits, size)
            return PackedSpikingLinear.pack(layer, grid.codes(layer.weight), grid.scale, bits, size)

        weight = layer.weight.detach().float()
        if self._settings.noise_damping is not None:
            weight = weight @ moments.noise_filter(self._settings.noise_damping)
        quantized = gptq(
            weight,
            moments.hessian.matrix,
            partial(fitted_grid, bits=bits),
            group_size=size,
            static_groups=size is not None,  # packed groups are neighbours, whatever the order of rounding
            activation_order=self._settings.activation_order,
            damping=self._settings.damping,
        )
        return PackedSpikingLinear.pack(layer, quantized.codes, quantized.scale, bits, size)
