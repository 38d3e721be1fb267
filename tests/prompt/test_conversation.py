"""The two streams of prompts and training examples: small tables, and the order of the published prompts."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from spikeaudio.prompt.conversation import build_example, build_prompt, spoken_text_ids
from spikeaudio.prompt.layout import AssistantTurn, PromptLayout, Turn
from tests.fixtures.kimi_prompt import published_prompt_config

BLANK, EOS, BEGIN, END, STOP, USER, ASSISTANT, CT, CTD, THINK = range(400, 410)
LAYOUT = PromptLayout(2, 500, 100, BLANK, EOS, BEGIN, END, STOP, USER, ASSISTANT, CT, CTD)
THINKER = PromptLayout(2, 500, 100, BLANK, EOS, BEGIN, END, STOP, USER, ASSISTANT, CT, CTD, THINK)
I = -100  # noqa: E741


def test_prompt_with_text_and_audio() -> None:
    streams = build_prompt([("text", [1, 2]), ("audio", np.array([5, 6], np.int16))], LAYOUT)
    assert streams.audio_input_ids.tolist() == [USER, BLANK, BLANK, BEGIN, 505, 506, END, CT, STOP, ASSISTANT]
    assert streams.input_ids.tolist() == [BLANK, 1, 2, *[BLANK] * 7]
    assert streams.audio_feature_mask.nonzero().flatten().tolist() == [4, 5]


def test_mode_closes_every_user_turn() -> None:
    history: list[Turn] = [[("text", [1])], AssistantTurn([2])]
    streams = build_prompt([("text", [3])], LAYOUT, "audio", history)
    first = [USER, BLANK, CTD, STOP, ASSISTANT]
    assert streams.audio_input_ids.tolist() == [*first, BLANK, BLANK, STOP, *first]
    assert streams.input_ids.tolist() == [BLANK, 1, *[BLANK] * 3, 2, EOS, BLANK, BLANK, 3, *[BLANK] * 3]


def test_written_example_learns_text_alone() -> None:
    example = build_example([("text", [1])], [2, 3], None, None, LAYOUT)
    assert example.labels.tolist() == [I] * 5 + [2, 3, EOS, I]
    assert example.audio_labels.tolist() == [I] * 9
    assert example.audio_input_ids[-1] == STOP


def test_spoken_example_delays_audio_behind_the_thought() -> None:
    example = build_example([("text", [1])], [2], [7, 8, 9], [4], THINKER)
    assert example.input_ids.tolist()[5:] == [4, THINK, 2, EOS, BLANK, BLANK, BLANK, BLANK]
    assert example.audio_input_ids.tolist()[5:] == [BLANK] * 4 + [507, 508, 509, STOP]
    assert example.labels.tolist()[5:] == [4, THINK, 2, EOS, I, I, I, I]
    assert example.audio_labels.tolist()[5:] == [I] * 4 + [507, 508, 509, STOP]


def test_spoken_example_of_a_thinker_has_an_empty_thought() -> None:
    example = build_example([("text", [1])], [2, 3], [7], None, THINKER)
    text = example.input_ids.tolist()[5:]
    assert text[: text.index(EOS) + 1] == spoken_text_ids([2, 3], THINKER) == [THINK, 2, 3, EOS]
    assert example.audio_input_ids.tolist()[5:].index(507) == 1 + THINKER.audio_delay


def test_example_begins_with_the_prompt() -> None:
    """What a model learns to continue is what it is asked to continue."""
    segments = [("text", [1]), ("audio", torch.tensor([3, 4]))]
    example = build_example(segments, [2], [7], None, LAYOUT, [[("text", [9])], AssistantTurn([8], [1])])
    prompt = build_prompt(segments, LAYOUT, "audio", [[("text", [9])], AssistantTurn([8], [1])])
    for name in ("input_ids", "audio_input_ids", "audio_feature_mask"):
        assert torch.equal(getattr(example, name)[: len(prompt)], getattr(prompt, name))


@pytest.mark.parametrize(
    "segments,mode,message",
    [
        ([], "text", "empty"),
        ([("audio", [100])], "text", r"codes must lie in \[0, 100\)"),
        ([("text", [500])], "text", r"text ids must lie in \[0, 500\)"),
        ([("video", [1])], "text", "'video'"),
        ([("text", [1])], "song", "'song'"),
    ],
)
def test_bad_prompts(segments: list[Any], mode: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build_prompt(segments, LAYOUT, mode)


def test_thought_needs_its_end_mark() -> None:
    with pytest.raises(ValueError, match="think_end_token_id"):
        build_example([("text", [1])], [2], None, [3], LAYOUT)


def _published(case: dict[str, Any], fixture: dict[str, Any]) -> tuple[list[Turn], str]:
    """Turns of a fixture's messages, the stand-in tokenizer being utf-8 bytes."""
    codes = fixture["audio_tokens_before_offset"]
    turns: list[Any] = []
    roles: list[str] = []
    for message in case["messages"]:
        kind, content = message["message_type"], message["content"]
        if message["role"] == "assistant":
            pair = content if kind == "audio-text" else [None, content]
            turns.append(AssistantTurn(list(pair[1].encode()), None if pair[0] is None else codes[pair[0]]))
        else:
            piece = ("text", list(content.encode())) if kind == "text" else ("audio", codes[content])
            if roles and roles[-1] == "user":
                turns[-1].append(piece)
            else:
                turns.append([piece])
        roles.append(message["role"])
    return turns, {"text": "text", "both": "audio"}[case["output_type"]]


