"""Examples for `spikeaudio spike` and for its evidence, drawn as the language model's training draws them.

    python recipes/tiny/make_examples.py --corpus DIR --out DIR [--number 3000] [--split train] [--disturbed SHARE]
    [--unheard NUMBER --teacher CHECKPOINT] | --transcriptions

Writes `examples.jsonl` (:mod:`spikeaudio.training.examples`) and the recordings that it names, as 16-bit wav files.
Most of those to train on are new renderings (speed, gain, noise): what the language model says of clips that it knows
by heart teaches a student little about others. `--unheard` adds so many sentences that no model was trained on.
In place of their words they have what the teacher writes when it hears them (sequence-level distillation, Kim and Rush,
arXiv:1606.07947). A student learns to follow it where its own decoding leads, errors included. `--transcriptions`
writes every recording of words of the split once, to be transcribed, instead of drawing: for word error rates.
"""

import argparse
import json
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import numpy as np
import soundfile
from encode_corpus import disturbed
from questions import facts
from tqdm import tqdm
from train_lm import (
    AQA_QUESTIONS,
    ASR_KINDS,
    INSTRUCTIONS,
    NUMBERS,
    TASKS,
    TTS_KINDS,
    TTS_VOICE,
    draw_by_domain,
)

from spikeaudio import SpikeAudio
from spikeaudio.training.corpus import PackedCorpus

RATE = 16000
LONGEST_SECONDS = 12.0
HEARD_TOGETHER = 32  # recordings per batch of the teacher
DISTURBED = {"train": 0.75, "test": 0.0}  # share of the recordings that are new renderings


class Examples:
    """Conversations from a corpus; everything is a function of the random generator.

    Args:
        corpus: where the clips lie.
        split: split of its rows.
        holdout_speaker: digit speaker to leave out.
        out: gets the recordings.
    """

    def __init__(self, corpus: PackedCorpus, split: str, holdout_speaker: str, out: Path) -> None:
        self.corpus, self.out, self.disturbed = corpus, out, DISTURBED[split]
        self.drawn = 0
        rows = [row for row in corpus.select(split=split) if row.get("speaker") != holdout_speaker]
        self.rows = {
            kind: [row for row in rows if row["kind"] == kind and row["seconds"] < LONGEST_SECONDS]
            for kind in (*ASR_KINDS, "music")
        }
        self.spoken = {kind: [row for row in self.rows[kind] if row["voice"] == TTS_VOICE] for kind in TTS_KINDS}
        self.answers = {row["text"]: row for row in self.spoken["answer"]}
        self.questions: dict[str, list[dict]] = {}
        for row in self.rows["question"]:
            self.questions.setdefault(row["domain"], []).append(row)
        self.written: dict[str, list[tuple[str, str]]] = {}
        for fact in facts():
            self.written.setdefault(fact.domain, []).extend((question, fact.answer) for question in fact.questions)

    def draw(self, rng: np.random.Generator) -> dict:
        """One line of the file."""
        task = rng.choice(list(TASKS), p=list(TASKS.values()))
        if task == "asr":
            row = pick(self.rows[rng.choice(list(ASR_KINDS), p=list(ASR_KINDS.values()))], rng)
            return conversation([text(INSTRUCTIONS["asr"]), self.audio(row, rng)], [text(row["text"])])
        if task == "tts":
            row = pick(self.spoken[rng.choice(list(TTS_KINDS), p=list(TTS_KINDS.values()))], rng)
            return conversation([text(f"{INSTRUCTIONS['tts']} {row['text']}")], [text(row["text"]), self.audio(row)])
        if task == "text":
            question, answer = draw_by_domain(self.written, rng)
            return conversation([text(question)], [text(answer)], thought=question)
        if task == "chat":
            row = draw_by_domain(self.questions, rng)
            reply = [text(row["answer"])]
            if row["answer"] in self.answers and rng.random() < 0.5:
                reply.append(self.audio(self.answers[row["answer"]]))
            return conversation([self.audio(row, rng)], reply, thought=row["text"])
        row = pick(self.rows["music"], rng)
        question = rng.choice(list(AQA_QUESTIONS), p=list(AQA_QUESTIONS.values()))
        if question == "tempo" and row["count"] == 1:  # one note has no tempo
            question = "count"
        answer = NUMBERS[row["count"]] if question == "count" else row[question]
        return conversation([text(INSTRUCTIONS[question]), self.audio(row, rng)], [text(answer)])

    def audio(self, row: dict, rng: np.random.Generator | None = None) -> dict:
        """The block of a recording, which is written out; with a generator, perhaps of a new rendering."""
        name, wav = f"{row['id']}.wav", self.corpus.wav(row)
        if rng is not None and self.disturbed and rng.random() < self.disturbed:  # none: no draw, so no other examples
            self.drawn += 1
            name, wav = f"{row['id']}-{self.drawn}.wav", disturbed(wav, row["kind"], rng)
        if not (self.out / name).exists():
            soundfile.write(self.out / name, wav, RATE, subtype="PCM_16")
        return {"type": "audio", "path": name}

    def transcriptions(self) -> Iterator[dict]:
        """Lines that ask for the words of every recording that has some, as it is."""
        for row in (row for kind in ASR_KINDS for row in self.rows[kind] if row["text"]):
            yield conversation([text(INSTRUCTIONS["asr"]), self.audio(row)], [text(row["text"])])

    def unheard(self, number: int, teacher: SpikeAudio, rng: np.random.Generator) -> Iterator[dict]:
        """Lines of sentences that nobody trained on: a recording and what the teacher writes when it hears it.

        Raises:
            ValueError: the corpus has no such clips.
        """
        rows = self.corpus.select(split="unheard")
        if not rows:
            raise ValueError(
                f'the corpus {self.corpus.folder} has no rows of split "unheard"; make_corpus.py adds them'
            )
        for first in range(0, number, HEARD_TOGETHER):
            blocks = [self.audio(pick(rows, rng), rng) for _ in range(min(HEARD_TOGETHER, number - first))]
            for block, written in zip(
                blocks, teacher.transcribe([self.out / each["path"] for each in blocks]), strict=True
            ):
                yield conversation([text(INSTRUCTIONS["asr"]), block], [text(written)])


