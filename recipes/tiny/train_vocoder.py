"""Train spikeaudio-tiny's vocoder: 80-band mel at 50 frames per second -> 24 kHz waveform.

    python recipes/tiny/train_vocoder.py --corpus CORPUS --run RUNS/vocoder --steps 12000 --export CHECKPOINT/vocoder

Running the same command again continues a stopped run. Segments of 0.8 s are cut at random places of the training
clips; the mel is that of the whole surroundings, so a segment's first frame looks as in the middle of a sentence.
Half of the segments get noise on their mel, because the detokenizer's mels are estimates.
"""

import argparse
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from spikeaudio.audio.mel import kimi_log_mel
from spikeaudio.training.corpus import PackedCorpus
from spikeaudio.training.loop import TrainConfig, train
from spikeaudio.training.objectives.vocoder import VocoderObjective
from spikeaudio.vocoder.configuration import VocosConfig
from spikeaudio.vocoder.vocos import VocosVocoder

SAMPLING_RATE = 24000
HOP_SAMPLES = 480
VOCODER = VocosConfig(
    num_mels=80, hidden_size=256, intermediate_size=768, num_layers=6, n_fft=4 * HOP_SAMPLES, hop_length=HOP_SAMPLES
)
SEGMENT_FRAMES = 40  # 0.8 s
CONTEXT_FRAMES = 2  # the mel's window reaches 272 samples beyond its frame
SILENCE_FRAMES = 12  # of digital silence around every clip, so that edges and silence are learnt too
BATCH_SIZE = 8
LEARNING_RATE = 1e-3
NOISE_STD = 0.15  # of the log-mel, at most
SEED = 0
GAIN_DB = 6.0  # level varies by as much up and down
EVAL_CLIPS = 16
KINDS = ("question", "answer", "open")


def select_rows(corpus: PackedCorpus, voices: list[str], split: str) -> list[dict[str, Any]]:
    """Speech of the given voices that is stored at 24 kHz; no voices means all of them."""
    rows = [row for row in corpus.select(split=split, kind=KINDS) if "start_24k" in row]
    rows = [row for row in rows if not voices or row["voice"].removeprefix("rh_") in voices or row["voice"] in voices]
    if not rows:
        raise SystemExit(f"the corpus holds no 24 kHz speech of split {split!r} and voices {voices or 'any'}")
    return rows


def segment(wav: np.ndarray, random: np.random.Generator) -> tuple[Tensor, Tensor]:
    """A random piece of a clip: its mel (80, SEGMENT_FRAMES) and its samples (HOP_SAMPLES * SEGMENT_FRAMES,)."""
    margin = (SILENCE_FRAMES + CONTEXT_FRAMES) * HOP_SAMPLES
    shortest = (SEGMENT_FRAMES + 2 * CONTEXT_FRAMES) * HOP_SAMPLES
    padded = np.pad(wav, (margin, margin + max(0, shortest - len(wav) - 2 * margin)))
    first = random.integers(0, len(padded) - shortest + 1)  # any sample: frames fall everywhere on the waveform
    piece = torch.from_numpy(padded[first : first + shortest] * 10 ** (random.uniform(-GAIN_DB, GAIN_DB) / 20)).float()
    mel = kimi_log_mel(piece[None])[0, :, CONTEXT_FRAMES:-CONTEXT_FRAMES]
    context = CONTEXT_FRAMES * HOP_SAMPLES
    return mel, piece[context:-context]


def make_batch(
    corpus: PackedCorpus, rows: list[dict[str, Any]], batch_size: int
) -> Callable[[int], tuple[Tensor, Tensor]]:
    """step -> mel (B, 80, SEGMENT_FRAMES) with noise, wav (B, HOP_SAMPLES * SEGMENT_FRAMES)."""
    seconds = np.array([row["seconds"] for row in rows])
    chances = seconds / seconds.sum()  # every second of speech is as likely as any other

    def batch(step: int) -> tuple[Tensor, Tensor]:
        random = np.random.default_rng((SEED, step))
        chosen = random.choice(len(rows), size=batch_size, p=chances)
        pairs = [segment(corpus.wav(rows[index], SAMPLING_RATE), random) for index in chosen]
        mel = torch.stack([mel for mel, _ in pairs])
        std = random.uniform(0, NOISE_STD, (batch_size, 1, 1)) * (random.random((batch_size, 1, 1)) < 0.5)
        noise = random.standard_normal(mel.shape) * std
        return mel + torch.from_numpy(noise).float(), torch.stack([wav for _, wav in pairs])

    return batch


def make_evaluate(corpus: PackedCorpus, rows: list[dict[str, Any]]) -> Callable[[nn.Module], dict[str, float]]:
    """Mean |log-mel(decode(mel)) - mel| over whole held-out clips, in nepers."""
    picked = rows[:: max(1, len(rows) // EVAL_CLIPS)][:EVAL_CLIPS]
    wavs = [torch.from_numpy(corpus.wav(row, SAMPLING_RATE))[None] for row in picked]
    mels = [kimi_log_mel(wav) for wav in wavs]

    def evaluate(model: nn.Module) -> dict[str, float]:
        assert isinstance(model, VocosVocoder)
        distances = [(kimi_log_mel(model.decode(mel)) - mel).abs().mean().item() for mel in mels]
        return {"mel_l1": round(sum(distances) / len(distances), 4)}

    return evaluate


def main() -> None:
    """Parse, train, export."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", type=Path, required=True, help="packed corpus of make_corpus.py")
    parser.add_argument("--run", type=Path, required=True, help="folder for the run's state and log")
    parser.add_argument("--steps", type=int, default=12000)
    parser.add_argument("--voices", default="bdl", help="comma-separated; empty: all voices stored at 24 kHz")
    parser.add_argument("--batch-size", type=int, default=BATCH_SIZE)
    parser.add_argument("--eval-steps", type=int, default=1000)
    parser.add_argument("--export", type=Path, help="folder for the finished vocoder")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(name)s: %(message)s")

    corpus = PackedCorpus(arguments.corpus)
    voices = [voice for voice in arguments.voices.split(",") if voice]
    torch.manual_seed(SEED)
    model = VocosVocoder(VOCODER)
    objective = VocoderObjective(SAMPLING_RATE)

    def loss(module: nn.Module, batch: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
        mel, wav = batch
        return objective(module(mel), wav)

    train(
        model,
        make_batch(corpus, select_rows(corpus, voices, "train"), arguments.batch_size),
        loss,
        TrainConfig(steps=arguments.steps, learning_rate=LEARNING_RATE, betas=(0.8, 0.99)),
        arguments.run,
        make_evaluate(corpus, select_rows(corpus, voices, "test")),
        arguments.eval_steps,
    )
    if arguments.export:
        model.half().save_pretrained(arguments.export)


if __name__ == "__main__":
    main()
