"""Examples from JSON Lines: the streams that a model trains on, batches with padding, and lines that are wrong."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset

from spikeaudio.audio.files import save_audio
from spikeaudio.lm.modeling import SpikeAudioForConditionalGeneration
from spikeaudio.lm.streams import IGNORED
from spikeaudio.prompt.batch import BatchRow, collate
from spikeaudio.prompt.conversation import build_example
from spikeaudio.prompt.processor import SpikeAudioProcessor
from spikeaudio.training.examples import batched, read_examples

SAY = {"role": "user", "content": "say hello"}
HELLO = {"role": "assistant", "content": "hello"}


@pytest.fixture(scope="module")
def processor(tiny_checkpoint: Path) -> SpikeAudioProcessor:
    return SpikeAudioProcessor.from_pretrained(tiny_checkpoint)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Four conversations: heard, heard without words, spoken, and one with a past."""
    for name, seconds in (("a", 1.0), ("b", 0.5)):
        save_audio(tmp_path / f"{name}.wav", torch.randn(round(seconds * 16000)) * 0.1, 16000)
    heard = {"role": "user", "content": [{"type": "text", "text": "say"}, {"type": "audio", "path": "a.wav"}]}
    wordless = {"role": "user", "content": [{"type": "audio", "path": "b.wav"}]}
    spoken = [{"type": "text", "text": "how are you"}, {"type": "audio", "codes": [3, 1, 4, 1, 5]}]
    hello = {"role": "assistant", "content": "hello world"}
    return write(
        tmp_path,
        {"messages": [heard, hello]},
        {"messages": [wordless, {"role": "assistant", "content": ""}]},
        {"messages": [{"role": "user", "content": "say how are you"}, {"role": "assistant", "content": spoken}]},
        {"messages": [heard, hello, wordless, hello]},
    )


def write(folder: Path, *rows: Any) -> Path:
    path = folder / "data.jsonl"
    path.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows) + "\n\n")
    return path


def features_of(row: BatchRow) -> torch.Tensor:
    return torch.cat([each["audio_features"] for each in row.inputs])


def test_conversations_become_streams(processor: SpikeAudioProcessor, data: Path) -> None:
    first, wordless, spoken, long = read_examples(data, processor)
    [tokens] = processor.speech_tokenizer.encode([processor.load(data.parent / "a.wav")])
    segments = [("text", processor.text_ids("say")), ("audio", tokens.codes)]
    expected = build_example(segments, processor.text_ids("hello world"), None, None, processor.layout)
    for name, ids in first.ids.items():
        assert torch.equal(ids, getattr(expected, name)), name
    assert torch.allclose(features_of(first), tokens.features)
    assert wordless.ids["labels"][wordless.ids["labels"] != IGNORED].tolist() == [processor.layout.text_eos_token_id]
    offset = processor.layout.audio_token_offset
    targets = spoken.ids["audio_labels"]
    assert targets[targets >= offset].tolist() == [offset + code for code in (3, 1, 4, 1, 5)]
    assert not spoken.inputs
    learned = (long.ids["labels"] != IGNORED).nonzero().flatten()
    assert learned.min() > len(first)  # the last answer alone
    assert len(features_of(long)) == int(long.ids["audio_feature_mask"].sum())


def test_a_thought_comes_before_the_answer(thinking_checkpoint: Path, tmp_path: Path) -> None:
    processor = SpikeAudioProcessor.from_pretrained(thinking_checkpoint)
    messages = [{"role": "user", "content": "say hello"}, {"role": "assistant", "content": "hello"}]
    [with_thought] = read_examples(write(tmp_path, {"messages": messages, "thought": "are you"}), processor)
    targets = with_thought.ids["labels"][with_thought.ids["labels"] != IGNORED].tolist()
    end = targets.index(processor.layout.think_end_token_id)
    assert processor.text_of(targets[:end]) == "are you" and processor.text_of(targets[end:]) == "hello"


def test_padding_changes_no_loss(processor: SpikeAudioProcessor, data: Path, tiny_checkpoint: Path) -> None:
    model = SpikeAudioForConditionalGeneration.from_pretrained(tiny_checkpoint, dtype=torch.float32).eval()
    examples = read_examples(data, processor)
    with torch.no_grad():
        whole = model(**collate(examples, 1), skip_logits=True)
        single = [(model(**collate([each], 1), skip_logits=True), each) for each in examples]
    for name in ("labels", "audio_labels"):
        counts = [int((each.ids[name] != IGNORED).sum()) for _, each in single]
        losses = [getattr(out, "text_loss" if name == "labels" else "audio_loss") for out, _ in single]
        mean = sum(loss * count for loss, count in zip(losses, counts, strict=True)) / sum(counts)
        torch.testing.assert_close(getattr(whole, "text_loss" if name == "labels" else "audio_loss"), mean)


