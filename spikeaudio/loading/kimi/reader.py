"""Kimi-Audio's parts, each read from the published folder into the class that a checkpoint of ours loads into."""

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor
from transformers import GenerationConfig, PreTrainedModel, WhisperFeatureExtractor

from spikeaudio.checkpoint import load_part
from spikeaudio.detokenizer.modeling import FlowMatchingDetokenizer
from spikeaudio.lm.configuration import SpikeAudioConfig
from spikeaudio.lm.modeling import SpikeAudioForConditionalGeneration, SpikeAudioModel
from spikeaudio.loading.auto import Companions, SpikeAudioForSpeechGeneration
from spikeaudio.loading.kimi.configuration import (
    detokenizer_config,
    encoder_config,
    published_config,
    speech_tokenizer_config,
    vocoder_config,
)
from spikeaudio.loading.kimi.folder import PublishedFolder
from spikeaudio.loading.kimi.text_tokenizer import read_text_tokenizer
from spikeaudio.loading.kimi.weight_names import (
    DETOKENIZER,
    ENCODER,
    LANGUAGE_MODEL,
    SPEECH_TOKENIZER,
    VOCODER,
    WITH_ENCODER,
    WeightNames,
)
from spikeaudio.loading.kimi.weights import detokenizer_weights, read_safetensors, vocoder_weights
from spikeaudio.prompt.processor import SpikeAudioProcessor
from spikeaudio.speech.decoder import SpeechDecoder
from spikeaudio.tokenizer.speech_tokenizer import SpeechTokenizer
from spikeaudio.tokenizer.whisper_vq import WhisperVQEncoder
from spikeaudio.vocoder.bigvgan import BigVGAN, fold_weight_norm

Model = TypeVar("Model", bound=PreTrainedModel)

PIECE_SECONDS = 30.0  # what the encoder takes at once
TRANSCRIPTION_REQUEST = "Please transcribe the following audio:"
SPEECH_REQUEST = "Please read the following text aloud:"  # ours: the weights were not taught any
MAX_NEW_TOKENS = 1500  # two minutes of speech, the published limit


def language_model_config(folder: PublishedFolder) -> SpikeAudioConfig:
    """Our configuration of the language model with its encoder. Raises as the functions of `configuration`."""
    config = published_config(folder.root).to_spikeaudio(encoder_config(folder.encoder))
    config._name_or_path = str(folder.root)
    return config


def language_model_weights(folder: PublishedFolder) -> dict[str, Tensor]:
    """Weights of the language model and its encoder under our names.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: a file is damaged, or a weight has no place.
    """
    weights = LANGUAGE_MODEL.rename(read_safetensors(folder.root), folder.root)
    return weights | ENCODER.rename(read_safetensors(folder.encoder), folder.encoder)


def generation_config(config: SpikeAudioConfig) -> GenerationConfig:
    """How the published README samples: text greedily, audio from the 10 likeliest codes at 0.8."""
    return GenerationConfig(
        pad_token_id=config.pad_token_id,
        eos_token_id=config.text_eos_token_id,
        max_new_tokens=MAX_NEW_TOKENS,
        num_beams=1,
        do_sample=False,
        audio_temperature=0.8,
        audio_top_k=10,
    )


def check_weights(
    cls: type[PreTrainedModel], config: Any, weights: Mapping[str, Tensor], names: WeightNames, source: Path
) -> None:
    """Raise ValueError, with the names, unless `weights` are exactly those of ``cls(config)``."""
    with torch.device("meta"):
        model = cls(config)
    names.check(weights, model, source)


def build(
    cls: type[Model], config: Any, weights: Mapping[str, Tensor], names: WeightNames, source: Path, **kwargs: Any
) -> Model:
    """``cls.from_pretrained`` on weights that are at hand; `kwargs` are its own (dtype, device_map, ...)."""
    check_weights(cls, config, weights, names, source)
    model: Model = cls.from_pretrained(None, config=config, state_dict=dict(weights), **kwargs)
    return model.eval()


def read_language_model(cls: type[Model], folder: PublishedFolder, **kwargs: Any) -> Model:
    """The language model as a `cls` of ours, which also knows where its other parts lie.

    Args:
        cls: `SpikeAudioModel`, `SpikeAudioForConditionalGeneration` or a subclass of it.
        folder: the download.
        kwargs: keywords of ``from_pretrained``: dtype (default: as published, bfloat16), device_map,
        quantization_config, ...

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: a file is damaged, a configuration has unknown keys, or weights are missing or left over.
    """
    config = language_model_config(folder)
    weights = language_model_weights(folder)
    if issubclass(cls, SpikeAudioModel):
        check_weights(SpikeAudioForConditionalGeneration, config, weights, WITH_ENCODER, folder.root)
        inner = {name.removeprefix("model."): tensor for name, tensor in weights.items() if name.startswith("model.")}
        bare: Model = cls.from_pretrained(None, config=config, state_dict=inner, **kwargs)
        return bare.eval()
    model = build(cls, config, weights, WITH_ENCODER, folder.root, **kwargs)
    model.generation_config = generation_config(config)
    if isinstance(model, SpikeAudioForSpeechGeneration):
        model.companions = PublishedCompanions(folder, model.device)
    return model


