"""Stage 4a: codes and features of every clip, once, for the language model and its text tokenizer.

    python recipes/tiny/encode_corpus.py --corpus DIR --tokenizer DIR

Each training clip is encoded as it is and some more times with another speed, loudness, some noise, and up to 3 s of
quiet before and after it, so that the language model hears more than one rendering. Some stretches of quiet alone are
encoded, too, for the pauses between clips that are joined. Writes `codes.npy` (N,) int16, `features.npy` (N, D) float16
and `codes.jsonl` (id, version, start, length) into the corpus folder. Every finished batch is kept in a folder beside
them until all are there: a killed run goes on where it stopped.
"""

import argparse
import hashlib
import json
import shutil
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from augmentation import QUIET_SECONDS, change_speed, quiet, with_quiet
from tqdm import tqdm

from spikeaudio import SpeechTokenizer, WhisperVQEncoder
from spikeaudio.audio.whisper_mel import SAMPLES_PER_TOKEN, whisper_log_mel
from spikeaudio.training.corpus import PackedCorpus

VERSIONS = {"digit": 6}  # renderings of a training clip by kind: a digit takes half a second, and few people spoke them
OTHER_VERSIONS = 2
SPEED_CHANGE = {"digit": 0.2, "music": 0.05}  # at most; music must not change its tempo
OTHER_SPEED_CHANGE = 0.12
BATCH_SECONDS = 60.0
QUIET_CLIPS = 60  # stretches without speech
SPEECH_RMS = 0.06  # of every clip of the corpus
LONGEST_SECONDS = 12.0


def disturbed(wav: np.ndarray, kind: str, rng: np.random.Generator) -> np.ndarray:
    """One more rendering: other speed, gain -10..+4 dB, white noise at 15-40 dB, up to 3 s of quiet on either side."""
    change = SPEED_CHANGE.get(kind, OTHER_SPEED_CHANGE)
    wav = change_speed(wav, rng.uniform(1 - change, 1 + change))
    noise = rng.standard_normal(len(wav)) * np.sqrt((wav**2).mean()) * 10 ** (-rng.uniform(15, 40) / 20)
    wav = ((wav + noise) * 10 ** (rng.uniform(-10, 4) / 20)).astype(np.float32)
    return with_quiet([wav], rng).clip(-1, 1)


def quiet_rows() -> list[dict]:
    """Rows of the stretches without speech; their sound is made when it is encoded."""
    samples = round(QUIET_SECONDS * 16000)
    same = {"kind": "quiet", "split": "train", "seconds": QUIET_SECONDS, "samples_16k": samples}
    return [{"id": f"quiet_{number}", "start_16k": number, **same} for number in range(QUIET_CLIPS)]


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


@dataclass
class Worker:
    """What a process needs to encode: the corpus and the encoder, loaded at its first batch."""

    corpus_dir: Path
    tokenizer_dir: Path
    parts_dir: Path

    @cached_property
    def corpus(self) -> PackedCorpus:
        return PackedCorpus(self.corpus_dir)

    @cached_property
    def encoder(self) -> WhisperVQEncoder:
        torch.set_num_threads(1)
        return SpeechTokenizer.from_pretrained(self.tokenizer_dir).encoder

    def __call__(self, number: int, part: list[tuple[dict, int]]) -> None:
        """Write codes, features and lengths of every (row, version) of a batch; its file is whole or not there."""
        wavs = []
        for row, version in part:
            rng = np.random.default_rng((row["start_16k"], version))
            if row["kind"] == "quiet":
                wavs.append(quiet(row["samples_16k"], SPEECH_RMS, rng))
                continue
            wav = self.corpus.wav(row)
            wavs.append(disturbed(wav, row["kind"], rng) if version else wav)
        codes, features = zip(*encode(self.encoder, wavs), strict=True)
        path = self.path(number)
        unfinished = path.with_suffix(".part.npz")
        lengths = [len(each) for each in codes]
        np.savez(unfinished, codes=np.concatenate(codes), features=np.concatenate(features), lengths=lengths)
        unfinished.rename(path)

    def path(self, number: int) -> Path:
        return self.parts_dir / f"{number}.npz"


_worker: Worker | None = None  # of this process


def start_worker(worker: Worker) -> None:
    global _worker
    _worker = worker


def run_worker(job: tuple[int, list[tuple[dict, int]]]) -> None:
    assert _worker is not None
    _worker(*job)


def batches(rows: list[dict]) -> list[list[tuple[dict, int]]]:
    """Every clip in every version, those of one length together, BATCH_SECONDS at a time."""
    jobs = [
        (row, version)
        for row in rows
        if row["seconds"] < LONGEST_SECONDS and row["split"] != "unheard"
        for version in range(VERSIONS.get(row["kind"], OTHER_VERSIONS) if row["split"] == "train" else 1)
    ]
    jobs += [(row, 0) for row in quiet_rows()]
    jobs.sort(key=lambda job: job[0]["samples_16k"])
    parts = []
    while jobs:
        size = max(1, int(BATCH_SECONDS / (jobs[0][0]["seconds"] + QUIET_SECONDS)))
        parts.append(jobs[:size])
        jobs = jobs[size:]
    return parts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--tokenizer", type=Path, required=True, help="folder written by train_tokenizer.py --export")
    parser.add_argument("--workers", type=int, default=1, help="processes, one thread each")
    args = parser.parse_args()
    encode_corpus(args.corpus, args.tokenizer, args.workers)


def encode_corpus(corpus_dir: Path, tokenizer_dir: Path, workers: int) -> None:
    """Encode what is not encoded yet, then join it."""
    parts = batches(PackedCorpus(corpus_dir).rows)
    made_of = (tokenizer_dir / "model.safetensors", corpus_dir / "manifest.jsonl")
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in made_of)).hexdigest()[:16]
    worker = Worker(corpus_dir, tokenizer_dir, corpus_dir / f"encoding-{digest}")
    worker.parts_dir.mkdir(exist_ok=True)
    waiting = [(number, part) for number, part in enumerate(parts) if not worker.path(number).exists()]
    with ProcessPoolExecutor(workers, get_context("spawn"), start_worker, (worker,)) as pool:
        done = len(parts) - len(waiting)
        bar = tqdm(total=len(parts), initial=done, desc="encoding", unit="batch", mininterval=5)
        for _ in pool.map(run_worker, waiting):
            bar.update()
    stored = [np.load(worker.path(number)) for number in range(len(parts))]
    np.save(corpus_dir / "codes.npy", np.concatenate([each["codes"] for each in stored]))
    np.save(corpus_dir / "features.npy", np.concatenate([each["features"] for each in stored]))
    jobs = [job for part in parts for job in part]
    lengths = [int(length) for each in stored for length in each["lengths"]]
    starts = np.cumsum([0, *lengths]).tolist()
    entries = [
        {"id": row["id"], "version": version, "start": start, "length": length}
        for (row, version), start, length in zip(jobs, starts[:-1], lengths, strict=True)
    ]
    (corpus_dir / "codes.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    shutil.rmtree(worker.parts_dir)


if __name__ == "__main__":
    main()