def test_batches_hold_every_example_once(processor: SpikeAudioProcessor, data: Path) -> None:
    examples = read_examples(data, processor)
    batches = batched(examples, tokens=60)
    assert sum(len(batch["input_ids"]) for batch in batches) == len(examples)
    assert all(batch["input_ids"].numel() <= 60 or len(batch["input_ids"]) == 1 for batch in batches)
    assert sum(int(batch["attention_mask"].sum()) for batch in batches) == sum(map(len, examples))


def test_texts_for_any_language_model(processor: SpikeAudioProcessor, tmp_path: Path) -> None:
    [example] = read_examples(write(tmp_path, {"text": "hello world"}), processor.tokenizer)
    assert example.ids["labels"].tolist() == example.ids["input_ids"].tolist() == processor.text_ids("hello world")
    assert set(collate([example])) == {"input_ids", "labels", "attention_mask"}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "line 1: Expecting property name"),
        ("[1]", "line 1: expected an object with 'messages'"),
        ({"text": "hello"}, "line 1: expected an object with 'messages'"),
        ({"messages": "hello"}, "line 1: messages must be a list, got str"),
        ({"messages": []}, "line 1: the conversation is empty"),
        ({"messages": [{"role": "user", "content": "say"}]}, "must be the assistant's"),
        ({"messages": [{"role": "user", "content": None}, HELLO]}, "must be a text or a list of blocks, got NoneType"),
        (
            {"messages": [SAY, {"role": "assistant", "content": None}]},
            "must be a text or a list of blocks, got NoneType",
        ),
        (
            {"messages": [SAY, {"role": "assistant", "content": [{"type": "text", "text": 3}]}]},
            "the text of a block must be a str, got int",
        ),
        ({"messages": [SAY, HELLO], "thought": 7}, "the thought of a message must be a text, got int"),
        (
            {
                "messages": [
                    {"role": "user", "content": [{"type": "audio", "path": "lost.wav"}]},
                    {"role": "assistant", "content": "hello"},
                ]
            },
            r"line 1: .*lost\.wav",
        ),
        ("", "holds no examples"),
    ],
)
def test_wrong_lines_are_named(processor: SpikeAudioProcessor, tmp_path: Path, line: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_examples(write(tmp_path, line), processor)


def test_lines_end_in_newlines_alone(processor: SpikeAudioProcessor, tmp_path: Path) -> None:
    """Characters at which `str.splitlines` breaks may stand in a text; a byte order mark may stand before all."""
    breaks = "\u2028\u2029\x85\x0b\x0c\x1c"
    row = json.dumps({"messages": [{"role": "user", "content": f"say {breaks}hello"}, HELLO]}, ensure_ascii=False)
    path = tmp_path / "data.jsonl"
    plain = read_examples(write(tmp_path, {"messages": [SAY, HELLO]}), processor)[0].ids
    path.write_bytes(b"\xef\xbb\xbf" + f"{row}\r\n\n{row}".encode())
    for each in read_examples(path, processor):
        assert each.ids["input_ids"].tolist() == plain["input_ids"].tolist()
    path.write_bytes(f"{row}\n".encode() + row.encode().replace(b"hello", b"caf\xe9"))
    with pytest.raises(ValueError, match=r"line 2: its byte \d+, 0xe9, is not UTF-8: save the file as UTF-8"):
        read_examples(path, processor)


def test_rows_in_memory(processor: SpikeAudioProcessor, tmp_path: Path) -> None:
    """What `datasets` makes of lines: keys that a block lacks are None."""
    rows = [
        {"messages": [{"role": role, "content": [{"type": "text", "text": text}]} for role, text in turns]}
        for turns in ([("user", "say hello"), ("assistant", "hello")], [("user", "say how"), ("assistant", "how")])
    ]
    rows[0]["messages"][0]["content"][0] |= {"path": None, "codes": None, "ids": None}  # type: ignore[arg-type]
    expected = read_examples(write(tmp_path, *rows), processor)
    for one, other in zip(read_examples(Dataset.from_list(rows), processor), expected, strict=True):
        assert one.ids.keys() == other.ids.keys()
        assert all(torch.equal(one.ids[name], other.ids[name]) for name in one.ids)
    with pytest.raises(ValueError, match="the examples, line 2: expected an object with 'messages'"):
        read_examples([rows[0], {"text": "hello"}], processor)
    with pytest.raises(ValueError, match="there are no examples"):
        read_examples([], processor)


def test_wrong_files(processor: SpikeAudioProcessor, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no examples at"):
        read_examples(tmp_path / "lost.jsonl", processor)
    (tmp_path / "audio.jsonl").write_bytes(bytes(range(200, 256)) * 4)
    with pytest.raises(ValueError, match="line 1"):
        read_examples(tmp_path / "audio.jsonl", processor)
    with pytest.raises(ValueError, match="a text needs two tokens at least"):
        read_examples(write(tmp_path, {"text": ""}), processor.tokenizer)
