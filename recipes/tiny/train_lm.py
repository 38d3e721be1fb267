"""Stage 4c: the two-stream language model on five jobs at once.

    python recipes/tiny/train_lm.py --corpus DIR --text-tokenizer DIR --run DIR --export DIR --steps N
    [--holdout-speaker theo]

A run may be stopped and go on with another number of processes (``ACCELERATE_USE_CPU=true torchrun --nproc-per-node 2
-- train_lm.py ...``): every process then adds a batch to each step.

Jobs, drawn by weight for every example. Recognition (audio -> text), synthesis (text -> text and audio in parallel),
spoken questions (audio -> transcript, think_end, answer, and the answer's audio where a
recording exists). Also written questions in the same form (so that every fact is seen without any rendering to
memorise), and questions about instrument clips. Question domains are drawn by the square root of their size: by size,
three quarters of all questions would be sums. Uniformly, a sum would be seen ten times less often than a day. Noise is
recognised as nothing, and some clips are joined with pauses between them, since people do not stop after one sentence.
Features get noise and codes get replaced at random, so that the model does not memorise renderings.
"""

import argparse
import json
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from augmentation import quiet_seconds
from questions import facts
from safetensors.torch import load_file
from transformers import GenerationConfig, PreTrainedTokenizerFast

from spikeaudio import SpeechTokenizer, SpikeAudioConfig, SpikeAudioForConditionalGeneration, SpikeAudioProcessor
from spikeaudio.prompt.batch import BatchRow, collate
from spikeaudio.prompt.conversation import build_example
from spikeaudio.training.corpus import PackedCorpus
from spikeaudio.training.loop import TrainConfig, train

TASKS = {"asr": 0.48, "tts": 0.19, "chat": 0.13, "text": 0.06, "aqa": 0.14}
ASR_KINDS = {"question": 0.18, "open": 0.56, "digit": 0.17, "answer": 0.06, "noise": 0.03}
JOINED = {"digit": (0.5, 4), "question": (0.1, 2), "answer": (0.1, 2), "open": (0.1, 2)}  # how often, how many at most
AQA_QUESTIONS = {"instrument": 0.2, "tempo": 0.3, "count": 0.5}  # harder ones more often
TTS_KINDS = {"answer": 0.45, "question": 0.25, "open": 0.30}
CODES_PER_SECOND = 12.5
BATCH, GROUP = 24, 20  # examples per step; GROUP batches are drawn together and sorted by length
TTS_VOICE = "rh_bdl"
FEATURE_NOISE = (0.0, 0.1, 0.3)  # in standard deviations of the features, one drawn per example
CODE_REPLACED = (0.0, 0.1, 0.2)  # share of input codes replaced at random, one drawn per example
# The training clips are single sentences of at most 12 s, cut to their sound, with up to 0.25 s of silence around some.
# Below the threshold are 38 of 40 clips of LibriSpeech and 40 of 40 of LJ Speech, and none of 62 right bundled ones
# (eval/benchmarks/uncertainty.py).
HEARING = {"piece_seconds": 5.0, "longest_pause": 0.3, "longest_seconds": 12.0, "score_threshold": -0.3}
# It sees single turns, and no typed question with a spoken answer. Of 80 right answers none has a lower score, of 40
# typed questions outside of the domain 36 have one.
LIMITS = {"max_turns": 1, "speaks_when_typed_to": False, "least_score": -0.05}
NUMBERS = "zero one two three four five six".split()
INSTRUCTIONS = {
    "asr": "please transcribe the following audio",
    "tts": "say",
    "instrument": "which instrument is this",
    "tempo": "is it fast or slow",
    "count": "how many notes are there",
}
SIZE = dict(
    hidden_size=192,
    intermediate_size=640,
    num_hidden_layers=5,
    num_attention_heads=6,
    num_key_value_heads=3,
    max_position_embeddings=2048,
    rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
    num_audio_layers=2,
    audio_branch_layer=3,
    audio_delay=6,
    attention_dropout=0.0,
    tie_word_embeddings=False,
    initializer_range=0.04,
)


