"""Measure a checkpoint of the tiny recipe on its held-out data, job by job.

    uv run python -m eval.tiny_floors --model checkpoints/spikeaudio-tiny --corpus DIR [--jobs asr,tts] [--limit 50]
    [--json OUT]

`--corpus` is what `recipes/tiny/make_corpus.py` wrote; only rows with split "test" are read (and, for the speaker
that was left out of training, all of his recordings). Error rates are micro averages by jiwer; a failed or empty
answer counts as wrong.
"""

import argparse
import json
import random
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path

import jiwer
import torch
from tqdm import tqdm

from eval.judges.speech_judge import pocketsphinx_transcribe
from spikeaudio import SpikeAudio
from spikeaudio.audio.mel import kimi_log_mel
from spikeaudio.audio.samples import resample
from spikeaudio.training.corpus import PackedCorpus

HELD_OUT_VOICE, HELD_OUT_SPEAKER, TTS_VOICE = "flite_rms", "theo", "rh_bdl"
AQA = {"instrument": "which instrument is this", "tempo": "is it fast or slow", "count": "how many notes are there"}
NUMBERS = "zero one two three four five six".split()


def error_rates(references: list[str], hypotheses: list[str]) -> dict[str, float]:
    """Micro word and character error rate in percent, and how many clips."""
    return {
        "wer": round(100 * jiwer.wer(references, hypotheses), 1),
        "cer": round(100 * jiwer.cer(references, hypotheses), 1),
        "exact": round(100 * sum(r == h for r, h in zip(references, hypotheses, strict=True)) / len(references), 1),
        "clips": len(references),
    }


