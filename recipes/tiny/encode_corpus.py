"""Stage 4a: codes and features of every clip, once, for the language model and its text tokenizer.

    python recipes/tiny/encode_corpus.py --corpus DIR --tokenizer DIR

Each training clip is encoded as it is and some more times with another speed, loudness and some noise, so
that the language model hears more than one rendering. Writes `codes.npy` (N,) int16, `features.npy` (N, D) float16
and `codes.jsonl` (id, version, start, length) into the corpus folder.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from augmentation import change_speed
from tqdm import tqdm

from spikeaudio import SpeechTokenizer, WhisperVQEncoder
from spikeaudio.data.corpus import PackedCorpus
from spikeaudio.tokenizer.whisper_features import SAMPLES_PER_TOKEN, whisper_log_mel

VERSIONS = {"digit": 6}  # renderings of a training clip by kind: a digit takes half a second, and few people spoke them
OTHER_VERSIONS = 2
SPEED_CHANGE = {"digit": 0.2, "music": 0.0}  # at most; the tempo of music is asked for
OTHER_SPEED_CHANGE = 0.12
BATCH_SECONDS = 60.0
LONGEST_SECONDS = 12.0


def disturbed(wav: np.ndarray, kind: str, rng: np.random.Generator) -> np.ndarray:
    """One more rendering: other speed, gain -10..+4 dB, white noise at 15-40 dB, up to 0.25 s of silence around it."""
    change = SPEED_CHANGE.get(kind, OTHER_SPEED_CHANGE)
    wav = change_speed(wav, rng.uniform(1 - change, 1 + change))
    noise = rng.standard_normal(len(wav)) * np.sqrt((wav**2).mean()) * 10 ** (-rng.uniform(15, 40) / 20)
    wav = (wav + noise) * 10 ** (rng.uniform(-10, 4) / 20)
    return np.pad(wav, (rng.integers(0, 4000), rng.integers(0, 4000))).clip(-1, 1).astype(np.float32)


@torch.inference_mode()
def encode(encoder: WhisperVQEncoder, wavs: list[np.ndarray]) -> list[tuple[np.ndarray, np.ndarray]]:
    """(codes (S,), features (S, D)) of every clip, in one padded batch: quicker than singly, equal but at edges."""
    tokens = [-(-len(wav) // SAMPLES_PER_TOKEN) for wav in wavs]
    padded = torch.zeros(len(wavs), max(tokens) * SAMPLES_PER_TOKEN)
    for row, wav in zip(padded, wavs, strict=True):
        row[: len(wav)] = torch.from_numpy(wav)
    frames = torch.tensor([-(-len(wav) // 160) for wav in wavs])
    mel = whisper_log_mel(padded, encoder.config.num_mel_bins)
    out = encoder(mel, torch.arange(mel.shape[2]) < frames[:, None])
    codes, features = out.codes.numpy().astype(np.int16), out.features.numpy().astype(np.float16)
    return [(codes[i, :n], features[i, :n]) for i, n in enumerate(tokens)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--tokenizer", type=Path, required=True, help="folder written by train_tokenizer.py --export")
    args = parser.parse_args()
    torch.set_num_threads(1)
    corpus, encoder = PackedCorpus(args.corpus), SpeechTokenizer.from_pretrained(args.tokenizer).encoder
    jobs = [(row, 0) for row in corpus.rows if row["seconds"] < LONGEST_SECONDS]
    for row in corpus.select(split="train"):
        jobs += [
            (row, v) for v in range(1, VERSIONS.get(row["kind"], OTHER_VERSIONS)) if row["seconds"] < LONGEST_SECONDS
        ]
    jobs.sort(key=lambda job: job[0]["samples_16k"])
    codes, features, index, start = [], [], [], 0
    bar = tqdm(total=len(jobs), desc="encoding", unit="clip", mininterval=5)
    while jobs:
        size = max(1, int(BATCH_SECONDS / (jobs[0][0]["seconds"] + 0.5)))
        part, jobs = jobs[:size], jobs[size:]
        wavs = []
        for row, version in part:
            rng = np.random.default_rng((row["start_16k"], version))
            wavs.append(disturbed(corpus.wav(row), row["kind"], rng) if version else corpus.wav(row))
        for (row, version), (clip_codes, clip_features) in zip(part, encode(encoder, wavs), strict=True):
            codes.append(clip_codes)
            features.append(clip_features)
            index.append({"id": row["id"], "version": version, "start": start, "length": len(clip_codes)})
            start += len(clip_codes)
        bar.update(len(part))
    np.save(args.corpus / "codes.npy", np.concatenate(codes))
    np.save(args.corpus / "features.npy", np.concatenate(features))
    (args.corpus / "codes.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in index))


if __name__ == "__main__":
    main()
