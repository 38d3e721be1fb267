"""The command line: `spikeaudio transcribe|ask|speak|chat|tokenize|detokenize|profile|spike|convert|doctor|demo`.

Parsing and printing only. A command is one call of the facade (`spikeaudio.SpikeAudio`), imported when the command
runs, so that `spikeaudio --help` needs neither torch nor transformers. Results go to standard output, anything else to
standard error. A mistake in the input is one sentence and exit code 2. Of several recordings, the good ones still get
their result.
"""

import io
import os
import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from spikeaudio.cli import checking, codes, conversing, converting, hearing, speaking, spiking
from spikeaudio.cli.printing import complain

# rich would double the time that --help takes, and its tracebacks print every local tensor.
app = typer.Typer(
    name="spikeaudio",
    help="Wav to words, words to wav. The shipped checkpoint is used unless --model or SPIKEAUDIO_MODEL names another.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
for command in (
    hearing.transcribe,
    hearing.ask,
    speaking.speak,
    conversing.chat,
    codes.tokenize,
    codes.detokenize,
    spiking.profile,
    spiking.spike,
    checking.doctor,
    checking.demo,
):
    app.command()(command)
published = typer.Typer(help="Write a published model in our own layout.", no_args_is_help=True)
published.command()(converting.kimi)
app.add_typer(published, name="convert")


def _print_version(wanted: bool) -> None:
    if wanted:
        from spikeaudio import __version__

        typer.echo(f"spikeaudio {__version__}")
        raise typer.Exit


@app.callback()
def _program(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and stop.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """Options before the command."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Console script. Exits with 0, or with 2 and one sentence on standard error when the input is at fault."""
    _print_anything()
    try:
        app(args=None if arguments is None else list(arguments))
    except BrokenPipeError:  # whoever reads has enough, as `head` does; the interpreter must not flush into it again
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except (ValueError, OSError) as error:
        complain(error)
        sys.exit(2)


def _print_anything() -> None:
    """Let every character and file name be printed: a terminal of another encoding shows an escape."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream in (sys.__stdout__, sys.__stderr__):
            utf8 = stream.encoding.lower().replace("-", "") == "utf8"
            stream.reconfigure(errors="surrogateescape" if utf8 else "backslashreplace")
