"""Streamed text ends between words, whatever the script."""

from types import SimpleNamespace

import pytest
import torch

from spikeaudio.speech.events import TextEvent
from spikeaudio.speech.streamer import AudioTextStreamer

BLANK, EOS = 256, 257


@pytest.mark.parametrize(
    "text,pieces",
    [
        ("we are here", ["we ", "are ", "here"]),
        ("你好，世界。", ["你", "好", "，", "世", "界", "。"]),
        ("say 你好 now", ["say ", "你", "好", " ", "now"]),
        ("カタカナ", ["カ", "タ", "カ", "ナ"]),
        ("", []),
    ],
)
def test_words_come_whole_and_at_once(text: str, pieces: list[str]) -> None:
    """One byte per step: a character of several bytes appears when its last one is there."""
    processor = SimpleNamespace(
        layout=SimpleNamespace(think_end_token_id=None, text_eos_token_id=EOS, blank_token_id=BLANK),
        text_of=lambda ids: bytes(ids).decode("utf-8", errors="replace"),
    )
    streamer = AudioTextStreamer(processor)  # type: ignore[arg-type]
    for token in [*text.encode(), BLANK, EOS]:
        streamer.put_streams(torch.tensor([token]), torch.tensor([BLANK]))
    streamer.end()
    events = list(streamer)
    assert all(isinstance(event, TextEvent) for event in events)
    assert [event.text for event in events if isinstance(event, TextEvent)] == pieces
