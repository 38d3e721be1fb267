"""The command line: `spikeaudio transcribe|ask|speak|chat|tokenize|detokenize|profile|spike|convert|doctor|demo`.

Parsing and printing only; what a command does is one call of the facade (`spikeaudio.SpikeAudio`), imported when the
command runs, so that `spikeaudio --help` needs neither torch nor transformers. Results go to standard output, anything
else to standard error. What is wrong with the input is one sentence and exit code 2; of several files the good ones
still get their result.
"""

import json
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

if TYPE_CHECKING:
    from torch import Tensor

    from spikeaudio.pipeline import SpikeAudio
    from spikeaudio.speech.result import Reply

SHIPPED_CHECKPOINT = Path(__file__).resolve().parent.parent.parent / "checkpoints" / "spikeaudio-tiny"
_HEARING_HZ = 16000

Files = Annotated[list[Path], typer.Argument(metavar="FILE...", help="Recordings: wav, flac, ogg, mp3.")]
File = Annotated[Path, typer.Argument(metavar="FILE", help="A recording: wav, flac, ogg, mp3.")]
Output = Annotated[Path, typer.Option("--output", "-o", help="Audio file to write (.wav, .flac).")]
Seed = Annotated[int, typer.Option(help="Of every random number; the same seed says the same again.")]
Voice = Annotated[Path | None, typer.Option(help="Recording of the voice to speak with; none: the checkpoint's own.")]
Model = Annotated[Path, typer.Option(help="Checkpoint folder.", envvar="SPIKEAUDIO_MODEL", show_default=False)]

# rich would double the time that --help takes, and its tracebacks print every local tensor.
app = typer.Typer(
    name="spikeaudio",
    help="Wav to words, words to wav. The shipped checkpoint is used unless --model or SPIKEAUDIO_MODEL names another.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
converting = typer.Typer(help="Write a published model in our own layout.", no_args_is_help=True)
app.add_typer(converting, name="convert")


def main(arguments: Sequence[str] | None = None) -> None:
    """Console script. Exits with 0, or with 2 and one sentence on standard error when the input is at fault."""
    try:
        app(args=None if arguments is None else list(arguments))
    except (ValueError, OSError) as error:
        _complain(error)
        sys.exit(2)


@app.command()
def transcribe(
    files: Files,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object per file, one per line.")] = False,
    model: Model = SHIPPED_CHECKPOINT,
) -> None:
    """What is said in recordings."""
    spike_audio = _load(model)

    def result(file: Path) -> str:
        clip = _timed(file, lambda wav: spike_audio.transcribe(wav, _HEARING_HZ))
        if as_json:
            seconds = round(clip.seconds, 3)
            return json.dumps({"file": str(file), "text": clip.result, "duration_seconds": seconds, "rtf": clip.rtf})
        return clip.result if len(files) == 1 else f"{file}: {clip.result}"

    _print_each(files, result)


@app.command()
def ask(
    file: File,
    question: Annotated[str, typer.Argument(help="About the recording, in words.")],
    model: Model = SHIPPED_CHECKPOINT,
) -> None:
    """Answer a question about a recording."""
    typer.echo(_load(model).ask(str(file), question))


@app.command()
def speak(
    text: Annotated[str, typer.Argument(help="What to say.")],
    output: Output,
    seed: Seed = 0,
    voice: Voice = None,
    model: Model = SHIPPED_CHECKPOINT,
) -> None:
    """Read a text aloud."""
    _check_output(output)
    speech = _load(model).speak(text, output, seed=seed, voice=voice)
    typer.echo(f"{output}: {len(speech.wav) / speech.sampling_rate:.2f} s")


@app.command()
def chat(
    file: Annotated[Path | None, typer.Argument(metavar="[FILE]", help="A spoken question; none: type them.")] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Answer aloud too; typed turns get -1, -2, ... in the name.")
    ] = None,
    memory: Annotated[int, typer.Option(help="Past turns that the model is shown.", min=0)] = 0,
    seed: Seed = 0,
    voice: Voice = None,
    model: Model = SHIPPED_CHECKPOINT,
) -> None:
    """Answer a spoken question, or typed ones (or paths of recordings) line by line until an empty line."""
    if output is not None:
        _check_output(output)
    spike_audio = _load(model)
    if file is not None:
        reply = spike_audio.chat(str(file), speech=output is not None, seed=seed, voice=voice)
        typer.echo(reply.text)
        if output is not None:
            _save_reply(output, reply)
        return
    turns: list[list[dict[str, Any]]] = []
    for number, line in enumerate(_lines(), start=1):
        question = {"role": "user", "content": [_block(line)]}
        messages = [message for turn in turns[len(turns) - memory :] for message in turn] + [question]
        try:
            reply = spike_audio.chat(messages, speech=output is not None, seed=seed, voice=voice)
        except (ValueError, OSError) as error:
            _complain(error)
            continue
        typer.echo(reply.text)
        if output is not None:
            _save_reply(output.with_stem(f"{output.stem}-{number}"), reply)
        turns.append([question, {"role": "assistant", "content": [{"type": "text", "text": reply.text}]}])


