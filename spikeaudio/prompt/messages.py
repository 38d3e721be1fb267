"""Chat messages as people and transformers write them, read into a form with no choices left.

    {"role": "user" | "assistant", "content": a text, or blocks}
    blocks: [{"type": "text", "text": ...}, {"type": "audio", "path" | "url" | "audio": ..., "sampling_rate": ...}]

Messages of one role in a row are one turn. A text block may hold "ids" in place of a text. In an assistant's message an
audio block may hold "codes" in place of a recording: the very codes that it said. An assistant's message may also hold
a "thought": what the model wrote, or is to write, before its answer.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np
from torch import Tensor
from transformers.audio_utils import load_audio as load_audio_url

from spikeaudio.audio.files import decode_audio, load_audio
from spikeaudio.audio.samples import check_wav, resample

Audio = str | Path | np.ndarray | Tensor
"""A recording: a path, a URL, or samples."""
Messages = Sequence[dict[str, Any]]
Block = dict[str, Any]

_AUDIO_KEYS = ("audio", "path", "url")


@dataclass
class Message:
    """One message, or several of one role in a row.

    Attributes:
        role: "user" or "assistant".
        blocks: its content.
        thought: text that the assistant writes before it answers; None: nothing is said about it.
    """

    role: str
    blocks: list[Block]
    thought: str | None = None


def read_turns(messages: Messages) -> list[Message]:
    """Turns of a conversation, of which the first one is the user's.

    Raises:
        ValueError: there are no messages, a role or block is unknown, or the first message is not the user's.
    """
    turns: list[Message] = []
    for each in messages:
        message = read_message(each)
        if turns and turns[-1].role == message.role:
            turns[-1].blocks.extend(message.blocks)
            turns[-1].thought = message.thought if turns[-1].thought is None else turns[-1].thought
        else:
            turns.append(message)
    if not turns:
        raise ValueError("the conversation is empty: expected at least one message")
    if turns[0].role != "user":
        raise ValueError("the first message of a conversation must be the user's, got one of the assistant")
    return turns


def recording_of(block: Block) -> Audio:
    """The recording of an audio block.

    Raises:
        ValueError: it holds none, or more than one.
    """
    found = [block[key] for key in _AUDIO_KEYS if block.get(key) is not None]
    if len(found) != 1:
        came = sorted(set(block) - {"type"})
        raise ValueError(f"an audio block must hold exactly one of {', '.join(_AUDIO_KEYS)}, got {came}")
    return found[0]


def is_recording(value: Any) -> bool:
    """Whether `value` is samples or a `Path`, or a list of them; a str may be a text as well."""
    first = value[0] if isinstance(value, list | tuple) and value else value
    return isinstance(first, np.ndarray | Tensor | Path)


def is_batch(value: Any) -> TypeGuard[Sequence[Any]]:
    """Whether `value` is a list of texts or recordings, rather than one of them; a list of numbers is one recording."""
    return isinstance(value, list | tuple) and not (value and isinstance(value[0], int | float)) and not _is_pair(value)


def _is_pair(value: Any) -> bool:
    """Whether `value` is (samples, Hz)."""
    return isinstance(value, tuple) and len(value) == 2 and isinstance(value[1], int | float)


def load_recording(audio: Any, sampling_rate: int, array_rate: int | None = None) -> Tensor:
    """A recording as (N,) float32 samples.

    Args:
        audio: a path, a URL, or samples; also (samples, Hz), a dict with "array" or "raw" and "sampling_rate" or with
            "bytes" or "path" (as `datasets` gives it), the bytes of a file, an open binary file, or a `Speech`.
        sampling_rate: Hz of the result.
        array_rate: Hz of `audio` if it is samples; None: `sampling_rate`.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not audio, no samples, NaN or infinity.
    """
    if isinstance(audio, dict):
        found = [name for name in ("array", "raw", "bytes", "path") if audio.get(name) is not None]
        if not found:
            raise ValueError(f"a recording as a dict holds array, raw, bytes or path, got the keys {sorted(audio)}")
        return load_recording(audio[found[0]], sampling_rate, audio.get("sampling_rate", array_rate))
    if _is_pair(audio):
        audio, array_rate = audio
    elif hasattr(audio, "wav") and hasattr(audio, "sampling_rate"):
        audio, array_rate = audio.wav, audio.sampling_rate
    if isinstance(audio, bytes | bytearray | memoryview):
        return decode_audio(BytesIO(audio), sampling_rate, "the recording")
    if hasattr(audio, "read"):
        return decode_audio(audio, sampling_rate, str(getattr(audio, "name", "the recording")))
    if audio is None or (isinstance(audio, str) and not audio):
        raise ValueError("there is no recording: expected a path or samples, got None or an empty text")
    if isinstance(audio, str) and audio.startswith(("http://", "https://")):
        return check_wav(load_audio_url(audio, sampling_rate), name=audio)
    if isinstance(audio, str | Path):
        return load_audio(audio, sampling_rate)
    return resample(check_wav(audio), sampling_rate if array_rate is None else int(array_rate), sampling_rate)


def as_list(value: Any) -> list[Any] | None:
    """One or several of something as a list."""
    if value is None:
        return None
    if not is_batch(value):
        return [value]
    if not value:
        raise ValueError("got an empty list: expected at least one text or recording")
    return list(value)


def read_message(message: Any) -> Message:
    """One message, checked.

    Raises:
        ValueError: it is no dict with a role and content, or a role, block or thought is at fault.
    """
    if not isinstance(message, dict) or "role" not in message or "content" not in message:
        raise ValueError("a message must be a dict with 'role' and 'content'")
    role, content, thought = message["role"], message["content"], message.get("thought")
    if role not in ("user", "assistant"):
        raise ValueError(f"the role of a message must be 'user' or 'assistant', got {role!r}")
    if not isinstance(content, str | list | tuple):
        raise ValueError(f"the content of a message must be a text or a list of blocks, got {type(content).__name__}")
    if not isinstance(thought, str | None):
        raise ValueError(f"the thought of a message must be a text, got {type(thought).__name__}")
    if role == "user" and thought is not None:
        raise ValueError("a thought belongs into a message of the assistant, got one of the user")
    blocks = [{"type": "text", "text": content}] if isinstance(content, str) else list(content)
    for block in blocks:
        kind = block.get("type") if isinstance(block, dict) else block
        if kind == "text" and not isinstance(block.get("text", ""), str):
            raise ValueError(f"the text of a block must be a str, got {type(block['text']).__name__}")
        if kind not in ("text", "audio") or (kind == "text" and not {"text", "ids"} & set(block)):
            raise ValueError(
                "a block of content must be {'type': 'text', 'text': ...} or "
                f"{{'type': 'audio', 'path' | 'url' | 'audio': ...}}, got the type {kind!r}"
            )
    return Message(role, blocks, thought)
