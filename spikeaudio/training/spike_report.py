"""What a conversion cost: figures, table and picture of :mod:`spikeaudio.training.spike`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure


@dataclass(frozen=True)
class LayerFiring:
    """What one layer of the finished checkpoint fires on held-out examples, and what conversion cost its output."""

    unary_rate: float  # unary spikes per input element
    silent_share: float  # of the input elements, in [0, 1]
    relative_error: float  # of the outputs, before training (`conversion_report`)


@dataclass(frozen=True)
class SpikeReport:
    """What came out; ``spiking_report.json`` in the checkpoint holds the same.

    Attributes:
        dense: perplexity by stream before.
        spiking: after.
        gap: relative, and its standard error over the held-out examples, by stream.
        layers: by name.
        unary_rate: over all layers.
        silent_share: over all layers.
        bytes_dense: bytes dense of the weight files before.
        bytes_spiking: after.
        held_out: number of examples measured on.
        seconds: seconds of this call.
        peak_gigabytes: largest memory of the process so far; None where the system does not say.
        settings: settings that were asked for.
    """

    dense: dict[str, float]
    spiking: dict[str, float]
    gap: dict[str, tuple[float, float]]
    layers: dict[str, LayerFiring]
    unary_rate: float
    silent_share: float
    bytes_dense: int
    bytes_spiking: int
    held_out: int
    seconds: float
    peak_gigabytes: float | None
    settings: dict[str, Any]


def rows(report: SpikeReport) -> list[tuple[str, ...]]:
    """Quality before and after as a table: header, then a row for each stream."""
    header = ("stream", "perplexity, dense", "spiking", "gap", "standard error")
    return [
        header,
        *(
            (
                name,
                f"{report.dense[name]:.3f}",
                f"{value:.3f}",
                f"{100 * report.gap[name][0]:+.2f} %",
                f"{100 * report.gap[name][1]:.2f} %",
            )
            for name, value in report.spiking.items()
        ),
    ]


def draw(report: SpikeReport, path: Path) -> None:
    """One PNG: perplexities, and firing, silence and error of every layer."""
    figure = Figure(figsize=(12, 0.16 * len(report.layers) + 2), layout="constrained")
    FigureCanvasAgg(figure)
    quality, *others = figure.subplots(1, 4, width_ratios=(1.2, 2, 2, 2))
    places = range(len(report.spiking))
    quality.bar([place - 0.2 for place in places], report.dense.values(), 0.4, label="dense", color="tab:gray")
    quality.bar([place + 0.2 for place in places], report.spiking.values(), 0.4, label="spiking", color="tab:orange")
    quality.set_xticks(places, [f"{name}\n{100 * report.gap[name][0]:+.2f} %" for name in report.spiking])
    quality.set(title="perplexity", xlabel=f"{report.held_out} held-out examples", ylim=(0, None))
    quality.legend()
    layers = report.layers.values()
    columns = {
        "unary spikes per input": [layer.unary_rate for layer in layers],
        "silent inputs, %": [100 * layer.silent_share for layer in layers],
        "output error before training, %": [100 * layer.relative_error for layer in layers],
    }
    for axes, (title, values) in zip(others, columns.items(), strict=True):
        axes.barh(range(len(values)), values, color="tab:orange")
        axes.set_yticks(range(len(values)), list(report.layers) if axes is others[0] else [], fontsize=5)
        axes.invert_yaxis()
        axes.margins(y=0.005)
        axes.set_title(title)
    figure.savefig(path, dpi=130)
