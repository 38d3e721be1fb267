"""What one utterance costs: operations and energy of a transcription, layer by layer, and its spikes over time.

Counting and prices are those of :mod:`spikeaudio.spiking.counting` and :mod:`spikeaudio.neuromorphic.energy`; only the
language model is counted, which is what spikes. A dense checkpoint is counted as well: its row is the one to compare
with.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import Tensor, nn

from spikeaudio.audio.files import load_audio
from spikeaudio.audio.segmentation import split_at_pauses
from spikeaudio.neuromorphic.energy import report
from spikeaudio.pipeline import SpikeAudio
from spikeaudio.spiking.conversion import spiking_layers
from spikeaudio.spiking.counting import ModelCount, counting

_HEARING_HZ = 16000


@dataclass(frozen=True)
class Profile:
    """Counts of one transcription.

    Attributes:
        text: the transcript.
        audio_seconds: length of the recording.
        tokens: positions that the language model processed.
        count: operations by layer.
        figures: `spikeaudio.neuromorphic.energy.report`.
        spikes: unary spikes per input by layer, (tokens,) each; empty for a dense model.
    """

    text: str
    audio_seconds: float
    tokens: int
    count: ModelCount
    figures: dict[str, Any]
    spikes: dict[str, Tensor]


def profile(model: SpikeAudio, audio: str | Path) -> Profile:
    """Transcribe a recording and count what that takes.

    Args:
        model: a spiking or a dense checkpoint that hears.
        audio: path of the recording. A long one is heard piece by piece, so that nothing counted is padding.

    Raises:
        ValueError: the recording or the checkpoint is at fault.
        OSError: the recording cannot be read.

    Example:
        >>> from spikeaudio import SpikeAudio
        >>> from spikeaudio.neuromorphic.profile import profile
        >>> model = SpikeAudio.from_pretrained("checkpoints/spikeaudio-tiny-w4a4")
        >>> result = profile(model, "spikeaudio/samples/question.wav")
        >>> result.text
        'what is the capital of england'
    """
    wav = load_audio(audio, _HEARING_HZ)
    network: Any = model.model
    pieces = split_at_pauses(wav, _HEARING_HZ, model.processor.piece_seconds)
    with counting(network) as count, _watched(network) as (spikes, positions), torch.no_grad():
        texts = [str(model.transcribe(piece, _HEARING_HZ)) for piece in pieces]
    text = " ".join(filter(None, texts))
    seconds, tokens = len(wav) / _HEARING_HZ, sum(positions)
    if not tokens:
        raise ValueError(f"{audio}: nothing in it was worth transcribing, so there is nothing to count")
    figures = report(network, count, tokens, seconds)
    return Profile(text, seconds, tokens, count, figures, {name: torch.cat(parts) for name, parts in spikes.items()})


@contextmanager
def _watched(network: nn.Module) -> Iterator[tuple[dict[str, list[Tensor]], list[int]]]:
    """Spikes per input of every spiking layer, and how many positions each call of the trunk's first layer has."""
    spikes: dict[str, list[Tensor]] = {name: [] for name, _ in spiking_layers(network)}
    positions: list[int] = []

    def watch(name: str, layer: Any) -> Any:
        def hook(_: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            fired = [plane.counts.abs().sum(-1) for plane in layer.planes(inputs[0])]
            spikes[name].append(torch.stack(fired).sum(0).flatten() / layer.in_features)

        return layer.register_forward_hook(hook)

    def count_positions(_: nn.Module, inputs: tuple[Tensor, ...], output: Any) -> None:
        positions.append(inputs[0].shape[:-1].numel())

    handles = [watch(name, layer) for name, layer in spiking_layers(network)]
    first = next(module for name, module in network.named_modules() if name.endswith("layers.0.input_layernorm"))
    handles.append(first.register_forward_hook(count_positions))
    try:
        yield spikes, positions
    finally:
        for handle in handles:
            handle.remove()


def rows(result: Profile) -> list[tuple[str, ...]]:
    """The figures as a table: header, one row per spiking layer, totals of layers and attention."""
    header = ("layer", "unary spikes/input", "silent", "unary ops/token", "dense MACs/token")
    out: list[tuple[str, ...]] = [header]
    totals = {"all spiking layers": result.count.total, "spiking attention": result.count.total_attention}
    for name, layer in (result.count.layers | totals).items():
        if layer.tokens:
            out.append(
                (
                    name,
                    f"{layer.unary_rate:.2f}",
                    f"{100 * layer.silent_share:.0f} %",
                    f"{layer.unary_operations / result.tokens:,.0f}",
                    f"{layer.dense_operations / result.tokens:,.0f}",
                )
            )
    return out


def check_spikes(model: SpikeAudio) -> None:
    """Refuse, before any work, a model that leaves `draw` nothing to draw.

    Raises:
        ValueError: the model does not spike.
    """
    if not any(True for _ in spiking_layers(model.model)):
        raise ValueError("the checkpoint does not spike: there are no spikes to draw")


def draw(result: Profile, path: Path) -> None:
    """One PNG: spikes per input by layer and token, of a model that spikes."""
    width = max(len(rates) for rates in result.spikes.values())
    grid = torch.full((len(result.spikes), width), float("nan"))
    for row, rates in zip(grid, result.spikes.values(), strict=True):
        row[: len(rates)] = rates
    figure = Figure(figsize=(11, 0.16 * len(grid) + 2), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    image = axes.imshow(grid.numpy(), aspect="auto", interpolation="nearest", cmap="magma")
    axes.set(title=f"“{result.text}”", xlabel="token: prompt with 12.5 positions per second of audio, then the answer")
    axes.set_yticks(range(len(grid)), list(result.spikes), fontsize=5)
    figure.colorbar(image, label="unary spikes per input")
    figure.savefig(path, dpi=130)
