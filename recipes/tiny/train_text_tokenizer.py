"""Stage 4b: a byte-pair text tokenizer over the corpus' texts, with the control tokens of the two streams behind it.

    python recipes/tiny/train_text_tokenizer.py --corpus DIR --out DIR

Ids: [0, 448) text, [448, 512) control and reserved tokens; the language model appends the audio codes from 512 on.
"""

import argparse
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from spikeaudio.training.corpus import PackedCorpus

TEXT_IDS, CONTROL_IDS = 448, 64
CONTROL = [
    "pad",
    "blank",
    "text_eos",
    "media_begin",
    "media_end",
    "msg_end",
    "user",
    "assistant",
    "speech_text",
    "speech_both",
    "think_end",
]
INSTRUCTIONS = [
    "please transcribe the following audio",
    "say",
    "which instrument is this",
    "is it fast or slow",
    "how many notes are there",
    "piano guitar violin trumpet flute organ xylophone harmonica fast slow one two three four five six",
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    texts = (
        sorted({row["text"] for row in PackedCorpus(args.corpus).select(split="train") if row["text"]}) + INSTRUCTIONS
    )
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    trainer = trainers.BpeTrainer(
        vocab_size=TEXT_IDS,
        special_tokens=["<unk>"],
        initial_alphabet=list("abcdefghijklmnopqrstuvwxyz'"),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    if tokenizer.get_vocab_size() != TEXT_IDS:
        raise ValueError(
            f"the corpus gives {tokenizer.get_vocab_size()} text tokens, {TEXT_IDS} are expected: it is too small"
        )
    reserved = [f"reserved_{i}" for i in range(CONTROL_IDS - len(CONTROL))]
    tokenizer.add_special_tokens([f"<|{name}|>" for name in CONTROL + reserved])
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token="<unk>",
        pad_token="<|pad|>",
        eos_token="<|text_eos|>",
        padding_side="left",
    )
    fast.save_pretrained(args.out)
    length = sum(len(fast(text)["input_ids"]) for text in texts) / sum(len(text) for text in texts)
    print(f"{len(texts)} texts, {1 / length:.2f} characters per token -> {args.out}")


if __name__ == "__main__":
    main()
