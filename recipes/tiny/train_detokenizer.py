"""Stage 4b: the flow-matching detokenizer, codes -> mel, of one voice.

    python recipes/tiny/train_detokenizer.py --corpus DIR --tokenizer DIR --run DIR --export DIR [--steps N]

First encodes every clip of the voice once (codes of the 16 kHz wav, log-mel of the 24 kHz wav, four frames per code)
into the run folder. Batches are crops of one length, so that nothing is padded; crops begin more often than by chance
where a clip begins and end where it ends, since every reply has a beginning and an end. The exported weights are an
average of the run's. Running the same command again continues a stopped run.
"""

import argparse
import hashlib
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from tqdm import tqdm

from spikeaudio import DetokenizerConfig, FlowMatchingDetokenizer, SpeechTokenizer
from spikeaudio.audio.mel import kimi_log_mel
from spikeaudio.training.corpus import PackedCorpus
from spikeaudio.training.ema import WeightAverage
from spikeaudio.training.loop import TrainConfig, train

SIZE = dict(hidden_size=224, depth=6, num_heads=4, mlp_ratio=4.0)
STREAMING = dict(chunk_tokens=10, look_ahead_tokens=4, max_kv_frames=160, ode_steps=8, cfg_scale=2.0)
FRAMES_PER_CODE = 4
SAMPLES_PER_CODE = 1920  # at 24 kHz
CROP_CODES = (16, 24, 32, 48)  # 1.3 to 3.8 s; one length per batch
BATCH_CODES = 300  # 24 s of audio per step
EDGE_CODES = 6  # crops drawn up to this far outside a clip are moved to its edge
LEARNING_RATE = 1e-3
CODE_EMBEDDING_STD = 0.03  # small: from 0.3 the loss fell more slowly
MAX_DECAY = 0.999
SEED = 0
EVAL_CLIPS, EVAL_CODES = 48, 32
KINDS = ("question", "answer", "open")

logger = logging.getLogger(__name__)


class Clips:
    """Codes and mels of one voice, from the run folder's cache.

    Args:
        file: safetensors with codes (N,), mel (FRAMES_PER_CODE * N, M) fp16, starts (R + 1,) and is_test (R,).
    """

    def __init__(self, file: Path) -> None:
        with safe_open(file, "np") as stored:
            self.codes, self.mel = stored.get_tensor("codes"), stored.get_tensor("mel")
            self.starts, self.is_test = stored.get_tensor("starts"), stored.get_tensor("is_test")
        self.lengths = np.diff(self.starts)

    def crop(self, clip: int, first: int, length: int) -> tuple[Tensor, Tensor]:
        """(codes (length,), mel (M, FRAMES_PER_CODE * length)) from code `first` of a clip."""
        start = self.starts[clip] + first
        codes = torch.from_numpy(self.codes[start : start + length].astype(np.int64))
        mel = torch.from_numpy(
            self.mel[start * FRAMES_PER_CODE : (start + length) * FRAMES_PER_CODE].astype(np.float32)
        )
        return codes, mel.T


def encode(corpus: PackedCorpus, rows: list[dict[str, Any]], folder: Path, file: Path) -> None:
    """Write `Clips`' file, unless it is there already.

    Raises:
        ValueError: if the file is there and was made from other clips or by another tokenizer.
    """
    weights = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    made_from = {
        "tokenizer": weights,
        "clips": hashlib.sha256(" ".join(row["id"] for row in rows).encode()).hexdigest(),
    }
    if file.is_file():
        with safe_open(file, "np") as stored:
            if stored.metadata() != made_from:
                raise ValueError(
                    f"{file} was made from other clips or by another tokenizer than {folder}; give another --run folder"
                )
        return
    tokenizer = SpeechTokenizer.from_pretrained(folder)
    codes, mels, starts = [], [], [0]
    for row in tqdm(rows, desc="encoding", unit="clip", mininterval=5):
        (tokens,) = tokenizer.encode([torch.from_numpy(corpus.wav(row, 16000))])
        wav = torch.from_numpy(corpus.wav(row, 24000))
        num_samples = len(tokens.codes) * SAMPLES_PER_CODE
        if not -SAMPLES_PER_CODE <= num_samples - len(wav) <= SAMPLES_PER_CODE:
            raise ValueError(f"clip {row['id']}: {len(tokens.codes)} codes do not fit {len(wav)} samples at 24 kHz")
        wav = nn.functional.pad(wav, (0, max(0, num_samples - len(wav))))[:num_samples]
        codes.append(tokens.codes.to(torch.int16))
        mels.append(kimi_log_mel(wav[None])[0].T.half())
        starts.append(starts[-1] + len(tokens.codes))
    tensors = {
        "codes": torch.cat(codes),
        "mel": torch.cat(mels),
        "starts": torch.tensor(starts),
        "is_test": torch.tensor([row["split"] == "test" for row in rows]),
    }
    file.parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors, file.with_suffix(".part"), metadata=made_from)
    file.with_suffix(".part").rename(file)


