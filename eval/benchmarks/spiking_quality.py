"""What spikes cost in quality: one table, every row on the same examples in the same run.

    uv run python -m eval.benchmarks.spiking_quality --train TRAIN.jsonl --test TEST.jsonl [--outliers] [--quick]
    [--model checkpoints/spikeaudio-tiny] [--steps 600] [--spiking CHECKPOINT] [--rows REGEX] [--json OUT]

Examples are those of :mod:`spikeaudio.training.examples` (recipes/tiny/make_examples.py draws them): TRAIN calibrates
and trains, TEST measures. Gaps are relative to the dense model on the same examples, with their paired standard errors.
WER is that of the transcription requests among them, and so is its difference to the dense model's. `--outliers`
first gives the dense model constant outlier channels that leave its function as it is
(`spikeaudio.spiking.transforms.outliers`): a tiny model has none of its own. `--spiking` adds a finished checkpoint of
`spikeaudio spike`.
"""

import argparse
import copy
import json
import re
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import jiwer
import torch

from spikeaudio import SpikeAudio
from spikeaudio.prompt.batch import BatchRow
from spikeaudio.spiking.config import GIFConfig
from spikeaudio.spiking.counting import counting
from spikeaudio.spiking.neurons.affine import SpikeLLM
from spikeaudio.spiking.neurons.gif import GIF, SpikingBrain
from spikeaudio.spiking.preparation.settings import ConversionSettings, Method, Scores
from spikeaudio.spiking.preset import preset
from spikeaudio.spiking.transforms.outliers import inject_outliers
from spikeaudio.training.examples import batched, read_examples
from spikeaudio.training.perplexity import StreamLoss, stream_losses
from spikeaudio.training.spike import convert, example_reader, load_model, pad_token_id

SALIENT = {"salient_share": 0.1}
ROTATED = {"rotate": True}
PREPARED = {"rotate": True, "shift": True}
HEADER = ("row", "text gap, %", "audio gap, %", "WER, %", "WER, points over dense", "spikes/input", "silent, %")


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    name: str
    config: GIFConfig
    method: Method
    saliency: Scores = "first_order"


@dataclass(frozen=True)
class WordErrors:
    """Errors and words of every recording."""

    errors: list[int]
    words: list[int]

    @property
    def rate(self) -> float:
        """Micro word error rate in percent."""
        return 100 * sum(self.errors) / max(1, sum(self.words))

    def over(self, other: "WordErrors") -> tuple[float, float]:
        """Points above another one's rate on the same recordings, and the standard error of this ratio of sums."""
        gap = (sum(self.errors) - sum(other.errors)) / max(1, sum(self.words))
        pairs = zip(self.errors, other.errors, self.words, strict=True)
        residuals = torch.tensor([mine - theirs - gap * words for mine, theirs, words in pairs], dtype=torch.float64)
        number = max(2, len(residuals))
        variance = float(residuals.square().sum()) * number / (number - 1)
        return 100 * gap, 100 * variance**0.5 / max(1, sum(self.words))


@dataclass(frozen=True)
class Result:
    """Figures of one row; gaps with their standard errors."""

    name: str
    gaps: dict[str, tuple[float, float]]
    wer: float
    wer_gap: tuple[float, float]
    unary_rate: float
    silent_share: float
    seconds: float


def table() -> list[Row]:
    """What is compared."""
    peak, split = GIF(quanta=None), GIF(quanta=None, **SALIENT)
    three = GIF(levels=3, quanta=1.2)
    rows = [
        Row("W4A4, plain rounding (peak)", GIFConfig(peak), "round"),
        Row("W4A4, mean threshold", GIFConfig(), "round"),
        Row("SpikeLLM's rule, T=2 of 10 %", GIFConfig(SpikeLLM(levels=15, **SALIENT)), "round"),
        Row("GIF exact (shared range), first order", GIFConfig(replace(split, split_range=False)), "round"),
        Row("GIF split range, first order", GIFConfig(split), "round"),
        Row("GIF split range, largest", GIFConfig(split), "round", "peak"),
        Row("GIF split range, random", GIFConfig(split), "round", "random"),
        Row("rotated", GIFConfig(**ROTATED), "round"),
        Row("rotated, GPTQ", GIFConfig(**ROTATED), "gptq"),
        Row("rotated, shifted, GPTQ", GIFConfig(**PREPARED), "gptq"),
        Row("the same, 10 % salient", GIFConfig(GIF(**SALIENT), **PREPARED), "gptq"),
        Row("rotated, shifted, trained block by block", GIFConfig(**PREPARED), "blocks"),
        Row("W4A3, rotated, shifted, GPTQ", GIFConfig(three, **PREPARED), "gptq"),
        Row("W3A4, rotated, shifted, GPTQ", GIFConfig(weight_bits=3, **PREPARED), "gptq"),
        Row("W3A3, rotated, shifted, GPTQ", GIFConfig(three, weight_bits=3, **PREPARED), "gptq"),
        Row("SpikingBrain W8, unlimited counts", GIFConfig(SpikingBrain(), weight_bits=8), "round"),
        Row("preset w4a8, GPTQ", preset("w4a8"), "gptq"),
    ]
    return rows + [Row(f"preset {name} (trained)", preset(name), "train") for name in ("w4a4", "w4a4kv4", "ternary")]


