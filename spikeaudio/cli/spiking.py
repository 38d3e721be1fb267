"""Commands around spikes: spike, profile."""

from pathlib import Path
from typing import Annotated, Any

import typer

from spikeaudio.cli.loading import load
from spikeaudio.cli.options import SHIPPED_CHECKPOINT
from spikeaudio.cli.printing import print_json, print_table


def profile(
    audio: Annotated[Path, typer.Option(help="The recording to transcribe.", metavar="FILE")],
    model: Annotated[Path, typer.Argument(metavar="[MODEL]", help="Checkpoint folder.")] = SHIPPED_CHECKPOINT,
    as_json: Annotated[bool, typer.Option("--json", help="All figures as one JSON object.")] = False,
    plot: Annotated[Path | None, typer.Option(help="Also draw the spikes over time (.png).")] = None,
) -> None:
    """Count operations, bytes and modelled energy of one transcription, layer by layer."""
    from spikeaudio.neuromorphic.profile import check_spikes, draw, rows
    from spikeaudio.neuromorphic.profile import profile as profiled

    if plot is not None and (plot.suffix != ".png" or not plot.parent.is_dir()):
        raise ValueError(f"--plot must be a .png file in a folder that exists, got {plot}")
    spike_audio = load(model)
    if plot is not None:
        check_spikes(spike_audio)
    result = profiled(spike_audio, audio)
    if as_json:
        print_json({"text": result.text, "audio_seconds": result.audio_seconds, **result.figures})
    else:
        print_table(rows(result))
        _print_figures(result.figures)
    if plot is not None:
        draw(result, plot)


def spike(
    source: Annotated[Path, typer.Argument(metavar="SRC", help="Dense checkpoint folder.")],
    destination: Annotated[Path, typer.Argument(metavar="DST", help="Folder of the spiking one; must not exist.")],
    calibration: Annotated[Path, typer.Option(help="Examples, one JSON object per line.", metavar="DATA.jsonl")],
    preset: Annotated[str, typer.Option(help="Kind of spiking: w4a4, w4a4kv4, w4a8 or ternary.")] = "w4a4",
    bits: Annotated[int | None, typer.Option(help="Bits of a weight (2 to 8), instead of the preset's.")] = None,
    time_steps: Annotated[int | None, typer.Option(help="Time steps of a neuron, instead of the preset's.")] = None,
    method: Annotated[
        str, typer.Option(help="Way to find weights: train (whole model), blocks, gptq, round.")
    ] = "train",
    steps: Annotated[int, typer.Option(help="Number of training steps; only with --method train.", min=1)] = 2000,
    seed: Annotated[int, typer.Option(help="Seed of the rotations and of the order of training.")] = 0,
) -> None:
    """Make a dense checkpoint a spiking one.

    Given again after a kill, the same command goes on where it was.
    """
    from spikeaudio.spiking.preparation.settings import ConversionSettings
    from spikeaudio.spiking.preset import preset as named
    from spikeaudio.training.spike import spike as converted
    from spikeaudio.training.spike_report import rows

    changes = {} if bits is None else {"weight_bits": bits}
    config = named(preset, None if time_steps is None else {"time_steps": time_steps}, **changes)
    report = converted(source, destination, calibration, ConversionSettings(config, method, steps, seed=seed))  # type: ignore[arg-type]
    print_table(rows(report))
    memory = "" if report.peak_gigabytes is None else f", {report.peak_gigabytes:.1f} GB of memory"
    figures = {
        "unary spikes per input": f"{report.unary_rate:.2f}",
        "silent inputs": f"{100 * report.silent_share:.0f} %",
        "weights on disk": f"{report.bytes_spiking / 1e6:.2f} MB, dense {report.bytes_dense / 1e6:.2f} MB",
        "work": f"{report.seconds:.0f} s{memory}",
        "report": f"{destination / 'spiking_report.json'} and .png",
    }
    typer.echo()
    print_table(list(figures.items()))


def _print_figures(figures: dict[str, Any]) -> None:
    """Totals of a profile, a line for each."""
    per_token = {name: f"{value:,.0f}" for name, value in figures["per_token"].items()}
    compute = {
        f"compute, {name}": f"{value:,.0f} pJ" for name, value in figures["compute_picojoules_per_token"].items()
    }
    memory = {f"memory, {name}": f"{value:,.0f} pJ" for name, value in figures["memory_picojoules_per_token"].items()}
    typer.echo(f"\nper token (energy is a model: {figures['energy_table']})")
    print_table(list((per_token | compute | memory).items()))
