"""Pick the clips of eval's bundled suite from the held-out part of the corpus.

    python recipes/tiny/make_bundled.py --corpus DIR --out eval/bundled

Writes one manifest per task, JSON Lines in the form of `eval.sample.Sample`, the recordings that they name as 16 kHz
FLAC, and all answers of the closed domain, within which an independent ASR judge hears the spoken ones. Synthetic
voices, synthetic instruments and noise only: nothing in it is anybody's recording.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import soundfile
from questions import facts
from train_lm import NUMBERS, TTS_VOICE

from spikeaudio.training.corpus import PackedCorpus

RATE = 16000
HELD_OUT_VOICE = "flite_rms"
PRONUNCIATIONS = {"bleats": "B L IY T S", "croaks": "K R OW K S", "meows": "M IY AW Z", "neighs": "N EY Z"}  # our own
QUESTIONS = {
    "instrument": "which instrument is this",
    "tempo": "is it fast or slow",
    "count": "how many notes are there",
}


class Bundle:
    """Manifests and recordings of the suite.

    Args:
        corpus: where the clips lie.
        out: output folder.
    """

    def __init__(self, corpus: PackedCorpus, out: Path) -> None:
        self.corpus, self.out = corpus, out
        (out / "audio").mkdir(parents=True, exist_ok=True)

    def pick(self, number: int, seed: int, **values: object) -> list[dict]:
        """So many rows of the test split, spread over voices and texts at random."""
        rows = [row for row in self.corpus.select(split="test", **values) if row["voice"] != "lj"]
        order = np.random.default_rng(seed).permutation(len(rows))
        seen: set[str] = set()
        chosen = []
        for index in order:
            row = rows[int(index)]
            if row["kind"] not in ("music", "noise") and row["text"] in seen:
                continue
            seen.add(row["text"])
            chosen.append(row)
        if len(chosen) < number:
            raise ValueError(
                f"the corpus has {len(chosen)} rows with {values}, need {number}: was it made with --scale 1?"
            )
        return sorted(chosen[:number], key=lambda row: row["id"])

    def audio(self, row: dict) -> str:
        """Write a recording; its path seen from the manifest."""
        path = f"audio/{row['id']}.flac"
        soundfile.write(self.out / path, self.corpus.wav(row), RATE, subtype="PCM_16")
        return path

    def write(self, task: str, samples: list[dict]) -> None:
        filled = [
            {"id": "", "audio": None, "text": None, "references": [], "choices": [], "meta": {}} | sample
            for sample in samples
        ]
        (self.out / f"{task}.jsonl").write_text("".join(json.dumps(sample) + "\n" for sample in filled))

    def make(self) -> None:
        """All tasks."""
        questions = self.pick(40, 0, kind="question", voice=self.voices("question"))
        strangers = self.pick(12, 1, kind="question", voice=HELD_OUT_VOICE)
        heard = [self.heard(row) for row in questions] + [self.heard(row, "a voice never heard") for row in strangers]
        self.write("asr_questions", heard)
        self.write("conversation", [self.answered(*pair) for pair in zip(heard, questions, strict=False)])
        domain = {"answers": sorted({fact.answer for fact in facts()}), "pronunciations": PRONUNCIATIONS}
        (self.out / "answers.json").write_text(json.dumps(domain, indent=1) + "\n")
        self.write(
            "asr_open",
            [self.heard(row) for row in self.pick(40, 2, kind="open", voice=self.voices("open"))],
        )
        self.write("noise", [self.heard(row) for row in self.pick(10, 3, kind="noise")])
        music = self.pick(40, 4, kind="music")
        for key, question in QUESTIONS.items():
            rows = [row for row in music if key != "tempo" or row["count"] > 1]
            self.write(
                key,
                [
                    {
                        "id": row["id"],
                        "audio": self.audio(row),
                        "text": question,
                        "references": [NUMBERS[row["count"]] if key == "count" else row[key]],
                        "meta": {"voice": row["voice"]},
                    }
                    for row in rows
                ],
            )
        spoken = self.pick(20, 5, kind="answer", voice=TTS_VOICE)
        said = [self.heard(row) for row in spoken]
        self.write(
            "tts",
            [
                {"id": sample["id"], "text": sample["references"][0], "references": sample["references"]}
                | {"meta": sample["meta"] | {"reference_audio": sample["audio"]}}
                for sample in said
            ],
        )
        self.write("codec", said)

    def voices(self, kind: str) -> set[str]:
        """Voices of the test split that training heard, too."""
        return {row["voice"] for row in self.corpus.select(split="test", kind=kind)} - {HELD_OUT_VOICE, "lj"}

    def answered(self, sample: dict, row: dict) -> dict:
        """A question's sample, the voice's recording of the right answer beside it."""
        said = self.corpus.select(kind="answer", voice=TTS_VOICE, text=row["answer"])[0]
        meta = {"question": row["text"], "reference_audio": self.audio(said), "closed_domain": "answers.json"}
        return sample | {"references": [row["answer"]], "meta": sample["meta"] | meta}

    def heard(self, row: dict, subset: str | None = None) -> dict:
        """A sample whose reference is what is said."""
        meta = {"voice": row["voice"]} | ({} if subset is None else {"subset": subset})
        return {"id": row["id"], "audio": self.audio(row), "references": [row["text"]], "meta": meta}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    Bundle(PackedCorpus(args.corpus), args.out).make()


if __name__ == "__main__":
    main()
