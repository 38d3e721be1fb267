"""What commands print: results on standard output, complaints on standard error."""

import json
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from spikeaudio.cli.sources import STANDARD, Source

if TYPE_CHECKING:
    from torch import Tensor


def complain(error: Exception | str) -> None:
    """One sentence on standard error."""
    typer.echo(f"spikeaudio: {' '.join(str(error).split())}", err=True)


def print_each(sources: Iterable[Source], result: Callable[[Source], str]) -> None:
    """Print each recording's result as soon as it is there; exit code 2 at the end if some have none."""
    failed = False
    for source in sources:
        try:
            typer.echo(result(source))
        except BrokenPipeError:
            raise
        except (ValueError, OSError) as error:
            complain(error)
            failed = True
    if failed:
        raise typer.Exit(2)


def print_table(rows: Sequence[Sequence[str]]) -> None:
    """Rows of cells as columns."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        typer.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def print_json(fields: dict[str, Any]) -> None:
    """One JSON object on a line of its own."""
    typer.echo(json.dumps(fields))


def check_output(output: str | Path) -> None:
    """Refuse before the work what could not be written after it.

    Raises:
        FileNotFoundError: the folder does not exist.
        ValueError: the extension names no audio format.
    """
    if str(output) == STANDARD:
        return
    from spikeaudio.audio.files import check_writable

    check_writable(Path(output))


def write_audio(output: str | Path, wav: "Tensor", sampling_rate: int) -> None:
    """Write samples (N,) to a file, or as wav to standard output; say on the other channel how long they last.

    Raises:
        OSError: the file cannot be written.
    """
    seconds = f"{len(wav) / sampling_rate:.2f} s"
    if str(output) != STANDARD:
        from spikeaudio.audio.files import save_audio

        save_audio(output, wav, sampling_rate)
        typer.echo(f"{output}: {seconds}")
        return
    import io

    import soundfile

    buffer = io.BytesIO()
    soundfile.write(buffer, wav.clamp(-1, 1).numpy(), sampling_rate, format="WAV")
    sys.stdout.buffer.write(buffer.getvalue())
    sys.stdout.buffer.flush()
    complain(f"{seconds} of wav written to standard output")
