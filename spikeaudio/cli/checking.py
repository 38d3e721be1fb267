"""Commands that look at the installation: doctor, demo."""

from pathlib import Path
from typing import Annotated

import typer

from spikeaudio.cli.loading import load
from spikeaudio.cli.options import SHIPPED_CHECKPOINT, Model
from spikeaudio.cli.printing import print_table


def doctor(model: Model = SHIPPED_CHECKPOINT) -> None:
    """Print versions, devices, optional parts and the checkpoint, for a look or a bug report."""
    from spikeaudio.cli.doctor import report

    print_table(report(model))


def demo(
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to write to.")] = Path("demo_out"),
    model: Model = SHIPPED_CHECKPOINT,
) -> None:
    """Transcribe sample clips, speak a sentence, transcribe what was spoken, draw it."""
    from spikeaudio.cli.demo import run_demo

    rows = run_demo(load(model), output)
    header = ("clip", "text", "expected", "real-time factor", "file")
    print_table([header, *((row.clip, row.text, row.expected, f"{row.rtf:.2f}", str(row.path)) for row in rows)])
    typer.echo(f"\nA real-time factor below 1 is faster than the sound lasts. Files are in {output}")