def pick(rows: list, rng: np.random.Generator) -> dict:
    return rows[int(rng.integers(len(rows)))]


def text(words: str) -> dict:
    return {"type": "text", "text": words}


def conversation(asked: list[dict], answered: list[dict], thought: str | None = None) -> dict:
    """One line: a question, its answer, and what the model writes before it."""
    messages = [{"role": "user", "content": asked}, {"role": "assistant", "content": answered}]
    return {"messages": messages} | ({} if thought is None else {"thought": thought})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--number", type=int, default=3000)
    parser.add_argument("--split", choices=["train", "test"], default="train")
    parser.add_argument("--holdout-speaker", default="theo")
    parser.add_argument("--disturbed", type=float, help=f"share of new renderings, instead of {DISTURBED}")
    parser.add_argument("--unheard", type=int, default=0, help="so many more, of sentences in no training split")
    parser.add_argument("--transcriptions", action="store_true", help="every recording of words once, none drawn")
    parser.add_argument("--teacher", type=Path, help="checkpoint that writes their transcripts")
    args = parser.parse_args()
    if args.unheard and args.teacher is None:
        parser.error("--unheard needs --teacher, which writes the transcripts")
    args.out.mkdir(parents=True, exist_ok=True)
    examples, rng = (
        Examples(PackedCorpus(args.corpus), args.split, args.holdout_speaker, args.out),
        np.random.default_rng(0),
    )
    if args.disturbed is not None:
        examples.disturbed = args.disturbed
    drawn: Iterator[dict] = (examples.draw(rng) for _ in range(args.number))
    if args.transcriptions:
        drawn = examples.transcriptions()
    if args.unheard:
        drawn = chain(drawn, examples.unheard(args.unheard, SpikeAudio.from_pretrained(args.teacher), rng))
    total = None if args.transcriptions else args.number + args.unheard
    bar = tqdm(drawn, desc="examples", total=total, mininterval=5)
    lines = [json.dumps(line) + "\n" for line in bar]
    (args.out / "examples.jsonl").write_text("".join(lines))


if __name__ == "__main__":
    main()
