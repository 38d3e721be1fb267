"""Training through the documented road: an assistant's message, labels, transformers' Trainer."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForMultimodalLM, AutoProcessor, Trainer, TrainingArguments

from spikeaudio.audio.files import save_audio
from spikeaudio.prompt.batch import collate
from spikeaudio.prompt.processor import SpikeAudioProcessor
from spikeaudio.training.examples import read_examples


@pytest.fixture(scope="module")
def processor(thinking_checkpoint: Path) -> SpikeAudioProcessor:
    return SpikeAudioProcessor.from_pretrained(thinking_checkpoint)


@pytest.fixture(scope="module")
def conversations(tmp_path_factory: pytest.TempPathFactory) -> list[list[dict[str, Any]]]:
    """Heard and written, written and spoken after a thought, heard without words, and one with a past."""
    folder = tmp_path_factory.mktemp("recordings")
    for name, seconds in (("a", 1.0), ("b", 0.5)):
        wav = torch.randn(round(seconds * 16000), generator=torch.Generator().manual_seed(0)) * 0.1
        save_audio(folder / f"{name}.wav", wav, 16000)

    def heard(name: str, *texts: str) -> dict[str, Any]:
        said = [{"type": "text", "text": text} for text in texts]
        return {"role": "user", "content": [*said, {"type": "audio", "path": str(folder / f"{name}.wav")}]}

    spoken = [{"type": "text", "text": "hello world"}, {"type": "audio", "codes": [3, 1, 4, 1, 5]}]
    hello = {"role": "assistant", "content": "hello"}
    return [
        [heard("a", "say"), hello],
        [{"role": "user", "content": "say hello"}, {"role": "assistant", "content": spoken, "thought": "hello"}],
        [heard("b"), {"role": "assistant", "content": ""}],
        [heard("a", "say"), hello, heard("b"), hello],
    ]


def test_labels_are_those_of_an_examples_file(
    processor: SpikeAudioProcessor, conversations: list[list[dict[str, Any]]], tmp_path: Path
) -> None:
    batch = processor.apply_chat_template(conversations, output_labels=True)
    rows: list[dict[str, Any]] = [{"messages": each} for each in conversations]
    bare = [dict(message) for message in conversations[1]]
    rows[1] = {"messages": bare, "thought": bare[-1].pop("thought")}
    (tmp_path / "examples.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    expected = processor.collate(read_examples(tmp_path / "examples.jsonl", processor))
    assert batch.keys() == expected.keys() >= {"labels", "audio_labels", "audio_features"}
    for name, value in expected.items():
        assert torch.equal(batch[name], value), name
    mask = batch["attention_mask"].bool()
    assert mask[:, 0].all() and not mask[:, -1].all()  # padded on the right
    assert (batch["labels"][~mask] == -100).all() and (batch["audio_labels"] != -100).sum(1).tolist() == [0, 6, 0, 0]
    left = processor.apply_chat_template(conversations, output_labels=True, padding_side="left")
    assert left["attention_mask"][:, -1].all() and (left["labels"] != -100).sum() == (batch["labels"] != -100).sum()
    nested = processor.apply_chat_template(conversations, processor_kwargs={"output_labels": True})
    assert torch.equal(nested["labels"], batch["labels"])


def test_an_assistant_turn_without_labels(
    processor: SpikeAudioProcessor, conversations: list[list[dict[str, Any]]]
) -> None:
    labelled = processor.apply_chat_template(conversations, output_labels=True, padding_side="left")
    plain = processor.apply_chat_template(conversations, add_generation_prompt=False)
    assert set(plain) == set(labelled) - {"labels", "audio_labels"}
    for name, value in plain.items():
        assert torch.equal(labelled[name], value), name
    # A prompt and what is learned behind it: the answer begins where the prompt ends.
    prompt = processor.apply_chat_template(conversations[0][:1])
    assert torch.equal(
        processor.apply_chat_template(conversations[0], add_generation_prompt=False)["audio_input_ids"][
            :, : prompt["input_ids"].shape[1]
        ],
        prompt["audio_input_ids"],
    )


def test_the_last_message_decides(processor: SpikeAudioProcessor) -> None:
    asked = [{"role": "user", "content": "say hello"}]
    answered = [*asked, {"role": "assistant", "content": "hello"}]
    with pytest.raises(ValueError, match="takes add_generation_prompt=False"):
        processor.apply_chat_template(answered)
    with pytest.raises(ValueError, match="must be the assistant's"):
        processor.apply_chat_template(asked, output_labels=True)
    with pytest.raises(ValueError, match="thought belongs into a message of the assistant"):
        processor.apply_chat_template([asked[0] | {"thought": "hello"}])


def test_trainer(thinking_checkpoint: Path, conversations: list[list[dict[str, Any]]], tmp_path: Path) -> None:
    """Two steps by transformers' own loop, with evaluation; the batches are those of `collate`."""
    model = AutoModelForMultimodalLM.from_pretrained(thinking_checkpoint)
    processor = AutoProcessor.from_pretrained(thinking_checkpoint)
    data = read_examples([{"messages": each} for each in conversations], processor)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    arguments = TrainingArguments(
        output_dir=str(tmp_path), max_steps=2, per_device_train_batch_size=4, per_device_eval_batch_size=2,
        learning_rate=1e-2, remove_unused_columns=False, report_to=[], use_cpu=True, save_strategy="no",
    )  # fmt: skip
    trainer = Trainer(model, arguments, data_collator=processor.collate, train_dataset=data, eval_dataset=data)
    assert set(trainer.label_names) >= {"labels", "audio_labels"}
    trainer.train()
    assert trainer.state.global_step == 2
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert any("audio_layers" in name for name in changed) and any("feature_adaptor" in name for name in changed)
    assert trainer.evaluate()["eval_loss"] > 0
    with torch.no_grad():
        trained = float(model.eval()(**collate(data, processor.tokenizer.pad_token_id)).loss)
        fresh = AutoModelForMultimodalLM.from_pretrained(thinking_checkpoint)
        untrained = float(fresh(**collate(data, processor.tokenizer.pad_token_id)).loss)
    assert trained < untrained
