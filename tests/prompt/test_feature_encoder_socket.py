"""A feature encoder from outside of the package: this one file adds it, and every road takes it."""

from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn
from transformers import AutoModelForMultimodalLM, AutoProcessor, PreTrainedConfig

from spikeaudio import SpikeAudio, SpikeAudioConfig, SpikeAudioForConditionalGeneration, SpikeAudioProcessor
from spikeaudio.lm.feature_encoder import FeatureInputs, TokenFeatures, feature_encoder, register_feature_encoder
from spikeaudio.loading.contract import check_parts
from spikeaudio.prompt.batch import BatchRow, collate
from tests.fixtures import checkpoint

SAMPLES_PER_CODE = 1280


class EnvelopeConfig(PreTrainedConfig):
    model_type = "envelope"

    width: int = 6
    bands: int = 16


@register_feature_encoder("envelope")
class EnvelopeEncoder(nn.Module):
    """Mean loudness of each stretch of a code, through one linear layer."""

    config_class: ClassVar[type[PreTrainedConfig]] = EnvelopeConfig
    input_names: ClassVar[tuple[str, ...]] = ("envelope",)
    input_settings: ClassVar[tuple[str, ...]] = ("bands",)

    def __init__(self, config: EnvelopeConfig) -> None:
        super().__init__()
        self.proj = nn.Linear(config.bands, config.width)

    @staticmethod
    def feature_dim(config: EnvelopeConfig) -> int:
        return config.width

    @staticmethod
    def inputs(wav: Tensor, token_features: Tensor, bands: int) -> dict[str, Tensor]:
        missing = len(token_features) * SAMPLES_PER_CODE - len(wav)
        stretches = nn.functional.pad(wav, (0, missing)).unflatten(0, (-1, bands, SAMPLES_PER_CODE // bands))
        return {"envelope": stretches.abs().mean(-1)}

    def features(self, envelope: Tensor) -> Tensor:
        return self.proj(envelope.to(self.proj.weight))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint whose config names the encoder."""
    path = tmp_path_factory.mktemp("envelope")
    tokenizer = checkpoint.text_tokenizer()
    sizes = checkpoint.language_model(tokenizer).config.to_dict()
    sizes |= {"audio_feature_dim": 6, "audio_encoder_config": {"model_type": "envelope", "width": 6}}
    torch.manual_seed(0)
    model = SpikeAudioForConditionalGeneration(SpikeAudioConfig(**sizes))
    model.generation_config = checkpoint.language_model(tokenizer).generation_config
    model.save_pretrained(path)
    SpikeAudioProcessor.of(model.config, tokenizer, checkpoint.speech_tokenizer()).save_pretrained(path)
    checkpoint.speech_decoder().save_pretrained(path)
    return path


def heard(seconds: float) -> dict[str, Any]:
    wav = torch.randn(round(seconds * 16000), generator=torch.Generator().manual_seed(1)) * 0.1
    return {"role": "user", "content": [{"type": "text", "text": "say"}, {"type": "audio", "audio": wav}]}


HELLO = {"role": "assistant", "content": "hello world"}


def test_from_prompt_to_training_to_generation(folder: Path, tmp_path: Path) -> None:
    model, processor = AutoModelForMultimodalLM.from_pretrained(folder), AutoProcessor.from_pretrained(folder)
    assert isinstance(model.model.audio_encoder, EnvelopeEncoder)
    assert isinstance(model.config.audio_encoder_config, EnvelopeConfig)
    conversations = [[heard(1.0), HELLO], [heard(0.5), HELLO], [{"role": "user", "content": "say how"}, HELLO]]
    batch = processor.apply_chat_template(conversations, output_labels=True)
    assert batch["envelope"].shape == (3, 13, 16) and "audio_features" not in batch

    before = model.model.audio_encoder.proj.weight.detach().clone()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    model.train()
    losses = []
    for _ in range(3):
        loss = model(**batch).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] and not torch.equal(model.model.audio_encoder.proj.weight, before)

    model.eval().save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    again, reader = AutoModelForMultimodalLM.from_pretrained(tmp_path), AutoProcessor.from_pretrained(tmp_path)
    assert reader.feature_encoder == FeatureInputs("envelope", {"bands": 16})
    prompt = reader.apply_chat_template([heard(1.0)])
    assert set(prompt) == set(reader.model_input_names)
    for name, value in processor.apply_chat_template([heard(1.0)]).items():
        assert torch.equal(prompt[name], value), name
    with torch.no_grad():
        torch.testing.assert_close(again(**prompt).logits, model(**prompt).logits)
    assert torch.equal(again.generate(**prompt, max_new_tokens=5), model.generate(**prompt, max_new_tokens=5))
    other = again.generate(**prompt | {"envelope": 20 * prompt["envelope"]}, max_new_tokens=5, output_logits=True,
                           return_dict_in_generate=True)  # fmt: skip
    same = again.generate(**prompt, max_new_tokens=5, output_logits=True, return_dict_in_generate=True)
    assert not torch.allclose(other.logits[0], same.logits[0])  # what the encoder hears reaches the words


def test_the_facade_and_the_contract(folder: Path) -> None:
    model = SpikeAudio.from_pretrained(folder)
    question = heard(0.5)["content"][1]["audio"]
    assert isinstance(model.transcribe(question, max_new_tokens=4), str)
    processor = SpikeAudioProcessor.from_pretrained(folder)
    processor.feature_encoder = FeatureInputs()
    with pytest.raises(ValueError, match="the processor's feature_encoder"):
        check_parts(model.model, processor, None)


def test_a_batch_pads_every_axis_of_the_inputs() -> None:
    """An encoder may give pieces of unequal length."""
    ids = {"input_ids": torch.ones(2, dtype=torch.long), "audio_feature_mask": torch.tensor([True, False])}
    rows = [
        BatchRow(ids, [{"wave": torch.ones(1, 3)}, {"wave": torch.ones(2, 5)}]),
        BatchRow(ids, [{"wave": torch.ones(1, 4)}]),
        BatchRow(ids),
    ]
    wave = collate(rows)["wave"]
    assert wave.shape == (3, 3, 5) and wave.sum() == 3 + 10 + 4 and wave[0, 0].tolist() == [1, 1, 1, 0, 0]
    assert wave[1, 0].tolist() == [1, 1, 1, 1, 0] and not wave[2].any()
    with pytest.raises(ValueError, match="'middle'"):
        collate(rows, padding_side="middle")  # type: ignore[arg-type]


def test_names_are_checked() -> None:
    assert feature_encoder("speech_tokenizer") is TokenFeatures
    with pytest.raises(ValueError, match="no feature encoder 'radar'"):
        SpikeAudioConfig(audio_encoder_config={"model_type": "radar"})
    with pytest.raises(ValueError, match="already"):
        register_feature_encoder("envelope")(type("Other", (EnvelopeEncoder,), {}))
    with pytest.raises(ValueError, match="expected 'envelope', got 'radar'"):
        register_feature_encoder("radar")(EnvelopeEncoder)
    with pytest.raises(ValueError, match="the 6 channels of the audio encoder's features, got 5120"):
        SpikeAudioConfig(audio_encoder_config={"model_type": "envelope"})
