"""Train the speech tokenizer of spikeaudio-tiny: recognise, then recognise through 2048 codes.

    python recipes/tiny/train_tokenizer.py --corpus DIR --run DIR --export DIR [--steps N] [--holdout-speaker NAME]
    ACCELERATE_USE_CPU=true torchrun --nproc-per-node 2 -- recipes/tiny/train_tokenizer.py ... --grow-from SHALLOW_RUN

The second form trains with one process per core and starts from the weights of a shallower run, which learns the
alignment of sound and letters in a fraction of the time. Running a command again continues a stopped run. `--export`
receives the tokenizer (``config.json``, ``model.safetensors``, ``preprocessor_config.json``) and, in ``ctc/``, the
recognizer that read its codes.
"""

import argparse
import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jiwer
import numpy as np
import torch
from accelerate import Accelerator
from augmentation import augment, change_speed, mask_spectrogram, noise_bank, quiet_seconds
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import WhisperFeatureExtractor

from spikeaudio.audio.whisper_mel import SAMPLES_PER_TOKEN, whisper_log_mel
from spikeaudio.tokenizer.configuration import WhisperVQConfig
from spikeaudio.tokenizer.speech_tokenizer import SpeechTokenizer
from spikeaudio.training.corpus import PackedCorpus
from spikeaudio.training.loop import TrainConfig, train
from spikeaudio.training.objectives.tokenizer import TokenizerTrainer, greedy_decode, read, spell

logger = logging.getLogger(__name__)

RATE = 16000
KIND_WEIGHTS = {"question": 0.21, "answer": 0.08, "open": 0.34, "digit": 0.13, "music": 0.24}  # share of the clips
SPEEDS = {"digit": (0.8, 1.25), "music": (0.94, 1.06)}  # few people say the digits; music must not change its tempo
OTHER_SPEEDS = (0.88, 1.12)
SUSTAINED = ("organ", "violin", "flute", "trumpet")  # one note runs into the next: drawn twice as often
BATCH_SECONDS = 32.0  # per process
POOL_BATCHES = 40  # clips of so many batches are drawn together and sorted by length
WARMUP_SHARE = 0.3  # of the steps, without quantization
SEED = 1
CONFIG = WhisperVQConfig(
    num_mel_bins=80,
    d_model=256,
    encoder_layers=6,
    encoder_attention_heads=4,
    encoder_ffn_dim=1024,
    pooling_position=3,
    quantize_position=6,
    quantize_vocab_size=2048,
    quantize_causal_block_size=200,
    quantize_loss_scale=1.0,
    quantize_restart_interval=50,
    max_source_positions=1500,
    attn_implementation="sdpa",
    init_std=0.05,
)


@dataclass(frozen=True)
class Clip:
    """One training example before its samples are touched: rows to join, gaps around them, speed."""

    rows: tuple[dict[str, Any], ...]
    gaps: tuple[float, ...]  # seconds: before the first row, between rows, after the last
    speed: float

    @property
    def seconds(self) -> float:
        return sum(self.gaps) + sum(row["seconds"] for row in self.rows) / self.speed

    @property
    def targets(self) -> list[int]:
        return spell(" ".join(row["text"] for row in self.rows), self.rows[0].get("symbols"))

    def wav(self, corpus: PackedCorpus) -> np.ndarray:
        silence = [np.zeros(round(gap * RATE), dtype=np.float32) for gap in self.gaps]
        parts = [change_speed(corpus.wav(row), self.speed) for row in self.rows]
        return np.concatenate([silence[0], *(x for pair in zip(parts, silence[1:], strict=True) for x in pair)])


