"""SpikeAudioProcessor: what becomes of messages, texts and recordings, and of ids on the way back."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from spikeaudio.audio.files import save_audio
from spikeaudio.prompt.processor import SpikeAudioProcessor

RATE = 16000


@pytest.fixture(scope="module")
def processor(tiny_checkpoint: Path) -> SpikeAudioProcessor:
    return SpikeAudioProcessor.from_pretrained(tiny_checkpoint)


def noise(seconds: float, seed: int = 0) -> torch.Tensor:
    return torch.randn(round(seconds * RATE), generator=torch.Generator().manual_seed(seed)) * 0.1


def audio_message(audio: Any, text: str | None = None) -> list[dict[str, Any]]:
    content = [{"type": "text", "text": text}] if text else []
    return [{"role": "user", "content": [*content, {"type": "audio", "audio": audio}]}]


def same(a: Any, b: Any) -> bool:
    return sorted(a) == sorted(b) and all(torch.equal(a[key], b[key]) for key in a)


def test_one_recording_has_one_position_per_80_ms(processor: SpikeAudioProcessor) -> None:
    batch = processor.apply_chat_template(audio_message(noise(1.0)))
    assert batch["audio_feature_mask"].sum() == batch["audio_features"].shape[1] == 13  # ceil(16000 / 1280)
    assert batch["input_ids"].shape == batch["audio_input_ids"].shape == batch["attention_mask"].shape
    assert set(batch) == set(processor.model_input_names)


def test_ways_to_ask_for_a_transcript_agree(processor: SpikeAudioProcessor) -> None:
    wav = noise(0.5)
    expected = processor.apply_transcription_request(wav)
    assert same(processor(wav), expected)
    assert same(processor(wav.numpy()), expected)
    assert same(processor(audio=[wav]), expected)
    assert same(processor(processor.transcription_request, wav), expected)
    assert same(processor.apply_chat_template(audio_message(wav, processor.transcription_request)), expected)
    assert same(processor.apply_transcription_request(processor.hear([wav])), expected)


def test_recordings_by_path_array_and_rate(processor: SpikeAudioProcessor, tmp_path: Path) -> None:
    wav = noise(0.5)
    save_audio(tmp_path / "a.wav", wav, RATE)
    stored = processor.load(tmp_path / "a.wav")
    by_path = processor.apply_chat_template(
        [{"role": "user", "content": [{"type": "audio", "path": str(tmp_path / "a.wav")}]}]
    )
    assert same(by_path, processor.apply_chat_template(audio_message(stored)))
    slow = processor.apply_chat_template(audio_message(noise(1.0)), sampling_rate=RATE * 2)
    assert slow["audio_feature_mask"].sum() == by_path["audio_feature_mask"].sum()


def test_batch_is_padded_on_the_left(processor: SpikeAudioProcessor) -> None:
    conversations = [
        audio_message(noise(1.0)),
        [{"role": "user", "content": "hello"}],
        audio_message(noise(0.4, 1), "say hello"),
    ]
    batch = processor.apply_chat_template(conversations)
    for row, messages in enumerate(conversations):
        alone = processor.apply_chat_template(messages)
        length = alone["input_ids"].shape[1]
        for key in ("input_ids", "audio_input_ids", "attention_mask"):
            assert torch.equal(batch[key][row, -length:], alone[key][0])
        assert not batch["attention_mask"][row, :-length].any()
        count = int(batch["audio_feature_mask"][row].sum())
        if count:
            assert torch.equal(batch["audio_features"][row, :count], alone["audio_features"][0])
        assert not batch["audio_features"][row, count:].any()


def test_text_alone_has_no_features(processor: SpikeAudioProcessor) -> None:
    assert set(processor("hello")) == {"input_ids", "audio_input_ids", "attention_mask"}


def test_output_modalities_set_the_mode(processor: SpikeAudioProcessor) -> None:
    layout = processor.layout
    for wanted, token in {
        "text": layout.speech_text_token_id,
        "both": layout.speech_both_token_id,
        ("text", "audio"): layout.speech_both_token_id,
    }.items():
        batch = processor.apply_chat_template([{"role": "user", "content": "hello"}], output_modalities=wanted)
        assert batch["audio_input_ids"][0, -3] == token
        assert same(batch, processor("hello", output_modalities=wanted))
    with pytest.raises(ValueError, match="'smell'"):
        processor("hello", output_modalities="smell")


def test_history(processor: SpikeAudioProcessor) -> None:
    """A past answer with codes, given as such or as a recording, lies in the streams as it was generated."""
    wav = noise(0.4)
    codes = processor.speech_tokenizer.encode([wav])[0].codes
    batches = []
    for block in ({"type": "audio", "codes": codes}, {"type": "audio", "audio": wav}):
        answer = {"role": "assistant", "content": [{"type": "text", "text": "hello"}, block]}
        batches.append(
            processor.apply_chat_template(
                [*audio_message(noise(0.5)), answer, {"role": "user", "content": "how are you"}]
            )
        )
    assert same(*batches)
    audio = batches[0]["audio_input_ids"][0]
    assert (audio == processor.layout.user_start_token_id).sum() == 2
    offset = processor.layout.audio_token_offset
    assert torch.equal(audio[audio >= offset][-len(codes) :] - offset, codes)
    assert batches[0]["audio_feature_mask"].sum() == 7  # of the user's recording only


def test_consecutive_messages_of_one_role_are_one_turn(processor: SpikeAudioProcessor) -> None:
    wav = noise(0.4)
    split = [{"role": "user", "content": "hello"}, *audio_message(wav)]
    assert same(processor.apply_chat_template(split), processor.apply_chat_template(audio_message(wav, "hello")))


def test_without_generation_prompt(processor: SpikeAudioProcessor) -> None:
    message = [{"role": "user", "content": "hello"}]
    full = processor.apply_chat_template(message)
    bare = processor.apply_chat_template(message, add_generation_prompt=False)
    assert torch.equal(bare["audio_input_ids"], full["audio_input_ids"][:, :-1])


@pytest.mark.parametrize(
    "messages,message",
    [
        ([], "empty"),
        ([{"role": "system", "content": "x"}], "'user' or 'assistant', got 'system'"),
        ([{"role": "user"}], "'role' and 'content'"),
        ([{"role": "user", "content": [{"type": "image", "path": "a.png"}]}], "got the type 'image'"),
        ([{"role": "user", "content": [{"type": "audio"}]}], "exactly one of audio, path, url"),
        ([{"role": "user", "content": []}], "turn is empty"),
        ([{"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho"}], "must be the user's"),
        ([{"role": "user", "content": ""}], "text is empty"),
        ([{"role": "user", "content": "你好"}], "nothing in the text can be pronounced"),
        ([{"role": "user", "content": [{"type": "audio", "audio": np.zeros(0)}]}], "no samples"),
        ([{"role": "user", "content": [{"type": "audio", "audio": [0.1, float("nan")]}]}], "NaN"),
    ],
)
def test_bad_messages(processor: SpikeAudioProcessor, messages: list[dict[str, Any]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        processor.apply_chat_template(messages)


@pytest.mark.parametrize(
    "arguments,message",
    [
        ({}, "got neither"),
        ({"text": ["a", "b"], "audio": [noise(0.1)]}, "got 2 texts and 1 recordings"),
        ({"text": "a", "images": object()}, "got images"),
        ({"text": "a", "return_tensors": "np"}, "'np'"),
        ({"text": "a", "padding": False}, "the rows of a batch have one length, got False"),
        ({"text": "a", "truncate": 3}, r"\['truncate'\]"),
        ({"audio": []}, "empty list"),
    ],
)
def test_bad_calls(processor: SpikeAudioProcessor, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        processor(**arguments)


def test_round_trip(processor: SpikeAudioProcessor, tmp_path: Path) -> None:
    processor.save_pretrained(tmp_path)
    again = SpikeAudioProcessor.from_pretrained(tmp_path)
    wav = noise(0.6)
    assert same(
        processor.apply_chat_template(audio_message(wav, "hello")),
        again.apply_chat_template(audio_message(wav, "hello")),
    )
    assert again.to_dict() == processor.to_dict()


def test_without_processor_config(tiny_checkpoint: Path, processor: SpikeAudioProcessor, tmp_path: Path) -> None:
    """The layout then comes from the model's config, as in a folder that only training has written to."""
    folder = shutil.copytree(tiny_checkpoint, tmp_path / "bare")
    (folder / "processor_config.json").unlink()
    assert SpikeAudioProcessor.from_pretrained(folder).layout == processor.layout


