"""Training and calibration examples from a JSON Lines file.

One line per example, for a two-stream checkpoint a conversation that ends with the assistant's answer (blocks as in
:mod:`spikeaudio.prompt.messages`; paths are relative to the file), for any other causal language model a text:

    {"messages": [{"role": "user", "content": [{"type": "text", "text": "please transcribe the following audio"},
                                               {"type": "audio", "path": "a.wav"}]},
                  {"role": "assistant", "content": "how are you"}]}
    {"messages": [...], "thought": "what the model writes before it answers"}
    {"text": "any text"}
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from tqdm import tqdm

from spikeaudio.lm.streams import IGNORED
from spikeaudio.prompt.conversation import Example, build_example
from spikeaudio.prompt.messages import read_message
from spikeaudio.prompt.processor import SpikeAudioProcessor


@dataclass(frozen=True)
class ModelExample:
    """One row of a batch before it is padded.

    Attributes:
        ids: by name of the model's input, (T,) each; labels included.
        features: (S, D) of the recordings in it; None: there are none.
    """

    ids: dict[str, Tensor]
    features: Tensor | None = None

    def __len__(self) -> int:
        return len(next(iter(self.ids.values())))


def conversation_example(row: dict[str, Any], processor: SpikeAudioProcessor, folder: Path) -> ModelExample:
    """The streams of a conversation, with labels on its last answer.

    Args:
        row: one line; the text of the last answer may be empty, as for a recording without words.
        processor: of the checkpoint.
        folder: where relative paths start.

    Raises:
        ValueError: the last message is not the assistant's, or a message, text or recording is at fault.
    """
    *past, last = _with_folder(row["messages"], folder) or [None]
    if not isinstance(last, dict) or last.get("role") != "assistant":
        raise ValueError("the last message of an example must be the assistant's")

    def text_ids(text: str) -> list[int]:
        return processor.text_ids(text) if text.strip() else []

    thought = row.get("thought")
    if not isinstance(thought, str | None):
        raise ValueError(f"the thought of an example must be a text, got {type(thought).__name__}")
    reader = processor.turn_reader
    turns, asked, heard = reader.turns(past)
    answer = replace(reader, text_ids=text_ids).answer(read_message(last)[1])
    think = None if thought is None else text_ids(thought)
    example: Example = build_example(asked, answer.text_ids, answer.codes, think, processor.layout, turns)
    ids = {
        "input_ids": example.input_ids,
        "audio_input_ids": example.audio_input_ids,
        "labels": example.labels,
        "audio_labels": example.audio_labels,
        "audio_feature_mask": example.audio_feature_mask,
    }
    return ModelExample(ids, torch.cat([item.features for item in heard]).float() if heard else None)


def text_example(row: dict[str, Any], tokenizer: Any) -> ModelExample:
    """A text whose every token is a target.

    Raises:
        ValueError: it has fewer than two tokens.
    """
    ids = torch.as_tensor(tokenizer(row["text"])["input_ids"], dtype=torch.long)
    if len(ids) < 2:
        raise ValueError(f"a text needs two tokens at least, got {row['text']!r}")
    return ModelExample({"input_ids": ids, "labels": ids.clone()})


def read_examples(path: str | Path, reader: SpikeAudioProcessor | Any) -> list[ModelExample]:
    """All examples of a file.

    Args:
        path: of the file.
        reader: a `SpikeAudioProcessor` for ``messages``, a tokenizer for ``text``.

    Raises:
        FileNotFoundError: no such file.
        ValueError: it is empty, or a line is not an example; the message names the line.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no examples at {path}")
    hears = isinstance(reader, SpikeAudioProcessor)
    key, make = "messages" if hears else "text", _maker(reader, path.parent)
    examples = []
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    for number, line in enumerate(tqdm(lines, desc="reading examples", unit="line", disable=None), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            if not isinstance(row, dict) or key not in row:
                raise ValueError(f"expected an object with {key!r}")
            examples.append(make(row))
        except (ValueError, OSError) as error:
            raise ValueError(f"{path}, line {number}: {error}") from error
    if not examples:
        raise ValueError(f"{path} holds no examples")
    return examples


def collate(examples: Sequence[ModelExample], pad_token_id: int = 0) -> dict[str, Tensor]:
    """One batch, padded on the right.

    Args:
        examples: B rows of one kind.
        pad_token_id: fills ids; labels get -100, masks 0.

    Returns:
        The ids of every row (B, T), ``attention_mask`` (B, T) long, and, where any row has some, ``audio_features``
        (B, S, D) float32.
    """
    fill = {"labels": IGNORED, "audio_labels": IGNORED, "audio_feature_mask": False}
    batch = {
        name: pad_sequence(
            [each.ids[name] for each in examples], batch_first=True, padding_value=fill.get(name, pad_token_id)
        )
        for name in examples[0].ids
    }
    longest = batch["input_ids"].shape[1]
    lengths = torch.tensor([len(each) for each in examples])
    batch["attention_mask"] = (torch.arange(longest) < lengths[:, None]).long()
    sizes = [each.features.shape[1] for each in examples if each.features is not None]
    if sizes:
        none = torch.zeros(0, sizes[0])
        batch["audio_features"] = pad_sequence(
            [none if each.features is None else each.features for each in examples], batch_first=True
        )
    else:
        batch.pop("audio_feature_mask", None)
    return batch


def batched(examples: Sequence[ModelExample], tokens: int, pad_token_id: int = 0) -> list[dict[str, Tensor]]:
    """Batches of rows of similar length, each of about `tokens` positions, padding included; at least one row each."""
    batches: list[dict[str, Tensor]] = []
    rows: list[ModelExample] = []
    for each in sorted(examples, key=len):
        if rows and len(each) * (len(rows) + 1) > tokens:
            batches.append(collate(rows, pad_token_id))
            rows = []
        rows.append(each)
    if rows:
        batches.append(collate(rows, pad_token_id))
    return batches


def _maker(reader: SpikeAudioProcessor | Any, folder: Path) -> Callable[[dict[str, Any]], ModelExample]:
    if isinstance(reader, SpikeAudioProcessor):
        return lambda row: conversation_example(row, reader, folder)
    return lambda row: text_example(row, reader)


def _with_folder(messages: Any, folder: Path) -> list[Any]:
    """The messages with paths of recordings seen from `folder`."""
    if not isinstance(messages, list):
        raise ValueError(f"messages must be a list, got {type(messages).__name__}")
    out = []
    for message in messages:
        content = message.get("content") if isinstance(message, dict) else None
        if isinstance(content, list):
            blocks = [
                block | {"path": str(folder / block["path"])}
                if isinstance(block, dict) and isinstance(block.get("path"), str)
                else block
                for block in content
            ]
            message = message | {"content": blocks}
        out.append(message)
    return out