@app.command()
def tokenize(files: Files, model: Model = SHIPPED_CHECKPOINT) -> None:
    """Recordings to codes, 12.5 per second; one JSON object per file, one per line."""
    tokenizer = _load(model).tokenizer

    def result(file: Path) -> str:
        clip = _timed(file, lambda wav: tokenizer.encode([wav])[0].codes.tolist())
        return json.dumps({"file": str(file), "codes": clip.result, "duration_seconds": round(clip.seconds, 3)})

    _print_each(files, result)


@app.command()
def detokenize(
    codes: Annotated[Path, typer.Argument(metavar="CODES.json", help="A list of codes, or what tokenize prints.")],
    output: Output,
    seed: Seed = 0,
    model: Model = SHIPPED_CHECKPOINT,
) -> None:
    """Codes to speech."""
    from spikeaudio.audio.files import save_audio

    _check_output(output)
    ids = _read_codes(codes)
    spike_audio = _load(model)
    wav, rate = spike_audio.detokenize(ids, seed=seed), spike_audio.decoder.sampling_rate
    save_audio(output, wav, rate)
    typer.echo(f"{output}: {len(wav) / rate:.2f} s")


@app.command()
def profile(
    audio: Annotated[Path, typer.Option(help="The recording to transcribe.", metavar="FILE")],
    model: Annotated[Path, typer.Argument(metavar="[MODEL]", help="Checkpoint folder.")] = SHIPPED_CHECKPOINT,
    as_json: Annotated[bool, typer.Option("--json", help="All figures as one JSON object.")] = False,
    plot: Annotated[Path | None, typer.Option(help="Also draw the spikes over time (.png).")] = None,
) -> None:
    """Operations, bytes and modelled energy of one transcription, layer by layer."""
    from spikeaudio.neuromorphic.profile import check_spikes, draw, rows
    from spikeaudio.neuromorphic.profile import profile as profiled

    if plot is not None:
        _check_output(plot)
    spike_audio = _load(model)
    if plot is not None:
        check_spikes(spike_audio)
    result = profiled(spike_audio, audio)
    if as_json:
        typer.echo(json.dumps({"text": result.text, "audio_seconds": result.audio_seconds, **result.figures}))
    else:
        _print_table(rows(result))
        _print_figures(result.figures)
    if plot is not None:
        draw(result, plot)


@app.command()
def spike(
    source: Annotated[Path, typer.Argument(metavar="SRC", help="Dense checkpoint folder.")],
    destination: Annotated[Path, typer.Argument(metavar="DST", help="Folder of the spiking one; must not exist.")],
    calibration: Annotated[Path, typer.Option(help="Examples, one JSON object per line.", metavar="DATA.jsonl")],
    preset: Annotated[str, typer.Option(help="w4a4, w4a4kv4, w4a8 or ternary.")] = "w4a4",
    bits: Annotated[int | None, typer.Option(help="Bits of a weight (2 to 8), instead of the preset's.")] = None,
    time_steps: Annotated[int | None, typer.Option(help="Steps of a neuron, instead of the preset's.")] = None,
    method: Annotated[str, typer.Option(help="train (the whole model), blocks (one by one), gptq or round.")] = "train",
    steps: Annotated[int, typer.Option(help="Number of training steps; only with --method train.", min=1)] = 2000,
    seed: Annotated[int, typer.Option(help="Seed of the rotations and of the order of training.")] = 0,
) -> None:
    """Make a dense checkpoint a spiking one; given again after a kill, it goes on where it was."""
    from spikeaudio.spiking.preparation.settings import ConversionSettings
    from spikeaudio.spiking.preset import preset as named
    from spikeaudio.training.spike import spike as converted
    from spikeaudio.training.spike_report import rows

    changes = {} if bits is None else {"weight_bits": bits}
    config = named(preset, None if time_steps is None else {"time_steps": time_steps}, **changes)
    report = converted(source, destination, calibration, ConversionSettings(config, method, steps, seed=seed))  # type: ignore[arg-type]
    _print_table(rows(report))
    memory = "" if report.peak_gigabytes is None else f", {report.peak_gigabytes:.1f} GB of memory"
    figures = {
        "unary spikes per input": f"{report.unary_rate:.2f}",
        "silent inputs": f"{100 * report.silent_share:.0f} %",
        "weights on disk": f"{report.bytes_spiking / 1e6:.2f} MB, dense {report.bytes_dense / 1e6:.2f} MB",
        "work": f"{report.seconds:.0f} s{memory}",
        "report": f"{destination / 'spiking_report.json'} and .png",
    }
    typer.echo()
    _print_table(list(figures.items()))


