"""Kimi-Audio's prompts and training examples: equal to the published ones where these are sound, refused elsewhere."""

from collections.abc import Callable
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from spikeaudio.lm.configuration import SpikeAudioConfig
from spikeaudio.lm.streams import IGNORED
from spikeaudio.prompt.batch import BatchRow
from spikeaudio.prompt.conversation import build_example, build_prompt, layout_of, read_layout
from spikeaudio.prompt.kimi_layout import KimiPromptLayout
from spikeaudio.prompt.layout import AssistantTurn, PromptLayout, PromptStreams, Segment, Turn, join
from spikeaudio.prompt.processor import SpikeAudioProcessor
from spikeaudio.training.examples import conversation_example
from tests.fixtures.kimi_prompt import PromptFixture, byte_tokenizer

BLANK, EOS, BEGIN, END, STOP, USER, ASSISTANT, CT, CTD = range(400, 409)
LAYOUT = KimiPromptLayout(2, 500, 100, BLANK, EOS, BEGIN, END, STOP, USER, ASSISTANT, CT, CTD)
HEARD: Segment = ("audio", [5, 6])
I = IGNORED  # noqa: E741


@pytest.fixture(scope="module")
def fixture(golden_dir: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> PromptFixture:
    return PromptFixture(golden_dir("kimi_prompt_format"), tmp_path_factory.mktemp("recordings"))


def audio(streams: PromptStreams) -> list[int]:
    return streams.audio_input_ids.tolist()


# -- small tables ------------------------------------------------------------------------------------------------------


def test_mode_follows_a_recording_alone() -> None:
    ending = [STOP, ASSISTANT]
    assert audio(build_prompt([HEARD], LAYOUT)) == [USER, BEGIN, 505, 506, END, CT, *ending]
    assert audio(build_prompt([("text", [1]), HEARD], LAYOUT, "audio"))[-3:] == [CTD, *ending]
    for mode in ("text", "audio"):
        assert audio(build_prompt([("text", [1])], LAYOUT, mode)) == [USER, BLANK, *ending]  # type: ignore[arg-type]


def test_past_answers() -> None:
    history: list[Turn] = [[HEARD], AssistantTurn([1, 2, 3], [7, 8]), [HEARD], AssistantTurn([4])]
    streams = build_prompt([HEARD], LAYOUT, "audio", history)
    heard = [USER, BEGIN, 505, 506, END, CTD, STOP, ASSISTANT]
    assert audio(streams) == [*heard, BLANK, BLANK, 507, 508, STOP, *heard, BLANK, BLANK, STOP, *heard]
    silent = [BLANK] * len(heard)
    assert streams.input_ids.tolist() == [*silent, 1, 2, 3, BLANK, BLANK, *silent, 4, EOS, BLANK, *silent]
    said = torch.tensor(audio(streams)) >= 500
    said[len(heard) : len(heard) + 5] = False  # what the assistant said has no features
    assert torch.equal(streams.audio_feature_mask, said)


def test_a_learned_answer_ends_its_speech_twice_and_learns_the_first_end() -> None:
    example = build_example([HEARD], [1], [7, 8], None, LAYOUT)
    assert audio(example)[8:] == [BLANK, BLANK, 507, 508, END, STOP]
    assert example.input_ids.tolist()[8:] == [1, EOS, *[BLANK] * 4]
    assert example.labels.tolist()[8:] == [1, EOS, I, I, I, I]
    assert example.audio_labels.tolist() == [I] * 10 + [507, 508, END, I]


def test_several_recordings_in_one_turn() -> None:
    streams = build_prompt([("text", [1]), HEARD, ("text", [2]), ("audio", [9])], LAYOUT)
    assert audio(streams)[1:-3] == [BLANK, BEGIN, 505, 506, END, BLANK, BEGIN, 509, END]
    assert audio(streams).count(CT) == 1


@pytest.mark.parametrize(
    "segments,history,message",
    [
        ([HEARD, ("text", [1])], [], "text comes after the last recording"),
        ([HEARD], [[HEARD, ("text", [1])], AssistantTurn([1])], "text comes after the last recording"),
        ([HEARD], [[HEARD], AssistantTurn([1, 2, 3, 4], [7])], "4 text ids for 1 codes.* at most 3"),
        ([HEARD], [[HEARD], AssistantTurn([1], [7], [2])], "thoughts need a think_end_token_id"),
        ([HEARD], [[HEARD], AssistantTurn([500], [7])], r"text ids must lie in \[0, 500\)"),
        ([], [], "turn is empty"),
        ([("audio", [100])], [], r"codes must lie in \[0, 100\)"),
    ],
)
def test_orders_without_training_are_refused(segments: list[Segment], history: list[Turn], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build_prompt(segments, LAYOUT, "text", history)


def test_the_checkpoint_names_its_layout(tmp_path: Path) -> None:
    kimi, own = SpikeAudioConfig(prompt_format="kimi"), SpikeAudioConfig()
    assert type(layout_of(kimi)) is KimiPromptLayout and type(layout_of(own)) is PromptLayout
    assert layout_of(kimi) != layout_of(own)  # so `check_parts` tells them apart
    for config in (kimi, own):
        assert read_layout(layout_of(config).to_dict()) == layout_of(config)
    SpikeAudioProcessor.of(kimi, byte_tokenizer(), None, spell_out=False).save_pretrained(tmp_path)
    assert SpikeAudioProcessor.from_pretrained(tmp_path).layout == layout_of(kimi)
    with pytest.raises(ValueError, match="prompt_format must be one of 'spikeaudio', 'kimi', got 'chatml'"):
        layout_of(SpikeAudioConfig(prompt_format="chatml"))
    with pytest.raises(ValueError, match=r"does not hold the fields it must.*msg_end_token_id"):
        read_layout({name: value for name, value in LAYOUT.to_dict().items() if name != "msg_end_token_id"})


# -- the published prompts ---------------------------------------------------------------------------------------------


def refusal(messages: list[dict[str, Any]]) -> str | None:
    """What is said about published messages in an order without training; None for sound ones."""
    for role, run in groupby(messages, key=lambda message: message["role"]):
        kinds = [message["message_type"] for message in run]
        if role == "assistant" and kinds == ["audio"]:
            return "assistant's message holds text"
        if role == "user" and "audio" in kinds and kinds[-1] != "audio":
            return "text comes after the last recording"
    return None


@pytest.mark.golden
def test_published_prompts(fixture: PromptFixture) -> None:
    """Both streams, the mask and the features of every record in a trained order, from its messages."""
    sound = 0
    for name, case in fixture.record["inference"].items():
        messages, refused = fixture.messages(case["messages"]), refusal(case["messages"])
        if refused:
            with pytest.raises(ValueError, match=refused):
                fixture.processor.apply_chat_template(messages, output_modalities=case["output_type"])
            continue
        batch = fixture.processor.apply_chat_template(messages, output_modalities=case["output_type"])
        assert batch["audio_input_ids"][0].tolist() == case["audio_ids"], name
        assert batch["input_ids"][0].tolist() == case["text_ids"], name
        mask = batch.get("audio_feature_mask", torch.zeros_like(batch["input_ids"]))
        assert mask[0].long().tolist() == case["is_continuous"], name
        features = batch["audio_features"][0] if case["features"] else torch.zeros(0, 3)
        assert torch.equal(features, fixture.features(case["features"])), name
        sound += 1
    assert sound


@pytest.mark.golden
def test_published_prompts_as_one_batch(fixture: PromptFixture) -> None:
    cases = [each for each in fixture.record["inference"].values() if not refusal(each["messages"])]
    written = [each for each in cases if each["output_type"] == "text"]
    batch = fixture.processor.apply_chat_template([fixture.messages(case["messages"]) for case in written])
    for row, case in enumerate(written):
        length = len(case["audio_ids"])
        assert batch["audio_input_ids"][row, -length:].tolist() == case["audio_ids"]
        assert batch["input_ids"][row, -length:].tolist() == case["text_ids"]
        assert batch["attention_mask"][row].sum() == length == batch["attention_mask"][row, -length:].sum()
        assert batch["audio_feature_mask"][row].sum() == sum(case["is_continuous"])
        expected = fixture.features(case["features"])
        assert torch.equal(batch["audio_features"][row, : len(expected)], expected)


def without_first(streams: PromptStreams) -> PromptStreams:
    return PromptStreams(streams.input_ids[1:], streams.audio_input_ids[1:], streams.audio_feature_mask[1:])


def as_published(
    conversation: list[dict[str, Any]], fixture: PromptFixture, output_type: str
) -> tuple[PromptStreams, Tensor, Tensor]:
    """Streams of the published prompt manager for any messages, its defects included, and what its loss would learn.

    A recording of the assistant is laid out as if the user had said it, and learned.
    """
    layout = layout_of(fixture.config)
    parts: list[PromptStreams] = []
    text_learned: list[bool] = []
    audio_learned: list[bool] = []

    def add(part: PromptStreams, text: bool = False, codes: bool = False) -> None:
        parts.append(part)
        text_learned.extend([text] * len(part))
        audio_learned.extend([codes] * len(part))

    for role, run in groupby(conversation, key=lambda message: message["role"]):
        messages = list(run)
        ours = role == "assistant"
        add(layout.marks(layout.assistant_start_token_id if ours else layout.user_start_token_id))
        for message in messages:
            kind, content = message["message_type"], message["content"]
            if kind == "audio-text":
                spoken = AssistantTurn(list(content[1].encode()), fixture.codes[content[0]])
                add(layout.past_answer(spoken).without_last())  # without msg_end, which ends the run below
            elif kind == "audio":
                heard = layout.pieces([("audio", fixture.codes[content])])
                add(layout.marks(layout.media_begin_token_id))
                add(
                    PromptStreams(heard.input_ids[1:], heard.audio_input_ids[1:], heard.audio_feature_mask[1:]),
                    codes=ours,
                )
                if message is messages[-1]:
                    add(layout.marks(layout.mode_token_id("text" if output_type == "text" else "audio")))
            else:
                ids = list(content.encode()) + ([layout.text_eos_token_id] if ours else [])
                add(layout.pieces([("text", ids)]), text=ours)
        add(layout.marks(layout.msg_end_token_id))
    return join(parts), torch.tensor(text_learned), torch.tensor(audio_learned)


@pytest.mark.golden
def test_every_published_prompt_piece_by_piece(fixture: PromptFixture) -> None:
    """The refused orders too: what we refuse, we could have written."""
    layout = layout_of(fixture.config)
    for name, case in fixture.record["inference"].items():
        streams, _, _ = as_published(case["messages"], fixture, case["output_type"])
        streams = join([streams, layout.marks(layout.assistant_start_token_id)])
        assert audio(streams) == case["audio_ids"], name
        assert streams.input_ids.tolist() == case["text_ids"], name
        assert streams.audio_feature_mask.long().tolist() == case["is_continuous"], name


def features_of(row: BatchRow) -> Tensor:
    return torch.cat([each["audio_features"] for each in row.inputs])


def shifted(ids: Tensor, last: int) -> list[int]:
    return [*ids[1:].tolist(), last]


@pytest.mark.golden
def test_every_published_training_row_piece_by_piece(fixture: PromptFixture) -> None:
    """Streams, labels and masks of the loss after the shift, defects included."""
    pad = fixture.record["pad_id"]
    for name, case in fixture.record["finetune"].items():
        kind = "text" if case["row"]["task_type"] == "understanding" else "both"
        streams, text_learned, audio_learned = as_published(case["row"]["conversation"], fixture, kind)
        assert audio(streams) == case["audio_ids"], name
        assert streams.input_ids.tolist() == case["text_ids"], name
        assert streams.audio_feature_mask.long().tolist() == case["is_continuous"], name
        assert shifted(streams.audio_input_ids, pad) == case["audio_labels"], name
        assert shifted(streams.input_ids, pad) == case["text_labels"], name
        assert shifted(text_learned.long(), 0) == case["text_loss_mask"], name
        assert shifted(audio_learned.long(), 0) == case["audio_loss_mask"], name


@pytest.mark.golden
def test_training_rows(fixture: PromptFixture) -> None:
    """Rows that teach text are the published ones; those that teach speech learn what the model generates."""
    pad, layout = fixture.record["pad_id"], fixture.processor.layout
    compared = set()
    for name, case in fixture.record["finetune"].items():
        conversation = case["row"]["conversation"]
        answer = [message for message in conversation if message["role"] == "assistant"]
        row = {"messages": fixture.messages(conversation)}
        last = [message["message_type"] for message in answer]
        if last == ["audio"]:
            with pytest.raises(ValueError, match="assistant's message holds text"):
                conversation_example(row, fixture.processor, fixture.folder)
            continue
        messages = row["messages"][: -len(answer)]
        blocks = [block for message in row["messages"][-len(answer) :] for block in message["content"]]
        example = conversation_example(
            {"messages": [*messages, {"role": "assistant", "content": blocks}]}, fixture.processor, fixture.folder
        )
        ids = example.ids
        if last == ["text"]:
            compared.add("text")
            assert ids["audio_input_ids"].tolist() == case["audio_ids"], name
            assert ids["input_ids"].tolist() == case["text_ids"], name
            assert ids["audio_feature_mask"].long().tolist() == case["is_continuous"], name
            assert torch.equal(features_of(example), fixture.features(case["features"]))
            for stream, labels in (("text", ids["labels"]), ("audio", ids["audio_labels"])):
                theirs = torch.tensor(case[f"{stream}_labels"])
                mask = torch.tensor(case[f"{stream}_loss_mask"]).bool()
                assert shifted(labels, I) == torch.where(mask, theirs, I).tolist(), name
        else:
            compared.add("speech")
            [text], [code] = ([b for b in blocks if b["type"] == kind] for kind in ("text", "audio"))
            codes = fixture.codes[Path(code["path"]).name]
            answer_start = len(ids["input_ids"]) - (layout.audio_delay + len(codes) + 2)
            assert ids["audio_input_ids"][answer_start - 1] == layout.assistant_start_token_id
            speech = ids["audio_labels"][answer_start:]
            learned = [code + layout.audio_token_offset for code in codes]
            assert speech[speech != I].tolist() == [*learned, layout.media_end_token_id]
            words = ids["labels"][answer_start:]
            assert words[words != I].tolist() == [*text["text"].encode(), layout.text_eos_token_id]
            assert not ids["audio_feature_mask"][answer_start:].any()
            assert (ids["labels"][:answer_start] == I).all() and (ids["audio_labels"][:answer_start] == I).all()
    assert "text" in compared
    assert pad not in {layout.blank_token_id, layout.text_eos_token_id}


# -- bad input ---------------------------------------------------------------------------------------------------------


def user(*blocks: dict[str, Any]) -> dict[str, Any]:
    return {"role": "user", "content": list(blocks)}


TEXT = {"type": "text", "text": "Please transcribe."}
WAV = {"type": "audio", "audio": torch.full((1280,), 1 / 64)}


@pytest.mark.golden
@pytest.mark.parametrize(
    "messages,message",
    [
        ([], "conversation is empty"),
        ([{"role": "system", "content": "Be kind."}, user(WAV)], "'user' or 'assistant', got 'system'"),
        ([user(WAV, TEXT)], "text comes after the last recording"),
        ([user(WAV), user(TEXT)], "text comes after the last recording"),
        ([user(WAV), {"role": "assistant", "content": [WAV]}, user(WAV)], "text and at most one audio block"),
        ([{"role": "assistant", "content": "Hello."}, user(WAV)], "first message of a conversation must be the user's"),
        ([user(WAV), {"role": "assistant", "content": "Hello."}], "last message of a conversation must be the user's"),
        ([user(TEXT, {"type": "audio"})], "exactly one of audio, path, url"),
        ([user(TEXT, {"type": "audio", "audio": [0.1, float("nan")]})], "1 NaN or infinite samples of 2"),
        ([user(TEXT, {"type": "audio", "audio": []})], "no samples"),
        ([user({"type": "text", "text": " "})], "text is empty"),
        (
            [user(WAV), {"role": "assistant", "content": [{"type": "text", "text": "x" * 999}, WAV]}, user(WAV)],
            r"999 text ids for \d+ codes",
        ),
    ],
)
def test_bad_messages(fixture: PromptFixture, messages: list[dict[str, Any]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        fixture.processor.apply_chat_template(messages)


@pytest.mark.golden
def test_missing_file_and_unknown_mode(fixture: PromptFixture, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"gone\.wav"):
        fixture.processor.apply_chat_template([user({"type": "audio", "path": str(tmp_path / "gone.wav")})])
    with pytest.raises(ValueError, match="output_modalities must be 'text', 'audio' or 'both', got 'song'"):
        fixture.processor.apply_chat_template([user(WAV)], output_modalities="song")


@pytest.mark.golden
def test_features_and_codes_are_as_many(fixture: PromptFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    features = fixture.speech.features
    monkeypatch.setattr(fixture.speech, "features", lambda index: features(index)[1:])
    with pytest.raises(ValueError, match=r"a recording has \d+ codes, but \d+ features"):
        fixture.processor.apply_chat_template([user(WAV)])