class Bench:
    """The dense model, its examples and its figures.

    Args:
        folder: folder of the dense checkpoint.
        train: examples to calibrate and train on.
        test: examples to measure on.
        outliers: inject them first.
        limit: limit of the test examples; None: all.
    """

    def __init__(self, folder: Path, train: Path, test: Path, outliers: bool, limit: int | None) -> None:
        self.speech = SpikeAudio.from_pretrained(folder)
        self.dense = load_model(folder)
        if outliers:
            inject_outliers(self.dense, generator=torch.Generator().manual_seed(3))
        reader = example_reader(folder)
        self.training: list[BatchRow] = read_examples(train, reader)
        self.batches = batched(read_examples(test, reader)[:limit], 2048, pad_token_id(self.dense))
        self.spoken = spoken_examples(test, self.speech.processor.transcription_request, limit)
        self.losses: dict[str, StreamLoss] = stream_losses(self.dense, self.batches)
        self.words = self.word_errors(self.dense)

    def convert(self, row: Row, steps: int) -> Any:
        """The spiking model of a row."""
        model = copy.deepcopy(self.dense)
        settings = ConversionSettings(row.config, row.method, steps, saliency=row.saliency)
        with tempfile.TemporaryDirectory() as work:
            convert(model, self.dense, self.training, settings, Path(work))
        return model

    def measure(self, name: str, make: Callable[[], Any]) -> Result:
        """Figures of a model."""
        began = time.perf_counter()
        model = make().eval()
        with counting(model) as count:
            losses = stream_losses(model, self.batches)
        gaps = {stream: loss.gap(self.losses[stream]) for stream, loss in losses.items()}
        total, words = count.total, self.word_errors(model)
        seconds = time.perf_counter() - began
        return Result(name, gaps, words.rate, words.over(self.words), total.unary_rate, total.silent_share, seconds)

    def word_errors(self, model: Any) -> WordErrors:
        """Of the recordings to transcribe that say something."""
        listener = SpikeAudio(model, self.speech.processor)
        texts: list[str] = []
        for first in range(0, len(self.spoken), 16):
            part = [path for path, _ in self.spoken[first : first + 16]]
            texts += listener.transcribe([self.speech.processor.load(path) for path in part], sampling_rate=16000)
        pairs = [(said, heard) for (_, said), heard in zip(self.spoken, texts, strict=True) if said]
        counts = [jiwer.process_words(said, heard) for said, heard in pairs]
        return WordErrors(
            [each.substitutions + each.deletions + each.insertions for each in counts],
            [each.hits + each.substitutions + each.deletions for each in counts],
        )


def spoken_examples(path: Path, request: str, limit: int | None) -> list[tuple[Path, str]]:
    """(recording, words) of the examples that ask for a transcript."""
    found = []
    for line in path.read_text().splitlines()[:limit]:
        (asked, answered) = json.loads(line)["messages"]
        text, *audio = asked["content"]
        if audio and text.get("text") == request:
            found.append((path.parent / audio[0]["path"], answered["content"][0]["text"]))
    return found


def line(result: Result) -> str:
    """A row as Markdown."""
    gaps = [
        f"{100 * result.gaps[name][0]:+.2f} ± {100 * result.gaps[name][1]:.2f}" if name in result.gaps else "-"
        for name in ("text", "audio")
    ]
    figures = (
        f"{result.wer:.1f}",
        f"{result.wer_gap[0]:+.1f} ± {result.wer_gap[1]:.1f}",
        f"{result.unary_rate:.2f}",
        f"{100 * result.silent_share:.0f}",
    )
    return f"| {' | '.join((result.name, *gaps, *figures))} |"


def show(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, default=Path("checkpoints/spikeaudio-tiny"))
    parser.add_argument("--train", type=Path, required=True, help="JSON Lines to calibrate and train on")
    parser.add_argument("--test", type=Path, required=True, help="JSON Lines to measure on")
    parser.add_argument("--outliers", action="store_true", help="inject function-preserving outlier channels first")
    parser.add_argument("--steps", type=int, default=600, help="training steps of the trained rows")
    parser.add_argument("--spiking", type=Path, help="also measure this spiking checkpoint")
    parser.add_argument("--rows", default="", help="only rows whose name matches this regular expression")
    parser.add_argument("--quick", action="store_true", help="60 test examples, 30 steps: does it run?")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    args = parser.parse_args(arguments)
    bench = Bench(args.model, args.train, args.test, args.outliers, 60 if args.quick else None)
    perplexities = {name: round(loss.perplexity, 3) for name, loss in bench.losses.items()}
    show(f"dense perplexities: {perplexities}; {len(bench.spoken)} recordings to transcribe")
    show(f"| {' | '.join(HEADER)} |\n|{'---|' * len(HEADER)}")
    results: list[Result] = []

    def add(name: str, make: Callable[[], Any]) -> None:
        results.append(bench.measure(name, make))
        show(line(results[-1]))
        if args.json:
            done = {"perplexity": perplexities, "rows": [asdict(each) for each in (dense, *results)]}
            args.json.write_text(json.dumps(done, indent=1) + "\n")

    none = (0.0, 0.0)
    dense = Result("dense", dict.fromkeys(bench.losses, none), bench.words.rate, none, 0.0, 0.0, 0.0)
    show(line(dense))
    for row in table():
        if re.search(args.rows, row.name):
            add(row.name, lambda row=row: bench.convert(row, 30 if args.quick else args.steps))
    if args.spiking:
        add(f"{args.spiking.name}, as it is", lambda: load_model(args.spiking))


if __name__ == "__main__":
    main()
