"""The command that reads aloud: speak."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from spikeaudio.cli.loading import load
from spikeaudio.cli.options import SHIPPED_CHECKPOINT, Device, Dtype, Model, Output, Seed, Voice
from spikeaudio.cli.printing import check_output, write_audio
from spikeaudio.cli.sources import STANDARD


def speak(
    output: Output,
    text: Annotated[str | None, typer.Argument(help="Text to read, or - for standard input.")] = None,
    file: Annotated[Path | None, typer.Option(help="Text file (UTF-8) to read, instead of TEXT.")] = None,
    seed: Seed = 0,
    voice: Voice = None,
    speed: Annotated[float, typer.Option(help="Factor from 0.25 to 4; 2 reads twice as fast.")] = 1.0,
    model: Model = SHIPPED_CHECKPOINT,
    device: Device = None,
    dtype: Dtype = None,
) -> None:
    """Read a text aloud."""
    words = _words(text, file)
    check_output(output)
    if output == STANDARD and sys.stdout.isatty():
        raise ValueError("a terminal cannot play sound: give --output FILE.wav, or send standard output elsewhere")
    speech = load(model, device, dtype).speak(words, seed=seed, voice=voice, speed=speed)
    write_audio(output, speech.wav, speech.sampling_rate)


def _words(text: str | None, file: Path | None) -> str:
    if (text is None) == (file is None):
        raise ValueError("give either TEXT or --file FILE")
    if text == STANDARD:
        return sys.stdin.read()
    if text is not None:
        return text
    assert file is not None
    try:
        return file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{file} is not UTF-8 text: {error.reason} at byte {error.start}") from error
