"""Marks between sentences: they survive in a prompt's ids, and the model does not see them."""

from pathlib import Path

import pytest
import torch

from spikeaudio.lm.modeling import SpikeAudioForConditionalGeneration
from spikeaudio.prompt.processor import SpikeAudioProcessor


@pytest.fixture(scope="module")
def processor(tiny_checkpoint: Path) -> SpikeAudioProcessor:
    return SpikeAudioProcessor.from_pretrained(tiny_checkpoint)


def test_sentences_survive(processor: SpikeAudioProcessor) -> None:
    batch = processor(["Dr. Smith is here. He said: hello world!", "how are you"])
    found = [[processor.text_of(ids) for ids in processor.sentence_marks.split(row)] for row in batch["input_ids"]]
    assert found == [["doctor smith is here", "he said", "hello world"], ["how are you"]]


def test_the_model_does_not_see_them(processor: SpikeAudioProcessor, tiny_checkpoint: Path) -> None:
    model = SpikeAudioForConditionalGeneration.from_pretrained(tiny_checkpoint)
    one = processor("hello world how are you")
    two = processor("hello world. how are you")
    assert two["input_ids"].shape[1] == one["input_ids"].shape[1] + 1
    torch.testing.assert_close(model(**one).logits[:, -1], model(**two).logits[:, -1])
    length = one["input_ids"].shape[1]
    written = [model.generate(**prompt, max_new_tokens=8) for prompt in (one, two)]
    assert torch.equal(written[0][:, length:], written[1][:, length + 1 :])


def test_one_sentence_has_none(processor: SpikeAudioProcessor) -> None:
    batch = processor("hello world")
    assert batch["attention_mask"].all()
    [sentence] = processor.sentence_marks.split(batch["input_ids"][0])
    assert sentence == processor.text_ids("hello world")