def test_without_speech_tokenizer(tiny_checkpoint: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_checkpoint, tmp_path / "deaf")
    shutil.rmtree(folder / "speech_tokenizer")
    deaf = SpikeAudioProcessor.from_pretrained(folder)
    assert deaf("hello")["input_ids"].shape[0] == 1
    with pytest.raises(ValueError, match="deaf cannot hear: it has no speech_tokenizer/"):
        deaf(noise(0.2))


def test_decoding(thinking_checkpoint: Path) -> None:
    processor = SpikeAudioProcessor.from_pretrained(thinking_checkpoint)
    layout = processor.layout
    thought, text = processor.text_ids("what is two plus two"), processor.text_ids("the lazy fox")
    blank, end, eos = layout.blank_token_id, layout.think_end_token_id, layout.text_eos_token_id
    answer = processor.decode_answer([*thought, end, *text, eos, blank, blank])
    assert (answer.text, answer.thought) == ("the lazy fox", "what is two plus two")
    plain = processor.decode_answer([*text, eos])
    assert (plain.text, plain.thought) == ("the lazy fox", None)
    assert processor.decode(torch.tensor([blank, *text, eos])) == "the lazy fox"
    sequences = torch.tensor([[*processor.text_ids("hello"), blank, blank, *thought, end, *text, eos, blank]])
    assert processor.post_process_multimodal_output(sequences) == ["hello the lazy fox"]
    with pytest.raises(ValueError, match="no audio in what was generated"):
        processor.post_process_multimodal_output(sequences, generation_mode="audio")
