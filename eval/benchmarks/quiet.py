"""Quiet around speech: what it changes in the transcripts of the bundled questions.

    python -m eval.benchmarks.quiet [--model CHECKPOINT] [--clips 40] [--seconds 0 0.4 1 2 5 20 60] [--chat]

A lead of each kind and length is put before, after and between clips; transcripts are compared with those of the clips
as they are. Noise is 15 dB below the RMS of the clip. `between` joins two clips; `pause` opens one clip at the quietest
place of its middle third.
"""

import argparse
import itertools
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from eval.metrics.error_rate import word_errors
from spikeaudio import SpikeAudio
from spikeaudio.audio.files import load_audio

RATE = 16000
SNR_DB = 15.0
QUESTIONS = Path("eval/bundled/asr_questions.jsonl")
HEADER = ("place", "kind", "seconds", "unchanged", "empty", "WER")


@dataclass(frozen=True)
class Row:
    """What one lead changes.

    Attributes:
        place: where the quiet is.
        kind: kind of recordings that are heard.
        seconds: seconds of quiet.
        unchanged: share of the transcripts (or answers) that stayed what they were.
        empty: share that is empty.
        wer: word error rate against the transcripts of the clips as they are.
    """

    place: str
    kind: str
    seconds: float
    unchanged: float
    empty: float
    wer: float

    def cells(self) -> tuple[str, ...]:
        shares = (f"{100 * share:.1f} %" for share in (self.unchanged, self.empty, self.wer))
        return (self.place, self.kind, f"{self.seconds:g}", *shares)


def silence(samples: int, generator: torch.Generator) -> Tensor:
    """(samples,) zeros."""
    return torch.zeros(samples)


def white(samples: int, generator: torch.Generator) -> Tensor:
    """(samples,) noise of equal power at all frequencies, RMS 1."""
    return torch.randn(samples, generator=generator)


def brown(samples: int, generator: torch.Generator) -> Tensor:
    """(samples,) noise whose power falls by 6 dB an octave above 20 Hz, RMS 1."""
    spectrum = torch.fft.rfft(torch.randn(samples, generator=generator))
    noise = torch.fft.irfft(spectrum / torch.fft.rfftfreq(samples, 1 / RATE).clamp(min=20.0), samples)
    return noise / noise.square().mean().sqrt()


KINDS: dict[str, Callable[[int, torch.Generator], Tensor]] = {"silence": silence, "white": white, "brown": brown}


def lead(kind: str, seconds: float, wav: Tensor, seed: int) -> Tensor:
    """Quiet that fits a clip: noise `SNR_DB` below its RMS."""
    samples = round(seconds * RATE)
    if not samples:
        return wav[:0]
    return KINDS[kind](samples, torch.Generator().manual_seed(seed)) * wav.square().mean().sqrt() * 10 ** (-SNR_DB / 20)


def middle(wav: Tensor) -> int:
    """The sample in the middle third around which 60 ms are quietest."""
    power = wav[: len(wav) // 320 * 320].view(-1, 320).square().mean(dim=1)
    smooth = torch.nn.functional.avg_pool1d(power[None, None], 3, 1, 1)[0, 0]
    first = len(power) // 3
    return (first + int(smooth[first : 2 * len(power) // 3].argmin())) * 320 + 160


def recordings(place: str, kind: str, seconds: float, clips: Sequence[Tensor]) -> list[Tensor]:
    """The clips with quiet in one place; half as many of them for "between"."""
    quiet = [lead(kind, seconds, wav, seed) for seed, wav in enumerate(clips)]
    if place == "between":
        pairs = zip(clips[::2], quiet[::2], clips[1::2], strict=True)
        return [torch.cat(parts) for parts in pairs]
    cuts = {"before": lambda wav: 0, "after": len, "pause": middle}[place]
    return [torch.cat([wav[: cuts(wav)], gap, wav[cuts(wav) :]]) for wav, gap in zip(clips, quiet, strict=True)]


def measure(
    write: Callable[[list[Tensor]], list[str]],
    clips: Sequence[Tensor],
    places: Sequence[str],
    kinds: Sequence[str],
    lengths: Sequence[float],
) -> list[Row]:
    """A row for each place, kind and length.

    Args:
        write: transcripts of recordings.
        clips: (N,) at 16 kHz each.
        places: some of "before", "after", "between", "pause".
        kinds: some of `KINDS`.
        lengths: seconds of quiet.
    """
    plain = write(list(clips))
    rows = []
    for place, kind, seconds in itertools.product(places, kinds, lengths):
        expected = plain
        if place == "between":
            expected = [f"{first} {second}".strip() for first, second in zip(plain[::2], plain[1::2], strict=True)]
        written = write(recordings(place, kind, seconds, clips))
        rates = [word_errors([text], new) for text, new in zip(expected, written, strict=True)]
        rows.append(
            Row(
                place,
                kind,
                seconds,
                sum(text == new for text, new in zip(expected, written, strict=True)) / len(expected),
                sum(not new for new in written) / len(expected),
                sum(rate.numerator for rate in rates) / sum(rate.denominator for rate in rates),
            )
        )
        print(*rows[-1].cells(), sep="\t", flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, default=Path("checkpoints/spikeaudio-tiny"))
    parser.add_argument("--clips", type=int, default=40)
    parser.add_argument("--seconds", type=float, nargs="+", default=[0.0, 0.2, 0.4, 0.7, 1.0, 2.0, 5.0, 20.0, 60.0])
    parser.add_argument("--places", nargs="+", default=["before", "after", "between", "pause"])
    parser.add_argument("--kinds", nargs="+", default=list(KINDS))
    parser.add_argument("--chat", action="store_true", help="written answers in place of transcripts")
    args = parser.parse_args()
    model = SpikeAudio.from_pretrained(args.model)
    lines = QUESTIONS.read_text(encoding="utf-8").splitlines()[: args.clips]
    clips = [load_audio(QUESTIONS.parent / json.loads(line)["audio"], RATE) for line in lines]

    def write(wavs: list[Tensor]) -> list[str]:
        return [model.chat(wav, speech=False).text for wav in wavs] if args.chat else model.transcribe(wavs)

    print(*HEADER, sep="\t")
    measure(write, clips, args.places, args.kinds, args.seconds)


if __name__ == "__main__":
    main()