def draw_by_domain(entries: dict[str, list], rng: np.random.Generator) -> tuple:
    """One entry; its domain is drawn by the square root of the domain's size."""
    sizes = np.sqrt([len(group) for group in entries.values()])
    group = list(entries.values())[rng.choice(len(entries), p=sizes / sizes.sum())]
    return group[rng.integers(len(group))]


class Examples:
    """Draws training examples; everything is a function of the random generator it is given."""

    def __init__(
        self,
        corpus: PackedCorpus,
        tokenizer: PreTrainedTokenizerFast,
        config: SpikeAudioConfig,
        holdout_speaker: str | None,
    ) -> None:
        self.config, self.tokenizer = config, tokenizer
        self.codes = np.load(corpus.folder / "codes.npy", mmap_mode="r")
        self.features = np.load(corpus.folder / "features.npy", mmap_mode="r")
        self.feature_scale = float(np.asarray(self.features[:20000], np.float32).std())
        self.spans: dict[str, list[tuple[int, int]]] = {}
        for entry in map(json.loads, (corpus.folder / "codes.jsonl").read_bytes().splitlines()):
            self.spans.setdefault(entry["id"], []).append((entry["start"], entry["start"] + entry["length"]))
        rows = [
            row
            for row in corpus.select(split="train")
            if row.get("speaker") != holdout_speaker or row.get("speaker") is None
        ]
        self.asr = {kind: [row for row in rows if row["kind"] == kind and row["seconds"] < 12] for kind in ASR_KINDS}
        self.tts = {
            kind: [row for row in rows if row["kind"] == kind and row["voice"] == TTS_VOICE and "start_24k" in row]
            for kind in TTS_KINDS
        }
        self.quiet = [{"id": name} for name in self.spans if name.startswith("quiet_")]
        self.music = [row for row in rows if row["kind"] == "music"]
        answers = {row["text"]: row for row in self.tts["answer"]}
        self.chat: dict[str, list[tuple[dict, dict | None]]] = {}
        for row in rows:
            if row["kind"] == "question":
                self.chat.setdefault(row["domain"], []).append((row, answers.get(row["answer"])))
        self.written: dict[str, list[tuple[str, str]]] = {}
        for fact in facts():
            self.written.setdefault(fact.domain, []).extend((question, fact.answer) for question in fact.questions)
        needed = {
            **{f"{kind} clips to recognise": self.asr[kind] for kind in ASR_KINDS},
            **{f"{kind} clips in the voice {TTS_VOICE}": self.tts[kind] for kind in TTS_KINDS},
            "music clips": self.music,
            "quiet stretches (encode_corpus.py makes them)": self.quiet,
            "question clips": self.chat,
        }
        if lacking := [name for name, found in needed.items() if not found]:
            raise ValueError(f"the corpus {corpus.folder} has no training rows of these sorts: {', '.join(lacking)}")
        self.ids = lru_cache(maxsize=None)(lambda text: tuple(tokenizer(text)["input_ids"]))

    def clip(self, row: dict, rng: np.random.Generator, version: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        """(codes (S,), features (S, D)) of one rendering of the clip, disturbed."""
        spans = self.spans[row["id"]]
        start, end = spans[rng.integers(len(spans)) if version is None else version]
        codes, features = np.array(self.codes[start:end], np.int64), np.array(self.features[start:end], np.float32)
        replaced = rng.random(len(codes)) < rng.choice(CODE_REPLACED)
        codes[replaced] = rng.integers(0, self.config.num_audio_codes, replaced.sum())
        features += rng.standard_normal(features.shape, np.float32) * (rng.choice(FEATURE_NOISE) * self.feature_scale)
        return codes, features

    def pause(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """(codes (S,), features (S, D)) of 0 to 3 s without speech, disturbed."""
        codes, features = self.clip(self.quiet[rng.integers(len(self.quiet))], rng)
        length = min(len(codes), round(quiet_seconds(rng) * CODES_PER_SECOND))
        start = rng.integers(len(codes) - length + 1)
        return codes[start : start + length], features[start : start + length]

    def speech(self, row: dict) -> np.ndarray:
        """Codes of the model's own voice, undisturbed: they are targets."""
        start, end = self.spans[row["id"]][0]
        return np.array(self.codes[start:end], np.int64)

    def draw(self, rng: np.random.Generator) -> dict:
        """One example: streams, labels and features."""
        task = rng.choice(list(TASKS), p=list(TASKS.values()))
        features, codes, think = None, None, None
        if task == "asr":
            kind = rng.choice(list(ASR_KINDS), p=list(ASR_KINDS.values()))
            often, most = JOINED.get(kind, (0.0, 1))
            count = int(rng.integers(2, most + 1)) if rng.random() < often else 1
            rows = [self.asr[kind][i] for i in rng.integers(0, len(self.asr[kind]), count)]
            clips = [self.clip(rows[0], rng)]
            for row in rows[1:]:
                clips += [self.pause(rng), self.clip(row, rng)]
            heard, features = (np.concatenate(parts) for parts in zip(*clips, strict=True))
            segments = [("text", self.ids(INSTRUCTIONS["asr"])), ("audio", heard)]
            answer = " ".join(row["text"] for row in rows)
        elif task == "tts":
            kind = rng.choice(list(TTS_KINDS), p=list(TTS_KINDS.values()))
            row = self.tts[kind][rng.integers(len(self.tts[kind]))]
            segments, answer, codes = (
                [("text", self.ids(f"{INSTRUCTIONS['tts']} {row['text']}"))],
                row["text"],
                self.speech(row),
            )
        elif task == "chat":
            row, spoken = draw_by_domain(self.chat, rng)
            heard, features = self.clip(row, rng)
            segments, answer, think = [("audio", heard)], row["answer"], row["text"]
            if spoken is not None and rng.random() < 0.5:
                codes = self.speech(spoken)
        elif task == "text":
            think, answer = draw_by_domain(self.written, rng)
            segments = [("text", self.ids(think))]
        else:
            row = self.music[rng.integers(len(self.music))]
            heard, features = self.clip(row, rng)
            question = rng.choice(list(AQA_QUESTIONS), p=list(AQA_QUESTIONS.values()))
            if question == "tempo" and row["count"] == 1:  # one note has no tempo
                question = "count"
            segments = [("text", self.ids(INSTRUCTIONS[question])), ("audio", heard)]
            answer = NUMBERS[row["count"]] if question == "count" else row[question]
        think_ids = None if think is None else self.ids(think)
        example = build_example(segments, self.ids(answer), codes, think_ids, self.config)
        return {"example": example, "features": features, "task": task}

    def row(self, item: dict) -> BatchRow:
        """What is drawn, as a row of a batch; without a recording it holds no features, which is still an entry.

        Every batch then has features, so that every parameter has a gradient: several processes need that.
        """
        features = item["features"]
        if features is None:
            features = np.zeros((0, self.config.audio_feature_dim), np.float32)
        return BatchRow.of(item["example"], [{"audio_features": torch.from_numpy(features)}])

    def batch(self, step: int) -> dict[str, torch.Tensor]:
        """The batch of a step."""
        order, groups = self._group(step // GROUP)
        return groups[order[step % GROUP]]

    @lru_cache(maxsize=1)  # noqa: B019 (one Examples per run)
    def _group(self, group: int) -> tuple[np.ndarray, list[dict[str, torch.Tensor]]]:
        rng = np.random.default_rng((17, group))
        drawn = sorted((self.draw(rng) for _ in range(BATCH * GROUP)), key=lambda item: len(item["example"]))
        # neighbours stay together: two processes then wait little for each other
        order = (2 * rng.permutation(GROUP // 2)[:, None] + np.arange(2)).ravel()
        return order, [
            collate([self.row(item) for item in drawn[i * BATCH : (i + 1) * BATCH]], self.config.blank_token_id)
            for i in range(GROUP)
        ]


def loss(model: torch.nn.Module, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Sum of both streams' cross-entropies."""
    out = model(**batch, use_cache=False)
    return {"loss": out.loss, "text": out.text_loss.detach(), "audio": out.audio_loss.detach()}


@torch.no_grad()
def start_from_codebook(model: SpikeAudioForConditionalGeneration, codebook: torch.Tensor) -> None:
    """Embed every audio code as its codebook row, rotated at random: codes that sound alike start alike."""
    rows = (codebook - codebook.mean(0)) / codebook.std()
    rotation = torch.nn.init.orthogonal_(torch.empty(rows.shape[1], model.config.hidden_size))
    codes = slice(model.config.audio_token_offset, model.config.audio_token_offset + len(rows))
    model.get_input_embeddings().weight[codes] = rows @ rotation * model.config.initializer_range


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--corpus", type=Path, required=True, help="with codes.npy and features.npy by encode_corpus.py"
    )
    parser.add_argument("--text-tokenizer", type=Path, required=True)
    parser.add_argument("--tokenizer", type=Path, required=True, help="folder written by train_tokenizer.py --export")
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--export", type=Path, required=True, help="checkpoint folder to write the model into")
    parser.add_argument("--steps", type=int, default=5000)
    parser.add_argument("--learning-rate", type=float, default=1.5e-3)
    parser.add_argument("--holdout-speaker", default="theo", help="FSDD speaker to leave out")
    parser.add_argument("--init", type=Path, help="start from the weights of this checkpoint")
    args = parser.parse_args()
    corpus = PackedCorpus(args.corpus)
    tokenizer = PreTrainedTokenizerFast.from_pretrained(args.text_tokenizer)
    control = {
        name: tokenizer.convert_tokens_to_ids(f"<|{name}|>")
        for name in (
            "blank",
            "text_eos",
            "media_begin",
            "media_end",
            "msg_end",
            "speech_text",
            "speech_both",
            "think_end",
        )
    }
    features = np.load(args.corpus / "features.npy", mmap_mode="r")
    speech_tokenizer = SpeechTokenizer.from_pretrained(args.tokenizer)
    codebook = speech_tokenizer.encoder.codebook.weight.float()
    config = SpikeAudioConfig(
        **SIZE,
        vocab_size=len(tokenizer) + len(codebook),
        audio_token_offset=len(tokenizer),
        num_audio_codes=len(codebook),
        audio_feature_dim=features.shape[1],
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=control["text_eos"],
        bos_token_id=None,
        user_start_token_id=tokenizer.convert_tokens_to_ids("<|user|>"),
        assistant_start_token_id=tokenizer.convert_tokens_to_ids("<|assistant|>"),
        **{f"{name}_token_id": token for name, token in control.items()},
    )
    torch.manual_seed(0)
    model = SpikeAudioForConditionalGeneration._from_config(config, attn_implementation="eager", dtype=torch.float32)
    start_from_codebook(model, codebook)
    if args.init:
        model.load_state_dict(
            {name: tensor.float() for name, tensor in load_file(args.init / "model.safetensors").items()}
        )
    examples = Examples(corpus, tokenizer, config, args.holdout_speaker)
    parameters = sum(p.numel() for p in model.parameters())
    heard, spoken = sum(map(len, examples.asr.values())), sum(map(len, examples.tts.values()))
    print(f"{parameters / 1e6:.2f} M parameters, {heard} clips to recognise, {spoken} to speak")
    train(
        model,
        examples.batch,
        loss,
        TrainConfig(steps=args.steps, learning_rate=args.learning_rate, warmup_steps=200, weight_decay=0.05),
        args.run,
    )
    if not Accelerator().is_main_process:
        return
    model.generation_config = GenerationConfig(
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=control["text_eos"],
        max_new_tokens=512,
        num_beams=1,
        do_sample=False,
        speech_candidates=8,
    )
    model.to(torch.bfloat16).save_pretrained(args.export)
    SpikeAudioProcessor.of(config, tokenizer, speech_tokenizer, **HEARING, limits=LIMITS).save_pretrained(args.export)


if __name__ == "__main__":
    main()
