"""Arguments and options that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

from spikeaudio.cli.sources import FORMATS

Recordings = Annotated[
    list[str],
    typer.Argument(
        metavar="RECORDING...", help=f"Recordings ({FORMATS}), folders of recordings, or - for standard input."
    ),
]
Recording = Annotated[
    str, typer.Argument(metavar="RECORDING", help=f"A recording ({FORMATS}), or - for standard input.")
]
Output = Annotated[
    str,
    typer.Option("--output", "-o", help="Audio file to write (.wav, .flac, .mp3, .ogg), or - for standard output."),
]
Seed = Annotated[int, typer.Option(help="Seed of every random number: the same seed says the same again.")]
Voice = Annotated[
    Path | None,
    typer.Option(help="Recording of a voice to speak with; spikeaudio-tiny uses its loudest 2.4 seconds."),
]
Model = Annotated[
    Path,
    typer.Option(
        help="Checkpoint: a folder, the name of a shipped one, or an id on the Hugging Face hub.",
        envvar="SPIKEAUDIO_MODEL",
    ),
]
Device = Annotated[str | None, typer.Option(help="Device to run on, such as cpu or cuda.", show_default="cpu")]
Dtype = Annotated[
    str | None,
    typer.Option(help="Type of the weights: float32, bfloat16, float16, or auto (as stored).", show_default="float32"),
]
SHIPPED_CHECKPOINT = Path("spikeaudio-tiny")
