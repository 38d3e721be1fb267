"""Commands that hear: transcribe, ask."""

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from spikeaudio.cli.loading import load
from spikeaudio.cli.options import SHIPPED_CHECKPOINT, Device, Dtype, Model, Recording, Recordings
from spikeaudio.cli.printing import complain, print_each
from spikeaudio.cli.sources import HEARING_HZ, Source, sources

if TYPE_CHECKING:
    from spikeaudio.speech.result import Transcript

FORMATS = ("txt", "json", "srt", "vtt")


def transcribe(
    recordings: Recordings,
    style: Annotated[str, typer.Option("--format", help="Form of the result: txt, json, srt or vtt.")] = "txt",
    as_json: Annotated[bool, typer.Option("--json", help="The same as --format json.")] = False,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder for one file per recording, instead of printing.")
    ] = None,
    model: Model = SHIPPED_CHECKPOINT,
    device: Device = None,
    dtype: Dtype = None,
) -> None:
    """Write down the words of recordings.

    With --format json each recording gives one JSON object on a line, with start, end and score of every segment.
    """
    style = "json" if as_json else style
    if style not in FORMATS:
        raise ValueError(f"--format must be one of {', '.join(FORMATS)}, got {style!r}")
    if output is not None:
        output.mkdir(parents=True, exist_ok=True)
    with sources(recordings) as found:
        if style in ("srt", "vtt") and output is None and len(found) > 1:
            raise ValueError(f"subtitles of {len(found)} recordings need a folder: give --output FOLDER")
        spike_audio = load(model, device, dtype)

        def result(source: Source) -> str:
            start = time.perf_counter()
            wav = source.samples()
            transcript = spike_audio.transcribe(wav, HEARING_HZ, timestamps=True)
            _warn(source, transcript)
            seconds = len(wav) / HEARING_HZ
            text = _rendered(source, transcript, style, (time.perf_counter() - start) / seconds)
            if output is not None:
                target = output / f"{Path(source.name).stem or 'stdin'}.{style}"
                target.write_text(text + "\n", encoding="utf-8")
                return str(target)
            return f"{source.name}: {text}" if style == "txt" and len(found) > 1 else text

        print_each(found, result)


def ask(
    recording: Recording,
    question: Annotated[str, typer.Argument(help="Question about the recording, in words.")],
    model: Model = SHIPPED_CHECKPOINT,
    device: Device = None,
    dtype: Dtype = None,
) -> None:
    """Answer a question about a recording."""
    with sources([recording]) as found:
        spike_audio = load(model, device, dtype)
        print_each(found[:1], lambda source: spike_audio.ask(source.samples(), question, HEARING_HZ))


def _rendered(source: Source, transcript: "Transcript", style: str, rtf: float) -> str:
    from spikeaudio.speech.subtitles import fields, render

    if style != "json":
        return render(transcript, style)
    return json.dumps({"file": source.name, **fields(transcript), "rtf": round(rtf, 4)})


def _warn(source: Source, transcript: "Transcript") -> None:
    """Say on standard error what the text alone does not."""
    if transcript.no_speech:
        complain(f"{source.name}: no speech was found")
    elif transcript.uncertain:
        complain(f"{source.name}: the score is low ({transcript.score:.2f}), so the text is likely to be wrong")
