"""The three parts of a model from a checkpoint folder: one of ours, or Kimi-Audio's as it was downloaded."""

from dataclasses import fields
from pathlib import Path
from typing import Any, NamedTuple

import torch

from spikeaudio.checkpoint import (
    DETOKENIZER,
    VOCODER,
    HubOptions,
    checkpoint_folder,
    find_checkpoint,
    load_part,
    missing_parts,
)
from spikeaudio.lm.modeling import SpikeAudioForConditionalGeneration
from spikeaudio.loading.kimi.folder import PublishedFolder, is_published
from spikeaudio.loading.kimi.reader import read_language_model, read_processor, read_speech_decoder
from spikeaudio.prompt.processor import SpikeAudioProcessor
from spikeaudio.speech.decoder import SpeechDecoder

HUB_OPTIONS = tuple(field.name for field in fields(HubOptions))
MODEL_OPTIONS = (
    "device_map",
    "torch_dtype",
    "attn_implementation",
    "quantization_config",
    "max_memory",
    "offload_folder",
)


class Checkpoint(NamedTuple):
    """What a `SpikeAudio` is made of."""

    model: SpikeAudioForConditionalGeneration
    processor: SpikeAudioProcessor
    decoder: SpeechDecoder | None


def read_checkpoint(
    folder: str | Path,
    device: torch.device | str | None = None,
    dtype: torch.dtype | str | None = None,
    speech_tokenizer: str | Path | None = None,
    **options: Any,
) -> Checkpoint:
    """Load a checkpoint; see `SpikeAudio.from_pretrained` for the arguments.

    Raises:
        FileNotFoundError: no such folder, no checkpoint in it, or a file of a download is missing.
        ValueError: a file is damaged, a configuration has unknown keys, weights are missing or left over, `device` and
            `device_map` are both given, `speech_tokenizer` is given for a folder of ours, or an option is unknown.
    """
    hub = HubOptions(**{name: options.pop(name) for name in HUB_OPTIONS if name in options})
    if unknown := sorted(set(options) - set(MODEL_OPTIONS)):
        known = ("device", "dtype", "speech_tokenizer", *MODEL_OPTIONS, *HUB_OPTIONS)
        raise ValueError(f"unknown keywords {unknown} of from_pretrained: expected some of {', '.join(known)}")
    dtype = options.pop("torch_dtype", None) if dtype is None else dtype
    device_map = options.get("device_map")
    if device is not None and device_map is not None:
        raise ValueError(f"give either device or device_map, got {device!r} and {device_map!r}")
    path = checkpoint_folder(find_checkpoint(folder, hub))
    options = {"dtype": dtype or torch.float32} | {name: value for name, value in options.items() if value is not None}
    if is_published(path):
        given = None if speech_tokenizer is None else Path(speech_tokenizer)
        published = PublishedFolder(path, given)
        model = read_language_model(SpikeAudioForConditionalGeneration, published, **options)
        processor = read_processor(published)
        speaks = not published.missing_to_speak()
    else:
        if speech_tokenizer is not None:
            raise ValueError(f"speech_tokenizer is for a download of Kimi-Audio; {path} has its own layout")
        model = load_part(lambda path: SpikeAudioForConditionalGeneration.from_pretrained(path, **options), path)
        if not any((path / name).is_file() for name in ("tokenizer.json", "tokenizer_config.json")):
            raise FileNotFoundError(
                f"{path} has no text tokenizer: write it there with processor.save_pretrained(folder), "
                "or give the Trainer processing_class=processor"
            )
        processor = load_part(SpikeAudioProcessor.from_pretrained, path)
        speaks = not missing_parts(path, DETOKENIZER, VOCODER)
    if device_map is None:
        model = model.to(device)
    if not speaks:
        return Checkpoint(model, processor, None)
    if is_published(path):
        return Checkpoint(model, processor, read_speech_decoder(published, model.device, dtype))
    return Checkpoint(model, processor, SpeechDecoder.from_pretrained(path, model.device, dtype))