def make_batch(clips: Clips) -> Callable[[int], tuple[Tensor, Tensor]]:
    """step -> codes (B, S), mel (B, M, FRAMES_PER_CODE * S); every second of speech is as likely as any other."""
    fitting = {length: np.flatnonzero(~clips.is_test & (clips.lengths >= length)) for length in CROP_CODES}
    fitting = {length: indices for length, indices in fitting.items() if len(indices)}
    if not fitting:
        raise SystemExit(f"no training clip holds {min(CROP_CODES)} codes")

    def batch(step: int) -> tuple[Tensor, Tensor]:
        rng = np.random.default_rng((SEED, step))
        length = int(rng.choice(list(fitting)))
        indices = fitting[length]
        chances = clips.lengths[indices] / clips.lengths[indices].sum()
        crops = []
        for clip in rng.choice(indices, size=BATCH_CODES // length, p=chances):
            latest = int(clips.lengths[clip]) - length
            crops.append(
                clips.crop(clip, int(np.clip(rng.integers(-EDGE_CODES, latest + EDGE_CODES + 1), 0, latest)), length)
            )
        return torch.stack([codes for codes, _ in crops]), torch.stack([mel for _, mel in crops])

    return batch


def make_evaluate(clips: Clips) -> Callable[[nn.Module], dict[str, float]]:
    """Loss on the beginnings of held-out clips, with the same noise and times each time: streaming and whole."""
    held_out = np.flatnonzero(clips.is_test)
    held_out = held_out[:: max(1, len(held_out) // EVAL_CLIPS)][:EVAL_CLIPS]
    lengths = [min(EVAL_CODES, int(clips.lengths[clip])) for clip in held_out]
    crops = [clips.crop(clip, 0, length) for clip, length in zip(held_out, lengths, strict=True)]
    codes = nn.utils.rnn.pad_sequence([codes for codes, _ in crops], batch_first=True)
    mel = nn.utils.rnn.pad_sequence([mel.T for _, mel in crops], batch_first=True).transpose(1, 2)
    mask = torch.arange(codes.shape[1]) < torch.tensor(lengths)[:, None]

    def evaluate(model: nn.Module) -> dict[str, float]:
        def loss(chunks: list[int] | None) -> float:
            generator = torch.Generator().manual_seed(SEED)
            return round(model(codes, mel, mask, chunk_tokens=chunks, generator=generator).loss.item(), 4)

        return {"streaming_loss": loss(None), "whole_loss": loss([codes.shape[1]])}

    return evaluate


@torch.no_grad()
def start_from_codebook(detokenizer: FlowMatchingDetokenizer, codebook: Tensor) -> None:
    """Embed every code as its codebook row, rotated at random: codes that sound alike start alike."""
    rows = (codebook.float() - codebook.float().mean(0)) / codebook.float().std()
    rotation = nn.init.orthogonal_(torch.empty(rows.shape[1], detokenizer.config.hidden_size))
    embedding = detokenizer.dit.code_embedding.weight
    embedding.zero_()
    embedding[: len(rows)] = rows @ rotation * CODE_EMBEDDING_STD


def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
    """Flow-matching loss of one batch."""
    codes, mel = batch
    return {"loss": model(codes, mel).loss}


def main() -> None:
    """Encode, train, export."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", type=Path, required=True, help="packed corpus of make_corpus.py")
    parser.add_argument("--tokenizer", type=Path, required=True, help="folder written by train_tokenizer.py --export")
    parser.add_argument("--run", type=Path, required=True, help="folder for the encoded clips, the run's state and log")
    parser.add_argument("--steps", type=int, default=6000)
    parser.add_argument("--voice", default="rh_bdl")
    parser.add_argument("--eval-steps", type=int, default=500)
    parser.add_argument("--init", type=Path, help="start from the weights of this detokenizer")
    parser.add_argument("--export", type=Path, help="folder for the finished detokenizer")
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(name)s: %(message)s")
    torch.set_num_threads(1)

    corpus = PackedCorpus(args.corpus)
    rows = [row for row in corpus.select(voice=args.voice, kind=KINDS) if "start_24k" in row]
    if not any(row["split"] == "test" for row in rows) or not any(row["split"] == "train" for row in rows):
        raise SystemExit(
            f"need training and test clips of voice {args.voice!r} at 24 kHz, got {len(rows)} clips in all"
        )
    encode(corpus, rows, args.tokenizer, args.run / "clips.safetensors")
    clips = Clips(args.run / "clips.safetensors")
    trained = np.repeat(~clips.is_test, clips.lengths * FRAMES_PER_CODE)
    mel = clips.mel[trained].astype(np.float32)
    logger.info("%d clips, %.1f minutes for training", len(clips.lengths), len(mel) / 50 / 60)

    torch.manual_seed(SEED)
    codebook = SpeechTokenizer.from_pretrained(args.tokenizer).encoder.codebook.weight
    statistics = dict(mel_mean=round(float(mel.mean()), 4), mel_std=round(float(mel.std()), 4))
    detokenizer = FlowMatchingDetokenizer(DetokenizerConfig(num_codes=len(codebook), **SIZE, **STREAMING, **statistics))
    start_from_codebook(detokenizer, codebook)
    if args.init:
        detokenizer.load_state_dict(
            FlowMatchingDetokenizer.from_pretrained(args.init, dtype=torch.float32).state_dict()
        )
    model = WeightAverage(detokenizer, MAX_DECAY)
    config = TrainConfig(steps=args.steps, learning_rate=LEARNING_RATE)
    train(model, make_batch(clips), loss, config, args.run, make_evaluate(clips), args.eval_steps)
    model.update()
    if args.export:
        model.average.module.half().save_pretrained(args.export)


if __name__ == "__main__":
    main()
