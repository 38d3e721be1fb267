"""A checkpoint whose config names Kimi-Audio's prompts, from messages to answers: alone, in batches, over turns."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoModelForMultimodalLM, AutoProcessor

from spikeaudio.pipeline import SpikeAudio
from spikeaudio.prompt.kimi_layout import KimiPromptLayout
from spikeaudio.prompt.layout import PromptLayout
from spikeaudio.prompt.processor import SpikeAudioProcessor
from tests.fixtures.checkpoint import write_checkpoint

RATE = 16000
BOUND = 1e-4


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("checkpoint") / "kimi-random", prompt_format="kimi")


@pytest.fixture(scope="module")
def audio_model(folder: Path) -> SpikeAudio:
    """Ends come often enough to see rows end at different steps."""
    loaded = SpikeAudio.from_pretrained(folder)
    with torch.no_grad():
        loaded.model.lm_head.weight[loaded.model.config.text_eos_token_id] *= 4
        loaded.model.audio_head.weight[loaded.model.config.media_end_token_id] *= 4
    return loaded


def noise(seconds: float, seed: int) -> Tensor:
    return torch.randn(round(seconds * RATE), generator=torch.Generator().manual_seed(seed)) * 0.1


def user(*said: str | Tensor) -> dict[str, Any]:
    blocks = [{"type": "text", "text": s} if isinstance(s, str) else {"type": "audio", "audio": s} for s in said]
    return {"role": "user", "content": blocks}


def assistant(text: str, codes: list[int] | None = None) -> dict[str, Any]:
    spoken = [] if codes is None else [{"type": "audio", "codes": codes}]
    return {"role": "assistant", "content": [{"type": "text", "text": text}, *spoken]}


CONVERSATIONS = [
    [user("please transcribe the following audio", noise(0.3, 0))],
    [user(noise(1.7, 1)), assistant("hello", list(range(20))), user(noise(0.9, 2))],
    [user("say hello")],
    [user(noise(0.2, 3), noise(0.5, 4)), assistant("how are you"), user("what is", noise(0.1, 5))],
    [user(noise(0.7, 6))],
]


@pytest.mark.parametrize("modality", ["text", "both"])
def test_conversations_in_a_batch_are_answered_as_alone(audio_model: SpikeAudio, modality: str) -> None:
    """Unequal lengths, codes and features, histories: the same ids, logits within the bound."""
    model, processor = audio_model.model, audio_model.processor
    shared: dict[str, Any] = {"generation_mode": "audio" if modality == "both" else "text", "max_new_tokens": 30}
    shared |= {"return_dict_in_generate": True, "output_logits": True, "do_sample": True, "audio_temperature": 1.0}
    batch = processor.apply_chat_template(CONVERSATIONS, output_modalities=modality)
    seeds = [torch.Generator().manual_seed(50 + row) for row in range(len(CONVERSATIONS))]
    together: Any = model.generate(**batch, **shared, generator=seeds)
    steps = set()
    for row, messages in enumerate(CONVERSATIONS):
        prompt = processor.apply_chat_template(messages, output_modalities=modality)
        alone: Any = model.generate(**prompt, **shared, generator=[torch.Generator().manual_seed(50 + row)])
        count = alone.sequences.shape[1] - prompt["input_ids"].shape[1]
        steps.add(count)
        for name in ("sequences", "audio_sequences"):
            new = together[name][row, batch["input_ids"].shape[1] :]
            assert torch.equal(new[:count], alone[name][0, -count:])
            assert (new[count:] == model.config.blank_token_id).all()
        assert torch.equal(together.audio_codes[row], alone.audio_codes[0])
        for name in ("logits", "audio_logits"):
            ours = torch.stack(together[name])[:count, row]
            torch.testing.assert_close(ours, torch.stack(alone[name])[:, 0], rtol=0, atol=BOUND)
    assert len(set(steps)) > 1, "the rows of this test should end at different steps"


def test_the_short_ways_in_make_kimi_prompts(audio_model: SpikeAudio) -> None:
    """Every surface uses the checkpoint's own layout; nobody passes one."""
    layout = audio_model.processor.layout
    assert isinstance(layout, KimiPromptLayout)
    recording = noise(0.4, 7)
    assert isinstance(audio_model.transcribe(recording, max_new_tokens=4), str)
    assert isinstance(audio_model.ask(recording, "which instrument is this", max_new_tokens=4), str)
    reply = audio_model.chat(recording, max_new_tokens=12, audio_temperature=1.0)
    assert reply.wav is not None and reply.codes is not None
    again = [user(recording), assistant("two", reply.codes.tolist()), user(recording)]
    assert audio_model.chat(again, max_new_tokens=12, audio_temperature=1.0).wav is not None
    assert len(audio_model.speak("hello", max_new_tokens=12, audio_temperature=1.0).codes) > 0
    for prompt, marks in (
        (audio_model.processor(audio=recording), 1),
        (audio_model.processor("hello"), 0),
        (audio_model.processor.apply_speech_request("hello"), 0),
    ):
        modes = torch.tensor([layout.speech_text_token_id, layout.speech_both_token_id])
        assert int(torch.isin(prompt["audio_input_ids"], modes).sum()) == marks


def test_auto_classes(folder: Path) -> None:
    """The plain transformers surface; the mode of `generate` is written into the prompt where it has a place."""
    processor = AutoProcessor.from_pretrained(folder)
    model = AutoModelForMultimodalLM.from_pretrained(folder, dtype=torch.float32).eval()
    assert isinstance(processor.layout, KimiPromptLayout)
    prompt = processor.apply_chat_template(CONVERSATIONS[1], output_modalities="text")
    shared: dict[str, Any] = {"max_new_tokens": 6, "generation_mode": "audio"}
    out = model.generate(**prompt, **shared)
    spoken = processor.apply_chat_template(CONVERSATIONS[1], output_modalities="both")
    length = prompt["input_ids"].shape[1]
    assert torch.equal(out.audio_sequences[:, :length], spoken["audio_input_ids"])


def test_a_layout_of_another_model_is_refused(folder: Path) -> None:
    processor = SpikeAudioProcessor.from_pretrained(folder)
    own = SpikeAudio.from_pretrained(folder)
    processor.layout = PromptLayout.of(own.model.config)
    with pytest.raises(ValueError, match="the processor's layout is PromptLayout"):
        SpikeAudio(own.model, processor)


def test_too_long_and_broken_recordings(audio_model: SpikeAudio) -> None:
    limit = audio_model.model.config.max_position_embeddings
    with pytest.raises(ValueError, match=f"but this model has {limit}: give a shorter recording"):
        audio_model.ask(noise(0.08 * limit, 8), "which instrument is this")
    with pytest.raises(ValueError, match="NaN"):
        audio_model.chat([user(torch.tensor([0.0, float("nan")]))])
