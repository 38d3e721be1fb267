"""Commands around the codes of speech: tokenize, detokenize."""

import json
from pathlib import Path
from typing import Annotated

import typer

from spikeaudio.cli.loading import load
from spikeaudio.cli.options import SHIPPED_CHECKPOINT, Device, Dtype, Model, Output, Recordings, Seed
from spikeaudio.cli.printing import check_output, print_each, write_audio
from spikeaudio.cli.sources import HEARING_HZ, Source, sources


def tokenize(
    recordings: Recordings, model: Model = SHIPPED_CHECKPOINT, device: Device = None, dtype: Dtype = None
) -> None:
    """Turn recordings into codes, 12.5 per second.

    Each recording gives one JSON object on a line.
    """
    with sources(recordings) as found:
        tokenizer = load(model, device, dtype).tokenizer

        def result(source: Source) -> str:
            wav = source.samples()
            codes = tokenizer.encode([wav])[0].codes.tolist()
            seconds = round(len(wav) / HEARING_HZ, 3)
            return json.dumps({"file": source.name, "codes": codes, "duration_seconds": seconds})

        print_each(found, result)


def detokenize(
    codes: Annotated[Path, typer.Argument(metavar="CODES.json", help="List of codes, or the output of tokenize.")],
    output: Output,
    seed: Seed = 0,
    model: Model = SHIPPED_CHECKPOINT,
    device: Device = None,
    dtype: Dtype = None,
) -> None:
    """Turn codes into speech."""
    check_output(output)
    ids = _read(codes)
    spike_audio = load(model, device, dtype)
    write_audio(output, spike_audio.detokenize(ids, seed=seed), spike_audio.decoder.sampling_rate)


def _read(path: Path) -> list[int]:
    """Codes of a JSON file.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it holds no list of integers from 0.
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
    if min(codes) < 0:
        raise ValueError(f"{path} holds the code {min(codes)}: expected codes from 0")
    return codes
