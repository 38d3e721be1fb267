"""The command that answers: chat."""

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from spikeaudio.cli.loading import load
from spikeaudio.cli.options import SHIPPED_CHECKPOINT, Device, Dtype, Model, Seed, Voice
from spikeaudio.cli.printing import check_output, complain
from spikeaudio.cli.sources import sources

if TYPE_CHECKING:
    from spikeaudio.speech.result import Reply


def chat(
    recording: Annotated[
        str | None,
        typer.Argument(metavar="[RECORDING]", help="Spoken question, or - for standard input; none: type questions."),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Audio file for a spoken answer; typed turns get -1, -2, ... in the name."),
    ] = None,
    memory: Annotated[int, typer.Option(help="Number of past turns that the model is shown.", min=0)] = 0,
    seed: Seed = 0,
    voice: Voice = None,
    model: Model = SHIPPED_CHECKPOINT,
    device: Device = None,
    dtype: Dtype = None,
) -> None:
    """Answer a spoken question, or typed ones line by line.

    A line may also be the path of a recording. An empty line ends the conversation.
    """
    if output is not None:
        check_output(output)
    if recording is not None:
        with sources([recording]) as (source, *_):
            spike_audio = load(model, device, dtype)
            reply = spike_audio.chat(source.samples(), 16000, speech=output is not None, seed=seed, voice=voice)
            typer.echo(reply.text)
            if output is not None:
                _save_reply(output, reply)
        return
    spike_audio = load(model, device, dtype)
    conversation = spike_audio.conversation(memory, speech=output is not None, seed=seed, voice=voice)
    for number, line in enumerate(_lines(), start=1):
        try:
            reply = conversation.say(audio=line) if Path(line).is_file() else conversation.say(line)
        except (ValueError, OSError) as error:
            complain(error)
            continue
        typer.echo(reply.text)
        if output is not None:
            _save_reply(output.with_stem(f"{output.stem}-{number}"), reply)


def _save_reply(output: Path, reply: "Reply") -> None:
    from spikeaudio.audio.files import save_audio

    if reply.wav is None or reply.sampling_rate is None or not len(reply.wav):
        raise ValueError(f"the answer has no sound, so {output} was not written")
    save_audio(output, reply.wav, reply.sampling_rate)


def _lines() -> Iterable[str]:
    """Lines typed (with a prompt) or piped, until the end or an empty one."""
    while True:
        try:
            line = input("> " if sys.stdin.isatty() else "").strip()
        except (EOFError, KeyboardInterrupt):
            return
        if not line:
            return
        yield line