class Batches:
    """Training batches as a pure function of the step: clips of one length together, augmented on the fly.

    Args:
        corpus: where the clips lie.
        rows: the ones to train on.
        steps: steps of the whole run, over all processes; SpecAugment grows over its first 60 %.
    """

    def __init__(self, corpus: PackedCorpus, rows: list[dict[str, Any]], steps: int) -> None:
        self.corpus, self.steps = corpus, steps
        self.by_kind = {
            kind: chosen for kind in KIND_WEIGHTS if (chosen := [row for row in rows if row["kind"] == kind])
        }
        if not self.by_kind:
            raise ValueError(f"no training rows of the kinds {list(KIND_WEIGHTS)}")
        if "music" in self.by_kind:
            self.by_kind["music"] += [row for row in self.by_kind["music"] if row["instrument"] in SUSTAINED]
        weights = np.array([KIND_WEIGHTS[kind] for kind in self.by_kind])
        self.kinds, self.weights = list(self.by_kind), weights / weights.sum()
        self.noises = [*noise_bank(), *(corpus.wav(row) for row in rows if row["kind"] == "noise")]
        self._pool: tuple[int, list[list[Clip]]] = (-1, [])

    def _draw(self, rng: np.random.Generator) -> Clip:
        kind = self.kinds[int(rng.choice(len(self.kinds), p=self.weights))]
        rows = self.by_kind[kind]
        count = int(rng.integers(1, 6)) if kind == "digit" else 1
        chosen = tuple(rows[int(i)] for i in rng.integers(0, len(rows), count))
        ends = [quiet_seconds(rng, usual=0.4, often=0.2) for _ in range(2)]
        gaps = [0.02 + quiet_seconds(rng, usual=0.28, often=0.1) for _ in range(count - 1)]
        return Clip(chosen, (ends[0], *gaps, ends[1]), rng.uniform(*SPEEDS.get(kind, OTHER_SPEEDS)))

    def _batches(self, index: int) -> list[list[Clip]]:
        """The pool's clips, sorted by length and cut into POOL_BATCHES groups of equal duration, in random order."""
        if self._pool[0] != index:
            rng = np.random.default_rng((SEED, 0, index))
            clips: list[Clip] = []
            total = 0.0
            while total < POOL_BATCHES * BATCH_SECONDS:
                clips.append(self._draw(rng))
                total += clips[-1].seconds
            clips.sort(key=lambda clip: clip.seconds)
            ends = np.cumsum([clip.seconds for clip in clips])
            groups = np.minimum((ends - 1e-6) / total * POOL_BATCHES, POOL_BATCHES - 1).astype(int)
            batches = [
                [clip for clip, group in zip(clips, groups, strict=True) if group == i] for i in range(POOL_BATCHES)
            ]
            self._pool = (index, [batches[i] for i in rng.permutation(POOL_BATCHES)])
        return self._pool[1]

    def __call__(self, step: int) -> dict[str, Tensor]:
        clips = self._batches(step // POOL_BATCHES)[step % POOL_BATCHES]
        rng = np.random.default_rng((SEED, 1, step))
        wavs = [augment(clip.wav(self.corpus), self.noises, rng) for clip in clips]
        batch = collate(wavs, [clip.targets for clip in clips])
        strength = 0.4 * min(1.0, step / (0.6 * self.steps))
        strengths = [
            0.0 if "symbols" in clip.rows[0] else strength for clip in clips
        ]  # a hidden note cannot be counted
        mask_spectrogram(batch["mel"], batch["mel_mask"].sum(1).tolist(), strengths, rng)
        return batch


def collate(wavs: list[np.ndarray], targets: list[list[int]]) -> dict[str, Tensor]:
    """Pad to whole tokens, take the log-mel; masks and targets as `TokenizerTrainer` wants them."""
    longest = max(len(wav) for wav in wavs)
    padded = torch.zeros(len(wavs), -(-longest // SAMPLES_PER_TOKEN) * SAMPLES_PER_TOKEN)
    for row, wav in zip(padded, wavs, strict=True):
        row[: len(wav)] = torch.from_numpy(wav)
    frames = torch.tensor([-(-len(wav) // 160) for wav in wavs])
    return {
        "mel": whisper_log_mel(padded, CONFIG.num_mel_bins),
        "mel_mask": torch.arange(padded.shape[1] // 160) < frames[:, None],
        "targets": torch.tensor([t for row in targets for t in row], dtype=torch.long),
        "target_lengths": torch.tensor([len(row) for row in targets]),
    }


class HeldOut:
    """Error rates of the rows held out, before and after quantization, per kind.

    Args:
        corpus: where the clips lie.
        groups: name -> rows.
        clips: largest number of rows per group.
    """

    def __init__(self, corpus: PackedCorpus, groups: dict[str, list[dict[str, Any]]], clips: int = 64) -> None:
        self.corpus = corpus
        chosen = {name: rows[:: max(1, len(rows) // clips)][:clips] for name, rows in groups.items()}
        self.groups = {name: sorted(rows, key=lambda row: row["seconds"]) for name, rows in chosen.items() if rows}

    def __call__(self, model: TokenizerTrainer) -> dict[str, float]:
        figures: dict[str, float] = {}
        used: set[int] = set()
        for name, rows in self.groups.items():
            heard: dict[str, list[str]] = {"frames": [], "tokens": []}
            truth: list[str] = []
            for first in range(0, len(rows), 16):
                part = rows[first : first + 16]
                targets = [spell(row["text"], row.get("symbols")) for row in part]
                batch = collate([self.corpus.wav(row) for row in part], targets)
                out = model.log_probs(batch["mel"], batch["mel_mask"])
                truth += [read(row) for row in targets]
                for place, texts in heard.items():
                    texts += greedy_decode(out[place], out[f"{place}_length"])
                if out["encoded"].codes is not None:
                    used |= set(out["encoded"].codes.unique().tolist()) - {-1}
            pairs = [i for i, text in enumerate(truth) if text]
            for place, texts in heard.items():
                reference, hypothesis = [truth[i] for i in pairs], [texts[i] for i in pairs]
                figures[f"{name}_cer_{place}"] = round(jiwer.cer(reference, hypothesis), 4)
                figures[f"{name}_wer_{place}"] = round(jiwer.wer(reference, hypothesis), 4)
        return figures | {"codes_used": float(len(used))}


def attend_locally(model: TokenizerTrainer) -> None:
    """Start every attention head with equal query and key projections, orthonormal rows.

    A frame then attends to what resembles it, and at the start, when positions dominate the hidden states, those are
    its neighbours: the local context that speech recognition needs first.
    """
    for layer in (*model.encoder.layers, *model.head.layers):
        attention = layer.self_attn
        for head in attention.q_proj.weight.data.split(attention.head_dim):
            torch.nn.init.orthogonal_(head)
        attention.k_proj.weight.data.copy_(attention.q_proj.weight.data)


def grow(model: TokenizerTrainer, run_dir: Path) -> None:
    """Take over the weights of a run with fewer layers before pooling; the layers it lacks start as the identity.

    After Gong et al. 2019 ("Efficient training of BERT by progressively stacking"), with zeros in the last matrix of
    both residual branches of a new layer instead of copies, so that the grown network computes what the old one did.
    """
    stored = load_file(run_dir / "state.safetensors")
    weights = {name.removeprefix("model."): t for name, t in stored.items() if name.startswith("model.")}
    prefix, config = "encoder.layers.", model.encoder.config
    old_layers = len({name[len(prefix) :].split(".")[0] for name in weights if name.startswith(prefix)})
    added = config.quantize_position - old_layers
    kept_below = config.pooling_position - added
    grown = {}
    for name, tensor in weights.items():
        if name.startswith(prefix):
            index, rest = name[len(prefix) :].split(".", 1)
            name = f"{prefix}{int(index) + (added if int(index) >= kept_below else 0)}.{rest}"
        grown[name] = tensor
    missing, unexpected = model.load_state_dict(grown, strict=False)
    new = range(kept_below, config.pooling_position)
    if unexpected or any(not name.startswith(tuple(f"{prefix}{i}." for i in new)) for name in missing):
        raise ValueError(f"{run_dir} does not hold a shallower model: missing {missing}, unexpected {unexpected}")
    for index in new:
        layer = model.encoder.layers[index]
        for linear in (layer.self_attn.out_proj, layer.fc2):
            torch.nn.init.zeros_(linear.weight)
            torch.nn.init.zeros_(linear.bias)


def export(model: TokenizerTrainer, corpus: PackedCorpus, rows: list[dict[str, Any]], folder: Path) -> None:
    """Write the tokenizer in fp16, its codebook in fp32 if fp16 rows change more than 1 % of the codes."""
    extractor = WhisperFeatureExtractor(feature_size=CONFIG.num_mel_bins)
    wavs = [torch.from_numpy(corpus.wav(row)) for row in rows]
    full = [tokens.codes for tokens in SpeechTokenizer(extractor, model.encoder.eval()).encode(wavs)]
    exact = {name: tensor.detach().clone() for name, tensor in model.encoder.state_dict().items()}

    def agreement(keep: tuple[str, ...]) -> float:
        rounded = {name: tensor if name in keep else tensor.half().float() for name, tensor in exact.items()}
        model.encoder.load_state_dict(rounded)
        codes = [tokens.codes for tokens in SpeechTokenizer(extractor, model.encoder).encode(wavs)]
        return float((torch.cat(codes) == torch.cat(full)).float().mean())

    figures = {"fp16": agreement(()), "fp16_codebook_fp32": agreement(("codebook.weight",))}
    keep = () if figures["fp16"] >= 0.99 else ("codebook.weight",)
    agreement(keep)
    SpeechTokenizer(extractor, model.encoder).save_pretrained(folder)
    save_file(
        {name: (tensor if name in keep else tensor.half()).contiguous() for name, tensor in exact.items()},
        folder / "model.safetensors",
        metadata={"format": "pt"},
    )
    model.head.half().save_pretrained(folder / "ctc")
    (folder / "agreement.json").write_text(json.dumps(figures | {"kept_in_fp32": list(keep)}, indent=1) + "\n")
    logger.info("codes equal to fp32: %s; kept in fp32: %s", figures, keep)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", type=Path, required=True, help="folder written by make_corpus.py")
    parser.add_argument("--run", type=Path, required=True, help="checkpoints and log of this run")
    parser.add_argument("--export", type=Path, required=True, help="folder for the finished tokenizer")
    parser.add_argument("--steps", type=int, default=8000)
    parser.add_argument("--learning-rate", type=float, default=1.5e-3, help="about half of it when growing")
    parser.add_argument("--holdout-speaker", help="digit speaker to leave out of training")
    parser.add_argument("--layers", type=int, default=CONFIG.pooling_position, help="encoder layers before pooling")
    parser.add_argument("--grow-from", type=Path, help="run folder of a model with fewer layers before pooling")
    parser.add_argument("--eval-steps", type=int, default=500)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO)

    processes = Accelerator()
    corpus = PackedCorpus(arguments.corpus)
    held_out = [
        row for row in corpus.rows if arguments.holdout_speaker and row.get("speaker") == arguments.holdout_speaker
    ]
    training = (
        [row for row in corpus.select(split="train") if row not in held_out]
        if held_out
        else corpus.select(split="train")
    )
    groups = {kind: corpus.select(split="test", kind=kind) for kind in ("question", "answer", "open", "digit", "music")}
    groups["holdout"] = held_out

    torch.manual_seed(SEED)
    added = arguments.layers - CONFIG.pooling_position
    depth = {
        name: getattr(CONFIG, name) + added for name in ("encoder_layers", "pooling_position", "quantize_position")
    }
    config = WhisperVQConfig(**CONFIG.to_diff_dict() | depth)
    model = TokenizerTrainer(config, warmup_steps=round(WARMUP_SHARE * arguments.steps))
    attend_locally(model)
    if arguments.grow_from:
        grow(model, arguments.grow_from)
    train(
        model,
        Batches(corpus, training, arguments.steps * processes.num_processes),
        lambda module, batch: module(**batch),
        TrainConfig(
            steps=arguments.steps,
            learning_rate=arguments.learning_rate,
            warmup_steps=min(150, arguments.steps // 10 + 1),
            seed=SEED,
        ),
        arguments.run,
        evaluate=HeldOut(corpus, groups),
        eval_steps=arguments.eval_steps,
    )
    if not processes.is_main_process:
        return
    test = [row for rows in groups.values() for row in rows[:: max(1, len(rows) // 40)][:40]]
    export(model, corpus, test, arguments.export)


if __name__ == "__main__":
    main()