class Floors:
    """The jobs of the first checkpoint; every public method is one job and returns its figures."""

    def __init__(self, model: SpikeAudio, corpus: PackedCorpus, limit: int | None) -> None:
        self.model, self.corpus, self.limit = model, corpus, limit

    def rows(self, keep: Callable[[dict], bool] = lambda row: True, **values: object) -> list[dict]:
        """Rows of the corpus with these values, in a fixed random order, at most `limit`.

        Raises:
            ValueError: there is none, so that there is nothing to measure.
        """
        chosen = [row for row in self.corpus.select(**values) if keep(row)]
        if not chosen:
            raise ValueError(f"the corpus {self.corpus.folder} has no rows with {values}; leave their job out (--jobs)")
        random.Random(0).shuffle(chosen)
        return chosen[: self.limit]

    def transcribed(self, rows: list[dict], name: str) -> tuple[list[str], list[str]]:
        """(texts, transcripts) of clips, in batches of similar length."""
        rows = sorted(rows, key=lambda row: row["seconds"])
        texts: list[str] = []
        for first in tqdm(range(0, len(rows), 16), desc=name, unit="batch"):
            wavs = [torch.from_numpy(self.corpus.wav(row)) for row in rows[first : first + 16]]
            texts += self.model.transcribe(wavs, sampling_rate=16000)
        return [row["text"] for row in rows], texts

    def transcripts(self, rows: list[dict], name: str) -> dict[str, float]:
        """Transcribe clips and score them."""
        return error_rates(*self.transcribed(rows, name))

    def asr(self) -> dict[str, dict]:
        """Speech recognition of synthetic voices."""
        seen = lambda row: row["voice"] not in (HELD_OUT_VOICE, "lj")  # noqa: E731
        return {
            "closed-domain questions, unseen renderings": self.transcripts(
                self.rows(seen, kind="question", split="test"), "questions"
            ),
            "open sentences, unseen, seen voices": self.transcripts(self.rows(seen, kind="open", split="test"), "open"),
            "closed-domain questions, held-out voice": self.transcripts(
                self.rows(kind="question", split="test", voice=HELD_OUT_VOICE), "stranger"
            ),
            "open sentences, held-out voice": self.transcripts(
                self.rows(kind="open", split="test", voice=HELD_OUT_VOICE), "stranger"
            ),
            "LJ Speech clips, unseen": self.transcripts(self.rows(kind="open", split="test", voice="lj"), "LJ"),
        }

    def digits(self) -> dict[str, dict]:
        """Digits spoken by people (FSDD)."""
        return {
            "FSDD takes 0-4, all speakers": self.transcripts(self.rows(kind="digit", split="test"), "FSDD"),
            "FSDD takes 0-4, speakers of the training set": self.transcripts(
                self.rows(lambda row: row["speaker"] != HELD_OUT_SPEAKER, kind="digit", split="test"), "FSDD"
            ),
            f"FSDD, speaker left out of training ({HELD_OUT_SPEAKER}), all takes": self.transcripts(
                self.rows(kind="digit", speaker=HELD_OUT_SPEAKER), "left out"
            ),
        }

    def noise(self) -> dict[str, dict]:
        """Noise without words: how often nothing is written for it."""
        _, texts = self.transcribed(self.rows(kind="noise", split="test"), "noise")
        return {"noise": {"accuracy": round(100 * texts.count("") / len(texts), 1), "clips": len(texts)}}

    def aqa(self) -> dict[str, dict]:
        """Audio question answering about instrument clips."""
        out = {}
        for key, question in AQA.items():
            rows = self.rows(lambda row, key=key: key != "tempo" or row["count"] > 1, kind="music", split="test")
            right = 0
            for row in tqdm(rows, desc=f"aqa {key}", unit="clip"):
                answer = NUMBERS[row["count"]] if key == "count" else row[key]
                right += self.model.ask(torch.from_numpy(self.corpus.wav(row)), question, sampling_rate=16000) == answer
            out[key] = {"accuracy": round(100 * right / len(rows), 1), "clips": len(rows)}
        return out

    def questions(self) -> dict[str, dict]:
        """Spoken question, written answer."""
        rows = self.rows(lambda row: row["voice"] != HELD_OUT_VOICE, kind="question", split="test")
        right: dict[str, list[bool]] = defaultdict(list)
        for row in tqdm(rows, desc="spoken questions", unit="clip"):
            reply = self.model.chat(torch.from_numpy(self.corpus.wav(row)), sampling_rate=16000, speech=False)
            right[row["domain"]].append(reply.text == row["answer"])
        everything = [value for values in right.values() for value in values]
        domains = {name: round(100 * sum(values) / len(values)) for name, values in sorted(right.items())}
        return {
            "exact match": {
                "accuracy": round(100 * sum(everything) / len(everything), 1),
                "clips": len(everything),
                "by domain": domains,
            }
        }

    def judged(self, pairs: Iterable[tuple[str, torch.Tensor]], name: str, own: bool = True) -> dict[str, float]:
        """(text, 24 kHz wav) -> own recogniser's and pocketsphinx's error rates."""
        references, ours, judge = [], [], []
        for text, wav in tqdm(list(pairs) if isinstance(pairs, list) else pairs, desc=name, unit="clip"):
            wav_16k = resample(wav, 24000, 16000)
            references.append(text)
            judge.append(pocketsphinx_transcribe(wav_16k))
            ours.append(self.model.transcribe(wav_16k, sampling_rate=16000) if own else "")
        figures = {"judge wer": error_rates(references, judge)["wer"], "clips": len(references)}
        return figures | (
            {"own cer": error_rates(references, ours)["cer"], "own wer": error_rates(references, ours)["wer"]}
            if own
            else {}
        )

    def tts(self) -> dict[str, dict]:
        """Speech synthesis of closed-domain sentences never heard in its voice, beside the teacher's recordings."""
        rows = self.rows(kind="answer", split="test")
        teacher = [(row["text"], torch.from_numpy(self.corpus.wav(row, 24000))) for row in rows]
        spoken = ((row["text"], self.model.speak(row["text"], seed=0).wav) for row in rows)
        codes = (
            (
                row["text"],
                self.model.detokenize(
                    self.model.tokenizer.encode([torch.from_numpy(self.corpus.wav(row))])[0].codes, seed=0
                ),
            )
            for row in rows
        )
        return {
            "teacher's recordings": self.judged(teacher, "teacher"),
            "teacher's codes, spoken by the detokenizer": self.judged(codes, "resynthesis"),
            "speak(text)": self.judged(spoken, "speak"),
        }

    def vocoder(self) -> dict[str, dict]:
        """Copy synthesis: mel of a held-out recording -> wav."""
        rows = self.rows(split="test", voice=TTS_VOICE, kind=("answer", "open"))
        teacher = [(row["text"], torch.from_numpy(self.corpus.wav(row, 24000))) for row in rows]
        with torch.inference_mode():
            copies = [(text, self.model.vocoder.decode(kimi_log_mel(wav[None]))[0]) for text, wav in teacher]
        return {
            "recordings": self.judged(teacher, "recordings", own=False),
            "copy synthesis": self.judged(copies, "copies", own=False),
        }


JOBS = ["asr", "digits", "noise", "aqa", "questions", "tts", "vocoder"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, default=Path("checkpoints/spikeaudio-tiny"))
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--jobs", default=",".join(JOBS), help=f"of {JOBS}")
    parser.add_argument("--limit", type=int, help="at most so many clips per figure, drawn at random with a fixed seed")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    args = parser.parse_args()
    unknown = set(args.jobs.split(",")) - set(JOBS)
    if unknown:
        parser.error(f"unknown jobs {sorted(unknown)}; there are {JOBS}")
    floors = Floors(SpikeAudio.from_pretrained(args.model), PackedCorpus(args.corpus), args.limit)
    results = {}
    for job in args.jobs.split(","):
        began = time.perf_counter()
        results[job] = getattr(floors, job)()
        for name, figures in results[job].items():
            sys.stdout.write(f"{job:10s} {name:60s} {json.dumps(figures)}\n")
        sys.stdout.write(f"{job:10s} took {time.perf_counter() - began:.0f} s\n")
        sys.stdout.flush()
        if args.json:
            args.json.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