def test_a_recording_before_the_question_is_laid_out_behind_it() -> None:
    """Models trained on text first get every turn of one recording so; several recordings keep their order."""
    text, more, heard = ("text", [1, 2]), ("text", [3]), ("audio", [5, 6])

    def same(one: list[Any], other: list[Any]) -> bool:
        return build_prompt(one, LAYOUT).audio_input_ids.equal(build_prompt(other, LAYOUT).audio_input_ids)

    assert same([heard, text], [text, heard])
    assert same([text, heard, more], [text, more, heard]) and same([heard], [heard])
    assert build_example([heard, text], [2], None, None, LAYOUT).labels.equal(
        build_example([text, heard], [2], None, None, LAYOUT).labels
    )
    assert not same([heard, text, heard], [text, heard, heard])


@pytest.mark.golden
def test_order_of_published_prompts(golden_dir: Callable[[str], Path]) -> None:
    """Equal to the published prompts wherever these close a user turn with a mode id, and a past answer is written."""
    fixture = json.loads((golden_dir("kimi_prompt_format") / "fixture.json").read_text())
    layout = PromptLayout.of(published_prompt_config(fixture))
    modes = {layout.speech_text_token_id, layout.speech_both_token_id}
    compared = 0
    for name, case in fixture["inference"].items():
        messages = case["messages"]
        if any(message["role"] == "assistant" and message["message_type"] == "audio" for message in messages):
            continue  # a defect of the published code, not an order to follow
        turns, mode = _published(case, fixture)
        if any(layout.in_trained_order(turn) != turn for turn in turns if isinstance(turn, list)):
            continue  # an order that nobody was trained on
        ours = build_prompt(turns[-1], layout, mode, turns[:-1])  # type: ignore[arg-type]
        pairs = list(zip(ours.audio_input_ids.tolist(), ours.input_ids.tolist(), strict=True))
        theirs = list(zip(case["audio_ids"], case["text_ids"], strict=True))
        spoken_history = any(message["message_type"] == "audio-text" for message in messages)
        eos = layout.text_eos_token_id
        if spoken_history:  # ours keeps its text_eos
            pairs = [(a, layout.blank_token_id if x == eos else x) for a, x in pairs]
        without = [pair for pair in pairs if pair[0] not in modes]
        assert without == [pair for pair in theirs if pair[0] not in modes], name
        if messages[-1]["message_type"] == "audio":
            assert pairs == theirs, name
            mask = [bool(value) for value in case["is_continuous"]]
            assert ours.audio_feature_mask.tolist() == mask, name
        compared += 1
    assert compared
