"""Which transcripts a checkpoint calls uncertain: bundled clips as they are, backwards, noisy and clipped, and yours.

    python -m eval.benchmarks.uncertainty [--model CHECKPOINT] [--recordings NAME=FOLDER ...] [--clips 40]

A transcript is uncertain if its score is below the checkpoint's threshold. WER stands beside it where the right text is
known. Noise and clipping are those of the first 30 bundled questions: white noise of one seed, so many decibels below
the RMS of the clip; clips are scaled to full scale, amplified ten times and clipped. Of a folder, `--clips` files are
taken at even distances in the order of their names.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from eval.metrics.error_rate import word_errors
from spikeaudio import SpikeAudio
from spikeaudio.audio.files import load_audio
from spikeaudio.speech.result import Transcript

RATE = 16000
BUNDLED = Path("eval/bundled")
NOISY_CLIPS = 30
SUFFIXES = {".wav", ".flac", ".mp3", ".ogg", ".opus"}
HEADER = ("recordings", "clips", "no speech", "uncertain", "WER", "right: uncertain", "half wrong: told")


@dataclass(frozen=True)
class Row:
    """Transcripts of some recordings.

    Attributes:
        name: name of the recordings.
        transcripts: one for each.
        texts: the right texts; None: they are not known.
    """

    name: str
    transcripts: Sequence[Transcript]
    texts: Sequence[str] | None = None

    def cells(self) -> tuple[str, ...]:
        """As `HEADER`; "half wrong" are transcripts with at least half of the words wrong."""
        told = [each.uncertain or each.no_speech for each in self.transcripts]
        counts = (
            len(told),
            sum(each.no_speech for each in self.transcripts),
            sum(e.uncertain for e in self.transcripts),
        )
        cells = (self.name, *map(str, counts))
        if self.texts is None:
            return (*cells, "-", "-", "-")
        rates = [word_errors([text], each.text) for text, each in zip(self.texts, self.transcripts, strict=True)]
        wer = sum(rate.numerator for rate in rates) / sum(rate.denominator for rate in rates)
        right = [said for said, rate in zip(told, rates, strict=True) if rate.numerator == 0]
        half = [said for said, rate in zip(told, rates, strict=True) if rate.numerator >= rate.denominator / 2]
        return (*cells, f"{100 * wer:.1f} %", f"{sum(right)} of {len(right)}", f"{sum(half)} of {len(half)}")


def bundled(name: str) -> tuple[list[Tensor], list[str]]:
    """Clips and right texts of a bundled recognition task."""
    rows = [json.loads(line) for line in (BUNDLED / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()]
    return [load_audio(BUNDLED / row["audio"], RATE) for row in rows], [row["references"][0] for row in rows]


def noisy(wav: Tensor, decibels: float, seed: int) -> Tensor:
    """A clip with white noise so many decibels below its RMS."""
    noise = torch.randn(wav.shape, generator=torch.Generator().manual_seed(seed))
    return wav + noise * wav.square().mean().sqrt() * 10 ** (-decibels / 20)


def clipped(wav: Tensor, times: float) -> Tensor:
    """A clip at full scale, amplified so many times and clipped."""
    return (wav / wav.abs().max().clamp(min=1e-9) * times).clamp(-1, 1)


def files_of(folder: Path, count: int) -> list[Path]:
    """Audio files under a folder, at most `count` of them, at even distances.

    Raises:
        ValueError: there are none.
    """
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    if not files:
        raise ValueError(f"no audio files under {folder}: expected some of {', '.join(sorted(SUFFIXES))}")
    return [files[index * len(files) // count] for index in range(count)] if len(files) > count else files


def named_folder(text: str) -> tuple[str, Path]:
    """NAME=FOLDER of the command line."""
    name, equals, folder = text.partition("=")
    if not equals or not Path(folder).is_dir():
        raise argparse.ArgumentTypeError(f"expected NAME=FOLDER with an existing folder, got {text!r}")
    return name, Path(folder)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table as tab-separated values."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="checkpoints/spikeaudio-tiny", help="checkpoint that transcribes")
    parser.add_argument("--recordings", type=named_folder, action="append", default=[], metavar="NAME=FOLDER")
    parser.add_argument("--clips", type=int, default=40, help="files of each folder, at most")
    args = parser.parse_args(arguments)
    model = SpikeAudio.from_pretrained(args.model)

    def show(name: str, wavs: list[Tensor], texts: Sequence[str] | None = None) -> None:
        print(*Row(name, model.transcribe(wavs, timestamps=True), texts).cells(), sep="\t", flush=True)

    print(*HEADER, sep="\t")
    questions, asked = bundled("asr_questions")
    show("bundled questions", questions, asked)
    show("bundled open sentences", *bundled("asr_open"))
    show("questions, backwards", [wav.flip(0) for wav in questions])
    first, texts = questions[:NOISY_CLIPS], asked[:NOISY_CLIPS]
    show(f"first {len(first)} questions", first, texts)
    for decibels in (30, 20, 15, 10):
        wavs = [noisy(wav, decibels, seed) for seed, wav in enumerate(first)]
        show(f"the same, white noise at {decibels} dB", wavs, texts)
    show("the same, clipped ten times over", [clipped(wav, 10.0) for wav in first], texts)
    for name, folder in args.recordings:
        show(name, [load_audio(path, RATE) for path in files_of(folder, args.clips)])


if __name__ == "__main__":
    main()