def speech_tokenizer_weights(folder: Path) -> dict[str, Tensor]:
    """Weights of the published GLM-4-Voice tokenizer. Raises as `language_model_weights`."""
    return SPEECH_TOKENIZER.rename(read_safetensors(folder), folder)


def read_speech_tokenizer(folder: Path) -> SpeechTokenizer:
    """The published GLM-4-Voice tokenizer, in float32.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: a file is damaged, or weights are missing or left over.
    """
    config = speech_tokenizer_config(folder)
    weights = speech_tokenizer_weights(folder)
    encoder = build(WhisperVQEncoder, config, weights, SPEECH_TOKENIZER, folder, dtype=torch.float32)
    return SpeechTokenizer(load_part(WhisperFeatureExtractor.from_pretrained, folder), encoder)


def read_processor(folder: PublishedFolder, hears: bool = True) -> SpikeAudioProcessor:
    """Text and speech tokenizer and the layout of prompts.

    Args:
        folder: the download.
        hears: read the speech tokenizer, if there is one.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: a file is damaged, or does not fit the model.
    """
    tokenizer = read_text_tokenizer(folder.vocabulary, published_config(folder.root).special_tokens)
    speech = read_speech_tokenizer(folder.speech_tokenizer) if hears and folder.speech_tokenizer else None
    processor = SpikeAudioProcessor.of(
        language_model_config(folder),
        tokenizer,
        speech,
        transcription_request=TRANSCRIPTION_REQUEST,
        speech_request=SPEECH_REQUEST,
        spell_out=False,
        piece_seconds=PIECE_SECONDS,
    )
    processor.why_deaf = f"{folder.root} holds no speech tokenizer: {folder.how_to_hear}"
    return processor


def folded_vocoder_weights(folder: PublishedFolder) -> dict[str, Tensor]:
    """The vocoder's weights with weight norm folded. Raises as `read_pickle`; or a norm is not complete."""
    path = folder.vocoder / "model.pt"
    return VOCODER.rename(fold_weight_norm(vocoder_weights(path)), path)


def renamed_detokenizer_weights(folder: PublishedFolder) -> dict[str, Tensor]:
    """The detokenizer's weights under our names. Raises as `detokenizer_weights`; or a weight has no place."""
    path = folder.detokenizer / "model.pt"
    return DETOKENIZER.rename(detokenizer_weights(path), path)


def read_speech_decoder(
    folder: PublishedFolder, device: torch.device | str | None = None, dtype: torch.dtype | str | None = None
) -> SpeechDecoder:
    """Detokenizer and vocoder.

    Args:
        folder: the download.
        device: where to put them; None: the CPU.
        dtype: type of the weights in memory; None: float32; "auto": as published.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: a file is damaged, describes another network, or weights are missing or left over.
    """
    dtype = dtype or torch.float32
    mel = detokenizer_config(folder.detokenizer / "config.yaml")
    path = folder.detokenizer / "model.pt"
    detokenizer = build(
        FlowMatchingDetokenizer, mel, renamed_detokenizer_weights(folder), DETOKENIZER, path, dtype=dtype
    )
    sizes, path = vocoder_config(folder.vocoder / "config.json"), folder.vocoder / "model.pt"
    vocoder = build(BigVGAN, sizes, folded_vocoder_weights(folder), VOCODER, path, dtype=dtype)
    return SpeechDecoder(detokenizer.to(device), vocoder.to(device))


class PublishedCompanions(Companions):
    """Processor and speech decoder of a download, each read when first asked for."""

    def __init__(self, published: PublishedFolder, device: torch.device) -> None:
        super().__init__(published.root, device)
        self.published = published

    @cached_property
    def processor(self) -> SpikeAudioProcessor:
        """The processor; its speech tokenizer stays on the CPU."""
        return read_processor(self.published)

    @property
    def speaks(self) -> bool:
        """Whether the download holds detokenizer and vocoder."""
        return not self.published.missing_to_speak()

    @cached_property
    def decoder(self) -> SpeechDecoder:
        """The speech decoder, in float32 on the model's device."""
        if missing := self.published.missing_to_speak():
            raise ValueError(f"{self.published.root} cannot speak: it has no {' and no '.join(missing)}/")
        return read_speech_decoder(self.published, self.device)

    def save_decoder(self, folder: Path) -> None:
        """Write detokenizer and vocoder in our layout, in the dtype in which they are published."""
        read_speech_decoder(self.published, dtype="auto").save_pretrained(folder)
