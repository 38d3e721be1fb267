"""Kimi-Audio learns: examples with log-mel, a step with LoRA on both streams, the adapter saved and streamed."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import Tensor
from transformers import AutoModelForMultimodalLM, AutoProcessor

from spikeaudio import SpikeAudio
from spikeaudio.audio.files import save_audio
from spikeaudio.loading.kimi.conversion import convert
from spikeaudio.speech.events import AudioEvent
from spikeaudio.training.examples import batched, read_examples

pytestmark = pytest.mark.golden

TARGETS = ["q_proj", "v_proj", "up_proj", "fc1"]  # of both stacks, and of the encoder


@pytest.fixture(scope="module", params=["as published", "converted"])
def folder(request: pytest.FixtureRequest, published: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    if request.param == "as published":
        return published
    return convert(published, tmp_path_factory.mktemp("converted") / "kimi")


@pytest.fixture(scope="module")
def examples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A written answer to a recording, a spoken one to another, and a written one to a text."""
    path = tmp_path_factory.mktemp("examples")
    for index, seconds in enumerate((1.0, 0.6)):
        wav = torch.randn(round(seconds * 16000), generator=torch.Generator().manual_seed(index)) * 0.1
        save_audio(path / f"{index}.wav", wav, 16000)

    def heard(index: int) -> dict[str, Any]:
        request = {"type": "text", "text": "Please transcribe the following audio:"}
        return {"role": "user", "content": [request, {"type": "audio", "path": f"{index}.wav"}]}

    spoken = [{"type": "text", "text": "How are you?"}, {"type": "audio", "codes": [3, 1, 4, 1, 5, 9, 2, 6]}]
    rows = [
        [heard(0), {"role": "assistant", "content": "Good morning."}],
        [heard(1), {"role": "assistant", "content": spoken}],
        [{"role": "user", "content": "Say yes."}, {"role": "assistant", "content": "Yes."}],
    ]
    (path / "examples.jsonl").write_text("".join(json.dumps({"messages": row}) + "\n" for row in rows))
    return path / "examples.jsonl"


@pytest.fixture
def base(folder: Path) -> Any:
    return AutoModelForMultimodalLM.from_pretrained(folder, dtype=torch.float32)


@pytest.fixture
def batch(folder: Path, examples: Path) -> dict[str, Tensor]:
    """All three as one batch."""
    [batch] = batched(read_examples(examples, AutoProcessor.from_pretrained(folder)), tokens=10_000)
    return batch


def with_lora(base: Any, **settings: Any) -> PeftModel:
    return get_peft_model(base, LoraConfig(r=2, lora_alpha=8, target_modules=TARGETS, **settings))


def train(model: PeftModel, batch: dict[str, Tensor], steps: int = 3) -> list[tuple[float, float]]:
    """Losses of both streams before each step and after the last one."""
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=3e-3)
    losses = []
    model.train()
    for step in range(steps + 1):
        out = model(**batch)
        losses.append((out.text_loss.item(), out.audio_loss.item()))
        if step < steps:
            optimizer.zero_grad()
            out.loss.backward()
            optimizer.step()
    model.eval()
    return losses


def test_batches_hold_the_inputs_of_the_encoder(folder: Path, batch: dict[str, Tensor], base: Any) -> None:
    """The log-mel of every recording, one feature per code, and labels on both streams."""
    encoder = base.config.audio_encoder_config
    frames = 2 * encoder.max_source_positions
    assert batch["input_features"].shape == (3, 1, encoder.num_mel_bins, frames)
    assert batch["input_features_mask"].shape == (3, 1, frames) and "audio_features" not in batch
    with torch.no_grad():
        features = base.model.take_features(dict(batch))
    counts = batch["audio_feature_mask"].sum(1).tolist()
    assert sorted(counts) == [0, 8, 13] and features.shape == (3, 13, base.config.audio_feature_dim)
    assert ((batch["labels"] != -100).sum(1) > 0).all()
    assert ((batch["audio_labels"] != -100).sum(1) > 0).sum() == 1
    processor = AutoProcessor.from_pretrained(folder)
    prompt = processor.apply_chat_template([{"role": "user", "content": "Say yes."}])
    assert "input_features" not in prompt


def test_a_step_with_lora_reaches_both_stacks_and_the_encoder(base: Any, batch: dict[str, Tensor]) -> None:
    model = with_lora(base)
    model.train()
    model(**batch).loss.backward()
    stacks = {".layers.": 0, ".audio_layers.": 0, ".audio_encoder.": 0}
    for name, parameter in model.named_parameters():
        if "lora_B" not in name:  # the other half starts with gradients of zero
            continue
        stack = next(s for s in (".audio_encoder.", ".audio_layers.", ".layers.") if s in name)
        if parameter.grad is not None and parameter.grad.abs().max() > 0:
            stacks[stack] += 1
    assert all(stacks.values()), stacks
    losses = train(model, batch)
    assert losses[-1][0] < losses[0][0] and losses[-1][1] < losses[0][1]


def test_the_encoder_stays_frozen_or_learns_whole(base: Any, batch: dict[str, Tensor]) -> None:
    weight = base.model.audio_encoder.layers[0].fc1.weight
    before = weight.detach().clone()
    model = with_lora(base, exclude_modules=r".*audio_encoder.*")
    train(model, batch, steps=1)
    assert torch.equal(base.model.audio_encoder.layers[0].fc1.weight, before)
    assert not any("audio_encoder" in name for name, p in model.named_parameters() if p.requires_grad)
    base.model.audio_encoder.requires_grad_(True)
    train(model, batch, steps=1)
    assert not torch.equal(base.model.audio_encoder.layers[0].fc1.weight, before)


def test_the_adapter_is_saved_reloaded_and_streamed(
    folder: Path, base: Any, batch: dict[str, Tensor], tmp_path: Path
) -> None:
    model = with_lora(base)
    untrained = {name: value.clone() for name, value in logits(model, batch).items()}
    train(model, batch, steps=6)
    expected = logits(model, batch)
    assert not torch.allclose(expected["logits"], untrained["logits"], atol=1e-3)
    model.save_pretrained(tmp_path)
    fresh = AutoModelForMultimodalLM.from_pretrained(folder, dtype=torch.float32)
    again = PeftModel.from_pretrained(fresh, tmp_path).eval()
    for name, value in logits(again, batch).items():
        torch.testing.assert_close(value, expected[name], rtol=0, atol=1e-5)

    plain = SpikeAudio.from_pretrained(folder)
    tuned = SpikeAudio(again.get_base_model(), plain.processor, plain.decoder)
    wav = torch.randn(16000, generator=torch.Generator().manual_seed(0)) * 0.1
    question = [{"role": "user", "content": [{"type": "audio", "audio": wav}]}]
    streamed = [e.wav for e in tuned.stream(question, max_new_tokens=24, seed=1) if isinstance(e, AudioEvent)]
    whole = tuned.chat(question, max_new_tokens=24, seed=1)
    assert whole.wav is not None and len(whole.wav) > 0
    torch.testing.assert_close(torch.cat(streamed), whole.wav, rtol=0, atol=1e-4)
    merged = SpikeAudio(again.merge_and_unload(), plain.processor, plain.decoder)
    assert merged.chat(question, max_new_tokens=24, seed=1).text == whole.text


def logits(model: Any, batch: dict[str, Tensor]) -> dict[str, Tensor]:
    with torch.no_grad():
        out = model.eval()(**batch)
    return {"logits": out.logits, "audio_logits": out.audio_logits}