@converting.command()
def kimi(
    source: Annotated[Path, typer.Argument(metavar="SRC", help="Download of Kimi-Audio.")],
    destination: Annotated[Path, typer.Argument(metavar="DST", help="Folder of the new checkpoint; must not exist.")],
    speech_tokenizer: Annotated[
        Path | None, typer.Option(help="Folder of the GLM-4-Voice tokenizer, unless it lies in SRC or beside it.")
    ] = None,
    dtype: Annotated[
        str, typer.Option(help="Of the weights: auto (as published), float32, bfloat16, float16.")
    ] = "auto",
) -> None:
    """Kimi-Audio, shard by shard; given again after a kill, it goes on where it was."""
    from spikeaudio.loading.kimi.conversion import convert

    typer.echo(convert(source, destination, speech_tokenizer, dtype))


@app.command()
def doctor(model: Model = SHIPPED_CHECKPOINT) -> None:
    """Versions, devices, optional parts and the checkpoint, for a look or a bug report."""
    from spikeaudio.cli.doctor import report

    _print_table(report(model))


@app.command()
def demo(
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to write to.")] = Path("demo_out"),
    model: Model = SHIPPED_CHECKPOINT,
) -> None:
    """Transcribe sample clips, speak a sentence, transcribe what was spoken, draw it."""
    from spikeaudio.cli.demo import run_demo

    rows = run_demo(_load(model), output)
    header = ("clip", "text", "expected", "real-time factor", "file")
    _print_table([header, *((row.clip, row.text, row.expected, f"{row.rtf:.2f}", str(row.path)) for row in rows)])
    typer.echo(f"\nA real-time factor below 1 is faster than the sound lasts. Files are in {output}")


class _Clip(NamedTuple):
    """What was made of a recording, and how long that took."""

    result: Any
    seconds: float  # the recording lasts
    rtf: float  # seconds of work per second of sound


def _timed(file: Path, work: "Callable[[Tensor], Any]") -> _Clip:
    """``work(wav)`` on a file's samples at 16 kHz; reading counts as work."""
    from spikeaudio.audio.files import load_audio

    start = time.perf_counter()
    wav = load_audio(file, _HEARING_HZ)
    result = work(wav)
    seconds = len(wav) / _HEARING_HZ
    return _Clip(result, seconds, round((time.perf_counter() - start) / seconds, 4))


def _load(folder: Path) -> "SpikeAudio":
    from transformers.utils import logging

    from spikeaudio import SpikeAudio

    logging.disable_progress_bar()
    return SpikeAudio.from_pretrained(folder)


def _print_each(files: Iterable[Path], result: Callable[[Path], str]) -> None:
    """Print each file's result as soon as it is there; exit code 2 at the end if some have none."""
    failed = False
    for file in files:
        try:
            typer.echo(result(file))
        except (ValueError, OSError) as error:
            _complain(error)
            failed = True
    if failed:
        raise typer.Exit(2)


def _print_table(rows: Sequence[Sequence[str]]) -> None:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        typer.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _print_figures(figures: dict[str, Any]) -> None:
    """Totals of a profile, a line for each."""
    per_token = {name: f"{value:,.0f}" for name, value in figures["per_token"].items()}
    compute = {
        f"compute, {name}": f"{value:,.0f} pJ" for name, value in figures["compute_picojoules_per_token"].items()
    }
    memory = {f"memory, {name}": f"{value:,.0f} pJ" for name, value in figures["memory_picojoules_per_token"].items()}
    typer.echo(f"\nper token (energy is a model: {figures['energy_table']})")
    _print_table(list((per_token | compute | memory).items()))


def _complain(error: Exception) -> None:
    typer.echo(f"spikeaudio: {' '.join(str(error).split())}", err=True)


def _check_output(output: Path) -> None:
    """Refuse before the work what could not be written after it."""
    if not output.suffix:
        raise ValueError(f"cannot tell the audio format of {output}: expected an extension such as .wav or .flac")
    if not output.parent.is_dir():
        raise FileNotFoundError(f"cannot write {output}: the folder {output.parent} does not exist")


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


def _block(line: str) -> dict[str, str]:
    """A content block: a recording if the line is the path of a file, else text."""
    return {"type": "audio", "path": line} if Path(line).is_file() else {"type": "text", "text": line}


def _read_codes(path: Path) -> list[int]:
    """Codes of a JSON file.

    Raises:
        FileNotFoundError: if there is none.
        ValueError: if it holds no list of integers.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no such file of codes: {path}")
    try:
        codes = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not JSON: expected a list of codes, or one object of `tokenize`") from error
    if isinstance(codes, dict):
        codes = codes.get("codes")
    if not isinstance(codes, list) or not codes or not all(type(code) is int for code in codes):
        raise ValueError(f"{path} holds no codes: expected a list of integers, or an object with one under 'codes'")
    return codes
