"""Training and calibration examples from a JSON Lines file.

One line per example, for a two-stream checkpoint a conversation that ends with the assistant's answer (blocks as in
:mod:`spikeaudio.prompt.messages`; paths are relative to the file), for any other causal language model a text.

    {"messages": [{"role": "user", "content": [{"type": "text", "text": "please transcribe the following audio"},
                                               {"type": "audio", "path": "a.wav"}]},
                  {"role": "assistant", "content": "how are you"}]}
    {"messages": [...], "thought": "what the model writes before it answers"}
    {"text": "any text"}

The file is UTF-8, with or without a byte order mark, and its lines end in "\\n" (or "\\r\\n") alone: other characters
that break lines may stand in a text. `datasets.load_dataset("json")` does not read it. Arrow wants one type per column,
but a content is a text or a list, and its errors name no line. Its rows, where they fit, are taken as they are.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from spikeaudio.prompt.batch import BatchRow, collate
from spikeaudio.prompt.processor import SpikeAudioProcessor


def conversation_example(row: dict[str, Any], processor: SpikeAudioProcessor, folder: Path) -> BatchRow:
    """The streams of a conversation, with labels on its last answer.

    Args:
        row: one line; the text of the last answer may be empty, as for a recording without words.
        processor: processor of the checkpoint.
        folder: where relative paths start.

    Raises:
        ValueError: the last message is not the assistant's, or a message, text or recording is at fault.
    """
    messages = _with_folder(row["messages"], folder)
    thought = row.get("thought")
    if thought is not None and messages and isinstance(messages[-1], dict):
        messages[-1] = messages[-1] | {"thought": thought}
    return processor.turn_reader.example(messages)


def text_example(row: dict[str, Any], tokenizer: Any) -> BatchRow:
    """A text whose every token is a target.

    Raises:
        ValueError: it has fewer than two tokens.
    """
    ids = torch.as_tensor(tokenizer(row["text"])["input_ids"], dtype=torch.long)
    if len(ids) < 2:
        raise ValueError(f"a text needs two tokens at least, got {row['text']!r}")
    return BatchRow({"input_ids": ids, "labels": ids.clone()})


def read_examples(source: str | Path | Iterable[dict[str, Any]], reader: SpikeAudioProcessor | Any) -> list[BatchRow]:
    """All examples of a file, or of rows that are in memory already.

    Args:
        source: path of the file; or its rows, such as a `datasets.Dataset`, whose relative paths start at the working
            directory.
        reader: a `SpikeAudioProcessor` for ``messages``, a tokenizer for ``text``.

    Raises:
        FileNotFoundError: no such file.
        ValueError: there are none, the file is not UTF-8, or a line is not an example; the message names the line.

    >>> processor = SpikeAudioProcessor.from_pretrained("checkpoints/spikeaudio-tiny")
    >>> question = {"role": "user", "content": "what is two plus two"}
    >>> rows = [{"messages": [question, {"role": "assistant", "content": "four"}]}]
    >>> [example] = read_examples(rows, processor)
    >>> sorted(example.ids)
    ['audio_feature_mask', 'audio_input_ids', 'audio_labels', 'input_ids', 'labels']
    """
    name, folder = "the examples", Path()
    rows: Iterable[tuple[int, Any]]
    if isinstance(source, str | Path):
        path = Path(source)
        if not path.is_file():
            raise FileNotFoundError(f"no examples at {path}")
        name, folder, rows = str(path), path.parent, _lines(path)
    else:
        rows = enumerate(source, 1)
    hears = isinstance(reader, SpikeAudioProcessor)
    key, make = "messages" if hears else "text", _maker(reader, folder)
    examples = []
    for number, line in tqdm(rows, desc="reading examples", unit="line", disable=None):
        try:
            row = json.loads(line) if isinstance(line, str) else line
            if not isinstance(row, dict) or key not in row:
                raise ValueError(f"expected an object with {key!r}")
            examples.append(make(row))
        except (ValueError, OSError) as error:
            raise ValueError(f"{name}, line {number}: {error}") from error
    if not examples:
        raise ValueError(f"{name} holds no examples" if isinstance(source, str | Path) else "there are no examples")
    return examples


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Number and text of every line that is not blank."""
    with path.open("rb") as file:  # text mode would also break lines at a lone carriage return
        for number, line in enumerate(file, 1):
            try:
                text = line.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                raise ValueError(
                    f"{path}, line {number}: its byte {error.start + 1}, {line[error.start]:#04x}, is not UTF-8: "
                    "save the file as UTF-8"
                ) from error
            if text.strip():
                yield number, text


def batched(examples: Sequence[BatchRow], tokens: int, pad_token_id: int = 0) -> list[dict[str, Tensor]]:
    """Batches of rows of similar length, each of about `tokens` positions, padding included; at least one row each."""
    batches: list[dict[str, Tensor]] = []
    rows: list[BatchRow] = []
    for each in sorted(examples, key=len):
        if rows and len(each) * (len(rows) + 1) > tokens:
            batches.append(collate(rows, pad_token_id))
            rows = []
        rows.append(each)
    if rows:
        batches.append(collate(rows, pad_token_id))
    return batches


def _maker(reader: SpikeAudioProcessor | Any, folder: Path) -> Callable[[dict[str, Any]], BatchRow]:
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
